"""Files and laboratory rows that stand with several patients of a table."""

import shutil
from pathlib import Path

import pytest
from cohort_files import cohort_rows, small_config, small_processor, write_table

from tgmm_hf.data.check_manifest import check_manifest, has_faults, report_text
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.data.prediction import patients_from_table, with_shared_files
from tgmm_hf.data.prepare import prepare
from tgmm_hf.data.repeated_inputs import CODE, repeated_inputs
from tgmm_hf.data.table_files import CohortTableError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Signal files and clips that are no ECG and no echo: only their content is compared."""
    root = tmp_path_factory.mktemp("files")
    (root / "ecg").mkdir()
    (root / "echo").mkdir()
    for number in range(10):
        (root / f"ecg/{number}.hea").write_text(f"{number} 12 500 5000\n")
        (root / f"ecg/{number}.dat").write_bytes(bytes([number]) * 100_000)
        for clip in "ab":
            (root / f"echo/{number}_{clip}.dcm").write_bytes(bytes(70_000) + f"{number}{clip}".encode())
    return root


@pytest.fixture
def root(files: Path, tmp_path: Path) -> Path:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    return tmp_path


def found(root: Path) -> list[tuple[str, list[int], bool]]:
    """(kind, rows, leak) of what is repeated."""
    table = read_cohort_table(root / "cohort.csv")
    return [(entry.kind, [use.row for use in entry.uses], entry.is_leak) for entry in repeated_inputs(table)]


def test_different_files_are_not_named(root: Path) -> None:
    write_table(root / "cohort.csv", cohort_rows(10))
    assert found(root) == []


def test_one_ecg_under_two_names_in_one_split_is_a_note(root: Path) -> None:
    path = write_table(root / "cohort.csv", cohort_rows(10))  # rows 1 and 6 are in train
    shutil.copy(root / "ecg/0.dat", root / "ecg/5.dat")
    assert found(root) == [("ecg", [1, 6], False)]
    report = check_manifest(path)
    assert report["repeated_inputs"][0]["rows"] == [1, 6] and not has_faults(report)
    assert "one ecg file stands with several patients" in report_text(report)


def test_one_file_in_two_splits_is_a_fault_and_prepare_refuses_it(root: Path) -> None:
    rows = cohort_rows(10)
    rows[3]["ecg_path"] = rows[0]["ecg_path"]  # validation and train
    path = write_table(root / "cohort.csv", rows)
    assert found(root) == [("ecg", [1, 4], True)] and has_faults(check_manifest(path))
    with pytest.raises(CohortTableError, match="several splits"):
        prepare(path, root / "out", small_processor(small_config()))
    assert not (root / "out").exists() or not any((root / "out").glob("**/*.arrow"))


def test_clips_are_compared_to_their_end(root: Path) -> None:
    write_table(root / "cohort.csv", cohort_rows(10))
    shutil.copy(root / "echo/0_a.dcm", root / "echo/6_b.dcm")
    assert found(root) == [("echo", [1, 7], False)]


def test_one_admission_under_two_ids_is_named_by_its_laboratory_row(root: Path) -> None:
    rows = cohort_rows(10)
    for number, row in enumerate(rows):
        row |= {f"labs.{name}": 1 + number + place for place, name in enumerate(["Sodium", "Potassium", "Urea", "ALT"])}
        row |= {f"labs.{name}": 2 + number for name in ("AST", "Glucose", "Chloride", "Calcium")}
    cells = {name: value for name, value in rows[1].items() if name.startswith(("labs.", "unit."))}
    rows[4] |= cells  # train and test
    path = write_table(root / "cohort.csv", rows)
    assert ("labs", [2, 5], False) in found(root)
    assert not has_faults({**check_manifest(path), "refused_cells": {}})


def test_rows_of_one_patient_may_share_a_file(root: Path) -> None:
    rows = cohort_rows(10)
    rows[1] |= {"patient_id": rows[0]["patient_id"], "ecg_path": rows[0]["ecg_path"]}
    write_table(root / "cohort.csv", rows)
    assert found(root) == []


def test_a_prediction_names_a_file_that_stands_with_another_patient(root: Path) -> None:
    rows = cohort_rows(10)
    rows[2]["ecg_path"] = rows[0]["ecg_path"]
    patients = patients_from_table(write_table(root / "cohort.csv", rows))
    empty = [{"checks": [], "notes": []} for _ in patients]
    answers = list(with_shared_files(empty, patients))
    named = [number for number, answer in enumerate(answers) if answer["checks"]]
    assert named == [0, 2] and answers[0]["checks"][0]["code"] == CODE and answers[0]["notes"]


def test_files_outside_the_root_are_not_opened(root: Path) -> None:
    inside = root / "inside"
    inside.mkdir()
    rows = [row | {"ecg_path": f"../{row['ecg_path']}" if row["ecg_path"] else ""} for row in cohort_rows(10)]
    for row in rows:
        row |= {"echo_paths": "", "echo_views": ""}
    shutil.copy(root / "ecg/0.dat", root / "ecg/3.dat")
    path = write_table(inside / "cohort.csv", rows)
    assert repeated_inputs(read_cohort_table(path)) == []
    assert len(repeated_inputs(read_cohort_table(path, allow_outside=True))) == 1
