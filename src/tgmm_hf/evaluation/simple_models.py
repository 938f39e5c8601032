"""`tgmm baselines`: what simple models reach on the same patients. A figure of a large model means little without them.

Logistic regression, gradient boosting and a Cox model on the laboratory row; linear probes of a saved model's frozen
encoders; NT-proBNP or the ejection fraction alone; late fusion of what knows one modality each; and what was measured
alone, without any value: an AUC of that above chance says that the cohort's gaps give the answer away. Fitted on the
train split, their one setting chosen on the validation split, scored on the test split like a model. Needs the extra
`baselines`.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError, ConvergenceWarning
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.decomposition import PCA
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
from tgmm_hf.evaluation.simple_model_features import column, read_features, read_lvef
from tgmm_hf.evaluation.single_modality import SingleModality, read_model
from tgmm_hf.evaluation.survival import c_index
from tgmm_hf.evaluation.tables import as_csv, text_estimate
from tgmm_hf.reports.evaluation_report import write_atomically

SPLITS = ("train", "validation", "test")
TARGETS = {"diagnosis": "label", "prognosis": "time"}
FEWEST_EVENTS = 10
"""Training events, or patients of the rarer class, below which nothing is fitted."""
SMALLEST = float(np.finfo(np.float32).eps)
"""So far probabilities stay from 0 and 1, where log odds are infinite: a model's are float32."""

Score = Callable[[pd.DataFrame], NDArray]  # features -> probability of the positive class, or risk
Fit = Callable[[pd.DataFrame, pd.DataFrame, float], Score]  # features, outcomes, setting -> what scores others
Scored = dict[str, pd.DataFrame]  # "validation" and "test" -> outcomes with scores


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
    return _logistic(_preparation(), features, outcomes, setting)


