"""Read the inputs of one patient again, as the report shows them: lab cells, ECG in millivolts, frames of the clips."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.inputs.ecg_recording import NORMALISED, EcgRecording
from tgmm_hf.inputs.ecg_signal import as_recording, harmonise_recording, in_millivolts, samples_at, standard_lead_names
from tgmm_hf.inputs.echo_reading import list_echo_files
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.reports.ecg_paper import EcgTraces
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

NOT_IN_MILLIVOLTS = "The recording is not in millivolts, so it cannot be drawn on standard paper."
NOT_READABLE = "The recording cannot be read, so it is not drawn."


@dataclass(frozen=True)
class PatientInputs:
    """The inputs of one patient as the report shows them.

    Attributes:
        labs: the checked lab row; None without labs.
        ecg: the recording; None without one, and for one that cannot be drawn.
        clips: view -> (frames, height, width, 3) uint8 BGR, masked to the sector, of every view that the model reads.
        notes: why something that was given is not shown.
    """

    labs: LabsText | None = None
    ecg: EcgTraces | None = None
    clips: Mapping[str, NDArray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_inputs(
    processor: TgmmProcessor, patient: Mapping[str, Any], prediction: Mapping[str, Any], units: str | None = None
) -> PatientInputs:
    """Read what the report shows of a patient.

    Args:
        processor: of the model that answered.
        patient: as the pipeline takes it.
        prediction: what the pipeline answered. It says which clip fills which view.
        units: unit system of the laboratory, as `TgmmProcessor.__call__` takes it.
    """
    labs = None if patient.get("labs") is None else processor.labs_text(patient["labs"], units)
    ecg, notes = None, []
    if patient.get("ecg") is not None:
        try:
            ecg = ecg_traces(patient["ecg"], processor.feature_extractor, bool(prediction["used"]["ecg"]))
        except InputRefusedError:
            notes.append(NOT_READABLE)
        else:
            notes += [NOT_IN_MILLIVOLTS] if ecg is None else []
    clips = {}
    for entry in prediction["views"]:
        if entry["used"] and entry["view"] in prediction["used"]["echo"]:
            clip = clip_at(patient["echo"], entry["item"])
            clips[entry["view"]] = processor.image_processor.masked_frames(clip)
    return PatientInputs(labs, ecg, clips, tuple(notes))


def ecg_traces(ecg: Any, extractor: EcgFeatureExtractor, is_used: bool = True) -> EcgTraces | None:
    """Read a recording for the drawing: the recorded samples with their gaps, and the leads that the reader derives.

    Args:
        ecg: recording as the processor takes it.
        extractor: of the model. It says which part of the recording the model reads.
        is_used: False if the prediction refused the recording. All leads are then marked.

    Returns:
        The traces; None if the recording is not in millivolts.

    Raises:
        InputRefusedError: if the recording cannot be read.
    """
    recording = as_recording(ecg)
    if recording.units == NORMALISED:
        return None
    signal = np.full((len(LEADS), recording.signal.shape[1]), np.nan)
    names = standard_lead_names(recording)
    for lead, values in zip(names, in_millivolts(recording), strict=True):
        signal[LEADS.index(lead)] = values
    if not is_used:
        return EcgTraces(signal, recording.sampling_rate, dict.fromkeys(LEADS, "the recording was refused"))
    harmonised = harmonise_recording(
        recording, max_gap_seconds=extractor.max_gap_seconds, min_leads=extractor.min_leads
    )
    for index, lead in enumerate(LEADS):
        if lead not in names and harmonised.mask[index]:
            signal[index] = harmonised.signal[index]
    return EcgTraces(signal, recording.sampling_rate, _problems(harmonised), _window(recording, extractor))


def _problems(harmonised: Any) -> dict[str, str]:
    """Return lead -> reason for each lead of a `HarmonisedEcg` that the model does not use."""
    problems = {lead: "" for lead, usable in zip(LEADS, harmonised.mask, strict=True) if not usable}
    for note in harmonised.notes:
        if match := re.fullmatch(r"lead (\w+) masked: (.*)", note):
            problems[match[1]] = match[2]
    return problems


def _window(recording: EcgRecording, extractor: EcgFeatureExtractor) -> tuple[float, float]:
    """Return the start and the end, in seconds, of the part of a recording that the model reads for a prediction."""
    rate = extractor.sampling_rate
    start = extractor.start_positions(samples_at(recording.signal.shape[1], recording.sampling_rate, rate))[0]
    return start / rate, (start + extractor.num_samples) / rate


def clip_at(study: Any, item: str) -> Any:
    """Find the clip of a study by its position, such as "echo[3]", or by its view in a mapping.

    Args:
        study: directory, list of files, or mapping view -> clip.
        item: "item" of an entry of the prediction's "views".
    """
    if isinstance(study, Mapping):
        return study[item]
    match = re.fullmatch(r"echo\[(\d+)\]", item)
    if match is None:
        raise ValueError(f"{item!r} is not the position of a clip, such as 'echo[3]'")
    if isinstance(study, str | Path) and Path(study).is_dir():
        files: list[Any] = list(list_echo_files(study))
    else:
        files = [study] if isinstance(study, str | Path) else list(study)
    return files[int(match[1]) - 1]
