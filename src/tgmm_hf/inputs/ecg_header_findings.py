"""Find what the header of an ECG says against a resting twelve-lead ECG: kind of file, filters, electrodes."""

import math
import re
from collections.abc import Iterable
from typing import Any

from ..utils.errors import InputRefusedError
from .ecg_header_words import findings_of_words
from .ecg_recording import normalise_lead_name

LOWEST_HZ, HIGHEST_HZ = 1.0, 30.0
"""A filter that begins above LOWEST_HZ takes the ST segment away, one that ends below HIGHEST_HZ the QRS complex."""
OTHER_WAVEFORMS = ("EEG", "EMG", "EOG", "RESP", "AU", "POS")
"""Modalities of waveforms that are no ECG. Others (ECG, hemodynamic HD, electrophysiology EPS) may hold one."""
ECG_MODALITIES = ("", "ECG")
_WAVEFORM_CLASS = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.9\.(\d+\.\d+)")
"""Storage classes of waveforms."""
_OTHER_CLASSES = {
    "4.1": "voice", "4.2": "sound", "6.1": "respiration", "6.2": "respiration", "7.1": "EEG", "7.2": "EMG",
    "7.3": "EOG", "7.4": "EEG", "8.1": "body position",
}  # fmt: skip
"""End of a storage class -> its waveforms, which are no ECG."""
_MIXED_CLASSES = {"1.3": "ambulatory ECG", "2.1": "hemodynamic", "3.1": "electrophysiology", "5.1": "arterial pulse"}
"""End of a storage class -> its waveforms, which may hold a resting ECG too."""
_AVERAGE = re.compile(r"\b(?:median|average|averaged|mean|template|representative)\b", re.IGNORECASE)
"""Words of a Multiplex Group Label for a beat that was averaged."""
_PREFILTER = re.compile(r"\b(HP|LP)\s*[:=]\s*(\d{1,4}(?:\.\d{1,4})?)\s*HZ")
"""Ends of a filter in the header of an EDF file: "HP:0.05Hz LP:150Hz"."""
_TITLES = ("StudyDescription", "SeriesDescription", "ProtocolName", "PerformedProcedureStepDescription")


def refuse_other_waveforms(dataset: Any, item: str) -> None:
    """Refuse a file whose modality, or whose storage class beside no modality of an ECG, is another waveform.

    Args:
        dataset: pydicom `Dataset`.
        item: file name for the message.

    Raises:
        InputRefusedError: with the kind of waveform.
    """
    modality = _modality(dataset)
    if modality in OTHER_WAVEFORMS:
        raise InputRefusedError(item, f"modality {modality}: the waveforms are not an ECG")
    if modality != "ECG":
        for ending in _classes(dataset):
            if ending in _OTHER_CLASSES:
                raise InputRefusedError(
                    item, f"the storage class is {_OTHER_CLASSES[ending]} waveforms: the waveforms are not an ECG"
                )


def header_findings(
    dataset: Any, groups: list[Any], filters: tuple[float | None, float | None]
) -> list[dict[str, str]]:
    """Return what the header of a DICOM file says against a resting ECG, as entries of `EcgRecording.checks`.

    Args:
        dataset: pydicom `Dataset`.
        groups: the multiplex groups that are read.
        filters: as `filter_findings` takes them.
    """
    findings = []
    if any(_AVERAGE.search(str(group.get("MultiplexGroupLabel") or "")) for group in groups):
        text = "the label of the waveforms names an averaged beat: is this the recorded rhythm?"
        findings.append(_finding("ecg_averaged_beat", text))
    findings += filter_findings(*filters)
    modality = _modality(dataset)
    if modality not in ECG_MODALITIES:
        shown = modality if re.fullmatch("[A-Z]{2}|EPS", modality) else "of another name"
        text = f"the modality is {shown}, an ECG has modality ECG: make sure that the leads are an ECG"
        findings.append(_finding("ecg_modality", text))
    for ending in dict.fromkeys(_classes(dataset)):
        kind = _OTHER_CLASSES.get(ending) or _MIXED_CLASSES.get(ending)
        if kind is not None:
            text = f"the storage class is {kind} waveforms: make sure that the leads are an ECG at rest"
            findings.append(_finding("ecg_storage_class", text))
    if str(dataset.get("QualityControlSubject") or "").strip().upper() == "YES" or dataset.get(
        "PatientBreedDescription"
    ):
        text = "the header names a phantom of quality control or the breed of an animal: is this the ECG of a patient?"
        findings.append(_finding("ecg_not_a_patient", text))
    titles = [*(str(dataset.get(name) or "") for name in _TITLES), *_context_texts(dataset)]
    return findings + findings_of_words(_annotations(dataset), titles=titles)


