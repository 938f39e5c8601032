"""The figures of metrics.json as tables of text, for the terminal, the HTML page and CSV files."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tgmm_hf.evaluation.headline_figures import HEADLINE, HEADLINE_TITLES, headline_of
from tgmm_hf.evaluation.predictions import whole_subset
from tgmm_hf.evaluation.subgroups import FEWEST_CASES, TITLES, shown_cases, shown_count, shown_counts, shown_parts
from tgmm_hf.utils.names import SUBSET_NAMES

Entries = Mapping[str, Mapping[str, Any]]
"""Subset or direction -> figures: the value of a task in metrics.json."""


CASES = {"auc": "positive", "c_index": "events"}
"""Headline figure -> what its cases are called."""


class Table(NamedTuple):
    """A table of texts: title, column names, and rows of cells. The first cell of a row names the row."""

    title: str
    header: list[str]
    rows: list[list[str]]


def task_kind(entries: Any) -> str | None:
    """Recognise the kind of a task from its value in metrics.json.

    Args:
        entries: A value of metrics.json.

    Returns:
        One of `KINDS`. None if the value does not belong to a task.
    """
    if not isinstance(entries, Mapping):
        return None
    if "labs->ecg" in entries:
        return "retrieval"
    first = entries.get("labs")
    figures = first if isinstance(first, Mapping) else {}
    return next((kind for kind, figure in HEADLINE.items() if figure in figures), None)


def tasks_of(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Entries]]:
    """Yield (name, kind, entries) of every task. `metrics` is the content of metrics.json."""
    for name, entries in metrics.items():
        kind = task_kind(entries)
        if kind is not None:
            yield name, kind, entries


def headline(task: str, kind: str, entries: Entries) -> tuple[str, str]:
    """Write the most important figure of a task, and its details.

    Args:
        task: Name of the task.
        kind: One of `KINDS`.
        entries: Value of the task in metrics.json.

    Returns:
        Two texts such as "hf_diagnosis: AUC 0.896 (0.815 to 0.964)" and "labs+ecg+echo, n = 62, 29 positive; best
        reachable 0.998".
    """
    if kind == "retrieval":
        return _retrieval_headline(task, entries)
    whole = whole_subset(entries)
    entry = entries[whole]
    key = HEADLINE[kind]
    name = HEADLINE_TITLES[key]
    if entry[key] is None:
        return f"{task}: no {name}", str(entry.get(f"{key}_missing"))
    if kind == "prognosis" and entry["events"] < FEWEST_CASES:
        cases = f"{whole}, n = {shown_count(entry['n'])}, {shown_cases(entry)} events"
        return f"{task}: too few events for a {name}", f"{cases}; {FEWEST_CASES} are needed; its value is in the tables"
    interval = "" if entry[f"{key}_ci"] is None else f" ({text_range(entry[f'{key}_ci'])})"
    details = [f"{whole}, n = {shown_count(entry['n'])}{_headline_cases(kind, entry)}"]
    if entry.get(f"bayes_{key}") is not None:
        details.append(f"best reachable {entry[f'bayes_{key}']:.3f}")
    if kind == "diagnosis" and entry["sensitivity"] is not None and entry["specificity"] is not None:
        details.append(
            f"sensitivity {entry['sensitivity']:.2f}, specificity {entry['specificity']:.2f} at the threshold "
            f"{text_threshold(entry, 2)}"
        )
    unit = f" {entry['unit']}" if "unit" in entry else ""
    return f"{task}: {name} {entry[key]:.3f}{interval}{unit}", "; ".join(details)


def _headline_cases(kind: str, entry: Mapping[str, Any]) -> str:
    """Write what stands beside n in a headline: the number of cases, the control, or the number of findings."""
    if kind == "regression":
        control = entry["mae_of_median"]
        return "" if control is None else f"; {control:.3f} with the training median for everybody"
    if kind == "multilabel":
        return f", mean of {entry['macro_findings']} findings"
    return f", {shown_cases(entry)} {'positive' if kind == 'diagnosis' else 'events'}"


def _retrieval_headline(task: str, entries: Entries) -> tuple[str, str]:
    directions = [entry for entry in entries.values() if entry["lrap_3"] is not None]
    if not directions:
        return f"{task}: no figure", "no direction has two patients with both modalities"
    above = sum(entry["lrap_3"] > entry["lrap_3_chance_ci"][1] for entry in directions)
    mean = sum(entry["lrap_3"] for entry in directions) / len(directions)
    return (
        f"{task}: LRAP {mean:.3f} among 3 candidates",
        f"mean of {len(directions)} directions; by lot {directions[0]['lrap_3_chance']:.3f}; "
        f"{above} of {len(directions)} above chance",
    )


def diagnosis_table(task: str, entries: Entries) -> Table:
    """Make the table of AUC, accuracy and optimum by subset. `entries` is the value of `task` in metrics.json."""
    header = ["modalities", "AUC", "95 % CI", "accuracy", "95 % CI", "optimum", "AUC - optimum", "95 % CI", "n"]
    rows = [
        [subset, text_number(e["auc"]), text_range(e["auc_ci"]), text_number(e["accuracy"]),
         text_range(e["accuracy_ci"]), *optimum_cells(e, "auc"), shown_count(e["n"]), shown_cases(e)]
        for subset, e in _by_subset(entries)
    ]  # fmt: skip
    return without_empty_columns(f"{task}: diagnosis", [*header, "positive"], rows)


def decision_table(task: str, entries: Entries) -> Table:
    """Make the table of sensitivity, specificity and predictive values at the threshold, by subset.

    `entries` is the value of `task`, a diagnosis, in metrics.json.
    """
    header = ["modalities", "threshold", "of the unscaled probability", "sensitivity", "specificity", "PPV", "NPV"]
    figures = ("sensitivity", "specificity", "ppv", "npv")
    rows = []
    for subset, e in _by_subset(entries):
        of_model = None if e["temperature"] is None else e["threshold"]["of_model"]
        thresholds = [text_number(e["threshold"]["value"]), text_number(of_model)]
        rows.append([subset, *thresholds, *(text_estimate(e, figure) for figure in figures)])
    points = [e["threshold"] for e in entries.values()]
    rules = dict.fromkeys(f"{point['rule']}, chosen on {point['chosen_on']}" for point in points)
    rule = next(iter(rules)) if len(rules) == 1 else "rules differ, see metrics.json"
    return without_empty_columns(f"{task}: decisions at a threshold ({rule})", header, rows)


def calibration_table(task: str, entries: Entries) -> Table:
    """Make the table of AUPRC, Brier score, calibration and temperature by subset.

    `entries` is the value of `task`, a diagnosis, in metrics.json.
    """
    header = ["modalities", "AUPRC", "Brier score", "of prevalence", "slope", "intercept", "temperature"]
    rows = [
        [subset, text_estimate(e, "auprc"), text_estimate(e, "brier"),
         text_number(e["brier_of_prevalence"]), text_estimate(e, "calibration_slope"),
         text_estimate(e, "calibration_intercept"), text_number(e["temperature"])]
        for subset, e in _by_subset(entries)
    ]  # fmt: skip
    return without_empty_columns(f"{task}: probabilities", header, rows)


def prognosis_table(task: str, entries: Entries) -> Table:
    """Make the table of C-index and optimum by subset. `entries` is the value of `task` in metrics.json."""
    header = ["modalities", "C-index", "95 % CI", "optimum", "C - optimum", "95 % CI", "n", "events", "deaths"]
    rows = [
        [subset, text_number(e["c_index"]), text_range(e["c_index_ci"]), *optimum_cells(e, "c_index"),
         shown_count(e["n"]), shown_cases(e), shown_count(e["deaths"])]
        for subset, e in _by_subset(entries)
    ]  # fmt: skip
    return without_empty_columns(f"{task}: prognosis", header, rows)


def by_day_tables(task: str, entries: Entries) -> Iterator[Table]:
    """Yield a table of Uno's C and the integrated Brier score, and a table of the figures by day.

    A figure that could not be estimated has no row. If there is no figure at all, one table is yielded, with the
    reason.

    Args:
        task: Name of the task.
        entries: Value of the task in metrics.json.
    """
    whole = entries[whole_subset(entries)]
    if all(entry["uno_c_until"] is None for _, entry in _by_subset(entries)):
        title = f"{task}: Uno's C, and figures by day"
        yield Table(title, ["not estimated"], [[str(whole.get("uno_c_missing"))]])
        return
    header = ["modalities", "Uno's C", "95 % CI", "until day", "IBS", "95 % CI", "of incidence"]
    rows = [
        [subset, text_number(e["uno_c"]), text_range(e["uno_c_ci"]), f"{e['uno_c_until']:g}",
         text_number(e["ibs"]), text_range(e["ibs_ci"]), text_number(e["ibs_of_incidence"])]
        for subset, e in _by_subset(entries) if e["uno_c_until"] is not None
    ]  # fmt: skip
    if rows:
        yield without_empty_columns(f"{task}: weighted for censoring", header, rows)
    header = ["modalities", "day", "AUC", "95 % CI", "Brier score", "95 % CI", "of incidence"]
    header += ["predicted", "observed", "95 % CI", "events"]
    rows = [
        [subset, day, text_number(e["auc"]), text_range(e["auc_ci"]), text_number(e["brier"]),
         text_range(e["brier_ci"]), text_number(e.get("brier_of_incidence")), text_number(e["predicted"]),
         text_number(e["observed"]), text_range(e["observed_ci"]), shown_count(e["events"])]
        for subset, entry in _by_subset(entries) for day, e in entry["by_day"].items() if e["auc"] is not None
    ]  # fmt: skip
    if rows:
        yield without_empty_columns(f"{task}: by day", header, rows)


def risk_group_table(task: str, entries: Entries) -> Table:
    """Make the table of patients, events and deaths in both risk groups, and of the log-rank test, by subset.

    `entries` is the value of `task`, a prognosis, in metrics.json.
    """
    header = ["modalities", "higher: n", "events", "deaths", "lower: n", "events", "deaths", "log-rank p"]
    rows = []
    for subset, entry in _by_subset(entries):
        groups = entry["risk_groups"]
        if groups is not None:
            pairs = [
                shown_parts([groups[group][key] for group in ("higher", "lower")]) for key in ("n", "events", "deaths")
            ]
            rows.append([subset, *(texts[side] for side in (0, 1) for texts in pairs), text_p(groups["log_rank_p"])])
    return Table(f"{task}: risk groups", header, rows)


def comparison_table(task: str, comparisons: Mapping[str, Any], kind: str) -> Table:
    """Make the table of differences between all modalities together and every smaller subset.

    Args:
        task: Name of the task.
        comparisons: The result of `compare_subsets`.
        kind: A key of `HEADLINE`.
    """
    key = f"{HEADLINE[kind]}_difference"
    best = {comparisons["best_single"]: " (best single)", comparisons["best_pair"]: " (best pair)"}
    header = ["difference", HEADLINE_TITLES[HEADLINE[kind]], "95 % CI", "DeLong p", "McNemar p", "n"]
    rows = [
        [f"{name}{best.get(name.split(' - ')[1], '')}", text_number(entry[key], "+"),
         text_range(entry[f"{key}_ci"], "+"), text_p(entry.get("delong_p_holm")), text_p(entry.get("mcnemar_p_holm")),
         str(entry["n"])]
        for name, entry in comparisons.items() if isinstance(entry, Mapping)
    ]  # fmt: skip
    return without_empty_columns(f"{task}: what all modalities add, on the same patients", header, rows)


def subgroup_rows(task: str, entries: Sequence[Mapping[str, Any]]) -> Table:
    """Make the table of the figures of every subgroup.

    A group that is too small to be scored has a reason in place of its figure. The size of a group with fewer than
    `SMALLEST_SHOWN` admissions is not shown, and neither is a number of cases below it.

    Args:
        task: Name of the task.
        entries: The result of `subgroup_table`.
    """
    key = headline_of(entries[0])
    is_diagnosis = key == "auc"
    header = ["grouping", "group", "n", CASES.get(key, "cases"), HEADLINE_TITLES[key]]
    further = ("sensitivity", "specificity") if is_diagnosis else ()
    rows = []
    for entry, counts in zip(entries, shown_counts(entries), strict=True):
        figure = text_estimate(entry, key) if entry[key] is not None else entry[f"{key}_missing"]
        cells = [TITLES.get(entry["grouping"], "all"), entry["group"], *counts, figure]
        rows.append([*cells, *(text_estimate(entry, name) for name in further)])
    title = f"{task}: subgroups, each patient scored on all available modalities"
    return without_empty_columns(title, [*header, *further], rows)


def prediction_set_table(task: str, entries: Entries, subgroups: Sequence[Mapping[str, Any]] | None = None) -> Table:
    """Make the table of coverage, size and "cannot say" of the prediction sets, by subset, class and subgroup.

    A table without rows means that the model stores no sets. The size of a small subgroup is not shown.

    Args:
        task: Name of a diagnosis task.
        entries: Value of the task in metrics.json.
        subgroups: The result of `subgroup_table`.
    """
    header = ["level", "modalities", "patients", "n", "coverage", "mean size", "cannot say"]
    rows = []
    for subset, entry in _by_subset(entries):
        for level, figures in entry.get("prediction_sets", {}).items():
            groups = {"all": figures} | figures["by_class"]
            rows += [[level, subset, name, str(each["n"]), *_set_cells(each)] for name, each in groups.items()]
    counts = shown_counts(subgroups) if subgroups else []
    for entry, (number, _) in zip(subgroups or (), counts, strict=True):
        for level, figures in entry.get("prediction_sets", {}).items():
            group = f"{TITLES.get(entry['grouping'], 'all')}: {entry['group']}"
            rows.append([level, "all that a patient has", group, number, *_set_cells(figures)])
    return Table(f"{task}: prediction sets", header, rows)


def _set_cells(figures: Mapping[str, Any]) -> list[str]:
    """Write coverage, mean size and share of "cannot say" with their intervals; "-" where there is no figure."""
    return [text_estimate(figures, name) for name in ("coverage", "size", "cannot_say")]


def retrieval_table(task: str, entries: Entries) -> Table:
    """Make the table of retrieval figures by direction. `entries` is the value of `task` in metrics.json."""
    header = ["direction", "LRAP of 3", "95 % CI", "chance, 95 %", "optimum", "R@1", "R@2"]
    header += ["LRAP of 4", "R@1", "R@2", "LRAP of all", "chance", "n"]
    figures = ("recall_1_3", "recall_2_3", "lrap_4", "recall_1_4", "recall_2_4", "lrap_full")
    rows = [
        [direction, text_number(e["lrap_3"]), text_range(e["lrap_3_ci"]), text_range(e.get("lrap_3_chance_ci")),
         text_number(e.get("bayes_lrap_3_population")),
         *(text_number(e[figure]) for figure in figures),
         text_number(e.get("lrap_full_chance")), str(e["n"])]
        for direction, e in entries.items()
    ]  # fmt: skip
    return without_empty_columns(f"{task}: cross-modal retrieval", header, rows)


def robustness_table(task: str, entries: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Make the table of the headline figure at every level of every perturbation.

    `entries` is the value of `task` in the result of `robustness`: perturbation -> points.
    """
    rows = []
    for name, points in entries.items():
        for point in points:
            key = headline_of(point)
            cells = [name, point["level"], point["subset"], text_number(point[key]), text_range(point[f"{key}_ci"])]
            rows.append([*cells, str(point["n"])])
    return Table(f"{task}: worse inputs", ["change", "level", "modalities", "figure", "95 % CI", "n"], rows)


