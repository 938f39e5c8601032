"""Tables of a source such as MIMIC, and how a CSV file becomes a DuckDB table with typed columns.

Columns are found by their names, in any order. Every column is read as text and then cast to its type. A value that
does not fit the type becomes NULL and does not stop the run.
"""

import csv
import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from tgmm_hf.utils.errors import TgmmError


@dataclass(frozen=True)
class Table:
    """A table of a source.

    Attributes:
        name: Name in the SQL.
        source: Name of the source, such as "mimic_iv".
        stems: File names without .csv or .csv.gz. The first one that exists is taken.
        columns: Required column -> SQL type.
        optional: Column that may be missing and is then NULL -> SQL type.
        required: False means that the table is empty if its file is missing.
        stored: True copies the table into the database, because several steps read it. False reads the file once.
        folders: Folders below the directory of the source in which the file may lie; "" is the directory itself.
    """

    name: str
    source: str
    stems: tuple[str, ...]
    columns: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    required: bool = True
    stored: bool = True
    folders: tuple[str, ...] = ("",)

    def find(self, directory: Path) -> Path | None:
        """Find the file of the table below the directory of its source; None if there is none."""
        for folder in self.folders:
            for stem in self.stems:
                for suffix in (".csv.gz", ".csv"):
                    path = directory / folder / f"{stem}{suffix}"
                    if path.is_file():
                        return path
        return None


def find_tables(
    tables: Iterable[Table], directories: Mapping[str, Path | None], options: Mapping[str, str]
) -> dict[str, Path | None]:
    """Find the file of every table.

    Args:
        tables: The tables.
        directories: Source -> its directory, None if it was not given.
        options: Source -> option of the command line, for the error message.

    Returns:
        Name of every table -> its file. None if an optional file is missing or the source was not given.

    Raises:
        FileNotFoundError: If required tables are missing. The message names all of them.
    """
    paths: dict[str, Path | None] = {}
    missing = []
    for table in tables:
        directory = directories[table.source]
        paths[table.name] = None if directory is None else table.find(directory)
        if directory is not None and paths[table.name] is None and table.required:
            missing.append(f"{' or '.join(table.stems)}.csv[.gz] ({options[table.source]} {directory})")
    if missing:
        raise FileNotFoundError(f"Required table(s) missing: {'; '.join(missing)}. Download them, or check the path.")
    return paths


def load_tables(database: duckdb.DuckDBPyConnection, tables: Iterable[Table], paths: Mapping[str, Path | None]) -> str:
    """Make the tables in the database.

    Args:
        database: The database.
        tables: The tables.
        paths: Name of a table -> its file, from [`find_tables`]. None makes an empty table.

    Returns:
        The SQL that was run.
    """
    script = []
    for table in tables:
        path = paths[table.name]
        statement = _empty(table) if path is None else _select(table, path)
        kind = "TABLE" if table.stored or path is None else "VIEW"
        script.append(f"CREATE {kind} {table.name} AS\n{statement};\n")
        run_sql(database, script[-1], str(path))
    return "\n".join(script)


def run_sql(database: duckdb.DuckDBPyConnection, text: str, item: str) -> None:
    """Run SQL.

    Args:
        database: The database.
        text: SQL statements.
        item: Name of the step or file, for the error message.

    Raises:
        TgmmError: If DuckDB fails, with the first line of its message, because the other lines quote a patient's row.
    """
    try:
        database.execute(text)
    except duckdb.Error as error:
        raise TgmmError(item, f"failed in the database: {str(error).splitlines()[0]}") from None


def require_columns(item: str, present: Sequence[str], required: Iterable[str], advice: str = "") -> None:
    """Refuse a table that lacks columns, or has one of them twice.

    Args:
        item: Name of the table, for the error message.
        present: Columns of the table. pandas calls the second column of a name "<name>.1".
        required: Columns that it must have.
        advice: A sentence for the error message that says what to do.

    Raises:
        TgmmError: If a column is missing or occurs twice.
    """
    names = list(required)
    if twice := [name for name in names if list(present).count(name) > 1 or f"{name}.1" in present]:
        raise TgmmError(item, f"has the column(s) {', '.join(twice)} twice. Rename or remove one of them.")
    if missing := [name for name in names if name not in present]:
        sentence = f"missing column(s) {', '.join(missing)}; found {', '.join(map(str, present))}."
        raise TgmmError(item, f"{sentence} {advice}".rstrip())


def read_header(path: Path) -> list[str]:
    """Read the column names of a CSV or CSV.gz file."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def _select(table: Table, path: Path) -> str:
    """Write the SQL query that reads the columns of a table from its file `path`.

    Raises:
        TgmmError: If a required column is missing.
    """
    header = read_header(path)
    require_columns(path.name, header, table.columns, "Is it the file that PhysioNet ships?")
    items = []
    for name, kind in {**table.columns, **table.optional}.items():
        quoted = sql_name(name)
        items.append(f"TRY_CAST({quoted} AS {kind}) AS {quoted}" if name in header else f"NULL::{kind} AS {quoted}")
    columns = ", ".join(f"{sql_text(name)}: 'VARCHAR'" for name in header)
    return (
        f"SELECT {', '.join(items)}\nFROM read_csv({sql_text(str(path))}, header=true, auto_detect=false, delim=',', "
        f"quote='\"', escape='\"', nullstr='', columns={{{columns}}})"
    )


def _empty(table: Table) -> str:
    items = [f"NULL::{kind} AS {sql_name(name)}" for name, kind in {**table.columns, **table.optional}.items()]
    return f"SELECT {', '.join(items)}\nWHERE FALSE"


def sql_name(name: str) -> str:
    """Write the name of a column as an SQL identifier. A name with other letters than a-z, 0-9 and _ gets quotes."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else '"' + name.replace('"', '""') + '"'


def sql_text(text: str) -> str:
    """Write a text as an SQL literal, in quotes."""
    return "'" + text.replace("'", "''") + "'"
