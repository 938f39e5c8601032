"""MoRE: features, loss, missing modalities, DropKey, adapters, saving, and refusals."""

import math
import socket
from pathlib import Path

import pytest
import torch
from closeness import assert_close, is_close
from fresh_process import run_without_package
from tiny_more import SMALL_BLOCKS, more_batch, tiny_more
from torch import multiprocessing
from torch.nn import functional
from transformers import AutoModel, AutoModelForImageClassification, BertConfig, BertModel, RobertaConfig

from tgmm_hf import MoreConfig, MoreForClassification, MoreModel
from tgmm_hf.families.more.configuration_more import drop_key_rates
from tgmm_hf.families.more.more_encoders import draw_drop_key
from tgmm_hf.families.more.note_contrast import note_keys
from tgmm_hf.layers.low_rank_linear import LowRankLinear

CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import torch
from transformers import AutoModel, AutoModelForImageClassification

model_dir, findings_dir, inputs, out = sys.argv[1:]
batch = torch.load(inputs)
model = AutoModel.from_pretrained(model_dir, trust_remote_code=True).eval()
findings = AutoModelForImageClassification.from_pretrained(findings_dir, trust_remote_code=True).eval()
pictures = {name: batch[name] for name in ("pixel_values", "input_values")}
with torch.no_grad():
    output = model(**batch, return_loss=True)
    torch.save({"loss": output.loss, "xray": output.logits_per_xray, "findings": findings(**pictures).logits,
                "counts": model.parameter_counts()}, out)
