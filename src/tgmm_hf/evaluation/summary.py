"""From predictions to the figures of metrics.json: every task, every modality combination, differences, warnings."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.evaluation.calibration import OperatingPoint, choose_operating_point
from tgmm_hf.evaluation.comparisons import delong_test, holm, mcnemar_test
from tgmm_hf.evaluation.diagnosis import diagnosis_figures
from tgmm_hf.evaluation.metrics import (
    ALL_AGREE,
    UndefinedFigureError,
    bootstrap_counts,
    bootstrap_draws,
    estimate,
    resampled_auc,
)
from tgmm_hf.evaluation.predictions import SUBSETS, Predictions, whole_subset
from tgmm_hf.evaluation.prognosis import choose_risk_cut, prognosis_figures
from tgmm_hf.evaluation.retrieval import DIRECTIONS, evaluate_direction
from tgmm_hf.evaluation.subgroups import subgroup_table
from tgmm_hf.evaluation.survival import resampled_c_index
from tgmm_hf.evaluation.tables import tasks_of

Figure = Callable[[NDArray], NDArray]  # bootstrap counts (R, n) -> values (R,)

# Below these an interval is wider than about +-0.1 AUC, and a percentile bootstrap is too narrow besides.
SMALL_N = 100
SMALL_CLASS = 30

OUTCOME = {"diagnosis": "label", "prognosis": "event"}
HEADLINE = {"diagnosis": "auc", "prognosis": "c_index"}
TRUTH_COLUMN = {"diagnosis": "posterior", "prognosis": "risk"}

NOTES = (
    "Intervals: 95 % percentile bootstrap over patients (all rows of a patient drawn together). Stratified by outcome "
    "for AUC, concordance, sensitivity and specificity; for everything that depends on the prevalence (calibration, "
    "Brier scores, accuracy, predictive values, net benefit, AUPRC, incidence) the prevalence is drawn too. "
    "Where all resamples agree (a sensitivity of 1), the interval is Wilson's.",
    "They cover the sampling of test patients only, not the choice of the training seed.",
    "An admission without a modality of a combination is not scored under that combination, so n differs between "
    "combinations; comparisons are paired on the admissions that both sides score.",
    "Accuracy takes the candidate of highest likelihood (argmax; for two candidates: probability above 0.5). "
    "Sensitivity, specificity and predictive values are at the threshold that is stated beside them.",
    "Calibration: intercept with the slope held at 1 (0 is right), slope (1 is right; below 1 the probabilities are "
    "too extreme).",
    "C-index: Harrell's; equal scores count one half, two events on one day are not compared, competing deaths are "
    "censored at death. Uno's is the same weighted for censoring.",
    "By day: a patient who died without the event by then counts as not having had it; censoring is weighted (IPCW).",
    "p: DeLong's test of the AUC, exact McNemar test of the accuracy (first admission of each patient), each adjusted "
    "by Holm for the six comparisons of a task.",
    "Retrieval with 3 or 4 candidates is the exact expectation over random negatives, ties counted against the model; "
    "intervals over queries.",
)


def compute_metrics(
    predictions: Predictions,
    tasks: Mapping[str, Mapping[str, Any]],
    *,
    validation: Predictions | None = None,
    groups: pd.DataFrame | None = None,
    truth: pd.DataFrame | None = None,
    reference: Mapping[str, Any] | None = None,
    sensitivity: float | None = None,
    temperature: bool = False,
    seed: int = 0,
    replicates: int = 1000,
) -> dict[str, Any]:
    """All figures of a set of predictions, without files. docs/metrics.md lists what is in it.

    Args:
        predictions: from `collect_predictions`.
        tasks: `config.tasks`; `kind` is needed, `report_days` and `baselines` are used.
        validation: predictions of patients that no gradient came from and that are not scored: thresholds,
            temperatures and the cut between risk groups are chosen on them. None: 0.5, none, and the baseline's.
        groups: from `describe_rows`, for the subgroups.
        truth: columns id, ``posterior.<subset>`` (probability of the last candidate given that subset's evidence) and
            ``risk.<subset>`` (oracle risk score).
        reference: content of ``bayes.json``.
        sensitivity: wanted of the threshold; None for Youden's index.
        temperature: whether probabilities are scaled.
    """
    metrics: dict[str, Any] = {"seed": seed, "bootstrap": replicates, "level": 0.95}
    metrics["validation"] = None if validation is None else {"n": len(validation.ids)}
    comparisons: dict[str, Any] = {}
    subgroups: dict[str, Any] = {}
    unmet: list[str] = []
    for task, settings in tasks.items():
        kind = settings["kind"]
        if kind == "retrieval":
            metrics[task] = _retrieval(predictions, seed, replicates)
        else:
            table = _with_truth(_known(predictions, task, kind), truth, kind)
            chosen_on = None if validation is None else _known(validation, task, kind)
            points = _operating_points(chosen_on, sensitivity, temperature) if kind == "diagnosis" else {}
            unmet += _unmet(task, points, sensitivity, temperature)
            metrics[task] = {
                subset: _subset(table, subset, settings, chosen_on, points.get(subset), seed, replicates)
                for subset in SUBSETS
            }
            comparisons[task] = _comparisons(table, kind, whole_subset(metrics[task]), seed, replicates)
            if groups is not None:
                subgroups[task] = subgroup_table(table, kind, groups, points, seed, replicates)
        if reference is not None:
            _add_reference(metrics[task], reference.get(task, {}), "test_split")
            _add_reference(metrics[task], reference.get("population", {}).get(task, {}), "population")
    metrics |= {"comparisons": comparisons, "subgroups": subgroups}
    metrics["warnings"] = unmet + _warnings(metrics, tasks)
    metrics["notes"] = list(NOTES)
    return metrics


def _known(predictions: Predictions, task: str, kind: str) -> pd.DataFrame:
    """The task's predictions of patients whose outcome is known."""
    table = predictions.table[predictions.table["task"] == task]
    return table[table["label" if kind == "diagnosis" else "time"].notna()]


def _operating_points(
    validation: pd.DataFrame | None, sensitivity: float | None, temperature: bool
) -> dict[str, OperatingPoint]:
    if validation is None:
        return dict.fromkeys(SUBSETS, OperatingPoint(chosen_on="nobody: there is no validation split"))
    rows = {subset: validation[validation["subset"] == subset] for subset in SUBSETS}
    return {
        subset: choose_operating_point(
            rows[subset]["probability"].to_numpy(np.float64),
            rows[subset]["positive"].to_numpy(np.float64),
            sensitivity=sensitivity,
            temperature=temperature,
        )
        for subset in SUBSETS
    }


def _unmet(task: str, points: Mapping[str, OperatingPoint], sensitivity: float | None, temperature: bool) -> list[str]:
    """A warning if a sensitivity or a temperature was asked for and could not be chosen."""
    kept: dict[str, list[str]] = {"threshold 0.5": [], "no temperature": []}
    for subset, point in points.items():
        if sensitivity is not None and point.rule == "0.5":
            kept["threshold 0.5"].append(subset)
        if temperature and point.temperature is None:
            kept["no temperature"].append(subset)
    return [
        f"{task}: {what} in place of what was asked for, with {', '.join(subsets)}. Chosen on "
        f"{points[subsets[-1]].chosen_on}."
        for what, subsets in kept.items()
        if subsets
    ]


def read_optimum(bayes: str | Path) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """Per-patient optimum (``truth.parquet``, None if absent) and the cohort's own reference figures
    (``bayes.json``).

    Args:
        bayes: directory of the cohort, or its ``bayes.json``.

    Raises:
        FileNotFoundError: if that is not there.
    """
    path = Path(bayes)
    if path.is_dir():
        path = path / "bayes.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}: the best reachable figures are those of a synthetic cohort, a directory that "
            "`tgmm synth --out` wrote."
        )
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


