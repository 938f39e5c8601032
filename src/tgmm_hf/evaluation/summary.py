"""From predictions to the figures of metrics.json: every task, every modality combination, differences, warnings."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, resampled_auc, resampled_mean
from tgmm_hf.evaluation.predictions import FULL, SUBSETS, Predictions
from tgmm_hf.evaluation.retrieval import DIRECTIONS, evaluate_direction
from tgmm_hf.evaluation.survival import comparable_pairs, resampled_c_index

Figure = Callable[[NDArray], NDArray]  # bootstrap counts (R, n) -> values (R,)

# Below these an interval is wider than about +-0.1 AUC, and a percentile bootstrap is too narrow besides.
SMALL_N = 100
SMALL_CLASS = 30

HEADLINE = {"diagnosis": "auc", "prognosis": "c_index"}
TRUTH_COLUMN = {"diagnosis": "posterior", "prognosis": "risk"}

NOTES = (
    "Intervals: 95 % percentile bootstrap over patients (all rows of a patient drawn together), stratified by outcome. "
    "Stratification keeps the prevalence of this sample: the intervals do not say what another prevalence would give.",
    "They cover the sampling of test patients only, not the choice of the training seed.",
    "An admission without a modality of a combination is not scored under that combination, so n differs between "
    "combinations; comparisons are paired on the admissions that both sides score.",
    "Accuracy takes the candidate of highest likelihood (argmax; for two candidates: probability above 0.5).",
    "C-index: Harrell's; equal scores count one half, two events on one day are not compared, competing deaths are "
    "censored at death.",
    "Retrieval with 3 or 4 candidates is the exact expectation over random negatives, ties counted against the model; "
    "intervals over queries.",
)


def compute_metrics(
    predictions: Predictions,
    kinds: Mapping[str, str],
    *,
    truth: pd.DataFrame | None = None,
    reference: Mapping[str, Any] | None = None,
    seed: int = 0,
    replicates: int = 1000,
) -> dict[str, Any]:
    """All figures of a set of predictions, without files.

    Args:
        predictions: from `collect_predictions`.
        kinds: task name -> "diagnosis" | "prognosis" | "retrieval".
        truth: columns id, ``posterior.<subset>`` (probability of the last candidate given that subset's evidence) and
            ``risk.<subset>`` (oracle risk score).
        reference: content of ``bayes.json``.

    Returns:
        ``{"seed", "bootstrap", <task>: {<subset or direction>: {...}}, "comparisons", "warnings", "notes"}``.
    """
    metrics: dict[str, Any] = {"seed": seed, "bootstrap": replicates, "level": 0.95}
    comparisons: dict[str, Any] = {}
    for task, kind in kinds.items():
        if kind == "retrieval":
            metrics[task] = _retrieval(predictions, seed, replicates)
        else:
            table = predictions.table[predictions.table["task"] == task]
            known = "label" if kind == "diagnosis" else "time"
            table = _with_truth(table[table[known].notna()], truth, kind)
            metrics[task] = {subset: _subset(table, subset, kind, seed, replicates) for subset in SUBSETS}
            comparisons[task] = _comparisons(table, kind, seed, replicates)
        if reference is not None:
            _add_reference(metrics[task], reference.get(task, {}), "test_split")
            _add_reference(metrics[task], reference.get("population", {}).get(task, {}), "population")
    metrics["comparisons"] = comparisons
    metrics["warnings"] = _warnings(metrics, kinds)
    metrics["notes"] = list(NOTES)
    return metrics


def read_optimum(bayes: str | Path) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """Per-patient optimum (``truth.parquet``, None if absent) and the cohort's own reference figures
    (``bayes.json``)."""
    path = Path(bayes)
    if path.is_dir():
        path = path / "bayes.json"
    truth = path.with_name("truth.parquet")
    return (pd.read_parquet(truth) if truth.is_file() else None), json.loads(path.read_text())


def _with_truth(table: pd.DataFrame, truth: pd.DataFrame | None, kind: str) -> pd.DataFrame:
    """Add the column `optimum`: the ideal score of each row under its own subset; NaN where unknown."""
    table = table.copy()
    table["optimum"] = np.nan
    if truth is None:
        return table
    by_id = truth.set_index(truth["id"].astype(str))
    for subset in SUBSETS:
        column = f"{TRUTH_COLUMN[kind]}.{subset}"
        if column in by_id:
            rows = table["subset"] == subset
            table.loc[rows, "optimum"] = by_id[column].reindex(table.loc[rows, "id"]).to_numpy(dtype=np.float64)
    return table


def _subset(table: pd.DataFrame, subset: str, kind: str, seed: int, replicates: int) -> dict[str, Any]:
    rows = table[table["subset"] == subset]
    counts = _counts(rows, kind, seed, replicates)
    entry: dict[str, Any] = {"n": len(rows), "patients": int(rows["patient_id"].nunique())}
    headline = HEADLINE[kind]
    model_figure = _figure(rows, "probability" if kind == "diagnosis" else "risk", kind)
    entry |= estimate(model_figure, counts).entry(headline)
    if kind == "diagnosis":
        right = (rows["predicted"] == rows["label"]).to_numpy()
        entry |= estimate(lambda c: resampled_mean(right, c), counts).entry("accuracy")
        entry["accuracy_of_majority"] = float(rows["label"].value_counts(normalize=True).max()) if len(rows) else None
        entry["positives"] = int(rows["positive"].sum())
        entry["prevalence"] = float(rows["positive"].mean()) if len(rows) else None
        entry["auc_chance"] = 0.5
    else:
        time, event = rows["time"].to_numpy(), rows["event"].to_numpy()
        entry |= {"events": int((event == 1).sum()), "deaths": int((event == 2).sum()), "c_index_chance": 0.5}
        entry["comparable_pairs"] = int(comparable_pairs(time, event).sum())
    entry |= _optimum(rows, kind, seed, replicates)
    return entry


def _optimum(rows: pd.DataFrame, kind: str, seed: int, replicates: int) -> dict[str, Any]:
    """The Bayes optimum on these very rows and the model's paired distance to it; nothing if the optimum is unknown."""
    headline = HEADLINE[kind]
    known = rows[rows["optimum"].notna()]
    if known.empty:
        return {}
    counts = _counts(known, kind, seed, replicates)
    model_figure = _figure(known, "probability" if kind == "diagnosis" else "risk", kind)
    optimal_figure = _figure(known, "optimum", kind)
    entry = estimate(optimal_figure, counts).entry(f"bayes_{headline}")
    entry |= estimate(_difference(model_figure, optimal_figure), counts).entry(f"{headline}_minus_bayes")
    if len(known) < len(rows):
        entry[f"bayes_{headline}_n"] = len(known)
    return entry


def _comparisons(table: pd.DataFrame, kind: str, seed: int, replicates: int) -> dict[str, Any]:
    """Tri-modal minus every other combination, paired on the rows that have all three modalities."""
    headline = HEADLINE[kind]
    column = "probability" if kind == "diagnosis" else "risk"
    full = table[table["subset"] == FULL].sort_values("row")
    counts = _counts(full, kind, seed, replicates)
    result: dict[str, Any] = {}
    for subset in SUBSETS[:-1]:
        other = table[table["subset"] == subset].set_index("row")[column]
        paired = full.assign(other=other.reindex(full["row"]).to_numpy())
        difference = estimate(_difference(_figure(paired, column, kind), _figure(paired, "other", kind)), counts)
        result[f"{FULL} - {subset}"] = {"n": len(full)} | difference.entry(f"{headline}_difference")
    for name, members in (("best_single", SUBSETS[:3]), ("best_pair", SUBSETS[3:6])):
        gaps = {subset: result[f"{FULL} - {subset}"][f"{headline}_difference"] for subset in members}
        result[name] = None if None in gaps.values() else min(gaps, key=lambda subset: gaps[subset])
    return result


def _figure(rows: pd.DataFrame, column: str, kind: str) -> Figure:
    """The task's headline figure of a score column, as a function of bootstrap counts."""
    score = rows[column].to_numpy(dtype=np.float64)
    if kind == "diagnosis":
        positive = rows["positive"].to_numpy()
        return lambda counts: resampled_auc(score, positive, counts)
    time, event = rows["time"].to_numpy(), rows["event"].to_numpy()
    return lambda counts: resampled_c_index(score, time, event, counts)


def _difference(first: Figure, second: Figure) -> Figure:
    return lambda counts: first(counts) - second(counts)


def _counts(rows: pd.DataFrame, kind: str, seed: int, replicates: int) -> NDArray:
    strata = rows["label" if kind == "diagnosis" else "event"]
    return bootstrap_counts(rows["patient_id"].to_numpy(), strata.to_numpy(), replicates, seed)


def _retrieval(predictions: Predictions, seed: int, replicates: int) -> dict[str, Any]:
    result = {}
    for query, target in DIRECTIONS:
        both = predictions.embeds_mask[query] & predictions.embeds_mask[target]
        result[f"{query}->{target}"] = evaluate_direction(
            predictions.embeds[query][both],
            predictions.embeds[target][both],
            predictions.patient_ids[both],
            seed=seed,
            replicates=replicates,
        )
    return result


def _add_reference(by_key: dict[str, Any], reference: Mapping[str, Any], suffix: str) -> None:
    """Add the generator's own reference figures as ``bayes_<figure>_<suffix>``: of other patients than those scored.

    Full-gallery figures are left out: they depend on the size of the gallery, which is another one there.
    """
    for key, figures in reference.items():
        for figure, value in figures.items():
            if value is not None and f"{figure}_ci" in by_key[key] and not figure.endswith("_full"):
                by_key[key][f"bayes_{figure}_{suffix}"] = value


def _warnings(metrics: Mapping[str, Any], kinds: Mapping[str, str]) -> list[str]:
    found = []
    for task, kind in kinds.items():
        if kind == "retrieval":
            continue
        entry = metrics[task][FULL]
        rare = min(entry["positives"], entry["n"] - entry["positives"]) if kind == "diagnosis" else entry["events"]
        if entry["n"] < SMALL_N or rare < SMALL_CLASS:
            what = "patients in the smaller class" if kind == "diagnosis" else "events"
            found.append(
                f"{task}: n = {entry['n']}, {rare} {what}. Below {SMALL_N} / {SMALL_CLASS} percentile intervals are "
                "too narrow: read them as a rough guide."
            )
    return found
