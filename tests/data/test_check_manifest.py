"""`tgmm check-manifest` and the JSON Schema of a row."""

import json
from pathlib import Path

import numpy as np
import pytest
from cohort_files import cohort_rows, write_table
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.data import check_manifest as module
from tgmm_hf.data.check_manifest import check_manifest, has_faults
from tgmm_hf.data.manifest import EVENTS, REQUIRED, SPLITS
from tgmm_hf.data.outcome_checks import split_unit_doubts
from tgmm_hf.data.prediction import patients_from_table
from tgmm_hf.utils.names import VIEWS

SCHEMA = json.loads((Path(module.__file__).parent / "manifest.schema.json").read_text())


def test_report_on_a_good_table(cohort: Path, tmp_path: Path) -> None:
    report = check_manifest(cohort / "cohort.csv")
    assert report["rows"] == report["patients"] == 10 and report["missing_files"]["number"] == 0
    assert sum(part["rows"] for part in report["splits"].values()) == 10
    assert report["splits"]["train"]["tasks"]["hf_diagnosis"] == {"0": 3, "1": 3}
    result = CliRunner().invoke(app, ["check-manifest", str(cohort / "cohort.csv"), "--out", str(tmp_path / "r.json")])
    assert result.exit_code == 0 and "0 files are not there" in result.output
    assert result.output.splitlines()[-1].startswith("Result: no fault.")
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == 10


def test_a_patient_of_two_genders_or_lives_is_noted(tmp_path: Path) -> None:
    rows = [{**row, "ecg_path": "", "echo_paths": "", "echo_views": "", "labs.Sodium": 140} for row in cohort_rows(4)]
    for row, sex, age in zip(rows, "FFMM", (40, 60, 40, 60), strict=True):
        row |= {"patient_id": "p1", "split": "train", "labs.gender": sex, "labs.age": age}
    assert "genders" in str(check_manifest(write_table(tmp_path / "a.csv", rows))["notes"])
    for row, age in zip(rows, (40, 60, 70, 75), strict=True):
        row |= {"labs.gender": "F", "labs.age": age}
    notes = str(check_manifest(write_table(tmp_path / "b.csv", rows))["notes"])
    assert "years apart" in notes and "genders" not in notes and "p1" not in notes
    rows[0]["labs.age"] = 55
    assert "apart" not in str(check_manifest(write_table(tmp_path / "c.csv", rows))["notes"])


def test_faults_are_counted_without_values_of_patients(tmp_path: Path) -> None:
    rows = cohort_rows(6)
    for row in rows:
        row["labs.Potassium"], row["labs.shoe size"], row["ward"] = 140, 43, "B2"
    path = write_table(tmp_path / "cohort.csv", rows)
    report = check_manifest(path)
    assert report["missing_files"]["number"] == 4 + 8
    assert {"row": 1, "file": "ecg"} in report["missing_files"]["examples"]
    assert report["refused_cells"] == {"Potassium": {"number": 6, "rows": [1, 2, 3, 4, 5]}}
    assert report["unknown_columns"] == ["shoe size"] and report["ignored_columns"] == ["ward"]
    result = CliRunner().invoke(app, ["check-manifest", str(path)])
    # the name of pytest's directory has a number, which may be the value
    assert result.exit_code == 1 and "140" not in result.output.replace("\n", "").replace(str(tmp_path), "")
    assert "Potassium: 6, row 1, 2, 3, 4, 5, ..." in result.output and "12 files are not there, row 1" in result.output
    assert f"looked for in {tmp_path}: give --root" in result.output.replace("\n", "")
    assert "will be left out" in result.output.splitlines()[-1]


def test_a_table_for_prediction(cohort: Path, tmp_path: Path) -> None:
    row = {"id": "a", "labs.age": 71, "ecg_path": "ecg/0", "label.hf_diagnosis": "unknown"}
    path = write_table(tmp_path / "cohort.csv", [row])
    command = ["check-manifest", str(path), "--root", str(cohort)]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code != 0 and "missing column(s) patient_id, split" in str(refused.exception)
    accepted = CliRunner().invoke(app, [*command, "--for-prediction"])
    assert accepted.exit_code == 0 and "0 files are not there" in accepted.output
    assert "no row in the split" not in accepted.output


@pytest.mark.parametrize("name", ["ecg/0", "ecg/0.hea", "ecg/0.dat"])
def test_an_ecg_may_be_named_with_its_suffix(cohort: Path, tmp_path: Path, name: str) -> None:
    row = cohort_rows(1)[0] | {"ecg_path": name, "echo_paths": "", "echo_views": ""}
    report = check_manifest(write_table(tmp_path / "cohort.csv", [row]), root=cohort)
    assert report["missing_files"]["number"] == 0


