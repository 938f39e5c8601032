"""The raw inputs of one patient in physical units, as a report draws them beside the attributions.

Nothing here decides anything. The parts of the processor read the inputs a second time, up to the step before they are
scaled for the model.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tgmm_hf.inputs.ecg_signal import as_recording, harmonise_recording
from tgmm_hf.inputs.echo_study import clips_of_study
from tgmm_hf.inputs.image_processing_echo import CropBox
from tgmm_hf.inputs.lab_text import LabsText, gender_of


@dataclass(frozen=True)
class LabCellMaterial:
    """One cell of the lab text.

    Attributes:
        name: canonical column name.
        value: as the text has it.
        number: in the canonical unit; None for text and for limits such as "<0.01".
        unit: canonical unit, "" without one.
        reference_range: low and high end, None without a range.
        is_known: whether the column is one of the package's table.
        was_converted: whether the row gave another unit.
        unit_was_given: whether the row gave a unit.
        is_doubtful: whether the unit was assumed and other units are possible.
    """

    name: str
    value: str
    number: float | None
    unit: str
    reference_range: tuple[float, float] | None
    is_known: bool
    was_converted: bool
    unit_was_given: bool
    is_doubtful: bool


@dataclass(frozen=True)
class EcgMaterial:
    """The ECG before filters and scaling.

    Attributes:
        signal: (12, samples) mV in the order of `LEADS`; zeros for a lead that cannot be used.
        mask: (12,) bool, True for a usable lead.
        sampling_rate: Hz, of the recording itself.
        window_start: start of the model's window in seconds.
        window_seconds: length of the window.
    """

    signal: np.ndarray
    mask: np.ndarray
    sampling_rate: float
    window_start: float
    window_seconds: float


@dataclass(frozen=True)
class ClipMaterial:
    """The frames of one view that the model read.

    Attributes:
        frames: (frames, height, width, 3) uint8 RGB at the file's own size. All outside the ultrasound sector is
            black, because burned-in text may name the patient.
        box: the square that the model saw after crop and zoom.
    """

    frames: np.ndarray
    box: CropBox


@dataclass(frozen=True)
class Material:
    """Raw inputs of one patient. A modality that was not used is empty or None."""

    labs: tuple[LabCellMaterial, ...] = ()
    ecg: EcgMaterial | None = None
    echo: dict[str, ClipMaterial] = field(default_factory=dict)


def read_material(processor: Any, patient: Mapping[str, Any], report: Mapping[str, Any], labs: LabsText) -> Material:
    """Read the inputs of a patient that the model used.

    Args:
        processor: `TgmmProcessor`.
        patient: as the pipeline takes it.
        report: the processor's report about the patient.
        labs: the patient's lab row with its text.
    """
    used = report["used"]
    return Material(
        labs_material(labs) if used["labs"] else (),
        ecg_material(processor.feature_extractor, patient["ecg"]) if used["ecg"] else None,
        echo_material(processor.image_processor, patient, report) if used["echo"] else {},
    )


def labs_material(labs: LabsText) -> tuple[LabCellMaterial, ...]:
    """Describe the cells of a lab text, in its order."""
    gender = gender_of(labs.cells)
    return tuple(
        LabCellMaterial(
            name=cell.name,
            value=cell.value,
            number=None if cell.is_limit else cell.number,
            unit=cell.unit if cell.column is None else cell.column.unit,
            reference_range=None if cell.column is None else cell.column.reference_range(gender),
            is_known=cell.column is not None,
            was_converted=cell.was_converted,
            unit_was_given=bool(cell.unit),
            is_doubtful=bool(cell.other_units),
        )
        for cell in labs.cells
        if cell.name in labs.used
    )


def ecg_material(extractor: Any, ecg: Any) -> EcgMaterial:
    """Read an ECG in millivolts at its own sampling rate, and where the model's window (crop "center") lies."""
    recording = as_recording(ecg)
    options = {"max_gap_seconds": extractor.max_gap_seconds, "min_leads": extractor.min_leads}
    harmonised = harmonise_recording(recording, **options)
    resampled = extractor.harmonise(recording).signal.shape[1]
    return EcgMaterial(
        harmonised.signal,
        harmonised.mask,
        harmonised.sampling_rate,
        extractor.start_positions(resampled)[0] / extractor.sampling_rate,
        extractor.num_samples / extractor.sampling_rate,
    )


def echo_material(
    image_processor: Any, patient: Mapping[str, Any], report: Mapping[str, Any]
) -> dict[str, ClipMaterial]:
    """Read the frames of the clips that fill the view slots: view -> `ClipMaterial`."""
    study = patient["echo"]
    clips = [clip for _, clip in clips_of_study(study, patient.get("views") or {})[0]]
    material = {}
    for entry in report["views"]:
        if entry["used"]:
            number = re.fullmatch(r"echo\[(\d+)\]", entry["item"])
            clip = clips[int(number[1]) - 1] if number else study[entry["item"]]
            frames = image_processor.masked_frames(clip)[..., ::-1]
            material[entry["view"]] = ClipMaterial(
                frames, CropBox.of_centre(frames.shape[1], frames.shape[2], image_processor.zoom)
            )
    return material
