"""`tgmm evaluate` of a MoRE model that names findings: the same rows for all choices of inputs, figures, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run
from finding_tables import write_labelled
from sklearn.metrics import average_precision_score, roc_auc_score
from tiny_more import tiny_more_of_files
from transformers import AutoProcessor
from xray_files import write_xray

from tgmm_hf import MoreForClassification
from tgmm_hf.data.note_tables import read_note_table
from tgmm_hf.evaluation.evaluate_findings import compute_findings_evaluation, mean_auc
from tgmm_hf.evaluation.evaluate_more import MoreEvaluationSettings
from tgmm_hf.hub.card_more import more_card
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError

SMALL = MoreEvaluationSettings(bootstrap=50, progress=False, batch_size=4)
DOCUMENTED = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with new weights, and a table of twelve patients, nine of them with an ECG. One file is no chest."""
    folder = tmp_path_factory.mktemp("evaluate_findings")
    model, processor = tiny_more_of_files()
    model.save_pretrained(folder / "base")
    torch.manual_seed(1)
    labels = {0: "left", 1: "hidden"}
    classifier = MoreForClassification.from_pretrained(folder / "base", num_labels=2, id2label=labels)
    classifier.classifier.weight.data.normal_()
    save_repository(classifier.eval(), processor, folder / "model")
    write_labelled(folder, {"train": 1, "test": 12})
    write_xray(folder / "hand.dcm", BodyPartExamined="HAND")
    text = (folder / "notes.csv").read_text().replace("12.png", "hand.dcm")
    (folder / "notes.csv").write_text(text)
    return folder


@pytest.fixture(scope="module")
def metrics(folder: Path) -> dict:
    return compute_findings_evaluation(str(folder / "model"), folder / "notes.csv", SMALL)[0]


def test_the_three_choices_of_inputs_are_scored_on_the_same_rows(metrics: dict):
    # Of the rows 1 to 12, the rows 4 and 8 lack the ECG. Row 12 lacks it too, and its X-ray is of a hand.
    assert metrics["inputs"] == {"both": 9, "xray": 9, "ecg": 9, "available": 11}
    assert metrics["n"] == 12 and metrics["patients"] == 11 and metrics["refused"] == 1
    for entry in metrics["findings"].values():
        assert len({(entry[name]["n"], entry[name]["positives"]) for name in ("both", "xray", "ecg")}) == 1


def test_figures_are_those_of_the_logits_of_each_choice_of_inputs(metrics: dict, folder: Path):
    model = MoreForClassification.from_pretrained(folder / "model").eval()
    processor = AutoProcessor.from_pretrained(folder / "model")
    rows = [row for row in read_note_table(folder / "notes.csv") if row.split == "test" and row.ecg]
    labels = [1 - int(row.id[1:]) % 2 for row in rows]
    for name, xray, ecg in (("both", True, True), ("xray", True, False), ("ecg", False, True)):
        batch = processor(
            xray=[row.xray for row in rows] if xray else None,
            ecg=[row.ecg for row in rows] if ecg else None,
            return_tensors="pt",
        )
        with torch.no_grad():
            score = model(**batch).logits[:, 0].double().numpy()
        figures = metrics["findings"]["left"][name]["systems"]["model"]
        assert figures["auc"] == pytest.approx(roc_auc_score(labels, score))
        assert figures["auprc"] == pytest.approx(average_precision_score(labels, score))
    means = [metrics["findings"][name]["both"]["systems"]["model"]["auc"] for name in ("left", "hidden")]
    assert metrics["mean_auc"]["both"]["auc"] == pytest.approx(np.mean(means))


def test_unknown_labels_and_findings_of_one_class_do_not_enter_the_mean():
    score = np.array([[0.1, 0.5, 0.3], [0.9, 0.2, 0.4], [0.8, 0.3, 0.1]])
    label = np.array([[0, 1, 1], [1, np.nan, 1], [0, 0, np.nan]])
    entry = mean_auc(score, label, np.array(["a", "b", "c"], dtype=object), SMALL)
    assert entry["findings"] == 2 and entry["auc"] == 1.0
    assert mean_auc(score, np.ones((3, 3)), np.array(["a", "b", "c"], dtype=object), SMALL)["auc"] is None


def test_the_command_writes_documented_figures_and_the_card_shows_them(folder: Path, tmp_path: Path):
    assert run("evaluate", folder / "model", folder / "notes.csv", "--out", tmp_path, "--bootstrap", 100) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    section = DOCUMENTED[DOCUMENTED.index("## MoRE") : DOCUMENTED.index("## MEIT")]
    missing = [key for key in metrics if f"`{key}`" not in section]
    assert not missing, f"docs/metrics.md lacks {missing}"
    assert "X-ray and ECG" in (tmp_path / "metrics.txt").read_text()
    config = json.loads((folder / "model" / "config.json").read_text())
    card = more_card("a/b", config=config, licences=[], metrics=metrics)
    assert "AutoModelForImageClassification" in card and "left, hidden" in card and "| hidden |" in card
    assert (tmp_path / "tables" / "findings.csv").is_file()
    assert run("evaluate", folder / "model", folder / "notes.csv", "--out", tmp_path, "--prompts", folder) == 2


def test_a_table_without_the_labels_of_the_model_is_refused(folder: Path):
    text = (folder / "notes.csv").read_text().replace("label_hidden", "label_other")
    (folder / "other.csv").write_text(text)
    with pytest.raises(TgmmError, match="label_hidden"):
        compute_findings_evaluation(str(folder / "model"), folder / "other.csv", SMALL)
