"""Checks of twelve leads against each other: what is found, what is put out of use, what is refused."""

import numpy as np
import pytest
from heart_signal import make_heart

from tgmm_hf.inputs.ecg_beats import band_pass
from tgmm_hf.inputs.ecg_checks import check_leads, has_heartbeat, limb_misfit
from tgmm_hf.inputs.ecg_equal_leads import computed_leads
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_recording import EcgRecording
from tgmm_hf.inputs.ecg_signal import harmonise_recording
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

RATE = 500
TIME = np.arange(5000) / RATE


@pytest.fixture(scope="module")
def extractor():
    return EcgFeatureExtractor()


def item(signal, names=LEADS, rate=RATE, **kwargs):
    return {"signal": signal, "sampling_rate": rate, "lead_names": list(names), **kwargs}


def changed(**leads):
    """The heart with some leads replaced by what a function makes of it."""
    heart = make_heart()
    signal = heart.copy()
    for lead, change in leads.items():
        signal[LEADS.index(lead)] = change(heart)
    return signal


def lead(name, factor=1.0):
    return lambda heart: factor * heart[LEADS.index(name)]


def codes(prepared):
    return {(check["code"], check["item"]) for check in prepared.checks}


def refuse(extractor, signal, *parts, **kwargs):
    with pytest.raises(InputRefusedError) as caught:
        extractor.prepare(item(signal, **kwargs))
    for part in parts:
        assert part in str(caught.value)


# ---- good recordings


@pytest.mark.parametrize("seed", range(20))
def test_a_heart_has_no_findings(extractor, seed):
    prepared = extractor.prepare(item(make_heart(seed=seed)))
    assert prepared.mask.all() and not prepared.checks and not prepared.notes


def test_real_recordings_are_not_refused_and_their_limb_leads_fit(shared_dir, extractor):
    names = [path.with_suffix("") for path in sorted((shared_dir / "data" / "wfdb").rglob("*.hea"))]
    assert names
    for path in [*names, shared_dir / "data" / "ecg_dicom" / "waveform_ecg.dcm"]:
        recording = read_ecg(path)
        assert not [check for check in extractor.prepare(recording).checks if check["code"] != "ecg_still"]
        order = [recording.lead_names.index(name) for name in recording.lead_names]
        assert limb_misfit(dict(zip(LEADS[:6], recording.signal[order][:6], strict=True))) < 0.1


def test_real_normalised_recordings_have_a_heartbeat(shared_dir):
    signal = np.load(shared_dir / "data" / "ptbxl" / "ptbxl_100hz_folds1-9.npz")["signal"]
    for row in range(0, len(signal), 8):
        assert has_heartbeat(signal[row].T.astype(np.float64), 100.0, in_mv=False)


# ---- limb leads


@pytest.mark.parametrize(
    ("leads", "wrong"),
    [
        ({"aVR": lead("aVL"), "aVL": lead("aVR")}, {"aVR", "aVL"}),
        ({"I": lead("III"), "III": lead("I")}, {"I", "III"}),
        ({"aVR": lead("aVF"), "aVF": lead("aVR")}, {"aVR", "aVF"}),
        ({"II": lead("aVF"), "aVF": lead("II")}, {"II", "aVF"}),
        ({"I": lead("I", -1)}, {"I"}),
        ({"aVF": lead("aVF", -1)}, {"aVF"}),
        ({"III": lead("III", 10)}, {"III"}),
        ({"aVL": lead("aVL", 0.1)}, {"aVL"}),
        ({"II": lambda heart: np.roll(heart[1], 200)}, {"II"}),
    ],
)
def test_limb_leads_that_contradict_four_others_are_not_used(extractor, leads, wrong):
    prepared = extractor.prepare(item(changed(**leads)))
    assert {name for name, usable in zip(LEADS, prepared.mask, strict=True) if not usable} == wrong
    assert codes(prepared) == {("ecg_limb_arithmetic", f"ecg.{name}") for name in wrong}
    assert all(any(f"lead {name} masked: contradicts" in note for note in prepared.notes) for name in wrong)


def test_contradicting_limb_leads_are_refused_where_nothing_tells_which_is_wrong(extractor):
    shuffled = changed(I=lead("aVF"), II=lead("I"), III=lead("aVR"), aVR=lead("V1"))
    refuse(extractor, shuffled, "contradict each other", "I + III = II")
    three = [0, 1, 2, *range(6, 12)]
    refuse(extractor, changed(I=lead("I", -1))[three], "I, II, III", names=[LEADS[row] for row in three])
    refuse(extractor, np.tile(make_heart()[1], (12, 1)), "contradict")


