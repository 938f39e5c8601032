"""Signal questions of a bench: predicted samples after a window and rebuilt windows, scored lead by lead.

A prediction is compared with continuations that need no model. The first repeats the last beat. The second brings the
repeated beat nearer to the mean of the lead, by one factor for all, because a beat at the wrong moment costs more than
no beat. The third is a linear predictor: each sample of the next second is a weighted sum of the samples of the window,
with one set of weights for all leads. Factor and weights come from the train split only. All continuations start from
the window that the model reads, cleaned for the model and at its sampling rate. A last control, for reconstructions
too, is the mean of each lead.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks
from tqdm import tqdm

from tgmm_hf.data.bench_items import PREDICTION
from tgmm_hf.data.instructions import Instruction, asked_in
from tgmm_hf.evaluation.bench_models import SignalModel
from tgmm_hf.evaluation.evaluate_reporter import ReporterEvaluationSettings
from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, estimate_of_values, resampled_mean
from tgmm_hf.evaluation.unseen import patient_name
from tgmm_hf.inputs.ecg_beats import BEAT_BAND, band_pass
from tgmm_hf.inputs.ecg_signal import as_recording, harmonise_recording
from tgmm_hf.utils.errors import InputRefusedError, TgmmError, is_refusal
from tgmm_hf.utils.names import LEADS

LAST_BEAT, SCALED_BEAT = "repeat the last beat", "last beat, scaled"
LINEAR, MEAN = "linear predictor", "mean of the lead"
MODEL = "model"
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Penalties of the linear predictor, as shares of the sum of squares of a sample of the window. One is chosen."""
HELD_OUT, MOST_HELD_OUT = 5, 200
"""Every fifth training ECG, up to a number, chooses the penalty. Then all of them give the weights."""
FEWEST_TRAINING = 20
"""Fewest ECGs of the train split for a linear predictor."""
SHORTEST_BEAT, LONGEST_BEAT = 0.3, 2.0
"""Seconds between two beats: 200 to 30 a minute."""
PEAK_SHARE = 0.35
"""Height of a peak of the beats' energy, as a share of its 99th percentile."""
BATCH = 64
"""Windows that a model gets together."""


class SignalPair(NamedTuple):
    """One signal question.

    Attributes:
        window: (12, w) in mV, or in the normalised units of the recording.
        target: (12, t), the right answer: the samples after the window, or the window itself.
        units: "mV" or "normalised".
    """

    window: NDArray
    target: NDArray
    units: str


def read_pair(row: Instruction, model: SignalModel) -> SignalPair:
    """Read window and target of a signal question, cleaned as the model reads recordings.

    Raises:
        InputRefusedError: If the recording cannot be read, lacks a lead, or ends before the target.
    """
    question = asked_in(row)
    window = question.window
    assert window is not None  # the reader of the file has checked it
    recording = as_recording(row.ecg)
    harmonised = harmonise_recording(recording, min_leads=len(LEADS))
    signal, sampling_rate = model.clean(harmonised), model.sampling_rate
    start, middle = round(window.start * sampling_rate), round((window.start + window.seconds) * sampling_rate)
    end = round((window.start + window.seconds + window.target_seconds) * sampling_rate)
    if end > signal.shape[1]:
        raise InputRefusedError(
            recording.source,
            f"{signal.shape[1] / sampling_rate:g} s long, and the question needs {end / sampling_rate:g} s. Make "
            "the bench file anew from longer recordings.",
        )
    input_window = signal[:, start:middle].astype(np.float64)
    target = signal[:, middle:end].astype(np.float64) if question.kind == PREDICTION else input_window
    return SignalPair(input_window, target, recording.units)


def read_pairs(
    rows: Sequence[Instruction], model: SignalModel, title: str, progress: bool = True
) -> Iterator[tuple[int, SignalPair | str]]:
    """Read signal questions one by one: number of the row, and the pair or the reason of a refusal."""
    for number in tqdm(range(len(rows)), desc=title, disable=None if progress else True):
        try:
            yield number, read_pair(rows[number], model)
        except ValueError as error:
            if not is_refusal(error):
                raise
            yield number, error.reason  # type: ignore[attr-defined]


