"""Inputs that are unlike the training are marked with both numbers, and unseen good ones pass."""

import numpy as np
import pytest
from heart_signal import make_heart

from tgmm_hf.inputs.ecg_summary import WORDS as ECG_WORDS
from tgmm_hf.inputs.ecg_summary import summarise_ecg
from tgmm_hf.inputs.echo_summary import WORDS as ECHO_WORDS
from tgmm_hf.inputs.echo_summary import summarise_clip
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.training_likeness import Likeness, pack, scores_of, unpack
from tgmm_hf.inputs.unlike_training import ECG, ECHO, LABS, TrainedInputs, lab_numbers
from tgmm_hf.training.likeness_fit import FEWEST_PATIENTS, collect, fit_likeness
from tgmm_hf.utils.names import LEADS

RATE, ALL = 125.0, np.ones(12, bool)
TRAINED, UNSEEN = range(110), range(1000, 1025)


def heart(seed: int) -> np.ndarray:
    size = np.random.default_rng(seed).uniform(0.6, 1.4)
    return size * make_heart(int(10 * RATE), RATE, seed)


def clip(seed: int) -> np.ndarray:
    """Speckle in a sector, whose brightness beats."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    inside = (np.abs(columns - 15.5) < 2 + 0.5 * rows) & (np.hypot(rows, columns - 15.5) < 30)
    speckle = generator.gamma(3.0, 20.0, (32, 32))
    beat = 1 + 0.3 * np.sin(2 * np.pi * (np.arange(8) / 8 * generator.uniform(0.8, 1.2) + generator.random()))
    wall = np.exp(-(((np.hypot(rows - 20, columns - 15.5)[None] - 6 * beat[:, None, None]) / 3) ** 2))
    frames = (0.5 + wall) * speckle * generator.uniform(0.8, 1.2) + generator.normal(0, 4, (8, 32, 32))
    return np.repeat(np.clip(frames * inside, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def lab_row(seed: int) -> dict[str, float]:
    generator = np.random.default_rng(seed)
    kidney = generator.normal()
    return {
        "Creatinine": round(float(np.exp(0.1 + 0.3 * kidney + 0.05 * generator.normal())), 2),
        "Urea Nitrogen": round(float(np.exp(2.9 + 0.4 * kidney + 0.05 * generator.normal())), 1),
        "Sodium": round(float(generator.normal(139, 3)), 1),
        "age": int(generator.integers(40, 90)),
    }


def cells_of(row: dict) -> list:
    units = {"Creatinine": "mg/dL", "Urea Nitrogen": "mg/dL", "Sodium": "mEq/L", "Potassium": "mEq/L", "age": "years"}
    labs = LabsText.from_row({name: (value, units[name]) for name, value in row.items()})
    assert not labs.refused
    return labs.cells


@pytest.fixture(scope="module")
def trained() -> TrainedInputs:
    described = {
        "ecg": [(seed, "", summarise_ecg(heart(seed), ALL, RATE)) for seed in TRAINED],
        "echo": [(seed, "A4C", summarise_clip(clip(seed), 8)) for seed in TRAINED],
        "labs": [(seed, "", lab_numbers(cells_of(lab_row(seed)))) for seed in TRAINED],
    }
    content = {}
    for name, inputs in described.items():
        training = collect(inputs[:90])
        content[name] = fit_likeness(training, collect(inputs[90:], training.names), "inputs")
    return TrainedInputs(unpack(pack(content)))


def late_copy(signal: np.ndarray) -> None:
    signal[LEADS.index("V3")] = np.roll(signal[LEADS.index("V2")], 5)


def ramp(signal: np.ndarray) -> None:
    signal[:, 500:640] = np.linspace(signal[:, 500], signal[:, 640], 140, axis=1)


def half_turned(signal: np.ndarray) -> None:
    signal[LEADS.index("V4"), signal.shape[1] // 2 :] *= -1


def noise(signal: np.ndarray) -> None:
    signal[LEADS.index("V5")] = 0.3 * np.random.default_rng(0).normal(size=signal.shape[1])


def test_unseen_hearts_pass(trained: TrainedInputs):
    marked = [seed for seed in UNSEEN if trained.check_ecg(heart(seed), ALL, RATE)]
    assert len(marked) <= 2


@pytest.mark.parametrize("change", [late_copy, ramp, half_turned, noise])
def test_hearts_with_a_fault_are_marked_with_both_numbers(trained: TrainedInputs, change):
    for seed in UNSEEN[:8]:
        signal = heart(seed)
        change(signal)
        (finding,) = trained.check_ecg(signal, ALL, RATE)
        assert finding["code"] == ECG and finding["item"].startswith("ecg")
        assert "98 % of 90 inputs of the training have" in finding["text"]


def test_the_lead_that_is_noise_is_named(trained: TrainedInputs):
    signal = heart(1001)
    noise(signal)
    (finding,) = trained.check_ecg(signal, ALL, RATE)
    assert "V5" in finding["text"]


def test_a_heart_without_some_leads_is_compared_by_the_others(trained: TrainedInputs):
    mask = ALL.copy()
    mask[[6, 8, 11]] = False
    few = [seed for seed in UNSEEN if trained.check_ecg(heart(seed) * mask[:, None], mask, RATE)]
    assert len(few) <= 2
    signal = heart(1002)
    ramp(signal)
    assert trained.check_ecg(signal * mask[:, None], mask, RATE)


@pytest.mark.parametrize("rate", [100.0, 250.0, 500.0])
def test_every_number_has_words_and_is_finite(rate: float):
    mask = ALL.copy()
    for signal in (make_heart(int(9 * rate), rate), np.zeros((12, int(9 * rate))), np.ones((12, int(40 * rate)))):
        values = summarise_ecg(signal, mask, rate)
        assert np.isfinite(list(values.values())).all()
        assert {name.partition(".")[0] for name in values} <= set(ECG_WORDS)
    for frames in (clip(0), np.zeros_like(clip(0)), np.full((1, 16, 16, 3), 255, np.uint8)):
        values = summarise_clip(frames, len(frames))
        assert np.isfinite(list(values.values())).all()
        assert {name.partition(".")[0] for name in values} <= set(ECHO_WORDS)


def test_only_the_middle_of_a_long_recording_is_described():
    signal = make_heart(int(30 * RATE), RATE)
    other = signal.copy()
    other[:, : int(5 * RATE)] = 7.0
    assert summarise_ecg(signal, ALL, RATE) == summarise_ecg(other, ALL, RATE)


def test_unseen_clips_pass_and_faulty_ones_are_marked(trained: TrainedInputs):
    good = {str(seed): clip(seed) for seed in UNSEEN}
    counts = dict.fromkeys(good, 8)
    assert len(trained.check_clips(good, counts)) <= 2
    covered, frozen = {}, {}
    for name, frames in good.items():
        covered[name], frozen[name] = frames.copy(), frames[:1].repeat(8, axis=0)
        covered[name][:, 8:20, 10:22] = 0
    for faulty in (covered, frozen):
        findings = trained.check_clips(faulty, counts)
        assert len(findings) == len(UNSEEN)
        assert {finding["code"] for finding in findings.values()} == {ECHO}


def test_padding_frames_are_not_described():
    frames = clip(3)
    padded = np.concatenate([frames, np.full_like(frames, 29)])
    assert summarise_clip(padded, 8) == summarise_clip(frames, 8)


def test_lab_values_outside_the_training_and_values_that_do_not_fit_are_marked(trained: TrainedInputs):
    assert sum(bool(trained.check_labs(cells_of(lab_row(seed)))) for seed in UNSEEN) <= 2
    (finding,) = trained.check_labs(cells_of({**lab_row(1003), "Sodium": 172}))
    assert finding["code"] == LABS and finding["item"] == "labs.Sodium" and "172 mEq/L" in finding["text"]
    row = {"Creatinine": 0.65, "Urea Nitrogen": 40.0, "Sodium": 139, "age": 60}  # each is usual by itself
    findings = trained.check_labs(cells_of(row))
    assert {finding["item"] for finding in findings} & {"labs.Creatinine", "labs.Urea Nitrogen"}
    assert any("would fit the other numbers" in finding["text"] for finding in findings)


def test_a_row_of_one_cell_or_of_other_columns_is_no_fault(trained: TrainedInputs):
    assert trained.check_labs(cells_of({"age": 60})) == []
    assert trained.check_labs(cells_of({"Potassium": 4.1})) == []
    assert trained.check_labs([]) == []


def numbers(count: int, seed: int) -> list[tuple[int, str, dict[str, float]]]:
    generator = np.random.default_rng(seed)
    values = generator.standard_t(4, (count, 20)) @ generator.normal(size=(20, 20)) / 4 + generator.normal(
        size=(count, 20)
    )
    return [(place, "", {f"n{column}": value for column, value in enumerate(row)}) for place, row in enumerate(values)]


def test_at_most_about_one_of_a_hundred_inputs_of_the_same_kind_is_marked():
    whole = numbers(3000, 0)
    training = collect(whole[:300])
    likeness = Likeness(fit_likeness(training, collect(whole[300:400], training.names)))
    rest = collect(whole[400:], training.names)
    above = (scores_of(likeness.excess(rest.values, rest.groups)) > likeness.limits).any(axis=1)
    assert 0.0005 < above.mean() < 0.025


def test_too_few_patients_give_no_description():
    few = collect(numbers(FEWEST_PATIENTS - 1, 0))
    assert fit_likeness(few, collect([], few.names)) is None


def test_a_number_that_never_changes_does_no_harm():
    inputs = [(place, "", {**values, "same": 1.0}) for place, _, values in numbers(150, 1)]
    training = collect(inputs)
    likeness = Likeness(fit_likeness(training, collect([], training.names)))
    assert np.isfinite(scores_of(likeness.excess(training.values, training.groups))).all()


@pytest.mark.parametrize("packed", ["", "abc", "AAAA", pack([1])])
def test_a_damaged_description_is_refused(packed: str):
    with pytest.raises(ValueError, match="processor_config.json"):
        unpack(packed)
