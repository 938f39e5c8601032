"""`tgmm evaluate` of a MoRE model: ranks by patient, chance, intervals, zero-shot findings, refusals, files."""

import csv
import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run
from heart_signal import make_heart
from input_files import write_wfdb
from sklearn.metrics import average_precision_score, roc_auc_score
from tiny_more import tiny_more_of_files
from xray_files import draw_chest, write_picture, write_xray

from tgmm_hf import LEADS
from tgmm_hf.cohorts.synthetic.xray_report import CHEXPERT_NAMES
from tgmm_hf.data.finding_prompts import prompts_of_columns, read_finding_prompts
from tgmm_hf.data.label_columns import read_labels
from tgmm_hf.data.note_index import load_more
from tgmm_hf.evaluation.evaluate_more import (
    MoreEvaluationSettings,
    compute_more_evaluation,
    finding_scores,
    label_figures,
)
from tgmm_hf.evaluation.note_retrieval import (
    Inputs,
    chance_figures,
    evaluate_note_direction,
    rank_right,
    resampled_median,
)
from tgmm_hf.families.more.zero_shot_prompts import EncodedPrompts
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError

PATIENTS = 6
SMALL = MoreEvaluationSettings(bootstrap=50, progress=False)
DOCUMENTED = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model, and a table of six patients: the first has two rows with one X-ray, one file is no chest."""
    folder = tmp_path_factory.mktemp("evaluate_more")
    save_repository(*tiny_more_of_files(), folder / "model")
    rows = []
    for number in range(PATIENTS):
        (folder / str(number)).mkdir()
        write_picture(folder / str(number) / "x.png", draw_chest(seed=number) if number % 2 else 255 - draw_chest())
        write_wfdb(folder / str(number), make_heart(5000, 500, number), list(LEADS))
        rows.append([f"r{number}", f"p{number}", "test", f"{number}/x.png", f"{number}/record", f"note {number // 2}"])
        rows[-1] += [str(number % 2), "1" if number < 3 else ""]
    rows.append(["r6", "p0", "test", "0/x.png", "", "a second note", "0", "0"])
    write_xray(folder / "hand.dcm", BodyPartExamined="HAND")
    rows.append(["r7", "p7", "test", "hand.dcm", "", "note of a hand", "", ""])
    rows.append(["r8", "p8", "train", "1/x.png", "", "note of another split", "", ""])
    with (folder / "notes.csv").open("w", newline="") as file:
        header = ["id", "patient_id", "split", "xray", "ecg", "report", "label_large_heart", "label_effusion"]
        csv.writer(file).writerows([header, *rows])
    effusion = {"prompts": "an effusion", "against": ["no effusion", "clear angles"]}
    prompts = {"large_heart": ["cardiomegaly", "a large heart"], "effusion": effusion}
    (folder / "prompts.json").write_text(json.dumps(prompts))
    return folder


def inputs(patients: list[str], notes: list[set[str]] | None = None, seed: int = 0) -> Inputs:
    vectors = np.random.default_rng(seed).normal(size=(len(patients), 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Inputs(vectors, np.array(patients, dtype=object), notes or [set() for _ in patients])


def test_another_study_of_the_patient_is_right_and_equal_scores_count_against_the_model():
    queries, targets = inputs(["a", "b", "c"]), inputs(["a", "a", "b", "b"])
    similarity = np.array([[0.1, 0.9, 0.5, 0.2], [0.9, 0.7, 0.3, 0.7], [0.9, 0.1, 0.1, 0.1]])
    ranking = rank_right(queries, targets, similarity, equal_notes=False)
    assert ranking.queries.tolist() == [0, 1]  # c has no candidate
    assert ranking.rank.tolist() == [1, 3] and ranking.right.tolist() == [2, 2] and ranking.wrong.tolist() == [2, 2]
    with pytest.raises(ValueError, match="finite"):
        rank_right(queries, targets, np.full((3, 4), np.nan), equal_notes=False)


def test_an_equal_note_of_another_patient_is_neither_right_nor_wrong():
    queries, targets = inputs(["a", "b"], [{"n"}, {"m"}]), inputs(["a", "b", "c"], [{"n"}, {"n", "m"}, {"k"}])
    similarity = np.array([[0.5, 0.9, 0.7], [0.1, 0.5, 0.9]])
    assert rank_right(queries, targets, similarity, equal_notes=True).rank.tolist() == [2, 2]
    assert rank_right(queries, targets, similarity, equal_notes=False).rank.tolist() == [3, 2]


@pytest.mark.parametrize(("right", "wrong"), [(1, 3), (2, 3), (3, 1)])
def test_chance_is_the_mean_over_all_orders(right: int, wrong: int):
    ranks = [1 + order.index(0) for order in set(permutations([0] * right + [1] * wrong))]
    figures = chance_figures(np.array([right]), np.array([wrong]))
    assert figures["recall_1"] == pytest.approx(np.mean(np.array(ranks) <= 1))
    assert figures["recall_5"] == pytest.approx(1)
    assert figures["median_rank"] == np.sort(ranks)[(len(ranks) - 1) // 2]


def test_the_median_of_a_resample_is_that_of_the_drawn_rows():
    generator = np.random.default_rng(0)
    value, counts = generator.integers(1, 50, 9), generator.multinomial(9, np.full(9, 1 / 9), size=20)
    for found, drawn in zip(resampled_median(value, counts), counts, strict=True):
        assert found == np.sort(np.repeat(value, drawn))[4]


def test_a_model_that_knows_the_patient_is_first_and_the_shuffled_control_is_at_chance():
    patients = [f"p{number}" for number in range(60)]
    one = inputs(patients)
    entry = evaluate_note_direction(one, one, equal_notes=False, seed=0, replicates=100)
    model, shuffled, chance = entry["systems"]["model"], entry["systems"]["shuffled"], entry["chance"]
    assert model["recall_1"] == 1 and model["median_rank"] == 1
    assert chance["recall_10"] == pytest.approx(10 / 60) and chance["median_rank"] == 30
    assert shuffled["recall_10"] < 0.4 and 15 < shuffled["median_rank"] < 45
    low, high = shuffled["recall_10_ci"]
    assert low <= shuffled["recall_10"] <= high and low < high


def test_figures_of_labels_are_those_of_scikit_learn():
    generator = np.random.default_rng(1)
    label = generator.integers(0, 2, 80).astype(float)
    score, patients = label + generator.normal(size=80), np.array([f"p{number // 2}" for number in range(80)])
    entry = label_figures(score, label, patients, SMALL)
    model = entry["systems"]["model"]
    assert model["auc"] == pytest.approx(roc_auc_score(label, score))
    assert model["auprc"] == pytest.approx(average_precision_score(label, score))
    assert model["auc_ci"][0] < model["auc"] < model["auc_ci"][1]
    assert abs(entry["systems"]["shuffled"]["auc"] - 0.5) < 0.2 < model["auc"] - 0.5
    assert "missing" in label_figures(score, np.ones(80), patients, SMALL)


def test_a_table_is_scored_as_its_vectors_say(folder: Path, tmp_path: Path, capsys):
    words = ["--prompts", folder / "prompts.json", "--bootstrap", "100", "--out", tmp_path]
    assert run("evaluate", folder / "model", folder / "notes.csv", *words) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["inputs"] == {"text": 8, "xray": 6, "ecg": 6} and metrics["patients"] == 7
    assert metrics["refused"] == 1 and "HAND" in (tmp_path / "refused.csv").read_text()
    assert len(metrics["retrieval"]) == 6
    model, processor = load_more(str(folder / "model"))
    files = [folder / str(number) for number in range(PATIENTS)]
    with torch.no_grad():
        batch = processor(xray=[each / "x.png" for each in files], ecg=[each / "record" for each in files])
        output = model(**{name: torch.as_tensor(value) for name, value in batch.items()})
        texts = processor(text=["cardiomegaly", "a large heart"], return_tensors="pt")
        prompts = model(**texts).text_embeds
    similarity = (output.xray_embeds @ output.ecg_embeds.T).numpy()
    ranks = (similarity >= np.diag(similarity)[:, None]).sum(1)
    found = metrics["retrieval"]["xray->ecg"]
    assert found["n"] == PATIENTS and found["systems"]["model"]["recall_1"] == pytest.approx(np.mean(ranks <= 1))
    assert found["systems"]["model"]["median_rank"] == np.sort(ranks)[2]
    scores = (output.ecg_embeds @ prompts.T).amax(1).numpy()
    heart = metrics["zero_shot"]["large_heart"]["ecg"]
    assert heart["systems"]["model"]["auc"] == pytest.approx(roc_auc_score([0, 1] * 3, scores))
    effusion = metrics["zero_shot"]["effusion"]["xray"]
    assert effusion["n"] == 2  # the two rows of the first X-ray disagree
    effusion_texts = {"prompts": ["an effusion"], "against": ["no effusion", "clear angles"]}
    assert metrics["prompts"] == {"large_heart": ["cardiomegaly", "a large heart"], "effusion": effusion_texts}
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"retrieval.csv", "zero_shot.csv"}
    assert "median rank" in capsys.readouterr().out and (tmp_path / "metrics.md").is_file()
    section = DOCUMENTED[DOCUMENTED.index("## MoRE") :]
    missing = [key for key in metrics if f"`{key}`" not in section]
    assert not missing, f"docs/metrics.md lacks {missing}"


def test_the_mean_cosine_with_the_texts_against_a_finding_is_subtracted():
    prompts = EncodedPrompts(["a", "b"], ["1", "2", "3"], torch.tensor([0, 0, 1]), torch.eye(4)[:3], [])
    against = EncodedPrompts(["b"], ["4", "5"], torch.tensor([0, 0]), torch.eye(4)[2:], [])
    scores = finding_scores(torch.tensor([[0.1, 0.5, 0.3, 0.8]]), prompts, against)
    assert scores["a"] == pytest.approx([0.5])  # the largest cosine; nothing speaks against it
    assert scores["b"] == pytest.approx([0.3 - (0.3 + 0.8) / 2])


@pytest.mark.parametrize(
    "content", ['["a"]', '{"a": []}', '{"a": {"against": "b"}}', '{"a": {"prompts": "b", "denied": "c"}}', '{"a": {}}']
)
def test_a_file_of_prompts_in_another_form_is_refused(tmp_path: Path, content: str):
    (tmp_path / "prompts.json").write_text(content)
    with pytest.raises(TgmmError, match="prompt"):
        read_finding_prompts(tmp_path / "prompts.json")


def test_the_prompts_of_the_repository_can_be_read_and_deny_each_finding():
    read = read_finding_prompts(Path(__file__).resolve().parents[2] / "configs" / "more_prompts.json")
    assert set(read.against) <= set(read.prompts) and not set(read.prompts) - {
        name.lower().replace(" ", "_") for name in CHEXPERT_NAMES
    }
    assert all(set(read.against[finding]).isdisjoint(read.prompts[finding]) for finding in read.against)


def test_patients_of_the_training_are_refused(folder: Path, tmp_path: Path):
    save_repository(*tiny_more_of_files(), tmp_path / "model")
    start = {"model": {"checkpoint": None}, "optimisation": {}}
    (tmp_path / "model" / "run.json").write_text(json.dumps({"data_hash": "sha256:x", "run": start}))
    (tmp_path / "model-training").mkdir()
    seen = {"data_hash": "sha256:x", "complete": True, "patients": ["p1"], "trained": ["p1"]}
    (tmp_path / "model-training" / "patients.json").write_text(json.dumps(seen))
    with pytest.raises(ValueError, match="training"):
        compute_more_evaluation(str(tmp_path / "model"), folder / "notes.csv", SMALL)


def test_labels_prompts_and_options_that_cannot_be_used_are_refused(folder: Path, tmp_path: Path):
    table = tmp_path / "notes.csv"
    table.write_text("id,patient_id,split,xray,report,label_a\n1,2,test,x.png,n,perhaps\n")
    with pytest.raises(TgmmError, match="label_a") as caught:
        read_labels(table)
    assert "perhaps" not in str(caught.value)
    (tmp_path / "prompts.json").write_text('{"b": "text"}')
    with pytest.raises(TgmmError, match="label_b"):
        prompts_of_columns(tmp_path / "prompts.json", ["a"])
    (tmp_path / "prompts.json").write_text('{"a": []}')
    with pytest.raises(TgmmError):
        prompts_of_columns(tmp_path / "prompts.json", ["a"])
    words = ["evaluate", folder / "model", folder / "notes.csv", "--out", tmp_path / "out"]
    assert run(*words, "--beams", "2") == 2 and run(*words, "--split", "validation") == 1