model.save_pretrained(model_dir + "_again")
assert not any(name.startswith("tgmm_hf.") for name in sys.modules)
"""
EMBEDS = ("xray_embeds", "ecg_embeds", "text_embeds")


@pytest.fixture(scope="module")
def model() -> MoreModel:
    return tiny_more()


def embeds(model: MoreModel, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        output = model(**inputs)
    return {name: output[name] for name in EMBEDS if output[name] is not None}


# ---- sizes


def test_default_sizes_are_the_published_ones():
    with torch.device("meta"):
        model = MoreModel(MoreConfig())
    counts = model.parameter_counts()
    assert counts["xray_encoder"] == (85_771_008, 85_771_008)
    assert counts["ecg_encoder"] == (86_181_888, 86_181_888)
    trained, total = counts["text_encoder"]
    # The published count holds the bias of RoBERTa's pooling layer, which nothing reads. It is not built here.
    pooler = 768 * 768 + 768
    assert trained + 768 == 692_736
    assert round(100 * 692_736 / (total + pooler), 2) == 0.55
    assert model.ecg_encoder.config.num_patches == 196


def test_xray_encoder_is_transformers_vit(model: MoreModel):
    from transformers import ViTModel

    config = model.config.xray_config
    vit = ViTModel(config, add_pooling_layer=False).eval()
    vit.load_state_dict(model.xray_encoder.state_dict())
    values = more_batch()["pixel_values"]
    with torch.no_grad():
        assert_close(model.xray_encoder(values).last_hidden_state, vit(values).last_hidden_state)
    assert not any("q_proj.bias" in name for name in vit.state_dict())


# ---- features and logits


def test_logits_are_cosines_over_the_temperature(model: MoreModel):
    batch = more_batch()
    with torch.no_grad():
        output = model(**batch)
        xray = model.get_xray_features(batch["pixel_values"]).pooler_output
        ecg = model.get_ecg_features(batch["input_values"]).pooler_output
        text = model.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output
        assert_close(model.get_image_features(batch["pixel_values"]).pooler_output, xray)
    for found, one, two in (
        (output.logits_per_xray, xray, text),
        (output.logits_per_ecg, ecg, text),
        (output.logits_per_xray_ecg, xray, ecg),
    ):
        expected = functional.cosine_similarity(one[:, None], two[None], dim=-1) / 0.02
        assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert_close(output.logits_per_text, output.logits_per_image.T)
    assert output.loss is None


def test_many_texts_for_one_xray(model: MoreModel):
    batch = more_batch()
    texts = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        output = model(pixel_values=batch["pixel_values"][:1], **texts)
        assert output.logits_per_xray.shape == (1, 4) and output.logits_per_ecg is None
        assert_close(output.logits_per_xray, model(**batch).logits_per_xray[:1], atol=1e-4)


def test_a_batch_equals_its_singles(model: MoreModel):
    batch = more_batch()
    together = embeds(model, **batch)
    for row in range(4):
        alone = embeds(model, **{name: value[row : row + 1] for name, value in batch.items()})
        for name in EMBEDS:
            assert_close(alone[name][0], together[name][row], atol=1e-5)


def test_every_input_moves_its_own_row_only(model: MoreModel):
    batch = more_batch()
    before = embeds(model, **batch)
    for name, feature in zip(("pixel_values", "input_values", "input_ids"), EMBEDS, strict=True):
        changed = {**batch, name: batch[name].clone()}
        changed[name][1] = more_batch(seed=7)[name][1]
        after = embeds(model, **changed)
        for other in EMBEDS:
            moved = [not torch.allclose(after[other][row], before[other][row], atol=1e-3) for row in range(4)]
            assert moved == [other == feature and row == 1 for row in range(4)], (name, other)


def test_padding_does_not_matter_for_the_masked_mean(model: MoreModel):
    batch = more_batch()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    wider = functional.pad(ids, (0, 5), value=1), functional.pad(mask, (0, 5), value=0)
    with torch.no_grad():
        expected = model.get_text_features(ids, mask).pooler_output
        assert_close(model.get_text_features(*wider).pooler_output, expected, atol=1e-5)
        published = tiny_more(mean_over_padding=True)
        output = published.get_text_features(*wider)
        by_hand = published.text_projection(output.last_hidden_state.mean(1))
        assert_close(output.pooler_output, by_hand)
        assert not is_close(output.pooler_output, published.get_text_features(ids, mask).pooler_output)


# ---- missing modalities


@pytest.mark.parametrize("value", [float("nan"), 1e30, -7.0])
def test_what_stands_under_a_mask_never_matters(model: MoreModel, value: float):
    batch = more_batch()
    masks = {"xray_mask": torch.tensor([1, 0, 1, 1]).bool(), "ecg_mask": torch.tensor([0, 1, 1, 1])}
    batch["attention_mask"][3] = 0
    with torch.no_grad():
        expected = model(**batch, **masks, return_loss=True)
        changed = {name: tensor.clone() for name, tensor in batch.items()}
        changed["pixel_values"][1] = value
        changed["input_values"][0] = value
        changed["input_ids"][3] = 299
        found = model(**changed, **masks, return_loss=True)
    assert_close(dict(found), dict(expected))
    assert not expected.xray_embeds[1].any() and not expected.ecg_embeds[0].any() and not expected.text_embeds[3].any()
    missing = torch.isinf(expected.logits_per_xray)
    assert missing[1].all() and missing[:, 3].all() and missing.sum() == 7
    assert expected.loss.isfinite()


def test_loss_of_a_modality_that_nobody_has_is_left_out(model: MoreModel):
    batch = more_batch()
    without = {name: batch[name] for name in ("input_ids", "attention_mask", "input_values")}
    with torch.no_grad():
        masked = model(**batch, xray_mask=torch.zeros(4, dtype=torch.bool), return_loss=True).loss
        assert_close(masked, model(**without, return_loss=True).loss)
        with_xray = model(**batch, return_loss=True).loss
        assert with_xray > masked > 0


# ---- loss


def info_nce(one: torch.Tensor, two: torch.Tensor, negatives: torch.Tensor, tau: float) -> torch.Tensor:
    """Half of both directions, written out row by row; `negatives[i, j]` says that j is a negative of i."""
    total = torch.zeros(())
    for first, second in ((one, two), (two, one)):
        for i in range(len(one)):
            scores = torch.stack([first[i] @ second[j] / tau for j in range(len(one)) if j == i or negatives[i, j]])
            total += torch.logsumexp(scores, 0) - first[i] @ second[i] / tau
    return total / (2 * len(one))


@pytest.mark.parametrize("xray_ecg", [False, True])
def test_loss_is_anchored_at_the_note(xray_ecg: bool):
    model = tiny_more(xray_ecg_loss=xray_ecg, temperature=0.5)
    with torch.no_grad():
        output = model(**more_batch(), return_loss=True)
    xray, ecg, text = (output[name] for name in EMBEDS)
    everyone = torch.ones(4, 4, dtype=torch.bool)
    expected = info_nce(text, xray, everyone, 0.5) + info_nce(text, ecg, everyone, 0.5)
    expected = expected + info_nce(xray, ecg, everyone, 0.5) if xray_ecg else expected
    assert_close(output.loss, expected, rtol=1e-4, atol=1e-4)


def test_patients_with_equal_notes_are_no_negatives(model: MoreModel):
    batch = more_batch()
    batch["input_ids"][2, :7], batch["attention_mask"][2, :7] = batch["input_ids"][3, :7], 1
    batch["input_ids"][2, 6], batch["attention_mask"][2, 6] = 1, 0  # patient 3 has six tokens
    with torch.no_grad():
        output = model(**batch, return_loss=True)
    negatives = torch.ones(4, 4, dtype=torch.bool)
    negatives[2, 3] = negatives[3, 2] = False
    xray, ecg, text = (output[name] for name in EMBEDS)
    expected = info_nce(text, xray, negatives, 0.02) + info_nce(text, ecg, negatives, 0.02)
    assert_close(output.loss, expected, rtol=1e-4, atol=1e-3)
    everyone = torch.ones(4, 4, dtype=torch.bool)
    assert not is_close(output.loss, info_nce(text, xray, everyone, 0.02) + info_nce(text, ecg, everyone, 0.02))


def test_keys_of_notes_depend_on_the_tokens_only():
    ids, mask = (
        torch.tensor([[5, 6, 7, 1, 1], [1, 1, 5, 6, 7], [5, 7, 6, 1, 1], [5, 6, 1, 1, 1]]),
        torch.zeros(4, 5).long(),
    )
    mask[0, :3] = mask[1, 2:] = mask[2, :3] = mask[3, :2] = 1
    keys = note_keys(ids, mask).tolist()
    assert keys[0] == keys[1] and len(set(keys)) == 3
    many = torch.randint(0, 50_000, (20_000, 30), generator=torch.Generator().manual_seed(0))
    assert len(set(note_keys(many, torch.ones_like(many)).tolist())) == 20_000


def test_temperature_is_trained_and_stays_above_its_limit():
    model = tiny_more().train()
    model(**more_batch(), return_loss=True).loss.backward()
    assert model.logit_scale.grad.abs() > 0 and model.temperature.item() == pytest.approx(0.02)
    with torch.no_grad():
        model.logit_scale.fill_(20.0)
    assert model.temperature.item() == pytest.approx(0.01)
    assert not tiny_more(learnable_temperature=False).logit_scale.requires_grad


@pytest.mark.parametrize("training", ["lora", "full", "frozen"])
def test_every_trained_parameter_gets_a_gradient(training: str):
    model = tiny_more(text_training=training, xray_ecg_loss=True).train()
    model(**more_batch(), return_loss=True).loss.backward()
    no_gradient = [
        name
        for name, each in model.named_parameters()
        if each.requires_grad and (each.grad is None or not each.grad.any())
    ]
    # A bias of the keys shifts all scores of a query alike, and the softmax takes it out again.
    assert [name for name in no_gradient if not name.endswith("key.bias")] == []
    trained = [name for name, each in model.text_encoder.named_parameters() if each.requires_grad]
    if training == "frozen":
        assert trained == []
    if training == "lora":
        assert all(name.endswith("bias") or ".low_rank_" in name for name in trained) and trained


def test_one_xray_in_a_training_batch_is_no_error():
    model = tiny_more().train()
    mask = torch.tensor([True, False, False, False])
    output = model(**more_batch(), xray_mask=mask, return_loss=True)
    assert output.loss.isfinite() and output.xray_embeds[0].norm() > 0.99


def run_rank(rank: int, port: int, out: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    result = loss_and_gradients(slice(2 * rank, 2 * rank + 2))
    for gradient in result["gradients"].values():
        torch.distributed.all_reduce(gradient)  # DistributedDataParallel averages the gradients
        gradient /= 2
    torch.save(result, out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def loss_and_gradients(rows: slice) -> dict:
    model = tiny_more(xray_ecg_loss=True)  # in evaluation mode, because batch norms see their own process only
    batch = more_batch()
    batch["input_ids"][3], batch["attention_mask"][3] = batch["input_ids"][1], batch["attention_mask"][1]
    masks = {"xray_mask": torch.tensor([True, True, True, False]), "ecg_mask": torch.tensor([True, True, False, False])}
    loss = model(**{name: value[rows] for name, value in {**batch, **masks}.items()}, return_loss=True).loss
    loss.backward()
    return {
        "loss": loss.detach(),
        "gradients": {
            name: torch.zeros_like(each) if each.grad is None else each.grad
            for name, each in model.named_parameters()
            if each.requires_grad
        },
    }


@pytest.mark.slow
def test_negatives_are_those_of_all_processes(tmp_path: Path):
    """Two processes give one process's loss and gradients.

    Two equal notes are in different processes, and nobody in the second process has an ECG: it must not stay away.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(run_rank, args=(port, tmp_path), nprocs=2)
    expected = loss_and_gradients(slice(0, 4))
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert_close(found["loss"], expected["loss"], rtol=1e-4)
        assert_close(found["gradients"], expected["gradients"], rtol=1e-3, atol=1e-4)


