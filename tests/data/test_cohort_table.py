"""Odd cells in a cohort table: the table is read, or it is refused with a sentence; nothing else is ever raised."""

import csv
import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cohort_files import cohort_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tgmm_hf.data.check_manifest import check_manifest, report_text
from tgmm_hf.data.manifest import CohortTable, CohortTableError, read_cohort_table

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
COLUMNS = sorted(cohort_rows(1)[0])
ODD_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["nan", "inf", "1e999", "1_0", "0x1", "²", ";", ";;", "A4C;", "\x00", "a\nb", '"', "___", "<0.01", "None", "-0"]
)
ODD_CELLS = st.sampled_from(
    [
        [],
        [None],
        ["a.dcm", None],
        [1, 2],
        {"a": 1},
        b"\xff",
        True,
        3,
        -1.5,
        float("nan"),
        float("inf"),
        datetime.date(2100, 1, 1),
        datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC),
        datetime.timedelta(days=1),
        decimal.Decimal("1.5"),
        None,
    ]
)


def read_or_refuse(path: Path) -> CohortTable | None:
    """Read a table, and check that it gives the same digest twice; None if it is refused."""
    try:
        table = read_cohort_table(path)
    except CohortTableError as error:
        assert error.item and error.reason
        assert str(error).startswith((path.name, str(path)))
        return None
    assert table.digest() == read_cohort_table(path).digest()
    assert report_text(check_manifest(path))
    return table


def test_the_table_that_the_examples_change_is_read(tmp_path: Path) -> None:
    table = tmp_path / "cohort.csv"
    write_csv(table, cohort_rows(2))
    assert read_or_refuse(table) is not None


@QUICK
@given(column=st.sampled_from(COLUMNS), cell=ODD_TEXTS)
def test_odd_texts_in_a_csv_file(column: str, cell: str, tmp_path: Path) -> None:
    rows = cohort_rows(2)
    rows[1][column] = cell
    write_csv(tmp_path / "cohort.csv", rows)
    read_or_refuse(tmp_path / "cohort.csv")


@QUICK
@given(column=st.sampled_from(COLUMNS), cell=ODD_CELLS)
def test_odd_types_in_a_parquet_file(column: str, cell: Any, tmp_path: Path) -> None:
    columns = {name: pa.array([value or None]) for name, value in cohort_rows(1)[0].items()}
    pq.write_table(pa.table(columns | {column: pa.array([cell])}), tmp_path / "cohort.parquet")
    read_or_refuse(tmp_path / "cohort.parquet")


@QUICK
@given(column=ODD_TEXTS)
def test_odd_names_of_columns(column: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "cohort.csv", [{**row, column: "1"} for row in cohort_rows(2)])
    read_or_refuse(tmp_path / "cohort.csv")


@QUICK
@given(content=st.binary(max_size=60))
def test_files_that_are_no_table(content: bytes, tmp_path: Path) -> None:
    for name in ("cohort.csv", "cohort.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CohortTableError):
            read_cohort_table(tmp_path / name)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
