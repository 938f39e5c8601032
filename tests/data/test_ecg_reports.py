"""Reports about one ECG by a saved model of either family: `tgmm report` and the functions behind it."""

import json
from pathlib import Path

import pytest
from command_line import run
from input_files import make_ecg, write_wfdb
from PIL import Image
from tiny_heartcare import ecg, fitting_model, tiny_processor
from tiny_reporters import tiny_processor as meit_processor
from tiny_reporters import tiny_reporter

from tgmm_hf import LEADS
from tgmm_hf.data.ecg_reports import HEARTCARE, MEIT, load_report_pipeline, load_reporter, write_report
from tgmm_hf.inputs.ecg_picture import draw_ecg_picture
from tgmm_hf.inputs.ecg_sheet import EcgTraces
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError


@pytest.fixture(scope="module")
def heartcare(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("heartcare") / "model"
    model = fitting_model()
    save_repository(model, tiny_processor(model), directory)
    return directory


@pytest.fixture(scope="module")
def meit(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("meit") / "model"
    save_repository(tiny_reporter(), meit_processor(), directory)
    return directory


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    return write_wfdb(tmp_path_factory.mktemp("ecg"), make_ecg(), list(LEADS))


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "photo.png"
    Image.fromarray(draw_ecg_picture(EcgTraces(ecg(4)["signal"], 500.0))).save(path)
    return path


def asked(model: Path, out: Path, *words: object) -> dict:
    assert run("report", model, "--out", out, "--max-new-tokens", 5, *words) == 0
    return json.loads(out.read_text())


def test_the_command_asks_a_heartcare_model_about_a_recording(heartcare: Path, recording: Path, tmp_path: Path, capsys):
    answer = asked(heartcare, tmp_path / "a.json", "--ecg", recording, "--instruction", "rhythm?", "--id", "p1")
    printed = capsys.readouterr().out
    pipe = load_report_pipeline(str(heartcare))
    short = {"generate_kwargs": {"max_new_tokens": 5}}
    alone = pipe({"ecg": str(recording), "question": "rhythm?"}, **short)
    assert answer["report"] == alone["answer"] and answer["report"] and answer["report"] in printed
    assert answer["instruction"] == "rhythm?" and answer["id"] == "p1" and "answer" not in answer
    assert answer["streams"] == ["signal", "picture"]
    assert answer["used"] == {"ecg": list(LEADS), "image": "drawn"}
    assert answer["checks"] == [] and recording.parent.name not in printed
    unasked = asked(heartcare, tmp_path / "b.json", "--ecg", recording)
    assert unasked["instruction"] == pipe.processor.instruction


def test_a_picture_of_the_user_is_read_alone_and_beside_the_recording(
    heartcare: Path, recording: Path, picture: Path, tmp_path: Path, capsys
):
    alone = asked(heartcare, tmp_path / "a.json", "--picture", picture)
    both = asked(heartcare, tmp_path / "b.json", "--picture", picture, "--ecg", recording)
    assert alone["streams"] == ["picture"] and alone["used"] == {"ecg": [], "image": "given"}
    assert both["streams"] == ["signal", "picture"] and both["used"] == {"ecg": list(LEADS), "image": "given"}
    assert len({alone["report"], both["report"]}) == 2  # the signal has its say
    no_picture = tmp_path / "secretname.png"
    no_picture.write_text("text")
    capsys.readouterr()
    words = ["report", heartcare, "--picture", no_picture, "--out", tmp_path / "c.json"]
    assert run(*words) == 1
    refused = json.loads((tmp_path / "c.json").read_text())
    assert refused["report"] is None and refused["refused"][0]["item"] == "image" and refused["streams"] == []
    assert "secretname" not in capsys.readouterr().out + (tmp_path / "c.json").read_text()


def test_the_command_refuses_what_a_family_cannot_do(
    heartcare: Path, meit: Path, recording: Path, picture: Path, tmp_path: Path, capsys
):
    out = tmp_path / "a.json"
    assert run("report", meit, "--ecg", recording, "--picture", picture, "--out", out) == 1
    assert "meit" in capsys.readouterr().err and not out.exists()
    assert run("report", meit, "--picture", picture, "--out", out) == 1
    assert run("report", heartcare, "--out", out) == 2
    assert run("report", heartcare, "--ecg", recording, "--instruction", "an <image>?", "--out", out) == 1
    assert "'<image>'" in capsys.readouterr().err
    assert run("report", heartcare, "--ecg", recording, "--sentences", "--out", out) == 2
    assert "--sentences" in capsys.readouterr().err and not out.exists()
    assert run("report", heartcare, "--picture", tmp_path / "nothing.png", "--out", out) == 2


def test_the_same_question_without_the_ecg(heartcare: Path, recording: Path):
    pipe = load_report_pipeline(str(heartcare))
    answers = [write_report(pipe, recording, max_new_tokens=8, shows_ecg=shown) for shown in (True, False)]
    assert answers[1]["streams"] == [] and answers[1]["used"] == {"ecg": [], "image": "no"}
    assert answers[1]["report"] is not None and answers[0]["report"] != answers[1]["report"]
    batch = pipe.processor(ecg=str(recording), streams=(), return_tensors="pt")
    written = pipe.model.generate(**batch, max_new_tokens=8, do_sample=False)[0, batch["input_ids"].shape[1] :]
    assert answers[1]["report"] == pipe.processor.tokenizer.decode(written, skip_special_tokens=True).strip()


def test_a_training_of_one_family_takes_no_model_of_another(heartcare: Path, meit: Path):
    for model, kind, wanted in ((heartcare, HEARTCARE, MEIT), (meit, MEIT, HEARTCARE)):
        assert load_reporter(str(model))[0].config.model_type == kind
        with pytest.raises(TgmmError, match=kind):
            load_reporter(str(model), wanted)