def test_missing_limb_leads_are_derived_from_those_that_agree(extractor):
    rows = [row for row in range(12) if row != 5]
    prepared = extractor.prepare(item(changed(I=lead("I", -1))[rows], [LEADS[row] for row in rows]))
    assert not prepared.mask[0] and prepared.mask[1:].all()
    true = extractor.prepare(item(make_heart())).values
    assert np.corrcoef(prepared.values[5], true[5])[0, 1] > 0.9999


def test_normalised_leads_are_not_checked_for_their_ratios(extractor):
    signal = make_heart()
    signal = signal / signal.std(axis=1, keepdims=True)
    prepared = extractor.prepare(item(signal, units="normalised"))
    assert prepared.mask.all() and not prepared.checks


def test_exchanged_arm_electrodes_are_noted(extractor):
    signal = make_heart()
    two, one = signal[:2].copy()  # a heart that points to the left
    left, right = one - two / 2, -(one + two) / 2
    signal[:6] = -one, two - one, two, left, right, two - one / 2  # I turned over, II and III, aVR and aVL exchanged
    prepared = extractor.prepare(item(signal))
    assert prepared.mask.all() and codes(prepared) == {("ecg_arm_electrodes", "ecg")}


def test_a_flat_limb_lead_is_noted(extractor):
    heart = make_heart()
    signal = heart.copy()
    two = 0.03 * heart[1]  # the right leg's electrode on the right arm
    one = heart[0]
    signal[1:6] = two, two - one, -(one + two) / 2, one - two / 2, two - one / 2
    assert codes(extractor.prepare(item(signal))) == {("ecg_flat_limb_lead", "ecg.II")}


# ---- chest leads


def test_a_chest_lead_ten_times_too_large_is_noted(extractor):
    prepared = extractor.prepare(item(changed(V6=lead("V6", 10))))
    assert prepared.mask.all() and codes(prepared) == {("ecg_amplitude", "ecg.V6")}
    assert prepared.notes == [prepared.checks[0]["text"]]


@pytest.mark.parametrize("number", range(1, 7))
def test_a_chest_lead_too_large_for_its_neighbours_is_noted(number):
    assert sized(**{f"V{number}": 3.5}) == [f"ecg.V{number}"]


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_a_chest_lead_too_small_for_both_neighbours_is_noted(number):
    assert sized(**{f"V{number}": 0.1}) == [f"ecg.V{number}"]


def test_chest_leads_of_usual_sizes_are_not_noted():
    assert not sized() and not sized(V1=0.4, V2=1.5, V6=0.5) and not sized(V3=0.5)


def sized(**factors):
    """Items of the findings about the sizes of chest leads that are equally large but for some factors."""
    signal = make_heart()
    signal[6:] *= 0.2 / signal[6:].std(axis=1, keepdims=True)
    for name, factor in factors.items():
        signal[LEADS.index(name)] *= factor
    findings = check_leads(dict(zip(LEADS, signal, strict=True)), 500.0, "ecg", True)
    return [check["item"] for check in findings.checks if check["code"] == "ecg_amplitude"]


def test_copies_among_chest_leads_are_not_used(extractor):
    prepared = extractor.prepare(item(changed(V3=lead("V2"), V6=lead("I"))))
    unused = {name for name, usable in zip(LEADS, prepared.mask, strict=True) if not usable}
    assert unused == {"V2", "V3", "V6"}
    assert codes(prepared) == {("ecg_equal_leads", f"ecg.{name}") for name in unused}


# ---- stillness and clipping


def test_a_lead_that_stands_still_for_a_third_is_noted(extractor):
    signal = make_heart()
    for start in range(0, 5000, 1250):
        signal[6, start : start + 420] = signal[6, start]
    assert ("ecg_still", "ecg.V1") in codes(extractor.prepare(item(signal)))


@pytest.mark.parametrize("rate", [100, 500])
def test_clipped_leads_are_noted(extractor, rate):
    signal = np.round(make_heart(int(10 * rate), rate), 3)
    signal[9] = np.clip(signal[9], None, 0.4)
    assert codes(extractor.prepare(item(signal, rate=rate))) == {("ecg_clipped", "ecg.V4")}


# ---- no heart


