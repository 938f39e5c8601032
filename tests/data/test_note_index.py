"""`tgmm index` and `tgmm retrieve`: vectors of a table, the nearest ones, stopping and going on, refusals."""

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from command_line import run
from heart_signal import make_heart
from input_files import write_wfdb
from tiny_more import tiny_more_of_files
from xray_files import draw_chest, write_picture, write_xray

from tgmm_hf import LEADS, MeitConfig
from tgmm_hf.data import note_index
from tgmm_hf.data.note_index import load_more, make_index, search
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError

NOTES = ("clear lungs", "a large effusion on the left", "sinus rhythm", "atrial fibrillation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model and a table of four rows: one X-ray stands in two of them, one file is no chest."""
    folder = tmp_path_factory.mktemp("index")
    save_repository(*tiny_more_of_files(), folder / "model")
    write_picture(folder / "0.png", draw_chest(seed=0))
    write_picture(folder / "1.png", 255 - draw_chest(seed=1))
    write_xray(folder / "hand.dcm", BodyPartExamined="HAND")
    files = [("0.png", ""), ("1.png", "1/record"), ("0.png", "2/record"), ("hand.dcm", "")]
    for _, recording in files:
        if recording:
            (folder / recording).parent.mkdir()
            write_wfdb((folder / recording).parent, make_heart(5000, 500, int(recording[0])), list(LEADS))
    with (folder / "notes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "patient_id", "split", "xray", "ecg", "report"])
        for number, (xray, recording) in enumerate(files):
            writer.writerow([f"r{number}", f"p{number}", "test", xray, recording, NOTES[number]])
    make_index(str(folder / "model"), folder / "notes.csv", folder / "index")
    return folder


def test_every_input_is_in_the_index_once_with_the_models_vector(folder: Path):
    table = pq.read_table(folder / "index" / "index.parquet")
    found = list(zip(table["kind"].to_pylist(), table["id"].to_pylist(), strict=True))
    assert found == [
        ("xray", "r0"),
        ("xray", "r1"),
        ("ecg", "r1"),
        ("ecg", "r2"),
        *(("text", f"r{i}") for i in range(4)),
    ]
    model, processor = load_more(str(folder / "model"))
    batch = processor(xray=folder / "1.png", return_tensors="pt")
    with torch.no_grad():
        expected = model(**batch).xray_embeds[0].numpy()
    np.testing.assert_allclose(table["vector"][1].as_py(), expected, atol=1e-5)
    refused = list(csv.DictReader((folder / "index" / "refused.csv").open()))
    assert [(row["id"], row["item"]) for row in refused] == [("r3", "xray")] and "HAND" in refused[0]["reason"]


@pytest.mark.parametrize(
    ("query", "kind", "expected"),
    [({"xray": "1.png"}, "xray", "r1"), ({"ecg": "2/record"}, "ecg", "r2"), ({"text": NOTES[1]}, "text", "r1")],
)
def test_the_nearest_to_an_input_of_the_index_is_itself(folder: Path, query, kind, expected):
    given = {name: value if name == "text" else str(folder / value) for name, value in query.items()}
    matches = search(*load_more(str(folder / "model")), folder / "index", given, ["xray", "ecg", "text"], 3)
    own = [match for match in matches if match.kind == kind]
    assert own[0].id == expected and own[0].similarity == pytest.approx(1, abs=1e-4)
    assert own[0].patient_id == expected.replace("r", "p")
    for name in ("xray", "ecg", "text"):
        similarities = [match.similarity for match in matches if match.kind == name]
        assert similarities == sorted(similarities, reverse=True) and len(similarities) in (2, 3)


def test_a_stopped_index_goes_on(folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(note_index, "PART", 2)
    encode, calls = note_index.encode_rows, []

    def encode_or_stop(*arguments):
        calls.append(len(arguments[0]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(note_index, "encode_rows", encode_or_stop)
    arguments = str(folder / "model"), folder / "notes.csv", tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        make_index(*arguments)
    record = make_index(*arguments)
    assert calls == [2, 2, 2] and record["vectors"] == {"xray": 2, "ecg": 2, "text": 4}
    assert pq.read_table(tmp_path / "index" / "index.parquet")["id"].to_pylist()[:1] == ["r0"]
    assert make_index(*arguments) == record and len(calls) == 3


def test_the_commands(folder: Path, tmp_path: Path, capsys):
    assert run("index", folder / "model", folder / "notes.csv", "--out", tmp_path / "index") == 0
    assert "2 xray, 2 ecg, 4 text; 1 refused" in capsys.readouterr().out
    words = ["retrieve", folder / "model", tmp_path / "index", "--text", NOTES[0], "--find", "xray", "--number", "1"]
    assert run(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and " xray " in lines[0] and "not a medical device" in lines[1]
    for wrong in ([], ["--text", "a", "--xray", folder / "0.png"]):
        assert run("retrieve", folder / "model", tmp_path / "index", *wrong) == 2
    assert run("retrieve", folder / "model", tmp_path / "index", "--xray", folder / "hand.dcm") == 1
    assert "HAND" in capsys.readouterr().err


def test_another_model_or_another_table_is_refused(folder: Path, tmp_path: Path):
    model, processor = load_more(str(folder / "model"))
    with torch.no_grad():
        model.xray_projection.linear2.weight.mul_(-1)
    save_repository(model, processor, tmp_path / "other")
    with pytest.raises(TgmmError, match="other weights"):
        search(*load_more(str(tmp_path / "other")), folder / "index", {"text": "a"}, ["text"], 1)
    with pytest.raises(TgmmError, match="weights"):
        make_index(str(tmp_path / "other"), folder / "notes.csv", folder / "index")
    with pytest.raises(TgmmError, match="tgmm index"):
        search(model, processor, tmp_path, {"text": "a"}, ["text"], 1)
    MeitConfig.tiny().save_pretrained(tmp_path / "meit")
    with pytest.raises(TgmmError, match="meit"):
        load_more(str(tmp_path / "meit"))
