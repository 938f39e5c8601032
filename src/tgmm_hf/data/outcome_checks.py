"""Doubts about the outcomes of a cohort that can be told before any work: one class only, times that are no days."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tgmm_hf.data.manifest import CohortRow, CohortTable

EVENT_CODE = 1
"""Code of an event, in the column event.<task>."""
LONG_FOLLOW_UP = 30 * 365.25
"""Days. A longer follow-up is doubted, because hospitals' data bases are not so old."""
HOURS_OF_A_YEAR = (8760, 8766, 8784)
"""A longest follow-up of one of these numbers of "days" is one year in hours: 365, 365.25 and 366 days."""
MIN_TIMES = 10
"""Smallest number of different times. If all of them are multiples of 24, they are taken for hours. It is also the
smallest number of times of a split that is compared with the other splits."""
OTHER_UNITS = {"months or hours": (18, 60), "years": (200, 700)}
"""Unit -> factors between it and days, widened because two splits are never equal: 30.4 or 24, and 365."""
MEDIAN_MARGIN = 2
"""The medians may differ by this factor more, because early events make the median of a small split uncertain."""


def validation_doubt(task: str, kind: str, values: Iterable[Any], candidates: int = 2) -> str | None:
    """Say that no figure of a task can be computed on the validation split.

    Args:
        task: Name of the task.
        kind: "diagnosis" or "prognosis"; another kind gives no doubt here.
        values: Labels (index of the right candidate) or events of the validation patients. None is skipped.
        candidates: Number of candidates of a diagnosis. The last one counts as positive.

    Returns:
        The doubt in a sentence, or None. A split without any value gives one too.
    """
    if kind not in ("diagnosis", "prognosis"):
        return None
    present = [int(value) for value in values if value is not None]
    if kind == "prognosis":
        if any(value == EVENT_CODE for value in present):
            return None
        return (
            f"validation split: {task} has no event among {len(present)} patients, so no C-index can be computed. Put "
            "patients with an event into it."
        )
    positives = sum(value == candidates - 1 for value in present)
    if 0 < positives < len(present):
        return None
    return (
        f"validation split: {task} needs both classes, but {positives} of {len(present)} patients are positive, so no "
        "AUC can be computed and no best epoch chosen by it. Put patients of both classes into it."
    )


