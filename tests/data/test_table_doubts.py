"""Doubts about names of columns and ids of a table: columns that may be meant, ids that are alike or name nobody."""

import json
from pathlib import Path

import pytest
from cohort_files import cohort_rows, write_table

from tgmm_hf.data.check_manifest import check_manifest, has_faults, report_text
from tgmm_hf.data.prediction import patients_from_table, with_shared_files
from tgmm_hf.data.table_ids import alike_ids


def lab_rows(number: int) -> list[dict]:
    return [{"id": f"a{i}", "labs.Sodium": 140 + i % 3} for i in range(number)]


def predicted_checks(table: Path) -> list[list[dict]]:
    """Return the findings that `tgmm predict` writes into its JSON file, without a model."""
    patients = patients_from_table(table)
    answers = [{"checks": [], "notes": []} for _ in patients]
    return [one["checks"] for one in with_shared_files(answers, patients)]


@pytest.mark.parametrize(
    ("column", "meant"),
    [("ecg_paths", "ecg_path"), ("ECG_path", "ecg_path"), ("ecg", "ecg_path"), ("echo_path", "echo_paths"),
     ("age", "labs.age"), ("gender", "labs.gender"), ("Sex", "labs.gender"), ("Labs.age", "labs.age"),
     ("EKG file", "ecg_path"), ("lab.BNP", "labs.BNP"), ("lab_K", "labs.Potassium"), ("lab_Hb", "labs.Hemoglobin"),
     ("echo view", "echo_views"), ("clip_path", "echo_paths"), ("echo clips", "echo_paths")],
)  # fmt: skip
def test_a_column_that_may_hold_data_is_named_by_predict(column: str, meant: str, tmp_path: Path) -> None:
    rows = [{**row, column: "60"} for row in lab_rows(3)]
    table = write_table(tmp_path / "t.csv", rows)
    with pytest.warns(UserWarning, match="did you mean"):
        checks = predicted_checks(table)
    assert [[check["code"] for check in one] for one in checks] == [["table_column_not_used"]] * 3
    assert meant in checks[0][0]["text"] and json.dumps(checks)
    report = check_manifest(table, for_prediction=True)
    assert report["meant_columns"] == {column: meant} and f"did you mean {meant}?" in report_text(report)


