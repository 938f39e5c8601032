"""How much each lab cell contributed: SHAP over whole cells, and a fast gradient method.

SHAP (Lundberg and Lee 2017) takes whole cells away. The text of the other cells is written anew, so that it keeps its
form and a missing cell leaves no trace, as in training.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tgmm_hf.explanation.activations import captured, input_gradients
from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.scoring import PatientScore
from tgmm_hf.explanation.shapley import sampled_shapley_values, shapley_values, subsets_of
from tgmm_hf.inputs.lab_scales import cell_inputs, cell_spans
from tgmm_hf.inputs.lab_text import SEPARATOR, LabsText, gender_of
from tgmm_hf.inputs.optional_packages import require_package
from tgmm_hf.layers.cell_inputs import is_cell_encoder
from tgmm_hf.utils.files import write_text
from tgmm_hf.utils.names import CELL_ARGUMENTS

EXACT_CELLS = 8
"""Largest number of cells for exact values over all 2^n subsets. With more cells random orders are drawn."""
ORDERS = 10
"""Random orders of the cells, each walked forwards and backwards."""
BATCH_SIZE = 64
NO_CELL = "a row without any cell; ECG and echo stay as they are"
NO_EMBEDDING = "word embeddings of zero"


def used_cells(labs: LabsText) -> LabsText:
    """Return a row that holds only the cells of the text, so that no other cell moves in when one is taken away."""
    return LabsText([cell for cell in labs.cells if cell.name in labs.used])


def score_cells(patient: PatientScore, processor: Any, labs: LabsText) -> Callable[[np.ndarray], np.ndarray]:
    """Make the function from kept cells (n, cells) bool to scores (n,).

    Args:
        patient: the patient.
        processor: `TgmmProcessor`, which writes and tokenises the text.
        labs: the row, as `used_cells` returns it.
    """

    @torch.no_grad()
    def scores(kept: np.ndarray) -> np.ndarray:
        rows = [
            processor.write_labs(LabsText([c for c, keep in zip(labs.cells, row, strict=True) if keep])) for row in kept
        ]
        parts = []
        for start in range(0, len(rows), BATCH_SIZE):
            tensors = _tensors(patient, processor, rows[start : start + BATCH_SIZE])
            parts.append(patient.with_inputs("labs", **tensors).double().cpu().numpy())
        return np.concatenate(parts)

    return scores


def _tensors(patient: PatientScore, processor: Any, rows: Sequence[LabsText]) -> dict[str, torch.Tensor]:
    """Make the model's inputs of lab rows with their texts. Rows whose texts are all empty have a masked token."""
    arrays = processor.encode_labs(rows) or processor.tokenize([row.text for row in rows])
    if processor.labs_scales is not None and CELL_ARGUMENTS[0] not in arrays:
        arrays |= cell_inputs(
            rows, np.zeros((*arrays["input_ids"].shape, 2)), processor.labs_scales, processor.labs_object
        )
    return {name: torch.from_numpy(array).to(patient.model.device) for name, array in arrays.items()}


def explain_cells(patient: PatientScore, processor: Any, labs: LabsText, seed: int = 0) -> Attribution:
    """Attribute the score to lab cells by SHAP, given the other modalities.

    Args:
        patient: the patient.
        processor: `TgmmProcessor`.
        labs: the patient's row with its text, as `processor.labs_text` returns it.
        seed: seed of the permutations.

    Returns:
        One value per cell of the text, in its order. They sum to the score minus the score without labs.
    """
    row = used_cells(labs)
    number = len(row.cells)
    scores = score_cells(patient, processor, row)
    if number <= EXACT_CELLS:
        by_subset = scores(subsets_of(number))
        values, whole, empty = shapley_values(by_subset), float(by_subset[-1]), float(by_subset[0])
        note = f"exact over all {2**number} subsets of the cells"
    else:
        values, errors, whole, empty = sampled_shapley_values(scores, number, ORDERS, seed)
        note = (
            f"mean over {ORDERS} random orders of the {number} cells, each in both directions; largest standard error "
            f"{errors.max():.2g}"
        )
    ends = {"output": whole, "baseline_output": empty, "summed": True}
    return patient.attribution("labs", "shap", values, _cells(row), baseline=NO_CELL, notes=(note,), **ends)


def token_gradients(patient: PatientScore) -> np.ndarray:
    """Compute gradient x input of the embeddings, summed over their width: (tokens,).

    They are the word embeddings, with the numbers that a model adds to them. For an encoder of cells they are the
    tokens of the summary and of the cells.
    """
    names = ("input_ids", "attention_mask", *CELL_ARGUMENTS)
    inputs = {name: patient.inputs[name] for name in names if name in patient.inputs}
    model = patient.model
    if is_cell_encoder(model.config.labs_config):
        return _cell_gradients(patient, inputs)
    layer = model.labs_numbers if model.config.labs_numbers else model.get_input_embeddings()
    with input_gradients(model), captured(layer) as kept:
        activations, gradients = kept.with_gradients(patient.with_inputs("labs", **inputs)[0])
    return (gradients * activations).sum(-1)[0].double().cpu().numpy()


