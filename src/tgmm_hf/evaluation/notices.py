"""What a reader must know beside the figures: notes on how they were computed, and warnings about weak figures."""

from collections.abc import Mapping
from typing import Any

from tgmm_hf.evaluation.calibration import OperatingPoint
from tgmm_hf.evaluation.headline_figures import HEADLINE
from tgmm_hf.evaluation.metrics import ALL_AGREE
from tgmm_hf.evaluation.predictions import whole_subset
from tgmm_hf.evaluation.tables import tasks_of

NOT_A_DEVICE = "Research software, not a medical device: no figure here supports a decision about a patient."
SYNTHETIC = "The patients are synthetic: these figures test the software and are no clinical evidence."

# With fewer patients an interval is wider than about +-0.1 AUC, and a percentile bootstrap is too narrow as well.
SMALL_N = 100
SMALL_CLASS = 30

NOTES = (
    "Intervals: 95 % percentile bootstrap over patients (all admissions of a patient are drawn together). For AUC, "
    "concordance, sensitivity and specificity each outcome keeps its number of patients. For figures that depend on "
    "the prevalence (calibration, Brier scores, accuracy, predictive values, net benefit, AUPRC, incidence) the "
    "prevalence is drawn too. If all resamples of a share agree (a sensitivity of 1), the interval is Wilson's.",
    "The intervals cover the sampling of test patients only, not the choice of the training seed.",
    "An admission that lacks a modality of a subset is not scored under that subset, so n differs between subsets. "
    "Comparisons are paired on the admissions that are scored under both subsets.",
    "Accuracy takes the candidate with the highest likelihood (with two candidates: probability above 0.5). "
    "Sensitivity, specificity and predictive values use the threshold that is written beside them.",
    "Calibration: the intercept is fitted with the slope fixed at 1 (0 is right). A slope of 1 is right; below 1 the "
    "probabilities are too extreme.",
    "C-index: Harrell's. Equal scores count one half, two events on one day are not compared, competing deaths are "
    "censored at death. Uno's is the same, weighted for censoring.",
    "By day: a patient who died before that day without the event has not had the event. Censoring is weighted (IPCW).",
    "Regression: errors are in the unit of the task, and answers outside its range are counted as they are. Bias is "
    "model minus measured; limits of agreement are bias plus and minus 1.96 standard deviations of the differences.",
    "Findings: a finding that is not known of a patient does not count for this patient. The macro figures are means "
    "over the findings that are both present and absent.",
    "p: DeLong's test of the AUC and the exact McNemar test of the accuracy (first admission of each patient). Each is "
    "adjusted by Holm for the six comparisons of a task.",
    "Retrieval with 3 or 4 candidates is the exact expectation over random negatives. Equal scores count against the "
    "model. The intervals are over queries.",
)


def unmet_warnings(
    task: str, points: Mapping[str, OperatingPoint], sensitivity: float | None, temperature: bool
) -> list[str]:
    """List warnings about subsets for which a sensitivity or a temperature was requested and could not be chosen.

    Args:
        task: Name of the task.
        points: Subset -> temperature and threshold.
        sensitivity: The requested sensitivity, None for Youden's index.
        temperature: Whether a temperature was requested.
    """
    unmet: dict[str, list[str]] = {"threshold 0.5": [], "no temperature": []}
    for subset, point in points.items():
        if sensitivity is not None and point.rule == "0.5":
            unmet["threshold 0.5"].append(subset)
        if temperature and point.temperature is None:
            unmet["no temperature"].append(subset)
    return [
        f"{task}: {what} in place of what was asked for, with {', '.join(subsets)}. Chosen on "
        f"{points[subsets[-1]].chosen_on}."
        for what, subsets in unmet.items()
        if subsets
    ]


def small_sample_warnings(metrics: Mapping[str, Any]) -> list[str]:
    """List warnings about tasks with few patients, few patients of the rarer class, or few events.

    `metrics` is the content of metrics.json.
    """
    warnings = []
    for task, kind, entries in tasks_of(metrics):
        if kind == "retrieval":
            continue
        entry = entries[whole_subset(entries)]
        rare, what = _rarest(kind, entry)
        if entry["n"] < SMALL_N or rare < SMALL_CLASS:
            warnings.append(
                f"{task}: n = {entry['n']}, {rare} {what}. Below {SMALL_N} / {SMALL_CLASS} percentile intervals are "
                "too narrow: read them as a rough guide."
            )
    return warnings


def _rarest(kind: str, entry: Mapping[str, Any]) -> tuple[int, str]:
    """Count the admissions that bound the precision of an entry's figures, and say what they are."""
    if kind == "regression":
        return entry["n"], "of them with a measured value"
    if kind == "multilabel":
        smaller = [
            min(finding["positives"], finding["n"] - finding["positives"]) for finding in entry["findings"].values()
        ]
        return min(smaller, default=0), "patients in the smallest class of a finding"
    if kind == "diagnosis":
        return min(entry["positives"], entry["n"] - entry["positives"]), "patients in the smaller class"
    return entry["events"], "events"


def _no_better_than_constant(entry: Mapping[str, Any]) -> bool:
    """Tell whether the interval of a regression's gain over the training median reaches 0 or a worse value."""
    interval = entry.get("mae_minus_mae_of_median_ci")
    return interval is not None and interval[1] >= 0


def figure_warnings(metrics: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List warnings about figures that a reader would misread: small samples, no interval, wrong probabilities.

    Args:
        metrics: Task -> subset -> figures.
        tasks: `TgmmConfig.tasks`.
    """
    warnings = small_sample_warnings(metrics)
    for task, settings in tasks.items():
        kind = settings["kind"]
        if kind == "retrieval":
            continue
        entry = metrics[task][whole_subset(metrics[task])]
        if kind == "prognosis" and _worse_than_incidence(entry):
            warnings.append(
                f"{task}: the risks by day are worse than giving everybody the incidence: use the order of the risks, "
                "not their values."
            )
        if kind == "regression" and _no_better_than_constant(entry):
            warnings.append(
                f"{task}: the mean absolute error is not clearly below that of giving everybody the training median."
            )
        if kind == "multilabel" and entry["n"] and entry["macro_left_out"]:
            warnings.append(
                f"{task}: the macro figures leave out {', '.join(entry['macro_left_out'])}, because all or none of the "
                "scored patients have it."
            )
        headline = HEADLINE[kind]
        if entry.get(f"{headline}_missing") == ALL_AGREE:
            warnings.append(
                f"{task}: {headline} is {entry[headline]:g} in every resample, so it has no interval. It is not "
                "certain: other patients may be ranked differently."
            )
        slope = entry.get("calibration_slope_ci")
        if slope is not None and not slope[0] <= 1 <= slope[1]:
            warnings.append(
                f"{task}: the probabilities are too {'extreme' if slope[1] < 1 else 'cautious'} (calibration slope "
                f"{entry['calibration_slope']:.2f}, 1 is right): use their order, not their values."
            )
    return warnings


def _worse_than_incidence(entry: Mapping[str, Any]) -> bool:
    """Tell whether a prognosis has a larger Brier score than a constant prediction of the incidence.

    `entry` holds the figures of one subset. The integrated score and the score of each report day are compared.
    """
    figures = [(entry["ibs"], entry["ibs_of_incidence"])]
    figures += [(at["brier"], at.get("brier_of_incidence")) for at in entry["by_day"].values()]
    return any(model is not None and constant is not None and model > constant for model, constant in figures)
