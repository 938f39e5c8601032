"""MEIT in use: the pipeline, `tgmm report`, a clean process, published weights, the Hub."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from closeness import assert_close
from command_line import run
from fresh_process import run_without_package
from heart_signal import make_heart
from input_files import make_ecg, write_wfdb
from tiny_reporters import text_config, tiny_batch, tiny_processor, tiny_reporter
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, pipeline

from tgmm_hf import (
    LEADS,
    EcgResNetConfig,
    EcgResNetModel,
    EcgResNetModelWithProjection,
    MeitConfig,
    MeitForConditionalGeneration,
    MeitReportPipeline,
)
from tgmm_hf.hub.card_reporter import reporter_card
from tgmm_hf.hub.convert import convert
from tgmm_hf.hub.convert.renaming import ConversionError
from tgmm_hf.hub.push import model_files
from tgmm_hf.training.saving import save_repository

CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import json
from transformers import AutoModel, AutoModelForCausalLM, AutoProcessor, pipeline

directory, ecg, work = sys.argv[1:]
pipe = pipeline("ecg-report", model=directory, trust_remote_code=True, device="cpu")
model = AutoModel.from_pretrained(directory, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(directory, trust_remote_code=True)
assert type(AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)) is type(model)
by_object = pipeline("ecg-report", model=model, processor=processor, device="cpu")
answers = [pipe({"ecg": ecg, "id": "a"}), by_object({"ecg": ecg, "id": "a"}), pipe({"ecg": work, "id": "b"})]
with open(f"{work}/answers.json", "w") as file:
    json.dump(answers, file)
model.save_pretrained(f"{work}/again")
processor.save_pretrained(f"{work}/again")
assert not any(name.startswith("tgmm_hf.") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("reporter") / "model"
    save_repository(tiny_reporter(), tiny_processor(), directory)
    return directory


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    return write_wfdb(tmp_path_factory.mktemp("ecg"), make_ecg(), list(LEADS))


def ecg(seed: int = 0, samples: int = 5000) -> dict:
    return {"signal": make_heart(samples, 500, seed), "sampling_rate": 500, "lead_names": list(LEADS)}


def test_the_pipeline_reports_on_every_ecg_and_refuses_one_that_it_cannot_use(saved: Path):
    pipe = pipeline("ecg-report", model=str(saved), device="cpu")
    assert isinstance(pipe, MeitReportPipeline)
    settings = {"generate_kwargs": {"max_new_tokens": 5}}
    inputs = [{"ecg": ecg(0), "id": 1}, {"ecg": ecg(1, 2000), "id": 2}, {"ecg": ecg(2), "id": 3, "instruction": "why?"}]
    together = pipe(inputs, batch_size=3, **settings)
    assert [answer["id"] for answer in together] == [1, 2, 3]
    for one, answer in zip(inputs, together, strict=True):
        assert_close(pipe(one, **settings), answer)
        json.dumps(answer, allow_nan=False)
    assert together[1]["report"] is None and "4 s" in together[1]["refused"][0]["reason"]
    assert together[2]["instruction"] == "why?" and together[0]["used"]["ecg"] == list(LEADS)
    assert all(answer["checks"] == [] for answer in together)  # model and processor were saved together
    assert not together[0]["complete"] and any("cut" in note for note in together[0]["notes"])
    model, processor = pipe.model, pipe.processor
    batch = processor(ecg=ecg(0), return_tensors="pt")
    written = model.generate(**batch, max_new_tokens=5, do_sample=False)[0, batch["input_ids"].shape[1] :]
    assert together[0]["report"] == processor.tokenizer.decode(written, skip_special_tokens=True).strip()
    assert list(pipe(iter(inputs[:1]), **settings)) == together[:1]
    for wrong, error in (({"ecg": None}, ValueError), ({"signal": 1}, ValueError), ("file", TypeError)):
        with pytest.raises(error):
            pipe(wrong)


def test_an_end_token_ends_a_report(saved: Path):
    pipe = pipeline("ecg-report", model=str(saved), device="cpu")
    first = pipe({"ecg": ecg()}, generate_kwargs={"max_new_tokens": 8})
    prompt = pipe.processor(ecg=ecg(), return_tensors="pt")
    tokens = pipe.model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    ended = pipe({"ecg": ecg()}, generate_kwargs={"max_new_tokens": 8, "eos_token_id": int(tokens[3])})
    assert ended["complete"] and first["report"].startswith(ended["report"]) and ended["report"] != first["report"]


def test_weights_that_were_changed_are_named(saved: Path):
    pipe = pipeline("ecg-report", model=str(saved), device="cpu")
    with torch.no_grad():
        pipe.model.projector.linear2.weight.mul_(-1)
    answer = pipe({"ecg": ecg()}, generate_kwargs={"max_new_tokens": 2})
    assert [check["code"] for check in answer["checks"]] == ["model_weights_changed"]
    with pytest.raises(ValueError, match="strict"):
        pipe({"ecg": ecg()}, strictness="refuse")


def test_a_clean_process_reports_on_a_wfdb_file(saved: Path, recording: Path, tmp_path: Path):
    for directory in (saved, tmp_path / "again"):  # the second was saved by the clean process itself
        run_without_package(CLEAN_PROCESS, directory, recording, tmp_path, work=tmp_path)
        clean, by_object, refused = json.loads((tmp_path / "answers.json").read_text())
        here = pipeline("ecg-report", model=str(saved), device="cpu")({"ecg": str(recording), "id": "a"})
        for key in ("id", "report", "complete", "used", "checks", "notes", "processor_fingerprint", "code_revision"):
            assert clean[key] == here[key] == by_object[key], key
        assert refused["report"] is None and refused["refused"]


def test_the_command_writes_json_and_text(saved: Path, recording: Path, tmp_path: Path, capsys):
    out = tmp_path / "answer.json"
    words = ["report", saved, "--ecg", recording, "--out", out, "--max-new-tokens", 4, "--id", "p1", "--sentences"]
    assert run(*words) == 0
    printed, answer = capsys.readouterr().out, json.loads(out.read_text())
    assert answer["report"] and answer["report"] in printed and answer["id"] == "p1"
    assert "not a medical device" in printed and "not a medical device" in answer["statement"]
    assert answer["used"]["ecg"] == list(LEADS) and answer["instruction"] in printed
    assert str(recording.parent) not in out.read_text()  # a path may name the patient
    assert answer["sentences"] and all(each["carried_by"] or each["doubt"] for each in answer["sentences"])


def test_the_command_refuses(saved: Path, recording: Path, tmp_path: Path, capsys):
    short = write_wfdb(tmp_path, make_ecg(samples=1500), list(LEADS))
    out = tmp_path / "answer.json"
    assert run("report", saved, "--ecg", short, "--out", out) == 1
    assert json.loads(out.read_text())["report"] is None and "3 s" in capsys.readouterr().out
    assert run("report", saved, "--ecg", tmp_path / "nothing", "--out", out) == 2
    assert run("report", saved, "--ecg", tmp_path, "--out", out) == 2
    other = tmp_path / "other"
    EcgResNetModel(EcgResNetConfig(embedding_size=8, stage_depths=(1,), stage_widths=(8,))).save_pretrained(other)
    assert run("report", other, "--ecg", recording, "--out", out) == 1
    assert "ecg_resnet" in capsys.readouterr().err


# ---- published weights


def published_ecg_model(norm: bool = True, prefix: str = "ecg_model.", width: int = 8, dim: int = 8) -> dict:
    """A file as MEIT's training code writes it: two stages of bottleneck blocks, random."""
    from torch import nn

    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {
        "ecg_encoder.conv1": nn.Conv1d(12, width, 7, bias=False),
        "ecg_encoder.bn1": nn.BatchNorm1d(width),
    }
    channels = width
    for stage, blocks in ((1, 2), (2, 1)):
        for block in range(blocks):
            name, middle = f"ecg_encoder.layer{stage}.{block}", width * stage
            for index, (into, out, taps) in enumerate(
                ((channels, middle, 1), (middle, middle, 3), (middle, 4 * middle, 1)), start=1
            ):
                modules[f"{name}.conv{index}"] = nn.Conv1d(into, out, taps, bias=False)
                modules[f"{name}.bn{index}"] = nn.BatchNorm1d(out)
            if block == 0:
                modules[f"{name}.shortcut.0"] = nn.Conv1d(channels, 4 * middle, 1, bias=False)
                modules[f"{name}.shortcut.1"] = nn.BatchNorm1d(4 * middle)
            channels = 4 * middle
    modules["proj_ecg.0"] = nn.Linear(channels, channels)
    modules["proj_ecg.3" if norm else "proj_ecg.2"] = nn.Linear(channels, dim)
    if norm:
        modules |= {"proj_ecg.1": nn.BatchNorm1d(channels), "proj_ecg.4": nn.BatchNorm1d(dim)}
    weights = {
        f"{prefix}{name}.{key}": value for name, one in modules.items() for key, value in one.state_dict().items()
    }
    for name, value in weights.items():
        if name.endswith(("running_mean", "bias")):
            value.normal_()
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    return weights