# ---- DropKey


def test_drop_key_is_off_in_evaluation_mode(model: MoreModel):
    batch = more_batch()
    assert_close(embeds(model, **batch), embeds(model, **batch))
    plain = tiny_more()
    for encoder in (plain.xray_encoder, plain.ecg_encoder):
        encoder.config.drop_key = 0.0
    assert_close(embeds(plain, **batch), embeds(model, **batch))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_drop_key_drops_keys_in_training(attention: str):
    model = tiny_more()
    encoder = model.ecg_encoder.train()
    encoder.set_attn_implementation(attention)
    values = more_batch(rows=16)["input_values"]
    with torch.no_grad():
        first, second = (encoder(values).last_hidden_state for _ in range(2))
        assert not is_close(first, second)
        encoder.config.drop_key = 0.0
        first, second = (encoder(values).last_hidden_state for _ in range(2))
        assert_close(first, second)


def test_drop_key_sets_the_share_of_weights_to_zero():
    model = tiny_more()
    encoder = model.ecg_encoder.train()
    encoder.set_attn_implementation("eager")
    with torch.no_grad():
        weights = encoder(more_batch(rows=32)["input_values"], output_attentions=True).attentions
    for layer in weights:
        assert_close(layer.sum(-1), torch.ones_like(layer[..., 0]))  # no rescaling after the softmax
        share = float((layer == 0).float().mean())
        assert abs(share - 0.3) < 5 * math.sqrt(0.21 / layer.numel()) + 1e-3


