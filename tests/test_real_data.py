"""`tgmm predict` on real files: WFDB and DICOM ECG, a multi-frame ultrasound DICOM, a row of real laboratory values."""

import csv
import gzip
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import bert_cased_tokenizer, default_processor
from tgmm_hf.utils.names import LEADS


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory) -> Path:
    """An untrained tiny model with the packaged vocabulary: what is tested is the way through the files."""
    directory = tmp_path_factory.mktemp("model")
    tokenizer = bert_cased_tokenizer()
    config = TgmmConfig.tiny(labs_config={"vocab_size": len(tokenizer)})
    config.tokenize_tasks(tokenizer)
    torch.manual_seed(0)
    TgmmModel(config).save_pretrained(directory)
    default_processor(config, tokenizer).save_pretrained(directory)
    return directory


def lab_row(hosp: Path) -> dict[str, object]:
    """Last value of every test of the patient with the most rows, by its label in d_labitems."""

    def rows(name: str) -> list[dict[str, str]]:
        with gzip.open(hosp / f"{name}.csv.gz", "rt", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    labels = {row["itemid"]: row["label"] for row in rows("d_labitems") if row["fluid"] == "Blood"}
    events = [row for row in rows("labevents") if row["valuenum"] and row["itemid"] in labels]
    subjects = [row["subject_id"] for row in events]
    subject = max(set(subjects), key=subjects.count)
    wanted = {"Creatinine", "Sodium", "Potassium", "Urea Nitrogen", "Hemoglobin", "Anion Gap", "Bicarbonate"}
    row: dict[str, object] = {}
    for event in sorted(events, key=lambda event: event["charttime"]):
        if event["subject_id"] == subject and labels[event["itemid"]] in wanted:
            row[labels[event["itemid"]]] = [float(event["valuenum"]), event["valueuom"]]
    patient = next(row for row in rows("patients") if row["subject_id"] == subject)
    return row | {"age": int(patient["anchor_age"]), "gender": patient["gender"]}


@pytest.mark.parametrize("ecg", ["wfdb/georgia/E07500", "wfdb/ptbxl/00001_lr"])
def test_real_files_go_through_predict(shared_dir, model_directory, tmp_path, ecg):
    data = shared_dir / "data"
    labs = lab_row(data / "mimic_iv_demo" / "hosp")
    (tmp_path / "row.json").write_text(json.dumps(labs))
    (tmp_path / "views.csv").write_text("dicom_filepath,view\ncolor3d_jpeg_baseline.dcm,A4C\n")
    out = tmp_path / "prediction.json"
    options = {
        "--labs": tmp_path / "row.json",
        "--ecg": data / ecg,
        "--echo": data / "echo_dicom",
        "--views": tmp_path / "views.csv",
        "--out": out,
    }
    arguments = [str(part) for option in options.items() for part in option]
    result = CliRunner().invoke(app, ["predict", str(model_directory), *arguments])
    assert result.exit_code == 0, result.output
    answer = json.loads(out.read_text())
    assert answer["refused"] == []
    assert answer["used"]["ecg"] == list(LEADS)
    assert answer["used"]["echo"] == ["A4C"]
    assert len(labs) >= 8 and set(answer["used"]["labs"]) == set(labs)
    assert sum(answer["hf_diagnosis"]["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert isinstance(answer["hf_risk"]["risk"], float)


def test_an_ecg_and_an_echo_of_two_patients_are_no_patient(shared_dir, model_directory, tmp_path):
    """The headers of the two real DICOM files name different patients. Each file alone is answered."""
    data, out = shared_dir / "data", tmp_path / "prediction.json"
    (tmp_path / "views.csv").write_text("dicom_filepath,view\ncolor3d_jpeg_baseline.dcm,A4C\n")
    ecg = ["--ecg", str(data / "ecg_dicom/waveform_ecg.dcm")]
    echo = ["--echo", str(data / "echo_dicom"), "--views", str(tmp_path / "views.csv")]
    assert CliRunner().invoke(app, ["predict", str(model_directory), *ecg, "--out", str(out)]).exit_code == 0
    assert json.loads(out.read_text())["used"]["ecg"] == list(LEADS)
    assert CliRunner().invoke(app, ["predict", str(model_directory), *ecg, *echo, "--out", str(out)]).exit_code == 1
    answer = json.loads(out.read_text())
    assert answer["refused"][0]["item"] == "patient" and not any(answer["used"].values())
