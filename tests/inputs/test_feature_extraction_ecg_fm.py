"""ECG-FM's preparation against the published steps, written out with numpy and scipy."""

import numpy as np
import pytest
from heart_signal import make_heart
from scipy.interpolate import interp1d

from tgmm_hf import LEADS, EcgFmFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError


def recording(samples: int = 5000, rate: float = 500) -> dict:
    return {"signal": make_heart(samples, rate), "sampling_rate": rate, "lead_names": list(LEADS)}


def published(signal: np.ndarray, rate: float) -> np.ndarray:
    """Resample (12, samples) to 500 Hz by linear interpolation and standardise each lead."""
    length = int(signal.shape[-1] * 500 / rate)
    if length != signal.shape[-1]:
        places = np.linspace(0, length - 1, signal.shape[-1])
        signal = interp1d(places, signal, kind="linear")(np.arange(length))
    return (signal - signal.mean(1, keepdims=True)) / signal.std(1, keepdims=True)


@pytest.mark.parametrize(("samples", "rate"), [(5000, 500), (4000, 400), (10_000, 1000)])
def test_values_are_those_of_the_published_steps(samples, rate):
    extractor, ecg = EcgFmFeatureExtractor(), recording(samples, rate)
    features = extractor(ecg)
    assert features["ecg_values"].shape == (1, 12, 2500) and features["ecg_mask"].all()
    expected = published(ecg["signal"].astype(np.float64), rate)
    np.testing.assert_allclose(features["ecg_values"][0], expected[:, 1250:3750], atol=1e-3)
    first = extractor.finish(extractor.harmonise(ecg).signal, np.ones(12, bool), 0)
    np.testing.assert_allclose(first, expected[:, :2500], atol=1e-3)


def test_a_lead_that_cannot_be_used_is_zero():
    ecg = recording()
    ecg["signal"] = ecg["signal"].copy()
    ecg["signal"][9] = 0.0
    features = EcgFmFeatureExtractor()(ecg)
    assert not features["ecg_mask"][0, 9] and not features["ecg_values"][0, 9].any()
    assert features["ecg_values"][0, 8].std() == pytest.approx(1, abs=0.3)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InputRefusedError, match="4 s long.*5 s are needed"):
        EcgFmFeatureExtractor()(recording(2000, 500))
    with pytest.raises(InputRefusedError, match=r"80 Hz.*100 Hz"):
        EcgFmFeatureExtractor()(recording(800, 80))
    with pytest.raises(ValueError, match="lead_order"):
        EcgFmFeatureExtractor(lead_order=list(reversed(LEADS)))
    extractor = EcgFmFeatureExtractor(min_leads=7)
    extractor.save_pretrained(tmp_path)
    assert EcgFmFeatureExtractor.from_pretrained(tmp_path).to_dict() == extractor.to_dict()
