"""The paper's size on a CPU: parameter counts, one patient forward, one training step, within 16 GiB."""

import resource
import time

import pytest
import torch

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import bert_cased_tokenizer
from tgmm_hf.utils.names import VIEWS

TASKS = ["hf_diagnosis", "hf_risk", "retrieval"]
LABELS = {
    "hf_diagnosis": {"label": torch.tensor([1])},
    "hf_risk": {"time": torch.tensor([200.0]), "event": torch.tensor([1])},
    "retrieval": {},
}


def millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


@pytest.fixture(scope="module")
def model() -> TgmmModel:
    config = TgmmConfig()
    config.tokenize_tasks(bert_cased_tokenizer())
    torch.manual_seed(0)
    model = TgmmModel(config)
    model.initialise_texts()
    return model


def patient(num_views: int = len(VIEWS)) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.randint(1000, 20000, (1, 512)),
        "attention_mask": torch.ones(1, 512, dtype=torch.long),
        "ecg_values": torch.randn(1, 12, 2250),
        "ecg_mask": torch.ones(1, 12, dtype=torch.bool),
        "pixel_values_videos": torch.randn(1, len(VIEWS), 16, 3, 224, 224),
        "view_mask": torch.arange(len(VIEWS))[None] < num_views,
    }


def assert_within_16_gib() -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak resident memory so far: {peak:.1f} GiB")
    assert peak < 16


def test_parameter_counts(model, capsys):
    counts = {name: millions(part) for name, part in model.named_children()}
    with capsys.disabled():
        print("\nmillions of parameters:", {name: round(count, 1) for name, count in counts.items()})
    assert counts["labs_encoder"] == pytest.approx(107.7, abs=0.5)  # BERT-base, cased, without its unused pooler
    assert counts["ecg_encoder"] == pytest.approx(85.15, abs=0.01)
    assert counts["echo_encoder"] == pytest.approx(34.23, abs=0.01)


@pytest.mark.slow
def test_one_patient_forward_and_absent_views_cost_nothing(model):
    model.eval()
    seconds = {}
    with torch.inference_mode():
        for num_views in (3, 11):
            inputs = patient(num_views)
            start = time.perf_counter()
            encoded = model.encode(pixel_values_videos=inputs["pixel_values_videos"], view_mask=inputs["view_mask"])
            seconds[num_views] = time.perf_counter() - start
        output = model(**inputs, task="hf_diagnosis")
    assert encoded.present["echo"].all() and torch.isfinite(output.logits).all()
    print(f"encoding 3 views {seconds[3]:.1f} s, 11 views {seconds[11]:.1f} s: ratio {seconds[3] / seconds[11]:.2f}")
    assert seconds[3] <= 0.4 * seconds[11]
    assert_within_16_gib()


@pytest.mark.slow
@pytest.mark.parametrize("trainable_layers", [2, None], ids=["two-layers", "everything-with-checkpointing"])
def test_one_training_step(model, trainable_layers):
    model.train()
    model.freeze_encoders(trainable_layers)
    if trainable_layers is None:
        model.activation_checkpointing_enable()
    start = time.perf_counter()
    optimizer = torch.optim.Adafactor([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    output = model(**patient(), task=TASKS, labels=LABELS)
    output.loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    print(f"one step: {time.perf_counter() - start:.0f} s, loss {output.loss.item():.3f}")
    assert torch.isfinite(output.loss)
    assert_within_16_gib()
