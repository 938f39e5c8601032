"""Explanations averaged over groups of patients."""

import numpy as np
import pytest

from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.group_averages import ALL, SMALLEST_SHOWN, Explained, average
from tgmm_hf.explanation.verified import FALSE
from tgmm_hf.reports.group_explanations import group_tables


def attribution(modality: str, values: object, *names: tuple[str, ...], note: str = "") -> Attribution:
    array = np.array(values, dtype=float)
    axes = tuple(Axis("name", labels) for labels in names)
    texts = {"task": "hf", "target": "heart failure", "unit": "log-odds", "baseline": "none"}
    method = "slot_attention" if modality == "slots" else "shap"
    return Attribution(
        modality=modality, method=method, values=array, axes=axes, output=1.0, notes=(note,) if note else (), **texts
    )


def patient(number: int, note: str = "") -> Explained:
    """Cell "age" alternates between +1 and -1. Only the first five patients have "Sodium"."""
    age = 1 - 2 * (number % 2)
    cells, values = (("age", "Sodium"), (age, 4)) if number < 5 else (("age",), (age,))
    return Explained(
        "positive",
        (
            attribution("labs", values, cells, note=note),
            attribution("ecg", [[3.0, 0.0], [0.0, -1.0]], ("I", "V1"), ("0", "1")),
            attribution("slots", [[0.5, np.nan]], ("labs",), ("labs", "ecg")),
        ),
    )


def test_means_shares_and_maps_are_those_of_the_patients() -> None:
    figures = average([patient(number) for number in range(SMALLEST_SHOWN)])
    assert figures["n"] == SMALLEST_SHOWN
    assert figures["labs"] == {"age": {"mean": 0.0, "mean_absolute": 1.0, "n": 10}}  # too few have sodium
    assert figures["ecg"] == pytest.approx({"I": 0.75, "V1": 0.25})
    assert figures["slot_attention"]["values"] == [[0.5, None]]
    assert figures["modalities"] == {}


def test_a_small_group_gets_no_average() -> None:
    assert average([patient(number) for number in range(SMALLEST_SHOWN - 1)]) == {"n": SMALLEST_SHOWN - 1}


def test_a_method_that_failed_its_check_is_not_averaged() -> None:
    assert average([patient(number, note=FALSE) for number in range(SMALLEST_SHOWN)])["labs"] == {}


def test_tables_hold_the_means_and_leave_out_empty_parts() -> None:
    groups = {ALL: average([patient(n) for n in range(12)]), "positive": {"n": 3}}
    averages = {"target": "heart failure", "unit": "log-odds", "methods": {"labs": "shap", "ecg": "occlusion"}}
    tables = group_tables("hf", averages | {"groups": groups})
    labs, ecg, slots = tables
    assert labs.rows == [["age", "12", "1.00", "+0.00", ""]]
    assert "too few" in labs.header[-1] and all(len(row) == len(t.header) for t in tables for row in t.rows)
    assert ecg.rows[0][:2] == ["I", "75 %"] and slots.rows == [["labs", "0.50", ""]]
