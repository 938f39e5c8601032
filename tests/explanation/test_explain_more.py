"""Explanations of MoRE: scores, maps, places, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from heart_signal import make_heart
from tiny_more import tiny_more_of_files
from xray_files import draw_chest, write_xray

from tgmm_hf import LEADS
from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.explain_more import ScoreRequest, explain_more
from tgmm_hf.explanation.more_maps import METHODS, on_leads, on_original_picture
from tgmm_hf.families.more.modeling_more_classification import MoreForClassification
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import write_json

XRAY = draw_chest(160, 120)
ECG = {"signal": make_heart(6000, 500, 1), "sampling_rate": 500, "lead_names": list(LEADS), "units": "mV"}
TEXT, OTHERS = "a large effusion", ("clear lungs", "sinus rhythm")


@pytest.fixture(scope="module")
def parts():
    return tiny_more_of_files()


@pytest.fixture(scope="module")
def explained(parts):
    return explain_more(*parts, {"xray": XRAY, "ecg": ECG}, ScoreRequest(TEXT, OTHERS), methods=METHODS)


def of(explained, modality: str, method: str) -> Attribution:
    return next(each for each in explained.attributions if (each.modality, each.method) == (modality, method))


def test_the_scores_are_the_models_cosines(parts, explained):
    model, processor = parts
    inputs = processor(xray=XRAY, ecg=ECG, return_tensors="pt")
    texts = processor(text=[TEXT, *OTHERS], return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs, **texts)
    for kind in ("xray", "ecg"):
        cosines = (output[f"{kind}_embeds"] @ output.text_embeds.T)[0]
        assert explained.scores[kind] == pytest.approx(float(cosines[0] - cosines[1:].mean()), abs=1e-5)
    assert explained.unit == "cosine" and explained.task == "similarity" and explained.target == TEXT


def test_every_method_gives_a_map_of_the_right_places(explained):
    found = {(each.modality, each.method) for each in explained.attributions}
    assert found == {(modality, method) for modality, methods in METHODS.items() for method in methods}
    for method in METHODS["xray"]:
        each = of(explained, "xray", method)
        assert each.values.shape == (2, 2) and np.isfinite(each.values).all() and each.values.any()
        assert [axis.step for axis in each.axes] == [80, 60] and each.axes[0].unit == "px"
    for method in METHODS["ecg_time"]:
        each = of(explained, "ecg_time", method)
        assert each.values.shape == (196,) and each.axes[0].step == pytest.approx(0.05) and each.values.any()
        assert each.axes[0].start == pytest.approx(0.1)  # the first token reads 0 to 250 ms
    leads = of(explained, "ecg", "integrated_gradients")
    assert leads.values.shape == (12, 1000) and leads.axes[0].labels == LEADS
    assert (of(explained, "xray", "gradient_attention").values >= 0).all()


@pytest.mark.parametrize(
    ("modality", "method"),
    [
        ("xray", "token_integrated_gradients"),
        ("ecg_time", "token_integrated_gradients"),
        ("ecg", "integrated_gradients"),
    ],
)
def test_integrated_gradients_sum_to_the_difference_from_the_baseline(explained, modality, method):
    each = of(explained, modality, method)
    kind = "xray" if modality == "xray" else "ecg"
    assert each.output == pytest.approx(explained.scores[kind]) and each.unit == "cosine"
    difference = abs(each.values.sum() - (each.output - each.baseline_output))
    assert each.completeness_error == pytest.approx(difference, abs=1e-6)
    assert each.completeness_error < 0.2 * abs(each.output - each.baseline_output) + 0.02


def test_leads_have_the_order_of_the_package_whatever_the_model_reads(parts, explained):
    model, processor = parts
    turned = list(LEADS[::-1])
    processor.feature_extractor.lead_order = turned
    try:
        with torch.no_grad():
            model.ecg_encoder.embeddings.conv1.weight.copy_(model.ecg_encoder.embeddings.conv1.weight.flip(1))
        other = explain_more(model, processor, {"ecg": ECG}, ScoreRequest(TEXT, OTHERS))
    finally:
        processor.feature_extractor.lead_order = None
        with torch.no_grad():
            model.ecg_encoder.embeddings.conv1.weight.copy_(model.ecg_encoder.embeddings.conv1.weight.flip(1))
    expected = of(explained, "ecg", "integrated_gradients").values
    np.testing.assert_allclose(of(other, "ecg", "integrated_gradients").values, expected, atol=1e-5)


def test_a_patch_lies_over_its_pixels_of_the_original_picture(explained):
    each = of(explained, "xray", "gradient_attention")
    values = np.zeros((4, 4))
    values[1, 2] = 1
    spread = on_original_picture(Attribution("xray", "m", "t", "x", values, each.axes, "relative", "", 0.0), (160, 120))
    assert spread.shape == (160, 120) and spread[60, 75] > 0.95
    rows, columns = np.nonzero(spread > 0.5)
    assert rows.min() >= 38 and rows.max() <= 81 and columns.min() >= 58 and columns.max() <= 91
    assert on_leads(of(explained, "ecg_time", "attn_lrp")).values.shape == (12, 196)


def test_an_explanation_is_json_and_the_model_is_left_as_it_was(parts, explained):
    json.dumps(explained.to_dict())
    model = parts[0]
    assert any(parameter.requires_grad for parameter in model.xray_encoder.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_finding_is_explained_by_its_logit_beside_the_other_input(parts):
    _, processor = parts
    model, _ = tiny_more_of_files()
    config = model.config.__class__.from_dict({**model.config.to_dict(), "num_labels": 2})
    config.id2label, config.label2id = {0: "oedema", 1: "effusion"}, {"oedema": 0, "effusion": 1}
    torch.manual_seed(0)
    classifier = MoreForClassification(config).eval()
    classifier.more.load_state_dict(model.state_dict())
    both = {"xray": XRAY, "ecg": ECG}
    explained = explain_more(classifier, processor, both, ScoreRequest(finding="effusion"))
    with torch.no_grad():
        logit = float(classifier(**processor(**both, return_tensors="pt")).logits[0, 1])
    assert explained.scores == {"xray": pytest.approx(logit, abs=1e-4), "ecg": pytest.approx(logit, abs=1e-4)}
    assert explained.unit == "log-odds" and explained.task == "findings"
    alone = explain_more(classifier, processor, {"xray": XRAY}, ScoreRequest(finding="effusion"))
    with torch.no_grad():
        logit = float(classifier(**processor(xray=XRAY, return_tensors="pt")).logits[0, 1])
    assert alone.scores == {"xray": pytest.approx(logit, abs=1e-4)}
    with pytest.raises(ValueError, match="oedema, effusion"):
        explain_more(classifier, processor, both, ScoreRequest(finding="fracture"))
    with pytest.raises(TgmmError, match="no MoreForClassification"):
        explain_more(model, processor, both, ScoreRequest(finding="effusion"))


def test_an_input_that_cannot_be_used_is_refused_and_the_other_is_explained(parts, tmp_path: Path):
    hand = write_xray(tmp_path / "hand.dcm", BodyPartExamined="HAND")
    explained = explain_more(*parts, {"xray": hand, "ecg": ECG}, ScoreRequest(TEXT))
    assert set(explained.scores) == {"ecg"} and "HAND" in explained.report["refused"][0]["reason"]
    nothing = explain_more(*parts, {"xray": hand}, ScoreRequest(TEXT))
    assert nothing.scores == {} and nothing.attributions == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({}, "either"), ({"text": "a", "finding": "b"}, "either"), ({"finding": "b", "against": ("c",)}, "finding")],
)
def test_questions_that_make_no_sense_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        ScoreRequest(**arguments)


def test_unknown_methods_and_empty_texts_are_refused(parts):
    for methods in ({"xray": ["magic"]}, {"labs": ["shap"]}):
        with pytest.raises(ValueError, match="known are"):
            explain_more(*parts, {"xray": XRAY}, ScoreRequest(TEXT), methods=methods)
    with pytest.raises(ValueError, match="empty"):
        explain_more(*parts, {"xray": XRAY}, ScoreRequest(" "))


def test_the_check_beside_a_model_chooses_the_method(tmp_path: Path):
    model, processor = tiny_more_of_files()
    model.save_pretrained(tmp_path)
    saved = type(model).from_pretrained(tmp_path)
    passes = {"beats_random": True, "depends_on_weights": True}
    entries = {"attn_lrp": {**passes, "deletion_gain": {"mean": 1.0}}}
    entries["gradient_attention"] = {"beats_random": False, "depends_on_weights": True, "deletion_gain": {"mean": 2.0}}
    settings = {"task": "similarity", "weights": saved.config.weights_fingerprint["id"]}
    write_json(tmp_path / "explanation_check.json", {"settings": settings, "modalities": {"xray": entries}})
    (found,) = explain_more(saved, processor, {"xray": XRAY}, ScoreRequest(TEXT)).attributions
    assert found.method == "attn_lrp" and found.notes[-1] == "verified: true"
    methods = {"xray": ["gradient_attention"]}
    (failed,) = explain_more(saved, processor, {"xray": XRAY}, ScoreRequest(TEXT), methods=methods).attributions
    assert failed.notes[-1] == "verified: false"
