"""Labs encoders that read numbers, and the ResNet as ECG encoder, inside TGMM."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from closeness import assert_close
from fresh_process import run_without_package
from heart_signal import make_heart
from tiny_models import random_batch, smallest_config, tiny_tokenizer

from tgmm_hf import LEADS, EcgResNetModel, LabCellsConfig, LabCellsModel, TgmmConfig, TgmmModel, default_processor
from tgmm_hf.explanation.ecg import ecg_methods, explain_ecg_guided, explain_ecg_tokens
from tgmm_hf.explanation.explain import explain, methods_of
from tgmm_hf.explanation.labs import explain_cells, explain_cells_by_gradient, explain_tokens
from tgmm_hf.explanation.scoring import PatientScore, question_of
from tgmm_hf.inputs.lab_scales import fit_labs_scales
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.layers.cell_inputs import LabCells
from tgmm_hf.utils.names import CELL_ARGUMENTS

ROWS = [
    {"Creatinine": 0.8, "age": 50, "Sodium": 140, "gender": "F", "medical history": "heart failure; failure"},
    {"Creatinine": 2.8, "age": 80, "Sodium": 131, "gender": "M"},
    {"age": 65, "Sodium": 135, "NTproBNP": (1200, "pg/mL")},
]
CELLS = {"model_type": "lab_cells", "vocab_size": 128, "hidden_size": 32, "num_attention_heads": 4}
ARMS: dict[str, dict[str, Any]] = {"numbers": {"labs_numbers": True}, "cells": {"labs_config": CELLS}}
RESNET = {"model_type": "ecg_resnet", "embedding_size": 8, "stage_depths": (1, 1), "stage_widths": (4, 8)}


def arm(name: str) -> tuple[TgmmModel, Any]:
    """A small model with a labs encoder of `ARMS`, and its processor."""
    torch.manual_seed(0)
    config = smallest_config(labs_scales=fit_labs_scales(map(LabsText.from_row, ROWS)), **ARMS[name])
    model = TgmmModel(config)
    model.initialise_texts()
    if name == "numbers":
        torch.nn.init.normal_(model.labs_numbers.vectors)
    return model.eval(), default_processor(config, tiny_tokenizer())


@pytest.fixture(scope="module", params=ARMS)
def labs_arm(request) -> tuple[TgmmModel, Any]:
    return arm(request.param)


def inputs_of(processor, rows) -> dict[str, torch.Tensor]:
    return dict(processor(labs=rows, return_tensors="pt"))


@torch.no_grad()
def features(model, inputs) -> torch.Tensor:
    """The summaries of the labs encoder. With random weights, answers hardly move with them."""
    return model.get_labs_features(**inputs)


@torch.no_grad()
def logits(model, inputs) -> torch.Tensor:
    return model(**inputs, task="hf_diagnosis").logits


def test_the_summary_depends_on_the_numbers(labs_arm):
    model, processor = labs_arm
    rows = [[{**ROWS[0], "Creatinine": value}] for value in (0.7, 0.9)]
    # The tokenizer knows no digits, so that the two texts are the same.
    first, second = (features(model, inputs_of(processor, row)) for row in rows)
    assert (first - second).abs().max() > 1e-5


def test_a_patient_gets_the_same_answer_in_any_batch(labs_arm):
    model, processor = labs_arm
    together = features(model, inputs_of(processor, ROWS))
    for number, row in enumerate(ROWS):
        assert_close(features(model, inputs_of(processor, [row]))[0], together[number])


def test_what_stands_under_a_mask_is_not_read(labs_arm):
    model, processor = labs_arm
    inputs = inputs_of(processor, ROWS)
    changed = {name: value.clone() for name, value in inputs.items()}
    padding = ~inputs["attention_mask"].bool()
    assert padding.any()
    changed["input_ids"][padding], changed["cell_ids"][padding], changed["cell_columns"][padding] = 7, 1, 2
    changed["cell_values"][~inputs["cell_mask"]] = torch.nan
    assert_close(features(model, changed), features(model, inputs))
    assert_close(logits(model, changed), logits(model, inputs))


def test_a_missing_cell_is_the_same_as_a_shorter_row():
    """For the encoder of cells, masking the tokens of a cell equals a row without the cell."""
    model, processor = arm("cells")
    inputs = inputs_of(processor, [ROWS[2]])
    column = next(n for n, scale in enumerate(processor.labs_scales) if scale["column"] == "NTproBNP")
    hidden = (inputs["cell_columns"] == column) & (inputs["cell_ids"] > 0)
    masked = {**inputs, "attention_mask": inputs["attention_mask"].masked_fill(hidden, 0)}
    without = inputs_of(processor, [{name: value for name, value in ROWS[2].items() if name != "NTproBNP"}])
    assert_close(features(model, masked), features(model, without))
    assert (features(model, masked) - features(model, inputs)).abs().max() > 1e-3


def test_the_order_of_cells_means_nothing_to_the_encoder_of_cells():
    model, processor = arm("cells")
    inputs = inputs_of(processor, [ROWS[0]])
    order = torch.randperm(inputs["input_ids"].shape[1] - 2, generator=torch.Generator().manual_seed(0)) + 1
    order = torch.cat([torch.tensor([0]), order, torch.tensor([inputs["input_ids"].shape[1] - 1])])
    assert_close(features(model, {name: value[:, order] for name, value in inputs.items()}), features(model, inputs))


def test_numbers_start_as_the_text_encoder_alone():
    model, processor = arm("numbers")
    torch.nn.init.zeros_(model.labs_numbers.vectors)
    text = TgmmModel(smallest_config())
    text.load_state_dict(model.state_dict(), strict=False)
    inputs = inputs_of(processor, ROWS)
    words = {name: value for name, value in inputs.items() if name not in CELL_ARGUMENTS}
    assert_close(features(text.eval(), words), features(model, inputs))


def test_tokens_of_the_encoder_of_cells_are_its_cells_and_items():
    model, processor = arm("cells")
    inputs = inputs_of(processor, ROWS)
    part = model.branches["labs"].encode(_labs_input(inputs))
    # a summary, then one token for each number and each of the two items of the history
    assert part.token_mask.sum(1).tolist() == [1 + 6, 1 + 4, 1 + 3]
    assert isinstance(model.labs_encoder, LabCellsModel)


def test_a_model_that_was_saved_before_the_setting_does_not_start_from_its_cells():
    assert not LabCellsConfig().starts_from_cells
    assert TgmmConfig.tiny(labs_config={"model_type": "lab_cells"}).labs_config.starts_from_cells


def test_the_summary_starts_as_the_sum_of_the_cells():
    model, processor = arm("cells")
    embeddings = model.labs_encoder.embeddings
    embeddings.starts_from_cells = True
    inputs = inputs_of(processor, [{"age": 71, "NTproBNP": 5210}, {"age": 71}])
    cells = LabCells.from_arguments({name: inputs[name] for name in CELL_ARGUMENTS})
    with torch.no_grad():
        started, mask = embeddings(inputs["input_ids"], cells)
        embeddings.starts_from_cells = False
        alone, _ = embeddings(inputs["input_ids"], cells)
    assert mask.sum(1).tolist() == [1 + 2, 1 + 1]
    assert_close(started[0, 0] - alone[0, 0], (alone[0, 1:][mask[0, 1:]]).sum(0) / 2**0.5)
    assert_close(started[1, 0] - alone[1, 0], alone[1, 1:][mask[1, 1:]][0])
    assert_close(started[:, 1:], alone[:, 1:])


def _labs_input(inputs):
    from tgmm_hf.encoders.branches import sort_inputs

    return sort_inputs(inputs)["labs"]


def test_both_learn_from_the_numbers(labs_arm):
    model, processor = labs_arm
    model.train()
    loss = model(**inputs_of(processor, ROWS), task="hf_diagnosis", labels=_labels()).loss
    loss.backward()
    weight = (
        model.labs_numbers.vectors
        if model.config.labs_numbers
        else model.labs_encoder.embeddings.value_embeddings.weight
    )
    assert weight.grad.abs().sum() > 0
    model.zero_grad()
    model.eval()


def _labels():
    return {"hf_diagnosis": {"label": torch.tensor([0, 1, 0])}}


def test_text_without_cells_and_half_of_the_cells_are_refused(labs_arm):
    model, processor = labs_arm
    inputs = inputs_of(processor, ROWS)
    words = {name: value for name, value in inputs.items() if name not in CELL_ARGUMENTS}
    with pytest.raises(ValueError, match="cell_ids"):
        model(**words)
    with pytest.raises(ValueError, match="cell_values is missing"):
        model(**{name: value for name, value in inputs.items() if name != "cell_values"})
    with pytest.raises(ValueError, match="cell_columns holds 99"):
        model(**{**inputs, "cell_columns": torch.full_like(inputs["cell_columns"], 99)})


def test_a_text_model_refuses_cells(labs_arm):
    _, processor = labs_arm
    with pytest.raises(ValueError, match="reads text only"):
        TgmmModel(smallest_config())(**inputs_of(processor, ROWS))


def test_a_model_that_reads_cells_needs_their_columns():
    for settings in ARMS.values():
        with pytest.raises(ValueError, match="labs_scales"):
            TgmmModel(smallest_config(**settings))


def test_frozen_features_are_refused(labs_arm):
    model, processor = labs_arm
    model.freeze_encoders(1)
    try:
        with pytest.raises(ValueError, match="cannot be cached"):
            model.frozen_features(**inputs_of(processor, ROWS))
    finally:
        model.freeze_encoders(None)


def test_cells_are_explained_and_the_values_add_up(labs_arm):
    model, processor = labs_arm
    labs = processor.labs_text(ROWS[0])
    patient = PatientScore(model, inputs_of(processor, [ROWS[0]]), question_of(model.config.tasks, "hf_diagnosis"))
    shap = explain_cells(patient, processor, labs)
    assert shap.axes[0].labels == tuple(labs.used) and shap.completeness_error < 1e-4
    gradient = explain_cells_by_gradient(patient, processor, labs)
    assert gradient.values.shape == shap.values.shape and np.isfinite(gradient.values).all()
    assert np.abs(gradient.values).min() > 0


def test_gradients_count_the_number_and_not_the_digits_alone():
    """With word embeddings of zero, only the number is left in gradient x input."""
    model, processor = arm("numbers")
    torch.nn.init.zeros_(model.get_input_embeddings().weight)
    patient = PatientScore(model, inputs_of(processor, [ROWS[1]]), question_of(model.config.tasks, "hf_diagnosis"))
    values = explain_cells_by_gradient(patient, processor, processor.labs_text(ROWS[1])).values
    names = processor.labs_text(ROWS[1]).used
    assert values[names.index("gender")] == 0 and values[names.index("Creatinine")] != 0


def test_tokens_of_a_text_that_is_not_read_cannot_be_explained():
    model, processor = arm("cells")
    patient = PatientScore(model, inputs_of(processor, [ROWS[0]]), question_of(model.config.tasks, "hf_diagnosis"))
    with pytest.raises(ValueError, match="explain_cells"):
        explain_tokens(patient, processor, processor.labs_text(ROWS[0]))


CLEAN_PROCESS = """
import sys
sys.modules["tgmm_hf"] = None  # importing it raises ImportError
import json
from transformers import pipeline
pipe = pipeline("cardiac-analysis", model=sys.argv[1], trust_remote_code=True, device="cpu")
print("ANSWER", json.dumps(pipe(json.loads(sys.argv[2]))["hf_diagnosis"]))
"""


@pytest.mark.slow
def test_cells_and_resnet_travel_without_the_package(tmp_path):
    scales = fit_labs_scales(map(LabsText.from_row, ROWS))
    config = smallest_config(labs_scales=scales, labs_config=CELLS, ecg_config=RESNET)
    model, processor = TgmmModel(config).eval(), default_processor(config, tiny_tokenizer())
    model.save_pretrained(tmp_path / "tgmm")
    processor.save_pretrained(tmp_path / "tgmm")
    signal = make_heart(2500, 250).astype(np.float32)
    ecg = {"signal": signal.round(3).tolist(), "sampling_rate": 250, "lead_names": list(LEADS)}
    patient = {"labs": ROWS[0], "ecg": ecg}
    printed = run_without_package(CLEAN_PROCESS, tmp_path / "tgmm", json.dumps(patient), work=tmp_path)
    clean = json.loads(printed.partition("ANSWER ")[2])
    inputs = processor(labs=ROWS[0], ecg={**ecg, "signal": np.array(ecg["signal"])}, return_tensors="pt")
    with torch.no_grad():
        here = model(**inputs, task="hf_diagnosis").probabilities[0].tolist()
    assert list(clean["probabilities"].values()) == pytest.approx(here, abs=1e-5)


# ---- the ResNet


@pytest.fixture(scope="module")
def resnet() -> TgmmModel:
    torch.manual_seed(0)
    model = TgmmModel(smallest_config(ecg_config={**RESNET, "seq_length": 2250}))
    model.initialise_texts()
    return model.eval()


def test_the_resnet_takes_the_place_of_st_mem(resnet):
    batch = random_batch(resnet.config)
    assert isinstance(resnet.ecg_encoder, EcgResNetModel)
    with torch.no_grad():
        part = resnet.branches["ecg"].forward(batch["ecg_values"], batch["ecg_mask"])
        assert part.tokens.shape == (4, resnet.config.ecg_config.num_frames, 32) and part.token_mask.all()
        assert_close(part.summary, part.tokens.mean(1))
        answers = resnet(**batch, task=["hf_diagnosis", "hf_risk", "retrieval"]).by_task
    assert all(torch.isfinite(answers[name].logits).all() for name in ("hf_diagnosis", "hf_risk"))


def test_a_lead_that_cannot_be_used_counts_as_flat(resnet):
    batch = random_batch(resnet.config)
    batch["ecg_mask"][0, 3] = False
    other = {**batch, "ecg_values": batch["ecg_values"].clone()}
    other["ecg_values"][0, 3] = torch.nan
    assert_close(logits(resnet, batch), logits(resnet, other))


def test_the_tiny_resnet_reads_the_window_of_the_processor():
    config = TgmmConfig.tiny(ecg_config={"model_type": "ecg_resnet"})
    assert config.ecg_config.seq_length == TgmmConfig.tiny().ecg_config.seq_length
    assert TgmmConfig.from_dict(config.to_dict()).ecg_config.to_dict() == config.ecg_config.to_dict()


def test_the_tiny_convolutional_echo_encoder_reads_what_mvit_reads():
    """New weights of `pan_echo` take the clips of the default processor, so that prepared data serve both encoders."""
    config = TgmmConfig.tiny(echo_config={"model_type": "pan_echo"})
    assert TgmmConfig.from_dict(config.to_dict()).echo_config.preprocessing == {}
    tokenizer = tiny_tokenizer()
    images, usual = (default_processor(each, tokenizer).image_processor for each in (config, TgmmConfig.tiny()))
    assert images.to_dict() == usual.to_dict()
    config.tokenize_tasks(tokenizer)
    model = TgmmModel(config)
    answers: Any = model(**random_batch(config), task="hf_diagnosis")
    answers.logits.sum().backward()
    without = [name for name, weight in model.echo_encoder.named_parameters() if weight.grad is None]
    assert without == []


@pytest.fixture(scope="module")
def patient() -> dict[str, Any]:
    return {"ecg": {"signal": make_heart(5000, 500, 0), "sampling_rate": 500, "lead_names": list(LEADS)}}


def test_the_resnets_map_has_times_and_no_leads(resnet, patient):
    processor = default_processor(resnet.config, tiny_tokenizer())
    inputs = dict(processor(**patient, return_tensors="pt"))
    inputs["ecg_mask"][0, 2] = False
    score = PatientScore(resnet, inputs, question_of(resnet.config.tasks, "hf_diagnosis"))
    for method in ("grad_cam_plus_plus", "gradient_x_activation"):
        attribution = explain_ecg_tokens(score, 250.0, method)
        assert attribution.values.shape == (12, 2250) and np.isnan(attribution.values[2]).all()
        assert np.array_equal(attribution.values[0], attribution.values[11]) and attribution.values[0].std() > 0
        assert "no leads" in attribution.notes[0]
    with pytest.raises(ValueError, match="ecg_resnet"):
        explain_ecg_guided(score, 250.0)


@pytest.mark.slow
def test_the_resnet_is_explained_by_methods_that_can(resnet, patient):
    pytest.importorskip("captum")
    processor = default_processor(resnet.config, tiny_tokenizer())
    assert methods_of(resnet)["ecg"] == ecg_methods(resnet)
    explanation = explain(resnet, processor, patient, methods={"ecg": ecg_methods(resnet)})
    assert {each.method for each in explanation.attributions if each.modality == "ecg"} == set(ecg_methods(resnet))
    assert explain(resnet, processor, patient).attribution("ecg").method == "integrated_gradients"
    with pytest.raises(ValueError, match="token_integrated_gradients"):
        explain(resnet, processor, patient, methods={"ecg": ["token_integrated_gradients"]})
