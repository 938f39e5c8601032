"""Lab cells as numbers: scales of the training rows, and which token belongs to which cell."""

import math

import numpy as np
import pytest

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.inputs.lab_scales import LARGEST, cell_inputs, check_labs_scales, fit_labs_scales, standardise
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.processing_tgmm import bert_cased_tokenizer, default_processor

ROWS = [
    {"Creatinine": 0.8, "gender": "F", "Lp(a)": (30.0, "nmol/L"), "medical history": "asthma; heart failure"},
    {"Creatinine": (124, "umol/L"), "gender": "M", "Lp(a)": (90.0, "nmol/L"), "Sodium": 139},
    {"Creatinine": "<0.5", "gender": "M", "Sodium": 139},
]


def read(row):
    return LabsText.from_row(row)


@pytest.fixture(scope="module")
def scales():
    return fit_labs_scales(map(read, ROWS))


@pytest.fixture(scope="module")
def processor(scales):
    config = TgmmConfig.tiny(labs_numbers=True, labs_scales=scales, labs_config={"vocab_size": 28996})
    return default_processor(config, bert_cased_tokenizer())


def by_name(scales):
    return {scale["column"]: scale for scale in scales}


def test_scales_are_those_of_the_training_rows_in_canonical_units(scales):
    creatinine = by_name(scales)["Creatinine"]
    values = np.arcsinh([0.8, 1.40, 0.5])
    assert creatinine["unit"] == "mg/dL"
    assert creatinine["mean"] == pytest.approx(values.mean(), abs=1e-4)
    assert creatinine["sd"] == pytest.approx(values.std(), abs=1e-4)
    assert by_name(scales)["Lp(a)"]["unit"] == "nmol/L"
    assert by_name(scales)["medical history"]["mean"] is None
    assert by_name(scales)["Sodium"]["sd"] == 1.0  # all values are equal


def test_a_column_of_ones_own_in_two_units_is_read_as_words():
    rows = [{"zinc": (80, "ug/dL")}, {"zinc": (12, "umol/L")}]
    assert by_name(fit_labs_scales(map(read, rows)))["zinc"]["mean"] is None


def test_a_column_of_ones_own_has_one_scale_from_a_csv_table_and_from_numbers():
    numbers, texts = [{"zinc": 80.5}, {"zinc": 92.0}], [{"zinc": "80.5"}, {"zinc": "92.0"}]
    assert fit_labs_scales(map(read, texts)) == fit_labs_scales(map(read, numbers))
    stored = [LabsText.from_stored(read(row).stored_values()) for row in texts]
    assert fit_labs_scales(stored) == fit_labs_scales(map(read, numbers))
    for words in ("007", "<80", "80 ug/dL", "high", "1" * 400):
        assert by_name(fit_labs_scales(map(read, [*texts, {"zinc": words}])))["zinc"]["mean"] is None


def test_values_far_out_are_cut():
    scale = {"column": "x", "unit": "", "mean": 0.0, "sd": 0.1}
    assert standardise(1e6, scale) == LARGEST and standardise(-1e6, scale) == -LARGEST


def test_the_same_value_in_another_unit_gives_the_same_inputs(processor):
    first, second = (processor(labs=[{"Creatinine": value}]) for value in ((1.40, "mg/dL"), (124, "umol/L")))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def cells_of(processor, row):
    """{cell id: (its tokens as text, value or None)} of one row."""
    inputs = processor(labs=[row])
    tokens = np.array(processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist()))
    result = {}
    for number in range(1, inputs["cell_ids"].max() + 1):
        chosen = inputs["cell_ids"][0] == number
        values, masks = set(inputs["cell_values"][0][chosen].tolist()), set(inputs["cell_mask"][0][chosen].tolist())
        assert len(values) == len(masks) == len(set(inputs["cell_columns"][0][chosen].tolist())) == 1
        text = processor.tokenizer.convert_tokens_to_string(tokens[chosen].tolist())
        result[text] = values.pop() if masks.pop() else None
    return result


def test_a_number_is_one_cell_and_each_history_item_is_one(processor, scales):
    cells = cells_of(processor, {"Creatinine": 1.4, "gender": "F", "medical history": "asthma; heart failure, bad"})
    number = standardise(1.4, by_name(scales)["Creatinine"])
    assert set(cells) == {"Creatinine of the patient is 1. 4", "F", "asthma", "heart failure", "bad"} or set(cells) == {
        "Creatinine of the patient is 1.4",
        "F",
        "asthma",
        "heart failure",
        "bad",
    }
    values = [value for value in cells.values() if value is not None]
    assert values == [pytest.approx(number, rel=1e-5)]


