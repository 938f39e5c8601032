"""`tgmm add-meds-labs`: laboratory columns of a cohort table from events in MEDS format.

MEDS (Medical Event Data Standard, github.com/Medical-Event-Data-Standard/meds) keeps one event a row, in Parquet shards
under `data/`: subject_id, time, code, numeric_value. What its codes mean is for each data set to say, so that a list of
them has to be given.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.cohorts.tables import run_sql
from tgmm_hf.inputs.lab_columns import find_column, unit_factor
from tgmm_hf.utils.files import whole_file

EVENT_COLUMNS = ("subject_id", "time", "code", "numeric_value")
TABLE_COLUMNS = ("id", "patient_id", "index_time")


def add_meds_labs(
    table: str | Path, events: str | Path, codes: str | Path, out: str | Path, *, hours: int = 24
) -> list[dict[str, Any]]:
    """Write a cohort table with laboratory columns: of each listed code the last number up to the index time.

    Args:
        table: cohort table, `.csv` or `.parquet`, with the columns id, patient_id (MEDS' subject_id) and index_time.
        events: MEDS data set: a directory with Parquet files anywhere below it.
        codes: CSV with the columns code, lab_column and unit (empty: the canonical one). Several codes, each with its
            unit, may fill one column; the latest event wins.
        out: Parquet file to write: the table's columns, and `labs.<column>`, `unit.<column>` for every listed column.
        hours: how long before the index time an event may lie. Nothing after it is taken.

    Returns:
        One dict a column: "lab_column", "results" (events in the window), "without_number", "rows" that got a value.

    Raises:
        FileNotFoundError: no table, list or Parquet file.
        ValueError: columns are missing, a unit is not one of its column's, an index time cannot be read, ids or codes
            repeat, the table has the columns already, or a time has a time zone (MEDS' own have none, so which events
            came first could not be told).
    """
    table, codes, out = Path(table), Path(codes), Path(out)
    if hours <= 0:
        raise ValueError(f"hours is {hours}; an event has to lie before the index time.")
    shards = sorted(Path(events).rglob("*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{events} holds no Parquet file: give the directory of a MEDS data set.")
    rows, listed = _read(table, TABLE_COLUMNS), _read(codes, ("code", "lab_column"))
    people = _people(table, rows)
    listed = listed.assign(unit=listed["unit"].fillna("") if "unit" in listed else "")[["code", "lab_column", "unit"]]
    if repeated := sorted(listed.loc[listed["code"].duplicated(), "code"]):
        raise ValueError(f"{codes.name}: {', '.join(repeated)} occurs more than once: one line and unit a code.")
    for line in listed.itertuples():
        column = find_column(line.lab_column)
        if column is not None and unit_factor(column, line.unit) is None:
            raise ValueError(f"{codes.name}: unit {line.unit!r} of {line.lab_column} ({line.code}) is not known.")
    columns = list(dict.fromkeys(listed["lab_column"]))
    if taken := [name for name in columns if f"labs.{name}" in rows]:
        raise ValueError(f"{table.name} has the column(s) labs.{', labs.'.join(taken)} already: remove them first.")
    with duckdb.connect() as database:
        names = ", ".join(EVENT_COLUMNS)
        database.read_parquet([str(path) for path in shards], union_by_name=True).create_view("all_events")
        _require(f"{events}", database.table("all_events").columns, EVENT_COLUMNS)
        database.execute(f"CREATE VIEW events AS SELECT {names} FROM all_events")
        zone = str(dict(zip(EVENT_COLUMNS, database.table("events").types, strict=True))["time"])
        if not zone.startswith("TIMESTAMP") or "ZONE" in zone or "TZ" in zone:
            raise ValueError(f"{events}: time is {zone}, expected timestamps without a time zone.")
        database.register("people", people)
        database.register("codes", listed)
        sql = files("tgmm_hf.cohorts").joinpath("meds_labs.sql").read_text(encoding="utf-8")
        run_sql(database, f"SET VARIABLE hours = {int(hours)};\n{sql}", "reading the events")
        cells = database.table("cells").df().set_index(["id", "lab_column"])
        counts = database.table("counts").df().set_index("lab_column")
    ids = people["id"]
    for name in columns:
        found = cells.xs(name, level="lab_column") if name in cells.index.get_level_values(1) else cells.head(0)
        rows[f"labs.{name}"] = ids.map(found["number"]).astype("float64").to_numpy()
        rows[f"unit.{name}"] = ids.map(found["unit"]).replace("", None).to_numpy()
    _write(rows, out)
    return [
        {"lab_column": name, **counts.loc[name].astype(int).to_dict(), "rows": int(rows[f"labs.{name}"].notna().sum())}
        for name in columns
    ]


def _read(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    found = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str, encoding="utf-8-sig")
    _require(path.name, list(found.columns), required)
    return found


def _require(name: str, columns: list[str], required: tuple[str, ...]) -> None:
    if missing := [column for column in required if column not in columns]:
        raise ValueError(f"{name} lacks the column(s) {', '.join(missing)}; it has {', '.join(columns)}.")


def _people(table: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Id, patient and index time of every row."""
    people = rows[list(TABLE_COLUMNS)].assign(id=rows["id"].astype(str), patient_id=rows["patient_id"].astype(str))
    if rows["index_time"].astype(str).str.contains(r"(?:Z|[+-]\d\d:?\d\d)\s*$").any():
        raise ValueError(
            f"{table.name}: index_time has a time zone, MEDS' times have none: give local times without it."
        )
    people["index_time"] = pd.to_datetime(rows["index_time"], errors="coerce", format="ISO8601")
    if unread := [number for number, time in enumerate(people["index_time"], start=1) if pd.isna(time)]:
        raise ValueError(
            f"{table.name}: index_time of {len(unread)} row(s) is no ISO 8601 time, first row {unread[0]}."
        )
    if repeated := people["id"].duplicated().sum():
        raise ValueError(f"{table.name}: {repeated} id(s) occur more than once.")
    return people


def _write(rows: pd.DataFrame, out: Path) -> None:
    with whole_file(out) as building:
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None), building)
