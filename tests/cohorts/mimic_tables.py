"""MIMIC-IV tables for tests: append rows to a copy of the synthetic ones, or write a small hospital by hand."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tgmm_hf.cohorts.synthetic import cohort as synthetic

PATIENTS = 42  # holds the anomalous patients 7, 18, 29 and 40
SETTINGS = synthetic.Settings(5, "default", frames=4, height=96, width=128)


def write_synthetic_tables(out: Path) -> None:
    """Tables and manifest of a synthetic cohort, without its files: `render` makes those that a test reads."""
    table = synthetic.stack([SETTINGS.patient(index) for index in range(PATIENTS)])
    synthetic.write_tables(out, SETTINGS, table, [None] * PATIENTS)
    synthetic.write_cohort_table(out, SETTINGS, table, synthetic.split_patients(table.label, SETTINGS.seed))


def render(out: Path, patients: Iterable[int]) -> None:
    for index in patients:
        synthetic.render_patient((out, SETTINGS, index))


def copy_tables(source: Path, target: Path) -> Path:
    """The tables only."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("files", "cohort.parquet"), dirs_exist_ok=True)
    return target


def read(path: Path) -> pd.DataFrame:
    """A table as text."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def append(path: Path, *rows: Mapping[str, Any]) -> None:
    """Rows at the end of a CSV or CSV.gz; columns that a row does not name stay empty."""
    table = read(path)
    new = pd.DataFrame([{name: str(value) for name, value in row.items()} for row in rows])
    pd.concat([table, new.reindex(columns=table.columns)]).fillna("").to_csv(path, index=False)


def change(path: Path, column: str, key: Any, target: str, value: Any) -> None:
    """Set `target` where `column` is `key`."""
    table = read(path)
    assert (table[column] == str(key)).any()
    table.loc[table[column] == str(key), target] = str(value)
    table.to_csv(path, index=False)


def write_hospital(out: Path, tables: Mapping[str, list[Mapping[str, Any]]]) -> Path:
    """`hosp/` with the required tables, filled with these rows; times are text."""
    required = {
        "patients": "subject_id gender anchor_age anchor_year anchor_year_group dod",
        "admissions": "subject_id hadm_id admittime dischtime deathtime race edregtime edouttime hospital_expire_flag",
        "diagnoses_icd": "subject_id hadm_id seq_num icd_code icd_version",
        "labevents": "labevent_id subject_id hadm_id itemid charttime storetime value valuenum valueuom comments",
    }
    (out / "hosp").mkdir(parents=True, exist_ok=True)
    for name in {*required, *tables}:
        rows = pd.DataFrame(list(tables.get(name, [])), dtype=object)
        columns = required[name].split() if name in required else list(rows.columns)
        rows.reindex(columns=columns).to_csv(out / "hosp" / f"{name}.csv", index=False)
    return out
