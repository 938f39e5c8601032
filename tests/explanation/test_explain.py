"""The front door: one patient in, prediction, attributions and raw material out."""

import json

import numpy as np
import pytest
from transformers import pipeline

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.between_tasks import difference
from tgmm_hf.explanation.explain import METHODS, default_methods, explain, methods_of
from tgmm_hf.explanation.labs import sentences_of, write_text_plot
from tgmm_hf.explanation.slots import mean_of


@pytest.fixture(scope="module")
def explanation(model, processor, patient):
    pytest.importorskip("captum")
    return explain(model, processor, patient, methods=METHODS)


def test_it_explains_the_very_answer_of_the_pipeline(explanation, model, processor, patient):
    answer = pipeline("cardiac-analysis", model=model, processor=processor)(patient)
    probability = answer["hf_diagnosis"]["probabilities"]["heart failure"]
    explained = explanation.prediction["hf_diagnosis"]["probabilities"]["heart failure"]
    assert explained == pytest.approx(probability, abs=1e-6)
    for each in explanation.attributions:
        assert each.output == pytest.approx(np.log(probability / (1 - probability)), abs=1e-4)


def test_every_method_of_every_modality_is_there(explanation):
    given = {(each.modality, each.method) for each in explanation.attributions}
    assert given >= {(modality, name) for modality, names in METHODS.items() for name in names}
    assert {modality for modality, _ in given} == {"labs", "ecg", "echo", "modalities", "views", "slots"}


def test_it_is_plain_json(explanation):
    stored = json.loads(json.dumps(explanation.to_dict(), allow_nan=False))
    again = [Attribution.from_dict(each) for each in stored["attributions"]]
    assert [each.method for each in again] == [each.method for each in explanation.attributions]


def test_sums_that_a_method_promises_are_kept(explanation):
    for modality, method in (("labs", "shap"), ("modalities", "shapley"), ("views", "shapley")):
        assert explanation.attribution(modality, method).completeness_error < 1e-4
    error = explanation.attribution("ecg", "token_integrated_gradients")
    assert error.completeness_error < 0.1 * abs(error.output - error.baseline_output)


def test_absent_views_are_gaps(explanation, patient):
    values = explanation.attribution("echo", "grad_cam_plus_plus").values
    labels = explanation.attribution("echo").axes[0].labels
    assert {label for label, clip in zip(labels, values, strict=True) if not np.isnan(clip).any()} == set(
        patient["echo"]
    )


def test_the_material_is_in_physical_units(explanation, patient):
    material = explanation.material
    cell = next(cell for cell in material.labs if cell.name == "NTproBNP")
    assert (cell.number, cell.unit) == (5210, "pg/mL") and cell.is_known
    np.testing.assert_allclose(material.ecg.signal, patient["ecg"]["signal"], atol=1e-5)
    assert (material.ecg.sampling_rate, material.ecg.window_start, material.ecg.window_seconds) == (500, 0.5, 9.0)
    clip = material.echo["A4C"]
    assert clip.frames.shape[1:] == patient["echo"]["A4C"].shape[1:] and clip.box.side == 40


def test_only_what_is_there_is_explained(model, processor):
    explanation = explain(model, processor, {"labs": {"age": 60}}, task="hf_risk", methods={"labs": ["shap"]})
    assert {each.modality for each in explanation.attributions} == {"labs", "modalities", "slots"}
    assert explanation.attribution("labs").values[0] == pytest.approx(
        explanation.attribution("modalities").values[0], abs=1e-4
    )
    assert explanation.material.ecg is None


def test_a_patient_without_usable_input_has_no_attributions(model, processor):
    explanation = explain(model, processor, {"labs": {}})
    assert explanation.attributions == () and "hf_diagnosis" not in explanation.prediction


def test_an_unknown_method_is_named(model, processor, patient):
    with pytest.raises(ValueError, match="magic"):
        explain(model, processor, patient, methods={"ecg": ["magic"]})


def test_two_tasks_are_compared_by_their_shares(model, processor, patient, explanation):
    methods = {"ecg": ["grad_cam_plus_plus"]}
    risk = explain(model, processor, {"ecg": patient["ecg"]}, task="hf_risk", methods=methods).attribution("ecg")
    same = difference(risk, risk)
    assert np.nanmax(np.abs(same.values)) == 0
    other = difference(explanation.attribution("ecg", "grad_cam_plus_plus"), risk)
    assert other.task == "hf_diagnosis - hf_risk" and np.nansum(other.values) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="cannot be compared"):
        difference(explanation.attribution("labs"), risk)


def test_a_group_average_leaves_gaps_out(explanation):
    one = explanation.attribution("slots", "slot_attention")
    gap = Attribution.from_dict({**one.to_dict(), "values": np.full((7, 7), None).tolist()})
    np.testing.assert_allclose(mean_of([one, gap]).values, one.values)
    with pytest.raises(ValueError, match="cannot be averaged"):
        mean_of([one, explanation.attribution("slots", "gates")])


def test_shap_draws_the_cells_of_the_laboratory(explanation, processor, patient, tmp_path):
    pytest.importorskip("shap")
    sentences = sentences_of(processor, processor.labs_text(patient["labs"]))
    write_text_plot(tmp_path / "labs.html", explanation.attribution("labs", "shap"), sentences)
    page = (tmp_path / "labs.html").read_text()
    assert all(sentence in page for sentence in sentences)
    strongest = np.nanmax(np.abs(explanation.attribution("labs", "shap").values))
    assert f"{strongest:.3f}"[:-1] in page


def test_the_default_is_the_first_method_of_each_modality_unless_a_check_says_otherwise(model):
    assert default_methods(model) == {modality: (names[0],) for modality, names in methods_of(model).items()}
