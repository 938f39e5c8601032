"""Laboratory columns from MEDS events: the last number of a listed code up to the index time, of this patient only."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.cohorts.meds import add_meds_labs
from tgmm_hf.data.manifest import read_cohort_table

CODES = """code,lab_column,unit
LAB//50912//mg/dL,Creatinine,mg/dL
LOINC/2951-2,Sodium,
LAB//51003//ng/mL,Troponin T,ng/mL
"""
EVENTS: list[tuple[int, str, str, float | None]] = [
    (1, "2150-01-02 08:00", "LAB//50912//mg/dL", 1.1),
    (1, "2150-01-02 11:00", "LAB//50912//mg/dL", 1.4),  # the last before the index time
    (1, "2150-01-02 12:01", "LAB//50912//mg/dL", 9.9),  # after it
    (1, "2150-01-02 12:00", "LOINC/2951-2", 141.0),  # at it
    (1, "2150-01-02 09:00", "LOINC/2951-20", 1.0),  # another code that begins alike
    (1, "2150-01-02 10:00", "LAB//51003//ng/mL", None),  # a text result
    (2, "2150-01-01 11:59", "LAB//50912//mg/dL", 2.0),  # 24 hours and a minute before
    (2, "2150-01-01 12:00", "LOINC/2951-2", 135.0),
    (3, "2150-01-02 11:00", "LAB//50912//mg/dL", 5.0),  # nobody of the table
]


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Path]:
    events = pd.DataFrame(EVENTS, columns=["subject_id", "time", "code", "numeric_value"])
    events["time"] = pd.to_datetime(events["time"])
    for shard, part in events.groupby(events["subject_id"] > 1):
        path = tmp_path / "meds" / "data" / "train" / f"{int(shard)}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        part.to_parquet(path, index=False)
    (tmp_path / "codes.csv").write_text(CODES)
    row = "train,71,2150-01-02T12:00:00"
    (tmp_path / "cohort.csv").write_text(f"id,patient_id,split,labs.age,index_time\na,1,{row}\nb,2,{row}\n")
    return {"table": tmp_path / "cohort.csv", "events": tmp_path / "meds", "codes": tmp_path / "codes.csv"}


def test_the_last_number_before_the_index_time_is_taken(given: dict[str, Any], tmp_path: Path) -> None:
    counts = add_meds_labs(**given, out=tmp_path / "cohort.parquet")
    labs = {row.id: row.labs for row in read_cohort_table(tmp_path / "cohort.parquet").rows}
    assert labs == {
        "a": {"age": "71", "Creatinine": (1.4, "mg/dL"), "Sodium": (141.0, "mEq/L")},
        "b": {"age": "71", "Sodium": (135.0, "mEq/L")},
    }
    assert counts == [
        {"lab_column": "Creatinine", "results": 2, "without_number": 0, "rows": 1, "contradicting": 0},
        {"lab_column": "Sodium", "results": 2, "without_number": 0, "rows": 2, "contradicting": 0},
        {"lab_column": "Troponin T", "results": 1, "without_number": 1, "rows": 0, "contradicting": 0},
    ]


LAST = "2150-01-02 11:00"
TIES = [
    ([(LAST, "LAB//50912//mg/dL", 2.8)], 1),
    ([(LAST, "LAB//50912//umol/L", 248.0)], 1),
    ([(LAST, "LAB//50912//umol/L", 124.0)], 0),  # 1.4 mg/dL
    ([(LAST, "LAB//50912//mg/dL", 1.4)], 0),
    ([(LAST, "LAB//50912//mg/dL", None)], 0),
    ([("2150-01-02 10:59", "LAB//50912//mg/dL", 2.8)], 0),
    ([("2150-01-02 11:30", "LAB//50912//mg/dL", 2.8)], 0),
]


@pytest.mark.parametrize(("events", "rows"), TIES)
def test_two_numbers_of_one_time_are_counted(
    given: dict[str, Any], tmp_path: Path, events: list[tuple[str, str, float | None]], rows: int
) -> None:
    more = pd.DataFrame([(1, *event) for event in events], columns=["subject_id", "time", "code", "numeric_value"])
    more["time"], more["numeric_value"] = pd.to_datetime(more["time"]), more["numeric_value"].astype(float)
    more.to_parquet(tmp_path / "meds" / "data" / "train" / "7.parquet", index=False)
    given["codes"].write_text(CODES + "LAB//50912//umol/L,Creatinine,umol/L\n")
    counts = add_meds_labs(**given, out=tmp_path / "cohort.parquet")
    assert {count["lab_column"]: count["contradicting"] for count in counts}["Creatinine"] == rows
    words = ["add-meds-labs", str(given["table"]), str(given["events"]), "--codes", str(given["codes"])]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "again.parquet")])
    assert result.exit_code == 0 and ("several different numbers" in result.output) == bool(rows)


def test_hours_widens_the_window(given: dict[str, Any], tmp_path: Path) -> None:
    add_meds_labs(**given, out=tmp_path / "cohort.parquet", hours=48)
    labs = {row.id: row.labs for row in read_cohort_table(tmp_path / "cohort.parquet").rows}
    assert labs["b"]["Creatinine"] == (2.0, "mg/dL")


def test_what_is_wrong_is_said(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no Parquet file"):
        add_meds_labs(**(given | {"events": tmp_path / "none"}), out=tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"cohort\.csv: missing column\(s\) code, lab_column"):
        add_meds_labs(**(given | {"codes": given["table"]}), out=tmp_path / "x.parquet")
    given["table"].write_text("id,patient_id,split,labs.Sodium,index_time\na,1,train,140,2150-01-02\n")
    with pytest.raises(ValueError, match=r"has the column\(s\) labs\.Sodium already"):
        add_meds_labs(**given, out=tmp_path / "x.parquet")
    for times in (["2150-01-02T12:00:00Z"] * 2, ["2150-01-02T12:00:00Z", "2150-01-02T12:00:00-05:00"]):
        lines = [f"{row},{row},train,71,{time}" for row, time in enumerate(times)]
        given["table"].write_text("\n".join(["id,patient_id,split,labs.age,index_time", *lines]) + "\n")
        with pytest.raises(ValueError, match="index_time"):
            add_meds_labs(**given, out=tmp_path / "x.parquet")
    given["table"].write_text("id,patient_id,split,labs.age,index_time\na,1,train,71,yesterday\n")
    with pytest.raises(ValueError, match=r"index_time of 1 row\(s\) is no ISO 8601 time, first row 1"):
        add_meds_labs(**given, out=tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()


def test_a_code_that_is_listed_twice_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    given["codes"].write_text("code,lab_column,unit\nX,Glucose,mg/dL\nX,Glucose,mmol/L\n")
    with pytest.raises(ValueError, match="X occurs more than once"):
        add_meds_labs(**given, out=tmp_path / "x.parquet")


def test_an_unknown_unit_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    given["codes"].write_text("code,lab_column,unit\nX,Creatinine,furlong\n")
    with pytest.raises(ValueError, match=r"unit 'furlong' of Creatinine \(X\) is not known"):
        add_meds_labs(**given, out=tmp_path / "x.parquet")


def test_events_with_a_time_zone_are_refused(given: dict[str, Any], tmp_path: Path) -> None:
    shard = next(given["events"].rglob("*.parquet"))
    events = pd.read_parquet(shard)
    events["time"] = events["time"].dt.tz_localize("UTC")
    for path in given["events"].rglob("*.parquet"):
        path.unlink()
    events.to_parquet(shard, index=False)
    with pytest.raises(ValueError, match="expected timestamps without a time zone"):
        add_meds_labs(**given, out=tmp_path / "x.parquet")


def test_command_line_of_add_meds_labs(given: dict[str, Any], tmp_path: Path) -> None:
    command = ["add-meds-labs", str(given["table"]), str(given["events"]), "--codes", str(given["codes"])]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "cohort.parquet")])
    assert result.exit_code == 0 and "Creatinine: 1 rows (2 events)" in result.output
    assert "Troponin T: 0 rows (1 events, 1 without a number)" in result.output
    assert "1.4" not in result.output
