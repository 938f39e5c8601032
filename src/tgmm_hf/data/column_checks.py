"""Doubts about whole laboratory columns, such as sodium that holds chloride because of a wrong column map.

Chloride 102 is a possible sodium of one patient. A cohort whose typical sodium is 102 does not exist.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tgmm_hf.data.lab_rows import stored_labs
from tgmm_hf.data.manifest import CohortRow
from tgmm_hf.inputs.lab_cells import CellRefusedError, LabCell, read_cell
from tgmm_hf.inputs.lab_columns import COLUMN_POSITION, find_column
from tgmm_hf.inputs.lab_table import COLUMNS, LabColumn, Range

MIN_CELLS = 10
"""A column with fewer numbers is not judged."""
STEADY_COLUMNS = (
    *("Sodium", "Potassium", "Chloride", "Bicarbonate", "Anion Gap", "Calcium, Total", "Magnesium", "Phosphate"),
    *("Hemoglobin", "Hematocrit", "Red Blood Cells", "MCV", "MCH", "MCHC", "RDW", "Albumin"),
)
"""Columns whose median in a cohort of sick adults lies near the reference range."""
BEYOND_REFERENCE = 0.5
"""Share of the width of the reference range by which the median of a steady column may lie outside of it."""
SAMPLE = 2000
"""Largest number of rows that a prediction looks at, because the rows are parsed once more for it."""

MAX_YEARS = 30
"""Largest difference of the ages in the rows of one patient. Few hospitals keep records for longer."""

Numbers = dict[str, list[float]]
"""Column -> its numbers in the canonical unit, of all patients."""


def add_cells(numbers: Numbers, cells: Iterable[LabCell]) -> None:
    """Add the numbers of a patient's cells to `numbers`, in place. Limits such as "<0.01" are left out."""
    for cell in cells:
        if cell.column is not None and cell.number is not None and not cell.is_limit:
            numbers.setdefault(cell.name, []).append(cell.number)


def numbers_of(datasets: Iterable[Any]) -> Numbers:
    """Collect the numbers of the laboratory rows of prepared splits."""
    numbers: Numbers = {}
    for dataset in datasets:
        for row in dataset.with_format(None).select_columns("labs"):
            for name, stored in stored_labs(row).items():
                value = stored[0] if isinstance(stored, list) else stored
                if name in COLUMN_POSITION and isinstance(value, int | float):
                    numbers.setdefault(name, []).append(float(value))
    return numbers


def column_doubts(numbers: Mapping[str, list[float]]) -> list[str]:
    """Name the columns whose median does not fit adults in a hospital.

    Args:
        numbers: Column -> its numbers in the canonical unit, of all patients.

    Returns:
        One sentence for each such column, in the order of the columns. It holds the median of all patients.
    """
    doubts = []
    for column in COLUMNS:
        values = numbers.get(column.name, [])
        if not column.is_number or len(values) < MIN_CELLS:
            continue
        low, high = _range_of_medians(column)
        median = statistics.median(values)
        if not low <= median <= high:
            doubts.append(
                f"{column.name}: the median of {len(values)} values is {median:.4g}, but {low:.4g} to {high:.4g} "
                f"{column.unit} is expected of a cohort of adults. Compare the column with its name, its unit and the "
                "column map."
            )
    return doubts


def person_doubts(rows: Iterable[CohortRow]) -> list[str]:
    """Say that rows of one patient have two genders, or ages that one life in a hospital does not span.

    Args:
        rows: Rows of a cohort table.

    Returns:
        At most one sentence for the genders and one for the ages, without ids and values.
    """
    genders: dict[str, set[str]] = defaultdict(set)
    ages: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, raw in row.labs.items():
            column = find_column(name)
            if column is None or column.name not in ("gender", "age"):
                continue
            try:
                cell = read_cell(name, raw)
            except CellRefusedError:
                continue
            if cell is not None and column.name == "gender":
                genders[row.patient_id].add(cell.value)
            elif cell is not None and cell.number is not None:
                ages[row.patient_id].append(cell.number)
    two = sum(len(values) > 1 for values in genders.values())
    apart = sum(max(values) - min(values) > MAX_YEARS for values in ages.values())
    number = "patient(s) have rows with"
    advice = "is patient_id right, or did a column slip?"
    doubts = [f"{two} {number} different genders: {advice}"] if two else []
    if apart:
        doubts.append(f"{apart} {number} ages more than {MAX_YEARS} years apart: {advice}")
    return doubts


def _range_of_medians(column: LabColumn) -> Range:
    """Compute the range in which the median of a column lies: the usual range, or nearer to the reference range."""
    if column.name not in STEADY_COLUMNS:
        return column.usual
    ranges = [limits for limits in map(column.reference_range, ("F", "M")) if limits is not None]
    low, high = min(limits[0] for limits in ranges), max(limits[1] for limits in ranges)
    beyond = BEYOND_REFERENCE * (high - low)
    return max(low - beyond, column.usual[0]), min(high + beyond, column.usual[1])