def test_a_query_whose_keys_are_all_dropped_stays_finite():
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        mask = draw_drop_key(torch.zeros(2, 2, 8, dtype=dtype), 4, 0.999)
        assert (torch.randn_like(mask) + mask).softmax(-1).isfinite().all()


def test_drop_key_schedules():
    with torch.device("meta"):
        config = MoreConfig(xray_config={"drop_key": 0.2, "drop_key_schedule": "linear"})
    assert drop_key_rates(config.ecg_config) == [0.3] * 12  # published pre-training
    expected = [0.2 * (1 - block / 11) for block in range(12)]  # published fine-tuning
    assert drop_key_rates(config.xray_config) == pytest.approx(expected)


# ---- adapters and the text encoder


def test_adapters_start_without_effect_and_then_add_the_low_rank_product():
    torch.manual_seed(0)
    plain = torch.nn.Linear(8, 6)
    layer = LowRankLinear(plain, rank=2, alpha=1.0, dropout=0.0)
    layer.init_low_rank()
    x = torch.randn(5, 8)
    assert_close(layer(x), plain(x))
    assert layer.low_rank_in.any() and not layer.low_rank_out.any()
    layer.low_rank_out.data.normal_()
    assert_close(layer(x), x @ (plain.weight + 0.5 * layer.low_rank_out @ layer.low_rank_in).T + plain.bias)