def _cell_gradients(patient: PatientScore, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """Compute gradient x input of the tokens of an encoder of cells: (1 + cells and items,), the summary first."""
    with input_gradients(patient.model), captured(patient.model.labs_encoder.embeddings.norm) as kept:
        activations, gradients = kept.with_gradients(patient.with_inputs("labs", **inputs)[0])
    return (gradients * activations).sum(-1)[0].double().cpu().numpy()


def explain_cells_by_gradient(patient: PatientScore, processor: Any, labs: LabsText) -> Attribution:
    """Attribute the score to lab cells by gradient x input, summed over the tokens of each cell.

    It needs one forward and one backward pass. The values do not sum to the score. Arguments as in `explain_cells`.
    """
    row = used_cells(labs)
    if is_cell_encoder(patient.model.config.labs_config):
        spans = cell_spans(processor.write_labs(row), processor.labs_scales, processor.labs_object)
        cell_of_token = [None, *(span.cell for span in spans)]
    else:
        cell_of_token = cells_of_tokens(processor, row)
    values = np.zeros(len(row.cells))
    for cell, value in zip(cell_of_token, token_gradients(patient), strict=False):
        if cell is not None:
            values[cell] += value
    return patient.attribution("labs", "gradient_x_input", values, _cells(row), baseline=NO_EMBEDDING)


def explain_tokens(patient: PatientScore, processor: Any, labs: LabsText) -> Attribution:
    """Attribute the score to the tokens of the lab text by gradient x input. Arguments as in `explain_cells`.

    Raises:
        ValueError: if the labs encoder reads cells and not the tokens of the text.
    """
    if is_cell_encoder(patient.model.config.labs_config):
        raise ValueError(
            "The labs encoder lab_cells has one token for each cell and none for words. Explain the cells: "
            "explain_cells or explain_cells_by_gradient."
        )
    text = processor.write_labs(used_cells(labs)).text
    tokens = processor.tokenizer.convert_ids_to_tokens(processor.tokenize([text])["input_ids"][0].tolist())
    values, axes = token_gradients(patient)[: len(tokens)], (Axis("token", tuple(tokens)),)
    return patient.attribution("labs", "gradient_x_input", values, axes, baseline=NO_EMBEDDING)


def _cells(row: LabsText) -> tuple[Axis]:
    """Return the axes of values per cell."""
    return (Axis("cell", tuple(cell.name for cell in row.cells)),)


def cells_of_tokens(processor: Any, row: LabsText) -> list[int | None]:
    """Find the cell that each token of the row's text belongs to; None for special tokens and separators."""
    text = processor.write_labs(row).text
    ends, position = [], 0
    for sentence in sentences_of(processor, row):
        ends.append((position, position + len(sentence)))
        position += len(sentence) + len(SEPARATOR)
    encoded = processor.tokenizer(text, return_offsets_mapping=True, split_special_tokens=True, verbose=False)
    return [
        next((cell for cell, (start, end) in enumerate(ends) if start <= first and last <= end and last > first), None)
        for first, last in encoded["offset_mapping"]
    ]


def sentences_of(processor: Any, row: LabsText) -> list[str]:
    """Write the sentence of each cell as it stands in the text of the row."""
    gender = gender_of(row.cells)
    options = processor.labs_object, gender, processor.labs_flags, processor.labs_units
    return [cell.sentence(*options) for cell in row.cells]


def write_text_plot(path: Path, attribution: Attribution, sentences: Sequence[str]) -> None:
    """Write SHAP's text plot of lab cells as an HTML file (paper, figure 9 a).

    Args:
        path: file to write, whole or not at all.
        attribution: the result of `explain_cells`.
        sentences: the sentence of each cell, as `sentences_of` returns them.

    Raises:
        ImportError: without the package shap (extra `explain`).
    """
    try:  # here, because the import takes seconds
        import shap
    except ImportError:
        shap = None
    require_package(shap, "shap", "drawing SHAP's text plot")
    explanation = shap.Explanation(
        values=attribution.values,
        base_values=attribution.baseline_output,
        data=np.array([f"{sentence}{SEPARATOR}" for sentence in sentences]),
        output_names=[attribution.target],
    )
    page = shap.plots.text(explanation, display=False)
    write_text(path, f'<!doctype html><meta charset="utf-8"><title>SHAP</title>{page}')
