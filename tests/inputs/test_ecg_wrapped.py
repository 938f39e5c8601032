"""Leads whose samples wrapped around at the ends of their numbers."""

import numpy as np
import pytest
from heart_signal import make_heart

from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_recording import EcgRecording
from tgmm_hf.inputs.ecg_signal import harmonise_recording
from tgmm_hf.inputs.ecg_wrapped import wrapped_leads
from tgmm_hf.utils.names import LEADS

RATE = 500
SPIKE = np.array([0.6, 1.0, 0.4, -0.8, 0.1, 0.7, -0.8, 0.6, 0.9, 1.0, 0.9, 0.8])[:, None]
"""Sizes of a pacemaker's spike, or of a pulse, in the leads."""


def wrapped(values, share):
    """Samples that leave the range at a share of the largest one and come out at the other end."""
    limit = share * np.abs(values).max()
    return (values + limit) % (2 * limit) - limit if limit else values


def prepared(signal, units="mV"):
    return harmonise_recording(EcgRecording(signal, float(RATE), list(LEADS), units))


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("units", ["mV", "normalised"])
def test_a_wrapped_lead_is_not_used_and_named(share, units):
    signal = make_heart()
    signal[9] = wrapped(signal[9], share)
    answer = prepared(signal, units)
    assert ("ecg_wrapped", "ecg.V4") in {(check["code"], check["item"]) for check in answer.checks}
    assert not answer.mask[LEADS.index("V4")]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("step", [1, 5])
def test_a_heart_at_500_and_at_100_hertz_does_not_wrap(seed, step):
    assert not any(wrapped_leads(make_heart(seed=seed)[:, ::step], RATE / step))


def test_a_pacemakers_spikes_do_not_wrap():
    signal = make_heart()
    signal[:, 100::400] += 20.0  # one sample wide
    signal[:, 250::400] += np.where(np.arange(12) % 2, 20.0, -20.0)[:, None]
    signal[:, 251::400] -= np.where(np.arange(12) % 2, 20.0, -20.0)[:, None]  # with two phases
    assert not any(wrapped_leads(signal, RATE))


@pytest.mark.parametrize(("rate", "width"), [(500, 2), (500, 3), (1000, 2), (1000, 4)])
@pytest.mark.parametrize("noise", [0.0, 0.005, 0.03])
@pytest.mark.parametrize("size", [5.0, 20.0])
def test_a_pacemakers_spikes_with_a_flat_top_do_not_wrap(rate, width, noise, size):
    signal = np.repeat(make_heart(), rate // RATE, axis=1)
    signal += noise * np.random.default_rng(0).normal(size=signal.shape)
    for sample in range(width):
        signal[:, 100 + sample :: 8 * rate // 10] += size * SPIKE
    answer = harmonise_recording(EcgRecording(np.round(signal / 0.005) * 0.005, float(rate), list(LEADS), "mV"))
    assert "ecg_wrapped" not in {check["code"] for check in answer.checks}


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_calibration_pulses_do_not_wrap(noise):
    signal = make_heart() + noise * np.random.default_rng(0).normal(size=(12, make_heart().shape[1]))
    for start in (50, 600):
        signal[:, start : start + RATE // 5] += 4.0 * SPIKE
    for values in (signal, np.round(signal, 2)):
        assert not [check for check in prepared(values).checks if check["code"] == "ecg_wrapped"]


def test_gaps_of_zeros_in_a_lead_with_an_offset_do_not_wrap():
    signal = make_heart()
    signal[7] += 3.0
    signal[:, np.arange(signal.shape[1]) % 300 < 10] = 0.0
    assert not [check for check in prepared(signal).checks if check["code"] == "ecg_wrapped"]


def real_recordings(shared_dir):
    paths = sorted((shared_dir / "data/wfdb").rglob("*.hea"))
    recordings = [harmonise_recording(read_ecg(path)) for path in paths]
    fast = [recording.signal for recording in recordings if recording.sampling_rate == 500]
    assert len(fast) >= 10
    return fast


def test_real_chest_leads_that_wrap_are_found(shared_dir):
    at_share, in_bytes, large = 0, 0, 0
    signals = real_recordings(shared_dir)
    for signal in signals:
        signal = signal - np.median(signal, axis=1, keepdims=True)
        at_share += sum(
            times >= 2 for times in wrapped_leads(np.stack([wrapped(lead, 0.6) for lead in signal[6:]]), RATE)
        )
        stored = np.round(signal * 128 / 0.6)  # 8 bits for +-0.6 mV
        loud = np.abs(stored).max(axis=1) > 140
        in_bytes += sum(times >= 2 for times in wrapped_leads((stored[loud] + 128) % 256 - 128, RATE))
        large += loud.sum()
    assert at_share >= 0.9 * 6 * len(signals)
    assert in_bytes >= 0.85 * large


def test_public_recordings_do_not_wrap(shared_dir):
    stored = np.load(shared_dir / "data/ptbxl/ptbxl_100hz_folds1-9.npz")["signal"]
    assert not any(any(wrapped_leads(signal.T.astype(float), 100)) for signal in stored[::10])


def test_public_recordings_at_500_hertz_do_not_wrap(shared_dir):
    for signal in real_recordings(shared_dir):
        assert not any(wrapped_leads(signal, RATE))


@pytest.mark.parametrize("width", [1, 2, 3])
def test_public_recordings_with_planted_spikes_do_not_wrap(shared_dir, width):
    for signal in real_recordings(shared_dir):
        for sample in range(width):
            signal[:, 100 + sample :: 400] += 5.0
        assert max(wrapped_leads(np.round(signal, 2), RATE)) < 2
