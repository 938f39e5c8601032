"""ECG preparation: parity with ST-MEM, invariances, and refusals that state both values."""

import numpy as np
import pytest
from closeness import assert_close, is_close
from heart_signal import make_heart
from scipy.signal import resample

from tgmm_hf.inputs.ecg_recording import EcgRecording
from tgmm_hf.inputs.ecg_signal import as_recording, harmonise_recording, require_rate, require_samples
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

RATE = 500


def make_signal(rate: float = RATE, seconds: float = 10.0, seed: int = 0) -> np.ndarray:
    """(12, samples) mV, band-limited and consistent with Einthoven: the same heart at whatever rate it is sampled."""
    time = np.arange(int(rate * seconds)) / rate
    generator = np.random.default_rng(seed)
    signal = np.zeros((12, time.size))
    sharp, broad = generator.uniform(0.05, 0.2, (12, 1)), generator.uniform(0.03, 0.1, (12, 1))
    for harmonic in range(1, 18):  # of 1.2 Hz: whole periods in 10 s, so that FFT resampling is exact
        angle = 2 * np.pi * 1.2 * harmonic * time
        signal += sharp * np.exp(-((harmonic / 9) ** 2)) * np.cos(angle - harmonic * 2.0)
        signal += broad * np.exp(-((harmonic / 4) ** 2)) * np.cos(angle - harmonic * 4.2)
    # no heart repeats itself exactly: noise of 1 to 20 Hz, which has whole periods in 10 s as well
    spectrum = np.zeros((12, time.size // 2 + 1), dtype=complex)
    spectrum[:, 10:200] = np.exp(2j * np.pi * generator.uniform(size=(12, 190)))
    signal += 0.001 * time.size * np.fft.irfft(spectrum, time.size)
    one, two = signal[0], signal[1]
    signal[2:6] = two - one, -(one + two) / 2, one - two / 2, two - one / 2
    return signal


def as_item(signal: np.ndarray, names=LEADS, rate: float = RATE, **kwargs) -> dict:
    return {"signal": signal, "sampling_rate": rate, "lead_names": list(names), **kwargs}


@pytest.fixture(scope="module")
def extractor() -> EcgFeatureExtractor:
    return EcgFeatureExtractor()


@pytest.fixture(scope="module")
def expected(extractor) -> np.ndarray:
    return extractor(as_item(make_signal()))["ecg_values"]


# ---- parity and shape


@pytest.mark.parametrize("name", ["georgia/E07500", "chapman/JS20000", "ptbxl/HR06000"])
def test_values_of_real_recordings_are_st_mems(shared_dir, extractor, name):
    golden = np.load(shared_dir / "golden" / "ecg_values_real_records.npz")[name]
    inputs = extractor(shared_dir / "data" / "wfdb" / name, return_tensors="np")
    assert inputs["ecg_mask"].all()
    assert np.abs(inputs["ecg_values"][0] - golden).max() <= 1e-4


@pytest.mark.parametrize("name", ["ecg_dicom/waveform_ecg.dcm", "wfdb/ptbxl/00001_lr"])
def test_real_recordings_of_other_kinds_give_twelve_leads(shared_dir, extractor, name):
    inputs = extractor(shared_dir / "data" / name)
    assert inputs["ecg_values"].shape == (1, 12, 2250) and inputs["ecg_mask"].all()


def test_a_window_has_mean_zero_and_deviation_one(extractor, expected):
    assert expected.shape == (1, 12, 2250) and expected.dtype == np.float32
    assert abs(expected.mean()) < 1e-5 and abs(expected.std() - 1) < 1e-5
    tensors = extractor(as_item(make_signal()), return_tensors="pt")
    assert tensors["ecg_values"].shape == (1, 12, 2250) and str(tensors["ecg_mask"].dtype) == "torch.bool"


def test_ratios_between_leads_survive(extractor, expected):
    doubled = make_signal()
    doubled[11] *= 2
    values = extractor(as_item(doubled))["ecg_values"][0]
    ratio = values[11].std() / values[10].std() / (expected[0, 11].std() / expected[0, 10].std())
    assert abs(ratio - 2) < 0.01


# ---- invariances


@pytest.mark.parametrize(("units", "factor"), [("mv", 1), ("uV", 1e3), ("µV", 1e3), ("UV", 1e3), ("V", 1e-3)])
def test_any_voltage_unit_gives_the_same_values(extractor, expected, units, factor):
    values = extractor(as_item(make_signal() * factor, units=units))["ecg_values"]
    assert np.abs(values - expected).max() < 1e-4


def test_lead_order_and_spelling_do_not_matter(extractor, expected):
    order = np.random.default_rng(1).permutation(12)
    for names in (LEADS, [lead.upper() for lead in LEADS], [f"Lead {lead} (x)" for lead in LEADS]):
        item = as_item(make_signal()[order], [names[row] for row in order])
        assert_close(extractor(item)["ecg_values"], expected)


def test_the_lead_order_of_mimic_gives_the_same_values(extractor, expected):
    signal, names = make_signal(), list(LEADS)
    signal[[4, 5]], names[4], names[5] = signal[[5, 4]], "aVF", "aVL"
    assert_close(extractor(as_item(signal, names))["ecg_values"], expected)


@pytest.mark.parametrize("rate", [100, 250, 360, 1000])
def test_any_sampling_rate_gives_the_same_values(extractor, expected, rate):
    values = extractor(as_item(make_signal(rate), rate=rate))["ecg_values"]
    assert np.abs(values - expected).max() < 1e-3


def test_resampling_is_scipys_fft(extractor):
    signal = make_heart()
    harmonised = extractor.harmonise(as_item(signal)).signal
    assert harmonised.shape == (12, 2500) and np.abs(harmonised - resample(signal, 2500, axis=-1)).max() < 1e-6


def test_offsets_and_slow_drift_are_removed(extractor, expected):
    drift = 0.5 * np.sin(2 * np.pi * 0.05 * np.arange(5000) / RATE)
    values = extractor(as_item(make_signal() + 3.0 + drift))["ecg_values"]
    middle = slice(500, 1750)
    assert np.abs(values - expected)[..., middle].max() < 0.15


def test_derived_leads_equal_recorded_ones(extractor, expected):
    keep = [0, 1, 6, 7, 8, 9, 10, 11]
    harmonised = extractor.harmonise(as_item(make_signal()[keep], [LEADS[row] for row in keep]))
    assert harmonised.mask.all() and harmonised.notes == ["derived from I and II: III, aVR, aVL, aVF"]
    assert np.abs(extractor.finish(harmonised.signal, harmonised.mask, 125) - expected[0]).max() < 1e-5


def test_one_and_two_alone_give_six_leads(extractor):
    inputs = extractor(as_item(make_signal()[:2], ["I", "II"]))
    assert inputs["ecg_mask"][0].tolist() == [True] * 6 + [False] * 6
    assert (inputs["ecg_values"][0, 6:] == 0).all()


def test_a_recording_and_a_mapping_give_the_same_values(extractor, expected):
    recording = EcgRecording(make_signal(), RATE, list(LEADS))
    assert_close(extractor(recording)["ecg_values"], expected)


# ---- masks


def test_masked_leads_are_zero_and_change_nothing(extractor):
    flat, broken = make_signal(), make_signal()
    flat[8] = 0.7
    broken[8, 1000:2000] = np.nan
    one, other = extractor(as_item(flat)), extractor(as_item(broken))
    assert not one["ecg_mask"][0, 8] and one["ecg_mask"].sum() == 11
    assert (one["ecg_values"][0, 8] == 0).all()
    assert_close(one["ecg_values"], other["ecg_values"])
    usable = one["ecg_values"][0][one["ecg_mask"][0]]
    assert abs(usable.mean()) < 1e-5 and abs(usable.std() - 1) < 1e-5


def test_short_gaps_are_interpolated_and_reported(extractor, expected):
    signal = make_signal()
    signal[3, 2000:2010] = np.nan
    signal[3, 2500] = np.inf
    harmonised = extractor.harmonise(as_item(signal))
    assert harmonised.mask.all() and np.isfinite(harmonised.signal).all()
    assert harmonised.notes == ["lead aVR: 11 missing samples interpolated, longest gap 0.02 s"]
    assert np.abs(extractor.finish(harmonised.signal, harmonised.mask, 125) - expected[0]).max() < 0.5


@pytest.mark.parametrize(("samples", "usable"), [(50, True), (51, False)])
def test_a_gap_of_a_tenth_of_a_second_is_the_longest(extractor, samples, usable):
    signal = make_signal()
    signal[3, 2000 : 2000 + samples] = np.nan  # 0.1 s at 500 Hz is 50 samples
    harmonised = extractor.harmonise(as_item(signal))
    assert harmonised.mask[3] == usable
    if not usable:
        assert harmonised.notes == ["lead aVR masked: has a gap of 0.102 s, the limit is 0.1 s"]


def test_many_short_gaps_mask_the_lead(extractor):
    signal = make_signal()
    signal[3, ::5] = np.nan
    harmonised = extractor.harmonise(as_item(signal))
    assert not harmonised.mask[3] and "lacks 20% of its samples" in harmonised.notes[0]


def test_a_recorded_but_flat_limb_lead_is_not_derived(extractor):
    signal = make_signal()
    signal[2] = 0
    assert not extractor.harmonise(as_item(signal)).mask[2]


def test_one_wild_lead_is_masked(extractor):
    signal = make_signal()
    signal[7] *= 100
    harmonised = extractor.harmonise(as_item(signal))
    assert harmonised.mask.sum() == 11 and "the limit is 20 mV" in harmonised.notes[0]


# ---- refusals


def refuse(extractor, item, *parts: str) -> None:
    with pytest.raises(InputRefusedError) as caught:
        extractor(item)
    for part in parts:
        assert part in str(caught.value)


def test_short_recordings_are_refused(extractor):
    refuse(extractor, as_item(make_signal()[:, :4499]), "8.998 s long", "4499 samples at 500 Hz", "9 s are needed")
    assert extractor(as_item(make_signal()[:, :4500]))["ecg_values"].shape == (1, 12, 2250)


def test_too_few_usable_leads_are_refused(extractor):
    signal = make_signal()
    signal[1:8] = 0
    refuse(extractor, as_item(signal), "5 usable leads, at least 6 are needed", "II, III, aVR", "V2 is flat")
    with pytest.raises(InputRefusedError) as caught:
        extractor(as_item(signal))
    assert str(caught.value).count("flat") == 1  # one problem of seven leads is said once
    assert EcgFeatureExtractor(min_leads=5)(as_item(signal))["ecg_mask"].sum() == 5


def test_an_amplitude_of_another_unit_is_refused(extractor):
    refuse(extractor, as_item(make_signal() * 1000), "mV in the typical lead, at most 20 mV", "units='uV'")
    refuse(extractor, as_item(make_signal(), units="uV"), "at least 0.05 mV is plausible", "'uV'")


def test_unknown_names_units_and_rates_are_refused(extractor):
    signal = make_signal()
    refuse(extractor, as_item(signal, ["I", "i", *LEADS[2:]]), "'I' and 'i' both name lead I")
    refuse(extractor, as_item(signal, ["I", "II", "X", *LEADS[3:]]), "'X' is not known", "aVR")
    refuse(extractor, as_item(signal, units="mmHg"), "'mmHg'", "units='normalised'")
    refuse(extractor, as_item(signal, rate=50), "sampling rate 50 Hz, at least 80 Hz")
    refuse(extractor, as_item(signal, rate=float("nan")), "sampling rate nan Hz")
    refuse(extractor, as_item(signal.T), "(5000, 12) with 12 lead names", "transpose")
    refuse(extractor, as_item(signal[:8]), "(8, 5000) with 12 lead names")
    refuse(extractor, signal, "without lead names")
    refuse(extractor, {"signal": signal, "lead_names": list(LEADS)}, "missing ['sampling_rate']")
    refuse(extractor, as_item(signal, unit="mV"), "unknown ['unit']")


# ---- already normalised arrays


def test_normalised_arrays_skip_derivation_and_millivolts(extractor):
    signal = make_signal() * 500
    assert np.isfinite(extractor(as_item(signal, units="normalised"))["ecg_values"]).all()
    keep = [0, 1, 6, 7, 8, 9, 10, 11]
    mask = extractor(as_item(signal[keep], [LEADS[row] for row in keep], units="normalised"))["ecg_mask"][0]
    assert mask.tolist() == [lead not in ("III", "aVR", "aVL", "aVF") for lead in LEADS]


def test_normalised_ptbxl_gives_twelve_leads(shared_dir, extractor):
    signal = np.load(shared_dir / "data" / "ptbxl" / "ptbxl_100hz_folds1-9.npz")["signal"][0].T
    inputs = extractor(as_item(signal, rate=100, units="normalised"))
    assert inputs["ecg_mask"].all() and abs(inputs["ecg_values"].std() - 1) < 1e-4


# ---- crops and filters


def test_start_positions_of_each_crop(extractor):
    assert extractor.start_positions(2500, "center") == [125]
    assert extractor.start_positions(2500, "three") == [0, 125, 250]
    assert extractor.start_positions(2250, "three") == [0, 0, 0]
    assert extractor.start_positions(2501, "three") == [0, 125, 251]
    generator = np.random.default_rng(0)
    starts = [extractor.start_positions(2500, "random", generator)[0] for _ in range(2000)]
    assert min(starts) == 0 and max(starts) == 250
    with pytest.raises(ValueError, match="2249 samples are fewer"):
        extractor.start_positions(2249)
    with pytest.raises(ValueError, match="'left', expected 'center'"):
        extractor.start_positions(2500, "left")


def test_crops_are_repeatable_and_three_hold_the_centre(extractor, expected):
    item = as_item(make_signal())
    three = extractor(item, crop="three")["ecg_values"]
    assert three.shape == (1, 3, 12, 2250)
    assert_close(three[:, 1], expected)
    once = extractor(item, crop="random", generator=np.random.default_rng(3))["ecg_values"]
    again = extractor(item, crop="random", generator=np.random.default_rng(3))["ecg_values"]
    other = extractor(item, crop="random", generator=np.random.default_rng(4))["ecg_values"]
    assert_close(once, again)
    assert not is_close(once, other)


def test_filters_halve_the_amplitude_at_the_cut_offs(extractor):
    """Zero-phase filters: half the amplitude at the cut-offs, nothing far outside, everything inside."""
    time = np.arange(25_000) / 250
    for frequency, gain in ((0.2, 0.0), (0.67, 0.5), (5.0, 1.0), (20.0, 1.0), (40.0, 0.5), (60.0, 0.0)):
        filtered = extractor._band_pass(np.sin(2 * np.pi * frequency * time)[None])[0, 5000:-5000]
        assert abs(np.abs(filtered).max() - gain) < 0.02


def test_filter_first_differs_at_the_edges_only(shared_dir, extractor):
    record = shared_dir / "data" / "wfdb" / "georgia" / "E07500"
    first = EcgFeatureExtractor(filter_first=True)(record)["ecg_values"]
    difference = np.abs(first - extractor(record)["ecg_values"])[0]
    assert difference[:, :250].max() > 0.1 and difference[:, 1000:1250].max() < 0.1


def test_filter_first_works_on_crops(extractor):
    signal = make_signal()
    whole = EcgFeatureExtractor(filter_first=True)
    harmonised = whole.harmonise(as_item(signal))
    parts = [whole.finish(harmonised.signal, harmonised.mask, start) for start in (0, 250)]
    overlap = np.corrcoef(parts[0][:, 250:].ravel(), parts[1][:, :2000].ravel())[0, 1]
    assert overlap > 0.9999
    with pytest.raises(ValueError, match="from 300 to 2550 does not fit into 2500"):
        whole.finish(harmonised.signal, harmonised.mask, 300)


# ---- batches and files


def test_batch_equals_singles_and_none_is_masked(extractor):
    items = [as_item(make_signal(seed=seed)) for seed in range(2)]
    batch = extractor([items[0], None, items[1]], return_tensors="np")
    assert batch["ecg_mask"].any(axis=1).tolist() == [True, False, True]
    assert (batch["ecg_values"][1] == 0).all()
    for row, item in ((0, items[0]), (2, items[1])):
        assert_close(batch["ecg_values"][row], extractor(item)["ecg_values"][0])
    assert dict(extractor([None, None])) == {} and dict(extractor(None)) == {}


def test_a_saved_extractor_gives_the_same_values(tmp_path, expected):
    EcgFeatureExtractor(min_leads=3, max_gap_seconds=0.2, filter_first=True).save_pretrained(tmp_path)
    loaded = EcgFeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.min_leads, loaded.max_gap_seconds, loaded.filter_first) == (3, 0.2, True)
    EcgFeatureExtractor().save_pretrained(tmp_path)
    loaded = EcgFeatureExtractor.from_pretrained(tmp_path)
    assert {**EcgFeatureExtractor().to_dict(), "auto_map": loaded.to_dict()["auto_map"]} == loaded.to_dict()
    assert_close(loaded(as_item(make_signal()))["ecg_values"], expected)


def test_impossible_ecg_settings_are_refused():
    with pytest.raises(ValueError, match="highpass"):
        EcgFeatureExtractor(highpass=50)
    with pytest.raises(ValueError, match="min_leads is 13"):
        EcgFeatureExtractor(min_leads=13)


def test_a_lead_that_stands_still_for_seconds_is_masked_with_a_note(extractor):
    signal = make_signal()
    signal[3, int(2 * RATE) :] = signal[3, int(2 * RATE)]  # 2 s of signal, then the electrode is off
    ecg = extractor.harmonise(as_item(signal))
    assert ecg.mask.tolist() == [lead != LEADS[3] for lead in LEADS]
    assert any("stands still for 8" in note for note in ecg.notes)
    signal[:, int(0.2 * RATE) :] = 0.0  # the whole record but for its first moment
    refuse(extractor, as_item(signal), "usable")


# ---- one ECG at a time, and what every family shares


@pytest.mark.parametrize("crop", ["center", "three", "random"])
def test_prepared_ecgs_stack_to_the_batch(extractor, crop):
    items = [as_item(make_signal(seed=seed)) for seed in range(2)]
    generators = [np.random.default_rng(3) for _ in range(2)]
    prepared = [extractor.prepare(item, crop=crop, generator=generators[0]) for item in items]
    assert prepared[0].values.shape == ((3, 12, 2250) if crop == "three" else (12, 2250))
    stacked = extractor.stack([prepared[0], None, prepared[1]])
    batch = extractor([items[0], None, items[1]], crop=crop, generator=generators[1])
    assert stacked.keys() == batch.keys() == {"ecg_values", "ecg_mask"}
    assert_close(stacked["ecg_values"], batch["ecg_values"])
    assert np.array_equal(stacked["ecg_mask"], batch["ecg_mask"])
    assert extractor.stack([None]) == {}


def test_windows_of_a_stored_signal_are_those_of_the_recording(extractor):
    item = as_item(make_signal())
    harmonised = extractor.harmonise(item)
    windows = extractor.windows(harmonised.signal, harmonised.mask, crop="three")
    assert_close(windows, extractor(item, crop="three")["ecg_values"][0])


def test_a_prepared_ecg_holds_its_notes(extractor):
    keep = [0, 1, 6, 7, 8, 9, 10, 11]
    prepared = extractor.prepare(as_item(make_signal()[keep], [LEADS[row] for row in keep]))
    assert prepared.mask.all() and prepared.notes == ["derived from I and II: III, aVR, aVL, aVF"]


def test_a_family_with_another_rate_starts_from_the_same_repair():
    """As MEIT does: 10 s at 500 Hz, one scale over all leads, no resampling."""
    signal = make_signal()
    signal[3, 100:110] = np.nan
    recording = as_recording(as_item(signal * 1000, units="uV"))
    require_rate(recording, 500, "for MEIT")
    require_samples(recording, 5000, 500)
    ecg = harmonise_recording(recording)
    assert ecg.signal.shape == (12, 5000) and ecg.sampling_rate == 500 and ecg.mask.all()
    assert np.nanmax(np.abs(ecg.signal - signal)) < 1e-9 and len(ecg.notes) == 1
    with pytest.raises(InputRefusedError, match="500 Hz, at least 1000 Hz are needed for a test"):
        require_rate(recording, 1000, "for a test")
    with pytest.raises(InputRefusedError, match=r"10 s long \(5000 samples at 500 Hz\), 12 s are needed"):
        require_samples(recording, 6000, 500)