@pytest.mark.parametrize("kind", ["roberta", "bert", "distilbert"])
def test_a_pretrained_text_encoder_keeps_its_answers(kind: str, tmp_path: Path):
    from transformers import AutoConfig

    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48} if kind == "distilbert" else SMALL_BLOCKS
    torch.manual_seed(0)
    text = AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=300, max_position_embeddings=80, **sizes))
    text.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    tiny = MoreConfig.tiny()
    parts = {"xray_config": tiny.xray_config, "ecg_config": tiny.ecg_config, "projection_dim": 16, "lora_rank": 4}
    model = MoreModel.from_text_encoder(tmp_path, **parts)
    assert not model.training and model.config.encoder_sources["text"]["license"] == "mit"
    batch = more_batch()
    with torch.no_grad():
        found = model.get_text_features(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        expected = text.eval()(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        tokens = batch["attention_mask"].bool()
        assert_close(found[tokens], expected[tokens], atol=1e-5)
    trained, total = model.parameter_counts()["text_encoder"]
    assert 0 < trained < total / 2
    model.save_pretrained(tmp_path / "more")
    again = MoreModel.from_pretrained(tmp_path / "more").eval()
    with torch.no_grad():
        assert_close(embeds(again, **batch), embeds(model, **batch))


def test_an_incomplete_text_encoder_or_one_without_query_layers_is_refused(tmp_path: Path):
    config = BertConfig(vocab_size=300, max_position_embeddings=80, **SMALL_BLOCKS)
    text = BertModel(config)
    weights = {name: value for name, value in text.state_dict().items() if "layer.1.attention" not in name}
    text.save_pretrained(tmp_path / "cut", state_dict=weights)
    with pytest.raises(ValueError, match="lacks"):
        MoreModel.from_text_encoder(tmp_path / "cut")
    gpt2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 4, "vocab_size": 300}
    with pytest.raises(ValueError, match="text_training"):
        MoreModel(MoreConfig.tiny(text_config=gpt2))
    MoreModel(MoreConfig.tiny(text_config=gpt2, text_training="full"))


# ---- findings


def test_findings_with_one_modality_missing():
    model = tiny_more(MoreForClassification, num_labels=3)
    batch = more_batch()
    xray, ecg = batch["pixel_values"], batch["input_values"]
    with torch.no_grad():
        both = model(pixel_values=xray, input_values=ecg).logits
        only_xray = model(pixel_values=xray).logits
        masks = {"xray_mask": torch.tensor([1, 1, 0, 1]), "ecg_mask": torch.tensor([1, 0, 1, 1])}
        broken = {"pixel_values": xray.clone(), "input_values": ecg.clone()}
        broken["pixel_values"][2] = float("nan")
        broken["input_values"][1] = float("nan")
        mixed = model(**broken, **masks).logits
        assert both.shape == (4, 3)
        assert_close(mixed[1], only_xray[1], atol=1e-5)
        assert_close(mixed[2], model(input_values=ecg).logits[2], atol=1e-5)
        assert_close(mixed[[0, 3]], both[[0, 3]], atol=1e-5)
        assert not is_close(both, only_xray)


def test_loss_of_findings_reads_known_labels_only():
    model = tiny_more(MoreForClassification, num_labels=3)
    pictures = {name: more_batch()[name] for name in ("pixel_values", "input_values")}
    labels = torch.tensor([[1.0, 0, 1], [0, 0, -1], [1, float("nan"), 0], [0, 1, 1]])
    known = torch.isin(labels, torch.tensor([0.0, 1.0]))
    with torch.no_grad():
        output = model(**pictures, labels=labels, label_mask=known)
    expected = functional.binary_cross_entropy_with_logits(output.logits[known], labels[known])
    assert_close(output.loss, expected)
    with pytest.raises(ValueError, match="label_mask"):
        model(**pictures, labels=labels)
    with pytest.raises(ValueError, match="shape"):
        model(**pictures, labels=labels[:, :2])
    with torch.no_grad():
        nothing = model(**pictures, labels=labels, label_mask=torch.zeros_like(known))
    assert nothing.loss == 0


def test_training_findings_leaves_the_texts_alone_and_reaches_all_other_weights():
    model = tiny_more(MoreForClassification, num_labels=3, modality_dropout=0.0).train()
    pictures = {name: more_batch()[name] for name in ("pixel_values", "input_values")}
    model(**pictures, labels=torch.tensor([[1.0, 0, 1]]).repeat(4, 1)).loss.backward()
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert not any("text_" in name or "logit_scale" in name for name in trained)
    assert [name for name, each in trained.items() if each.grad is None or not each.grad.any()] == []


def test_modality_dropout_hides_one_of_two_and_never_both():
    model = tiny_more(MoreForClassification, num_labels=3, modality_dropout=0.5, classifier_dropout=0.0)
    parts = {"xray": torch.ones(4000, 2), "ecg": torch.ones(4000, 2)}
    present = {name: torch.ones(4000, dtype=torch.bool) for name in parts}
    present["ecg"][:1000] = False
    torch.manual_seed(0)
    joined = model.train()._join(parts, present)
    xray, ecg = joined[:, :2].any(1), joined[:, 2:].any(1)
    assert (xray | ecg).all() and xray[:1000].all()
    assert 0.2 < (~xray[1000:]).float().mean() < 0.3 and 0.2 < (~ecg[1000:]).float().mean() < 0.3
    assert model.eval()._join(parts, present).all()


# ---- saving


def test_a_clean_process_gives_the_same_answers(tmp_path: Path):
    model = tiny_more()
    findings = tiny_more(MoreForClassification, num_labels=3)
    batch = more_batch()
    model.save_pretrained(tmp_path / "model")
    findings.save_pretrained(tmp_path / "findings")
    torch.save(batch, tmp_path / "inputs.pt")
    for name in ("model", "model_again"):  # the second was saved by the clean process itself
        words = [str(tmp_path / part) for part in (name, "findings", "inputs.pt", "out.pt")]
        run_without_package(CLEAN_PROCESS, *words, work=tmp_path)
        found = torch.load(tmp_path / "out.pt")
        with torch.no_grad():
            expected = model(**batch, return_loss=True)
            logits = findings(pixel_values=batch["pixel_values"], input_values=batch["input_values"]).logits
        assert_close(found["loss"], expected.loss, rtol=1e-4)
        assert_close(found["xray"], expected.logits_per_xray, atol=1e-4)
        assert_close(found["findings"], logits, atol=1e-5)
        assert found["counts"] == model.parameter_counts()


def test_auto_classes_load_both_models_from_one_directory(tmp_path: Path):
    findings = tiny_more(MoreForClassification, num_labels=3)
    findings.save_pretrained(tmp_path)
    batch = more_batch()
    model = AutoModel.from_pretrained(tmp_path).eval()
    assert type(model) is MoreModel
    assert_close(embeds(model, **batch), embeds(findings.more, **batch))
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert type(again) is MoreForClassification
    assert not any(each.requires_grad for each in again.more.text_encoder.parameters())


# ---- refusals


def test_inputs_of_another_shape_or_kind_are_refused(model: MoreModel):
    batch = more_batch()
    xray, ecg, ids = batch["pixel_values"], batch["input_values"], batch["input_ids"]
    wrong = [
        {},
        {"pixel_values": xray[:, :1]},
        {"pixel_values": xray[0]},
        {"pixel_values": xray[..., :16]},
        {"pixel_values": (xray * 9).byte()},
        {"pixel_values": xray.masked_fill(xray > 2, float("nan"))},
        {"input_values": ecg[:, :8]},
        {"input_values": ecg[..., :90]},
        {"input_values": ecg.masked_fill(ecg > 0.9, float("inf"))},
        {"input_ids": ids + 300},
        {"input_ids": ids.float()},
        {"input_ids": ids[:, :3], "attention_mask": torch.ones(4, 9)},
        {"pixel_values": xray, "xray_mask": torch.ones(3)},
        {"input_values": ecg, "ecg_mask": torch.full((4,), 0.5)},
        {"pixel_values": xray, "return_loss": True},
        {"pixel_values": xray[:3], "input_ids": ids, "return_loss": True},
    ]
    for inputs in wrong:
        with pytest.raises(ValueError):
            model(**inputs)
    findings = tiny_more(MoreForClassification, num_labels=3)
    for inputs in ({}, {"pixel_values": xray[:2], "input_values": ecg}):
        with pytest.raises(ValueError):
            findings(**inputs)
    with pytest.raises(ValueError, match="neither"):
        findings(pixel_values=xray, xray_mask=torch.tensor([1, 1, 0, 1]))


def test_settings_that_cannot_be_are_refused():
    for settings in (
        {"text_training": "some"},
        {"lora_rank": 0},
        {"temperature": 0.0},
        {"modality_dropout": 1.0},
        {"xray_config": {"drop_key": 1.0}},
        {"ecg_config": {"drop_key_schedule": "cosine"}},
        {"ecg_config": {"seq_length": 20}},
        {"text_config": {"model_type": "t5"}},
    ):
        with pytest.raises(ValueError):
            MoreConfig(**settings)
    assert isinstance(MoreConfig().text_config, RobertaConfig) and MoreConfig().text_config.vocab_size == 50265
