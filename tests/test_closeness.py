"""The tolerance of the tests lets rounding pass and nothing else."""

import numpy as np
import pytest
import torch
from closeness import assert_close, assert_same_training, is_close


def test_rounding_passes_and_differences_do_not() -> None:
    value = {"a": [1.0, None, "text"], "b": torch.tensor([1.0, torch.nan]), "c": np.array([1, 2])}
    rounded = {"a": [1.0 + 1e-7, None, "text"], "b": torch.tensor([1.0 + 1e-7, torch.nan]), "c": np.array([1, 2])}
    assert_close(rounded, value)
    for change in (
        {"a": [1.0001, None, "text"]},
        {"a": [1.0, None, "other"]},
        {"a": [1.0, None]},
        {"a": [None, None, "text"]},
        {"b": torch.tensor([1.0001, torch.nan])},
        {"b": torch.tensor([1.0, 0.0])},
        {"b": torch.tensor([1.0, torch.nan], dtype=torch.float64)},
        {"c": np.array([1, 3])},
        {"d": 1},
    ):
        assert not is_close(value | change, value), change


def test_trainings_are_told_apart() -> None:
    weights = {"layer": torch.randn(100, 20), "bias": torch.zeros(10)}
    assert_same_training({"layer": weights["layer"] + 1e-7, "bias": torch.full((10,), 1e-3)}, weights)
    with pytest.raises(AssertionError, match="of 2010 weights differ"):
        assert_same_training({"layer": weights["layer"] + 1e-4, "bias": weights["bias"]}, weights)
