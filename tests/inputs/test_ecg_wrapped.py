"""Leads whose samples wrapped around at the ends of their numbers."""

import numpy as np
import pytest
from heart_signal import make_heart

from tgmm_hf.inputs.ecg_recording import EcgRecording
from tgmm_hf.inputs.ecg_signal import harmonise_recording
from tgmm_hf.inputs.ecg_wrapped import wrapped_leads
from tgmm_hf.utils.names import LEADS

RATE = 500


def wrapped(values, share):
    """Samples that leave the range at a share of the largest one and come out at the other end."""
    limit = share * np.abs(values).max()
    return (values + limit) % (2 * limit) - limit


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


def test_public_recordings_do_not_wrap(shared_dir):
    stored = np.load(shared_dir / "data/ptbxl/ptbxl_100hz_folds1-9.npz")["signal"]
    assert not any(any(wrapped_leads(signal.T.astype(float), 100)) for signal in stored[::10])