def repeat_last_beat(window: NDArray, samples: int, sampling_rate: float) -> NDArray:
    """Continue a window by its last beat, again and again.

    The beats are the peaks of the energy of all leads in the band of the QRS complex. The repeated stretch is the end
    of the window. Its length is the distance of the last two beats, or one second with fewer than two beats.

    Args:
        window: (12, w).
        samples: Number of samples to give.
        sampling_rate: Hz.

    Returns:
        (12, samples).
    """
    energy = (band_pass(window, *BEAT_BAND, sampling_rate) ** 2).sum(axis=0)
    peaks, _ = find_peaks(
        energy, height=PEAK_SHARE * np.quantile(energy, 0.99), distance=max(1, int(SHORTEST_BEAT * sampling_rate))
    )
    period = int(peaks[-1] - peaks[-2]) if len(peaks) > 1 else round(sampling_rate)
    period = min(period, round(LONGEST_BEAT * sampling_rate), window.shape[1])
    last = window[:, -period:]
    return np.tile(last, -(-samples // period))[:, :samples]


class ScaledBeat:
    """The repeated last beat, brought nearer to the mean of the lead by a factor that the train split gives.

    Args:
        sampling_rate: Hz.
    """

    def __init__(self, sampling_rate: float) -> None:
        self.sampling_rate = sampling_rate
        self.products, self.squares = 0.0, 0.0

    def learn(self, pair: SignalPair) -> None:
        """Add one training ECG to the least squares."""
        mean, deviation = _scale(pair.window)
        beat = (repeat_last_beat(pair.window, pair.target.shape[1], self.sampling_rate) - mean) / deviation
        self.products += float((beat * (pair.target - mean) / deviation).sum())
        self.squares += float((beat**2).sum())

    def predict(self, window: NDArray, samples: int) -> NDArray:
        """Continue a window (12, w)."""
        mean = window.mean(axis=1, keepdims=True)
        factor = self.products / max(self.squares, 1e-9)
        return np.asarray(mean + factor * (repeat_last_beat(window, samples, self.sampling_rate) - mean))


class LinearPredictor:
    """A ridge regression from the samples of a window to the samples after it, the same for all leads.

    A lead is brought to mean 0 and deviation 1 by its window, and the prediction is brought back.

    Attributes:
        number: Number of ECGs that it has learned from.
        penalty: The chosen value of `PENALTIES`.
    """

    def __init__(self) -> None:
        self.number, self.penalty = 0, PENALTIES[-1]
        self.weights = np.zeros((0, 0))
        self.sums = (np.zeros((0, 0)), np.zeros((0, 0)))
        self.held_out: list[tuple[NDArray, NDArray]] = []

    def learn(self, pair: SignalPair) -> None:
        """Add one training ECG to the sums of products, so that any number fits into memory."""
        mean, deviation = _scale(pair.window)
        x, y = (pair.window - mean) / deviation, (pair.target - mean) / deviation
        if self.number % HELD_OUT == 0 and len(self.held_out) < MOST_HELD_OUT:
            self.held_out.append((x, y))
        else:
            self._add(x, y)
        self.number += 1

    def finish(self) -> "LinearPredictor":
        """Choose the penalty by the ECGs that were held out, and fit the weights to all. Returns itself."""
        if self.number > len(self.held_out):
            errors = {penalty: self._error(self._solve(penalty)) for penalty in PENALTIES}
            self.penalty = min(errors, key=lambda penalty: errors[penalty])
        for x, y in self.held_out:
            self._add(x, y)
        self.held_out = []
        self.weights = self._solve(self.penalty)
        return self

    def predict(self, window: NDArray) -> NDArray:
        """Continue a window (12, w)."""
        mean, deviation = _scale(window)
        return np.asarray((window - mean) / deviation @ self.weights * deviation + mean)

    def _add(self, x: NDArray, y: NDArray) -> None:
        products, answers = self.sums
        first = not products.size
        self.sums = (x.T @ x + (0 if first else products), x.T @ y + (0 if first else answers))

    def _solve(self, penalty: float) -> NDArray:
        """Return the weights (w, t) with a penalty."""
        products, answers = self.sums
        ridge = penalty * np.trace(products) / len(products)
        return np.asarray(np.linalg.solve(products + ridge * np.eye(len(products)), answers))

    def _error(self, weights: NDArray) -> float:
        """Return the sum of squared errors of the ECGs that were held out."""
        return float(sum(((x @ weights - y) ** 2).sum() for x, y in self.held_out))


def _scale(window: NDArray) -> tuple[NDArray, NDArray]:
    """Return mean and deviation of each lead, (12, 1)."""
    return window.mean(axis=1, keepdims=True), window.std(axis=1, keepdims=True) + 1e-6


def signal_figures(
    rows: Sequence[Instruction],
    training: Sequence[Instruction],
    model: SignalModel,
    settings: ReporterEvaluationSettings,
) -> dict[str, Any]:
    """Score a model's signals on questions of one kind.

    Args:
        rows: The questions to be scored, all predictions or all reconstructions.
        training: Prediction questions of the train split, for the linear predictor.
        model: The model.
        settings: Gives seed, number of resamples and progress bars.

    Returns:
        "n", "patients", "refused", "units", "sampling_rate". "systems": system -> "rmse" with its interval, and
        "leads": lead -> the same. "differences": control -> "rmse_difference", the model's minus the control's.
        "controls_missing": control -> reason.

    Raises:
        TgmmError: If no recording can be used.
    """
    kind = asked_in(rows[0]).kind
    controls, missing = _controls(kind, training, model, settings.progress)
    errors: dict[str, list[NDArray]] = {}
    kept: list[Instruction] = []
    units: set[str] = set()
    waiting: list[SignalPair] = []
    for number, pair in read_pairs(rows, model, kind, settings.progress):
        if isinstance(pair, str):
            continue
        kept.append(rows[number])
        units.add(pair.units)
        for name, control in controls.items():
            errors.setdefault(name, []).append(_squares(control(pair.window, pair.target.shape[1]), pair.target))
        waiting.append(pair)
        if len(waiting) == BATCH:
            errors.setdefault(MODEL, []).extend(_model_squares(kind, waiting, model))
            waiting = []
    if not kept:
        raise TgmmError(kind, f"none of the {len(rows)} recordings can be used.")
    if waiting:
        errors.setdefault(MODEL, []).extend(_model_squares(kind, waiting, model))
    counts = bootstrap_counts([patient_name(row) for row in kept], None, settings.bootstrap, settings.seed)
    squares = {name: np.stack(errors[name]) for name in (MODEL, *(name for name in errors if name != MODEL))}
    return {
        "n": len(kept),
        "patients": len({patient_name(row) for row in kept}),
        "refused": len(rows) - len(kept),
        "units": " and ".join(sorted(units)),
        "sampling_rate": model.sampling_rate,
        "systems": {name: _entry(values, counts) for name, values in squares.items()},
        "differences": {
            name: _difference(squares[MODEL], values, counts) for name, values in squares.items() if name != MODEL
        },
        "controls_missing": missing,
    }


Control = Callable[[NDArray, int], NDArray]
"""Function of a window (12, w) and a number of samples t. It returns a signal (12, t)."""


def _controls(
    kind: str, training: Sequence[Instruction], model: SignalModel, progress: bool
) -> tuple[dict[str, Control], dict[str, str]]:
    """Make the controls of a kind of question. Returns name -> control, and name -> why a control is missing."""
    controls: dict[str, Control] = {MEAN: _mean_of_leads}
    if kind != PREDICTION:
        return controls, {}
    controls[LAST_BEAT] = partial(repeat_last_beat, sampling_rate=model.sampling_rate)
    beat, linear = ScaledBeat(model.sampling_rate), LinearPredictor()
    for _, pair in read_pairs(training, model, "training", progress):
        if not isinstance(pair, str):
            beat.learn(pair)
            linear.learn(pair)
    if linear.number < FEWEST_TRAINING:
        reason = f"{linear.number} ECGs of the train split can be used, at least {FEWEST_TRAINING} are needed."
        return controls, {SCALED_BEAT: reason, LINEAR: reason}
    linear.finish()
    return controls | {SCALED_BEAT: beat.predict, LINEAR: lambda window, _: linear.predict(window)}, {}


def _mean_of_leads(window: NDArray, samples: int) -> NDArray:
    """Continue each lead by its mean."""
    return np.repeat(window.mean(axis=1, keepdims=True), samples, axis=1)


def _model_squares(kind: str, pairs: Sequence[SignalPair], model: SignalModel) -> list[NDArray]:
    """Return the squared errors of a model for a batch of questions."""
    windows = np.stack([pair.window for pair in pairs])
    signals = model.predict(windows, pairs[0].target.shape[1]) if kind == PREDICTION else model.rebuild(windows)
    return [_squares(signal, pair.target) for signal, pair in zip(signals, pairs, strict=True)]


def _squares(signal: NDArray, target: NDArray) -> NDArray:
    """Return the mean squared error of each lead, (12,).

    Raises:
        ValueError: If a model gives a signal of another shape.
    """
    if signal.shape != target.shape:
        raise ValueError(f"The model gave a signal of shape {signal.shape}, and the question asks for {target.shape}.")
    return ((signal - target) ** 2).mean(axis=1)


def _root(values: NDArray, counts: NDArray) -> NDArray:
    """Compute the root of the mean of squared errors (n,) in every resample."""
    return np.sqrt(resampled_mean(values, counts))


def _entry(squares: NDArray, counts: NDArray) -> dict[str, Any]:
    """Return the RMSE over all leads and of each lead. `squares` is (n, 12)."""
    leads = {
        lead: estimate(partial(_root, squares[:, place]), counts).entry("rmse") for place, lead in enumerate(LEADS)
    }
    return estimate(partial(_root, squares.mean(axis=1)), counts).entry("rmse") | {"leads": leads}


def _difference(model: NDArray, control: NDArray, counts: NDArray) -> dict[str, Any]:
    """Estimate the RMSE of the model minus the RMSE of a control."""

    def difference(drawn: NDArray) -> NDArray:
        return _root(model.mean(axis=1), drawn) - _root(control.mean(axis=1), drawn)

    whole = float(difference(np.ones((1, counts.shape[1])))[0])
    return estimate_of_values(whole, difference(counts)).entry("rmse_difference")
