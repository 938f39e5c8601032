"""The results in a model card: tables for readers, and the entries of the Hub's model index."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from tgmm_hf.evaluation.headline_figures import headline_of
from tgmm_hf.evaluation.measured_tables import finding_table
from tgmm_hf.evaluation.subgroups import SMALLEST_GROUP, TITLES, shown_count, shown_counts
from tgmm_hf.evaluation.tables import CASES, text_estimate, text_threshold
from tgmm_hf.utils.names import MODALITIES, SUBSET_NAMES, join_names

FIGURES = {
    "auc": "AUC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity at the threshold",
    "specificity": "specificity at the threshold",
    "brier": "Brier score",
    "c_index": "C-index",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R2",
    "bias": "bias (model minus measured)",
    "limit_low": "lower limit of agreement",
    "limit_high": "upper limit of agreement",
    "mae_of_mean": "mean absolute error of the training mean",
    "mae_of_median": "mean absolute error of the training median",
    "macro_auc": "macro AUC",
    "macro_auprc": "macro AUPRC",
    "lrap_3": "LRAP, 3 candidates",
    "recall_1_3": "Recall@1, 3 candidates",
    "lrap_full": "LRAP, all candidates",
}
"""Figure of metrics.json -> its name in a card. Other figures do not go into a card."""

WHOLE = join_names(MODALITIES)
"""Subset of all three modalities."""

HEADLINES = ("auc", "c_index", "mae", "macro_auc")
"""Figures of a task with subsets that a card shows for every subset."""

RETRIEVAL = ("lrap_3", "recall_1_3", "lrap_full")
"""Figures of a retrieval that a card shows for every direction."""


def evaluation_results(metrics: Mapping[str, Any]) -> list[EvalResult]:
    """Build the `model-index` entries of a card: one for each task, subset (or direction) and figure of `FIGURES`.

    The Hub joins entries of the same data configuration, whatever their task. So the configuration names the task too.
    `metrics` is the content of metrics.json.
    """
    results = []
    for task, subset, entry in _entries(metrics):
        for figure, title in FIGURES.items():
            if entry.get(figure) is None:
                continue
            interval = entry.get(f"{figure}_ci")
            results.append(
                EvalResult(
                    task_type="other",
                    task_name=f"{task} from {subset}",
                    dataset_type="tgmm-cohort",
                    dataset_name=_dataset_name(metrics),
                    dataset_config=f"{task} from {subset}",
                    dataset_split=metrics.get("split"),
                    dataset_revision=metrics.get("data_hash"),
                    metric_type=figure,
                    metric_name=title if interval is None else f"{title} (95 % CI {_interval(interval)})",
                    metric_value=round(entry[figure], 4),
                    metric_args={"confidence_interval": interval, "n": entry["n"]},
                )
            )
    return results


def results_section(metrics: Mapping[str, Any] | None) -> str:
    """Return the Markdown section on results: tables, thresholds and warnings. `metrics` may be None.

    One table shows the headline figure of all tasks by subset. The figures at the threshold are those of all three
    modalities. All other figures are in the metadata of the card.
    """
    if metrics is None:
        return "## Results\n\nNone were given with this model."
    entries = _entries(metrics)
    lines = [
        f"Split `{metrics.get('split')}` of {_dataset_name(metrics)}, data SHA-256 `{metrics.get('data_hash')}`. 95 % "
        "percentile bootstrap intervals over patients; they do not cover the training seed.",
        *_by_subset_table(entries),
        *_retrieval_table(entries),
    ]
    for task, subset, entry in entries:
        if subset == WHOLE:
            lines += _details(task, entry)
    warnings = [f"\n> {warning}" for warning in metrics.get("warnings", [])]
    return "## Results\n\n" + "\n".join([*lines, *warnings])


def _by_subset_table(entries: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    """Return the lines of the table with one row for each subset, and two columns for each task.

    `entries` is the result of `_entries`. The table is [] if no task has a headline figure.
    """
    scored = {
        (task, subset): (figure, entry)
        for task, subset, entry in entries
        for figure in HEADLINES
        if entry.get(figure) is not None
    }
    titles = {task: FIGURES[figure] for (task, _), (figure, _) in scored.items()}
    if not titles:
        return []
    header = [cell for task, title in titles.items() for cell in (f"{task}: {title} (95 % interval)", "n")]
    lines = ["", f"| subset | {' | '.join(header)} |", "|---" * (len(header) + 1) + "|"]
    for subset in dict.fromkeys(subset for _, subset in scored):
        cells = [subset]
        for task in titles:
            figure, entry = scored.get((task, subset), ("", None))
            cells += ["", ""] if entry is None else [text_estimate(entry, figure), shown_count(entry["n"])]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _retrieval_table(entries: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    """Return the lines of the table with one row for each direction of a retrieval; [] without one."""
    rows = [(task, direction, entry) for task, direction, entry in entries if entry.get("lrap_3") is not None]
    if not rows:
        return []
    header = ["task", "direction", *(FIGURES[figure] for figure in RETRIEVAL), "n"]
    lines = ["", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for task, direction, entry in rows:
        cells = [task, direction, *(text_estimate(entry, name) if name in entry else "" for name in RETRIEVAL)]
        lines.append(f"| {' | '.join([*cells, shown_count(entry['n'])])} |")
    return lines


def _details(task: str, entry: Mapping[str, Any]) -> list[str]:
    """Return lines with the further figures of a task from all three modalities, and its threshold."""
    names = [name for name in FIGURES if name not in (*HEADLINES, *RETRIEVAL) and entry.get(name) is not None]
    lines = []
    if names:
        figures = "; ".join(f"{FIGURES[name]} {text_estimate(entry, name)}" for name in names)
        unit = f" Errors are in {entry['unit']}." if "unit" in entry else ""
        lines += ["", f"{task}, from {WHOLE}: {figures}.{unit}"]
    for cut, figures_of_cut in entry.get("cut_points", {}).items():
        lines += ["", f"{task}, AUC of telling values below {cut}: {text_estimate(figures_of_cut, 'auc')}."]
    for level, figures_of_level in entry.get("prediction_intervals", {}).items():
        coverage, width = (text_estimate(figures_of_level, name) for name in ("coverage", "width"))
        lines += ["", f"{task}, prediction intervals at {level}: coverage {coverage}, mean width {width}."]
    if "findings" in entry:
        table = finding_table(task, dict.fromkeys(SUBSET_NAMES, entry))
        lines += ["", f"| {' | '.join(table.header)} |", "|---" * len(table.header) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in table.rows]
    if "threshold" in entry:
        point = entry["threshold"]
        lines += ["", f"{task}, threshold {text_threshold(entry)}: {point['rule']}, chosen on {point['chosen_on']}."]
    return lines


def subgroup_section(metrics: Mapping[str, Any] | None) -> list[str]:
    """Return the Markdown section on subgroups as a list of one text; [] if `metrics` has no subgroups.

    Numbers of small groups are not shown, because they might identify people.
    """
    if metrics is None or not any(metrics.get("subgroups", {}).values()):
        return []
    lines = [
        "## Subgroups",
        "",
        f"Each patient is scored once, on all modalities that the patient has. Groups under {SMALLEST_GROUP} are not "
        "scored. If only one group of a kind is that small, the next smallest group is not shown either, because the "
        "small number would follow from it by subtraction.",
    ]
    for task, entries in metrics["subgroups"].items():
        figure = headline_of(entries[0])
        cases = "positives" if figure == "auc" else CASES.get(figure, "cases")
        further = ("sensitivity", "specificity") if figure == "auc" else ()
        header = [task, "group", "n", cases, FIGURES[figure], *further]
        lines += ["", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
        for entry, (n, shown) in zip(entries, shown_counts(entries, SMALLEST_GROUP), strict=True):
            cells = [TITLES.get(entry["grouping"], "all"), entry["group"], n, shown]
            lines.append(f"| {' | '.join([*cells, *_subgroup_figures(entry, n, figure, further)])} |")
    return ["\n".join(lines)]


def _subgroup_figures(entry: Mapping[str, Any], shown: str, figure: str, further: Sequence[str]) -> list[str]:
    """Return the cells with the figures of a subgroup, or the reason why they are not shown.

    Args:
        entry: Figures of the group.
        shown: The size of the group, as `shown_counts` writes it.
        figure: Name of the headline figure.
        further: Names of further figures.
    """
    empty = ["" for _ in further]
    if shown == "not shown":
        return ["not shown", *empty]
    if entry["n"] < SMALLEST_GROUP and entry["grouping"] != "all":
        return ["not scored", *empty]
    if entry[figure] is None:
        return [f"not scored: {entry[f'{figure}_missing'].removeprefix('not scored, ')}", *empty]
    return [text_estimate(entry, name) for name in (figure, *further)]


def _entries(metrics: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """List (task, subset or direction, figures) of every scored entry of metrics.json."""
    return [
        (task, subset, entry)
        for task, by_subset in metrics.items()
        if isinstance(by_subset, Mapping)
        for subset, entry in by_subset.items()
        if isinstance(entry, Mapping) and entry.get("n") and any(figure in entry for figure in FIGURES)
    ]


def _dataset_name(metrics: Mapping[str, Any]) -> str:
    """Return the name of the scored data, with "(synthetic patients)" if the patients are synthetic."""
    return f"{Path(metrics.get('data', 'cohort')).name}{' (synthetic patients)' if metrics.get('synthetic') else ''}"


def _interval(bounds: Sequence[float]) -> str:
    """Write an interval as text: "0.815 to 0.964"."""
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"