@pytest.mark.parametrize(
    "column",
    [
        "ward",
        "ecg_date",
        "echo_time",
        "study_id",
        "comment",
        "hospital",
        "age_group",
        "ecg_id",
        "notes",
        "admission_date",
        "lab_date",
        "labs_available",
        "lab_time",
        "lab_id",
        "lab_name",
        "lab order",
        "Lab: site",
        "lab.date",
        "view",
        "clip",
        "AG",
    ],
)
def test_a_column_of_something_else_is_named_once_and_is_no_finding(column: str, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", [{**row, column: "60"} for row in lab_rows(2)])
    with pytest.warns(UserWarning, match=f"columns not used: {column}"):
        assert predicted_checks(table) == [[], []]


def test_a_column_beside_the_one_that_is_used_is_no_finding(tmp_path: Path) -> None:
    rows = [{**row, "labs.Age (years)": 60, "age": 60, "labs.sex": "F", "gender": "F"} for row in lab_rows(2)]
    with pytest.warns(UserWarning, match="columns not used: age, gender$"):
        assert predicted_checks(write_table(tmp_path / "t.csv", rows)) == [[], []]


PLAIN = "99368787"
SPELLINGS = [
    (PLAIN, "99-368-787"), (PLAIN, "99/368787"), (PLAIN, "99.368.787"), (PLAIN, "99 368 787"),
    (PLAIN, "99\u00a0368\u00a0787"), (PLAIN, "99,368,787"), (PLAIN, "9.9368787E7"), (PLAIN, "99368787."),
    (PLAIN, f'"{PLAIN}"'), (PLAIN, f'="{PLAIN}"'), (PLAIN, f"{PLAIN}.0"), ("0012", "'0012"), ("P12", "P12\u200b"),
    ("P12", "P\u00ad12"), ("P12", "\u200eP12"), ("P12", "\uff30\uff11\uff12"), ("M\u00fcller7", "Mu\u0308ller7"),
    ("12-34", "1234"), ("7", "007"), ("P-01", "P-1"), ("S01P02", "S1P02"), ("S01P02", "s1p2"), ("A-007-02", "A-7-2"),
    ("AC123", "\u0410\u0421123"), ("MB7", "\u039c\u03927"),
]  # fmt: skip
OTHERS = [
    ("1-23", "12-3"), ("site1-12", "site11-2"), ("A1", "A2"), ("12-34", "12-35"), ("P12", "P120"), ("P12", "Q12"),
    ("1.5", "1.6"), ("100", "1000"), ("3f2b77aa09", "3f2b77aa90"), ("10000032", "10000023"), ("a-b-1", "a-b-2"),
    ("P-10", "P-1"), ("S01P02", "S10P2"), ("1.05", "1.5"), ("P-100", "P-10"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "two"), SPELLINGS)
def test_two_spellings_of_one_id_in_two_splits_are_noted_and_not_merged(one: str, two: str, tmp_path: Path) -> None:
    assert alike_ids({one: ["train"], two: ["test"]}) and not alike_ids({one: ["train"], two: ["train"]})
    rows = [{**row, "ecg_path": "", "echo_paths": "", "echo_views": "", "labs.Sodium": 140} for row in cohort_rows(10)]
    ids = {row["split"]: row for row in rows}
    ids["train"]["patient_id"], ids["test"]["patient_id"] = one, two
    report = check_manifest(write_table(tmp_path / "t.csv", rows))
    assert "alike" in str(report["notes"]) and report["patients"] == 10 and not report["faults"]


@pytest.mark.parametrize(("one", "two"), OTHERS)
def test_two_ids_of_one_numbering_are_not_noted(one: str, two: str) -> None:
    assert alike_ids({one: ["train"], two: ["test"]}) == []


@pytest.mark.parametrize(
    "word",
    ["Mean", "Median", "SD", "Total", "Min", "max", "Reference range", "TEST", "Average", "Normal range", "Sum", "n",
     "Std. Dev.", "Units", "Grand Total", "patient_id", "25%", "Count"],
)  # fmt: skip
def test_a_row_that_sums_others_up_is_noted(word: str, tmp_path: Path) -> None:
    rows = [*lab_rows(3), {"id": word, "labs.Sodium": 141}]
    report = check_manifest(write_table(tmp_path / "t.csv", rows), for_prediction=True)
    assert "in the place of an id (row 4)" in str(report["notes"]) and not has_faults(report)


@pytest.mark.parametrize(
    "word",
    ["test-0012", "Total1", "Minh", "Maxwell", "SD-004", "N12", "mean01", "Summers", "sample 7", "7", "25", "id7"],
)
def test_an_id_that_begins_as_a_word_of_a_summary_is_not_noted(word: str, tmp_path: Path) -> None:
    rows = [*lab_rows(3), {"id": word, "labs.Sodium": 141}]
    report = check_manifest(write_table(tmp_path / "t.csv", rows), for_prediction=True)
    assert "place of an id" not in str(report["notes"]) and report["rows"] == 4


@pytest.mark.parametrize(
    "name", ["#REF!", "N/A", "unknown", "nan", "-", "0", "None", "XXX", "???", "#N/A", "anonymous"]
)
def test_two_rows_of_nobody_are_noted(name: str, tmp_path: Path) -> None:
    rows = [{**row, "patient_id": f"p{number}"} for number, row in enumerate(lab_rows(4))]
    rows[1]["patient_id"] = name
    table = tmp_path / "t.csv"
    assert "unknown patient" not in str(check_manifest(write_table(table, rows), for_prediction=True)["notes"])
    rows[2]["patient_id"] = name
    report = check_manifest(write_table(table, rows), for_prediction=True)
    assert "unknown patient" in str(report["notes"]) and "(row 2, 3)" in str(report["notes"])


@pytest.mark.parametrize("name", ["p1", "Nan Li", "unknown-7", "N/A-3", "1000", "999", "Nil-12", "x7"])
def test_two_rows_of_one_patient_are_not_noted(name: str, tmp_path: Path) -> None:
    rows = [{**row, "patient_id": f"p{number}"} for number, row in enumerate(lab_rows(4))]
    rows[1]["patient_id"] = rows[2]["patient_id"] = name
    report = check_manifest(write_table(tmp_path / "t.csv", rows), for_prediction=True)
    assert report["notes"] == []
