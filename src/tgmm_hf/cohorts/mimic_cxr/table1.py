"""Table 1 of a table of X-rays, ECGs and notes: by split, with missingness."""

from typing import Any

import duckdb
import pandas as pd

from tgmm_hf.cohorts.mimic.table1 import mean_and_deviation, quartiles, share, table_row
from tgmm_hf.cohorts.mimic_cxr.steps import NAMES
from tgmm_hf.data.manifest import SPLITS

ALL = "all"


def table_one(database: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Describe the included X-rays, one column for each split and one for all.

    Args:
        database: The database after `build_pairs`.

    Returns:
        Texts in the columns characteristic, statistic, "train", "validation", "test" and "all". Shares are of X-rays.
    """
    xrays = _xrays(database)
    parts = {split: xrays[xrays.split == split] for split in SPLITS} | {ALL: xrays}

    def row(name: str, statistic: str, describe: Any) -> dict[str, str]:
        return table_row(name, statistic, {group: describe(part) for group, part in parts.items()})

    rows = [
        row("pairs", "n", lambda part: f"{int(part.pairs.sum()):,}"),
        row("X-rays", "n", lambda part: f"{len(part):,}"),
        row("X-ray studies", "n", lambda part: f"{part.study_id.nunique():,}"),
        table_row("ECGs", "n", _ecgs(database)),
        row("patients", "n", lambda part: f"{part.subject_id.nunique():,}"),
        row("age, years", "mean (SD)", lambda part: mean_and_deviation(part.age.dropna())),
        row("age, years", "missing, n (%)", lambda part: share(part.age.isna())),
    ]
    for sex in sorted(xrays.gender.dropna().unique()):
        rows.append(row(f"gender: {sex}", "n (%)", lambda part, sex=sex: share(part.gender == sex)))
    rows += [
        row("view: PA", "n (%)", lambda part: share(part.view == "PA")),
        row("days to the nearest ECG", "median [Q1 to Q3]", lambda part: quartiles(part.days, 0)),
        row("ECGs of an X-ray", "median [Q1 to Q3]", lambda part: quartiles(part.pairs, 0)),
        row("X-ray note: from the report", "n (%)", lambda part: share(part.source == "report")),
        row("X-ray note: from labels", "n (%)", lambda part: share(part.source == "labels")),
        row("X-ray note", "missing, n (%)", lambda part: share(part.source.isna())),
    ]
    for name in NAMES:
        title = name.replace("_", " ")
        rows += [
            row(title, "present, n (%)", lambda part, name=name: share(part[name] == 1)),
            row(title, "uncertain, n (%)", lambda part, name=name: share(part[name] == -1)),
            row(title, "missing, n (%)", lambda part, name=name: share(part[name].isna())),
        ]
    return pd.DataFrame(rows)


def _xrays(database: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Return one row for each included X-ray. `age` is the age at the X-ray."""
    labels = ", ".join(f"l.{name}::DOUBLE AS {name}" for name in NAMES)
    return database.execute(
        "WITH counted AS (SELECT dicom_id, count(*) AS pairs, min(abs(days_apart)) AS days FROM pairs "
        "GROUP BY dicom_id) "
        f"SELECT x.subject_id, x.study_id, x.split, x.view, c.pairs, c.days, n.source, a.gender, {labels}, "
        "a.anchor_age + year(x.day) - a.anchor_year AS age "
        "FROM xray_rows AS x JOIN counted AS c USING (dicom_id) "
        "LEFT JOIN xray_notes AS n ON n.study_id = x.study_id "
        "LEFT JOIN xray_labels AS l ON l.study_id = x.study_id AND l.subject_id = x.subject_id "
        "LEFT JOIN (SELECT * FROM patients QUALIFY count(*) OVER (PARTITION BY subject_id) = 1) AS a "
        "ON a.subject_id = x.subject_id WHERE x.step = 'included'"
    ).df()


def _ecgs(database: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Count the ECGs of each split, and of all."""
    rows = database.execute("SELECT split, count(DISTINCT ecg_study_id) FROM pairs GROUP BY split").fetchall()
    numbers = dict.fromkeys(SPLITS, 0) | dict(rows)
    return {name: f"{number:,}" for name, number in {**numbers, ALL: sum(numbers.values())}.items()}
