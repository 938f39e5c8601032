"""Description of the training inputs: fitted on prepared rows, stored in the processor of the trained model."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tgmm_hf.data.lab_rows import stored_labs
from tgmm_hf.inputs.ecg_summary import summarise_ecg
from tgmm_hf.inputs.echo_summary import summarise_clip
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.training_likeness import pack
from tgmm_hf.inputs.unlike_training import lab_numbers, trained_inputs
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.training.likeness_fit import collect, fit_likeness
from tgmm_hf.utils.names import MODALITIES, VIEWS

logger = logging.getLogger(__name__)
MOST_PATIENTS, MOST_CLIPS = 2000, 1500
"""Largest numbers of patients, and of clips, of a split that are described, because more would take minutes."""
UNITS = {"labs": "laboratory rows", "ecg": "recordings", "echo": "clips"}
"""What an input of a modality is called in a message."""
Described = dict[str, list[tuple[int, str, dict[str, float]]]]
"""Modality -> (patient, group, name -> value) of each input."""


def store_training_inputs(processor: TgmmProcessor, splits: Mapping[str, Any], weights: str | None) -> None:
    """Describe the training inputs of a model and put the description into its processor, in place.

    The description of an earlier training is replaced, or removed if there are too few patients for a new one.
    An error in the description is logged and not raised, because the finished training must be saved all the same.

    Args:
        processor: the processor of the trained model.
        splits: "train" and "validation" -> prepared rows with all columns.
        weights: id of the trained weights. With other weights the description is of an earlier training.
    """
    processor.training_inputs = None
    try:
        training, validation = (describe_rows(processor, splits[name]) for name in ("train", "validation"))
        content = {name: _fit(training[name], validation[name], UNITS[name]) for name in MODALITIES}
        described = {name: fitted for name, fitted in content.items() if fitted is not None}
        packed = pack({**described, "weights": weights}) if described else None
        trained_inputs(packed)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # hours of training would be lost
        logger.warning(
            "The training inputs could not be described (%s). The model is saved without a description, so its "
            "predictions compare no input with those of the training.",
            type(error).__name__,  # and not its text, which may hold a value of a patient
        )
        return
    processor.training_inputs = packed


def _fit(training: list[Any], validation: list[Any], unit: str) -> dict[str, Any] | None:
    """Fit the description of one modality; None if there are too few patients."""
    trained = collect(training)
    return fit_likeness(trained, collect(validation, trained.names), unit)


def describe_rows(processor: TgmmProcessor, rows: Any) -> Described:
    """Describe the inputs of prepared rows: of at most `MOST_PATIENTS` rows and about `MOST_CLIPS` clips.

    Args:
        processor: the processor that the rows were prepared for.
        rows: prepared rows with all columns, a `Dataset` or a list. Each is a patient.
    """
    described: Described = {name: [] for name in MODALITIES}
    size, rate = processor.image_processor.size, processor.feature_extractor.sampling_rate
    for patient, row in enumerate(_some(rows, "labs", "ecg", "ecg_mask")):
        if (labs := stored_labs(row)) and (numbers := lab_numbers(LabsText.from_stored(labs).cells)):
            described["labs"].append((patient, "", numbers))
        if (signal := np.asarray(row["ecg"], np.float32)).size:
            numbers = summarise_ecg(signal.T, np.asarray(row["ecg_mask"], bool), rate)
            described["ecg"] += [(patient, "", numbers)] if numbers else []
    for patient, row in enumerate(_some(rows, "clips", "clip_views", "clip_frames")):
        for view, frames, clip in zip(row["clip_views"], row["clip_frames"], row["clips"], strict=True):
            numbers = summarise_clip(np.asarray(clip, np.uint8).reshape(-1, size, size, 3), int(frames))
            described["echo"] += [(patient, VIEWS[int(view)], numbers)] if numbers else []
        if len(described["echo"]) >= MOST_CLIPS:  # all clips of a patient or none, because the worst one counts
            break
    return described


def _some(rows: Any, *columns: str) -> Iterable[Mapping[str, Any]]:
    """Yield columns of all rows of a split, or of `MOST_PATIENTS` rows that are spread over it.

    The other columns of a `Dataset` are not read, because reading clips takes long.
    """
    count = len(rows)
    places = range(count) if count <= MOST_PATIENTS else np.linspace(0, count - 1, MOST_PATIENTS).astype(int).tolist()
    chosen = rows.select_columns(list(columns)) if hasattr(rows, "select_columns") else rows
    return (chosen[place] for place in places)


__all__ = ["describe_rows", "store_training_inputs"]