def outcome_doubts(table: CohortTable, tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List the doubts about the outcomes of a cohort table.

    Args:
        table: The table.
        tasks: Tasks of the model.

    Returns:
        One sentence for each task whose validation split allows no figure, and for each prognosis whose times may not
        be days, in all splits or in one.
    """
    doubts = []
    by_split = table.splits()
    validation = by_split.get("validation", [])
    for task, kind in table.tasks.items():
        if validation:
            values = [(row.labels if kind == "diagnosis" else row.events).get(task) for row in validation]
            doubts.append(measured_doubt(task, kind, validation))
            doubts.append(validation_doubt(task, kind, values, len(tasks[task].get("candidates", ()))))
        if kind == "prognosis":
            days = tasks[task].get("report_days") or [tasks[task]["horizon_days"]]
            times = [row.times[task] for row in table.rows if task in row.times]
            doubts += [_short_times(task, times, min(days)), _times_in_hours(task, times)]
            splits = {split: [row.times[task] for row in rows if task in row.times] for split, rows in by_split.items()}
            doubts += split_unit_doubts(task, splits)
    return [doubt for doubt in doubts if doubt is not None]


def outcome_codes(task: str, kind: str, rows: Sequence[CohortRow]) -> list[Any]:
    """List what is counted of the known outcomes of a task: labels, events, "given", or "<finding> <0 or 1>"."""
    if kind == "regression":
        return ["given" for row in rows if task in row.values]
    if kind == "multilabel":
        return [f"{finding} {code}" for row in rows for finding, code in row.findings.get(task, {}).items()]
    outcomes = [(row.labels if kind == "diagnosis" else row.events) for row in rows]
    return [of_row[task] for of_row in outcomes if task in of_row]


def measured_doubt(task: str, kind: str, rows: Sequence[CohortRow]) -> str | None:
    """Say that the validation rows define no figure of a regression or multilabel; None for another kind."""
    if kind == "regression":
        return value_doubt(task, [row.values.get(task) for row in rows])
    if kind == "multilabel":
        return findings_doubt(task, [row.findings.get(task, {}) for row in rows])
    return None


def value_doubt(task: str, values: Iterable[float | None]) -> str | None:
    """Say that fewer than two different values of a regression are known on the validation split."""
    number = len({value for value in values if value is not None})
    if number > 1:
        return None
    return (
        f"validation split: {task} needs two different values, but {number} is known, so no figure can be computed. "
        "Put patients with values into it."
    )


def findings_doubt(task: str, rows: Iterable[Mapping[str, int]]) -> str | None:
    """Say that no finding of a multilabel is both present and absent on the validation split."""
    codes: dict[str, set[int]] = {}
    for row in rows:
        for finding, code in row.items():
            codes.setdefault(finding, set()).add(code)
    if any(len(of_finding) > 1 for of_finding in codes.values()):
        return None
    return (
        f"validation split: no finding of {task} is both present and absent among its patients, so no AUC can be "
        "computed. Put patients with and without a finding into it."
    )


def _short_times(task: str, times: list[float], first_day: float) -> str | None:
    """Say that the longest time of a prognosis is below the first report day (years or months instead of days)."""
    if not times or max(times) >= first_day:
        return None
    return (
        f"time.{task}: the longest follow-up is {max(times):g} days, below the first report day ({first_day:g}). Times "
        "are days. Are these months or years?"
    )


def _times_in_hours(task: str, times: list[float]) -> str | None:
    """Say that the times of a prognosis look like hours (or minutes) instead of days."""
    longest, different = max(times, default=0.0), {time for time in times if time > 0}
    if longest > LONG_FOLLOW_UP:
        reason = f"the longest follow-up is {longest:g} days, which are {longest / 365.25:.0f} years"
    elif longest in HOURS_OF_A_YEAR:
        reason = f"the longest follow-up is {longest:g}, which is one year in hours"
    elif len(different) >= MIN_TIMES and all(time % 24 == 0 for time in different):
        reason = f"all {len(different)} different times are multiples of 24"
    else:
        return None
    return f"time.{task}: {reason}. Times are days. Are these hours?"


def split_unit_doubts(task: str, splits: Mapping[str, Sequence[float]]) -> list[str]:
    """Name the splits whose times may have another unit than those of every other split.

    The 90th percentile has to differ by the factor of a unit, and the median roughly too. The median alone may be the
    time of an early death in one split, and the end of the follow-up in another.

    Each other split is compared by itself. If the others were pooled, a large split in a wrong unit would make the
    small right ones differ from the rest.

    Args:
        task: Name of the prognosis.
        splits: Split -> times of its rows.
    """
    middles = {
        split: (statistics.median(times), _high(times)) for split, times in splits.items() if len(times) >= MIN_TIMES
    }
    doubts = []
    for split, of_split in middles.items():
        rest = [values for name, values in middles.items() if name != split]
        if not rest or any(value <= 0 for values in (of_split, *rest) for value in values):
            continue
        for unit, factors in OTHER_UNITS.items():
            for word, pairs in (
                ("longer", [(of_split, values) for values in rest]),
                ("shorter", [(values, of_split) for values in rest]),
            ):
                if all(_differ_by(factors, longer, shorter) for longer, shorter in pairs):
                    ratio = statistics.median(longer[1] / shorter[1] for longer, shorter in pairs)
                    doubts.append(
                        f"time.{task}: the follow-up of the split {split} is {ratio:.0f} times {word} than that of the "
                        f"other splits (90th percentile). Times are days in all splits. Are they {unit} in one split?"
                    )
    return doubts


def _differ_by(factors: tuple[float, float], longer: tuple[float, float], shorter: tuple[float, float]) -> bool:
    """Tell whether two splits, as (median, 90th percentile), differ by a factor between the two `factors`."""
    low, high = factors
    median, upper = (a / b for a, b in zip(longer, shorter, strict=True))
    return low <= upper <= high and low / MEDIAN_MARGIN <= median <= high * MEDIAN_MARGIN


def _high(times: Sequence[float]) -> float:
    """Compute the 90th percentile."""
    return statistics.quantiles(times, n=10)[-1]
