"""`tgmm join-cohorts`: units, paths and ids of the joined tables."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run

from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.data.table_files import declare_units_of_table


def write(path: Path, first: int, units: str | None, **columns: list) -> Path:
    """Write a cohort table of two patients."""
    ids = [str(first), str(first + 1)]
    table = pa.table({"id": ids, "patient_id": [f"p{name}" for name in ids], "split": ["train", "test"], **columns})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table if units is None else declare_units_of_table(table, units), path)
    return path


def test_numbers_keep_the_units_of_their_own_table(tmp_path: Path) -> None:
    us = write(tmp_path / "us" / "cohort.parquet", 1, "US", **{"labs.Creatinine": [1.4, None]})
    si = write(tmp_path / "si" / "cohort.parquet", 3, "SI", **{"labs.Creatinine": [124, 80]})
    assert run("join-cohorts", us, si, "--out", tmp_path / "joined.parquet") == 0
    rows = read_cohort_table(tmp_path / "joined.parquet").rows
    assert [row.labs.get("Creatinine") for row in rows] == [(1.4, "mg/dL"), None, (124.0, "umol/L"), (80.0, "umol/L")]


def test_paths_start_from_the_joined_table(tmp_path: Path) -> None:
    a = write(tmp_path / "a" / "c.parquet", 1, "US", ecg_path=["ecg/1", None], echo_paths=[["e/1.dcm"], []])
    csv = tmp_path / "b" / "c.csv"
    csv.parent.mkdir()
    csv.write_text("id,patient_id,split,ecg_path,echo_paths,echo_views\n9,9,train,ecg/9,e/1.dcm;e/2.dcm,A4C;\n")
    assert run("join-cohorts", a, csv, "--out", tmp_path / "joined.parquet") == 0
    rows = read_cohort_table(tmp_path / "joined.parquet").rows
    assert [row.ecg_path for row in rows] == ["a/ecg/1", None, "b/ecg/9"]
    assert [list(row.echo_paths) for row in rows] == [["a/e/1.dcm"], [], ["b/e/1.dcm", "b/e/2.dcm"]]
    assert rows[2].echo_views == ("A4C", None)


def test_a_patient_in_two_tables_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a = write(tmp_path / "a" / "c.parquet", 1, "US", **{"labs.age": [60, 61]})
    b = write(tmp_path / "b" / "c.parquet", 2, "US", **{"labs.age": [60, 61]})
    assert run("join-cohorts", a, b, "--out", tmp_path / "joined.parquet") == 1
    assert "earlier table (row(s) 1)" in capsys.readouterr().err
    assert not (tmp_path / "joined.parquet").exists()


def test_numbers_beside_texts_become_texts(tmp_path: Path) -> None:
    a = write(tmp_path / "a" / "c.parquet", 1, "US", **{"labs.Sodium": [140, 141]})
    b = write(tmp_path / "b" / "c.parquet", 3, None, **{"labs.Sodium": ["138 H", None]})
    assert run("join-cohorts", a, b, "--out", tmp_path / "joined.parquet") == 0
    joined = pd.read_parquet(tmp_path / "joined.parquet")
    assert joined["labs.Sodium"].tolist() == ["140", "141", "138 H", None]
    assert joined["unit.Sodium"].tolist() == ["mEq/L", "mEq/L", None, None]


def test_a_table_that_exists_is_not_replaced(tmp_path: Path) -> None:
    a = write(tmp_path / "a" / "c.parquet", 1, "US", **{"labs.age": [60, 61]})
    assert run("join-cohorts", a, a, "--out", a) == 2
