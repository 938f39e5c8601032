"""`tgmm baselines`: what simple models reach on the same patients. A figure of a large model means little without them.

Logistic regression, gradient boosting and a Cox model on the laboratory row; NT-proBNP alone; and what was measured
alone, without any value: an AUC of that above chance says that the cohort's gaps give the answer away. Fitted on the
train split, their one setting chosen on the validation split, scored on the test split like a model. Needs the extra
`baselines`.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.calibration import choose_operating_point
from tgmm_hf.evaluation.diagnosis import diagnosis_figures
from tgmm_hf.evaluation.metrics import UndefinedFigureError, auc, bootstrap_draws
from tgmm_hf.evaluation.prognosis import choose_risk_cut, prognosis_figures
from tgmm_hf.evaluation.report import write_atomically
from tgmm_hf.evaluation.survival import c_index
from tgmm_hf.evaluation.tables import as_csv, text_estimate
from tgmm_hf.labs_tgmm import read_cells

SPLITS = ("train", "validation", "test")
NATRIURETIC = "NTproBNP"
WORD_SHARE = 0.02
"""A word of the text cells (history, drugs) becomes a column if this share of the training rows with labs has it."""
FEWEST_EVENTS = 10
"""Training events, or patients of the rarer class, below which nothing is fitted."""

Score = Callable[[pd.DataFrame], NDArray]  # features -> probability of the positive class, or risk
Fit = Callable[[pd.DataFrame, pd.DataFrame, float], Score]  # features, outcomes, setting -> what scores others


@dataclass(frozen=True)
class Baseline:
    """A simple model: `features` names a column set of `read_features`, `settings` what validation chooses from."""

    name: str
    kind: str
    features: str
    fit: Fit
    settings: tuple[float, ...]


def fit_logistic(features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """Logistic regression with an L2 penalty; setting: its inverse strength C."""
    model = make_pipeline(*_preparation(), LogisticRegression(C=setting, max_iter=5000))
    model.fit(features, outcomes["label"])
    return lambda others: model.predict_proba(others)[:, 1]


def fit_boosting(features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """Gradient boosting on trees of 8 leaves, missing values as they are; setting: number of trees."""
    model = HistGradientBoostingClassifier(
        learning_rate=0.05, max_leaf_nodes=8, max_iter=int(setting), early_stopping=False, random_state=0
    )
    model.fit(features, outcomes["label"])
    return lambda others: model.predict_proba(others)[:, 1]


def fit_cox(features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """Cox model of the event's own hazard, deaths censored; setting: L2 penalty."""
    prepare = Pipeline([(str(i), step) for i, step in enumerate(_preparation())])
    table = pd.DataFrame(prepare.fit_transform(features)).add_prefix("x")
    table = table.assign(time=outcomes["time"].to_numpy(), event=(outcomes["event"] == 1).to_numpy())
    try:
        model = CoxPHFitter(penalizer=setting).fit(table, "time", "event")
    except ConvergenceError as error:
        raise UndefinedFigureError(f"the Cox model did not converge at a penalty of {setting}") from error
    return lambda others: model.predict_log_partial_hazard(
        pd.DataFrame(prepare.transform(others)).add_prefix("x")
    ).to_numpy()


BASELINES = (
    Baseline("logistic regression on labs", "diagnosis", "labs", fit_logistic, (0.01, 0.1, 1.0)),
    Baseline("gradient boosting on labs", "diagnosis", "labs", fit_boosting, (25, 100, 300)),
    Baseline("NT-proBNP alone", "diagnosis", "natriuretic", fit_logistic, (1.0,)),
    Baseline("what was measured", "diagnosis", "presence", fit_logistic, (0.01, 0.1, 1.0)),
    Baseline("Cox model on labs", "prognosis", "labs", fit_cox, (0.01, 0.1, 1.0)),
    Baseline("NT-proBNP alone", "prognosis", "natriuretic", fit_cox, (0.01,)),
    Baseline("what was measured", "prognosis", "presence", fit_cox, (0.01, 0.1, 1.0)),
)

NOTES = (
    "Fitted on the train split; the one setting of each chosen on the validation split, as is the threshold.",
    "labs: numbers, sex and the words of text cells, with an indicator for each missing one; of patients with labs. "
    "NT-proBNP alone: of patients who have it. n differs: compare predictions.parquet, paired by id.",
    "what was measured: modalities present, cells named, number of leads and views; no value at all.",
    "Intervals: 95 % percentile bootstrap over patients, drawn as by `tgmm evaluate`.",
)


