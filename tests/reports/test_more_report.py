"""The page of `tgmm explain` for a MoRE model, and the page of a search with pictures."""

import base64
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import run
from heart_signal import make_heart
from input_files import write_wfdb
from PIL import Image
from tiny_more import tiny_more_of_files
from xray_files import draw_chest, write_picture, write_xray

from tgmm_hf import LEADS
from tgmm_hf.data.note_index import Match, is_unchanged, load_more, make_index, search
from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.explain_more import ScoreRequest
from tgmm_hf.inputs.ecg_recording import NORMALISED
from tgmm_hf.reports.echo_strips import COLOUR_AGAINST, COLOUR_FOR
from tgmm_hf.reports.more_hits import hits_page
from tgmm_hf.reports.more_pictures import more_traces, show_ecg, show_xray, strongest_places
from tgmm_hf.reports.more_report import explain_files
from tgmm_hf.reports.patient_report import ReportSettings
from tgmm_hf.training.saving import save_repository

NAME = "Doe-Jane"
"""Name of a patient that stands in paths. It must not be on any page."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("files") / NAME
    (folder / "1").mkdir(parents=True)
    save_repository(*tiny_more_of_files(), folder / "model")
    write_picture(folder / "0.png", draw_chest(800, 600, 0))
    write_picture(folder / "1.png", draw_chest(160, 120, 1))
    write_xray(folder / "hand.dcm", BodyPartExamined="HAND")
    record = write_wfdb(folder / "1", make_heart(6000, 500, 1), list(LEADS))
    table = folder / "notes.csv"
    table.write_text(
        "id,patient_id,split,xray,ecg,report\n"
        f"r0,{NAME},test,0.png,,<b>clear</b> lungs\nr1,{NAME}-2,test,1.png,1/{Path(record).name},an effusion\n"
    )
    return SimpleNamespace(folder=folder, ecg=str(Path(folder / "1" / Path(record).name)), table=table)


@pytest.fixture(scope="module")
def parts(files: SimpleNamespace):
    return load_more(str(files.folder / "model"))


def pictures(page: str) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"data:image/\w+;base64,([^\"]+)", page)
    ]


def test_the_page_shows_the_pictures_with_their_maps_and_no_paths(parts, files: SimpleNamespace):
    inputs = {"xray": str(files.folder / "0.png"), "ecg": files.ecg}
    explained = explain_files(*parts, inputs, ScoreRequest("an <i>effusion</i>", ("clear lungs",)))
    page = explained.page(ReportSettings())
    assert NAME not in page and "<i>effusion" not in page and "&lt;i&gt;effusion" in page
    assert "<script" not in page and "not a medical device" in page
    picture, overlay = pictures(page)
    assert picture.size == overlay.size == (480, 640) and np.asarray(overlay)[..., 3].max() > 100
    assert page.count('<svg xmlns="http://www.w3.org/2000/svg" class="ecg"') == 2
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(set(ids) - {"ecg-hatch"}) == len([each for each in ids if each != "ecg-hatch"])
    content = explained.content(ReportSettings())
    assert content["scores"].keys() == {"xray", "ecg"} and NAME not in json.dumps(content)
    assert f"{content['scores']['xray']:+.3f}" in page and len(content["attributions"]) == 3


def test_a_refused_input_is_on_the_page_with_its_reason(parts, files: SimpleNamespace):
    explained = explain_files(*parts, {"xray": str(files.folder / "hand.dcm")}, ScoreRequest("an effusion"))
    page = explained.page(ReportSettings())
    assert "HAND" in page and NAME not in page and not pictures(page)


def test_colours_say_for_and_against_at_the_right_place(parts, files: SimpleNamespace):
    values = np.array([[1.0, 0.0], [0.0, -0.5]])
    axes = Axis("row", None, 400, 0.0, "px"), Axis("column", None, 300, 0.0, "px")
    each = Attribution("xray", "attn_lrp", "similarity", "x", values, axes, "relative", "none", 0.0)
    shown = show_xray(parts[1].image_processor, files.folder / "0.png", each)
    painted = np.asarray(pictures(f'"{shown.overlay}"')[0])
    assert tuple(painted[10, 10, :3]) == COLOUR_FOR and tuple(painted[-10, -10, :3]) == COLOUR_AGAINST
    assert painted[10, 10, 3] > painted[-10, -10, 3] > painted[-10, 10, 3] == 0
    assert strongest_places(each) == [
        "rows 0 to 400, columns 0 to 300 (+1)",
        "rows 400 to 800, columns 300 to 600 (-0.5)",
    ]


def test_an_ecg_is_drawn_with_the_window_that_the_model_reads(parts, files: SimpleNamespace):
    extractor = parts[1].feature_extractor
    traces = more_traces(extractor, files.ecg)
    assert traces is not None and traces.window == (1.0, 11.0)  # the central 10 of 12 seconds
    values = np.zeros(196)
    values[0] = 1.0
    axes = (Axis("token", None, 0.05, 0.1, "s"),)
    each = Attribution("ecg_time", "attn_lrp", "similarity", "x", values, axes, "relative", "none", 0.0)
    shown = show_ecg(extractor, files.ecg, each, "6x2")
    assert shown.has_bands and shown.svg.count('<rect class="for"') >= 1
    normalised = {"signal": make_heart(5000, 500, 1), "sampling_rate": 500, "lead_names": list(LEADS)}
    without_units = show_ecg(extractor, {**normalised, "units": NORMALISED})
    assert not without_units.svg and "millivolts" in without_units.notes[0]


def test_the_command_writes_page_and_json_and_refuses_other_files(
    parts, files: SimpleNamespace, tmp_path: Path, capsys
):
    words = ["explain", files.folder / "model", "--xray", files.folder / "1.png", "--text", "an effusion"]
    assert run(*words, "--ecg", files.ecg, "--out", tmp_path / "page.html") == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert run(*words, "--out", tmp_path / "page.json", "--against", "clear lungs") == 0
    content = json.loads((tmp_path / "page.json").read_text())
    assert content["against"] == ["clear lungs"] and content["scores"].keys() == {"xray"}
    for wrong in (
        ["--xray", files.folder / "1.png"],
        ["--text", "a"],
        ["--text", "a", "--finding", "b", "--xray", files.folder / "1.png"],
        ["--text", "a", "--xray", tmp_path / "absent.png"],
    ):
        assert run("explain", files.folder / "model", *wrong, "--out", tmp_path / "p.html") == 2
    (tmp_path / "mine.html").write_text("my own text")
    assert run(*words, "--out", tmp_path / "mine.html") == 1 and NAME not in capsys.readouterr().err
    words = ["explain", files.folder / "model", "--xray", files.folder / "1.png", "--finding", "effusion"]
    assert run(*words, "--out", tmp_path / "finding.html") == 1  # the model is no classifier


# ---- a search with pictures


@pytest.fixture(scope="module")
def index(files: SimpleNamespace) -> Path:
    make_index(str(files.folder / "model"), files.table, files.folder / "index")
    return files.folder / "index"


def test_results_have_pictures_scores_and_notes_but_no_names(parts, files: SimpleNamespace, index: Path):
    query = {"xray": str(files.folder / "1.png")}
    matches = search(*parts, index, query, ["xray", "ecg", "text"], 5)
    page = hits_page(parts[1], query, matches)
    assert NAME not in page and "<b>clear" not in page and "&lt;b&gt;clear" in page
    assert len(pictures(page)) == 3 and page.count('class="ecg"') == 1  # the query and two X-rays
    assert max(pictures(page)[1].size) <= 260
    for match in matches:
        assert f"cosine {match.similarity:.3f}, row {match.id}" in page


def test_a_file_that_was_changed_is_not_shown(parts, files: SimpleNamespace, index: Path, tmp_path: Path):
    moved = write_picture(tmp_path / "moved.png", draw_chest(160, 120, 3))
    match = Match("xray", "r9", "p9", 0.5, str(moved), "another state", "a note")
    assert not is_unchanged(match)
    page = hits_page(parts[1], {"text": "a"}, [match])
    assert not pictures(page) and "moved or changed" in page and "row r9" in page
    assert hits_page(parts[1], {"text": "a"}, []).count("<h2") == 1


def test_the_command_writes_the_page_of_the_results(files: SimpleNamespace, index: Path, tmp_path: Path, capsys):
    words = ["retrieve", files.folder / "model", index, "--text", "an effusion", "--pictures"]
    assert run(*words, tmp_path / "page.html", "--find", "xray") == 0
    assert len(pictures((tmp_path / "page.html").read_text())) == 2
    (tmp_path / "mine.html").write_text("my own text")
    assert run(*words, tmp_path / "mine.html") == 1
    assert (tmp_path / "mine.html").read_text() == "my own text"
