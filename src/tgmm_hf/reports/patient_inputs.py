"""Read the inputs of one patient again, as the report shows them: lab cells, ECG in millivolts, frames of the clips."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tgmm_hf.explanation.material import ClipMaterial, ecg_material, echo_material
from tgmm_hf.inputs.ecg_recording import NORMALISED
from tgmm_hf.inputs.ecg_sheet import EcgTraces
from tgmm_hf.inputs.ecg_signal import as_recording, in_millivolts, standard_lead_names
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.processing_tgmm import TgmmProcessor
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
        clips: view -> frames, masked to the sector, of every view that the model reads.
        notes: why something that was given is not shown.
    """

    labs: LabsText | None = None
    ecg: EcgTraces | None = None
    clips: Mapping[str, ClipMaterial] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Name what was read: "sha256:" and 16 hex digits of cells, samples and frames. Equal data have equal names."""
        cells = {} if self.labs is None else self.labs.stored_values()
        digest = hashlib.sha256(json.dumps(cells, sort_keys=True).encode())
        if self.ecg is not None:
            digest.update(self.ecg.signal.astype("<f4").tobytes())
        for view in sorted(self.clips):
            digest.update(view.encode() + np.ascontiguousarray(self.clips[view].frames).tobytes())
        return f"sha256:{digest.hexdigest()[:16]}"


def read_inputs(
    processor: TgmmProcessor,
    patient: Mapping[str, Any],
    prediction: Mapping[str, Any],
    units: str | None = None,
    clips: Mapping[str, ClipMaterial] | None = None,
) -> PatientInputs:
    """Read what the report shows of a patient.

    Args:
        processor: of the model that answered.
        patient: as the pipeline takes it.
        prediction: what the pipeline answered. It says which clip fills which view.
        units: unit system of the laboratory, as `TgmmProcessor.__call__` takes it.
        clips: view -> frames, if they were read before; None reads them.
    """
    labs = None if patient.get("labs") is None else processor.labs_text(patient["labs"], units)
    ecg, notes = None, []
    if patient.get("ecg") is not None:
        try:
            ecg = ecg_traces(patient["ecg"], processor.feature_extractor, prediction)
        except InputRefusedError:
            notes.append(NOT_READABLE)
        else:
            notes += [NOT_IN_MILLIVOLTS] if ecg is None else []
    if clips is None:
        has_echo = bool(prediction["used"]["echo"])
        clips = echo_material(processor.image_processor, patient, prediction) if has_echo else {}
    return PatientInputs(labs, ecg, clips, tuple(notes))


def ecg_traces(ecg: Any, extractor: EcgFeatureExtractor, prediction: Mapping[str, Any]) -> EcgTraces | None:
    """Read a recording for the drawing: the recorded samples with their gaps, and the leads that the reader derives.

    Args:
        ecg: recording as the processor takes it.
        extractor: of the model. It says which part of the recording the model reads.
        prediction: says which leads the model uses, and why not the others.

    Returns:
        The traces; None if the recording is not in millivolts.

    Raises:
        InputRefusedError: if the recording cannot be read.
    """
    recording = as_recording(ecg)
    if recording.units == NORMALISED:
        return None
    names = standard_lead_names(recording)
    signal = np.full((len(LEADS), recording.signal.shape[1]), np.nan)
    for lead, values in zip(names, in_millivolts(recording), strict=True):
        signal[LEADS.index(lead)] = values
    used = prediction["used"]["ecg"]
    problems = {lead: reason for lead, reason in _reasons(prediction["notes"]).items() if lead not in used}
    if not used:
        return EcgTraces(signal, recording.sampling_rate, {lead: problems.get(lead, "") for lead in LEADS})
    material = ecg_material(extractor, recording)
    for index, lead in enumerate(LEADS):
        if lead not in names and material.mask[index]:
            signal[index] = material.signal[index]
    window = material.window_start, material.window_start + material.window_seconds
    return EcgTraces(signal, recording.sampling_rate, problems, window)


def _reasons(notes: Sequence[str]) -> dict[str, str]:
    """Return lead -> why it is not used, from the notes of a prediction."""
    matches = [re.fullmatch(r"ecg: lead (\w+) masked: (.*)", note) for note in notes]
    return {match[1]: match[2] for match in matches if match is not None}
