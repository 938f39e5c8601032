"""What accelerate, torch.export, torch.compile and the attention implementations do with any model of transformers."""

import pytest
import torch
from accelerate import cpu_offload, init_empty_weights
from closeness import assert_close
from tiny_models import random_batch, smallest_config, smallest_model

from tgmm_hf import EchoMvitModel, StMemModel, TgmmModel
from tgmm_hf.utils.names import MODALITIES

TASKS = ["hf_diagnosis", "hf_risk", "retrieval"]


@pytest.fixture(scope="module")
def model() -> TgmmModel:
    return smallest_model()


@pytest.fixture(scope="module")
def batch(model) -> dict[str, torch.Tensor]:
    return random_batch(model.config, batch_size=2)


def answers(model: TgmmModel, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        by_task = model(**batch, task=TASKS).by_task
    embeds = by_task["retrieval"].embeds
    return [by_task["hf_diagnosis"].logits, by_task["hf_risk"].risk, *(embeds[name] for name in MODALITIES)]


@pytest.mark.parametrize("response", ["decoder", "linear"])
def test_weights_may_be_offloaded(batch, response):
    """accelerate brings a module's weights only around its own forward: each is used there and nowhere else."""
    model = smallest_model(response=response)
    expected = answers(model, batch)
    cpu_offload(model, execution_device="cpu")
    assert all(parameter.device.type == "meta" for parameter in model.parameters())
    for found, before in zip(answers(model, batch), expected, strict=True):
        assert_close(found, before)
    with torch.no_grad():  # as the pipeline calls it
        assert_close(model.answer(model.encode(**batch), "hf_diagnosis").logits, expected[0])


def test_device_map_may_leave_parts_on_disk(tmp_path, model, batch):
    model.save_pretrained(tmp_path / "model")
    parts = [name for name, _ in model.named_children()]
    places = {name: "disk" if name.endswith("encoder") else "cpu" for name in parts}
    loaded = TgmmModel.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=tmp_path / "offload"
    ).eval()
    assert {p.device.type for p in loaded.echo_encoder.parameters()} == {"meta"}
    for found, before in zip(answers(loaded, batch), answers(model, batch), strict=True):
        assert_close(found, before)


def test_meta_device_costs_no_memory():
    config = smallest_config()
    with init_empty_weights():
        empty = TgmmModel(config)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}


# flex_attention is compiled, which takes a C++ compiler two minutes
@pytest.mark.parametrize("attention", ["eager", pytest.param("flex_attention", marks=pytest.mark.slow)])
def test_attention_implementations_agree_under_a_lead_mask(model, batch, attention):
    other = smallest_model()
    other.set_attn_implementation(attention)
    for found, expected in zip(answers(other, batch), answers(model, batch), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)


def test_encoders_export(model):
    """With a lead mask as input: `torch.export` must not have to know its values."""
    ecg, mask = torch.randn(2, 12, 2250), torch.ones(2, 12, dtype=torch.bool)
    exported = torch.export.export(model.ecg_encoder, (ecg, mask), strict=False).module()
    mask[0, 3] = False
    with torch.no_grad():
        assert torch.allclose(exported(ecg, mask).pooler_output, model.ecg_encoder(ecg, mask).pooler_output, atol=1e-6)
    echo = model.config.echo_config
    clips = torch.randn(2, echo.num_frames, 3, echo.image_size, echo.image_size)
    exported = torch.export.export(model.echo_encoder, (clips,), strict=False).module()
    with torch.no_grad():
        assert torch.allclose(exported(clips).pooler_output, model.echo_encoder(clips).pooler_output, atol=1e-6)


@pytest.mark.slow
def test_compiled_model_answers_the_same(model, batch):
    compiled = torch.compile(model, backend="eager")  # traces as any backend does, without a C++ compiler
    with torch.no_grad():
        found = compiled(**batch, task="hf_diagnosis").logits
        assert torch.allclose(found, model(**batch, task="hf_diagnosis").logits, atol=1e-6)


@pytest.mark.parametrize("encoder_class", [StMemModel, EchoMvitModel])
def test_encoders_compile_without_graph_breaks(model, encoder_class):
    encoder = model.ecg_encoder if encoder_class is StMemModel else model.echo_encoder
    echo = model.config.echo_config
    shape = (2, 12, 2250) if encoder_class is StMemModel else (2, echo.num_frames, 3, echo.image_size, echo.image_size)
    inputs = torch.randn(shape)
    with torch.no_grad():
        found = torch.compile(encoder, backend="eager", fullgraph=True)(inputs).pooler_output
        assert torch.allclose(found, encoder(inputs).pooler_output, atol=1e-6)


def test_a_larger_vocabulary_keeps_the_old_words(batch):
    model = smallest_model()
    expected = answers(model, batch)
    model.resize_token_embeddings(200)
    assert model.config.labs_config.vocab_size == model.get_input_embeddings().num_embeddings == 200
    for found, before in zip(answers(model, batch), expected, strict=True):
        assert_close(found, before)
