"""Training of MEIT: the loss falls, the ECG decides the report, and a run trains what its settings say."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import yaml
from closeness import assert_close
from command_line import run as run_command
from reporter_data import TEXTS, reporter_settings, train, write_reporter_data
from tiny_reporters import byte_tokenizer, text_config, tiny_batch, tiny_reporter
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tgmm_hf.data.ecg_reports import load_report_pipeline, load_reporter
from tgmm_hf.data.instructions import read_instructions
from tgmm_hf.data.processed_ecgs import digest_of_ecgs
from tgmm_hf.data.report_tokenizer import report_tokenizer
from tgmm_hf.encoders.configuration_st_mem import StMemConfig
from tgmm_hf.encoders.modeling_st_mem import StMemModel
from tgmm_hf.training import instruction_data
from tgmm_hf.training.arguments import LoraArguments
from tgmm_hf.training.base_trainer import BaseTrainer
from tgmm_hf.training.reporter_arguments import ReporterRunArguments
from tgmm_hf.training.reporter_data import cut_pieces
from tgmm_hf.training.reporter_parts import add_adapters, check_counts, count_parts, without_adapters
from tgmm_hf.training.train_any import read_any_arguments

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(reporter_file: Path) -> Path:
    return reporter_file


@pytest.fixture
def trained(trained_reporter: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    return trained_reporter


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_reporter(str(directory))[0].state_dict()


def test_the_loss_falls_and_the_ecg_decides_the_report(file: Path, trained):
    output, record = trained
    losses = [line["eval_loss"] for line in record["history"] if "eval_loss" in line]
    assert losses[-1] < 0.2 * losses[0]
    pipe = load_report_pipeline(str(output))
    for row in read_instructions(file, "test"):
        answer = pipe({"ecg": row.ecg, "instruction": row.instruction})
        assert answer["report"] == row.report and answer["complete"]
        # one of the two texts belongs to ECGs whose chest leads the test turns over, and that may be named
        may_be_named = {"ecg_chest_leads_turned"} if row.report == TEXTS[True] else set()
        assert {check["code"] for check in answer["checks"]} <= may_be_named
    assert {row.report for row in read_instructions(file, "test")} == set(TEXTS.values())


def test_the_run_record_says_what_was_trained_on_what(file: Path, trained):
    output, record = trained
    assert record == json.loads((output / "run.json").read_text())
    assert record["run"]["family"] == "meit" and record["versions"]["transformers"]
    assert record["data"]["train"] == {"rows": 24, "refused": 0, "cut": 0}
    model, _ = load_reporter(str(output))
    sizes = {name: sum(w.numel() for w in part.parameters()) for name, part in model.named_children()}
    assert {part: entry["trained"] for part, entry in record["parts"].items()} == sizes
    assert record["kept_metric"]["loss"] == min(line["eval_loss"] for line in record["history"] if "eval_loss" in line)
    seen = json.loads((Path(f"{output}-training") / "patients.json").read_text())
    assert "synthetic/p0" in seen["trained"] and seen["complete"]


def test_a_finished_run_is_not_trained_again_and_another_is_refused(file: Path, trained):
    output, record = trained
    assert train(reporter_settings(file, output)) == record
    with pytest.raises(ValueError, match="learning_rate was 0.01, now 0.1"):
        train(reporter_settings(file, output, optimisation={"learning_rate": 0.1}))


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_stopped(file: Path, trained, tmp_path: Path, monkeypatch):
    save, saved = BaseTrainer._save_checkpoint, []

    def stop(self, *args: Any) -> None:
        save(self, *args)
        saved.append(1)
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(BaseTrainer, "_save_checkpoint", stop)
    settings = reporter_settings(file, tmp_path / "model", data={"cache": None})
    with pytest.raises(KeyboardInterrupt):
        train(settings)
    cached = next((tmp_path / "model-training" / "ecgs").glob("*.npy"))
    before = cached.stat().st_mtime_ns
    record = train(settings)
    assert record["resumed_from"] == "checkpoint-18" and cached.stat().st_mtime_ns == before
    for name, weight in weights(trained[0]).items():
        torch.testing.assert_close(weights(tmp_path / "model")[name], weight, rtol=1e-5, atol=1e-6)


def test_all_validation_ecgs_are_scored_though_the_last_batch_is_not_complete(file: Path, tmp_path: Path):
    """The last batch of a training is left out, and once that of validation too: no loss, if it was the only one."""
    record = train(reporter_settings(file, tmp_path / "model", optimisation={"epochs": 1, "batch_size": 12}))
    assert record["data"]["validation"]["rows"] == 8 and "eval_loss" in [*record["history"][-2], *record["history"][-1]]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("language_model")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**text_config("llama"))).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.mark.parametrize("fusion", ["prefix", "tokens", "cross_attention"])
def test_adapters_leave_the_language_model_as_it_is_and_end_in_the_saved_weights(
    file: Path, language_model: Path, tmp_path: Path, fusion: str
):
    settings = reporter_settings(file, tmp_path / "model", optimisation={"epochs": 1})
    overrides = {**settings["model"]["overrides"], "fusion": fusion, "num_ecg_vectors": 2}
    lora = {"rank": 3, "alpha": 6, "dropout": 0.1}
    settings["model"] = {"language_model": str(language_model), "lora": lora, "overrides": overrides}
    parts = train(settings)["parts"]
    # a linear layer (in -> out) has an adapter of rank x (in + out) weights: q, o; k, v; gate, up; down
    by_hand = 3 * 2 * (2 * (32 + 32) + 2 * (32 + 16) + 2 * (32 + 48) + (48 + 32))
    assert parts["adapters"] == {"weights": by_hand, "trained": by_hand}
    assert (
        parts["language_model"]["trained"] == 0 and parts["ecg_encoder"]["trained"] == parts["ecg_encoder"]["weights"]
    )
    assert ("cross_attention" in parts) == (fusion == "cross_attention")
    model, processor = load_reporter(str(tmp_path / "model"))
    before = AutoModelForCausalLM.from_pretrained(language_model).state_dict()
    changed = {name for name, weight in model.language_model.state_dict().items() if not weight.equal(before[name])}
    assert changed and all("proj" in name for name in changed)
    assert (processor.ecg_token == "<|ecg|>") == (fusion == "tokens") and model.config.fusion == fusion
    assert not model.config.encoder_sources["text"]["source"].startswith("/")
    answer = load_report_pipeline(str(tmp_path / "model"))({"ecg": read_instructions(file)[0].ecg})
    assert answer["report"] is not None and answer["checks"] == []


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])  # plain, transposed and fused projections
def test_adapters_survive_saving_and_merging(kind: str, tmp_path: Path):
    torch.manual_seed(0)
    adapted = add_adapters(tiny_reporter(kind), LoraArguments(2, 4, 0.0))
    check_counts(count_parts(adapted), with_adapters=True)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight) if "lora" in name else 0.01)
        expected = adapted.eval()(**tiny_batch()).logits
        assert (expected - tiny_reporter(kind)(**tiny_batch()).logits).abs().max() > 1e-2
        adapted.save_pretrained(tmp_path)
        again = peft.PeftModel.from_pretrained(tiny_reporter(kind), tmp_path).eval()
        assert_close(again(**tiny_batch()).logits, expected)
        assert_close(without_adapters(again)(**tiny_batch()).logits, expected, rtol=1e-4, atol=1e-4)


def test_a_run_that_would_not_train_what_it_says_fails(file: Path, tmp_path: Path):
    model = tiny_reporter()
    check_counts(count_parts(model), with_adapters=False)
    with pytest.raises(ValueError, match="language_model trains"):
        check_counts(count_parts(model), with_adapters=True)
    model.projector.linear1.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="projector trains"):
        check_counts(count_parts(model), with_adapters=False)
    settings = reporter_settings(file, tmp_path / "m", optimisation={"epochs": 1, "ecg_learning_rate": 1e-30})
    with pytest.raises(ValueError, match="changed no weight of ecg_encoder, projector"):
        train(settings)
    assert not (tmp_path / "m").exists()


def test_an_encoder_and_a_trained_model_can_be_the_start(file: Path, trained, tmp_path: Path):
    before, _ = load_reporter(str(trained[0]))
    before.ecg_encoder.save_pretrained(tmp_path / "encoder")
    before_extractor = load_reporter(str(trained[0]))[1].feature_extractor
    before_extractor.save_pretrained(tmp_path / "encoder")
    small = {"epochs": 1, "learning_rate": 1e-9, "ecg_learning_rate": None}
    settings = reporter_settings(file, tmp_path / "a", optimisation=small)
    settings["model"] |= {"ecg": str(tmp_path / "encoder"), "overrides": {}}
    assert train(settings)["run"]["model"]["ecg"]
    for name, weight in load_reporter(str(tmp_path / "a"))[0].ecg_encoder.named_parameters():
        torch.testing.assert_close(weight, before.ecg_encoder.get_parameter(name), atol=1e-6, rtol=0)
    settings = reporter_settings(file, tmp_path / "b", optimisation=small)
    settings["model"] = {"checkpoint": str(trained[0]), "lora": None}
    record = train(settings)
    first = next(line["eval_loss"] for line in record["history"] if "eval_loss" in line)
    assert first == pytest.approx(trained[1]["kept_metric"]["loss"], rel=0.3)
    assert json.loads((tmp_path / "b-training" / "patients.json").read_text())["complete"]


def test_an_st_mem_encoder_reads_its_own_window(file: Path, tmp_path: Path):
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 1, "attention_head_size": 12}
    StMemModel(StMemConfig(**sizes, intermediate_size=12)).save_pretrained(tmp_path / "st_mem")
    settings = reporter_settings(file, tmp_path / "model", optimisation={"epochs": 1})
    settings["model"] |= {"ecg": str(tmp_path / "st_mem"), "overrides": {"num_ecg_vectors": 3}}
    record = train(settings)
    assert record["parts"]["ecg_encoder"]["trained"] > 0
    model, processor = load_reporter(str(tmp_path / "model"))
    assert model.config.ecg_config.model_type == "st_mem" and processor.feature_extractor.num_samples == 2250
    assert model.config.encoder_sources["ecg"]["source"] == "st_mem"


def test_ecgs_that_cannot_be_used_are_left_out_and_counted(file: Path, tmp_path: Path):
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row["ecg"] = str(file.parent / row["ecg"])
    broken = tmp_path / "broken.csv"
    broken.write_text("no ecg")
    rows[0]["ecg"] = str(broken)
    other = tmp_path / "instructions.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = reporter_settings(other, tmp_path / "model", optimisation={"epochs": 1}, data={"max_tokens": 30})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instruction_data, "read_instructions", lambda path: read_instructions(path, allow_outside=True))
        record = train(settings)
    assert record["data"]["train"]["refused"] == 1 and record["data"]["train"]["rows"] == 23
    table = (tmp_path / "model-training" / "refused.csv").read_text().splitlines()
    assert len(table) == 2 and table[1].startswith("train0,train,")


def test_long_reports_are_cut_without_an_end_token():
    pieces = [([1, 2, 3], False), ([4, 5, 6], True)]
    assert cut_pieces(pieces, 5) == [([1, 2, 3], False), ([4, 5], True)]
    assert cut_pieces(pieces, 6) == pieces and cut_pieces(pieces, 2) == [([1, 2], False), ([], True)]


def test_a_prompt_without_room_for_a_report_is_refused(file: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="8 tokens leave no room for a report in 24 rows"):
        train(reporter_settings(file, tmp_path / "model", data={"max_tokens": 8}))


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model", {"lora": {"rank": 4}}, "adapters would leave its random weights"),
        ("model", {"language_model": "x"}, "language_model, text_config"),
        ("model", {"text_config": {}}, "none"),
        ("model", {"overrides": {"fusions": "prefix"}}, "model.overrides.fusions"),
        ("model", {"overrides": {"fusion": "sum"}}, "fusion must be one of"),
        ("model", {"overrides": {"ecg_config": {"seq_length": 1001}}}, "multiple of 10"),
        ("model", {"gguf_file": "a.gguf"}, "language_model, which is not set"),
        ("optimisation", {"batch_size": 1}, "at least 2"),
        ("optimisation", {"batch_size": 100}, "has 24 ECGs and a step takes 100"),
    ],
)
def test_wrong_settings_are_refused(file: Path, tmp_path: Path, section: str, change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        train(reporter_settings(file, tmp_path / "model", **{section: change}))


def test_the_tokenizer_is_lossless_and_the_same_every_time():
    texts = ["sinus rhythm. rate 78 bpm, no st elevation."] * 3 + ["Größe: 1.5 mV — ok"]
    tokenizer = report_tokenizer(texts, 320)
    assert tokenizer.get_vocab() == report_tokenizer(texts, 320).get_vocab()
    for text in (*texts, "unseen 190 µV\n\n  twice"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
    assert len(tokenizer("sinus rhythm.")["input_ids"]) == 3 and len(tokenizer("190")["input_ids"]) == 3
    with pytest.raises(ValueError, match="at least 261"):
        report_tokenizer(texts, 100)


def test_the_key_family_chooses_the_training(file: Path, tmp_path: Path, capsys):
    path = tmp_path / "run.yaml"
    settings = reporter_settings(file, tmp_path / "model", optimisation={"epochs": 1})
    path.write_text(yaml.safe_dump({"family": "meit", **settings}))
    assert isinstance(read_any_arguments(path), ReporterRunArguments)
    assert run_command("train", path) == 0
    assert "validation loss" in capsys.readouterr().out and (tmp_path / "model" / "run.json").is_file()
    assert run_command("train", path, "--set", "family=moe") == 1


@pytest.mark.slow
def test_two_processes_train_one_model(file: Path, tmp_path: Path):
    path = tmp_path / "run.yaml"
    settings = reporter_settings(file, tmp_path / "model", optimisation={"epochs": 10})
    path.write_text(yaml.safe_dump({"family": "meit", **settings}))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    completed = subprocess.run(
        [*command, str(ROOT / "scripts" / "train_tgmm.py"), str(path)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr[-3000:]
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    losses = [line["eval_loss"] for line in record["history"] if "eval_loss" in line]
    assert record["processes"] == 2 and losses[-1] < 0.5 * losses[0]


def test_a_recording_that_was_replaced_is_read_anew(tmp_path: Path):
    file = write_reporter_data(tmp_path)
    rows = read_instructions(file)
    before = digest_of_ecgs(rows)
    assert digest_of_ecgs(rows) == before
    assert digest_of_ecgs(rows[:4]) != digest_of_ecgs(rows[4:8])  # of equal sizes
    signal = Path(f"{rows[0].ecg}.dat")
    signal.write_bytes(signal.read_bytes()[:-2] + b"\x00\x01")
    os.utime(signal, ns=(1, 1))
    assert digest_of_ecgs(rows) != before
