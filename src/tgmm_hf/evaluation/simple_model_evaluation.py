"""`tgmm simple-models`: the figures of simple models on the same patients as a large model.

A figure of a large model means little without the figures of simple models. Simple models are fitted on the train
split. Their only setting is chosen on the validation split. They are scored on the test split in the same way as a
large model. One simple model sees only what was measured, without any value. If its AUC is above chance, the gaps in
the cohort give the answer away.

In version 0.1 the files were called `baselines.json` and `baselines.csv`, and the column of `predictions.parquet` was
called `baseline`. The old command `tgmm baselines` adds these names for one release, because users' scripts read them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray

from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.calibration import choose_operating_point
from tgmm_hf.evaluation.diagnosis import diagnosis_figures
from tgmm_hf.evaluation.headline_figures import KNOWN_IF, OUTCOME, SCORE
from tgmm_hf.evaluation.late_fusion import Scored, fuse, with_scores
from tgmm_hf.evaluation.metrics import Bootstrap, UndefinedFigureError, auc, bootstrap_draws
from tgmm_hf.evaluation.prognosis import choose_risk_cut, prognosis_figures
from tgmm_hf.evaluation.simple_model_features import column, read_features, read_lvef
from tgmm_hf.evaluation.simple_models import SIMPLE_MODELS, Score, SimpleModel
from tgmm_hf.evaluation.single_modality import SingleModality, read_model
from tgmm_hf.evaluation.survival import c_index
from tgmm_hf.evaluation.tables import as_csv, text_estimate
from tgmm_hf.evaluation.unseen import prepared_data_hash
from tgmm_hf.utils.files import whole_file, write_json, write_text
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES
from tgmm_hf.utils.output_lock import one_run_at_a_time
from tgmm_hf.utils.versions import package_versions

SPLITS = ("train", "validation", "test")
FEWEST_EVENTS = 10
"""Number of training events, or of training patients of the rarer class, that a fit needs."""

FUSED_SIMPLE = "late fusion of simple models"
FUSED_MODEL = "late fusion of the model's own answers"
SINGLES = {
    "diagnosis": {"labs": "logistic regression on labs", "ecg": "ECG probe", "echo": "echo probe"},
    "prognosis": {"labs": "Cox model on labs", "ecg": "ECG probe", "echo": "echo probe"},
}
"""Kind of task -> modality -> the simple model that `FUSED_SIMPLE` uses."""

NO_MODEL = "needs --model, a saved model"
NO_LVEF = "needs --lvef, a table with the columns id and lvef: the prepared data hold no ejection fraction"

NOTES = (
    "Fitted on the train split. The only setting of each simple model, and the threshold, are chosen on the validation "
    "split.",
    "labs: numbers, sex and the words of text cells, with an indicator for each missing number, for patients with "
    "labs. NT-proBNP or LVEF alone: for patients who have it. n differs: to compare, pair predictions.parquet by id.",
    "Probes: logistic regression on the frozen encoder's summary, or a Cox model on its first principal components. "
    "The encoder is the model's, after its training with all modalities. It was not trained on one modality alone.",
    f"{FUSED_SIMPLE.capitalize()}: mean over the modalities that a patient has, of the log odds, or of the log risks "
    "standardised by mean and standard deviation on validation. It uses logistic regression (Cox model) on labs, ECG "
    f"probe and echo probe. {FUSED_MODEL.capitalize()}: the same mean of the model's answers to labs, to ECG and to "
    "echo alone.",
    "what was measured: modalities present, cells named, number of leads and views; no value at all.",
    "Intervals: 95 % percentile bootstrap over patients, drawn as by `tgmm evaluate`.",
)

Step = Callable[[], tuple[dict[str, Any], Scored]]
"""Function without arguments that fits one simple model. It returns facts about the fit, and the scored admissions."""


@dataclass(frozen=True)
class _Task:
    """A task with its outcomes.

    Attributes:
        name: Name of the task.
        kind: "diagnosis" or "prognosis".
        outcomes: Split -> one row per admission: id, patient_id and label, or id, patient_id, time and event.
    """

    name: str
    kind: str
    outcomes: Mapping[str, pd.DataFrame]


@one_run_at_a_time("out_dir")
def evaluate_simple_models(  # noqa: PLR0913 - the options of `tgmm simple-models`
    data_dir: str | Path,
    out_dir: str | Path,
    *,
    model: str | Path | None = None,
    lvef: str | Path | None = None,
    seed: int = 0,
    bootstrap: int = BOOTSTRAP_RESAMPLES,
    progress: bool = True,
) -> dict[str, Any]:
    """Fit and score every simple model on every task that the data have labels for.

    Writes `predictions.parquet`, `simple_models.csv` and last `simple_models.json`.

    Args:
        data_dir: Prepared data with the splits train, validation and test.
        out_dir: Directory to write.
        model: Directory or Hub id of a saved `TgmmModel`. Its encoders are probed, and its answers to single modalities
            are fused. Without it these simple models are missing.
        lvef: Parquet or CSV file with the columns id and lvef (percent), for the simple model "LVEF alone".
        seed: Seed of the bootstrap.
        bootstrap: Number of resamples.
        progress: Whether to show progress bars.

    Returns:
        The content of `simple_models.json`. Its "tasks" holds task -> simple model -> figures, or `missing`, the reason
        why there are none.

    Raises:
        ValueError: If a split is missing, `lvef` cannot be used, or the model was trained on test or
            validation patients.
    """
    prepared = load_prepared(data_dir)
    if missing := [split for split in SPLITS if split not in prepared]:
        raise ValueError(f"{data_dir} has no {' and no '.join(missing)} split, it has {list(prepared)}.")
    data_hash = prepared_data_hash(data_dir)
    features = read_features(prepared)
    if lvef is not None:
        features["lvef"] = read_lvef(lvef, prepared)
    single = None if model is None else read_model(model, data_dir, data_hash, prepared, progress)
    if single is not None:
        features |= {f"{modality} summary": summaries for modality, summaries in single.summaries.items()}
    result: dict[str, Any] = {
        "data": Path(data_dir).name,
        "data_hash": data_hash,
        "model": None if model is None else str(model),
        "weights": None if single is None else single.weights,
        "seed": seed,
        "bootstrap": bootstrap,
        "tasks": {},
        "notes": list(NOTES),
        "warnings": [] if single is None else single.warnings,
        "versions": package_versions("scikit-learn", "lifelines"),
    }
    predictions: list[pd.DataFrame] = []
    for task in _tasks(prepared):
        entries, scored = _evaluate_task(task, features, single, Bootstrap(seed, bootstrap))
        result["tasks"][task.name] = entries
        predictions += [rows["test"].assign(task=task.name, simple_model=name) for name, rows in scored.items()]
    _write(result, predictions, Path(out_dir))
    return result


def _evaluate_task(
    task: _Task,
    features: Mapping[str, Mapping[str, pd.DataFrame]],
    single: SingleModality | None,
    bootstrap: Bootstrap,
) -> tuple[dict[str, Any], dict[str, Scored]]:
    """Fit and score every simple model of a task.

    Args:
        task: The task with its outcomes.
        features: Name of a feature set -> split -> one row per admission.
        single: Summaries and answers of a saved model. None if there is no model.
        bootstrap: Seed and number of resamples.

    Returns:
        Two dictionaries. The first: name of a simple model -> its entry of `simple_models.json`, see `_figures`, or
        {"missing": reason}. The second: name of a simple model with figures -> its scored admissions, see [`_fit`].
    """
    entries: dict[str, Any] = {}
    scored: dict[str, Scored] = {}
    for name, step in _steps(task, features, single, scored):
        try:
            about, admissions = step()
            entries[name] = about | _figures(task.kind, admissions, bootstrap)
            scored[name] = admissions
        except UndefinedFigureError as error:
            entries[name] = {"missing": str(error)}
    return entries, scored


def _tasks(prepared: DatasetDict) -> Iterator[_Task]:
    """Yield the tasks for which the train split of `prepared` has an outcome column (`label_<task>`, `time_<task>`)."""
    for name in prepared["train"].column_names:
        prefix, _, task = name.partition("_")
        if prefix in ("label", "time") and task:
            kind = "diagnosis" if prefix == "label" else "prognosis"
            yield _Task(task, kind, {split: _outcomes(prepared[split], task, kind) for split in SPLITS})


def _outcomes(rows: Dataset, task: str, kind: str) -> pd.DataFrame:
    """Read the outcomes of a task from the prepared rows of one split.

    Returns:
        One row per admission: id, patient_id and label (diagnosis), or id, patient_id, time in days and event
        (prognosis). An unknown outcome is NaN.
    """
    columns = {"diagnosis": ("label",), "prognosis": ("time", "event")}[kind]
    table = {name: np.array(column(rows, f"{name}_{task}"), dtype=np.float64) for name in columns}
    return pd.DataFrame({"id": column(rows, "id"), "patient_id": column(rows, "patient_id"), **table})


def _steps(
    task: _Task,
    features: Mapping[str, Mapping[str, pd.DataFrame]],
    single: SingleModality | None,
    scored: Mapping[str, Scored],
) -> Iterator[tuple[str, Step]]:
    """Yield the name and the step of every simple model of a task.

    The caller runs each step and puts its scored admissions into `scored` (name of a simple model -> scored
    admissions). The fusions are last, because they use `scored`.
    """
    for simple in SIMPLE_MODELS:
        if simple.kind == task.kind:
            yield simple.name, partial(_fit, simple, features, task.outcomes)
    yield FUSED_SIMPLE, partial(_fuse_simple, single, scored, task)
    yield FUSED_MODEL, partial(_fuse_answers, single, task)


def _fit(
    simple: SimpleModel, features: Mapping[str, Mapping[str, pd.DataFrame]], outcomes: Mapping[str, pd.DataFrame]
) -> tuple[dict[str, Any], Scored]:
    """Fit one simple model.

    Args:
        simple: The simple model.
        features: Name of a feature set -> split -> one row per admission.
        outcomes: Split -> outcomes, see [`_Task`].

    Returns:
        Two elements: {"trained_on": number of admissions, "columns": number of features, "setting": the chosen
        setting}; and "validation" and "test" -> the admissions with features and a known outcome, with a column of
        scores.

    Raises:
        UndefinedFigureError: If the features are missing, or nothing can be fitted.
    """
    if simple.features not in features:
        raise UndefinedFigureError(NO_LVEF if simple.features == "lvef" else NO_MODEL)
    usable = {}
    for split in SPLITS:
        values = features[simple.features][split]
        is_usable = values.notna().any(axis=1) & outcomes[split][KNOWN_IF[simple.kind]].notna()
        usable[split] = values[is_usable], outcomes[split][is_usable].reset_index(drop=True)
    train, train_outcomes = usable["train"]
    _check(train_outcomes, simple.kind)
    columns = train.columns[train.nunique(dropna=False) > 1]
    if columns.empty:
        raise UndefinedFigureError("all training patients have the same values: there is nothing to learn from")
    score, setting = _choose(simple, {split: (x[columns], y) for split, (x, y) in usable.items()})
    about = {"trained_on": len(train), "columns": len(columns), "setting": setting}
    return about, {
        split: with_scores(simple.kind, _scores(score, usable[split][0][columns]), usable[split][1])
        for split in ("validation", "test")
    }


def _fuse_simple(
    single: SingleModality | None, scored: Mapping[str, Scored], task: _Task
) -> tuple[dict[str, Any], Scored]:
    """Fuse the scores of the simple models of `SINGLES` that are in `scored`.

    Returns:
        Two elements: {"of": names of the fused modalities}; and "validation" and "test" -> the admissions that have a
        known outcome and at least one score, with their fused scores.

    Raises:
        UndefinedFigureError: If there is no saved model (`single` is None), or fewer than two models have scores.
    """
    if single is None:
        raise UndefinedFigureError(NO_MODEL)
    parts = {modality: scored[name] for modality, name in SINGLES[task.kind].items() if name in scored}
    answers = {
        split: pd.DataFrame({name: part[split].set_index("id")[SCORE[task.kind]] for name, part in parts.items()})
        for split in ("validation", "test")
    }
    return fuse(task.kind, answers, task.outcomes)


def _fuse_answers(single: SingleModality | None, task: _Task) -> tuple[dict[str, Any], Scored]:
    """Fuse the answers of a saved model to single modalities.

    Returns:
        Two elements: {"of": names of the fused modalities}; and "validation" and "test" -> the admissions that have a
        known outcome and at least one score, with their fused scores.

    Raises:
        UndefinedFigureError: If there is no saved model, or it does not answer this task.
    """
    if single is None:
        raise UndefinedFigureError(NO_MODEL)
    if (task.name, task.kind) not in single.answers:
        raise UndefinedFigureError(f"the model has no {task.kind} {task.name} with two answers")
    return fuse(task.kind, single.answers[task.name, task.kind], task.outcomes)


def _figures(kind: str, scored: Scored, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compute the figures of a simple model on the test admissions.

    Args:
        kind: "diagnosis" or "prognosis".
        scored: "validation" and "test" -> scored admissions. The threshold of a diagnosis and the risk cut of a
            prognosis are chosen on validation.
        bootstrap: Seed and number of resamples.

    Returns:
        The entry of the simple model in `simple_models.json`: number of admissions ("n"), number of patients
        ("patients"), and name of a figure -> its value, with the intervals.
    """
    validation, test = scored["validation"], scored["test"]
    draws = bootstrap_draws(test["patient_id"], test[OUTCOME[kind]], bootstrap.replicates, bootstrap.seed)
    entry: dict[str, Any] = {"n": len(test), "patients": int(test["patient_id"].nunique())}
    if kind == "diagnosis":
        point = choose_operating_point(validation["probability"].to_numpy(), validation["positive"].to_numpy())
        return entry | diagnosis_figures(test, draws, point)
    return entry | prognosis_figures(test, draws, [], None, choose_risk_cut(validation, None))


