"""The figures of metrics.json as tables of text, for the terminal, the page and CSV files."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tgmm_hf.evaluation.predictions import SUBSETS, whole_subset
from tgmm_hf.evaluation.subgroups import FEWEST_CASES, TITLES, shown_counts

Entries = Mapping[str, Mapping[str, Any]]


class Table(NamedTuple):
    """A title, a header, and rows of cells whose first cell names the row."""

    title: str
    header: list[str]
    rows: list[list[str]]


def task_kind(entries: Any) -> str | None:
    """ "diagnosis", "prognosis" or "retrieval" of a value of metrics.json; None if it is not a task's."""
    if not isinstance(entries, Mapping):
        return None
    if "labs->ecg" in entries:
        return "retrieval"
    first = entries.get("labs")
    if isinstance(first, Mapping) and "auc" in first:
        return "diagnosis"
    return "prognosis" if isinstance(first, Mapping) and "c_index" in first else None


def tasks_of(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Entries]]:
    """(name, kind, entries) of every task in metrics.json."""
    for name, entries in metrics.items():
        kind = task_kind(entries)
        if kind is not None:
            yield name, kind, entries


def headline(task: str, kind: str, entries: Entries) -> tuple[str, str]:
    """The one figure of a task that a reader looks for, and what stands behind it.

    "hf_diagnosis: AUC 0.896 (0.815 to 0.964)" and "all modalities, n = 62, 29 positive; best reachable 0.998".
    """
    if kind == "retrieval":
        known = {name: e for name, e in entries.items() if e["lrap_3"] is not None}
        if not known:
            return f"{task}: no figure", "no direction has two patients with both modalities"
        above = sum(e["lrap_3"] > e["lrap_3_chance_ci"][1] for e in known.values())
        mean = sum(e["lrap_3"] for e in known.values()) / len(known)
        chance = next(iter(known.values()))["lrap_3_chance"]
        return (
            f"{task}: LRAP {mean:.3f} among 3 candidates",
            f"mean of {len(known)} directions; by lot {chance:.3f}; {above} of {len(known)} above chance",
        )
    whole = whole_subset(entries)
    entry = entries[whole]
    key, name = ("auc", "AUC") if kind == "diagnosis" else ("c_index", "C-index")
    if entry[key] is None:
        return f"{task}: no {name}", str(entry.get(f"{key}_missing"))
    if kind == "prognosis" and entry["events"] < FEWEST_CASES:
        cases = f"{whole}, n = {entry['n']}, {entry['events']} events"
        return f"{task}: too few events for a {name}", f"{cases}; {FEWEST_CASES} are needed; its value is in the tables"
    interval = "" if entry[f"{key}_ci"] is None else f" ({text_range(entry[f'{key}_ci'])})"
    cases = f"{entry['positives']} positive" if kind == "diagnosis" else f"{entry['events']} events"
    behind = [f"{whole}, n = {entry['n']}, {cases}"]
    if entry.get(f"bayes_{key}") is not None:
        behind.append(f"best reachable {entry[f'bayes_{key}']:.3f}")
    if kind == "diagnosis" and entry["sensitivity"] is not None and entry["specificity"] is not None:
        behind.append(
            f"sensitivity {entry['sensitivity']:.2f}, specificity {entry['specificity']:.2f} at the threshold "
            f"{text_threshold(entry, 2)}"
        )
    return f"{task}: {name} {entry[key]:.3f}{interval}", "; ".join(behind)


def diagnosis_table(task: str, entries: Entries) -> Table:
    header = ["modalities", "AUC", "95 % CI", "accuracy", "95 % CI", "optimum", "AUC - optimum", "95 % CI", "n"]
    rows = [
        [subset, text_number(e["auc"]), text_range(e["auc_ci"]), text_number(e["accuracy"]),
         text_range(e["accuracy_ci"]), *_optimum_cells(e, "auc"), str(e["n"]), str(e["positives"])]
        for subset, e in _by_subset(entries)
    ]  # fmt: skip
    return _without_empty_columns(f"{task}: diagnosis", [*header, "positive"], rows)


def decision_table(task: str, entries: Entries) -> Table:
    """Sensitivity, specificity and predictive values at each combination's threshold."""
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
    return _without_empty_columns(f"{task}: decisions at a threshold ({rule})", header, rows)


def calibration_table(task: str, entries: Entries) -> Table:
    header = ["modalities", "AUPRC", "Brier score", "of prevalence", "slope", "intercept", "temperature"]
    rows = [
        [subset, text_estimate(e, "auprc"), text_estimate(e, "brier"),
         text_number(e["brier_of_prevalence"]), text_estimate(e, "calibration_slope"),
         text_estimate(e, "calibration_intercept"), text_number(e["temperature"])]
        for subset, e in _by_subset(entries)
    ]  # fmt: skip
    return _without_empty_columns(f"{task}: probabilities", header, rows)


def prognosis_table(task: str, entries: Entries) -> Table:
    header = ["modalities", "C-index", "95 % CI", "optimum", "C - optimum", "95 % CI", "n", "events", "deaths"]
    rows = [
        [subset, text_number(e["c_index"]), text_range(e["c_index_ci"]), *_optimum_cells(e, "c_index"),
         str(e["n"]), str(e["events"]), str(e["deaths"])]
        for subset, e in _by_subset(entries)
    ]  # fmt: skip
    return _without_empty_columns(f"{task}: prognosis", header, rows)


