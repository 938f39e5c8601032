"""HuBERT-ECG's preparation against the published steps, written out with scipy one lead at a time."""

import numpy as np
import pytest
import scipy.signal
from heart_signal import make_heart

from tgmm_hf import LEADS, HubertEcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError


def recording(samples: int = 5000, rate: float = 500) -> dict:
    return {"signal": make_heart(samples, rate), "sampling_rate": rate, "lead_names": list(LEADS)}


def published(signal: np.ndarray, start: int) -> np.ndarray:
    """Prepare (12, samples) at 500 Hz: band-pass, resampling (none here), scale, crop, flatten, decimate."""
    taps = scipy.signal.firwin(151, [2 * 0.05 / 500, 2 * 47 / 500], pass_zero=False)
    rows = []
    for lead in signal:
        filtered = scipy.signal.filtfilt(taps, np.array([1]), lead.astype(np.float64))
        scaled = 2 * (filtered - filtered.min()) / (filtered.max() - filtered.min() + 1e-8) - 1
        rows.append(scaled[start : start + 2500])
    return scipy.signal.decimate(np.concatenate(rows), 5)


def test_values_are_those_of_the_published_steps():
    extractor, ecg = HubertEcgFeatureExtractor(), recording()
    features = extractor(ecg)
    assert features["ecg_values"].shape == (1, 12, 500) and features["ecg_mask"].all()
    expected = published(ecg["signal"], start=1250)  # the central window
    np.testing.assert_allclose(features["ecg_values"][0].reshape(-1), expected, atol=2e-4)
    first = extractor.finish(extractor.harmonise(ecg).signal, np.ones(12, bool), 0)
    np.testing.assert_allclose(first.reshape(-1), published(ecg["signal"], start=0), atol=2e-4)
    assert np.abs(first).max() < 1.2


def test_units_and_offset_of_a_lead_do_not_matter():
    ecg = recording()
    other = {**ecg, "signal": 1000 * ecg["signal"], "units": "uV"}
    values = HubertEcgFeatureExtractor()([ecg, other])["ecg_values"]
    np.testing.assert_allclose(values[0], values[1], atol=1e-4)


def test_a_lead_that_cannot_be_used_is_zero_and_does_not_change_the_rest():
    ecg = recording()
    broken = {**ecg, "signal": ecg["signal"].copy()}
    broken["signal"][7] = 0.0
    whole, masked = (HubertEcgFeatureExtractor()(one) for one in (ecg, broken))
    assert not masked["ecg_mask"][0, 7] and masked["ecg_mask"].sum() == 11
    assert not masked["ecg_values"][0, 7].any()
    # decimation mixes some samples at the ends of neighbouring leads
    inner = slice(20, -20)
    np.testing.assert_allclose(masked["ecg_values"][0, :7, inner], whole["ecg_values"][0, :7, inner], atol=1e-3)


def test_another_rate_is_resampled_and_a_short_recording_is_refused():
    ecg = recording()
    slower = {**ecg, "signal": scipy.signal.resample(ecg["signal"], 2500, axis=1), "sampling_rate": 250}
    slow, fast = (HubertEcgFeatureExtractor()(one)["ecg_values"] for one in (slower, ecg))
    assert slow.shape == fast.shape and np.corrcoef(slow.ravel(), fast.ravel())[0, 1] > 0.98
    with pytest.raises(InputRefusedError, match="4 s long.*5 s are needed"):
        HubertEcgFeatureExtractor()(recording(2000, 500))


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"2500.*multiple of decimation \(7\)"):
        HubertEcgFeatureExtractor(decimation=7)
    with pytest.raises(ValueError, match="lead_order"):
        HubertEcgFeatureExtractor(lead_order=list(reversed(LEADS)))


def test_settings_are_saved_and_loaded(tmp_path):
    extractor = HubertEcgFeatureExtractor(min_leads=8)
    extractor.save_pretrained(tmp_path)
    again = HubertEcgFeatureExtractor.from_pretrained(tmp_path)
    assert again.min_leads == 8 and again.to_dict().keys() == extractor.to_dict().keys()
    np.testing.assert_array_equal(again(recording())["ecg_values"], extractor(recording())["ecg_values"])
