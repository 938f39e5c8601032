"""Evaluation of MEIT: findings, controls, certainty, noise, and the command line from end to end."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from closeness import assert_close
from command_line import run
from sklearn.metrics import f1_score, precision_score, recall_score

from tgmm_hf.cohorts.finding_reader import read_findings
from tgmm_hf.data import processed_ecgs
from tgmm_hf.data.instructions import read_instructions
from tgmm_hf.evaluation.finding_figures import (
    certainty_counts,
    certainty_figures,
    finding_figures,
    micro_f1,
    stated_present,
    truth_of,
)
from tgmm_hf.evaluation.metrics import bootstrap_counts
from tgmm_hf.evaluation.report_controls import exchanged_ecgs, most_frequent, nearest_reports
from tgmm_hf.evaluation.signal_noise import add_segment_noise, add_white_noise

DOCUMENTED = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
TRUTH = [{"SR", "AMI"}, {"SR"}, {"AFIB"}, {"SR", "AMI"}]
TEXTS = [
    "sinus rhythm. probable anterior mi",
    "sinus rhythm. possible anterior mi. no atrial fibrillation",
    "no atrial fibrillation",
    "sinus rhythm",
]


@pytest.fixture
def findings():
    return [read_findings(text) for text in TEXTS]


def test_figures_of_findings_are_those_of_scikit_learn(findings):
    truth = truth_of(TRUTH, [findings])
    counts = bootstrap_counts(["a", "b", "c", "d"], None, 200, 0)
    entry = finding_figures(truth, findings, counts)
    stated = stated_present(truth, findings)
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        for kind in ("micro", "macro"):
            expected = score(truth.present, stated, average=kind, zero_division=0)
            assert entry[f"{kind}_{name}"] == pytest.approx(expected), (kind, name)
    rows = np.repeat([0, 1, 2, 3], counts[7].astype(int))
    drawn = f1_score(truth.present[rows], stated[rows], average="micro", zero_division=0)
    assert micro_f1(truth, findings, counts)[7] == pytest.approx(drawn)
    low, high = entry["micro_f1_ci"]
    assert low <= entry["micro_f1"] <= high
    # two denials of atrial fibrillation, one of them of a true one
    assert entry["denied"] == 2 and entry["false_denials"] == 0.5
    assert entry["statements"]["AMI"]["n"] == 2 and entry["statements"]["AMI"]["f1"] == 0.5


def test_certainty_is_compared_with_the_truth(findings):
    truth = truth_of(TRUTH, [findings])
    entry = certainty_figures(truth, findings, np.ones((100, 4)))
    assert {word: (one["n"], one["true"]) for word, one in entry.items()} == {
        "definite": (3, 1.0),
        "probable": (1, 1.0),
        "possible": (1, 0.0),
    }
    stated = [dict.fromkeys(row, "probable") for row in TRUTH]
    assert certainty_counts(stated, findings) == {
        "definite": {"probable": 3},
        "probable": {"probable": 1},
        "possible": {"absent": 1},
    }


def test_white_noise_has_its_ratio_in_every_lead():
    generator = np.random.default_rng(0)
    clean = np.sin(np.arange(200_00) / 7)[None] * np.array([[1.0], [5.0]]) + np.array([[0.0], [300.0]])
    for decibels in (20, 5):
        noise = add_white_noise(clean, decibels, generator, rescale=False) - clean
        ratio = 10 * np.log10(clean.var(axis=1) / noise.var(axis=1))
        assert ratio == pytest.approx([decibels, decibels], abs=0.2)
    scaled = add_white_noise(clean, 5, generator, rescale=True)
    assert (scaled.min(), scaled.max()) == (0, 1)
    assert np.isfinite(add_white_noise(np.zeros((2, 10)), 5, generator, rescale=True)).all()


def test_segment_noise_is_one_segment_with_the_same_noise_in_all_leads():
    for seed in range(20):
        noise = add_segment_noise(np.zeros((3, 1000)), 0.2, np.random.default_rng(seed))
        places = np.flatnonzero(noise[0])
        assert (noise == noise[0]).all() and len(places) <= 200 and noise.std() < 0.1
        assert not len(places) or places[-1] - places[0] < 200


def test_controls():
    patients = ["a", "a", "b", "c", "c", "c"]
    for seed in range(20):
        exchanged = exchanged_ecgs(patients, np.random.default_rng(seed))
        assert all(patients[row] != patients[other] for row, other in enumerate(exchanged))
    with pytest.raises(ValueError, match="one patient"):
        exchanged_ecgs(["a", "a"], np.random.default_rng(0))
    near = nearest_reports(np.array([[0.0, 3], [1, 0.1]]), np.array([[9.0, 0], [0, 0.1]]), ["x", "y"])
    assert near == ["y", "x"]
    assert most_frequent(["b", "a", "b", "a", "c"]) == "a"


@pytest.fixture(scope="module")
def evaluated(reporter_file: Path, trained_reporter, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("evaluation")
    words = ["evaluate", trained_reporter[0], reporter_file, "--out", out, "--robustness", "--bootstrap", 200]
    assert run(*words, "--max-new-tokens", 16, "--batch-size", 3) == 0
    return out, json.loads((out / "metrics.json").read_text())


def test_the_model_is_above_the_controls_because_it_reads_the_ecg(evaluated):
    _, metrics = evaluated
    systems = metrics["systems"]
    controls = ["shuffled ECGs", "zero ECG", "nearest neighbour", "most frequent report"]
    assert list(systems) == ["model", *controls, "true report"] and list(metrics["differences"]) == controls
    assert systems["true report"]["micro_f1"] == systems["true report"]["rouge_l"] == 1
    assert systems["model"]["micro_f1"] == systems["model"]["macro_f1"] == 1 and systems["model"]["bleu_4"] > 0.99
    for control in ("shuffled ECGs", "zero ECG", "most frequent report"):
        assert systems[control]["micro_f1"] < 1
        assert metrics["differences"][control]["micro_f1_difference"] > 0
    assert systems["nearest neighbour"]["micro_f1"] > systems["most frequent report"]["micro_f1"]
    assert metrics["certainty"]["definite"]["true"] == 1 and metrics["ended"] == 1
    assert list(metrics["robustness"])[:2] == ["none", "white noise, SNR 20 dB"] and len(metrics["robustness"]) == 9
    assert metrics["robustness"]["none"]["micro_f1"] == 1


def test_the_files_say_what_was_scored_and_how(evaluated, reporter_file: Path):
    out, metrics = evaluated
    rows = read_instructions(reporter_file, "test")
    assert metrics["n"] == metrics["patients"] == len(rows) and metrics["truth"].startswith("statements")
    assert metrics["generation"]["max_new_tokens"] == 16 and metrics["generation"]["do_sample"] is False
    assert metrics["implementations"]["bleu_4"]["package"] == "pycocoevalcap" and metrics["references_hash"]
    assert "--wordnet" in metrics["metrics_missing"]["meteor"]
    reports = pd.read_parquet(out / "reports.parquet")
    assert list(reports["reference"]) == [row.report for row in rows] == list(reports["model"])
    text, page = (out / "metrics.txt").read_text(), (out / "metrics.md").read_text()
    html = (out / "report.html").read_text()
    for word in ("shuffled ECGs", "BLEU-4", "Noisy ECGs", "not a medical device"):
        assert word in text and word in page and word in html
    difference = metrics["differences"]["nearest neighbour"]["micro_f1_difference"]
    assert "<svg" in html and f"+{difference:.3f} F1" in html and "against the strongest control" in html
    assert "http-equiv" in html and "<script" not in html and "src=" not in html
    assert "package datasets" in html and "another patient" in html
    assert not any(row.report in html for row in rows)
    assert [key for key in metrics if f"`{key}`" not in DOCUMENTED] == []
    assert (out / "tables" / "findings.csv").read_text().count("\n") == 7
    assert all(row.patient_id not in page for row in rows if len(row.patient_id) > 2)


def test_another_data_set_is_scored_by_the_same_command(reporter_file: Path, trained_reporter, tmp_path: Path):
    lines = [json.loads(line) for line in reporter_file.read_text().splitlines()]
    other = reporter_file.parent / "other.jsonl"
    kept = [{**line, "dataset": "ptb-xl", "split": "test"} for line in lines if line["split"] == "train"][:6]
    for line in kept:
        del line["statements"]  # such as MIMIC-IV-ECG
    other.write_text("".join(json.dumps(line) + "\n" for line in kept))
    words = ["evaluate", trained_reporter[0], other, "--bootstrap", 100, "--max-new-tokens", 16]
    assert run(*words, "--out", tmp_path / "a") == 0
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert metrics["truth"].startswith("findings read") and metrics["systems"]["model"]["micro_f1"] == 1
    assert set(metrics["controls_missing"]) == {"nearest neighbour", "most frequent report"}
    assert run(*words, "--out", tmp_path / "b", "--training-data", reporter_file) == 0
    assert json.loads((tmp_path / "b" / "metrics.json").read_text())["controls_missing"] == {}


def test_a_cache_gives_the_same_figures_and_no_ecg_is_read_again(
    evaluated, reporter_file: Path, trained_reporter, tmp_path: Path, monkeypatch
):
    words = ["evaluate", trained_reporter[0], reporter_file, "--bootstrap", 200, "--max-new-tokens", 16]
    assert run(*words, "--out", tmp_path / "a", "--cache", tmp_path / "ecgs") == 0
    assert (
        len(list((tmp_path / "ecgs").glob("*.npy"))) == 2
    )  # the scored split, and the training split for the controls
    monkeypatch.setattr(processed_ecgs, "_fill", lambda *_: pytest.fail("an ECG was read"))
    assert run(*words, "--out", tmp_path / "b", "--cache", tmp_path / "ecgs") == 0
    for name in ("a", "b"):
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        assert_close(metrics["systems"], evaluated[1]["systems"])


def test_patients_of_the_training_and_options_of_tgmm_are_refused(
    reporter_file: Path, trained_reporter, tmp_path: Path, capsys
):
    words = ["evaluate", trained_reporter[0], reporter_file, "--out", tmp_path / "out"]
    assert run(*words, "--split", "train") == 1
    assert "24 of the patients to be scored were trained on" in capsys.readouterr().err
    assert run(*words, "--temperature") == 2
    assert "--temperature: not for a MEIT model" in capsys.readouterr().err
    assert run(*words, "--split", "validation", "--bootstrap", 100, "--max-new-tokens", 1) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert any("selected on the validation split" in warning for warning in metrics["warnings"])
    assert any("were cut" in warning for warning in metrics["warnings"])


@pytest.mark.parametrize("option", ["--beams", "--max-new-tokens"])
def test_an_option_of_meit_is_refused_for_another_model(option: str, tmp_path: Path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "tgmm"}')
    assert run("evaluate", tmp_path, tmp_path, "--out", tmp_path / "out", option, 3) == 2
    assert f"{option}: not for a TGMM model" in capsys.readouterr().err
