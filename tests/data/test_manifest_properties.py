"""What must not change a cohort table: order of columns and rows, kind of file, separator, unused columns."""

import csv
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cohort_files import cohort_rows, write_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tgmm_hf.data.manifest import CohortRow, CohortTableError, find_faults, read_cohort_table
from tgmm_hf.data.table_files import TableFormat

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIZES = st.integers(1, 9)
SEEDS = st.integers(0, 2**32 - 1)


def read(path: Path, table_format: TableFormat | None = None) -> dict[str, CohortRow]:
    """Read a table; its rows by id."""
    table = read_cohort_table(path) if table_format is None else read_cohort_table(path, table_format=table_format)
    return {row.id: row for row in table.rows}


@QUICK
@given(size=SIZES, seed=SEEDS)
def test_the_order_of_rows_and_columns_does_not_matter(size: int, seed: int, tmp_path: Path) -> None:
    rows = cohort_rows(size)
    expected = read(write_table(tmp_path / "plain.csv", rows))
    assert len(expected) == size
    order = random.Random(seed)
    names = order.sample(list(rows[0]), len(rows[0]))
    mixed = [{name: row[name] for name in names} for row in order.sample(rows, size)]
    assert read(write_table(tmp_path / "mixed.csv", mixed)) == expected


@QUICK
@given(size=SIZES)
def test_parquet_gives_the_rows_of_csv(size: int, tmp_path: Path) -> None:
    rows = cohort_rows(size)
    expected = read(write_table(tmp_path / "plain.csv", rows))
    columns = {name: pa.array([None if row[name] == "" else row[name] for row in rows]) for name in rows[0]}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    found = read(tmp_path / "table.parquet")
    for identifier, row in expected.items():
        other = found[identifier]
        assert (other.ecg_path, other.echo_paths, other.echo_views) == (row.ecg_path, row.echo_paths, row.echo_views)
        assert (other.labels, other.times, other.events) == (row.labels, row.times, row.events)
        assert other.labs.keys() == row.labs.keys()
        for name, cell in row.labs.items():
            value, number = (each[0] if isinstance(each, tuple) else each for each in (cell, other.labs[name]))
            assert str(value) == str(number) or float(value) == float(number)


@QUICK
@given(size=SIZES)
def test_semicolons_and_decimal_commas_give_the_rows_of_commas_and_points(size: int, tmp_path: Path) -> None:
    rows = [{**row, "echo_paths": "", "echo_views": ""} for row in cohort_rows(size)]  # a list of clips has semicolons
    expected = read(write_table(tmp_path / "plain.csv", rows))
    with (tmp_path / "european.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {name: str(cell).replace(".", ",") if isinstance(cell, float) else cell for name, cell in row.items()}
            )
    assert read(tmp_path / "european.csv", TableFormat(decimal=",")) == expected


@QUICK
@given(size=SIZES, name=st.text("abcdefghij", min_size=3, max_size=8))
def test_a_column_that_is_not_used_changes_nothing_and_is_named(size: int, name: str, tmp_path: Path) -> None:
    rows = cohort_rows(size)
    expected = read(write_table(tmp_path / "plain.csv", rows))
    path = write_table(tmp_path / "more.csv", [{**row, name: number} for number, row in enumerate(rows)])
    assert read(path) == expected
    assert read_cohort_table(path).ignored_columns == [name]


ODD = {
    "split": ["training", "", "test "],
    "label.hf_diagnosis": ["2", "yes", "-1", "1.5"],
    "time.hf_risk": ["soon", "-3", "nan"],
    "event.hf_risk": ["5", "x"],
    "echo_views": ["nowhere;A4C", "A4C;A4C;A4C"],
    "patient_id": [""],
}
CHANGES = st.lists(
    st.sampled_from([(column, cell) for column, cells in ODD.items() for cell in cells]), min_size=0, max_size=4
)


@QUICK
@given(changes=CHANGES, seed=SEEDS)
def test_a_table_is_refused_exactly_if_the_list_of_faults_is_not_empty(
    changes: list[tuple[str, str]], seed: int, tmp_path: Path
) -> None:
    rows = cohort_rows(9)
    order = random.Random(seed)
    for column, cell in changes:
        order.choice(rows)[column] = cell
    path = write_table(tmp_path / "table.csv", rows)
    _, faults = find_faults(path)
    if faults:
        with pytest.raises(CohortTableError) as refusal:
            read_cohort_table(path)
        assert str(refusal.value) == str(faults[0])
    else:
        assert read(path)


@QUICK
@given(size=st.integers(2, 9), seed=SEEDS)
def test_a_repeated_id_and_a_patient_of_two_splits_are_refused(size: int, seed: int, tmp_path: Path) -> None:
    order = random.Random(seed)
    first, second = order.sample(range(size), 2)
    rows = cohort_rows(size)
    rows[second]["id"] = rows[first]["id"]
    with pytest.raises(CohortTableError):
        read_cohort_table(write_table(tmp_path / "twice.csv", rows))
    rows = cohort_rows(size)
    rows[second]["patient_id"] = rows[first]["patient_id"]
    rows[first]["split"], rows[second]["split"] = order.sample(["train", "validation", "test"], 2)
    with pytest.raises(CohortTableError):
        read_cohort_table(write_table(tmp_path / "splits.csv", rows))
