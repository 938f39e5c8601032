"""The check of MoRE's maps: units, planted regions, figures, going on, and a model that reads what was planted."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from heart_signal import make_heart
from tiny_more import SMALL_BLOCKS, tiny_more_of_files
from xray_files import draw_chest, write_picture, write_xray

from tgmm_hf import LEADS
from tgmm_hf.data.finding_prompts import FindingPrompts
from tgmm_hf.data.note_index import load_more
from tgmm_hf.explanation import more_check
from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.explain_more import ScoreRequest
from tgmm_hf.explanation.more_check import PlantedCase, case_scores, check_more
from tgmm_hf.explanation.more_maps import METHODS, blank_input
from tgmm_hf.explanation.more_units import map_on_units, maps_on_units, more_units, planted_units
from tgmm_hf.explanation.planted_regions import box_mask, read_planted_cases
from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor
from tgmm_hf.training.more_arguments import MoreRunArguments
from tgmm_hf.training.saving import save_repository
from tgmm_hf.training.settings_files import parse_dataclass
from tgmm_hf.training.train_more import train_more
from tgmm_hf.utils.errors import TgmmError

QUADRANT = box_mask((160, 120), [(60, 0, 120, 80)])  # right half of the upper half
MARKED = np.zeros((12, 1000), bool)
MARKED[3, 250:500] = True


def ecg(seed: int) -> dict[str, object]:
    return {"signal": make_heart(5000, 500, seed), "sampling_rate": 500, "lead_names": list(LEADS), "units": "mV"}


def case(number: int, **changes: object) -> PlantedCase:
    inputs = {"xray": draw_chest(160, 120, number), "ecg": ecg(number)}
    fields = {"id": str(number), "inputs": inputs, "request": ScoreRequest("an effusion"), "masks": {"xray": QUADRANT}}
    return PlantedCase(**{**fields, **changes})


@pytest.fixture(scope="module")
def parts():
    return tiny_more_of_files()


@pytest.fixture(scope="module")
def scores(parts):
    return {score.kind: score for score in case_scores(*parts, case(0, masks={"xray": QUADRANT, "ecg": MARKED}))}


@pytest.mark.parametrize(
    ("kind", "modality", "number"), [("xray", "xray", 4), ("ecg", "ecg", 480), ("ecg", "ecg_time", 40)]
)
def test_hiding_a_unit_blanks_its_part_only(scores, kind, modality, number):
    score = scores[kind]
    units = more_units(score, modality)
    assert units.shape == (number,)
    shown = np.ones((3, number), bool)
    shown[1, 1], shown[2] = False, False
    whole, without, nothing = units.score(shown)
    assert whole == pytest.approx(score.output, abs=1e-5)
    blank = blank_input(kind, score.values)
    assert nothing == pytest.approx(score.compute(blank)[0].item(), abs=1e-5)
    changed = score.values.clone()
    part = (..., slice(0, 16), slice(16, 32)) if kind == "xray" else (..., slice(25, 50))
    part = (0, 0, slice(25, 50)) if modality == "ecg" else part
    changed[part] = blank[part]
    assert without == pytest.approx(score.compute(changed)[0].item(), abs=1e-5)


def test_masks_fall_on_their_units(scores):
    np.testing.assert_allclose(planted_units(scores["xray"], "xray", QUADRANT), [0, 1, 0, 0], atol=0.02)
    leads = planted_units(scores["ecg"], "ecg", MARKED).reshape(12, 40)
    assert (leads[3, 10:20] == 1).all() and leads.sum() == 10
    time = planted_units(scores["ecg"], "ecg_time", MARKED)
    assert (time[10:20] > 0).all() and time[:10].sum() == time[20:].sum() == 0


def test_maps_keep_their_sum_and_their_place_on_units(scores):
    for kind, modality in (("xray", "xray"), ("ecg", "ecg_time"), ("ecg", "ecg")):
        maps = maps_on_units(scores[kind], modality)
        assert set(maps) == set(METHODS[modality])
        assert all(len(values) == more_units(scores[kind], modality).shape[0] for values in maps.values())
    values = np.zeros(196)
    values[50] = 1.0  # reads 2.5 to 2.75 s
    axes = (Axis("token", None, 0.05, 0.1, "s"),)
    each = Attribution("ecg_time", "m", "t", "x", values, axes, "relative", "", 0.0)
    found = map_on_units(scores["ecg"], each)
    assert found[10] == 1 and found.sum() == 1


def test_the_check_measures_all_modalities_goes_on_and_counts_refusals(parts, tmp_path: Path, monkeypatch):
    hand = write_xray(tmp_path / "hand.dcm", BodyPartExamined="HAND")
    monkeypatch.setattr(more_check, "SHUFFLED_PATIENTS", 1)
    cases = [case(number, masks={"xray": QUADRANT, "ecg": MARKED}) for number in range(2)]
    cases.append(case(2, inputs={"xray": hand}))
    summary = check_more(*parts, cases, tmp_path / "out", bootstrap=100)
    assert summary["patients"] == 2 and summary["refused"] == 1
    for modality, methods in METHODS.items():
        entry = summary["modalities"][modality]
        assert set(entry) == set(methods)
        for figures in entry.values():
            assert {"pointing", "mass", "deletion_gain", "correlation all", "beats_random"} <= set(figures)
            assert figures["deletion_gain"]["ci"][0] <= figures["deletion_gain"]["mean"]
    assert summary["modalities"]["xray"]["attn_lrp"]["chance"]["mean"] == 0.25
    assert "| ecg_time | attn_lrp |" in (tmp_path / "out" / "explanation_check.md").read_text()

    def measured_again(*_):
        raise AssertionError("a finished case was measured again")

    monkeypatch.setattr(more_check, "measure_maps", measured_again)
    assert check_more(*parts, cases, tmp_path / "out", bootstrap=100) == summary
    with pytest.raises(TgmmError, match="settings|holds a check"):
        check_more(*parts, cases[:2], tmp_path / "out", bootstrap=100)


def test_too_few_or_mixed_cases_are_refused(parts, tmp_path: Path):
    with pytest.raises(TgmmError, match="at least 2"):
        check_more(*parts, [case(0)], tmp_path / "one")
    with pytest.raises(TgmmError, match="all ask"):
        check_more(*parts, [case(0), case(1, request=ScoreRequest(finding="oedema"))], tmp_path / "mixed")
    with pytest.raises(ValueError, match="no mask"):
        case_scores(*parts, case(0, masks={}))


def write_tables(folder: Path, rows: list[dict], regions: list[dict]) -> tuple[Path, Path]:
    paths = folder / "notes.csv", folder / "regions.csv"
    for path, content in zip(paths, (rows, regions), strict=True):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(content[0]))
            writer.writeheader()
            writer.writerows(content)
    return paths


def test_regions_of_a_table_become_cases(tmp_path: Path):
    write_picture(tmp_path / "a.png", draw_chest(160, 120, 0))
    write_picture(tmp_path / "b.png", draw_chest(160, 120, 1))
    write_xray(tmp_path / "hand.dcm", BodyPartExamined="HAND")
    files = ("a.png", "b.png", "hand.dcm", "a.png")
    rows = [
        {"id": f"r{n}", "patient_id": f"p{n}", "split": "train" if n == 1 else "test", "xray": file, "report": "text"}
        for n, file in enumerate(files)
    ]
    box = {"x0": 60, "y0": 0, "x1": 120, "y1": 80, "is_drawn": True}
    regions = [
        {"dicom_id": "a", "finding": "effusion", **box},
        {"dicom_id": "a", "finding": "effusion", **box, "x0": 0, "x1": 10},
        {"dicom_id": "a", "finding": "oedema", **box, "is_drawn": False},
        {"dicom_id": "b", "finding": "effusion", **box},
        {"dicom_id": "hand", "finding": "effusion", **box},
    ]
    table, places = write_tables(tmp_path, rows, regions)
    images = MoreImageProcessor()
    prompts = FindingPrompts({"effusion": ["a pleural effusion"]}, {"effusion": ["no effusion"]})
    (found,) = read_planted_cases(table, places, images, prompts, ("clear lungs",))
    assert found.id == "r0 effusion" and found.request == ScoreRequest("a pleural effusion", ("clear lungs",))
    (of_the_file,) = read_planted_cases(table, places, images, prompts)
    assert of_the_file.request == ScoreRequest("a pleural effusion", ("no effusion",))
    expected = box_mask((160, 120), [(60, 0, 120, 80), (0, 0, 10, 80)])
    assert np.array_equal(found.masks["xray"], expected)
    (trained,) = read_planted_cases(table, places, images, split="train", is_classifier=True)
    assert trained.request == ScoreRequest(finding="effusion")
    for changed, words in (
        ([{**regions[0], "x1": 60}], "no pixel"),
        ([{**regions[0], "y0": "top"}], "numbers"),
        ([{key: value for key, value in regions[0].items() if key != "x0"}], "x0"),
        ([{key: value for key, value in regions[0].items() if key != "dicom_id"}], "dicom_id or id"),
        ([{**regions[0], "dicom_id": "c"}], "none of its regions"),
    ):
        _, wrong = write_tables(tmp_path, rows, changed)
        with pytest.raises(TgmmError, match=words):
            read_planted_cases(table, wrong, images)


def test_the_command_writes_the_check_beside_the_model(tmp_path: Path, capsys):
    save_repository(*tiny_more_of_files(), tmp_path / "model")
    rows, regions = [], []
    for n in range(2):
        write_picture(tmp_path / f"{n}.png", draw_chest(160, 120, n))
        rows.append({"id": f"r{n}", "patient_id": f"p{n}", "split": "test", "xray": f"{n}.png", "report": "text"})
        regions.append({"id": f"r{n}", "finding": "effusion", "x0": 0, "y0": 0, "x1": 60, "y1": 80})
    table, places = write_tables(tmp_path, rows, regions)
    (tmp_path / "prompts.json").write_text('{"effusion": "a pleural effusion"}')
    words = ["explain-check", tmp_path / "model", table, "--out", tmp_path / "out"]
    assert run(*words) == 2
    assert run(*words, "--cohort", places, "--allow-outside") == 2 and "--allow-outside" in capsys.readouterr().err
    assert run(*words, "--regions", places, "--task", "hf_diagnosis") == 2 and "--task" in capsys.readouterr().err
    options = ["--prompts", tmp_path / "prompts.json", "--beside-model", "--bootstrap", "100"]
    assert run(*words, "--regions", places, *options) == 0
    assert "| xray | attn_lrp |" in capsys.readouterr().out
    beside = json.loads((tmp_path / "model" / "explanation_check.json").read_text())
    assert beside == json.loads((tmp_path / "out" / "explanation_check.json").read_text())
    assert beside["settings"]["weights"] == load_more(str(tmp_path / "model"))[0].config.weights_fingerprint["id"]
    assert run(*words, "--regions", places, *options, "--against", "clear lungs") == 1  # the figures would be others
    assert "name another directory" in capsys.readouterr().err
    (tmp_path / "prompts.json").write_text("[1]")
    assert run(*words, "--regions", places, *options) == 1


# ---- a model that has learned to see two marks

NOTES = {(0, 0): "clear lungs", (1, 0): "a mass", (0, 1): "a fracture", (1, 1): "a mass and a fracture"}


def draw_marks(mass: int, fracture: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A chest with a striped disc in the one lung, in the other, in both or in none; and the place of the first."""
    picture, random = draw_chest(160, 160, seed), np.random.default_rng(seed)
    rows, columns = np.mgrid[0:160, 0:160]
    masks = []
    for centre in ((60, 45), (110, 115)):
        y, x = centre + random.uniform(-12, 12, 2)
        masks.append((rows - y) ** 2 + (columns - x) ** 2 < 16**2)
    for is_drawn, mask in zip((mass, fracture), masks, strict=True):
        if is_drawn:
            picture[mask] = np.where((rows // 4) % 2 == 0, 230, 20)[mask]
    return picture, masks[0]


@pytest.mark.slow
def test_maps_of_a_trained_model_point_at_what_was_planted(tmp_path: Path):
    """Chance is about 0.05: the share of the 64 patches that the disc covers."""
    rows = []
    for number in range(240):
        marks = number % 2, number // 2 % 2
        write_picture(tmp_path / f"{number}.png", draw_marks(*marks, number)[0])
        row = {"id": f"r{number}", "patient_id": f"p{number}", "split": "train" if number < 192 else "validation"}
        rows.append({**row, "xray": f"{number}.png", "report": f"The X-ray shows {NOTES[marks]}."})
    table, _ = write_tables(tmp_path, rows, rows[:1])
    small = {"xray_config": {**SMALL_BLOCKS, "image_size": 64, "patch_size": 8}, "projection_dim": 16}
    small |= {"ecg_config": {**SMALL_BLOCKS, "stem_size": 16}, "temperature": 0.1}
    text = {"model_type": "bert", **SMALL_BLOCKS, "max_position_embeddings": 64}
    content = {"output": str(tmp_path / "model"), "data": {"file": str(table), "max_text_tokens": 64, "augment": False}}
    content["model"] = {"text_config": text, "vocab_size": 300, "overrides": small}
    content["optimisation"] = {
        "epochs": 15,
        "batch_size": 32,
        "accumulation_steps": 1,
        "learning_rate": 3e-3,
        "keep": "last",
    }
    train_more(parse_dataclass(MoreRunArguments, content))
    cases = []
    for number in range(300, 324):
        picture, mask = draw_marks(1, number % 2, number)
        request = ScoreRequest(
            f"The X-ray shows {NOTES[1, number % 2]}.", (f"The X-ray shows {NOTES[0, number % 2]}.",)
        )
        cases.append(PlantedCase(str(number), {"xray": picture}, request, {"xray": mask}))
    summary = check_more(*load_more(str(tmp_path / "model")), cases, tmp_path / "out", bootstrap=200)
    for method in ("attn_lrp", "gradient_attention"):
        entry = summary["modalities"]["xray"][method]
        assert entry["pointing"]["mean"] > 0.5 and entry["mass"]["mean"] > 3 * entry["chance"]["mean"]
        assert entry["beats_random"] and entry["depends_on_weights"]
    assert summary["evidence_effect"]["xray"]["ci"][0] > 2
