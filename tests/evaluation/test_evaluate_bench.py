"""Evaluation of a bench: closed and open questions, reports, signals, each beside controls, for any model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bench_files import KnowingModel, ShiftedModel, write_bench
from command_line import run

from tgmm_hf import BeatConfig, BeatFeatureExtractor, BeatModel
from tgmm_hf.data.bench_items import LETTERS, Question
from tgmm_hf.data.ecg_reports import load_report_pipeline
from tgmm_hf.data.instructions import Instruction, new_messages, read_instructions
from tgmm_hf.evaluation.bench_answers import (
    closed_correct,
    closed_figures,
    frequent_answers,
    letter_of,
    open_figures,
    token_f1,
)
from tgmm_hf.evaluation.bench_beat import BeatSignals
from tgmm_hf.evaluation.bench_models import BenchModels
from tgmm_hf.evaluation.bench_signals import (
    LinearPredictor,
    ScaledBeat,
    SignalPair,
    read_pair,
    repeat_last_beat,
    signal_figures,
)
from tgmm_hf.evaluation.bench_tables import bench_section, evaluate_bench
from tgmm_hf.evaluation.evaluate_reporter import ReporterEvaluationSettings
from tgmm_hf.evaluation.metrics import bootstrap_counts
from tgmm_hf.evaluation.report_answers import Reporter
from tgmm_hf.reports.bench_report import bench_html
from tgmm_hf.training.saving import save_repository

DOCUMENTED = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
QUICK = ReporterEvaluationSettings(bootstrap=100, progress=False)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B. atrial fibrillation", "B"),
        (" (c) flutter", "C"),
        ("D", "D"),
        ("The answer is: A.", "A"),
        ("A normal ECG", None),
        ("a normal ecg", None),
        ("atrial fibrillation", None),
        ("E. something", None),
        ("Both A. and B.", None),
        ("", None),
    ],
)
def test_a_letter_is_read_and_an_article_is_none(answer: str, letter: str | None):
    assert letter_of(answer) == letter


def test_token_f1_counts_each_shared_token_once():
    assert token_f1("sinus rhythm", "Sinus rhythm.") == 1
    assert token_f1("sinus rhythm", "rhythm rhythm rhythm") == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert token_f1("sinus rhythm", "atrial flutter") == token_f1("sinus rhythm", "") == 0


def rows_of(letters: str, categories: list[str]) -> list[Instruction]:
    return [
        Instruction(
            *(str(n), "synthetic", f"p{n // 2}", "test", f"e{n}"),
            new_messages("ask", f"{letter}. x"),
            question=Question("closed", category, 0, (letter,), tuple("wxyz"), tuple(LETTERS), letter),
        )
        for n, (letter, category) in enumerate(zip(letters, categories, strict=True))
    ]


def test_closed_figures_are_shares_and_differences_are_paired():
    rows = rows_of("ABCD", ["rhythm", "rhythm", "form", "form"])
    scores = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 2]], dtype=float)  # right, wrong, tie, right
    model = closed_correct(rows, scores, ["A. x", "B", "none", "A."])
    assert model["accuracy_likelihood"].tolist() == [True, False, False, True]
    assert model["accuracy_letter"].tolist() == [True, True, False, False] and model["no_letter"].sum() == 1
    control = closed_correct(rows, np.zeros((4, 4)), ["B."] * 4)
    counts = bootstrap_counts([row.patient_id for row in rows], None, 200, 0)
    figures = closed_figures(rows, {"model": model, "control": control}, "model", counts)
    whole, rhythm = figures["systems"]["model"]["all"], figures["systems"]["model"]["rhythm"]
    assert (whole["n"], whole["accuracy_likelihood"], whole["accuracy_letter"], whole["no_letter"]) == (
        4,
        0.5,
        0.5,
        0.25,
    )
    assert (rhythm["n"], rhythm["accuracy_letter"]) == (2, 1.0)
    assert figures["systems"]["control"]["all"]["accuracy_likelihood"] == 0  # equal scores choose nothing
    difference = figures["differences"]["control"]["all"]
    assert difference["accuracy_letter_difference"] == 0.25 and difference["accuracy_likelihood_difference"] == 0.5
    # of two patients: [1, 0] and [0, 0], so that the resamples have the differences 0, 0.25 and 0.5
    assert difference["accuracy_letter_difference_ci"] == [0, 0.5]


def test_open_figures_by_hand():
    texts = ["sinus rhythm", "atrial fibrillation", "sinus rhythm"]
    rows = [
        Instruction(
            *(str(n), "synthetic", f"p{n}", "test", "e"),
            new_messages("ask", text),
            question=Question("open", "rhythm", 0, ("SR" if "sinus" in text else "AFIB",)),
        )
        for n, text in enumerate(texts)
    ]
    assert frequent_answers(rows) == {"rhythm": "sinus rhythm"}
    counts = bootstrap_counts(["a", "b", "c"], None, 100, 0)
    figures = open_figures(rows, {"model": texts, "frequent": ["sinus rhythm"] * 3}, "model", counts)
    model, frequent = (figures["systems"][name]["rhythm"] for name in ("model", "frequent"))
    assert model["token_f1"] == model["rouge_l"] == model["micro_f1"] == 1
    assert frequent["token_f1"] == pytest.approx(2 / 3) and frequent["micro_f1"] == pytest.approx(2 / 3)
    assert figures["differences"]["frequent"]["all"]["token_f1_difference"] == pytest.approx(1 / 3)


# ---- signals


def test_the_last_beat_is_repeated_to_the_sample():
    rate, period = 250, 200  # 0.8 s
    beat = np.zeros(period)
    beat[60:70] = np.hanning(10)
    signal = np.tile(beat, 8)[None] * np.arange(1, 13)[:, None]
    given = repeat_last_beat(signal[:, :1000], 250, rate)
    assert np.abs(given - signal[:, 1000:1250]).max() < 1e-9
    assert repeat_last_beat(np.zeros((12, 1000)), 250, rate).shape == (12, 250)


def test_the_linear_predictor_continues_waves_that_it_has_not_seen():
    generator = np.random.default_rng(0)

    def pair() -> SignalPair:
        phases = generator.uniform(0, 2 * np.pi, (12, 1))
        wave = 3 * np.sin(2 * np.pi * 5 * np.arange(1250) / 250 + phases) + generator.normal(0, 1, (12, 1))
        return SignalPair(wave[:, :1000], wave[:, 1000:], "mV")

    predictor = LinearPredictor()
    for _ in range(12):
        predictor.learn(pair())
    new = pair()
    assert predictor.finish().penalty == 0.01 and predictor.number == 12
    assert np.abs(predictor.predict(new.window) - new.target).max() < 0.1


def test_of_noise_the_linear_predictor_and_the_scaled_beat_learn_to_say_nothing():
    generator = np.random.default_rng(0)
    predictor, beat = LinearPredictor(), ScaledBeat(250.0)
    for _ in range(40):
        signal = generator.normal(size=(12, 625))
        for control in (predictor, beat):
            control.learn(SignalPair(signal[:, :500], signal[:, 500:], "mV"))
    window = generator.normal(size=(12, 500))
    assert predictor.finish().penalty == 100 and predictor.predict(window).std() < 0.1
    assert beat.predict(window, 125).std() < 0.2 < repeat_last_beat(window, 125, 250.0).std()


@pytest.fixture(scope="module")
def bench(reporter_file: Path) -> Path:
    return write_bench(reporter_file, "bench.jsonl")


def test_signals_are_read_at_the_place_that_the_question_names(bench: Path):
    rows = read_instructions(bench, "test")
    prediction = next(row for row in rows if row.kind == "prediction")
    rebuilt = next(row for row in rows if row.kind == "reconstruction")
    pair, other = read_pair(prediction, ShiftedModel()), read_pair(rebuilt, ShiftedModel())
    assert pair.window.shape == (12, 1000) and pair.target.shape == (12, 250) and pair.units == "mV"
    both = np.concatenate([pair.window, pair.target], axis=1)  # 1.5 s to 6.5 s
    assert np.abs(other.target - both[:, 125:1125]).max() < 1e-6 and np.array_equal(other.window, other.target)


def test_errors_of_signals_by_hand_and_the_predictor_learns_from_training_only(bench: Path, monkeypatch):
    rows = read_instructions(bench)
    scored = [row for row in rows if row.split == "test" and row.kind == "reconstruction"]
    figures = signal_figures(scored, [], ShiftedModel(), QUICK)
    assert figures["n"] == len(scored) and figures["units"] == "mV"
    assert figures["systems"]["model"]["rmse"] == pytest.approx(0.1)
    assert all(one["rmse"] == pytest.approx(0.1) for one in figures["systems"]["model"]["leads"].values())
    asked = [row for row in rows if row.kind == "prediction"]
    learned = []
    learn = LinearPredictor.learn
    monkeypatch.setattr(LinearPredictor, "learn", lambda self, pair: (learned.append(pair), learn(self, pair)))
    figures = signal_figures(
        [row for row in asked if row.split == "test"],
        [row for row in asked if row.split == "train"],
        ShiftedModel(),
        QUICK,
    )
    assert len(learned) == 24
    model, mean = figures["systems"]["model"], figures["systems"]["mean of the lead"]
    assert model["rmse"] == pytest.approx(mean["rmse"])
    assert figures["differences"]["mean of the lead"]["rmse_difference"] == pytest.approx(0)
    assert {"repeat the last beat", "last beat, scaled", "linear predictor"} < set(figures["systems"])
    few = signal_figures([row for row in asked if row.split == "test"], [], ShiftedModel(), QUICK)
    assert "linear predictor" in few["controls_missing"] and "linear predictor" not in few["systems"]


# ---- whole evaluations


def test_a_model_with_two_streams_stands_beside_each_stream_alone(bench: Path, tmp_path: Path):
    model = KnowingModel()
    metrics = evaluate_bench("knowing", bench, tmp_path, QUICK, BenchModels(model, ShiftedModel()))
    closed, opened = metrics["closed"], metrics["open"]
    assert list(closed["systems"]) == ["model", "shuffled ECGs", "no ECG", "signal only", "picture only"]
    assert closed["refused"] + opened["refused"] + metrics["report"]["refused"] == 1
    for name in ("model", "signal only"):
        assert closed["systems"][name]["all"]["accuracy_likelihood"] == 1
        assert closed["systems"][name]["all"]["accuracy_letter"] == 1
    for name in ("no ECG", "picture only", "shuffled ECGs"):
        assert closed["systems"][name]["all"]["accuracy_letter"] < 0.7
        assert closed["differences"][name]["all"]["accuracy_letter_difference"] > 0.3
    assert closed["systems"]["no ECG"]["all"]["accuracy_likelihood"] == 0
    assert "train split has 24" in closed["controls_missing"]["texts alone"]
    assert opened["systems"]["model"]["all"]["token_f1"] == 1 and "most frequent answer" in opened["systems"]
    assert metrics["report"]["systems"]["model"]["micro_f1"] == 1
    assert "nearest neighbour" not in metrics["report"]["systems"]  # the model has no vectors
    assert metrics["reconstruction"]["systems"]["model"]["rmse"] == pytest.approx(0.1)
    patients = {number: row.patient_id for number, row in enumerate(model.rows)}
    assert any(sight.row is None for sight in model.seen) and {len(s.streams) for s in model.seen} == {0, 1, 2}
    assert set(patients.values()) == {row.patient_id for row in read_instructions(bench, "test")}
    assert [key for key in metrics if f"`{key}`" not in DOCUMENTED] == []
    answers = pd.read_parquet(tmp_path / "answers.parquet")
    assert set(answers["kind"]) == {"closed", "open", "report"} and "picture only" in answers
    text = (tmp_path / "metrics.txt").read_text()
    assert "accuracy by letter" in text and "picture only" in text and "RMSE" in text and "not a medical device" in text
    assert (tmp_path / "metrics.md").is_file() and (tmp_path / "tables" / "closed.csv").is_file()
    assert json.loads((tmp_path / "metrics.json").read_text())["closed"] == closed
    page, card = bench_html(metrics), bench_section(metrics)
    strongest = min(closed["differences"].values(), key=lambda entry: entry["all"]["accuracy_likelihood_difference"])
    assert f"{strongest['all']['accuracy_likelihood_difference']:+.3f}" in page
    rmse = metrics["reconstruction"]["differences"].values()
    assert f"{max(entry['rmse_difference'] for entry in rmse):+.3f}" in page
    assert page.count("<svg") == 5 and page.count("<table") > 5
    assert "picture only" in card and "accuracy by letter" in card and str(bench.parent) not in card
    assert all(name not in page + card for name in patients.values())


def test_the_same_call_gives_the_same_figures(bench: Path, tmp_path: Path):
    figures = [
        evaluate_bench("knowing", bench, tmp_path / str(n), QUICK, BenchModels(KnowingModel(), None)) for n in range(2)
    ]
    assert figures[0] == figures[1] and "prediction" in figures[0]["kinds_missing"]


def test_option_scores_are_the_negative_loss_of_the_model(bench: Path, trained_reporter):
    pipe = load_report_pipeline(str(trained_reporter[0]))
    rows = [row for row in read_instructions(bench, "test") if row.kind == "closed"][:3]
    values = {n: pipe.processor.feature_extractor.prepare(row.ecg).values for n, row in enumerate(rows)}
    answers = [["A. x", "B. a longer answer"]] * 3
    scores = Reporter(pipe, batch_size=2, progress=False).answer_scores(rows, answers, values.__getitem__, "")
    for number, row in enumerate(rows):
        for place, answer in enumerate(answers[number]):
            messages = [*row.conversation(with_answer=False), {"role": "assistant", "content": answer}]
            inputs = pipe.processor.apply_chat_template(
                messages, tokenize=True, return_dict=True, output_labels=True, return_tensors="pt"
            )
            with torch.no_grad():
                loss = pipe.model(**inputs).loss
            assert scores[number, place] == pytest.approx(-float(loss), abs=1e-4)


def test_the_command_scores_a_meit_model(bench: Path, reporter_file: Path, trained_reporter, tmp_path: Path, capsys):
    words = ["evaluate", trained_reporter[0], bench, "--bootstrap", 100, "--max-new-tokens", 12]
    assert run(*words, "--out", tmp_path / "a", "--cache", tmp_path / "ecgs") == 0
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert metrics["family"] == "bench" and metrics["model_family"] == "meit"
    assert metrics["report"]["systems"]["model"]["micro_f1"] == 1  # trained on these reports
    assert metrics["report"]["systems"]["nearest neighbour"]["micro_f1"] > 0.5
    assert metrics["report"]["systems"]["no ECG"]["micro_f1"] < 1
    assert (
        list(metrics["kinds_missing"]) == ["prediction", "reconstruction"]
        and "a meit model gives no signals" in printed
    )
    assert [key for key in metrics if f"`{key}`" not in DOCUMENTED] == []
    assert all(row.patient_id not in printed for row in read_instructions(reporter_file) if len(row.patient_id) > 3)
    assert run(*words, "--out", tmp_path / "b", "--robustness") == 2
    assert "not for a bench file" in capsys.readouterr().err
    assert run(*words, "--out", tmp_path / "b", "--split", "train") == 1
    assert "24 of the patients to be scored" in capsys.readouterr().err


@pytest.fixture(scope="module")
def beat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved Beat model with random weights, which reads windows of 2 s."""
    path = tmp_path_factory.mktemp("beat") / "model"
    small = {"seq_length": 500, "num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64}
    torch.manual_seed(0)
    model = BeatModel(BeatConfig(**small, num_attention_heads=2, attention_head_size=16, codebook_size=16)).eval()
    save_repository(model, BeatFeatureExtractor(num_samples=500), path)
    return path


def test_signals_of_a_beat_model_are_in_the_unit_of_the_window(bench: Path, beat: Path):
    signals = BeatSignals(str(beat))
    row = next(row for row in read_instructions(bench, "test") if row.kind == "prediction")
    pair = read_pair(row, signals)
    predicted, rebuilt = signals.predict(pair.window[None], 250), signals.rebuild(pair.window[None])
    assert predicted.shape == (1, 12, 250) and rebuilt.shape == (1, 12, 1000)
    # the model's own outputs for the last two seconds, brought back by mean and deviation of these seconds
    last = pair.window[:, 500:]
    mean, deviation = last.mean(axis=1, keepdims=True), last.std(axis=1, keepdims=True) + 1e-6
    with torch.no_grad():
        output = signals.model(torch.from_numpy(((last - mean) / deviation).astype(np.float32))[None])
    assert np.abs(output.prediction[0].numpy() * deviation + mean - predicted[0]).max() < 1e-4
    assert np.abs(output.reconstruction[0].numpy() * deviation + mean - rebuilt[0, :, 500:]).max() < 1e-4
    tenfold = signals.predict(10 * pair.window[None], 250)
    assert np.abs(tenfold - 10 * predicted).max() < 1e-2 * np.abs(tenfold).max()
    with pytest.raises(ValueError, match="250 samples was found, and 300 are needed"):
        signals.predict(pair.window[None], 300)


def test_the_command_scores_a_beat_model(bench: Path, beat: Path, tmp_path: Path, capsys):
    assert run("evaluate", beat, bench, "--out", tmp_path, "--bootstrap", 100) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["model_family"] == "beat" and list(metrics["kinds_missing"]) == ["closed", "open", "report"]
    assert metrics["prediction"]["systems"]["last beat, scaled"]["rmse"] > 0 and metrics["reconstruction"]["n"] == 8
    assert [key for key in metrics if f"`{key}`" not in DOCUMENTED] == []
    assert "does not answer in words" in capsys.readouterr().out and not (tmp_path / "answers.parquet").exists()
    assert "RMSE of rebuilt signals" in (tmp_path / "report.html").read_text()


def test_a_beat_model_is_refused_without_a_bench_file(beat: Path, reporter_file: Path, tmp_path: Path, capsys):
    for data in (reporter_file, tmp_path):
        assert run("evaluate", beat, data, "--out", tmp_path / "out") == 2
        assert "a beat model is scored on a file of questions" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_tgmm_model_and_a_plain_instruction_file_are_refused(
    bench: Path, reporter_file: Path, tmp_path: Path, capsys
):
    (tmp_path / "config.json").write_text('{"model_type": "tgmm"}')
    assert run("evaluate", tmp_path, bench, "--out", tmp_path / "out") == 1
    assert "a tgmm model cannot answer the questions of a bench file" in capsys.readouterr().err
    assert run("evaluate", tmp_path, bench, "--out", tmp_path / "out", "--task", "hf_diagnosis") == 2
    assert "--task: not for a bench file" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has no questions"):
        evaluate_bench("knowing", reporter_file, tmp_path / "out", QUICK, BenchModels(KnowingModel(), None))
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_meit_trains_on_a_bench_file_and_leaves_signals_out(bench: Path, tmp_path: Path):
    from reporter_data import reporter_settings, train

    sections = {"optimisation": {"epochs": 1, "encoder_epochs": 1}, "data": {"max_tokens": 128, "cache": None}}
    record = train(reporter_settings(bench, tmp_path / "model", **sections))
    assert record["data"]["train"]["rows"] == 3 * 24 and record["encoder"]["codes"] == ["AMI", "SR"]
    (cache,) = (tmp_path / "model-training" / "ecgs").glob("*.npy")
    assert np.load(cache, mmap_mode="r").shape[0] == 24 + 8
