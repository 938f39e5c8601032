"""Equality of computed floating-point numbers, up to what the machine may change.

The same computation on the same numbers may differ in the last bits. A kernel chooses how it splits and orders a sum by
the memory alignment of its inputs, by the batch size and by the number of threads. A model that was loaded from a file
lies elsewhere in memory than the model that was saved, and its answers may be 1e-7 away. Tests that compare computed
numbers therefore use this file. Numbers that were only copied, saved, loaded or drawn are compared exactly.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

RTOL, ATOL = 1e-5, 1e-6
"""Tolerance for float32 results of order one, some ten units in the last place."""


def assert_close(found: Any, expected: Any, *, rtol: float = RTOL, atol: float = ATOL, where: str = "value") -> None:
    """Fail unless all floating-point numbers agree up to the tolerance and all the rest is equal.

    Args:
        found: A tensor, an array, a number, or mappings and lists of them, with anything else in between.
        expected: The same. Types, keys, lengths and shapes have to agree. NaN equals NaN.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        where: Place of the value, for the message.
    """
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), f"{where}: keys {list(found)} and {list(expected)}"
        for key, value in expected.items():
            assert_close(found[key], value, rtol=rtol, atol=atol, where=f"{where}[{key!r}]")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), f"{where}: {len(found)} and {len(expected)} entries"
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_close(one, other, rtol=rtol, atol=atol, where=f"{where}[{index}]")
    elif isinstance(expected, (torch.Tensor, np.ndarray)):
        torch.testing.assert_close(
            found, expected, rtol=rtol, atol=atol, equal_nan=True, msg=lambda text: f"{where}: {text}"
        )
    elif isinstance(expected, (float, np.floating)):
        assert isinstance(found, (float, np.floating)), f"{where}: {found!r} and {expected!r}"
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, err_msg=where)
    else:
        assert found == expected, f"{where}: {found!r} and {expected!r}"


def is_close(found: Any, expected: Any) -> bool:
    """Whether `assert_close` passes. `not is_close` shows a real difference, where `not equal` may show rounding."""
    try:
        assert_close(found, expected)
    except AssertionError:
        return False
    return True


def assert_same_training(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Fail unless two trainings came to the same weights: all but one in a hundred agree to 1e-5.

    Adam divides each gradient by its own size. A weight whose gradient is rounding noise, such as the bias of attention
    keys, therefore moves by whole steps in a direction that the noise decides. Other data or another order of it moves
    nearly all weights by more than 1e-5.
    """
    assert found.keys() == expected.keys()
    apart = torch.cat([(found[name].double() - expected[name].double()).abs().flatten() for name in expected])
    share = (apart > 1e-5).double().mean().item()
    assert share <= 0.01, f"{share:.2%} of {len(apart)} weights differ, the farthest by {apart.max().item():.2g}"