def test_the_comparator_of_a_limit_is_not_lost(processor, scales):
    limit, value = (cells_of(processor, {"Creatinine": given}) for given in ("<0.5", 0.5))
    assert "<" in limit and limit["<"] is None and "<" not in value
    assert [v for v in limit.values() if v is not None] == [v for v in value.values() if v is not None]


def test_a_missing_cell_has_no_token(processor):
    whole, part = (processor(labs=[row]) for row in (ROWS[1], {"gender": "M"}))
    assert whole["cell_ids"].max() == 4 and part["cell_ids"].max() == 1
    assert not part["cell_mask"].any()


def test_special_tokens_and_padding_belong_to_no_cell(processor):
    inputs = processor(labs=[ROWS[0], {"gender": "M"}, None])
    mask = inputs["attention_mask"].astype(bool)
    assert not inputs["cell_ids"][~mask].any() and not inputs["cell_mask"][~mask].any()
    assert not inputs["cell_ids"][:, 0].any()
    assert not inputs["cell_ids"][2].any()


def test_an_unknown_column_and_another_unit_are_not_used_and_named(processor):
    row = {"Creatinine": 1.4, "zinc": 80, "Lp(a)": (30, "mg/dL"), "Potassium": 4.0}
    _, (report,) = processor(labs=[row], return_report=True)
    assert report["used"]["labs"] == ["Creatinine"]
    notes = " ".join(report["notes"])
    assert "zinc" in notes and "Potassium" in notes
    assert "cell 3 of the row" in notes and "nmol/L" in notes  # a name of one's own may name the patient


def test_a_number_of_ones_own_column_that_came_as_text_is_read_as_a_number(processor, scales):
    cells = cells_of(processor, {"Lp(a)": ("30", "nmol/L")})
    assert list(cells.values()) == [pytest.approx(standardise(30.0, by_name(scales)["Lp(a)"]), rel=1e-5)]


@pytest.mark.parametrize("words", ["<30", "high", "30 nmol/L", "030"])
def test_words_in_ones_own_column_of_numbers_are_not_used_and_named(processor, words):
    row = {"Creatinine": 1.4, "Lp(a)": (words, "nmol/L")}
    _, (report,) = processor(labs=[row], return_report=True)
    assert report["used"]["labs"] == ["Creatinine"]
    assert any("cell 2 of the row is not used" in note and "numbers" in note for note in report["notes"])


def test_a_text_model_takes_columns_of_any_unit():
    labs = read({"Lp(a)": (30, "mg/dL")}).write(columns=["Lp(a)"])
    assert labs.used == ["Lp(a)"] and not labs.other_units


def test_scales_travel_with_the_processor(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = type(processor).from_pretrained(tmp_path)
    assert loaded.labs_scales == processor.labs_scales
    first, second = processor(labs=ROWS), loaded(labs=ROWS)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert set(loaded.model_input_names) >= set(first)


@pytest.mark.parametrize(
    "wrong",
    [
        "Creatinine",
        [{"column": "Creatinine"}],
        [{"column": "a", "unit": "", "mean": 0.0, "sd": 0.0}],
        [{"column": "a", "unit": "", "mean": math.nan, "sd": 1.0}],
        [{"column": "a", "unit": "", "mean": None, "sd": 1.0}],
        [{"column": "a", "unit": "", "mean": 0.0, "sd": 1.0}] * 2,
    ],
)
def test_wrong_scales_are_refused(wrong):
    with pytest.raises(ValueError, match="labs_scales"):
        check_labs_scales(wrong)


def test_every_token_of_a_text_is_in_at_most_one_cell_whatever_the_row(scales):
    labs = read(ROWS[2]).write(columns={scale["column"]: None for scale in scales})
    offsets = np.array([[[i, i + 1] for i in range(len(labs.text))]])
    ids = cell_inputs([labs], offsets, scales, "patient")["cell_ids"][0]
    # every character is a token here: the separator between two sentences is in no cell
    assert ids[labs.text.index("; ")] == 0
    runs = 1 + np.count_nonzero(np.diff(ids))
    assert runs >= len(labs.used)
