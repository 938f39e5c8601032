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
from tgmm_hf.inputs.unlike_training import ECG, ECHO, LABS, TrainedInputs, lab_numbers, trained_inputs
from tgmm_hf.training import likeness_fit
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
        assert "94 % of 90 inputs of the training have" in finding["text"]
        assert "unusual in some way" not in finding["text"]


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


TIES = ("Hemoglobin", "Hematocrit", "RBC", "Sodium", "Chloride", "Creatinine", "Urea Nitrogen", "Potassium", "age")


def tied_row(generator: np.random.Generator) -> dict[str, float]:
    """Draw a row whose first seven columns belong together by two or three."""
    blood, salt, kidney, potassium = generator.normal(size=4)
    hemoglobin = 13 + 1.8 * blood
    values = [hemoglobin, 3 * hemoglobin + 0.7 * generator.normal(), hemoglobin / 2.9 + 0.12 * generator.normal()]
    values += [139 + 3.5 * salt, 102 + 3.2 * salt + 1.2 * generator.normal()]
    values += [np.exp(0.1 + 0.35 * kidney), np.exp(2.9 + 0.4 * kidney + 0.15 * generator.normal())]
    values += [4.2 + 0.4 * potassium, generator.uniform(30, 90)]
    return {name: float(np.arcsinh(value)) for name, value in zip(TIES, values, strict=True)}


def tied_likeness(generator: np.random.Generator, share: float = 1.0) -> Likeness:
    """Fit 320 rows that have each number with a probability."""
    drawn = [tied_row(generator) for _ in range(400)]
    inputs = [
        (place, "", {name: value for name, value in row.items() if generator.random() < share})
        for place, row in enumerate(drawn)
    ]
    training = collect(inputs[:320])
    return Likeness(fit_likeness(training, collect(inputs[320:], training.names)))


def share_marked(likeness: Likeness, table: list[dict[str, float]]) -> float:
    values = np.concatenate([likeness.vector(row) for row in table])
    return float((scores_of(likeness.excess(values, [""] * len(table))) > likeness.limits).any(axis=1).mean())


