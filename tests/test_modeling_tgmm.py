"""The model's promises: any modality subset, masks that hold, batches that equal singles, switches that switch."""

import copy
import itertools

import pytest
import torch
from closeness import assert_close
from tiny_models import only, random_batch, random_labels, smallest_config, smallest_model, tiny_tokenizer

from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.layers.encoded_batch import TgmmEncoded, hide_modalities
from tgmm_hf.layers.fusion import MedFlexFusion, mix
from tgmm_hf.layers.pooling import TgmmStandardise
from tgmm_hf.modeling_tgmm import TgmmForSequenceClassification, TgmmModel
from tgmm_hf.utils.names import MODALITIES, SLOTS, SUBSETS

TASKS = list(DEFAULT_TASKS)


@pytest.fixture(scope="module")
def model() -> TgmmModel:
    return smallest_model()


@pytest.fixture(scope="module")
def batch(model) -> dict[str, torch.Tensor]:
    return random_batch(model.config)


def numbers(output) -> torch.Tensor:
    """Everything a task answers, one row a patient."""
    if output.embeds is not None:
        return torch.cat([output.embeds[name] for name in MODALITIES], dim=1)
    return torch.cat([output.logits, output.slot_attentions.flatten(1), output.candidate_attentions.flatten(1)], dim=1)


# --- any subset ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_every_subset_gives_a_finite_loss_and_gradients(batch, subset):
    model = smallest_model().train()
    output = model(**only(batch, subset), task=TASKS, labels=random_labels())
    output.loss.backward()
    assert torch.isfinite(output.loss) and output.loss > 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_absent_keys_equal_zero_masks(model, batch, subset):
    keys = {
        "labs": ("input_ids", "attention_mask"),
        "ecg": ("ecg_values", "ecg_mask"),
        "echo": ("pixel_values_videos", "view_mask"),
    }
    given = {key: batch[key] for name in subset for key in keys[name]}
    with torch.no_grad():
        for task in TASKS:
            assert torch.allclose(
                numbers(model(**given, task=task)), numbers(model(**only(batch, subset), task=task)), atol=1e-6
            )


def test_slots_follow_what_is_present(model, batch):
    mixed = only(batch, ("ecg", "echo"), slice(0, 1))
    mixed = only(mixed, ("labs",), slice(1, 2))
    with torch.no_grad():
        output = model(**mixed, task="hf_diagnosis")
    for row, present in enumerate([{"ecg", "echo"}, {"labs"}, set(MODALITIES), set(MODALITIES)]):
        assert output.slot_mask[row].tolist() == [set(slot) <= present for slot in SLOTS]
    # Attention to and from absent slots is exactly zero; from present ones it sums to one.
    assert torch.equal(output.slot_attentions.sum(-1) > 0, output.slot_mask)
    assert output.slot_attentions[1, 0, 0].item() == pytest.approx(1.0, abs=1e-6)
    assert (output.candidate_attentions * ~output.slot_mask[:, None]).abs().max() == 0


def test_patient_without_anything_gets_no_answer(model, batch):
    nothing = only(batch, (), slice(0, 1))
    with torch.no_grad():
        output = model(**nothing, task="hf_risk")
    assert torch.isnan(output.probabilities[0]).all() and torch.isnan(output.risk[0])
    assert torch.isfinite(output.probabilities[1:]).all()
    trained = smallest_model().train()(**nothing, task="hf_risk", labels={"hf_risk": random_labels()["hf_risk"]})
    assert torch.isfinite(trained.loss)


def test_no_modality_at_all_is_refused(model):
    with pytest.raises(ValueError, match="No modality given"):
        model(task="hf_diagnosis")


