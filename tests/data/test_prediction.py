"""Files of one patient and tables of patients, as the command line, the web page and the report read them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import smallest_model

from tgmm_hf.data.prediction import (
    is_answered,
    load_model,
    patient_from_files,
    patients_from_table,
    read_labs,
    read_views,
)
from tgmm_hf.utils.errors import TgmmError


def test_a_patient_holds_what_the_files_hold(tmp_path: Path) -> None:
    (tmp_path / "row.json").write_text('{"Creatinine": 1.4, "BNP": [880, "pg/mL"]}')
    (tmp_path / "views.csv").write_text("\ufeffdicom_filepath,view\na.dcm,A4C\n")  # with Excel's byte order mark
    (tmp_path / "study").mkdir()
    patient = patient_from_files(
        labs=tmp_path / "row.json",
        ecg=tmp_path / "recording",
        echo=tmp_path / "study",
        views=tmp_path / "views.csv",
        identifier="mine",
    )
    assert patient == {
        "id": "mine",
        "labs": {"Creatinine": 1.4, "BNP": (880, "pg/mL")},
        "ecg": str(tmp_path / "recording"),
        "echo": str(tmp_path / "study"),
        "views": {"a.dcm": "A4C"},
    }


def test_every_modality_may_be_left_out(tmp_path: Path) -> None:
    assert patient_from_files() == {"id": None}
    clip = tmp_path / "clip.dcm"
    assert patient_from_files(echo=clip) == {"id": None, "echo": [str(clip)], "views": None}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "is not valid JSON"), ("[1, 2]", "one object of column names and values, but it holds a list")],
)
def test_a_lab_file_of_another_kind_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "row.json").write_text(text)
    with pytest.raises(TgmmError, match=reason) as error:
        read_labs(tmp_path / "row.json")
    assert error.value.item == str(tmp_path / "row.json")


def test_a_table_of_views_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "views.csv").write_text("file,view\na.dcm,A4C\n")
    with pytest.raises(TgmmError, match=r"lacks the column\(s\) dicom_filepath\. Its columns are file, view"):
        read_views(tmp_path / "views.csv")


def test_patients_of_a_table_are_chosen_by_split_and_number(tmp_path: Path) -> None:
    rows = ["a,1,train,71,", "b,2,test,66,ecg/b", "c,3,test,,"]
    (tmp_path / "table.csv").write_text("\n".join(["id,patient_id,split,labs.age,ecg_path", *rows]) + "\n")
    patients = patients_from_table(tmp_path / "table.csv", split="test")
    assert [patient["id"] for patient in patients] == ["b", "c"]
    assert patients[0]["ecg"] == str(tmp_path / "ecg/b") and patients[1]["labs"] is None
    assert [patient["id"] for patient in patients_from_table(tmp_path / "table.csv", limit=1)] == ["a"]
    elsewhere = patients_from_table(tmp_path / "table.csv", split="test", root=tmp_path / "files")
    assert elsewhere[0]["ecg"] == str(tmp_path / "files/ecg/b")
    with pytest.raises(TgmmError, match="no patient in the split validation"):
        patients_from_table(tmp_path / "table.csv", split="validation")


def test_a_prediction_is_answered_if_any_input_was_used() -> None:
    assert is_answered(json.loads('{"used": {"labs": ["age"], "ecg": [], "echo": []}}'))
    assert not is_answered({"used": {"labs": [], "ecg": [], "echo": []}})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("drop", r"lacks 1 .*view_embeddings\.weight"),
        ("grow", r"lacks 1 .*view_embeddings\.weight"),
        ("add", r"know \(new\)"),
    ],
)
def test_a_model_whose_weights_do_not_fit_is_refused(tmp_path: Path, change: str, reason: str) -> None:
    smallest_model().save_pretrained(tmp_path)
    assert load_model(str(tmp_path)).config.model_type == "tgmm"
    weights = load_file(tmp_path / "model.safetensors")
    name = "view_embeddings.weight"
    if change == "drop":
        del weights[name]
    elif change == "grow":
        weights[name] = torch.cat([weights[name], weights[name]])
    else:
        weights["new"] = torch.zeros(1)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TgmmError, match=reason):
        load_model(str(tmp_path))