def as_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a header and rows of cells as the text of a CSV file."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    return buffer.getvalue()


def text_number(value: float | None, sign: str = "") -> str:
    """Write a number with three decimals, None as "-". `sign` may be "+"."""
    return "-" if value is None else f"{value:{sign}.3f}"


def text_range(interval: Sequence[float] | None, sign: str = "") -> str:
    """Write an interval such as "0.815 to 0.964", None as "-". `sign` may be "+"."""
    return "-" if interval is None else f"{interval[0]:{sign}.3f} to {interval[1]:{sign}.3f}"


def text_threshold(entry: Mapping[str, Any], digits: int = 3) -> str:
    """Write a threshold: "0.41", or with a temperature "0.41 of the scaled probability (0.33 of the model's own)".

    Args:
        entry: Figures of a diagnosis under one subset.
        digits: Number of decimals.
    """
    point = entry["threshold"]
    if entry.get("temperature") is None:
        return f"{point['value']:.{digits}f}"
    if "of_model" not in point:  # metrics.json of an earlier version
        return f"{point['value']:.{digits}f} of the scaled probability"
    return f"{point['value']:.{digits}f} of the scaled probability ({point['of_model']:.{digits}f} of the model's own)"


def text_estimate(entry: Mapping[str, Any], figure: str) -> str:
    """Write a figure with its interval, or with the reason why it has none: "0.896 (0.815 to 0.964)".

    Args:
        entry: Figures that hold the figure, its `_ci` and perhaps its `_missing`.
        figure: Name of the figure.
    """
    value, interval = entry.get(figure), entry.get(f"{figure}_ci")
    details = text_range(interval) if interval is not None else entry.get(f"{figure}_missing")
    return text_number(value) if value is None or details is None else f"{text_number(value)} ({details})"


def text_p(p: float | None) -> str:
    """Write a p-value with three decimals, None as "-"."""
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _by_subset(entries: Entries) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((subset, entries[subset]) for subset in SUBSET_NAMES)


def optimum_cells(entry: Mapping[str, Any], key: str) -> list[str]:
    """Write the optimum of a figure, the distance to it and its interval; "-" where it is not known."""
    gap = f"{key}_minus_bayes"
    return [
        text_number(entry.get(f"bayes_{key}")),
        text_number(entry.get(gap), "+"),
        text_range(entry.get(f"{gap}_ci"), "+"),
    ]


def without_empty_columns(title: str, header: list[str], rows: list[list[str]]) -> Table:
    """Make a table without the columns whose cell is "-" in all rows, such as the optimum of real data."""
    kept = [column for column in range(len(header)) if any(row[column] != "-" for row in rows)]
    return Table(title, [header[column] for column in kept], [[row[column] for column in kept] for row in rows])