def _check(outcomes: pd.DataFrame, kind: str) -> None:
    """Raise an UndefinedFigureError if training outcomes have more than two classes or below `FEWEST_EVENTS` events."""
    if kind == "diagnosis":
        if not outcomes["label"].isin((0, 1)).all():
            raise UndefinedFigureError("the task has more than two answers")
        rare, what = int(min((outcomes["label"] == 0).sum(), (outcomes["label"] == 1).sum())), "of the rarer class"
    else:
        rare, what = int((outcomes["event"] == 1).sum()), "with the event"
    if rare < FEWEST_EVENTS:
        raise UndefinedFigureError(f"{rare} training patients {what}, {FEWEST_EVENTS} are needed")


def _choose(simple: SimpleModel, usable: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> tuple[Score, float]:
    """Fit a simple model with each of its settings, and choose one.

    Args:
        simple: The simple model.
        usable: "train" and "validation" -> features and outcomes.

    Returns:
        Two elements: the fitted score (a function from features to scores), and its setting. The setting has the best
        headline figure on validation. If no figure is defined, it is the middle setting.

    Raises:
        UndefinedFigureError: If no setting can be fitted.
    """
    features, outcomes = usable["validation"]
    fits: dict[float, Score] = {}
    figures: dict[float, float] = {}
    for setting in simple.settings:
        try:
            fits[setting] = simple.fit(*usable["train"], setting)
            scores = _scores(fits[setting], features)
            if simple.kind == "diagnosis":
                figures[setting] = auc(scores, outcomes["label"])
            else:
                figures[setting] = c_index(scores, outcomes["time"], outcomes["event"])
        except UndefinedFigureError as error:
            reason = error
    if not fits:
        raise reason
    setting = max(figures, key=lambda each: figures[each]) if figures else list(fits)[len(fits) // 2]
    return fits[setting], setting


def _scores(score: Score, features: pd.DataFrame) -> NDArray:
    """Return the scores (n,) of `features` (n rows). Without rows the result is empty; scikit-learn would raise."""
    return score(features) if len(features) else np.zeros(0)


def table_rows(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of `simple_models.csv`: figures with intervals, or the reason why there are none.

    Args:
        result: The content of `simple_models.json`.

    Returns:
        Two elements: the five column names; and the rows, a list of five texts for each figure of a simple model.
    """
    rows: list[list[str]] = []
    for task, entries in result["tasks"].items():
        for name, entry in entries.items():
            if "missing" in entry:
                rows.append([task, name, "—", "—", entry["missing"]])
            for title, figure in (("AUC", "auc"), ("ACC", "accuracy"), ("C-index", "c_index")):
                if figure in entry:
                    rows.append([task, name, str(entry["n"]), title, text_estimate(entry, figure)])
    return ["Task", "Model", "n", "Metric", "Value (95 % CI)"], rows


def _write(result: Mapping[str, Any], predictions: Sequence[pd.DataFrame], out_dir: Path) -> None:
    if predictions:
        table = pd.concat(predictions, ignore_index=True)
        with whole_file(out_dir / "predictions.parquet") as building:
            table.to_parquet(building, index=False)
    write_text(out_dir / "simple_models.csv", as_csv(*table_rows(result)))
    write_json(out_dir / "simple_models.json", result, allow_nan=False)


def add_old_names(out_dir: Path) -> None:
    """Add the names of version 0.1 to the result of `evaluate_simple_models`: files and the column `baseline`."""
    for suffix in (".csv", ".json"):
        write_text(out_dir / f"baselines{suffix}", (out_dir / f"simple_models{suffix}").read_text(encoding="utf-8"))
    if (path := out_dir / "predictions.parquet").is_file():
        table = pd.read_parquet(path)
        with whole_file(path) as building:
            table.assign(baseline=table["simple_model"]).to_parquet(building, index=False)