def evaluate_baselines(
    data_dir: str | Path, out_dir: str | Path, *, seed: int = 0, bootstrap: int = 1000
) -> dict[str, Any]:
    """Fit and score every baseline on every task that the data has labels of.

    Writes ``predictions.parquet``, ``baselines.csv`` and, last, ``baselines.json``.

    Args:
        data_dir: prepared data with the splits train, validation and test.
        seed: of the bootstrap. bootstrap: number of resamples.

    Returns:
        The content of ``baselines.json``: task -> baseline -> figures, or `missing`, the reason why there are none.
    """
    prepared = load_prepared(data_dir)
    if missing := [split for split in SPLITS if split not in prepared]:
        raise ValueError(f"{data_dir} has no {' and no '.join(missing)} split, it has {list(prepared)}.")
    rows = {split: prepared[split] for split in SPLITS}
    features = read_features(rows)
    record: dict[str, Any] = {
        "data": Path(data_dir).name,
        "data_hash": json.loads((Path(data_dir) / "prepare.json").read_text())["data_hash"],
        "seed": seed,
        "bootstrap": bootstrap,
        "tasks": {},
        "notes": list(NOTES),
        "versions": {name: version(name) for name in ("tgmm-hf", "scikit-learn", "lifelines", "numpy")},
    }
    predictions = []
    for task, kind in _tasks(rows["train"]):
        outcomes = {split: _outcomes(rows[split], task, kind) for split in SPLITS}
        record["tasks"][task] = {}
        for baseline in (each for each in BASELINES if each.kind == kind):
            try:
                entry, scored = _evaluate(baseline, features, outcomes, seed, bootstrap)
                predictions.append(scored.assign(task=task, baseline=baseline.name))
            except UndefinedFigureError as error:
                entry = {"missing": str(error)}
            record["tasks"][task][baseline.name] = entry
    _write(record, predictions, Path(out_dir))
    return record


def read_features(rows: Mapping[str, Dataset]) -> dict[str, dict[str, pd.DataFrame]]:
    """Column set -> split -> one row an admission, in order; NaN where there is nothing.

    "labs": numbers in canonical units, `female`, and 0 or 1 for each common word of the training rows' text cells; an
    admission without labs is all NaN. "natriuretic": NT-proBNP. "presence": what was measured.
    """
    cells = {split: [_cells(labs) for labs in _column(rows[split], "labs")] for split in rows}
    names = sorted({name for numbers, _ in cells["train"] for name in numbers})
    texts = [set(words) for numbers, words in cells["train"] if numbers or words]
    counts = Counter(word for words in texts for word in words)
    common = sorted(word for word, count in counts.items() if count >= max(2, WORD_SHARE * len(texts)))
    found: dict[str, dict[str, pd.DataFrame]] = {"labs": {}, "natriuretic": {}, "presence": {}}
    for split, of_rows in cells.items():
        numbers = pd.DataFrame([each for each, _ in of_rows], columns=names, dtype=np.float64)
        words = pd.DataFrame([[float(word in each) for word in common] for _, each in of_rows], columns=common)
        given = np.array([bool(each or text) for each, text in of_rows])
        words = words.add_prefix("word ").where(pd.Series(given), np.nan)
        found["labs"][split] = pd.concat([numbers, words], axis=1)
        natriuretic = numbers[NATRIURETIC] if NATRIURETIC in numbers else pd.Series(np.nan, index=numbers.index)
        found["natriuretic"][split] = natriuretic.to_frame(NATRIURETIC)
        presence = numbers.notna().astype(float).add_prefix("has ")
        found["presence"][split] = presence.assign(
            labs=given,
            leads=[sum(mask) for mask in _column(rows[split], "ecg_mask")],
            views=[len(views) for views in _column(rows[split], "clip_views")],
        ).astype(float)
    return found


def _cells(labs: str) -> tuple[dict[str, float], set[str]]:
    """Numbers by column and the words of the text cells of one laboratory row."""
    numbers: dict[str, float] = {}
    words: set[str] = set()
    for cell in read_cells(json.loads(labs))[0] if labs else ():
        if cell.name == "gender":
            numbers["female"] = float(cell.value == "F")
        elif cell.number is not None:
            numbers[cell.name] = cell.number
        else:
            words |= set(re.findall(r"\w+", cell.value.casefold()))
    return numbers, words


def _column(rows: Dataset, name: str) -> list[Any]:
    return list(rows.select_columns([name]).with_format(None)[name])


def _tasks(rows: Dataset) -> Iterator[tuple[str, str]]:
    """(task, kind) of the columns of labels."""
    for column in rows.column_names:
        prefix, _, task = column.partition("_")
        if prefix in ("label", "time") and task:
            yield task, "diagnosis" if prefix == "label" else "prognosis"


def _outcomes(rows: Dataset, task: str, kind: str) -> pd.DataFrame:
    """id, patient_id and label, or time and event, of one split; NaN where unknown."""
    columns = {"diagnosis": ("label",), "prognosis": ("time", "event")}[kind]
    table = {name: np.array(_column(rows, f"{name}_{task}"), dtype=np.float64) for name in columns}
    return pd.DataFrame({"id": _column(rows, "id"), "patient_id": _column(rows, "patient_id"), **table})


