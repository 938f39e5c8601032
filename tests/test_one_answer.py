"""One value gives one answer in every unit: over all columns of the lab table, through the pipeline."""

import pytest
import torch
from transformers import pipeline

import tgmm_hf
from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.tokenizer import task_texts, train_tokenizer
from tgmm_hf.inputs.lab_columns import unit_factors
from tgmm_hf.inputs.lab_table import COLUMNS

COLUMNS_OF_TWO_UNITS = [column for column in COLUMNS if column.is_number and len(unit_factors(column)) > 1]


@pytest.fixture(scope="module")
def pipe() -> tgmm_hf.TgmmCardiacPipeline:
    config = TgmmConfig.tiny()
    sentences = [f"{column.name} of the patient is 0.123456789" for column in COLUMNS]
    processor = tgmm_hf.default_processor(config, train_tokenizer([*sentences, *task_texts(config.tasks)]))
    config.tokenize_tasks(processor.tokenizer)
    torch.manual_seed(2)
    model = tgmm_hf.TgmmModel(config).eval()
    model.initialise_texts()
    return pipeline("cardiac-analysis", model=model, processor=processor, device="cpu")


def ways_to_write(column) -> list[dict]:
    """Write a normal value of a column in every unit that the column knows, the canonical unit first."""
    low, high = column.reference_range("F") or column.usual
    canonical = float(f"{(max(low, column.usual[0]) + min(high, column.usual[1])) / 2:.3g}")
    rows = [{column.name: (canonical, column.unit), "gender": "F"}]
    for unit, factor in unit_factors(column).items():
        if unit:
            number = float(f"{(canonical - column.offsets.get(unit, 0.0)) / factor:.12g}")
            rows.append({column.name: (number, unit), "gender": "F"})
    return rows


@pytest.mark.parametrize("column", COLUMNS_OF_TWO_UNITS, ids=lambda column: column.name)
def test_every_unit_gives_the_same_answer(pipe, column):
    rows = ways_to_write(column)
    assert len(rows) > 1
    first, *further = pipe([{"labs": row} for row in rows], batch_size=len(rows))
    assert column.name in first["used"]["labs"] and not first["refused"]
    probability = first["hf_diagnosis"]["probabilities"]["heart failure"]
    for answer in further:
        assert answer["hf_diagnosis"]["probabilities"]["heart failure"] == pytest.approx(probability, abs=1e-6)
    bare = pipe({"labs": {**rows[0], column.name: rows[0][column.name][0]}})
    if column.name in bare["used"]["labs"]:
        assert bare["hf_diagnosis"]["probabilities"]["heart failure"] == pytest.approx(probability, abs=1e-6)
    else:
        assert "labs_doubtful_unit" in [check["code"] for check in bare["checks"]]


def test_another_value_gives_another_answer(pipe):
    one, other = pipe([{"labs": {"Creatinine": (value, "mg/dL")}} for value in (0.9, 4.5)], batch_size=2)
    assert one["hf_diagnosis"] != other["hf_diagnosis"]
