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
    "p: DeLong's test of the AUC and the exact McNemar test of the accuracy (first admission of each patient). Each is "
    "adjusted by Holm for the six comparisons of a task.",
    "Retrieval with 3 or 4 candidates is the exact expectation over random negatives. Equal scores count against the "
    "model. The intervals are over queries.",
)


def unmet_warnings(
    task: str, points: Mapping[str, OperatingPoint], sensitivity: float | None, temperature: bool
) -> list[str]:
    """Warn if a sensitivity or a temperature was requested and could not be chosen.

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
    """Warn about each task of metrics.json with few patients, or with few patients of the rarer class or events."""
    warnings = []
    for task, kind, entries in tasks_of(metrics):
        if kind == "retrieval":
            continue
        entry = entries[whole_subset(entries)]
        rare = min(entry["positives"], entry["n"] - entry["positives"]) if kind == "diagnosis" else entry["events"]
        if entry["n"] < SMALL_N or rare < SMALL_CLASS:
            what = "patients in the smaller class" if kind == "diagnosis" else "events"
            warnings.append(
                f"{task}: n = {entry['n']}, {rare} {what}. Below {SMALL_N} / {SMALL_CLASS} percentile intervals are "
                "too narrow: read them as a rough guide."
            )
    return warnings


def figure_warnings(metrics: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Warn about figures that a reader would misread: small samples, no interval, wrong probabilities.

    Args:
        metrics: The figures of all tasks.
        tasks: `config.tasks`.
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
    """Tell whether a Brier score, at any report day or integrated, is larger than the one of the incidence."""
    figures = [(entry["ibs"], entry["ibs_of_incidence"])]
    figures += [(at["brier"], at.get("brier_of_incidence")) for at in entry["by_day"].values()]
    return any(model is not None and constant is not None and model > constant for model, constant in figures)