# --- masks and batches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_values_under_a_mask_change_nothing(model, batch, task):
    mixed = only(only(batch, ("labs", "echo"), slice(0, 1)), ("ecg",), slice(1, 2))
    other = {key: value.clone() for key, value in mixed.items()}
    other["ecg_values"][~mixed["ecg_mask"]] = torch.nan
    other["pixel_values_videos"][~mixed["view_mask"]] = 1e6
    other["input_ids"][mixed["attention_mask"] == 0] = 7
    with torch.no_grad():
        assert torch.allclose(numbers(model(**mixed, task=task)), numbers(model(**other, task=task)), atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_equals_its_singles(model, batch, task):
    mixed = only(only(batch, ("labs", "echo"), slice(0, 1)), ("ecg",), slice(1, 2))
    with torch.no_grad():
        together = numbers(model(**mixed, task=task))
        alone = [numbers(model(**{k: v[i : i + 1] for k, v in mixed.items()}, task=task)) for i in range(4)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_left_padding_changes_nothing(model, batch):
    """BERT's positions are absolute: text that were left where it is would silently give another answer."""
    right = only(batch, ("labs",))
    left = {key: value.clone() for key, value in right.items()}
    for row, length in enumerate(right["attention_mask"].sum(1).tolist()):
        left["input_ids"][row] = right["input_ids"][row].roll(-length)
        left["attention_mask"][row] = right["attention_mask"][row].roll(-length)
    assert not torch.equal(left["attention_mask"], right["attention_mask"])
    with torch.no_grad():
        expected, found = (numbers(model(**inputs, task="hf_diagnosis")) for inputs in (right, left))
    assert torch.allclose(expected, found, atol=1e-6)


def test_hidden_states_and_attentions_of_the_model_and_its_encoders(batch):
    model = smallest_model()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True, output_attentions=True)
    assert output.encoder_hidden_states.keys() == output.encoder_attentions.keys() == set(MODALITIES)
    for name in MODALITIES:
        encoder = getattr(model.config, f"{name}_config")
        assert len(output.encoder_hidden_states[name]) == encoder.num_hidden_layers + 1
        assert len(output.encoder_attentions[name]) == encoder.num_hidden_layers
    assert len(output.encoder_attentions["echo"][0]) == int(batch["view_mask"].sum())
    assert len(output.hidden_states) == 2 and output.attentions[0].shape == (4, 1, 28, 28)
    assert model(**batch).hidden_states is None and model(**batch).encoder_attentions is None


def test_inputs_of_different_numbers_of_patients_are_refused(model, batch):
    with pytest.raises(ValueError, match="'ecg_values': 1"):
        model(**{**batch, "ecg_values": batch["ecg_values"][:1]}, task="hf_diagnosis")
    with pytest.raises(ValueError, match="three"):
        model(ecg_values=torch.zeros(2, 3, 12, 2250), ecg_mask=torch.ones(2, 12), task="hf_diagnosis")


@pytest.mark.parametrize("argument", ["tasks", "viewmask"])
def test_misspelt_arguments_are_refused(model, batch, argument):
    with pytest.raises(TypeError, match=argument):
        model(**batch, **{argument: None})


def test_keep_equals_masking_the_input(model, batch):
    with torch.no_grad():
        encoded = model.encode(**batch)
        for subset in SUBSETS:
            kept = model.answer(encoded.keep(subset), "hf_diagnosis")
            masked = model(**only(batch, subset), task="hf_diagnosis")
            assert torch.allclose(kept.logits, masked.logits, atol=1e-5)
    with pytest.raises(ValueError, match="mri"):
        encoded.keep(("mri",))


def test_only_present_clips_are_encoded(model, batch):
    seen = []
    hook = model.echo_encoder.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(len(kwargs["pixel_values_videos"])), with_kwargs=True
    )
    with torch.no_grad():
        model(**batch, task="hf_diagnosis")
        model(**only(batch, ("labs", "ecg")), task="hf_diagnosis")
    hook.remove()
    assert seen == [int(batch["view_mask"].sum())]


# --- equations ------------------------------------------------------------------------------------------------------


def test_mix_by_hand():
    t, s, m = torch.tensor(0.2), torch.tensor(-0.5), torch.tensor(1.5)
    l1, l2 = torch.sigmoid(t + s + m), torch.sigmoid(t + s)
    assert mix([t])[0] == t
    assert mix([t, s])[0].item() == pytest.approx((l2 * t + (1 - l2) * s).item())
    assert mix([t, s, m])[0].item() == pytest.approx((l1 * t + l2 * s + (1 - l1 - l2) * m).item())
    # The third weight may be negative: the paper's.
    assert 1 - torch.sigmoid(torch.tensor(6.0)) - torch.sigmoid(torch.tensor(4.0)) < 0


