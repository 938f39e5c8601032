"""Training of Heartcare: each stage trains what its settings say, and the stages follow each other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from closeness import assert_same_training
from transformers import pipeline

from tgmm_hf import HeartcareConfig, HeartcareForConditionalGeneration, HeartcareProcessor
from tgmm_hf.data.heartcare_ecgs import with_streams
from tgmm_hf.data.instructions import read_instructions
from tgmm_hf.training.base_trainer import BaseTrainer
from tgmm_hf.training.heartcare_arguments import HeartcareRunArguments
from tgmm_hf.training.heartcare_data import HeartcareCollator, HeartcareRows, StreamDropout, processed_streams
from tgmm_hf.training.settings_files import parse_dataclass
from tgmm_hf.training.train_any import read_any_arguments
from tgmm_hf.training.train_heartcare import train_heartcare

ROOT = Path(__file__).resolve().parents[2]
TINY = HeartcareConfig.tiny().to_dict()
BEAT = {key: TINY["beat_config"][key] for key in ("hidden_size", "num_hidden_layers", "num_queries", "codebook_size")}
VISION = {key: TINY["vision_config"][key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers")}
NEW = {
    "text_config": {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    },
    "vocab_size": 340,
    "overrides": {
        "beat_config": BEAT,
        "vision_config": {**VISION, "num_attention_heads": 2, "image_size": 48, "patch_size": 16},
    },
    "train": {"language_model": True, "vision_tower": True, "ecg_projector": True, "image_projector": True},
}


def train(file: Path, output: Path, model: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """Train for seconds; return the content of run.json."""
    optimisation = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **sections.get("optimisation", {})}
    data = {"file": str(file), "cache": str(file.parent / "heartcare"), **sections.get("data", {})}
    settings = {"output": str(output), "data": data, "model": model, "optimisation": optimisation}
    return train_heartcare(parse_dataclass(HeartcareRunArguments, settings))


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return HeartcareForConditionalGeneration.from_pretrained(directory).state_dict()


def moved(before: Path, after: Path) -> set[str]:
    """The parts whose weights differ between two saved models."""
    old, new = weights(before), weights(after)
    return {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}


@pytest.fixture(scope="module")
def first(reporter_file: Path, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("heartcare") / "first"
    return output, train(reporter_file, output, NEW, optimisation={"epochs": 6})


def test_the_loss_falls_and_beat_stands_still(first, reporter_file: Path):
    output, record = first
    losses = [line["eval_loss"] for line in record["history"] if "eval_loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert record["run"]["family"] == "heartcare" and record["parts"]["beat"]["trained"] == 0
    for part in ("language_model", "vision_tower", "ecg_projector", "image_projector"):
        assert record["parts"][part]["trained"] == record["parts"][part]["weights"] > 0
    assert record["data"]["train"] == {"rows": 24, "refused": 0, "cut": 0}
    row = read_instructions(reporter_file, "test")[0]
    answer = pipeline("ecg-question", model=str(output), device="cpu")({"ecg": row.ecg, "question": row.instruction})
    assert answer["answer"] is not None and "model_weights_changed" not in str(answer["checks"])


def test_the_stages_follow_each_other_and_train_their_parts_only(first, reporter_file: Path, tmp_path: Path):
    start, _ = first
    projectors = {"ecg_projector": True, "image_projector": True}
    second = train(reporter_file, tmp_path / "second", {"checkpoint": str(start), "train": projectors})
    assert moved(start, tmp_path / "second") == set(projectors)
    trained = {part for part, entry in second["parts"].items() if entry["trained"]}
    assert trained == set(projectors)
    adapters = {"rank": 2, "alpha": 4, "dropout": 0.0}
    model = {"checkpoint": str(tmp_path / "second"), "train": projectors, "lora": adapters}
    third = train(reporter_file, tmp_path / "third", model)
    assert moved(tmp_path / "second", tmp_path / "third") == {*projectors, "language_model"}
    assert third["parts"]["adapters"]["trained"] > 0 == third["parts"]["language_model"]["trained"]
    assert set(weights(tmp_path / "third")) == set(weights(start))  # the adapters are merged
    beat = {"checkpoint": str(tmp_path / "second"), "train": {"beat": True}}
    train(reporter_file, tmp_path / "beat", beat)
    old, new = weights(tmp_path / "second"), weights(tmp_path / "beat")
    names = {name for name in old if not torch.equal(old[name], new[name])}
    assert names and all(name.startswith("beat.") for name in names)
    assert not any("decoder" in name or "codebook" in name for name in names)


@pytest.mark.slow
def test_the_ecg_decides_the_answer(reporter_file: Path, tmp_path: Path):
    model = {**NEW, "train": {"beat": True, "ecg_projector": True, "language_model": True}}
    optimisation = {"epochs": 25, "learning_rate": 5e-3, "batch_size": 4}
    train(reporter_file, tmp_path / "out", model, data={"streams": "ecg"}, optimisation=optimisation)
    written = HeartcareForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    processor = HeartcareProcessor.from_pretrained(tmp_path / "out")
    rows = read_instructions(reporter_file, "test")
    asked = {"ecg": [row.ecg for row in rows], "text": [row.instruction for row in rows], "streams": ("ecg",)}
    batch = processor(**asked, return_tensors="pt")
    tokens = written.generate(**batch, max_new_tokens=20, do_sample=False)[:, batch["input_ids"].shape[1] :]
    answers = processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    assert [answer.strip() for answer in answers] == [row.report for row in rows]
    assert len(set(answers)) == 2


@pytest.mark.parametrize("streams", ["ecg", "image", "none"])
def test_a_stream_can_be_left_out(first, reporter_file: Path, tmp_path: Path, streams: str):
    start, _ = first
    part = {"ecg": "ecg_projector", "image": "image_projector", "none": "language_model"}[streams]
    model = {"checkpoint": str(start), "train": {part: True}}
    record = train(reporter_file, tmp_path / "out", model, data={"streams": streams}, optimisation={"epochs": 1})
    assert moved(start, tmp_path / "out") == {part} and record["data"]["train"]["rows"] == 24


def test_a_part_that_nothing_reaches_ends_the_training(first, reporter_file: Path, tmp_path: Path):
    model = {"checkpoint": str(first[0]), "train": {"image_projector": True, "ecg_projector": True}}
    with pytest.raises((ValueError, RuntimeError), match="image_projector"):
        train(reporter_file, tmp_path / "out", model, data={"streams": "ecg"}, optimisation={"epochs": 1})
    assert not (tmp_path / "out").exists()


def test_a_batch_may_be_larger_than_a_split(first, reporter_file: Path, tmp_path: Path):
    model, optimisation = {"checkpoint": str(first[0])}, {"epochs": 3, "batch_size": 40, "keep": "last"}
    record = train(reporter_file, tmp_path / "out", model, optimisation=optimisation)
    assert record["kept_metric"]["loss"] > 0


def test_codes_are_trained_as_words(reporter_file: Path, tmp_path: Path):
    overrides = {**NEW["overrides"], "ecg_input": "codes"}
    model = {**NEW, "overrides": overrides, "train": {"language_model": True}}
    record = train(reporter_file, tmp_path / "codes", model, data={"streams": "ecg"}, optimisation={"epochs": 1})
    assert "ecg_projector" not in record["parts"] and record["parts"]["language_model"]["trained"] > 0


def hiding_rows(first: tuple[Path, Any], file: Path, rate: float) -> tuple[HeartcareProcessor, HeartcareRows, list]:
    """The processor, rows that hide streams, and how each row is tokenized with both, the signal and the picture."""
    processor = HeartcareProcessor.from_pretrained(first[0])
    data = {"file": str(file), "cache": str(file.parent / "heartcare")}
    run = parse_dataclass(HeartcareRunArguments, {"output": "o", "data": data, "model": {"checkpoint": str(first[0])}})
    rows = [row for row in read_instructions(file) if row.split != "test"]
    streams = processed_streams(run, rows, processor, False)
    pieces = [
        [
            processor.row_pieces(with_streams(row.conversation(), shown), streams.row(number), False)
            for shown in (("ecg", "image"), ("ecg",), ("image",))
        ]
        for number, row in enumerate(rows)
    ]
    numbers = list(range(len(rows)))
    hiding = HeartcareRows([whole for whole, *_ in pieces], numbers, streams, StreamDropout(processor, rate))
    return processor, hiding, pieces


def test_a_row_with_a_hidden_stream_is_that_of_a_processor_without_it(first, reporter_file: Path):
    processor, rows, pieces = hiding_rows(first, reporter_file, 0.5)
    torch.manual_seed(0)
    shown = []
    for index in list(range(len(rows))) * 20:
        row = rows[index]
        present = (row["row"].ecg is not None, row["row"].pixels is not None)
        number = {(True, True): 0, (True, False): 1, (False, True): 2}[present]  # one stream always stays
        assert row["pieces"] == pieces[index][number]
        shown.append(number)
    shares = [shown.count(number) / len(shown) for number in range(3)]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.06)
    batch = HeartcareCollator(processor)([rows[index] for index in range(len(rows))])
    assert 0 < batch["image_mask"].sum() < len(rows) and 0 < batch["window_mask"].any(1).sum() < len(rows)
    model = HeartcareForConditionalGeneration.from_pretrained(first[0])
    assert torch.isfinite(model(**batch).loss)


def test_the_validation_split_hides_no_stream(first, reporter_file: Path, tmp_path: Path, monkeypatch):
    seen: dict[bool, list[tuple[bool, bool]]] = {True: [], False: []}
    forward = HeartcareForConditionalGeneration.forward

    def watched(self, *args: Any, **kwargs: Any) -> Any:
        masks = zip(kwargs["window_mask"].any(1).tolist(), kwargs["image_mask"].tolist(), strict=True)
        seen[self.training].extend(masks)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(HeartcareForConditionalGeneration, "forward", watched)
    data = {"stream_dropout": 1.0}
    train(reporter_file, tmp_path / "out", {"checkpoint": str(first[0])}, data=data, optimisation={"epochs": 1})
    assert set(seen[True]) == {(True, False), (False, True)} and set(seen[False]) == {(True, True)}


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_stopped(
    first, reporter_file: Path, tmp_path: Path, monkeypatch, rate: float
):
    model, data = {"checkpoint": str(first[0])}, {"stream_dropout": rate}
    train(reporter_file, tmp_path / "whole", model, data=data)
    save, saved = BaseTrainer._save_checkpoint, []

    def stop(self, *args: Any) -> None:
        save(self, *args)
        saved.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(BaseTrainer, "_save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        train(reporter_file, tmp_path / "stopped", model, data=data)
    assert saved and not (tmp_path / "stopped").exists()
    monkeypatch.setattr(BaseTrainer, "_save_checkpoint", save)
    train(reporter_file, tmp_path / "stopped", model, data=data)
    assert_same_training(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))


def test_wrong_settings_are_refused():
    wrong = [
        ({"train": {"projector": True}}, "projector"),
        ({"train": {"beat": False}}, "train nothing"),
        ({"checkpoint": "x"}, "three ways"),
        ({"lora": {}, "train": {"language_model": True}}, "in place of the language model"),
        ({"gguf_file": "x"}, "gguf_file"),
    ]
    for changed, words in wrong:
        model = {"text_config": {"model_type": "llama"}, **changed}
        with pytest.raises(ValueError, match=words):
            parse_dataclass(HeartcareRunArguments, {"output": "o", "data": {"file": "f"}, "model": model})
    for data, words in [({"stream_dropout": 1.5}, "from 0 to 1"), ({"stream_dropout": 0.5, "streams": "ecg"}, "both")]:
        with pytest.raises(ValueError, match=words):
            settings = {"output": "o", "data": {"file": "f", **data}, "model": {"checkpoint": "x"}}
            parse_dataclass(HeartcareRunArguments, settings)
    with pytest.raises(ValueError, match="leave it out"):
        settings = {"checkpoint": "x", "beat": "y"}
        parse_dataclass(HeartcareRunArguments, {"output": "o", "data": {"file": "f"}, "model": settings})


def test_an_ecg_block_becomes_a_block_for_each_stream():
    messages = [{"role": "user", "content": [{"type": "ecg"}, {"type": "text", "text": "?"}]}]
    for streams in (("ecg", "image"), ("image",), ()):
        found = with_streams(messages, streams)[0]["content"]
        assert [block["type"] for block in found] == [*streams, "text"]


@pytest.mark.parametrize("stage", ["language", "projectors", "instructions"])
def test_the_configurations_are_read(stage: str):
    run = read_any_arguments(ROOT / "configs" / f"heartcare_{stage}.yaml")
    assert isinstance(run, HeartcareRunArguments) and run.to_dict()["family"] == "heartcare"