def published_forward(weights: dict, ecg: torch.Tensor, norm: bool) -> torch.Tensor:
    """MEIT's encoder and projector, written out from the tensors of a file without prefix."""
    from torch.nn.functional import batch_norm, conv1d, linear

    def bn(x: torch.Tensor, name: str) -> torch.Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        return batch_norm(x, *(weights[f"{name}.{key}"] for key in keys))

    def conv(x: torch.Tensor, name: str, **settings: int) -> torch.Tensor:
        return conv1d(x, weights[f"{name}.weight"], **settings)

    x = bn(conv(ecg, "ecg_encoder.conv1", stride=2, padding=3), "ecg_encoder.bn1").relu()
    for stage, blocks in ((1, 2), (2, 1)):
        for block in range(blocks):
            name, stride = f"ecg_encoder.layer{stage}.{block}", 2 if stage == 2 and block == 0 else 1
            y = bn(conv(x, f"{name}.conv1"), f"{name}.bn1").relu()
            y = bn(conv(y, f"{name}.conv2", stride=stride, padding=1), f"{name}.bn2").relu()
            y = bn(conv(y, f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                x = bn(conv(x, f"{name}.shortcut.0", stride=stride), f"{name}.shortcut.1")
            x = (x + y).relu()
    last = "proj_ecg.3" if norm else "proj_ecg.2"
    hidden = linear(x.mean(-1), weights["proj_ecg.0.weight"], weights["proj_ecg.0.bias"])
    hidden = (bn(hidden, "proj_ecg.1") if norm else hidden).relu()
    projected = linear(hidden, weights[f"{last}.weight"], weights[f"{last}.bias"])
    projected = bn(projected, "proj_ecg.4") if norm else projected
    return projected / projected.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("norm", [True, False], ids=["batch norms", "as for GPT-NeoX"])
def test_published_weights_convert_and_enter_a_model(norm: bool, tmp_path: Path, capsys, forked_reading: None):
    torch.save(published_ecg_model(norm), tmp_path / "ecg_model.pth")
    assert run("convert", "meit", tmp_path / "ecg_model.pth", tmp_path / "ecg", "--accept-license") == 0
    assert "EcgResNetModelWithProjection" in capsys.readouterr().out
    batch = tiny_batch()
    expected = published_forward(published_ecg_model(norm, prefix=""), batch["input_values"], norm)
    loaded = EcgResNetModelWithProjection.from_pretrained(tmp_path / "ecg").eval()
    encoder = AutoModel.from_pretrained(tmp_path / "ecg").eval()
    with torch.no_grad():
        assert_close(loaded(batch["input_values"]).ecg_embeds, expected, rtol=1e-4, atol=1e-5)
        assert encoder(batch["input_values"]).pooler_output.shape == (3, 64)
    settings = {key: value for key, value in text_config("llama").items() if key != "model_type"}
    text = LlamaForCausalLM(LlamaConfig(**settings))
    text.generation_config.eos_token_id = [2, 7]
    text.save_pretrained(tmp_path / "llm")
    (tmp_path / "llm" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    model = MeitForConditionalGeneration.from_language_model(tmp_path / "llm", tmp_path / "ecg")
    with torch.no_grad():
        assert_close(model.get_ecg_features(batch["input_values"])[:, 0], expected, rtol=1e-4, atol=1e-5)
        ids = batch["input_ids"]
        assert_close(
            model.language_model(input_ids=ids).logits,
            AutoModelForCausalLM.from_pretrained(tmp_path / "llm")(input_ids=ids).logits,
        )
    assert model.generation_config.eos_token_id == [2, 7]
    assert model.config.encoder_sources["text"]["license"] == "apache-2.0"
    assert model.config.encoder_sources["ecg"]["license_name"] == "terms-of-the-training-data"
    model.save_pretrained(tmp_path / "model")
    with torch.no_grad():
        again = MeitForConditionalGeneration.from_pretrained(tmp_path / "model").eval()
        assert_close(again(**batch).logits, model(**batch).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_file_of_another_model_is_refused(tmp_path: Path, forked_reading: None):
    weights = published_ecg_model()
    basic = {name: value for name, value in weights.items() if "conv3" not in name and "bn3" not in name}
    wrong = {**weights, "ecg_model.proj_ecg.3.weight": torch.zeros(8, 5)}
    more = {**weights, "ecg_model.fc.weight": torch.zeros(2, 2)}
    for number, content in enumerate((basic, wrong, more, {"a": torch.zeros(1)})):
        torch.save(content, tmp_path / f"{number}.pth")
        with pytest.raises(ConversionError):
            convert("meit", tmp_path / f"{number}.pth", tmp_path / "out", accept_license=True)
    assert not (tmp_path / "out").exists()


def test_the_default_encoder_has_the_published_size():
    with torch.device("meta"):
        model = EcgResNetModel(EcgResNetConfig())
    assert sum(weight.numel() for weight in model.parameters()) == 15_959_168


def test_st_mem_can_be_the_encoder():
    st_mem = {"model_type": "st_mem", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MeitConfig.tiny(ecg_config=st_mem, num_ecg_vectors=3)
    model = MeitForConditionalGeneration(config).eval()
    values = torch.randn(2, 12, 2250)
    with torch.no_grad():
        features = model.get_ecg_features(values)
        assert features.shape == (2, 3, 8)
        late = values.clone()
        late[..., 1500:] = torch.randn(2, 12, 750)
        assert not np.allclose(model.get_ecg_features(late)[:, 2], features[:, 2], atol=1e-4)


def test_a_saved_model_may_be_uploaded_and_its_card_names_the_licences(saved: Path):
    assert {"modeling_meit.py", "model.safetensors"} <= {path.name for path in model_files(saved)}
    config = json.loads((saved / "config.json").read_text())
    from tgmm_hf.hub.card import EncoderLicence

    card = reporter_card("me/reporter", config=config, licences=[EncoderLicence("some-llm", "llama2", None, None)])
    assert "some-llm" in card and "llama2" in card and "Not a medical device" in card
    assert "\nlicense: other\n" in card.split("---")[1]