def test_fusion_follows_equations_1_to_8_written_out():
    """The bi-modal labs+echo slot, token by token, from the module's own matrices."""
    config = smallest_config()
    torch.manual_seed(1)
    fusion = MedFlexFusion(config)
    tokens = {name: torch.randn(2, config.num_fusion_tokens, config.hidden_size) for name in MODALITIES}
    present = {name: torch.ones(2, dtype=torch.bool) for name in MODALITIES}
    with torch.no_grad():
        output = fusion(tokens, present)
        w = fusion.projection
        keys = {n: w.project_key(w.key(tokens[n])) for n in ("labs", "echo")}
        values = {n: w.project_value(w.value(tokens[n])) for n in ("labs", "echo")}
        lk, lv = torch.sigmoid(keys["labs"] + keys["echo"]), torch.sigmoid(values["labs"] + values["echo"])
        key, value = lk * keys["labs"] + (1 - lk) * keys["echo"], lv * values["labs"] + (1 - lv) * values["echo"]
        expected = 0
        for name in ("labs", "echo"):
            query = w.project_query(w.query(tokens[name]))
            scores = torch.einsum("bnd,bmd->bnm", query, key) / config.projection_dim**0.5
            local = w.output(torch.einsum("bnm,bmd->bnd", scores.softmax(-1), value))
            gate = torch.sigmoid(fusion.gates["labs+echo"](torch.cat([tokens["labs"], tokens["echo"], local], -1)))
            expected = expected + gate * local
            assert torch.allclose(output.gates["labs+echo"][name], gate.mean((1, 2)), atol=1e-6)
    assert torch.allclose(output.lambdas["labs+echo"]["key_2"], lk.mean((1, 2)), atol=1e-6)
    assert output.lambdas["labs+echo"].keys() == {"key_2", "value_2"}
    slot = SLOTS.index(("labs", "echo"))
    assert torch.allclose(output.slots[:, slot], expected.relu(), atol=1e-5)
    assert torch.allclose(output.slots[:, SLOTS.index(("ecg",))], tokens["ecg"].relu())


def test_one_fusion_token_makes_the_query_projection_idle():
    """The paper's printed form: one key, a softmax over it does nothing, so W_Q gets no gradient."""
    model = smallest_model(num_fusion_tokens=1).train()
    model(**random_batch(model.config), task="hf_diagnosis", labels=random_labels()).loss.backward()
    assert model.fusion.projection.query.weight.grad.abs().max() < 1e-9
    assert model.fusion.projection.key.weight.grad is not None


def test_insert_position_changes_the_task_text():
    texts = []
    for position in (0, 8, 16):
        model = smallest_model(tasks={"t": {**DEFAULT_TASKS["hf_diagnosis"], "insert_position": position}})
        question = model.get_input_embeddings()(torch.tensor(model.config.tasks["t"]["question_ids"]))
        texts.append(model.guidance.encode_text("t", question).mean(0))
    assert all((a - b).abs().max() > 1e-4 for a, b in itertools.combinations(texts, 2))


def test_logits_are_sums_of_token_log_probabilities(model, batch):
    with torch.no_grad():
        logits = model(**batch, task="hf_diagnosis").logits
    assert (logits < 0).all()
    # "heart failure" + end has 3 tokens, "no heart failure" + end has 4; likelihoods of two answers cannot exceed 1.
    assert (logits.exp().sum(1) <= 1).all()
    normalised = smallest_model(length_normalised=True)
    with torch.no_grad():
        expected = logits / torch.tensor([4.0, 3.0])
        assert torch.allclose(normalised(**batch, task="hf_diagnosis").logits, expected, atol=1e-5)


def test_prognosis_risk_is_the_difference_of_the_candidates(model, batch):
    with torch.no_grad():
        output = model(**batch, task="hf_risk")
    assert torch.allclose(output.risk, output.logits[:, 1] - output.logits[:, 0])


def test_embeddings_are_unit_vectors_or_absent(model, batch):
    with torch.no_grad():
        output = model(**only(batch, ("labs",), slice(0, 1)), task="retrieval")
    assert output.embeds_mask["labs"].all()
    assert output.embeds_mask["ecg"].tolist() == [False, True, True, True]
    assert torch.allclose(output.embeds["ecg"].norm(dim=1), output.embeds_mask["ecg"].float(), atol=1e-5)


