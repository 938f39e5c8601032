"""A gain that changes inside a recording is named; beats that change as a heart changes them are not."""

import numpy as np
import pytest
from heart_signal import make_heart

from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.names import LEADS

CHEST = range(6, 12)


def checks_of(signal, rate=500):
    item = {"signal": signal, "sampling_rate": rate, "lead_names": list(LEADS)}
    return [check for check in EcgFeatureExtractor().prepare(item).checks if check["code"] == "ecg_gain_step"]


@pytest.mark.parametrize("factor", [2.0, 1 / 3])
@pytest.mark.parametrize(("rows", "item"), [(range(12), "ecg"), (CHEST, "ecg"), ([9], "ecg.V4")])
def test_a_gain_that_changes_in_the_middle_is_named(factor, rows, item):
    signal = make_heart(5000, 500.0, seed=1)
    signal[list(rows), 2500:] *= factor
    (check,) = checks_of(signal)
    assert check["item"] == item and f"{factor:.2g}"[:3] in check["text"] and "breathing" in check["text"]


@pytest.mark.parametrize("seed", range(6))
def test_a_heart_has_no_change_of_gain(seed):
    assert not checks_of(make_heart(5000, 500.0, seed=seed))


def test_breathing_and_beats_of_another_kind_are_no_change_of_gain():
    signal = make_heart(5000, 500.0)
    time = np.arange(5000) / 500
    assert not checks_of(signal * (1 + 0.25 * np.sin(2 * np.pi * 0.25 * time)))
    late = signal.copy()
    late[:, 2500:] *= np.linspace(0.6, 2, 12)[:, None]  # another axis: each lead changes by its own factor
    late[3:6, 2500:] = signal[3:6, 2500:]
    assert not checks_of(late)
    once = signal.copy()
    once[:, 2200:2700] *= 2  # one or two large beats
    assert not checks_of(once)
