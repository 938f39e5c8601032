"""The cohort table: what makes it unusable, and odd cells, which never raise anything but a refusal."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cohort_files import cohort_rows, write_table
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
    write_table(table, cohort_rows(2))
    assert read_or_refuse(table) is not None


@QUICK
@given(column=st.sampled_from(COLUMNS), cell=ODD_TEXTS)
def test_odd_texts_in_a_csv_file(column: str, cell: str, tmp_path: Path) -> None:
    rows = cohort_rows(2)
    rows[1][column] = cell
    write_table(tmp_path / "cohort.csv", rows)
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
    write_table(tmp_path / "cohort.csv", [{**row, column: "1"} for row in cohort_rows(2)])
    read_or_refuse(tmp_path / "cohort.csv")


@QUICK
@given(content=st.binary(max_size=60))
def test_files_that_are_no_table(content: bytes, tmp_path: Path) -> None:
    for name in ("cohort.csv", "cohort.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CohortTableError):
            read_cohort_table(tmp_path / name)


# ---- tables that are refused


def change(**changes):
    def apply(rows):
        for row in rows:
            for name, value in changes.items():
                row[name.replace("__", ".")] = value

    return apply


def remove(name):
    def apply(rows):
        for row in rows:
            row.pop(name)

    return apply


def one(number, **changes):
    return lambda rows: rows[number].update({name.replace("__", "."): value for name, value in changes.items()})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("patient_id"), r"missing column\(s\) patient_id"),
        (remove("split"), r"missing column\(s\) split"),
        (remove("event.hf_risk"), "both columns time.hf_risk and event.hf_risk"),
        (one(2, id="a1"), r"1 id\(s\) occur more than once: a1"),
        (one(3, patient_id="p0"), r"more than one split: p0"),
        (one(2, id=" "), "row 3: id is empty"),
        (one(2, split="dev"), "'dev'; it must be one of train, validation, test"),
        (one(2, label__hf_diagnosis=2), "label.hf_diagnosis is 2; allowed are 0, 1"),
        (one(2, label__hf_diagnosis=0.5), "label.hf_diagnosis is 0.5"),
        (one(2, label__hf_diagnosis="yes"), "'yes', not a number"),
        (one(2, label__hf_diagnosis="inf"), "not a finite number"),
        (one(0, event__hf_risk=3), "event.hf_risk is 3; allowed are 0, 1, 2"),
        (one(0, time__hf_risk=-1), "-1.0 days"),
        (one(0, time__hf_risk=""), "give both or neither"),
        (one(0, echo_views="A4C"), "1 entries for 2 echo_paths"),
        (one(0, echo_views="A4C;PLAX"), r"unknown view\(s\) PLAX"),
        (one(0, echo_paths="a.dcm;", echo_views=";"), "empty path"),
        (change(label__stroke=1), "names no task"),
        (change(label__hf_risk=1), "is for a diagnosis but task 'hf_risk' is a prognosis"),
        (change(unit__zinc="mg"), "unit.zinc"),
    ],
)
def test_unusable_tables_are_refused(tmp_path, spoil, message):
    rows = cohort_rows(5)
    spoil(rows)
    with pytest.raises(CohortTableError, match=message):
        read_cohort_table(write_table(tmp_path / "cohort.csv", rows))


def test_unusable_files(tmp_path):
    with pytest.raises(CohortTableError, match="does not exist"):
        read_cohort_table(tmp_path / "nowhere.csv")
    table = tmp_path / "cohort.csv"
    table.write_text("id,patient_id,split\na,p,train\n")
    with pytest.raises(CohortTableError, match="no data"):
        read_cohort_table(table)
    table.write_text("id,patient_id,split,ecg_path\n")
    with pytest.raises(CohortTableError, match="no rows"):
        read_cohort_table(table)
    table.write_text("id,patient_id,split,ecg_path\na,p,train\n")
    with pytest.raises(CohortTableError, match=r"row\(s\) 1"):
        read_cohort_table(table)
    table.write_text("id,id,patient_id,split,ecg_path\na,a,p,train,e\n")
    with pytest.raises(CohortTableError, match=r"column\(s\) id occur twice"):
        read_cohort_table(table)
    with pytest.raises(CohortTableError, match=r"not \.xlsx"):
        (tmp_path / "cohort.xlsx").write_text("")
        read_cohort_table(tmp_path / "cohort.xlsx")


def test_tasks_of_the_user_and_unused_columns(tmp_path):
    rows = cohort_rows(5)
    change(label__rhythm=2, hadm_id=5)(rows)
    tasks = {
        "rhythm": {"kind": "diagnosis", "candidates": ["sinus", "fibrillation", "paced"]},
        "hf_diagnosis": {"kind": "diagnosis", "candidates": ["no", "yes"]},
        "hf_risk": {"kind": "prognosis", "candidates": ["low", "high"]},
    }
    manifest = read_cohort_table(write_table(tmp_path / "cohort.csv", rows), tasks=tasks)
    assert manifest.tasks == {"rhythm": "diagnosis", "hf_diagnosis": "diagnosis", "hf_risk": "prognosis"}
    assert manifest.rows[0].labels == {"rhythm": 2, "hf_diagnosis": 0}
    assert manifest.ignored_columns == ["hadm_id"]


def test_a_table_to_predict_needs_ids_and_data_only(tmp_path):
    table = tmp_path / "cohort.csv"
    table.write_text("id,labs.Creatinine,label.some_task\na,1.1,7\nb,1.2,\n")
    with pytest.raises(CohortTableError, match=r"missing column\(s\) patient_id, split"):
        read_cohort_table(table)
    manifest = read_cohort_table(table, for_prediction=True)
    assert [(row.id, row.patient_id, row.split, row.labels) for row in manifest.rows] == [
        ("a", "a", "test", {}),
        ("b", "b", "test", {}),
    ]


def test_digest_follows_content_and_order(tmp_path):
    rows = cohort_rows(5)
    digest = read_cohort_table(write_table(tmp_path / "a.csv", rows)).digest()
    assert read_cohort_table(write_table(tmp_path / "b.csv", rows)).digest() == digest
    rows[1]["labs.Creatinine"] = 7
    assert read_cohort_table(write_table(tmp_path / "c.csv", rows)).digest() != digest


def test_absolute_paths_and_a_byte_order_mark(cohort, tmp_path):
    rows = cohort_rows(2)
    rows[0]["ecg_path"] = str(cohort / "ecg" / "0")
    table = write_table(tmp_path / "cohort.csv", rows)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    manifest = read_cohort_table(table)
    assert manifest.root / manifest.rows[0].ecg_path == cohort / "ecg" / "0"
