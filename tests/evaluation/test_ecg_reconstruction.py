"""Figures of rebuilt ECGs against numbers that were computed by hand, and R peaks where they were put."""

import numpy as np
import pytest
from heart_signal import make_heart

from tgmm_hf.evaluation.ecg_reconstruction import compare_peaks, percent_difference, r_peaks, squared_error


def test_errors_by_hand():
    signal = np.zeros((2, 12, 4))
    signal[0] = [1, 3, 1, 3]
    rebuilt = signal + 0.5
    assert squared_error(signal, rebuilt) == pytest.approx([0.25, 0.25])
    # distances of the original from its mean 2 are 1, so the share is 0.25
    assert percent_difference(signal, rebuilt)[0] == pytest.approx(50)
    assert np.isnan(percent_difference(signal, rebuilt)[1])
    means = np.broadcast_to(signal.mean(axis=2, keepdims=True), signal.shape)
    assert percent_difference(signal, means)[0] == pytest.approx(100)


def test_peaks_are_paired_with_their_nearest_and_never_with_two():
    shift = compare_peaks(np.array([1.0, 2.0, 3.0]), np.array([1.02, 1.06, 3.3]))
    assert shift.milliseconds == pytest.approx([20]) and (shift.missed, shift.added) == (2, 2)
    shift = compare_peaks(np.array([1.0, 2.0]), np.array([0.99, 2.1]))
    assert shift.milliseconds == pytest.approx([10, 100]) and (shift.missed, shift.added) == (0, 0)
    shift = compare_peaks(np.array([1.0, 2.0]), np.zeros(0))
    assert (len(shift.milliseconds), shift.missed, shift.added) == (0, 2, 0)


def test_peaks_of_a_shifted_recording_are_shifted():
    pytest.importorskip("neurokit2")
    signal = make_heart(1000, 250, 0)
    peaks = r_peaks(signal, 250)
    assert 3 <= len(peaks) <= 6
    shift = compare_peaks(peaks, r_peaks(np.roll(signal, 5, axis=1), 250))
    assert np.median(shift.milliseconds) == pytest.approx(20, abs=4)
    assert len(r_peaks(np.zeros((12, 1000)), 250)) == 0
