"""A Heartcare model that answers the questions of a bench: both streams, one of them, none."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from bench_files import write_bench
from command_line import run
from tiny_heartcare import fitting_model, tiny_processor

from tgmm_hf.data.bench_items import option_answer
from tgmm_hf.data.ecg_reports import PICTURE, SIGNAL
from tgmm_hf.data.heartcare_ecgs import with_streams
from tgmm_hf.data.instructions import read_instructions
from tgmm_hf.evaluation.bench_heartcare import HeartcareWords
from tgmm_hf.evaluation.bench_models import load_bench_models
from tgmm_hf.evaluation.bench_words import Sight
from tgmm_hf.training.saving import save_repository

DOCUMENTED = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
BOTH = (SIGNAL, PICTURE)
SHORT = {"max_new_tokens": 6}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("heartcare") / "model"
    model = fitting_model()
    save_repository(model, tiny_processor(model), directory)
    return directory


@pytest.fixture(scope="module")
def bench(reporter_file: Path) -> Path:
    return write_bench(reporter_file, "heartcare_bench.jsonl")


@pytest.fixture(scope="module")
def opened(saved: Path, bench: Path) -> HeartcareWords:
    """The model, asked about two closed questions; a third row is there for its vector only."""
    words = load_bench_models(str(saved), 3, SHORT, progress=False).words
    assert isinstance(words, HeartcareWords)
    rows = [row for row in read_instructions(bench, "test") if row.kind == "closed"][:3]
    assert words.open(rows, 2, None) == {}
    return words


SIGHTS = [
    Sight(0, BOTH), Sight(0, (SIGNAL,)), Sight(0, (PICTURE,)), Sight(None, ()), Sight(1, BOTH)
]  # fmt: skip
STREAMS = {SIGNAL: "ecg", PICTURE: "image"}


def asked(words: HeartcareWords, sight: Sight, answer: str | None = None) -> Any:
    """The inputs of the first question with the ECG of a sight, made by the processor from the file."""
    streams = [STREAMS[stream] for stream in sight.streams]
    messages = with_streams(words.rows[0].conversation(with_answer=False), streams)
    for message in messages:
        for block in message["content"] if isinstance(message["content"], list) else []:
            if "ecg" in block:
                block["ecg"] = words.rows[sight.row or 0].ecg
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    processor: Any = words.reporter.pipe.processor
    settings = {"output_labels": answer is not None, "add_generation_prompt": answer is None}
    return processor.apply_chat_template(messages, tokenize=True, return_tensors="pt", **settings)


def test_options_are_weighed_by_the_loss_of_the_model_with_each_stream(opened: HeartcareWords):
    scores = opened.weigh_options([0] * len(SIGHTS), SIGHTS, "")
    texts = opened.rows[0].question.options
    for sight, row in zip(SIGHTS, scores, strict=True):
        for place, text in enumerate(texts):
            with torch.no_grad():
                loss = opened.reporter.pipe.model(**asked(opened, sight, option_answer(place, text))).loss
            assert row[place] == pytest.approx(-float(loss), abs=5e-3)  # stored in half precision
    assert len({tuple(row.round(6)) for row in scores}) == len(SIGHTS)  # each stream has its say


def test_answers_are_those_of_generate(opened: HeartcareWords):
    pipe = opened.reporter.pipe
    answers = [text for text, _ in opened.write([0] * len(SIGHTS), SIGHTS, "")]
    for sight, answer in zip(SIGHTS, answers, strict=True):
        inputs = asked(opened, sight)
        tokens = pipe.model.generate(**inputs, **SHORT, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert answer == pipe.processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    assert len(set(answers)) > 1


def test_the_vectors_are_of_the_signal_and_need_no_picture(opened: HeartcareWords):
    vectors = opened.vectors([0, 1, 2])
    model = opened.reporter.pipe.model
    for number, vector in enumerate(vectors):
        inputs = opened.reporter.pipe.processor(ecg=opened.rows[number].ecg, streams=("ecg",), return_tensors="pt")
        with torch.no_grad():
            expected = model.get_ecg_features(inputs["input_values"][0]).flatten(1).mean(0)
        assert vector == pytest.approx(expected.numpy(), abs=2e-2)
    assert len(opened.ecgs.pictures.values) == 2  # the third row is not asked about


def test_the_command_scores_a_heartcare_model(saved: Path, bench: Path, reporter_file: Path, tmp_path: Path, capsys):
    words = ["evaluate", saved, bench, "--bootstrap", 100, "--max-new-tokens", 3, "--cache", tmp_path / "ecgs"]
    assert run(*words, "--out", tmp_path / "a") == 0
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert metrics["family"] == "bench" and metrics["model_family"] == "heartcare" and metrics["checks"] == []
    controls = {"model", "shuffled ECGs", "no ECG", "signal only", "picture only"}
    for kind in ("closed", "open", "report"):
        assert controls <= set(metrics[kind]["systems"]), kind
    assert "nearest neighbour" in metrics["report"]["systems"]
    assert list(metrics["kinds_missing"]) == ["prediction", "reconstruction"]
    assert [key for key in metrics if f"`{key}`" not in DOCUMENTED] == []
    answers = pd.read_parquet(tmp_path / "a" / "answers.parquet")
    assert {"signal only", "picture only"} <= set(answers)
    assert len(list((tmp_path / "ecgs").glob("*.npy"))) == 2  # windows and pictures
    capsys.readouterr()
    assert run("evaluate", saved, reporter_file, "--out", tmp_path / "b") == 2
    assert "make-bench" in capsys.readouterr().err
    assert run(*words, "--temperature", "--out", tmp_path / "b") == 2
    assert "--temperature: not for a bench file" in capsys.readouterr().err
