"""The processor for the recordings that the tests of this room write."""

import pytest
from cohort_files import small_config, small_processor

from tgmm_hf.processing_tgmm import TgmmProcessor


@pytest.fixture(scope="session")
def processor() -> TgmmProcessor:
    return small_processor(small_config())
