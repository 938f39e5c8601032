"""Fixtures of the tests of trainings."""

from pathlib import Path

import pytest
from prepared_data import write_prepared_data


@pytest.fixture(scope="session")
def prepared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory as `tgmm prepare` leaves it."""
    return write_prepared_data(tmp_path_factory.mktemp("prepared"))