def test_an_embedding_does_not_know_the_other_modalities(model, batch):
    with torch.no_grad():
        together = model(**batch, task="retrieval").embeds
        alone = {name: model(**only(batch, (name,)), task="retrieval").embeds[name] for name in together}
    for name, embeds in together.items():
        assert_close(embeds, alone[name])


def test_standardise_by_hand_and_without_looking_at_the_rest_of_the_batch():
    standardise = TgmmStandardise(1, 2, eps=0.0)
    first = torch.tensor([[[1.0, 10.0]], [[3.0, 30.0]]])
    # One batch of two: mean 2 and 20, deviation 1 and 10.
    assert_close(standardise.train()(first), torch.tensor([[[-1.0, -1.0]], [[1.0, 1.0]]]))
    alone = standardise.eval()(torch.tensor([[[4.0, 20.0]]]))
    assert torch.allclose(alone, torch.tensor([[[2.0, 0.0]]]))
    # The second batch enters with weight one half: mean (2 + 4) / 2, mean square (5 + 16) / 2, variance 10.5 - 9.
    standardise.train()(torch.full((3, 1, 2), 4.0))
    assert_close(standardise.mean[0, 0].item(), 3.0)
    assert_close(standardise.variance[0, 0].item(), 1.5)
    # A first batch of one patient is no division by zero.
    assert torch.isfinite(TgmmStandardise(2).train()(torch.tensor([[1.0, 2.0]]))).all()


def test_standardise_asks_for_no_move_of_all_patients_alike():
    standardise = TgmmStandardise(2, eps=0.0).train()
    values = torch.tensor([[1.0, 10.0], [3.0, 30.0], [5.0, 80.0]], requires_grad=True)
    weights = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.5, 0.0]])
    (standardise(values) * weights).sum().backward()
    deviation = values.detach().std(0, correction=0)
    assert torch.allclose(values.grad, (weights - weights.mean(0)) / deviation)
    # a patient alone has no others to differ from: all of the gradient stays
    one = torch.tensor([[7.0, 20.0]], requires_grad=True)
    standardise(one).sum().backward()
    assert torch.allclose(one.grad, 1 / standardise.variance.sqrt())


def test_nothing_in_front_of_a_standardisation_is_trained_by_rounding(model, batch):
    """A constant would be taken away again; Adam follows the rounding of its gradient at the full rate."""
    model = copy.deepcopy(model).train()
    labels = {"hf_diagnosis": random_labels()["hf_diagnosis"]}
    model(**batch, task=["hf_diagnosis"], labels=labels).loss.backward()
    for pool in (model.labs_pool, model.ecg_pool, model.echo_pool):
        largest = {name: p.grad.abs().max() for name, p in pool.named_parameters()}
        negligible = {name for name, value in largest.items() if value < 1e-5 * max(largest.values())}
        assert negligible <= {"attention.key.bias"}, negligible  # that one shifts all scores alike: it moves nothing