@pytest.mark.parametrize("share", [1.0, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_short_good_rows_of_tied_columns_pass_and_a_row_against_the_ties_is_marked(seed: int, share: float):
    generator = np.random.default_rng(seed)
    likeness = tied_likeness(generator, share)
    good = [tied_row(generator) for _ in range(1000)]
    for count in (1, 2, 3, 5):
        names = [generator.choice(TIES, count, replace=False) for _ in good]
        short = [{name: row[name] for name in chosen} for row, chosen in zip(good, names, strict=True)]
        assert share_marked(likeness, short) <= 0.03, count
    against = [row | {"Hemoglobin": np.arcsinh(8.0), "Hematocrit": np.arcsinh(50.0)} for row in good[:100]]
    assert share_marked(likeness, against) >= 0.95
    few = [{name: row[name] for name in ("Hemoglobin", "Hematocrit", "Sodium")} for row in against]
    assert share_marked(likeness, few) >= 0.95


def test_the_expected_value_is_the_conditional_mean_of_the_other_numbers():
    """The leave-one-out formula is compared with the inverse of the covariance."""
    likeness = tied_likeness(np.random.default_rng(5))
    covariance = (likeness.components.T * likeness.spread**2) @ likeness.components + np.diag(likeness.rest)
    near = np.random.default_rng(6).normal(size=(4, len(TIES)))
    is_there = np.ones(near.shape, bool)
    is_there[1:, 2], is_there[3, :6] = False, False
    left, expected, _ = likeness.conditional(near, is_there)
    for row, number in np.argwhere(is_there):
        used = np.flatnonzero(is_there[row] & (np.arange(len(TIES)) != number))
        weights = np.linalg.solve(covariance[np.ix_(used, used)], covariance[used, number])
        mean = weights @ near[row, used]
        deviation = np.sqrt(covariance[number, number] - weights @ covariance[used, number])
        assert expected[row, number] == pytest.approx(mean)
        assert left[row, number] == pytest.approx((near[row, number] - mean) / deviation)
    assert (left[~is_there] == 0).all()
    near[~is_there] = 1e6  # a missing number is not used
    assert np.array_equal(likeness.conditional(near, is_there)[0], left)


def test_one_number_beside_another_is_compared_only_by_itself():
    likeness = tied_likeness(np.random.default_rng(5))
    row = {"Hemoglobin": np.arcsinh(11.0), "Hematocrit": np.arcsinh(45.0)}
    assert (likeness.excess(likeness.vector(row), [""]).given == 0).all()


def test_a_number_that_only_one_fold_has_leaves_the_limits_finite():
    inputs = [
        (place, "", {**values, **({"rare": 0.1 * place} if place % 5 == 0 else {})})
        for place, _, values in numbers(300, 1)
    ]
    training = collect(inputs)
    assert "rare" in training.names
    stored = fit_likeness(training, collect([], training.names))
    assert np.isfinite(stored["limits"]).all()
    numbers_stored = [stored[key] for key in ("low", "high", "usual", "above", "below", "left", "rest", "share")]
    assert all(np.isfinite(part).all() for part in numbers_stored)


def test_without_a_finite_limit_nothing_is_stored(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(likeness_fit, "scores_of", lambda excess: np.full((len(excess.alone), 2), np.nan))
    training = collect(numbers(150, 1))
    assert fit_likeness(training, collect([], training.names)) is None


@pytest.mark.parametrize("count", [101, 120, 400])
def test_stored_values_are_means_of_five_patients(count: int):
    training = collect(numbers(count, 2))
    likeness = Likeness(fit_likeness(training, collect([], training.names)))
    inside = []
    for place, ordered in enumerate(np.sort(training.values, axis=0).T):
        low, high = likeness.usual_range(place, "")
        means = np.convolve(ordered, np.ones(5) / 5, mode="valid")
        middle = round((count - 1) / 2) - 2
        assert likeness.centres[""][place] == pytest.approx(means[middle], rel=1e-3)
        ends = (means[:3], means[-3:])
        assert min(abs(ends[0] - low)) < 2e-3 * abs(low) and min(abs(ends[1] - high)) < 2e-3 * abs(high)
        inside.append(((ordered >= low) & (ordered <= high)).mean())
    assert likeness.usual_share(0) == pytest.approx(max(0.95, min(0.98, 1 - 5 / count)), abs=1e-3)
    assert np.mean(inside) == pytest.approx(likeness.usual_share(0), abs=0.012)


@pytest.mark.parametrize(
    "content", [{"labs": {"names": ["a"]}}, {"ecg": [1]}, {"echo": "text"}, {"labs": {"names": 3}}, {"ecg": {"a": 1}}]
)
def test_a_description_with_other_keys_is_refused(content: dict):
    with pytest.raises(ValueError, match="restore processor_config.json"):
        trained_inputs(pack(content))


@pytest.mark.parametrize("seconds", [0.02, 0.5, 1.0, 1.5, 1.6, 1.7, 2.0])
@pytest.mark.parametrize("rate", [100.0, 125.0, 250.0, 500.0])
def test_a_short_recording_has_finite_numbers_or_none(seconds: float, rate: float):
    signal = make_heart(int(3 * rate), rate)[:, : int(seconds * rate)]
    values = summarise_ecg(signal, ALL, rate)
    assert bool(values) == (seconds >= 1.6)
    assert np.isfinite(list(values.values())).all()
    assert summarise_ecg(signal, ~ALL, rate) == {}


def test_a_recording_too_short_to_compare_is_no_fault(trained: TrainedInputs):
    assert trained.check_ecg(heart(1000)[:, :60], ALL, RATE) == []
    assert trained.check_ecg(heart(1000), ~ALL, RATE) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 31])
def test_a_tiny_picture_has_finite_numbers_or_none(size: int):
    frames = np.random.default_rng(0).integers(0, 255, (6, size, size, 3)).astype(np.uint8)
    values = summarise_clip(frames, 6)
    assert bool(values) == (size >= 8)
    assert np.isfinite(list(values.values())).all()


@pytest.mark.parametrize("packed", ["", "abc", "AAAA", pack([1])])
def test_a_damaged_description_is_refused(packed: str):
    with pytest.raises(ValueError, match="processor_config.json"):
        unpack(packed)
