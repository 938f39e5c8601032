"""Properties of whole inputs: the text of a lab row, lead names and cohort tables do not depend on how they are written."""

import csv
import tempfile
from pathlib import Path

import numpy as np
import pytest
from cohort_files import cohort_rows
from heart_signal import make_heart
from hypothesis import given, settings
from hypothesis import strategies as st

from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.inputs.ecg_recording import EcgRecording, normalise_lead_name
from tgmm_hf.inputs.ecg_signal import harmonise_recording
from tgmm_hf.inputs.lab_columns import unit_factors
from tgmm_hf.inputs.lab_letters import may_be_age_and_gender
from tgmm_hf.inputs.lab_table import COLUMNS
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.lab_unit_systems import declare_units
from tgmm_hf.utils.names import LEADS

NUMBERS = [column for column in COLUMNS if column.is_number]


def text_of(row: dict) -> str:
    labs = LabsText.from_row(row).write()
    assert not labs.refused
    return labs.text


@pytest.mark.parametrize("column", NUMBERS, ids=lambda column: column.name)
@settings(max_examples=15, deadline=None)
@given(share=st.floats(0.05, 0.95), digits=st.integers(2, 3))
def test_the_text_does_not_depend_on_the_unit(column, share: float, digits: int) -> None:
    """`value`, `(value, canonical unit)` and `(value in any other unit, that unit)` have one text."""
    low, high = column.reference_range("F") or column.usual
    low, high = max(low, column.usual[0]), min(high, column.usual[1])
    value = float(f"{low + share * (high - low):.{digits}g}")
    if not low <= value <= high:
        return
    plain = text_of(declare_units({column.name: value}, "US"))
    bare = LabsText.from_row({column.name: value}).write()
    assert bare.text == plain or "labs_doubtful_unit" in [check["code"] for check in bare.checks]
    assert bare.text == plain or column.reference_range("F") is None  # a normal value is used
    for unit, factor in unit_factors(column).items():
        other = (value - column.offsets.get(unit, 0.0)) / factor
        assert text_of({column.name: (float(f"{other:.12g}"), unit)}) == plain, unit
        written = f"{other:.12g} {unit}"
        if unit and not (column.name == "age" and may_be_age_and_gender(written)):  # "54 m"
            assert text_of({column.name: written}) == plain, unit


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(range(12)),
    spelling=st.lists(
        st.sampled_from(["{}", "Lead {}", "MDC_ECG_LEAD_{}", " {} ", "ECG {}", "{}, electrode"]),
        min_size=12,
        max_size=12,
    ),
    upper=st.booleans(),
)
def test_leads_are_found_by_name_in_any_order_and_spelling(order, spelling, upper) -> None:
    signal = make_heart(500, 100)
    names = [
        form.format(LEADS[lead].upper() if upper else LEADS[lead]) for form, lead in zip(spelling, order, strict=True)
    ]
    ecg = harmonise_recording(EcgRecording(signal[list(order)], 100.0, names))
    np.testing.assert_allclose(ecg.signal, signal, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(name=st.text(st.characters(codec="utf-8"), max_size=14))
def test_no_text_but_a_leads_name_is_a_lead(name: str) -> None:
    lead = normalise_lead_name(name)
    if lead is not None:
        letters = {sign for sign in name.casefold() if sign.isalnum()}
        assert {sign for sign in lead.casefold() if sign.isdigit()} <= letters or lead in ("I", "II", "III")


def written(folder: Path, rows: list[dict], names: list[str]) -> list[str]:
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return [
        str(sorted(vars(row).items(), key=lambda item: item[0])) for row in read_cohort_table(folder / "t.csv").rows
    ]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_cohort_table_means_the_same_in_any_order_of_columns_and_rows(data) -> None:
    rows = cohort_rows(10)
    names = [name for name in rows[0] if not name.startswith("labs.")]
    rows = [{name: row[name] for name in [*names, "labs.Creatinine"]} | {"unit.NT-proBNP": ""} for row in rows]
    for row in rows:
        del row["unit.NT-proBNP"]
    names = list(rows[0])
    order, turned = data.draw(st.permutations(names)), data.draw(st.permutations(range(10)))
    with tempfile.TemporaryDirectory() as folder:
        plain = written(Path(folder), rows, names)
        again = written(Path(folder), [rows[index] for index in turned], order)
    assert [again[turned.index(index)] for index in range(10)] == plain


@settings(max_examples=60, deadline=None)
@given(cell=st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=30))
def test_any_text_in_a_cell_of_history_changes_only_that_cell(cell: str) -> None:
    rows = [
        {"id": f"a{n}", "patient_id": f"p{n}", "split": "train", "labs.medical history": "none", "labs.Sodium": 140}
        for n in range(3)
    ]
    with tempfile.TemporaryDirectory() as folder:
        plain = written(Path(folder), rows, list(rows[0]))
        rows[1]["labs.medical history"] = cell
        again = written(Path(folder), rows, list(rows[0]))
    assert (again[0], again[2]) == (plain[0], plain[2])