def fit_logistic_probe(features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """`fit_logistic` on an encoder's summaries, standardised and nothing else."""
    return _logistic((StandardScaler(),), features, outcomes, setting)


def _logistic(steps: Sequence[Any], features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    model = make_pipeline(*steps, LogisticRegression(C=setting, max_iter=5000))
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
    return _cox(_preparation(), features, outcomes, setting)


def fit_cox_probe(features: pd.DataFrame, outcomes: pd.DataFrame, setting: float) -> Score:
    """`fit_cox` on the first principal components of an encoder's standardised summaries; setting: their number.

    Newton's steps on all 768 of an encoder of the paper's size took 40 to 70 s a fit for 1,000 patients.
    """
    components = PCA(min(int(setting), *features.shape), svd_solver="full")
    # a component without variance is rounding error, which the Cox model would put on the scale of the others
    return _cox((StandardScaler(), components, VarianceThreshold(1e-3)), features, outcomes, 0.1)


def _cox(steps: Sequence[Any], features: pd.DataFrame, outcomes: pd.DataFrame, penalty: float) -> Score:
    prepare = Pipeline([(str(i), step) for i, step in enumerate(steps)])
    table = pd.DataFrame(prepare.fit_transform(features)).add_prefix("x")
    table = table.assign(time=outcomes["time"].to_numpy(), event=(outcomes["event"] == 1).to_numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # advice about columns, which the penalty takes care of
        warnings.filterwarnings("error", "Newton-Raphson", ConvergenceWarning)  # where it stopped is no maximum
        try:
            model = CoxPHFitter(penalizer=penalty).fit(table, "time", "event")
        except (ConvergenceError, ConvergenceWarning) as error:
            raise UndefinedFigureError(f"the Cox model did not converge at a penalty of {penalty}") from error
    return lambda others: model.predict_log_partial_hazard(
        pd.DataFrame(prepare.transform(others)).add_prefix("x")
    ).to_numpy()


CS, PENALTIES = (0.01, 0.1, 1.0), (0.01, 0.1, 1.0)
PROBE_CS, COMPONENTS = (0.0001, 0.001, 0.01, 0.1), (2, 4, 8, 16, 32, 64)

RIVAL_FUSIONS = (
    Baseline("logistic regression on labs", "diagnosis", "labs", fit_logistic, CS),
    Baseline("gradient boosting on labs", "diagnosis", "labs", fit_boosting, (25, 100, 300)),
    Baseline("labs text probe", "diagnosis", "labs summary", fit_logistic_probe, PROBE_CS),
    Baseline("ECG probe", "diagnosis", "ecg summary", fit_logistic_probe, PROBE_CS),
    Baseline("echo probe", "diagnosis", "echo summary", fit_logistic_probe, PROBE_CS),
    Baseline("NT-proBNP alone", "diagnosis", "natriuretic", fit_logistic, (1.0,)),
    Baseline("LVEF alone", "diagnosis", "lvef", fit_logistic, (1.0,)),
    Baseline("what was measured", "diagnosis", "presence", fit_logistic, CS),
    Baseline("Cox model on labs", "prognosis", "labs", fit_cox, PENALTIES),
    Baseline("labs text probe", "prognosis", "labs summary", fit_cox_probe, COMPONENTS),
    Baseline("ECG probe", "prognosis", "ecg summary", fit_cox_probe, COMPONENTS),
    Baseline("echo probe", "prognosis", "echo summary", fit_cox_probe, COMPONENTS),
    Baseline("NT-proBNP alone", "prognosis", "natriuretic", fit_cox, (0.01,)),
    Baseline("LVEF alone", "prognosis", "lvef", fit_cox, (0.01,)),
    Baseline("what was measured", "prognosis", "presence", fit_cox, PENALTIES),
)

FUSED_SIMPLE = "late fusion of simple models"
FUSED_MODEL = "late fusion of the model's own answers"
SINGLES = {
    "diagnosis": {"labs": "logistic regression on labs", "ecg": "ECG probe", "echo": "echo probe"},
    "prognosis": {"labs": "Cox model on labs", "ecg": "ECG probe", "echo": "echo probe"},
}
"""The baseline of each modality that `FUSED_SIMPLE` takes the mean of."""

NO_MODEL = "needs --model, a saved model"
NO_LVEF = "needs --lvef, a table with the columns id and lvef: the prepared data hold no ejection fraction"

NOTES = (
    "Fitted on the train split; the one setting of each chosen on the validation split, as is the threshold.",
    "labs: numbers, sex and the words of text cells, with an indicator for each missing one; of patients with labs. "
    "NT-proBNP or LVEF alone: of patients who have it. n differs: compare predictions.parquet, paired by id.",
    "Probes: logistic regression on the frozen encoder's summary, or a Cox model on its first principal components. "
    "The encoder is the model's, as its training with all modalities left it: no encoder trained on one alone.",
    f"{FUSED_SIMPLE.capitalize()}: mean over the modalities a patient has of the log odds, or of the log risks "
    "standardised by mean and deviation on validation, of logistic regression (Cox model) on labs, ECG probe and echo "
    f"probe. {FUSED_MODEL.capitalize()}: the same mean of its answers to labs, to ECG and to echo alone.",
    "what was measured: modalities present, cells named, number of leads and views; no value at all.",
    "Intervals: 95 % percentile bootstrap over patients, drawn as by `tgmm evaluate`.",
)


def evaluate_baselines(
    data_dir: str | Path,
    out_dir: str | Path,
    *,
    model: str | Path | None = None,
    lvef: str | Path | None = None,
    seed: int = 0,
    bootstrap: int = 1000,
    progress: bool = True,
) -> dict[str, Any]:
    """Fit and score every baseline on every task that the data has labels of.

    Writes ``predictions.parquet``, ``baselines.csv`` and, last, ``baselines.json``.

    Args:
        data_dir: prepared data with the splits train, validation and test.
        model: directory or Hub id of a saved `TgmmModel`, whose encoders are probed and whose answers to single
            modalities are fused. Without it these baselines are missing.
        lvef: Parquet or CSV with the columns id and lvef (percent), for the baseline of that name.
        seed: of the bootstrap. bootstrap: number of resamples.

    Returns:
        The content of ``baselines.json``: task -> baseline -> figures, or `missing`, the reason why there are none.

    Raises:
        ValueError: if a split is missing, `lvef` cannot be used, or the model was trained on patients to be scored.
    """
    prepared = load_prepared(data_dir)
    if missing := [split for split in SPLITS if split not in prepared]:
        raise ValueError(f"{data_dir} has no {' and no '.join(missing)} split, it has {list(prepared)}.")
    data_hash = json.loads((Path(data_dir) / "prepare.json").read_text())["data_hash"]
    features = read_features(prepared)
    if lvef is not None:
        features["lvef"] = read_lvef(lvef, prepared)
    known = None if model is None else read_model(model, data_dir, data_hash, prepared, progress)
    if known is not None:
        features |= {f"{modality} summary": found for modality, found in known.summaries.items()}
    record: dict[str, Any] = {
        "data": Path(data_dir).name,
        "data_hash": data_hash,
        "model": None if model is None else str(model),
        "weights": None if known is None else known.weights,
        "seed": seed,
        "bootstrap": bootstrap,
        "tasks": {},
        "notes": list(NOTES),
        "warnings": [] if known is None else known.warnings,
        "versions": {name: version(name) for name in ("tgmm-hf", "scikit-learn", "lifelines", "numpy", "torch")},
    }
    predictions = []
    for task, kind in _tasks(prepared["train"]):
        outcomes = {split: _outcomes(prepared[split], task, kind) for split in SPLITS}
        entries: dict[str, Any] = {}
        scored: dict[str, Scored] = {}
        steps = [(each.name, partial(_fit, each, features, outcomes)) for each in RIVAL_FUSIONS if each.kind == kind]
        # what it fuses has been scored when its turn comes
        steps.append((FUSED_SIMPLE, partial(_fuse_simple, known, scored, outcomes, kind)))
        steps.append((FUSED_MODEL, partial(_fuse_answers, known, task, outcomes, kind)))
        for name, step in steps:
            try:
                about, of_baseline = step()
                entries[name] = about | _figures(kind, of_baseline, seed, bootstrap)
            except UndefinedFigureError as error:
                entries[name] = {"missing": str(error)}
                continue
            scored[name] = of_baseline
            predictions.append(of_baseline["test"].assign(task=task, baseline=name))
        record["tasks"][task] = entries
    _write(record, predictions, Path(out_dir))
    return record


def _tasks(rows: Dataset) -> Iterator[tuple[str, str]]:
    """(task, kind) of the columns of labels."""
    for name in rows.column_names:
        prefix, _, task = name.partition("_")
        if prefix in ("label", "time") and task:
            yield task, "diagnosis" if prefix == "label" else "prognosis"


def _outcomes(rows: Dataset, task: str, kind: str) -> pd.DataFrame:
    """id, patient_id and label, or time and event, of one split; NaN where unknown."""
    columns = {"diagnosis": ("label",), "prognosis": ("time", "event")}[kind]
    table = {name: np.array(column(rows, f"{name}_{task}"), dtype=np.float64) for name in columns}
    return pd.DataFrame({"id": column(rows, "id"), "patient_id": column(rows, "patient_id"), **table})


def _preparation() -> tuple[Any, ...]:
    """Skewed positive numbers on a logarithmic scale; missing is the mean, and an indicator of its own."""
    return (
        FunctionTransformer(np.arcsinh),
        StandardScaler(),
        SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True),
        VarianceThreshold(),
    )


def _fit(
    baseline: Baseline, features: Mapping[str, Mapping[str, pd.DataFrame]], outcomes: Mapping[str, pd.DataFrame]
) -> tuple[dict[str, Any], Scored]:
    """What was fitted, and the scored validation and test admissions."""
    if baseline.features not in features:
        raise UndefinedFigureError(NO_LVEF if baseline.features == "lvef" else NO_MODEL)
    known = {}
    for split in SPLITS:
        given = features[baseline.features][split]
        some = given.notna().any(axis=1) & outcomes[split][TARGETS[baseline.kind]].notna()
        known[split] = given[some], outcomes[split][some].reset_index(drop=True)
    train, of_train = known["train"]
    _check(of_train, baseline.kind)
    columns = train.columns[train.nunique(dropna=False) > 1]
    if columns.empty:
        raise UndefinedFigureError("all training patients are alike in it: there is nothing to learn from")
    score, setting = _choose(baseline, {split: (x[columns], y) for split, (x, y) in known.items()})
    about = {"trained_on": len(train), "columns": len(columns), "setting": setting}
    return about, {
        split: _scored(baseline.kind, _scores(score, known[split][0][columns]), known[split][1])
        for split in ("validation", "test")
    }


def _fuse_simple(
    model: SingleModality | None, scored: Mapping[str, Scored], outcomes: Mapping[str, pd.DataFrame], kind: str
) -> tuple[dict[str, Any], Scored]:
    """Late fusion of the baselines of `SINGLES`, as far as they are there."""
    if model is None:
        raise UndefinedFigureError(NO_MODEL)
    parts = {modality: scored[name] for modality, name in SINGLES[kind].items() if name in scored}
    answer = "probability" if kind == "diagnosis" else "risk"
    answers = {
        split: pd.DataFrame({modality: each[split].set_index("id")[answer] for modality, each in parts.items()})
        for split in ("validation", "test")
    }
    return fuse(kind, answers, outcomes)


def _fuse_answers(
    model: SingleModality | None, task: str, outcomes: Mapping[str, pd.DataFrame], kind: str
) -> tuple[dict[str, Any], Scored]:
    if model is None:
        raise UndefinedFigureError(NO_MODEL)
    if (task, kind) not in model.answers:
        raise UndefinedFigureError(f"the model has no {kind} {task} with two answers")
    return fuse(kind, model.answers[task, kind], outcomes)


def fuse(
    kind: str, answers: Mapping[str, pd.DataFrame], outcomes: Mapping[str, pd.DataFrame]
) -> tuple[dict[str, Any], Scored]:
    """Late fusion: the mean of the log odds or log risks of single modalities over those that an admission has.

    Args:
        kind: "diagnosis" or "prognosis".
        answers: "validation" and "test" -> probabilities, or log risks, one row an admission (index: id), one column a
            modality, NaN where absent. Log risks have no common scale: each column is standardised by its mean and
            standard deviation over the validation admissions of known outcome.
        outcomes: split -> id, patient_id and label, or time and event.

    Returns:
        The modalities that entered (`of`), and the scored admissions of known outcome with any answer.

    Raises:
        UndefinedFigureError: if fewer than two modalities have answers, or one cannot be standardised.
    """
    rows, tables = {}, {}
    for split, found in answers.items():
        known = outcomes[split]
        known = known[known[TARGETS[kind]].notna() & known["id"].isin(found.index[found.notna().any(axis=1)])]
        rows[split], tables[split] = known.reset_index(drop=True), found.reindex(known["id"])
    used = [modality for modality, answer in tables["test"].items() if answer.notna().any()]
    if len(used) < 2:
        raise UndefinedFigureError(f"answers of fewer than two modalities ({', '.join(map(str, used)) or 'none'})")
    if kind == "prognosis":
        mean, deviation = tables["validation"][used].mean(), tables["validation"][used].std()
        if flat := [str(modality) for modality in used if not deviation[modality] > 0]:
            raise UndefinedFigureError(f"no two different validation risks of {', '.join(flat)} to standardise by")
        tables = {split: (table[used] - mean) / deviation for split, table in tables.items()}
    else:
        tables = {split: logit(table[used].clip(SMALLEST, 1 - SMALLEST)) for split, table in tables.items()}
    means = {split: table.mean(axis=1).to_numpy() for split, table in tables.items()}
    scores = {split: expit(mean) if kind == "diagnosis" else mean for split, mean in means.items()}
    return {"of": used}, {split: _scored(kind, scores[split], rows[split]) for split in rows}


def _figures(kind: str, scored: Scored, seed: int, bootstrap: int) -> dict[str, Any]:
    """Figures of the test admissions; threshold and cut between risk groups from the validation admissions."""
    validation, test = scored["validation"], scored["test"]
    strata = test["label" if kind == "diagnosis" else "event"]
    draws = bootstrap_draws(test["patient_id"], strata, bootstrap, seed)
    entry: dict[str, Any] = {"n": len(test), "patients": int(test["patient_id"].nunique())}
    if kind == "diagnosis":
        point = choose_operating_point(validation["probability"].to_numpy(), validation["positive"].to_numpy())
        return entry | diagnosis_figures(test, draws, point)
    return entry | prognosis_figures(test, draws, [], None, choose_risk_cut(validation, None))


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