def test_half_precision_keeps_what_patients_differ_by(tmp_path):
    def like_encoders(model):
        """Nearly all of a token is the same for every patient."""
        for pool in (model.labs_pool, model.ecg_pool, model.echo_pool):
            pool.attention.register_forward_hook(lambda module, inputs, output: (output[0] + 3.0, output[1]))
        return model

    model = like_encoders(smallest_model())
    for seed in range(20):
        model.train().encode(**random_batch(model.config, batch_size=8, seed=seed))
    model.eval().save_pretrained(tmp_path)
    half = like_encoders(TgmmModel.from_pretrained(tmp_path, dtype=torch.bfloat16).eval())
    assert half.labs_pool.standardise.mean.dtype == torch.float32
    assert half.fusion.projection.key.weight.dtype == torch.bfloat16
    with torch.no_grad():
        batch = random_batch(model.config, batch_size=8, seed=99)
        expected, cast = model.encode(**batch), half.encode(**batch)
    for name in MODALITIES:
        pair = torch.stack([expected.tokens[name].flatten(), cast.tokens[name].float().flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.9, name


def test_modality_dropout_always_leaves_one():
    torch.manual_seed(0)
    present = {name: torch.tensor([True, name == "ecg", False]).repeat(200) for name in MODALITIES}
    dropped = hide_modalities(TgmmEncoded({}, present), 0.9).present
    stacked = torch.stack([dropped[name] for name in MODALITIES], 1).reshape(200, 3, 3)
    assert stacked[:, 0].any(1).all() and not stacked[:, 0].all()
    assert stacked[:, 1].tolist() == [[False, True, False]] * 200
    assert not stacked[:, 2].any()


# --- training -------------------------------------------------------------------------------------------------------

NO_GRADIENT_BY_DESIGN = {
    # MViT reads only the class token of its last block, which no relative position reaches.
    "echo_encoder.layers.1.attention.positions.table"
}


def training_step(model: TgmmModel) -> tuple[set[str], set[str]]:
    """Names of the parameters that changed after one step, and of those that did not."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=10.0)
    model(**random_batch(model.config), task=TASKS, labels=random_labels()).loss.backward()
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    return changed, set(before) - changed


def test_every_parameter_changes_after_one_step():
    model = smallest_model(modality_dropout=0.0, feature_dropout=0.0, drop_path=0.0).train()
    _, unchanged = training_step(model)
    # The embeddings of words that no patient of the batch has belong to a table that did change.
    assert unchanged == NO_GRADIENT_BY_DESIGN


def test_frozen_parameters_stay_and_the_last_layers_train():
    model = smallest_model(modality_dropout=0.0, feature_dropout=0.0, drop_path=0.0).train()
    model.freeze_encoders(1)
    changed, unchanged = training_step(model)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert unchanged == frozen | NO_GRADIENT_BY_DESIGN
    assert any(name.startswith("labs_encoder.encoder.layer.1.") for name in changed)
    assert any(name.startswith("labs_encoder.encoder.layer.0.") for name in frozen)
    assert "ecg_encoder.layernorm.weight" in changed
    model.freeze_encoders(None)
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="has 2 layers, cannot leave the last 5"):
        model.freeze_encoders(5)


def test_gradient_checkpointing_gives_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = smallest_model(
            modality_dropout=0.0,
            feature_dropout=0.0,
            drop_path=0.0,
            labs_config={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        ).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**random_batch(model.config), task="hf_diagnosis", labels=random_labels()).loss.backward()
        gradients.append(model.echo_encoder.embeddings.patch_embedding.weight.grad)
    assert torch.allclose(*gradients, atol=1e-6) and gradients[0].abs().max() > 0


@pytest.mark.parametrize("guidance", ["none", "human", "human+learned"])
@pytest.mark.parametrize("response", ["decoder", "linear"])
@pytest.mark.parametrize("sstc_in_memory", [True, False])
def test_ablation_switches_train(guidance, response, sstc_in_memory):
    model = smallest_model(guidance=guidance, response=response, sstc_in_memory=sstc_in_memory).train()
    output = model(**random_batch(model.config), task=TASKS, labels=random_labels())
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert (output.by_task["hf_diagnosis"].slot_attentions is None) == (guidance == "none")
    assert ("hf_diagnosis/lm" in output.losses) == (response == "decoder")
    assert any("guidance.learned" in name for name, _ in model.named_parameters()) == (guidance == "human+learned")


def test_copies_of_a_patient_are_no_risk_set():
    model = smallest_model(modality_dropout=0.0, feature_dropout=0.0, drop_path=0.0).train()
    one = {key: value[:1] for key, value in random_batch(model.config).items()}
    labels = {"hf_risk": {"time": torch.tensor([100.0]), "event": torch.tensor([1])}}
    assert model(**one, task="hf_risk", labels=labels).losses["cox"].item() == 0.0
    several, labels = random_batch(model.config), {"hf_risk": random_labels()["hf_risk"]}
    losses = []
    for copies in (1, 4):
        model.config.training_subsets = copies
        torch.manual_seed(0)
        model.load_state_dict(smallest_model().state_dict())  # the running statistics as well
        losses.append(model(**several, task="hf_risk", labels=labels).losses)
    assert losses[0]["cox"] > 0
    for name in ("cox", "margin", "mc"):
        assert losses[0][name].item() == pytest.approx(losses[1][name].item(), rel=1e-4)


def test_unlabelled_rows_do_not_train(batch):
    model = smallest_model(modality_dropout=0.0).eval()
    labels = random_labels()
    mask = torch.tensor([True, True, False, False])
    for task in ("hf_diagnosis", "hf_risk"):
        masked = {name: value.clone() for name, value in labels[task].items()} | {"mask": mask}
        two = {name: value[:2] for name, value in labels[task].items()}
        full = model(**batch, task=task, labels={task: masked}).loss
        assert full.item() == pytest.approx(
            model(**{k: v[:2] for k, v in batch.items()}, task=task, labels={task: two}).loss.item(), rel=1e-5
        )
        nobody = masked | {"mask": torch.zeros(4, dtype=torch.bool)}
        assert model(**batch, task=task, labels={task: nobody}).loss.item() == 0.0


# --- tasks as data --------------------------------------------------------------------------------------------------


def test_a_task_can_be_added_to_a_trained_model(model, batch):
    ours = smallest_model()
    tokenizer = tiny_tokenizer()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    ours.add_task(
        "congestion",
        {"kind": "diagnosis", "question": "Does this patient have congestion ?", "learnable_phrase": "congestion",
         "candidates": ["no congestion", "congestion", "high congestion"]},
        tokenizer,
    )  # fmt: skip
    with torch.no_grad():
        assert ours(**batch, task="congestion").probabilities.shape == (4, 3)
    after = ours.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name][: len(value)] if value.ndim else after[name], value), name
    with pytest.raises(ValueError, match="already has a task"):
        ours.add_task("congestion", DEFAULT_TASKS["hf_diagnosis"], tokenizer)
    unknown = {**DEFAULT_TASKS["hf_diagnosis"], "candidates": ["zebra", "heart failure"]}
    for _ in range(2):  # a refused task leaves nothing behind
        with pytest.raises(ValueError, match="zebra"):
            ours.add_task("stripes", unknown, tokenizer)


def test_task_settings_survive_a_save(tmp_path, model):
    model.config.save_pretrained(tmp_path)
    loaded = TgmmConfig.from_pretrained(tmp_path)
    assert loaded.tasks["hf_diagnosis"]["candidates"] == ["no heart failure", "heart failure"]
    assert loaded.tasks == model.config.tasks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "prediction"}, "one of"),
        ({"candidates": ["yes"]}, "at least two"),
        ({"insert_position": 40}, "40 and 16"),
        ({"loss_weight": 1.0}, "unknown keys"),
        ({"loss_weights": {"cox": 1.0}}, "unknown loss weights"),
        ({"kind": "prognosis"}, "horizon_days"),
    ],
)
def test_tasks_that_cannot_run_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TgmmConfig.tiny(tasks={"t": {**DEFAULT_TASKS["hf_diagnosis"], **change}})


def test_candidates_unknown_to_the_tokenizer_are_refused():
    config = TgmmConfig.tiny(tasks={"t": {**DEFAULT_TASKS["hf_diagnosis"], "candidates": ["zebra", "heart failure"]}})
    with pytest.raises(ValueError, match="zebra"):
        config.tokenize_tasks(tiny_tokenizer())


def test_unknown_task_is_refused_by_name(model, batch):
    with pytest.raises(ValueError, match=r"'stroke'.*hf_diagnosis"):
        model(**batch, task="stroke")


# --- the classification head ----------------------------------------------------------------------------------------


def test_sequence_classification_is_the_same_model(tmp_path, model, batch):
    model.save_pretrained(tmp_path)
    classifier = TgmmForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = model(**batch, task="hf_diagnosis").logits
        output = classifier(**batch, labels=torch.tensor([0, 1, -100, 1]))
    assert_close(output.logits, expected)
    assert classifier.config.id2label == {0: "no heart failure", 1: "heart failure"}
    assert classifier.train()(**batch, labels=torch.tensor([0, 1, 1, 1])).logits.shape == (4, 2)
    labels = {"label": torch.tensor([0, 1, 0, 1]), "mask": torch.tensor([True, True, False, True])}
    with torch.no_grad():
        assert_close(output.loss, model(**batch, task="hf_diagnosis", labels={"hf_diagnosis": labels}).loss)


def test_sequence_classification_takes_frozen_features(tmp_path, model, batch):
    model.save_pretrained(tmp_path)
    classifier = TgmmForSequenceClassification.from_pretrained(tmp_path).eval()
    classifier.tgmm.freeze_encoders(0)
    masks = {name: batch[name] for name in ("attention_mask", "ecg_mask", "view_mask")}
    with torch.no_grad():
        frozen = classifier.tgmm.frozen_features(**batch)
        assert_close(classifier(**masks, **frozen).logits, classifier(**batch).logits)