@pytest.mark.parametrize("name", ["ecg/a.xml", "ecg/a.scp", "ecg/a.edf", "ecg/a.csv", "ecg/without", "ecg/a.dcm"])
def test_an_ecg_in_one_file_is_there_or_missing_under_its_own_name(cohort: Path, tmp_path: Path, name: str) -> None:
    row = cohort_rows(1)[0] | {"ecg_path": name, "echo_paths": "", "echo_views": ""}
    table = write_table(tmp_path / "cohort.csv", [row])
    assert check_manifest(table)["missing_files"]["number"] == 1
    (tmp_path / "ecg").mkdir()
    (tmp_path / name).write_bytes(b"any")
    assert check_manifest(table)["missing_files"]["number"] == 0


def test_schema_and_reader_name_the_same_values() -> None:
    properties, patterns = SCHEMA["properties"], SCHEMA["patternProperties"]
    assert SCHEMA["required"] == list(REQUIRED) and properties["split"]["enum"] == list(SPLITS)
    assert properties["echo_views"]["items"]["enum"] == [*VIEWS, None]
    assert patterns["^event\\..+"]["enum"] == [*EVENTS, None]


def test_schema_refuses_values_that_the_reader_refuses() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    row = {"id": "a", "patient_id": "p", "split": "train", "labs.age": 71, "echo_views": ["A4C", None]}
    jsonschema.validate(row, SCHEMA)
    jsonschema.validate({name: row[name] for name in row if name != "echo_views"}, SCHEMA)
    for wrong in ({"split": "dev"}, {"echo_views": ["A6C"]}, {"event.hf_risk": 3}, {"time.hf_risk": -1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**row, **wrong}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"ward": "B2", **{name: row[name] for name in REQUIRED}}, SCHEMA)  # no data


def test_a_table_with_semicolons_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("id;patient_id;split;labs.Creatinine\na;p;train;1,4\n")
    with pytest.raises(ValueError, match="separated by semicolons"):
        check_manifest(tmp_path / "cohort.csv")


def test_every_fault_is_named_in_one_run_without_values(tmp_path: Path) -> None:
    rows = cohort_rows(6)
    rows[0]["split"] = "traim"
    rows[1]["label.hf_diagnosis"], rows[1]["echo_views"] = "secretvalue", "A4C"
    rows[2]["event.hf_risk"], rows[2]["labs.Creatinine"] = 7, "1,4"
    rows[3]["labs.Creatinine"] = "990077 umol/L"
    rows[4]["labs.Creatinine"] = "5 bananas"
    path = write_table(tmp_path / "cohort.csv", rows)
    report = check_manifest(path)
    assert {row for fault in report["faults"] for row in fault["rows"]} == {1, 2, 3}
    assert len(report["faults"]) == 4 and "Did you mean 'train'" in json.dumps(report["faults"])
    reasons = {group["reason"]: group["rows"] for group in report["refused_reasons"]["Creatinine"]}
    assert sorted(reasons.values()) == [[3], [4], [5]]
    result = CliRunner().invoke(app, ["check-manifest", str(path)])
    assert result.exit_code == 1
    for value in ("secretvalue", "1,4", "990077", "{", "p0", "'a0'"):
        assert value not in result.output, value


def test_refused_cells_are_grouped_by_reason(tmp_path: Path) -> None:
    rows = [{"id": f"a{n}", "labs.Potassium": 140 + n, "labs.gender": "X"} for n in range(9)]
    report = check_manifest(write_table(tmp_path / "cohort.csv", rows), for_prediction=True)
    (potassium,) = report["refused_reasons"]["Potassium"]
    assert potassium["number"] == 9 and "allowed is" in potassium["reason"] and "14" not in potassium["reason"]
    assert len(report["refused_reasons"]["gender"]) == 1
    result = CliRunner().invoke(app, ["check-manifest", str(tmp_path / "cohort.csv"), "--for-prediction"])
    assert result.exit_code == 1


def test_faults_of_all_columns_are_in_one_message(tmp_path: Path) -> None:
    rows = [{"id": "a", "labs.age": 71, "label.hf_diagnosys": 1, "time.hf_risk": 4, "unit.zinc": "g"}]
    with pytest.raises(ValueError, match=r"patient_id, split.*Did you mean 'hf_diagnosis'.*--config.*event.*zinc"):
        check_manifest(write_table(tmp_path / "cohort.csv", rows))


