"""The fusions of table 5: what holds for MedFlexFusion holds for them, and each is what its paper says."""

import pytest
import torch
from closeness import assert_close
from test_modeling_tgmm import NO_GRADIENT_BY_DESIGN, training_step
from tiny_models import only, random_batch, random_labels, smallest_config, smallest_model

from tgmm_hf.configuration_tgmm import FUSIONS
from tgmm_hf.layers.encoded_batch import TgmmEncoded
from tgmm_hf.layers.rival_fusions import RIVAL_FUSIONS
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.utils.names import MODALITIES, SUBSETS

TASKS = ("hf_diagnosis", "hf_risk", "retrieval")


@pytest.fixture(scope="module")
def config():
    return smallest_config()


def new_fusion(name: str, config) -> torch.nn.Module:
    torch.manual_seed(0)
    fusion = RIVAL_FUSIONS[name](config).eval()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return fusion


def encoded(config, batch_size: int = len(SUBSETS)) -> TgmmEncoded:
    """One patient for every modality subset."""
    torch.manual_seed(1)
    return TgmmEncoded(
        {name: torch.randn(batch_size, config.num_fusion_tokens, config.hidden_size) for name in MODALITIES},
        {name: torch.tensor([name in subset for subset in SUBSETS]) for name in MODALITIES},
    )


def fuse(fusion, patients: TgmmEncoded, config):
    torch.manual_seed(2)
    text = torch.randn(5, config.labs_config.hidden_size)
    with torch.no_grad():
        return fusion(patients.tokens, patients.present, text)


def test_the_configuration_knows_every_baseline_and_refuses_others():
    assert {"medflex", *RIVAL_FUSIONS} == set(FUSIONS)
    with pytest.raises(ValueError, match="fusion must be one of"):
        smallest_config(fusion="mean")


@pytest.mark.parametrize("name", RIVAL_FUSIONS)
def test_absent_modalities_change_nothing_and_a_batch_equals_its_singles(name, config):
    fusion, patients = new_fusion(name, config), encoded(config)
    together = fuse(fusion, patients, config)
    assert together.slots.shape == (len(SUBSETS), 1, config.num_fusion_tokens, config.hidden_size)
    assert together.slot_mask.all() and torch.isfinite(together.slots).all()
    spoiled = {n: x.masked_fill(~patients.present[n][:, None, None], torch.nan) for n, x in patients.tokens.items()}
    assert_close(fuse(fusion, TgmmEncoded(spoiled, patients.present), config).slots, together.slots)
    for row in range(len(SUBSETS)):
        one = TgmmEncoded(
            {n: x[row : row + 1] for n, x in spoiled.items()},
            {n: x[row : row + 1] for n, x in patients.present.items()},
        )
        assert torch.allclose(fuse(fusion, one, config).slots[0], together.slots[row], atol=1e-5)
    # every present modality is read: without it the patient looks different
    for left_out in MODALITIES:
        less = fuse(fusion, patients.keep([n for n in MODALITIES if n != left_out]), config)
        for row, subset in enumerate(SUBSETS):
            same = torch.allclose(less.slots[row], together.slots[row], atol=1e-5)
            assert same == (left_out not in subset)
    assert fuse(fusion, patients.keep(()), config).slot_mask.sum() == 0


@pytest.mark.parametrize("name", RIVAL_FUSIONS)
def test_every_parameter_changes_after_one_step(name):
    model = smallest_model(fusion=name, modality_dropout=0.0, feature_dropout=0.0, drop_path=0.0).train()
    _, unchanged = training_step(model)
    assert unchanged == NO_GRADIENT_BY_DESIGN


@pytest.mark.parametrize("name", RIVAL_FUSIONS)
def test_the_model_answers_every_task_and_is_the_same_after_saving(name, tmp_path):
    model = smallest_model(fusion=name, guidance="none", response="linear")
    batch = only(random_batch(model.config), ("labs", "echo"), slice(0, 1))
    output = model(**batch, task=TASKS, labels=random_labels())
    assert torch.isfinite(output.loss) and output.by_task["hf_diagnosis"].slot_mask.shape == (4, 1)
    assert ("hf_risk/alignment" in output.losses) == (name == "cmta")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "rival_fusions.py").is_file()
    again = TgmmModel.from_pretrained(tmp_path).eval()
    for task in TASKS:
        first, second = (m(**batch, task=task) for m in (model, again))
        if task == "retrieval":
            for m in MODALITIES:
                assert_close(first.embeds[m], second.embeds[m])
        else:
            assert_close(first.logits, second.logits)