NOISE = np.random.default_rng(0).normal(size=(12, 5000))
NO_HEART = {
    "white noise": 0.3 * NOISE,
    "random walk": 0.02 * NOISE.cumsum(axis=1),
    "mains hum": np.sin(2 * np.pi * 50 * TIME + np.arange(12)[:, None]) + 0.01 * NOISE,
    "mains hum of 60 Hz": np.sin(2 * np.pi * 60 * TIME + np.arange(12)[:, None]),
    "a ramp": np.outer(np.linspace(0.5, 1.5, 12), TIME),
    "a ramp in steps": np.round(np.outer(np.linspace(0.5, 1.5, 12), TIME), 2),
    "a slow sine": np.outer(np.linspace(0.5, 1.5, 12), np.sin(2 * np.pi * 1.2 * TIME)),
    "a sine in the band": np.outer(np.linspace(0.5, 1.5, 12), np.sin(2 * np.pi * 10 * TIME)),
    "noise, a third of it zero": np.where(TIME < 10 / 3, 0, 0.3 * NOISE),
    "one step": np.outer(np.linspace(0.5, 1.5, 12), TIME > 5) + 1e-3 * NOISE,
}


@pytest.mark.parametrize("kind", NO_HEART)
@pytest.mark.parametrize("units", ["mV", "normalised"])
def test_signals_without_a_heart_are_refused(extractor, kind, units):
    refuse(extractor, NO_HEART[kind], units=units)
    assert not has_heartbeat(NO_HEART[kind], RATE)


@pytest.mark.parametrize("seed", range(30))
def test_noise_of_any_seed_and_rate_is_refused(extractor, seed):
    generator = np.random.default_rng(seed)
    rate = float(generator.choice([100, 250, 500, 1000]))
    refuse(extractor, generator.normal(size=(12, int(10 * rate))) * 0.3, "no heartbeat", rate=rate)


def test_one_lead_with_beats_among_noise_is_a_heart(extractor):
    signal = 0.2 * NOISE
    signal[7] = make_heart()[7]
    assert has_heartbeat(signal, RATE)


def test_short_and_slow_recordings_are_not_searched():
    noise = np.random.default_rng(0).normal(size=(12, 1500))
    assert harmonise_recording(EcgRecording(noise[6:], 500.0, list(LEADS[6:]))).mask.sum() == 6
    assert harmonise_recording(EcgRecording(noise[6:], 50.0, list(LEADS[6:]))).mask.sum() == 6


# ---- waves that are no beats


def wave_leads(wave, is_one_signal=True):
    """Twelve leads of one kind of wave that obey Einthoven and Goldberger; `wave` gets a random generator."""
    generator = np.random.default_rng(0)
    once = wave(generator)
    eight = [
        generator.uniform(0.3, 1.2) * (once if is_one_signal else wave(generator))
        + 0.005 * generator.normal(size=len(TIME))
        for _ in range(8)
    ]
    one, two = eight[:2]
    return np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *eight[2:]])


def band_noise(low, high):
    return lambda generator: 3 * band_pass(generator.normal(size=(1, len(TIME))), low, high, RATE)[0]


def eeg_rhythm(generator):
    start = generator.uniform(0, 6)
    return np.sin(20 * np.pi * TIME + start) * (1 + 0.8 * np.sin(np.pi * TIME + start)) + 0.2 * generator.normal(
        size=len(TIME)
    ).cumsum() / np.sqrt(len(TIME))


WAVES = {
    "sawtooth of 50 a minute": lambda generator: (TIME * 50 / 60 + generator.uniform()) % 1 - 0.5,
    "sawtooth of 75 a minute": lambda generator: 0.5 - (TIME * 75 / 60 + generator.uniform()) % 1,
    "sawtooth of 180 a minute": lambda generator: (TIME * 3 + generator.uniform()) % 1 - 0.5,
    "chirp": lambda generator: np.sin(2 * np.pi * (0.5 * TIME + TIME**2)),
    "sine of 3 Hz": lambda generator: np.sin(2 * np.pi * (3 * TIME + generator.uniform())),
    "square wave": lambda generator: np.sign(np.sin(2 * np.pi * (1.2 * TIME + generator.uniform()))),
    "alpha rhythm": eeg_rhythm,
    "noise of 1 to 10 Hz": band_noise(1, 10),
    "noise of 5 to 15 Hz": band_noise(5, 15),
}