def by_day_tables(task: str, entries: Entries) -> Iterator[Table]:
    """Uno's C and the integrated Brier score, then AUC, Brier score, and predicted against observed by day; what could
    not be estimated is left out, with a reason if it is everything."""
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
        yield _without_empty_columns(f"{task}: weighted for censoring", header, rows)
    header = ["modalities", "day", "AUC", "95 % CI", "Brier score", "95 % CI", "of incidence"]
    header += ["predicted", "observed", "95 % CI", "events"]
    rows = [
        [subset, day, text_number(e["auc"]), text_range(e["auc_ci"]), text_number(e["brier"]),
         text_range(e["brier_ci"]), text_number(e.get("brier_of_incidence")), text_number(e["predicted"]),
         text_number(e["observed"]), text_range(e["observed_ci"]), str(e["events"])]
        for subset, entry in _by_subset(entries) for day, e in entry["by_day"].items() if e["auc"] is not None
    ]  # fmt: skip
    if rows:
        yield _without_empty_columns(f"{task}: by day", header, rows)


def risk_group_table(task: str, entries: Entries) -> Table:
    header = ["modalities", "higher: n", "events", "deaths", "lower: n", "events", "deaths", "log-rank p"]
    rows = []
    for subset, entry in _by_subset(entries):
        groups = entry["risk_groups"]
        if groups is not None:
            counts = [str(groups[group][key]) for group in ("higher", "lower") for key in ("n", "events", "deaths")]
            rows.append([subset, *counts, text_p(groups["log_rank_p"])])
    return Table(f"{task}: risk groups", header, rows)


def comparison_table(task: str, comparisons: Mapping[str, Any], kind: str) -> Table:
    key = "auc_difference" if kind == "diagnosis" else "c_index_difference"
    best = {comparisons["best_single"]: " (best single)", comparisons["best_pair"]: " (best pair)"}
    header = ["difference", "AUC" if kind == "diagnosis" else "C-index", "95 % CI", "DeLong p", "McNemar p", "n"]
    rows = [
        [f"{name}{best.get(name.split(' - ')[1], '')}", text_number(entry[key], "+"),
         text_range(entry[f"{key}_ci"], "+"), text_p(entry.get("delong_p_holm")), text_p(entry.get("mcnemar_p_holm")),
         str(entry["n"])]
        for name, entry in comparisons.items() if isinstance(entry, Mapping)
    ]  # fmt: skip
    return _without_empty_columns(f"{task}: what all modalities add, on the same patients", header, rows)


def subgroup_rows(task: str, entries: Sequence[Mapping[str, Any]]) -> Table:
    """Figures by subgroup; a group too small to be scored says so, a smaller one not even its numbers."""
    diagnosis = "auc" in entries[0]
    key = "auc" if diagnosis else "c_index"
    header = ["grouping", "group", "n", "positive" if diagnosis else "events", "AUC" if diagnosis else "C-index"]
    others = ("sensitivity", "specificity") if diagnosis else ()
    rows = []
    for entry, counts in zip(entries, shown_counts(entries), strict=True):
        figure = text_estimate(entry, key) if entry[key] is not None else entry[f"{key}_missing"]
        cells = [TITLES.get(entry["grouping"], "all"), entry["group"], *counts, figure]
        rows.append([*cells, *(text_estimate(entry, other) for other in others)])
    return Table(f"{task}: subgroups, each patient scored on all the modalities there are", [*header, *others], rows)


def retrieval_table(task: str, entries: Entries) -> Table:
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
    return _without_empty_columns(f"{task}: cross-modal retrieval", header, rows)


def robustness_table(task: str, entries: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    rows = []
    for name, points in entries.items():
        for point in points:
            key = "auc" if "auc" in point else "c_index"
            cells = [name, point["level"], point["subset"], text_number(point[key]), text_range(point[f"{key}_ci"])]
            rows.append([*cells, str(point["n"])])
    return Table(f"{task}: worse inputs", ["change", "level", "modalities", "figure", "95 % CI", "n"], rows)


def as_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    return buffer.getvalue()


def text_number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def text_range(interval: Sequence[float] | None, sign: str = "") -> str:
    return "-" if interval is None else f"{interval[0]:{sign}.3f} to {interval[1]:{sign}.3f}"


def text_threshold(entry: Mapping[str, Any], digits: int = 3) -> str:
    """ "0.41", or with a temperature "0.41 of the scaled probability (0.33 of the model's own)" """
    point = entry["threshold"]
    if entry.get("temperature") is None:
        return f"{point['value']:.{digits}f}"
    if "of_model" not in point:  # written before it was stored
        return f"{point['value']:.{digits}f} of the scaled probability"
    return f"{point['value']:.{digits}f} of the scaled probability ({point['of_model']:.{digits}f} of the model's own)"


def text_estimate(entry: Mapping[str, Any], figure: str) -> str:
    """ "0.896 (0.815 to 0.964)", or "0.896 (why there is no interval)" """
    value, interval = entry.get(figure), entry.get(f"{figure}_ci")
    behind = text_range(interval) if interval is not None else entry.get(f"{figure}_missing")
    return text_number(value) if value is None or behind is None else f"{text_number(value)} ({behind})"


def text_p(p: float | None) -> str:
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _by_subset(entries: Entries) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((subset, entries[subset]) for subset in SUBSETS)


def _optimum_cells(entry: Mapping[str, Any], key: str) -> list[str]:
    gap = f"{key}_minus_bayes"
    return [
        text_number(entry.get(f"bayes_{key}")),
        text_number(entry.get(gap), "+"),
        text_range(entry.get(f"{gap}_ci"), "+"),
    ]


def _without_empty_columns(title: str, header: list[str], rows: list[list[str]]) -> Table:
    """Drop columns that say nothing in any row (the optimum, on real data)."""
    kept = [column for column in range(len(header)) if any(row[column] != "-" for row in rows)]
    return Table(title, [header[column] for column in kept], [[row[column] for column in kept] for row in rows])