def _preparation() -> tuple[Any, ...]:
    """Skewed positive numbers on a logarithmic scale; missing is the mean, and an indicator of its own."""
    return (
        FunctionTransformer(np.arcsinh),
        StandardScaler(),
        SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True),
        VarianceThreshold(),
    )


def _evaluate(
    baseline: Baseline,
    features: Mapping[str, Mapping[str, pd.DataFrame]],
    outcomes: Mapping[str, pd.DataFrame],
    seed: int,
    bootstrap: int,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Figures of one baseline on one task, and its scored test admissions."""
    target = "label" if baseline.kind == "diagnosis" else "time"
    known = {}
    for split in SPLITS:
        some = features[baseline.features][split].notna().any(axis=1) & outcomes[split][target].notna()
        known[split] = features[baseline.features][split][some], outcomes[split][some].reset_index(drop=True)
    train, of_train = known["train"]
    _check(of_train, baseline.kind)
    columns = train.columns[train.nunique(dropna=False) > 1]
    if columns.empty:
        raise UndefinedFigureError("all training patients are alike in it: there is nothing to learn from")
    score, setting = _choose(baseline, {split: (x[columns], y) for split, (x, y) in known.items()})
    validation, scored = (
        _scored(baseline.kind, _scores(score, known[split][0][columns]), known[split][1])
        for split in ("validation", "test")
    )
    strata = scored["label" if baseline.kind == "diagnosis" else "event"]
    draws = bootstrap_draws(scored["patient_id"], strata, bootstrap, seed)
    entry: dict[str, Any] = {
        "n": len(scored),
        "patients": int(scored["patient_id"].nunique()),
        "trained_on": len(train),
    }
    entry |= {"columns": len(columns), "setting": setting}
    if baseline.kind == "diagnosis":
        point = choose_operating_point(validation["probability"].to_numpy(), validation["positive"].to_numpy())
        return entry | diagnosis_figures(scored, draws, point), scored
    return entry | prognosis_figures(scored, draws, [], None, choose_risk_cut(validation, None)), scored


def _check(outcomes: pd.DataFrame, kind: str) -> None:
    if kind == "diagnosis":
        if not outcomes["label"].isin((0, 1)).all():
            raise UndefinedFigureError("the task has more than two answers")
        rare, what = int(min((outcomes["label"] == 0).sum(), (outcomes["label"] == 1).sum())), "of the rarer class"
    else:
        rare, what = int((outcomes["event"] == 1).sum()), "with the event"
    if rare < FEWEST_EVENTS:
        raise UndefinedFigureError(f"{rare} training patients {what}, {FEWEST_EVENTS} are needed")


def _choose(baseline: Baseline, known: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> tuple[Score, float]:
    """The fit with the best headline figure on validation; where that has none, of the middle setting."""
    features, outcomes = known["validation"]
    fits: dict[float, Score] = {}
    figures: dict[float, float] = {}
    for setting in baseline.settings:
        try:
            fits[setting] = baseline.fit(*known["train"], setting)
            scores = _scores(fits[setting], features)
            if baseline.kind == "diagnosis":
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
    """Scores of any number of admissions; scikit-learn takes no empty tables."""
    return score(features) if len(features) else np.zeros(0)


def _scored(kind: str, scores: NDArray, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Outcomes with the columns that the figures of a model are computed from."""
    if kind == "prognosis":
        return outcomes.assign(risk=scores)
    return outcomes.assign(probability=scores, predicted=(scores > 0.5).astype(int), positive=outcomes["label"])


def table_rows(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of ``baselines.csv``: the figures with their intervals, or the reason why there are none."""
    rows: list[list[str]] = []
    for task, entries in record["tasks"].items():
        for name, entry in entries.items():
            if "missing" in entry:
                rows.append([task, name, "—", "—", entry["missing"]])
            for title, figure in (("AUC", "auc"), ("ACC", "accuracy"), ("C-index", "c_index")):
                if figure in entry:
                    rows.append([task, name, str(entry["n"]), title, text_estimate(entry, figure)])
    return ["Task", "Model", "n", "Metric", "Value (95 % CI)"], rows


def _write(record: Mapping[str, Any], predictions: Sequence[pd.DataFrame], out_dir: Path) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    if predictions:
        table = pd.concat(predictions, ignore_index=True)
        write_atomically(out_dir / "predictions.parquet", lambda path: table.to_parquet(path, index=False))
    text = as_csv(*table_rows(record))
    write_atomically(out_dir / "baselines.csv", lambda path: path.write_text(text))
    content = json.dumps(record, indent=1, allow_nan=False) + "\n"
    write_atomically(out_dir / "baselines.json", lambda path: path.write_text(content))