def filter_findings(lowest: float | None, highest: float | None) -> list[dict[str, str]]:
    """Return a finding for each filter that takes away parts of the ECG that the model reads.

    Args:
        lowest: Hz, the highest lower end of the leads' filters; None if none is stated.
        highest: Hz, the lowest upper end of the leads' filters; None if none is stated.
    """
    texts = []
    if lowest is not None and lowest > LOWEST_HZ:
        texts.append(f"the header states a filter from {lowest:g} Hz on (at most {LOWEST_HZ:g} Hz is usual)")
    if highest is not None and 0 < highest < HIGHEST_HZ:
        texts.append(f"the header states a filter up to {highest:g} Hz (at least {HIGHEST_HZ:g} Hz is usual)")
    return [_finding("ecg_filter", text) for text in texts]


def filters_of_record(record: Any) -> tuple[float | None, float | None]:
    """Read the ends of the strictest filter (Hz) that the library found; None where the file states none.

    The library gives the filter of an EDF file only if all its signals have the same, so its text is read here.

    Args:
        record: the record of `ecgdatakit`.
    """
    ends: dict[str, list[float]] = {"HP": [], "LP": []}
    for lead in record.leads:
        text = getattr(lead, "prefiltering", "")
        if normalise_lead_name(lead.label) and isinstance(text, str):
            for end, number in _PREFILTER.findall(text.upper()):
                ends[end].append(float(number))
    filters = record.recording.acquisition.filters
    for end, value in (("HP", filters.highpass), ("LP", filters.lowpass)):
        if isinstance(value, int | float) and math.isfinite(value):
            ends[end].append(float(value))
    return max(ends["HP"], default=None), min(ends["LP"], default=None)


def _finding(code: str, text: str) -> dict[str, str]:
    return {"code": code, "item": "ecg", "text": text}


def _modality(dataset: Any) -> str:
    return str(dataset.get("Modality") or "").strip().upper()


def _classes(dataset: Any) -> list[str]:
    """List the ends of the storage classes of waveforms that data set and file meta information state."""
    meta = getattr(dataset, "file_meta", None)
    stated = [dataset.get("SOPClassUID"), None if meta is None else meta.get("MediaStorageSOPClassUID")]
    matches = [_WAVEFORM_CLASS.fullmatch(str(uid or "")) for uid in stated]
    return [match.group(1) for match in matches if match is not None]


def _annotations(dataset: Any) -> Iterable[str]:
    """Read the free texts that a recorder or a person wrote beside the waveforms, line by line."""
    for annotation in dataset.get("WaveformAnnotationSequence") or []:
        yield from str(annotation.get("UnformattedTextValue") or "").splitlines()


def _context_texts(dataset: Any) -> Iterable[str]:
    """Read the values of the acquisition context, such as the places of the electrodes, without their names."""
    for entry in dataset.get("AcquisitionContextSequence") or []:
        yield str(entry.get("TextValue") or "")
        for code in entry.get("ConceptCodeSequence") or []:
            yield str(code.get("CodeMeaning") or "")
