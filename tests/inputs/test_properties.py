"""Properties that hold for any input: units, lead names, lab rows."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from heart_signal import make_heart
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tgmm_hf.inputs.ecg_recording import NORMALISED, EcgRecording, millivolts_per_unit, normalise_lead_name
from tgmm_hf.inputs.ecg_signal import MAX_INTERPOLATED_SHARE, harmonise_recording, repair_lead
from tgmm_hf.inputs.lab_cells import format_number
from tgmm_hf.inputs.lab_columns import find_column, unit_factors
from tgmm_hf.inputs.lab_table import ALIAS_FACTORS, COLUMNS
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

NUMBER_COLUMNS = [column for column in COLUMNS if column.is_number]
NAMES = [name for column in COLUMNS for name in (column.name, *column.aliases)]
UNITS = [
    (column, column.name, unit)
    for column in NUMBER_COLUMNS
    for unit in unit_factors(column)
    if unit not in column.rare  # a value in such a unit is doubted, see test_lab_units.py
]
UNITS += [(find_column(alias), alias, unit) for alias, (_, factors) in ALIAS_FACTORS.items() for unit in factors]


# ---- laboratory units


@settings(max_examples=100, deadline=None)
@given(choice=st.sampled_from(UNITS), share=st.floats(0, 1))
def test_a_value_means_the_same_in_every_known_unit(choice, share: float) -> None:
    column, name, unit = choice
    low, high = column.usual
    canonical = low + share * (high - low)
    value = (canonical - column.offsets.get(unit, 0)) / unit_factors(column, name)[unit]
    (cell,) = LabsText.from_row({name: (value, unit)}).cells
    assert cell.number == pytest.approx(canonical, rel=1e-9, abs=1e-12)
    assert cell.unit == (column.unit if unit else "") and cell.column is column


@settings(max_examples=50, deadline=None)
@given(choice=st.sampled_from(UNITS), data=st.data())
def test_the_spelling_of_a_unit_does_not_matter(choice, data) -> None:
    column, name, unit = choice
    spelling = data.draw(st.sampled_from([str.upper, str.lower, lambda text: f" {text} ", lambda text: f"{text}"]))
    middle = sum(column.usual) / 2 / unit_factors(column, name)[unit]
    written, plain = (LabsText.from_row({name: (middle, text)}).cells for text in (spelling(unit), unit))
    assert written == plain and len(written) == 1


# ---- lab rows

CELL_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(allow_nan=True),
    st.fractions(),
    st.text(max_size=20),
    st.sampled_from(["<0.01", "1,4", "5 mmol/L", "HEMOLYZED", "___", "F", "1e400", "٣", ">= 2 g/L", ";", "_ _"]),
    st.binary(max_size=3),
    st.dates(),
    st.sampled_from([pd.NA, pd.NaT, np.float32(1.5), np.int64(3), np.bool_(True), np.array([1, 2]), 10**400, 1j]),
)
CELLS = st.one_of(
    CELL_VALUES,
    st.tuples(CELL_VALUES, st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["mmol/L", "g/L", "%"]))),
    st.lists(CELL_VALUES, max_size=3),
)
ROWS = st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=12), st.integers()), CELLS, max_size=4)


@settings(max_examples=200, deadline=None)
@given(row=ROWS)
@example(row={"Sodium": 10**400, "Glucose": Decimal("sNaN"), "zinc": 1e308, "Calcium": (1.7e308, "mmol/L")})
def test_any_row_is_read_or_refused_but_never_raises(row) -> None:
    labs = LabsText.from_row(row).write(flags=True)
    assert all(refusal["item"].startswith("labs.") and refusal["reason"] for refusal in labs.refused)
    assert [*labs.used, *labs.unused] == [cell.name for cell in labs.cells] and not labs.dropped
    assert len(labs.cells) + len(labs.refused) <= len(row)
    assert all(isinstance(note, str) for note in labs.notes)


@settings(max_examples=200, deadline=None)
@given(row=ROWS)
def test_stored_values_give_the_same_text_without_a_second_check(row) -> None:
    labs = LabsText.from_row(row).write(flags=True)
    stored = json.loads(json.dumps(labs.stored_values(), ensure_ascii=False))
    again = LabsText.from_stored(stored).write(flags=True)
    assert again.used == labs.used and again.stored_values() == labs.stored_values()
    assert [cell.sentence("patient") for cell in again.cells] == [cell.sentence("patient") for cell in labs.cells]


@settings(max_examples=100, deadline=None)
@given(value=st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300))
def test_numbers_are_written_without_exponent_to_six_digits(value: float) -> None:
    text = format_number(value)
    assert "e" not in text and float(text) == pytest.approx(value, rel=1e-5, abs=5e-324)


# ---- lead names and units of ECGs


@settings(max_examples=100, deadline=None)
@given(
    lead=st.sampled_from(LEADS),
    prefix=st.sampled_from(["", "Lead ", "ECG ", "ECG Lead ", "MDC_ECG_LEAD_", "lead_"]),
    suffix=st.sampled_from(["", " (Einthoven)", ", augmented voltage", "  "]),
    case=st.sampled_from([str.upper, str.lower, str]),
)
def test_a_lead_is_found_in_any_spelling(lead: str, prefix: str, suffix: str, case) -> None:
    assert normalise_lead_name(f"{prefix}{case(lead)}{suffix}") == lead


@settings(max_examples=100, deadline=None)
@given(name=st.text(max_size=12))
def test_any_text_is_a_lead_or_none(name: str) -> None:
    lead = normalise_lead_name(name)
    spelling = {"I": "1", "II": "2", "III": "3"}.get(lead or "", f"c{(lead or '')[-1:]}")  # "D1", "C1"
    spellings = (lead or "").lower(), spelling, (lead or "")[-2:].lower()  # "aVR" or "VR"
    assert lead is None or (lead in LEADS and any(each in name.lower() for each in spellings))


@settings(max_examples=100, deadline=None)
@given(unit=st.text(max_size=6))
def test_any_text_is_a_voltage_or_refused(unit: str) -> None:
    try:
        assert millivolts_per_unit(unit) > 0
    except ValueError as error:
        assert repr(unit) in str(error)


# ---- ECG repair


@settings(max_examples=50, deadline=None)
@given(
    order=st.permutations(range(12)),
    unit=st.sampled_from(["mV", "uV", "V", "nV"]),
    absent=st.sets(st.sampled_from(range(6)), max_size=4),
)
def test_order_unit_and_absent_limb_leads_do_not_matter(order, unit: str, absent: set[int]) -> None:
    signal = make_heart(500, 100)
    rows = [row for row in order if row not in absent]
    scaled = signal[rows] / millivolts_per_unit(unit)
    ecg = harmonise_recording(EcgRecording(scaled, 100.0, [LEADS[row] for row in rows], unit))
    assert ecg.mask.all() and ecg.sampling_rate == 100.0
    np.testing.assert_allclose(ecg.signal, signal, rtol=1e-9, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(missing=st.lists(st.booleans(), min_size=20, max_size=60), units=st.sampled_from(["mV", NORMALISED]))
def test_a_repaired_lead_has_no_gap(missing: list[bool], units: str) -> None:
    values = np.sin(np.arange(len(missing)))
    values[np.array(missing)] = np.nan
    recording = EcgRecording(values[None], 100.0, ["I"], units)
    lead = repair_lead(values, recording, max_gap_seconds=0.05)
    assert (lead.values is None) == bool(lead.problem)
    if lead.values is not None:
        assert np.isfinite(lead.values).all() and np.mean(missing) <= MAX_INTERPOLATED_SHARE
        assert np.array_equal(lead.values[~np.isnan(values)], values[~np.isnan(values)])


@settings(max_examples=50, deadline=None)
@given(names=st.lists(st.one_of(st.sampled_from(LEADS), st.text(max_size=5)), min_size=1, max_size=12))
def test_any_lead_names_are_used_or_refused(names: list[str]) -> None:
    signal = np.random.default_rng(0).normal(size=(len(names), 200))
    try:
        ecg = harmonise_recording(EcgRecording(signal, 100.0, names), min_leads=1)
    except InputRefusedError as error:
        assert error.reason
    else:
        assert {normalise_lead_name(name) for name in names} <= {LEADS[row] for row in np.flatnonzero(ecg.mask)}
