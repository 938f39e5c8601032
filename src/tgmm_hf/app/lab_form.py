"""Fields of the form for laboratory values, from the table of columns."""

import math
from typing import Any

import gradio as gr

from tgmm_hf.inputs.lab_cells import format_number
from tgmm_hf.inputs.lab_table import COLUMNS, LabColumn, Range

FIRST_COLUMNS = 15
"""Number of columns that the form shows at once. They are the most important ones, because `COLUMNS` is sorted."""
SEX = {"F": "women", "M": "men"}


def form_columns(processor: Any) -> list[LabColumn]:
    """List the columns that the model was trained with, in the order of the table; all columns if it does not say."""
    trained_columns = getattr(processor, "labs_columns", None)
    return [column for column in COLUMNS if trained_columns is None or column.name in trained_columns]


def field_of(column: LabColumn) -> Any:
    """Build the field of one column."""
    if column.name == "gender":
        return gr.Dropdown([("not given", ""), ("female", "F"), ("male", "M")], value="", label="gender", min_width=200)
    label = f"{column.name} ({column.unit})" if column.unit else column.name
    return gr.Textbox(label=label, info=range_text(column), max_lines=1, min_width=200, autoscroll=False)


def range_text(column: LabColumn) -> str | None:
    """Write the reference range of a column, or the possible one, and another unit that a value may have."""
    if not column.is_number:
        return "words, separated by commas" if "history" in column.name else None
    if column.name == "age":
        return None
    parts = []
    if isinstance(column.normal, dict):
        parts.append(
            "reference " + ", ".join(f"{SEX[sex]} {_between(limits)}" for sex, limits in column.normal.items())
        )
    elif column.normal is not None:
        parts.append(f"reference {_between(column.normal)}")
    elif column.plausible is not None:
        parts.append(f"possible {_between(column.plausible)}")
    if column.factors:
        parts.append(f"or in {next(iter(column.factors))}")
    return "; ".join(parts)


def _between(limits: Range) -> str:
    """Write a range: "0.4 to 1.1", "at least 40"."""
    low, high = limits
    return f"at least {format_number(low)}" if math.isinf(high) else f"{format_number(low)} to {format_number(high)}"
