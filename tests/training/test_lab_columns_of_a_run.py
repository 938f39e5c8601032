"""The lab columns that a trained model uses: those of its training, and those of the model that it started from."""

from types import SimpleNamespace

import pytest

from tgmm_hf.inputs.lab_columns import COLUMN_POSITION
from tgmm_hf.training.starting_model import _columns_before


@pytest.mark.parametrize(
    ("checkpoint", "columns", "expected"),
    [
        (None, None, set()),
        ("model", ["Sodium", "zinc"], {"Sodium", "zinc"}),
        ("model", None, set(COLUMN_POSITION)),  # version 0.1 saved no list: its models know every known column
    ],
)
def test_a_fine_tuned_model_keeps_the_columns_of_its_checkpoint(checkpoint, columns, expected):
    run = SimpleNamespace(model=SimpleNamespace(checkpoint=checkpoint))
    assert set(_columns_before(run, SimpleNamespace(labs_columns=columns))) == expected
