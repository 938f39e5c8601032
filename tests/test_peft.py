"""LoRA on the encoders: docs/peft.md runs, and what it leaves behind is the same model again."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import random_batch, smallest_model, tiny_tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

from tgmm_hf import TgmmModel, default_processor
from tgmm_hf.training.saving import save_repository

peft = pytest.importorskip("peft", reason="peft is not installed: pip install peft")

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "peft.md").read_text()
TARGETS = {name: pattern.replace("\\|", "|") for name, pattern in re.findall(r"^\| (\w+) \(.*`(.*)` \|$", PAGE, re.M)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("peft")
    model = smallest_model(seed=4)
    save_repository(model, default_processor(model.config, tiny_tokenizer()), directory / "demo" / "model")
    return directory


@pytest.fixture(scope="module")
def page(directory: Path) -> dict[str, Any]:
    """What the page's code defines, run from top to bottom where `demo/model` is."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(compile(block, "docs/peft.md", "exec"), names)
    return names


def logits(model: Any) -> torch.Tensor:
    batch = random_batch(smallest_model().config)
    with torch.no_grad():
        return model.eval()(**batch, task="hf_diagnosis").logits


def test_the_page_runs_and_the_adapter_is_the_trained_model(page: dict[str, Any], directory: Path) -> None:
    trained = logits(page["adapted"])
    assert not torch.allclose(trained, logits(smallest_model(seed=4)), atol=1e-3)
    loaded = peft.PeftModel.from_pretrained(
        TgmmModel.from_pretrained(directory / "demo" / "model"), directory / "adapter"
    )
    assert torch.allclose(logits(loaded), trained, atol=1e-6)
    assert torch.allclose(logits(page["merged"]), trained, atol=1e-5)
    assert torch.allclose(logits(TgmmModel.from_pretrained(directory / "merged")), trained, atol=1e-5)
    size = (directory / "adapter" / "adapter_model.safetensors").stat().st_size
    assert size < 0.5 * (directory / "demo" / "model" / "model.safetensors").stat().st_size


def test_adapter_and_merged_model_answer_through_the_pipeline(page: dict[str, Any]) -> None:
    patient = {"labs": {"NTproBNP": 5210, "age": 71}}
    adapted, merged = (page[name](patient)["hf_diagnosis"]["probabilities"] for name in ("analyse", "analyse_merged"))
    assert list(adapted.values()) == pytest.approx(list(merged.values()), abs=1e-5)


def test_an_adapter_directory_loads_its_base_by_itself(page: dict[str, Any], directory: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(directory)
    assert torch.allclose(logits(AutoModel.from_pretrained("adapter")), logits(page["adapted"]), atol=1e-6)


@pytest.mark.parametrize("encoder", ["labs", "ecg", "echo"])
@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForSequenceClassification])
def test_every_documented_target_trains_its_encoder_only(directory: Path, encoder: str, auto_class: Any) -> None:
    pattern = next(pattern for pattern in TARGETS.values() if f"{encoder}_encoder" in pattern)
    model = auto_class.from_pretrained(directory / "demo" / "model")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=pattern)).train()
    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trainable and all(f"{encoder}_encoder" in name and "lora_" in name for name in trainable)
    label = torch.tensor([0, 1, 0, 1])
    labels = label if auto_class is AutoModelForSequenceClassification else {"hf_diagnosis": {"label": label}}
    adapted(**random_batch(model.config), labels=labels).loss.backward()
    moved = [name for name, p in adapted.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert any("lora_B" in name for name in moved)


@pytest.mark.parametrize("task_type", ["FEATURE_EXTRACTION", "SEQ_CLS"])
@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForSequenceClassification])
def test_a_task_type_works(directory: Path, task_type: str, auto_class: Any) -> None:
    model = auto_class.from_pretrained(directory / "demo" / "model")
    config = peft.LoraConfig(task_type=task_type, target_modules=TARGETS["labs"])
    label = torch.tensor([0, 1, 0, 1])
    labels = label if auto_class is AutoModelForSequenceClassification else {"hf_diagnosis": {"label": label}}
    assert torch.isfinite(peft.get_peft_model(model, config)(**random_batch(model.config), labels=labels).loss)


@pytest.mark.parametrize("modules_to_save", [None, ["standardise"], ["labs_pool"]])
@pytest.mark.parametrize("target", ["all-linear", "labs"])
def test_an_adapter_answers_alike_after_loading_whatever_it_saves(
    directory: Path, tmp_path: Path, modules_to_save: list[str] | None, target: str
) -> None:
    modules = TARGETS.get(target, target)
    config = peft.LoraConfig(r=2, target_modules=modules, modules_to_save=modules_to_save)
    adapted = peft.get_peft_model(TgmmModel.from_pretrained(directory / "demo" / "model"), config).train()
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    for seed in (1, 2):
        labels = {"hf_diagnosis": {"label": torch.tensor([0, 1, 0, 1])}}
        adapted(**random_batch(adapted.config, seed=seed), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(TgmmModel.from_pretrained(directory / "demo" / "model"), tmp_path)
    assert torch.allclose(logits(loaded), logits(adapted), atol=1e-5)
    moved = any(n.endswith("default.steps") and s > 0 for n, s in adapted.named_buffers() if "standardise" in n)
    assert moved == ("standardise" in (modules_to_save or []))
