"""The laboratory table of a patient report: values, marks, and small bars for reference range and contribution."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.inputs.lab_cells import LabCell
from tgmm_hf.inputs.lab_text import LabsText, gender_of
from tgmm_hf.inputs.private_text import NOT_SHOWN, may_be_shown

BAR_WIDTH, BAR_HEIGHT = 120, 14
"""Size of a bar in CSS pixels."""
RANGE_START, RANGE_END = 40, 80
"""Where the reference range begins and ends on its bar, in pixels."""
TEXT_COLUMN_LENGTH = 300
"""Letters. A longer text of a known column, such as a list of drugs, is cut in the table."""


@dataclass(frozen=True)
class LabRow:
    """One cell of the laboratory row, ready for the table.

    Attributes:
        name: column name; the position of the cell if the name may name the patient.
        value: the value, in the canonical unit of a known column.
        unit: "" if the column has none.
        range: reference range in words, "" without one.
        level: "low", "normal", "high", or "" without a number or a range.
        marks: what a reader must know: "converted", "unit assumed", "unknown column", "not used", ...
        contribution: of the cell to the explained answer; None if it was not computed.
        range_bar: SVG, "" without a range, and for a range that is open at one end.
        contribution_bar: SVG, "" without a contribution.
    """

    name: str
    value: str
    unit: str
    range: str
    level: str
    marks: tuple[str, ...]
    contribution: float | None
    range_bar: str = ""
    contribution_bar: str = ""


def lab_rows(labs: LabsText, attribution: Attribution | None = None, show_all_text: bool = False) -> list[LabRow]:
    """List the cells of a laboratory row, in the order of the text that the model reads.

    Args:
        labs: the checked row, after `write`.
        attribution: contributions per cell; None if there are none.
        show_all_text: show names and texts of unknown columns too, which may name the patient.
    """
    contributions = contributions_by_cell(attribution)
    largest = max((abs(value) for value in contributions.values()), default=0.0)
    gender = gender_of(labs.cells)
    return [_row(cell, labs, gender, contributions.get(cell.name), largest, show_all_text) for cell in labs.cells]


def contributions_by_cell(attribution: Attribution | None) -> dict[str, float]:
    """Return name of a cell -> contribution; empty without an attribution per cell."""
    if attribution is None or attribution.axes[0].name != "cell" or attribution.axes[0].labels is None:
        return {}
    values = zip(attribution.axes[0].labels, attribution.values, strict=True)
    return {name: float(value) for name, value in values if np.isfinite(value)}


def _row(
    cell: LabCell, labs: LabsText, gender: str | None, contribution: float | None, largest: float, show_all_text: bool
) -> LabRow:
    """Build the line of one cell. `largest` is the largest absolute contribution, which fills half of the bar."""
    limits = cell.column.reference_range(gender) if cell.column else None
    is_known = cell.column is not None
    shows_name = is_known or show_all_text or may_be_shown(cell.name)
    shows_value = is_known or show_all_text or cell.number is not None or may_be_shown(cell.value)
    value = cell.value if len(cell.value) <= TEXT_COLUMN_LENGTH else f"{cell.value[:TEXT_COLUMN_LENGTH]} ..."
    unit = cell.column.unit if cell.column is not None else cell.unit
    return LabRow(
        name=cell.name if shows_name else f"cell {labs.positions.get(cell.name, '?')} of the row",
        value=value if shows_value else NOT_SHOWN,
        unit=unit if shows_value and not cell.is_text_for_number else "",
        range="" if limits is None else _in_words(limits),
        level=cell.level(gender) or "",
        marks=tuple(_marks(cell, labs)),
        contribution=contribution,
        range_bar=""
        if limits is None or cell.number is None or not np.isfinite(limits).all()
        else range_bar(cell.number, limits),
        contribution_bar="" if contribution is None else contribution_bar(contribution, largest),
    )


def _in_words(limits: tuple[float, float]) -> str:
    """Write a reference range, which may be open at one end."""
    low, high = limits
    if np.isinf(high):
        return f"from {low:g}"
    return f"up to {high:g}" if np.isinf(low) else f"{low:g} to {high:g}"


def _marks(cell: LabCell, labs: LabsText) -> list[str]:
    """List in words what is special about a cell."""
    has_unit = cell.column is not None and bool(cell.column.unit) and not cell.is_text_for_number
    doubts: Mapping[str, bool] = {
        "unknown column": cell.column is None,
        "not used: the model was not trained with it": cell.name in labs.unused,
        "not used: no room in the text": cell.name in labs.dropped,
        "converted from another unit": cell.was_converted,
        "doubtful: came without a unit": bool(cell.other_units),
        "came without a unit": has_unit and not cell.unit and not cell.other_units,
        "text where a number is expected": cell.is_text_for_number,
        "limit of the assay": cell.is_limit,
        f"the laboratory's mark {cell.flag!r} is not used": bool(cell.flag),
        "contradicts another cell": any(
            check["item"] == f"labs.{cell.name}" and check["code"] != "labs_unit_assumed" for check in labs.checks
        ),
    }
    return [text for text, holds in doubts.items() if holds]


def range_bar(value: float, limits: tuple[float, float]) -> str:
    """Draw where a value lies against its reference range.

    The range fills the middle third. A value further away than the width of the range is drawn at the edge, as an
    arrow. The drawing is hidden from screen readers, because the table says the level in words.
    """
    low, high = limits
    width = high - low if high > low else max(abs(high), 1.0)
    place = RANGE_START + (value - low) / width * (RANGE_END - RANGE_START)
    middle = BAR_HEIGHT / 2
    if place < 4:
        marker = f'<path class="marker" d="M1 {middle:g}l7-5v10z"/>'
    elif place > BAR_WIDTH - 4:
        marker = f'<path class="marker" d="M{BAR_WIDTH - 1} {middle:g}l-7-5v10z"/>'
    else:
        marker = f'<circle class="marker" cx="{place:.1f}" cy="{middle:g}" r="4"/>'
    return _bar(
        f'<path class="axis" d="M0 {middle:g}H{BAR_WIDTH}"/>'
        f'<rect class="range" x="{RANGE_START}" y="3" width="{RANGE_END - RANGE_START}" height="{BAR_HEIGHT - 6}"/>'
        f"{marker}"
    )


def contribution_bar(value: float, largest: float) -> str:
    """Draw a contribution: to the right if it speaks for the answer, hatched and to the left if against.

    Args:
        value: the contribution.
        largest: the absolute contribution that fills half of the bar.
    """
    middle = BAR_WIDTH / 2
    length = 0.0 if largest <= 0 else min(abs(value) / largest, 1.0) * (middle - 2)
    kind, left = ("for", middle) if value > 0 else ("against", middle - length)
    return _bar(
        f'<rect class="{kind}" x="{left:.1f}" y="2" width="{length:.1f}" height="{BAR_HEIGHT - 4}"/>'
        f'<path class="axis" d="M{middle:g} 0V{BAR_HEIGHT}"/>'
    )


def _bar(content: str) -> str:
    """Wrap the parts of a bar into an SVG that screen readers skip."""
    return (
        f'<svg class="bar" width="{BAR_WIDTH}" height="{BAR_HEIGHT}" viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}" '
        f'aria-hidden="true">{content}</svg>'
    )
