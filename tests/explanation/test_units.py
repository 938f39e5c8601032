"""Units of an input are hidden as they should be, and the measures of an order are right on toys."""

import numpy as np
import pytest
import torch

from tgmm_hf.explanation.echo import on_original_frame
from tgmm_hf.explanation.faithfulness import (
    SHARES,
    curves,
    evidence_effect,
    evidence_units,
    mean_along,
    order_of,
    pointing,
)
from tgmm_hf.explanation.labs import cells_of_tokens, explain_cells, sentences_of, token_gradients, used_cells
from tgmm_hf.explanation.randomised import rank_correlation, shuffled_copies
from tgmm_hf.explanation.units import Units, ecg_units, echo_units, lab_units, occlusion, to_units
from tgmm_hf.inputs.image_processing_echo import CropBox, EchoImageProcessor


def test_hiding_nothing_gives_the_score_of_the_patient(score, processor, labs):
    for units in (lab_units(score, processor, labs), ecg_units(score), echo_units(score)):
        number = int(units.present.sum())
        assert units.score(np.ones((1, number), bool))[0] == pytest.approx(score.output, abs=1e-4)


def test_a_hidden_cell_leaves_no_trace(model, processor, score, labs, inputs):
    units = lab_units(score, processor, labs)
    kept = np.ones((1, len(labs.used)), bool)
    kept[0, labs.used.index("Sodium")] = False
    row = {cell.name: cell.value for cell in labs.cells if cell.name != "Sodium"}
    fewer = dict(processor(labs=row, return_tensors="pt"))
    with torch.no_grad():
        logits = model(**{**inputs, **fewer}, task="hf_diagnosis").logits[0]
    assert units.score(kept)[0] == pytest.approx(float(logits[1] - logits[0]), abs=1e-4)