def test_a_table_without_outcomes_is_told_about_prediction(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--for-prediction"):
        check_manifest(write_table(tmp_path / "cohort.csv", [{"id": "a", "labs.age": 71}]))


def test_files_are_opened_if_asked(cohort: Path, tmp_path: Path) -> None:
    rows = cohort_rows(10)
    (cohort / "broken.dcm").write_bytes(b"no DICOM")
    rows[1]["echo_paths"] = "broken.dcm;echo/1_b.dcm"
    path = write_table(tmp_path / "cohort.csv", rows)
    quick, full = (check_manifest(path, root=cohort, read_files=read) for read in (False, True))
    assert quick["refused_files"] is None and not has_faults(quick)
    assert [group["rows"] for group in full["refused_files"]] == [[2]] and has_faults(full)
    assert full["refused_files"][0]["reason"].startswith("echo: ")
    result = CliRunner().invoke(app, ["check-manifest", str(path), "--root", str(cohort), "--read-files"])
    assert result.exit_code == 1 and "1 x echo: " in result.output


def test_times_in_years_and_a_validation_split_of_one_class_are_noted(tmp_path: Path) -> None:
    rows = cohort_rows(10)
    for row in rows:
        row["time.hf_risk"] = 2.5 if row["time.hf_risk"] else ""
        row["label.hf_diagnosis"] = 1
    notes = " ".join(check_manifest(write_table(tmp_path / "cohort.csv", rows))["notes"])
    assert "time.hf_risk: the longest follow-up is 2.5 days" in notes and "both classes" in notes
    assert not check_manifest(write_table(tmp_path / "small.csv", rows[:1]))["notes"][1:]  # no validation split


def test_the_years_of_the_cases_are_noted(shared_dir: Path) -> None:
    report = check_manifest(shared_dir / "cases" / "tables" / "years.csv")
    assert any("longest follow-up" in note for note in report["notes"])


@pytest.mark.parametrize("hours", [[24.0 * (20 + 7 * i) for i in range(10)], [8760.0, 500.5], [17520.0, 30.0]])
def test_times_in_hours_are_noted_and_times_in_days_are_not(tmp_path: Path, hours: list[float]) -> None:
    rows = cohort_rows(10)
    for index, row in enumerate(rows):
        row["time.hf_risk"], row["event.hf_risk"] = hours[index % len(hours)], 0
    notes = " ".join(check_manifest(write_table(tmp_path / "hours.csv", rows))["notes"])
    assert "Are these hours?" in notes
    for row in rows:
        row["time.hf_risk"] = row["time.hf_risk"] / 24
    days = " ".join(check_manifest(write_table(tmp_path / "days.csv", rows))["notes"])
    assert "Are these hours?" not in days


@pytest.mark.parametrize(
    ("split", "factor", "words"),
    [("test", 1 / 30.4, "months"), ("train", 1 / 30.4, "months"),
     ("validation", 24, "hours"), ("test", 1 / 365, "years"),
     ("test", 1, ""), ("test", 1 / 4, "")],
)  # fmt: skip
def test_times_of_another_unit_in_one_split_are_noted(tmp_path: Path, split: str, factor: float, words: str) -> None:
    rows = cohort_rows(60)
    random = np.random.default_rng(1)
    for row in rows:
        days = float(min(365, random.exponential(400)))
        row["time.hf_risk"], row["event.hf_risk"] = days * (factor if row["split"] == split else 1), int(days < 365)
    notes = [note for note in check_manifest(write_table(tmp_path / "a.csv", rows))["notes"] if "in all splits" in note]
    assert bool(notes) == bool(words)
    assert not words or ([split] == [note.split("the split ")[1].split(" is")[0] for note in notes])
    assert not words or words in notes[0]


@pytest.mark.parametrize("size", [10, 30])
def test_splits_of_one_unit_are_not_noted(size: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        times = np.minimum(365, random.lognormal(4, 2, 5 * size)).tolist()  # early deaths and the end of a year
        assert split_unit_doubts("a", {"train": times[: 3 * size], "test": times[3 * size :]}) == []


def test_a_column_that_holds_another_quantity_is_named(tmp_path: Path) -> None:
    rows = cohort_rows(12)
    sodium = [136, 141, 138, 129, 140, 144, 139, 137, 142, 135, 140, 133]
    for row, value in zip(rows, sodium, strict=True):
        row["labs.Sodium"], row["labs.Chloride"] = value, value - 38
    assert not check_manifest(write_table(tmp_path / "right.csv", rows))["column_doubts"]
    for row in rows:
        row["labs.Sodium"], row["labs.Chloride"] = row["labs.Chloride"], row["labs.Sodium"]
    path = write_table(tmp_path / "exchanged.csv", rows)
    doubts = check_manifest(path)["column_doubts"]
    assert [doubt.split(":")[0] for doubt in doubts] == ["Sodium", "Chloride"]
    output = CliRunner().invoke(app, ["check-manifest", str(path)]).output
    assert "Sodium: the median of 12 values is 100.5" in output
    with pytest.warns(UserWarning, match="Sodium: the median"):
        patients_from_table(path, root=tmp_path)