# --- each as its paper says -----------------------------------------------------------------------------------------


def test_concat_is_the_mean_concatenation_projected(config):
    fusion, patients = new_fusion("concat", config), encoded(config)
    fused = fuse(fusion, patients, config).slots[:, 0].mean(1)
    means = [patients.tokens[n].mean(1) * patients.present[n][:, None] for n in MODALITIES]
    with torch.no_grad():
        assert torch.allclose(fused, fusion.output(torch.cat(means, dim=1)), atol=1e-5)


def test_multisurv_takes_the_maximum_over_those_present(config):
    fusion, patients = new_fusion("multisurv", config), encoded(config)
    fused = fuse(fusion, patients, config).slots[:, 0]
    with torch.no_grad():
        vectors = {n: layer(patients.tokens[n]).relu() for n, layer in zip(MODALITIES, fusion.modality, strict=True)}
        for row, subset in enumerate(SUBSETS):
            largest = torch.stack([vectors[n][row] for n in subset]).max(0).values
            assert torch.allclose(fused[row], fusion.output(largest), atol=1e-5)


def test_cmta_aligns_translations_with_what_they_translate(config):
    fusion, patients = new_fusion("cmta", config), encoded(config)
    alignment = fuse(fusion, patients, config).alignment
    assert torch.equal(alignment > 0, torch.tensor([len(subset) > 1 for subset in SUBSETS]))
    # labs and echo, by hand
    row, (labs, ecg, echo) = SUBSETS.index(("labs", "echo")), (patients.tokens[n] for n in MODALITIES)
    with torch.no_grad():
        distances = []
        for i, (own, other) in {0: (labs, echo), 2: (echo, labs)}.items():
            found, _ = fusion.translate[i](fusion.norm(own[[row]]), fusion.norm(other[[row]]))
            distances.append((found + fusion.decode[i](found) - own[[row]]).abs().mean())
        assert torch.allclose(alignment[row], torch.stack(distances).mean(), atol=1e-5)
    tokens = {n: x.clone().requires_grad_() for n, x in patients.tokens.items()}
    lone = {n: torch.tensor([n == "labs"] * len(SUBSETS)) for n in MODALITIES}
    expected = fusion.output(torch.cat([labs, torch.zeros_like(ecg), torch.zeros_like(echo)], dim=-1))
    assert torch.allclose(fusion(tokens, lone).slots[:, 0], expected, atol=1e-5)


def test_text_if_scales_and_shifts_as_the_question_says(config):
    fusion, patients = new_fusion("textif", config), encoded(config)
    words = torch.randn(3, config.labs_config.hidden_size)
    with torch.no_grad():
        (gamma, beta), (other_gamma, other_beta) = (fusion.affine(x.mean(0)).chunk(2) for x in (words, 2 * words))
        first, second = (fusion(patients.tokens, patients.present, x).slots for x in (words, 2 * words))
    assert torch.allclose((first - beta) / (1 + gamma) * (1 + other_gamma) + other_beta, second, atol=1e-2)
    assert not torch.allclose(first, second, atol=1e-2)


def test_deepavfusion_answers_for_fusion_tokens_and_attends_to_the_present_only(config):
    fusion, patients = new_fusion("deepavfusion", config), encoded(config)
    weights = []
    hook = fusion.attention.register_forward_hook(lambda module, inputs, output: weights.append(output[1]))
    fuse(fusion, patients, config)
    hook.remove()
    by_source = weights[0].unflatten(-1, (1 + len(MODALITIES), -1)).sum((1, 2, 4))  # itself, then each modality
    present = torch.stack([patients.present[n] for n in MODALITIES], dim=1)
    assert torch.equal(by_source[:, 1:] > 0, present) and (by_source[:, 0] > 0).all()


@pytest.mark.parametrize("name", RIVAL_FUSIONS)
def test_a_checkpoint_of_medflex_can_be_given_another_fusion(name, tmp_path):
    """What fine-tuning with `model.overrides.fusion` starts from: the same encoders, a new fusion."""
    model = smallest_model()
    model.save_pretrained(tmp_path)
    other = TgmmModel.from_pretrained(tmp_path, fusion=name)
    assert all(torch.isfinite(p).all() for p in other.parameters())
    weights = [p for p in other.fusion.parameters() if p.ndim > 1]
    assert weights and all(p.std() > 0 for p in weights)
    assert torch.equal(model.view_embeddings.weight, other.view_embeddings.weight)