def test_hidden_regions_of_an_echo_have_the_mean_colour(model, inputs, score):
    units = echo_units(score)
    kept = np.random.default_rng(0).random((3, int(units.present.sum()))) < 0.5
    kept[1] = True
    kept[1, :20] = False  # the first view is hidden whole
    for row in kept:
        full = np.zeros(units.shape, np.float32)
        full[units.present] = row
        clips = inputs["pixel_values_videos"]
        shown = torch.from_numpy(full).repeat_interleave(clips.shape[-2] // full.shape[1], 1)
        shown = shown.repeat_interleave(clips.shape[-1] // full.shape[2], 2)[None, :, None, None]
        with torch.no_grad():
            logits = model(**{**inputs, "pixel_values_videos": clips * shown}, task="hf_diagnosis").logits[0]
        assert units.score(row[None])[0] == pytest.approx(float(logits[1] - logits[0]), abs=1e-4)


def test_cells_by_shap_sum_to_the_difference(score, processor, labs):
    attribution = explain_cells(score, processor, labs)
    without = score.of_subset(("ecg", "echo"))
    assert attribution.baseline_output == pytest.approx(without, abs=1e-4)
    assert attribution.values.sum() == pytest.approx(score.output - without, abs=1e-4)
    assert attribution.axes[0].labels == tuple(labs.used)


def test_every_token_of_a_sentence_belongs_to_its_cell(processor, labs):
    row = used_cells(labs)
    cells = cells_of_tokens(processor, row)
    text = processor.write_labs(row).text
    assert cells[0] is None and len(cells) == len(processor.tokenizer(text)["input_ids"])
    for number, sentence in enumerate(sentences_of(processor, row)):
        assert cells.count(number) == len(processor.tokenizer(sentence, add_special_tokens=False)["input_ids"])


def test_gradients_of_tokens_reach_every_token(score, inputs):
    assert token_gradients(score).shape == tuple(inputs["input_ids"].shape[1:])
    assert np.abs(token_gradients(score)).min() > 0


def test_a_map_returns_to_the_part_of_the_frame_that_the_model_saw():
    box = CropBox.of_centre(96, 128, EchoImageProcessor().zoom)
    assert (box.top, box.left, box.side) == (9, 25, 78)
    hot = np.zeros((8, 8))
    hot[0, 7] = 1
    frame = on_original_frame(hot, box, 96, 128)
    assert np.isnan(frame).sum() == 96 * 128 - 78 * 78
    assert frame[9, 25 + 77] == np.nanmax(frame) == 1
    assert frame[9, 25] == frame[9 + 77, 25 + 77] == 0


def test_values_are_summed_over_units():
    assert to_units(np.arange(8.0).reshape(2, 4), (2, 2)).tolist() == [[1, 5], [9, 13]]
    clip = np.ones((1, 2, 4, 4))
    clip[0, 0, 0, 0] = np.nan
    assert to_units(clip, (1, 2, 2)).tolist() == [[[7, 8], [8, 8]]]
    with pytest.raises(ValueError, match="do not divide"):
        to_units(np.zeros((2, 5)), (2, 2))


WEIGHTS = np.array([4.0, -1.0, 0.0, 2.0, 0.5, -3.0, 1.0, 0.25, 0.0, -0.5])


def additive() -> Units:
    return Units((10,), np.ones(10, bool), lambda kept: kept @ WEIGHTS + 1.0)


def test_occlusion_of_an_additive_score_is_its_weights():
    np.testing.assert_allclose(occlusion(additive()), WEIGHTS)


def test_the_true_order_deletes_and_inserts_better_than_any_random_one():
    random = np.random.default_rng(0)
    best, worst, *others = curves(
        additive(),
        [order_of(WEIGHTS, random), order_of(-WEIGHTS, random)] + [random.permutation(10) for _ in range(50)],
    )
    assert all(best.figures()["deletion"] <= each.figures()["deletion"] for each in (worst, *others))
    assert all(best.figures()["insertion"] >= each.figures()["insertion"] for each in (worst, *others))
    assert best.deletion[0] == best.insertion[-1] == WEIGHTS.sum() + 1 and best.deletion[-1] == 1
    assert mean_along(np.array(SHARES)) == pytest.approx(0.5)


def test_the_evidence_is_the_smallest_set_with_half_of_the_change():
    assert evidence_units(np.array([1.0, 5.0, 3.0, 1.0]), 0.5).tolist() == [False, True, False, False]
    assert evidence_units(np.array([1.0, 1.0, 0.0]), 0.5).tolist() == [True, False, False]
    assert evidence_units(np.array([1.0, 1.0, 0.0]), 1.0).tolist() == [True, True, False]


@pytest.mark.parametrize("weights", [[4.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]])
def test_the_effect_of_evidence_is_compared_with_that_of_as_many_other_units(weights):
    """A score that is a weighted sum: hiding a unit changes it by its weight."""
    units = Units((4,), np.ones(4, bool), lambda kept: kept @ np.array(weights))
    effect = evidence_effect(units, np.array([2.0, 0.0, 0.0, 0.0]), 1.0, np.random.default_rng(0))
    assert effect == {"evidence": weights[0], "other_units": 1.0}
    assert evidence_effect(units, np.zeros(4), 1.0, np.random.default_rng(0)) == {}
    assert evidence_effect(units, np.ones(4), 1.0, np.random.default_rng(0)) == {}


def test_pointing_and_mass_by_hand():
    evidence = np.array([True, False, False, True])
    figures = pointing(np.array([1.0, -4.0, 0.0, 3.0]), evidence)
    assert figures == {"pointing": 0.0, "mass": 0.5, "chance": 0.5}
    nothing = pointing(np.zeros(4), evidence)
    assert nothing["mass"] == nothing["chance"]


def test_shuffled_weights_change_the_parts_that_are_named(model):
    copies = shuffled_copies(model, seed=0)
    name = "labs_encoder.encoder.layer.0.attention.self.query.weight"
    original = model.get_parameter(name)
    assert torch.equal(copies["top"].get_parameter(name), original)
    assert not torch.equal(copies["all"].get_parameter(name), original)
    assert torch.equal(copies["all"].get_parameter(name).flatten().sort().values, original.flatten().sort().values)


def test_rank_correlation_ignores_the_sign():
    assert rank_correlation(np.array([1.0, -2.0, 3.0]), np.array([-1.0, 2.0, 30.0])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2.0]), np.array([5.0, 5.0])) == 0
