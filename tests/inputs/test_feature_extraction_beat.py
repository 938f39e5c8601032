"""From an ECG to Beat's windows: the prototype's filters, windows that cover the recording, refusals."""

from pathlib import Path

import numpy as np
import pytest
from closeness import assert_close
from heart_signal import make_heart
from input_files import MIMIC_LEADS, make_ecg, write_wfdb
from scipy.signal import resample
from transformers import AutoFeatureExtractor

from tgmm_hf import LEADS, BeatConfig, BeatFeatureExtractor, BeatModel, InputRefusedError


def ecg(seed: int = 0, rate: float = 500, seconds: float = 10, **settings) -> dict:
    signal = make_heart(int(seconds * rate), rate, seed)
    return {"signal": signal, "sampling_rate": rate, "lead_names": list(LEADS), **settings}


def test_the_filters_are_those_of_neurokit():
    """The prototype calls NeuroKit's `ecg_clean` at 250 Hz."""
    neurokit = pytest.importorskip("neurokit2")
    one = ecg(rate=250)
    one["signal"] = one["signal"] + 5.0
    one["signal"][6:] += 0.1 * np.sin(2 * np.pi * 50 * np.arange(2500) / 250)  # mains hum
    cleaned = np.stack([neurokit.ecg_clean(lead, sampling_rate=250) for lead in one["signal"]])
    values = BeatFeatureExtractor(num_samples=2500)(one)["input_values"][0, 0]
    expected = (cleaned - cleaned.mean(1, keepdims=True)) / (cleaned.std(1, keepdims=True) + 1e-6)
    assert_close(values, expected.astype(np.float32), atol=1e-4)


def test_every_lead_of_every_window_has_mean_zero_and_deviation_one():
    inputs = BeatFeatureExtractor()(ecg())
    values = inputs["input_values"]
    assert values.shape == (1, 3, 12, 1000) and values.dtype == np.float32 and inputs["window_mask"].all()
    assert np.abs(values.mean(-1)).max() < 1e-5 and np.abs(values.std(-1) - 1).max() < 1e-4
    tensors = BeatFeatureExtractor()([ecg(), None], return_tensors="pt")
    assert str(tensors["window_mask"].dtype) == "torch.bool" and tensors["window_mask"].tolist()[1] == [False] * 3
    assert tensors["input_values"][1].abs().max() == 0


@pytest.mark.parametrize(
    ("seconds", "num_samples", "starts"),
    [
        (10, 1000, [0, 750, 1500]),  # ten seconds in three windows of four
        (10, 1250, [0, 1250]),  # without overlap: the windows of a training
        (8, 1000, [0, 1000]),
        (4, 1000, [0]),
        (20, 1000, [1000, 2000, 3000]),  # the centre
    ],
)
def test_windows_cover_the_recording_in_time_order(seconds: int, num_samples: int, starts: list[int]):
    extractor = BeatFeatureExtractor(num_samples=num_samples)
    assert extractor.start_positions(seconds * 250) == starts
    prepared = extractor.prepare(ecg(seconds=seconds))
    assert prepared.values.shape == (len(starts), 12, num_samples)
    assert any("central" in note for note in prepared.notes) == (seconds == 20)


def test_a_window_is_the_cleaned_recording_at_its_place():
    one = ecg(seconds=8)
    values = BeatFeatureExtractor()(one)["input_values"][0]
    whole = BeatFeatureExtractor(num_samples=2000)(one)["input_values"][0, 0]
    for window, part in zip(values, (whole[:, :1000], whole[:, 1000:]), strict=True):
        part = (part - part.mean(1, keepdims=True)) / part.std(1, keepdims=True)
        assert_close(window, part, atol=1e-3)


def test_other_rates_units_offsets_and_orders_of_leads_give_the_same_windows(tmp_path: Path):
    extractor = BeatFeatureExtractor()
    expected = extractor(ecg())["input_values"]
    for rate in (250, 1000, 499.9):
        length = int(rate * 10)
        other = {**ecg(), "signal": resample(ecg()["signal"], length, axis=1), "sampling_rate": length / 10}
        apart = np.abs(extractor(other)["input_values"] - expected)[..., 100:900]  # the ends are resampled otherwise
        assert apart.max() < 0.1, rate
    moved = ecg(units="uV")
    moved["signal"] = moved["signal"] * 1000 + 300
    assert_close(extractor(moved)["input_values"], expected, atol=1e-3)
    signal = make_ecg()
    path = write_wfdb(tmp_path, signal[[LEADS.index(name) for name in MIMIC_LEADS]], MIMIC_LEADS)
    by_hand = {"signal": signal, "sampling_rate": 500, "lead_names": list(LEADS)}
    assert_close(extractor(str(path))["input_values"], extractor(by_hand)["input_values"], atol=0.05)


def test_recordings_of_different_lengths_make_one_batch():
    extractor = BeatFeatureExtractor()
    inputs = extractor([ecg(), ecg(1, seconds=4)])
    assert inputs["window_mask"].tolist() == [[True] * 3, [True, False, False]]
    assert_close(inputs["input_values"][1, 0], extractor(ecg(1, seconds=4))["input_values"][0, 0])
    assert np.abs(inputs["input_values"][1, 1:]).max() == 0
    assert not dict(extractor([None]))


def test_what_beat_cannot_read_is_refused():
    extractor = BeatFeatureExtractor()
    eleven = ecg()
    eleven = {**eleven, "signal": eleven["signal"][:11], "lead_names": list(LEADS[:11])}
    for bad, words in ((ecg(rate=50), "50 Hz"), (ecg(seconds=3), "3 s"), (eleven, "V6")):
        with pytest.raises(InputRefusedError, match=words):
            extractor(bad)
    for settings in ({"num_samples": 0}, {"max_windows": 0}, {"highpass": 200}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            BeatFeatureExtractor(**settings)


def test_beat_reads_the_windows_and_a_saved_extractor_gives_the_same(tmp_path: Path):
    extractor = BeatFeatureExtractor(max_windows=2)
    inputs = extractor(ecg(), return_tensors="pt")
    config = BeatConfig(num_hidden_layers=1, hidden_size=16, num_attention_heads=2, attention_head_size=8)
    model = BeatModel(config).eval()
    assert model.encode(inputs["input_values"].flatten(0, 1)).shape == (2, 20, 2)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    again = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(again) is BeatFeatureExtractor
    assert_close(dict(again(ecg())), dict(extractor(ecg())))