def _subset(
    table: pd.DataFrame,
    subset: str,
    settings: Mapping[str, Any],
    validation: pd.DataFrame | None,
    point: OperatingPoint | None,
    seed: int,
    replicates: int,
) -> dict[str, Any]:
    rows, kind = table[table["subset"] == subset], settings["kind"]
    draws = bootstrap_draws(rows["patient_id"], rows[OUTCOME[kind]], replicates, seed)
    entry: dict[str, Any] = {"n": len(rows), "patients": int(rows["patient_id"].nunique())}
    if point is not None:
        entry |= diagnosis_figures(rows, draws, point)
    else:
        baseline = (settings.get("baseline_hazards") or {}).get(subset)
        cut = choose_risk_cut(None if validation is None else validation[validation["subset"] == subset], baseline)
        entry |= prognosis_figures(rows, draws, settings.get("report_days") or [], baseline, cut)
    return entry | _optimum(rows, kind, seed, replicates)


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


def _comparisons(table: pd.DataFrame, kind: str, whole: str, seed: int, replicates: int) -> dict[str, Any]:
    """All modalities minus every smaller combination, paired on the rows that have them all."""
    headline = HEADLINE[kind]
    column = "probability" if kind == "diagnosis" else "risk"
    full = table[table["subset"] == whole].sort_values("row")
    counts = _counts(full, kind, seed, replicates)
    others = [subset for subset in SUBSETS if set(subset.split("+")) < set(whole.split("+"))]
    entries: dict[str, dict[str, Any]] = {}
    for subset in others:
        other = table[table["subset"] == subset].set_index("row").reindex(full["row"])
        paired = full.assign(other=other[column].to_numpy(), other_predicted=other["predicted"].to_numpy())
        difference = estimate(_difference(_figure(paired, column, kind), _figure(paired, "other", kind)), counts)
        entries[subset] = {"n": len(full)} | difference.entry(f"{headline}_difference")
        if kind == "diagnosis":
            entries[subset] |= _tests(paired)
    if kind == "diagnosis":
        for test in ("delong_p", "mcnemar_p"):
            for entry, adjusted in zip(entries.values(), holm([e[test] for e in entries.values()]), strict=True):
                entry[f"{test}_holm"] = adjusted
    result: dict[str, Any] = {f"{whole} - {subset}": entry for subset, entry in entries.items()}
    for name, size in (("best_single", 1), ("best_pair", 2)):
        gaps = {s: e[f"{headline}_difference"] for s, e in entries.items() if len(s.split("+")) == size}
        known = None not in gaps.values() and gaps
        result[name] = min(gaps, key=lambda subset: gaps[subset]) if known else None
    return result


