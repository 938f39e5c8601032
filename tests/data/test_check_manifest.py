"""`tgmm check-manifest` and the JSON Schema of a row."""

import json
from pathlib import Path

import pytest
from cohort_files import cohort_rows, write_table
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.data import check_manifest as module
from tgmm_hf.data.check_manifest import check_manifest
from tgmm_hf.data.manifest import EVENTS, REQUIRED, SPLITS
from tgmm_hf.utils.names import VIEWS

SCHEMA = json.loads((Path(module.__file__).parent / "manifest.schema.json").read_text())


def test_report_on_a_good_table(cohort: Path, tmp_path: Path) -> None:
    report = check_manifest(cohort / "cohort.csv")
    assert report["rows"] == report["patients"] == 10 and report["missing_files"]["number"] == 0
    assert sum(part["rows"] for part in report["splits"].values()) == 10
    assert report["splits"]["train"]["tasks"]["hf_diagnosis"] == {"0": 3, "1": 3}
    result = CliRunner().invoke(app, ["check-manifest", str(cohort / "cohort.csv"), "--out", str(tmp_path / "r.json")])
    assert result.exit_code == 0 and "0 files are not there" in result.output
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == 10


def test_faults_are_counted_without_values_of_patients(tmp_path: Path) -> None:
    rows = cohort_rows(6)
    for row in rows:
        row["labs.Potassium"], row["labs.shoe size"], row["ward"] = 140, 43, "B2"
    path = write_table(tmp_path / "cohort.csv", rows)
    report = check_manifest(path)
    assert report["missing_files"]["number"] == 4 + 8
    assert {"row": 1, "file": "ecg/0.hea"} in report["missing_files"]["examples"]
    assert report["refused_cells"] == {"Potassium": {"number": 6, "rows": [1, 2, 3, 4, 5]}}
    assert report["unknown_columns"] == ["shoe size"] and report["ignored_columns"] == ["ward"]
    result = CliRunner().invoke(app, ["check-manifest", str(path)])
    assert result.exit_code == 1 and "140" not in result.output
    assert "Potassium: 6, row 1, 2, 3, 4, 5, ..." in result.output and "12 files are not there, row 1" in result.output


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
