"""`tgmm add-meds-labs`: laboratory columns of a cohort table from events in MEDS format.

MEDS (Medical Event Data Standard, github.com/Medical-Event-Data-Standard/meds) keeps one event per row, in Parquet
shards: subject_id, time, code, numeric_value. Each data set defines its own codes, so a list of codes must be given.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.cohorts.tables import require_columns, run_sql
from tgmm_hf.inputs.lab_columns import find_column, to_canonical
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import whole_file

EVENT_COLUMNS = ("subject_id", "time", "code", "numeric_value")
TABLE_COLUMNS = ("id", "patient_id", "index_time")
SAME_VALUE = 0.02
"""Share by which two numbers of one value may differ, because laboratories round in each unit."""


def add_meds_labs(
    table: str | Path, events: str | Path, codes: str | Path, out: str | Path, *, hours: int = 24
) -> list[dict[str, Any]]:
    """Write a cohort table with laboratory columns: for each listed code the last number up to the index time.

    Args:
        table: Cohort table, `.csv` or `.parquet`, with the columns id, patient_id (MEDS' subject_id) and index_time.
        events: MEDS data set: a directory with Parquet files anywhere below it.
        codes: CSV file with the columns code, lab_column and unit (empty: the canonical unit of the column). Several
            codes, each with its unit, may fill one column. The latest event is taken.
        out: Parquet file to write: the columns of the table, and `labs.<column>`, `unit.<column>` for every listed
            column.
        hours: Maximum age of an event at the index time, in hours. Nothing after the index time is taken.

    Returns:
        One dict per column: "lab_column" (its name), "results" (number of events in the time window), "without_number"
        (number of these events that have no number), "rows" (number of rows with a value), "contradicting" (number of
        rows with several different numbers at the time whose number is taken).

    Raises:
        FileNotFoundError: If the table, the list or the Parquet files are missing.
        TgmmError: If columns are missing, a unit does not belong to its column, an index time cannot be read, ids or
            codes repeat, the table has the columns already, or a time has a time zone (times of MEDS have none, so
            the order of events would be unclear).
    """
    table, codes, out = Path(table), Path(codes), Path(out)
    if hours <= 0:
        raise TgmmError("hours", f"is {hours}; it must be positive, because an event lies before the index time.")
    shards = sorted(Path(events).rglob("*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{events} holds no Parquet file: give the directory of a MEDS data set.")
    rows = _read_table(table, TABLE_COLUMNS)
    index_times = _index_times(table.name, rows)
    code_list = _read_codes(codes)
    columns = list(dict.fromkeys(code_list["lab_column"]))
    if taken := [name for name in columns if f"labs.{name}" in rows]:
        raise TgmmError(table.name, f"has the column(s) labs.{', labs.'.join(taken)} already: remove them first.")
    with duckdb.connect() as database:
        _open_events(database, str(events), shards)
        database.register("index_times", index_times)
        database.register("codes", code_list)
        sql = files("tgmm_hf.cohorts").joinpath("meds_labs.sql").read_text(encoding="utf-8")
        run_sql(database, f"SET VARIABLE hours = {int(hours)};\n{sql}", "reading the events")
        cells = database.table("cells").df().set_index(["id", "lab_column"])
        contradicting = _contradicting(database.table("last_numbers").df())
        counts = database.table("counts").df().set_index("lab_column")
    ids = index_times["id"]
    for name in columns:
        has_cells = name in cells.index.get_level_values(1)
        column = cells.xs(name, level="lab_column") if has_cells else cells.head(0)
        rows[f"labs.{name}"] = ids.map(column["number"]).astype("float64").to_numpy()
        rows[f"unit.{name}"] = ids.map(column["unit"]).replace("", None).to_numpy()
    with whole_file(out) as building:
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None), building)
    return [
        {
            "lab_column": name,
            **counts.loc[name].astype(int).to_dict(),
            "rows": int(rows[f"labs.{name}"].notna().sum()),
            "contradicting": contradicting.get(name, 0),
        }
        for name in columns
    ]


def _contradicting(last: pd.DataFrame) -> dict[str, int]:
    """Count the rows that have several numbers at the time whose number is taken: column -> number of rows.

    Two numbers that are one value in two units are no contradiction.

    Args:
        last: Columns id, lab_column, unit and number, of all events of that time.
    """
    rows: dict[str, int] = {}
    for (_, name), events in last.groupby(["id", "lab_column"]):
        column = find_column(str(name))
        pairs = zip(events["number"].astype(float), events["unit"].fillna("").astype(str), strict=True)
        values = [
            number if column is None else (to_canonical(column, number, unit) or number) for number, unit in pairs
        ]
        if max(values) - min(values) > SAME_VALUE * max(abs(value) for value in values):
            rows[str(name)] = rows.get(str(name), 0) + 1
    return rows


def _open_events(database: duckdb.DuckDBPyConnection, item: str, shards: list[Path]) -> None:
    """Make the database view `events` over the Parquet files `shards`, and check its columns and type of times.

    `item` names the data set in error messages.

    Raises:
        TgmmError: If a column is missing, or `time` is no timestamp without a time zone.
    """
    database.read_parquet([str(path) for path in shards], union_by_name=True).create_view("all_events")
    require_columns(item, database.table("all_events").columns, EVENT_COLUMNS)
    database.execute(f"CREATE VIEW events AS SELECT {', '.join(EVENT_COLUMNS)} FROM all_events")
    kind = str(dict(zip(EVENT_COLUMNS, database.table("events").types, strict=True))["time"])
    if not kind.startswith("TIMESTAMP") or "ZONE" in kind or "TZ" in kind:
        raise TgmmError(item, f"time is {kind}, expected timestamps without a time zone. Convert the column.")


def _read_table(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    rows = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str, encoding="utf-8-sig")
    require_columns(path.name, list(rows.columns), required)
    return rows


def _read_codes(path: Path) -> pd.DataFrame:
    """Read the list of codes: columns code, lab_column, and unit ("" for the canonical unit).

    Raises:
        TgmmError: If a code occurs twice, or a unit does not belong to its laboratory column.
    """
    codes = _read_table(path, ("code", "lab_column"))
    canonical = codes["lab_column"].map(_canonical_unit)
    given = codes["unit"].fillna("") if "unit" in codes else pd.Series("", codes.index)
    codes = codes.assign(unit=given.where(given != "", canonical))[["code", "lab_column", "unit"]]
    if repeated := sorted(codes.loc[codes["code"].duplicated(), "code"]):
        raise TgmmError(path.name, f"{', '.join(repeated)} occurs more than once: give a code one line and one unit.")
    for line in codes.itertuples():
        column = find_column(line.lab_column)
        if column is not None and to_canonical(column, 1.0, line.unit) is None:
            raise TgmmError(path.name, f"unit {line.unit!r} of {line.lab_column} ({line.code}) is not known.")
    return codes


def _canonical_unit(name: str) -> str:
    column = find_column(str(name))
    return "" if column is None else column.unit


def _index_times(item: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Read id, patient_id and index_time (as timestamp) of every row of a table that `item` names in errors.

    Raises:
        TgmmError: If a time has a time zone or cannot be read, or an id occurs twice.
    """
    times = rows[list(TABLE_COLUMNS)].assign(id=rows["id"].astype(str), patient_id=rows["patient_id"].astype(str))
    if rows["index_time"].astype(str).str.contains(r"(?:Z|[+-]\d\d:?\d\d)\s*$").any():
        raise TgmmError(item, "index_time has a time zone, times of MEDS have none: give local times without it.")
    times["index_time"] = pd.to_datetime(rows["index_time"], errors="coerce", format="ISO8601")
    if unread := [number for number, time in enumerate(times["index_time"], start=1) if pd.isna(time)]:
        raise TgmmError(item, f"index_time of {len(unread)} row(s) is no ISO 8601 time, first row {unread[0]}.")
    if repeated := times["id"].duplicated().sum():
        raise TgmmError(item, f"{repeated} id(s) occur more than once.")
    return times