def _tests(paired: pd.DataFrame) -> dict[str, Any]:
    """DeLong's test of the AUCs and McNemar's exact one of the accuracies; a test that cannot be made is None."""
    entry: dict[str, Any] = {"delong_z": None, "delong_p": None}
    first, second, positive = (paired[name].to_numpy(np.float64) for name in ("probability", "other", "positive"))
    try:
        delong = delong_test(first, second, positive, paired["patient_id"])
        entry |= {"delong_z": delong.statistic, "delong_p": delong.p}
    except UndefinedFigureError as error:
        entry["delong_missing"] = str(error)
    if paired.empty:
        return entry | {"mcnemar_p": None, "mcnemar_missing": "no rows"}
    one_each = paired.drop_duplicates("patient_id")
    right, other_right = ((one_each[name] == one_each["label"]).to_numpy() for name in ("predicted", "other_predicted"))
    gained, lost, p = mcnemar_test(right, other_right)
    return entry | {"mcnemar_n": len(one_each), "mcnemar_gained": gained, "mcnemar_lost": lost, "mcnemar_p": p}


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
    """Resamples within outcomes, for the headline figures."""
    return bootstrap_counts(rows["patient_id"], rows[OUTCOME[kind]], replicates, seed)


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


def small_sample_warnings(metrics: Mapping[str, Any]) -> list[str]:
    """One sentence for each task with few patients, or few of the rarer class or events, in a metrics.json."""
    found = []
    for task, kind, entries in tasks_of(metrics):
        if kind == "retrieval":
            continue
        entry = entries[whole_subset(entries)]
        rare = min(entry["positives"], entry["n"] - entry["positives"]) if kind == "diagnosis" else entry["events"]
        if entry["n"] < SMALL_N or rare < SMALL_CLASS:
            what = "patients in the smaller class" if kind == "diagnosis" else "events"
            found.append(
                f"{task}: n = {entry['n']}, {rare} {what}. Below {SMALL_N} / {SMALL_CLASS} percentile intervals are "
                "too narrow: read them as a rough guide."
            )
    return found


def _warnings(metrics: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = small_sample_warnings(metrics)
    for task, settings in tasks.items():
        kind = settings["kind"]
        if kind == "retrieval":
            continue
        entry = metrics[task][whole_subset(metrics[task])]
        if kind == "prognosis" and _worse_than_incidence(entry):
            found.append(f"{task}: risks by day are worse than giving everybody the incidence: read the ranks.")
        headline = "auc" if kind == "diagnosis" else "c_index"
        if entry.get(f"{headline}_missing") == ALL_AGREE:
            found.append(
                f"{task}: {headline} is {entry[headline]:g} in every resample, so it has no interval. That is "
                "no certainty: other patients may well be ranked otherwise."
            )
        slope = entry.get("calibration_slope_ci")
        if slope is not None and not slope[0] <= 1 <= slope[1]:
            found.append(
                f"{task}: the probabilities are too {'extreme' if slope[1] < 1 else 'cautious'} (calibration slope "
                f"{entry['calibration_slope']:.2f}, 1 is right): read the ranks, not the percentages."
            )
    return found


def _worse_than_incidence(entry: Mapping[str, Any]) -> bool:
    """Whether a Brier score, at any report day or integrated, is above that of the incidence."""
    figures = [(entry["ibs"], entry["ibs_of_incidence"])]
    figures += [(at["brier"], at.get("brier_of_incidence")) for at in entry["by_day"].values()]
    return any(own is not None and constant is not None and own > constant for own, constant in figures)