@pytest.mark.parametrize("kind", WAVES)
@pytest.mark.parametrize("is_one_signal", [True, False])
def test_a_wave_or_noise_in_right_limb_leads_is_refused_or_named(extractor, kind, is_one_signal):
    signal = wave_leads(WAVES[kind], is_one_signal)
    try:
        prepared = extractor.prepare(item(signal))
    except InputRefusedError:
        return
    assert "ecg_no_clear_beats" in {check["code"] for check in prepared.checks}


@pytest.mark.parametrize(
    ("rate", "shape"),
    [
        (40, (0.010, 1.0)),  # slow
        (150, (0.010, 1.0)),  # fast
        (70, (0.030, 1.0)),  # a wide complex, as in left bundle branch block
        (110, (0.025, 0.3)),  # wide and low
    ],
)
def test_slow_fast_and_wide_beats_have_no_findings(extractor, rate, shape):
    starts = np.arange(-1.0, 11.0, 60 / rate)
    uneven = starts + np.random.default_rng(0).normal(0, 0.02, len(starts))  # no heart beats evenly
    assert not extractor.prepare(item(beating(uneven, *shape))).checks


def test_irregular_beats_without_p_waves_have_no_findings(extractor):
    starts = np.cumsum(np.random.default_rng(1).uniform(0.35, 1.1, 30)) - 1
    assert not extractor.prepare(item(beating(starts, 0.010, 1.0))).checks


def beating(starts, width, size):
    """Twelve leads with a QRS complex and a T wave at each of the times `starts` (s)."""
    generator = np.random.default_rng(0)
    bumps = [(0.0, width, size), (1.5 * width, width, -0.3 * size), (0.25, 0.04, 0.25 * size)]
    waves = np.stack(
        [
            height * np.exp(-(((TIME[:, None] - starts - late) / wide) ** 2) / 2).sum(axis=1)
            for late, wide, height in bumps
        ]
    )
    eight = [
        generator.uniform(0.5, 1.2, 3) @ waves * scale + 0.005 * generator.normal(size=len(TIME))
        for scale in (0.5, 0.9, -0.6, 0.8, 1.0, 1.4, 1.2, 0.8)
    ]
    one, two = eight[:2]
    return np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *eight[2:]])


# ---- computed leads


@pytest.mark.parametrize("step", [None, 0.001, 0.005])
def test_a_lead_that_is_the_mean_of_its_neighbours_is_not_used(extractor, step):
    signal = changed(V2=lambda heart: 0.5 * (heart[LEADS.index("V1")] + heart[LEADS.index("V3")]))
    if step is not None:
        signal = np.round(signal / step) * step
    prepared = extractor.prepare(item(signal))
    assert ("ecg_computed_leads", "ecg.V2") in codes(prepared) and prepared.mask.sum() == 11


@pytest.mark.parametrize("step", [0.01, 0.02])
def test_a_lead_that_only_looks_computed_in_coarse_numbers_is_used_and_noted(extractor, step):
    signal = np.round(changed(V2=lambda heart: 0.5 * (heart[6] + heart[8])) / step) * step
    prepared = extractor.prepare(item(signal))
    assert ("ecg_computed_leads", "ecg.V2") in codes(prepared) and prepared.mask[LEADS.index("V2")]


def test_twelve_leads_that_were_computed_from_three_are_named(extractor):
    heart = make_heart()
    sources = np.stack([heart[0], heart[1], heart[7]])
    chest = np.array([[-0.3, 0.1, 0.9], [0, 0.2, 1], [0.3, 0.4, 0.9], [0.6, 0.5, 0.6], [0.8, 0.5, 0.2], [0.9, 0.4, 0]])
    signal = np.concatenate([heart[:6], chest @ sources])
    prepared = extractor.prepare(item(signal))
    assert ("ecg_computed_leads", "ecg") in codes(prepared)
    assert any("can be computed from the other leads exactly" in check["text"] for check in prepared.checks)


def test_public_recordings_have_no_computed_leads(shared_dir):
    stored = np.load(shared_dir / "data/ptbxl/ptbxl_100hz_folds1-9.npz")["signal"]
    for signal in stored[::25]:
        leads = dict(zip(LEADS, signal.T.astype(float), strict=True))
        band = dict(zip(LEADS, band_pass(np.stack(list(leads.values())), 1.0, 20.0, 100.0), strict=True))
        assert computed_leads(leads, band) == ({}, [], [])
