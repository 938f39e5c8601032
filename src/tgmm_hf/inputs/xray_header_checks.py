"""Find what the header of an X-ray says against a frontal picture of a chest that is made for reading."""

import re
from typing import Any

import numpy as np

FRONTAL_OR_UNSTATED = ("PA", "AP", "")
PICTURE_TEXTS = (
    *("SeriesDescription", "ProtocolName", "ImageComments"),
    *("AcquisitionDeviceProcessingDescription", "PerformedProcedureStepDescription"),
)
"""Elements with text about one picture, or about the step that made it."""
STUDY_TEXTS = ("StudyDescription", "RequestedProcedureDescription", "StudyComments")
"""Elements with text about all pictures of a study. They count where no text of the picture names the chest."""
_CHEST = re.compile(
    r"\bchest|\bCXR\b|\bthora(?!cic spine)|\btora[xc]|\bt[oó]rax|"
    r"\blungs?\b|\bpulmo|\bheart\b|\bribs?\b|\bstern|\bCHST\b|\bcardiac\b",
    re.IGNORECASE,
)
_OTHER_PART = re.compile(
    r"\b(?:abdomen|abdominal|KUB|ankles?|forearms?|calcaneus|clavicles?|coccyx|elbows?|femurs?|fingers?|foot|feet|hands?|"
    r"hips?|humerus|knees?|legs?|mandible|orbits?|patella|pelvis|scapula|shoulders?|skull|spines?|lumbar|cervical|sacrum|"
    r"thumbs?|tibia|toes?|wrists?|mammogra\w+|teeth)\b",
    re.IGNORECASE,
)
"""Words for parts of the body that do not show the lungs. "Arm", "head" and "neck" are left out, because headers say
"C-arm" and "head of the bed"."""
_NO_PART = re.compile(
    r"\bhand\W?off\b|\bankle\s+monitor\b|\bfoot\s+end\b|(?:\d|\bsix|\bfive)\s*(?:feet|foot)\b|\bteeth\s+out\b|\bcervical\s+collar\b|\bspine\s+board\b|"
    r"\b(?:hands?|elbows?|shoulders?|knees?|legs?|feet)\s+"
    r"(?:on\s+(?:the\s+)?hips?|up|down|raised|rolled|forward|bent|crossed|apart|above|over|behind)\b",
    re.IGNORECASE,
)
"""Distances, positions and things that only sound like a part of the body."""
_PHANTOM = re.compile(
    r"\bphantoms?\b(?!\W+(?:limb|pain))|\btest (?:pattern|image)\b|\b(?:QC|quality control) test\b|"
    r"^\W*(?:(?:daily|weekly|monthly)\W+)?(?:QC|quality control)\W*$",
    re.IGNORECASE,
)
"""A phantom or a test. QC beside other words says who looked at the picture."""
_OTHER_VIEW = re.compile(
    r"\blat(?:eral)?\b(?!\W+(?:marker|costo\w*|cp|angle|recess|border|margin|sinus)\b)|\boblique\b|\bdecub\w*|\bseitlich",
    re.IGNORECASE,
)
_FRONTAL_VIEW = re.compile(r"\b(?:PA|AP|frontal|postero\W?ant\w+|antero\W?post\w+)\b|\bp\.a\.|\ba\.p\.", re.IGNORECASE)
_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
"""Storage class of digital X-rays as the detector gives them."""
MAX_ASPECT = 1.02
"""Largest ratio of a pixel's sides that counts as square, because headers round."""


def header_checks(dataset: Any, view: str) -> list[dict[str, str]]:
    """Return findings {"code", "text"} on words, body region, intent, shape of the pixels and grey scale of a header.

    Args:
        dataset: pydicom `Dataset`.
        view: of `view_of`; "" where the header states none.
    """
    texts = {
        "xray_body_part": _part_text(dataset),
        "xray_view": _view_text(dataset, view),
        "xray_phantom": _phantom_text(dataset),
        "xray_for_processing": _intent_text(dataset),
        "xray_inverse": _inverse_text(dataset),
        "pixel_aspect": _aspect_text(dataset),
    }
    return [{"code": code, "text": text} for code, text in texts.items() if text]


def field_of_view_notes(dataset: Any) -> list[str]:
    """Note a picture that was turned or mirrored against the detector where nothing states how it lies.

    Devices turn pictures so that they are upright, so this is no finding. PatientOrientation says how the result lies.
    """
    is_turned = str(dataset.get("FieldOfViewRotation") or "0").strip() not in ("0", "0.0", "360")
    is_flipped = str(dataset.get("FieldOfViewHorizontalFlip") or "").strip().upper() == "YES"
    if dataset.get("PatientOrientation") or not (is_turned or is_flipped):
        return []
    return ["the header says that it was turned or mirrored after exposure, and not how it lies now: look at it once"]


def stored_checks(dataset: Any, stored: np.ndarray) -> list[dict[str, str]]:
    """Return a finding {"code", "text"} if pixel values use bits that the header does not give them.

    Args:
        dataset: pydicom `Dataset` with pixels.
        stored: (height, width), as decoded.
    """
    bits, is_signed = int(dataset.BitsStored), bool(int(dataset.get("PixelRepresentation") or 0))
    has_overlay = any(element.tag.group & 0xFF01 == 0x6000 and element.tag.element == 0x0102 for element in dataset)
    if has_overlay or bits >= int(dataset.BitsAllocated):
        return []
    values = _raw(dataset, stored)
    if is_signed:
        is_wrong = values is not None and bool(((values >> (bits - 1)) & 1 & ~(values >> bits)).any())
    else:
        is_wrong = bool(((stored if values is None else values) >> bits).any())
    if not is_wrong:
        return []
    kind = "signed " if is_signed else ""
    fit = "may not fit" if is_signed else "do not fit"  # some devices leave the upper bits of signed pixels at zero
    text = f"pixels {fit} the {bits} {kind}bits that the header states (BitsStored): are the grey values right?"
    return [{"code": "xray_bits", "text": text}]


def _raw(dataset: Any, stored: np.ndarray) -> np.ndarray | None:
    """Read all bits of uncompressed pixels of 16 bits, because the decoder clears the upper ones; None for others."""
    data = dataset.PixelData
    if dataset["PixelData"].is_undefined_length or int(dataset.BitsAllocated) != 16 or len(data) < 2 * stored.size:
        return None
    order = "<" if dataset.original_encoding[1] is not False else ">"
    return np.frombuffer(data[: 2 * stored.size], f"{order}u2")


def _text_of(dataset: Any, names: tuple[str, ...]) -> list[str]:
    """Read the texts of some elements that are not empty."""
    return [text for name in names if (text := str(dataset.get(name) or "").strip())]


def _part_text(dataset: Any) -> str:
    regions = [str(code.get("CodeMeaning") or "") for code in dataset.get("AnatomicRegionSequence") or []]
    of_picture, of_study = _text_of(dataset, PICTURE_TEXTS), _text_of(dataset, STUDY_TEXTS)
    if any(_CHEST.search(text) for text in of_picture):
        of_study = []
    for text in (*regions, *of_picture, *of_study):
        if _OTHER_PART.search(_NO_PART.sub(" ", text)) and not _CHEST.search(text):
            return "a text of the header names another part of the body than the chest: is this a chest X-ray?"
    return ""


def _view_text(dataset: Any, view: str) -> str:
    if view not in FRONTAL_OR_UNSTATED:
        return ""
    for text in _text_of(dataset, PICTURE_TEXTS):
        if _OTHER_VIEW.search(text) and not _FRONTAL_VIEW.search(text):
            used = f"the view is {view} by the header" if view else "the header states no view"
            return f"{used}, but a text of the header names a lateral, oblique or decubitus one: which one is right?"
    return ""


def _phantom_text(dataset: Any) -> str:
    is_named = any(_PHANTOM.search(text) for text in _text_of(dataset, PICTURE_TEXTS + STUDY_TEXTS))
    return "the header names a phantom or a test picture: is this an X-ray of a patient?" if is_named else ""


def _intent_text(dataset: Any) -> str:
    intent = " ".join(str(dataset.get("PresentationIntentType") or "").upper().split())
    if intent == "FOR PROCESSING" or str(dataset.get("SOPClassUID") or "") == _FOR_PROCESSING:
        return "the header calls it FOR PROCESSING: these are the detector's values; take the picture FOR PRESENTATION"
    return ""


def _inverse_text(dataset: Any) -> str:
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    if shape == "INVERSE" and str(dataset.PhotometricInterpretation) == "MONOCHROME2":
        return (
            "PresentationLUTShape is INVERSE, which belongs to MONOCHROME1, but the header states MONOCHROME2; it was "
            "read as MONOCHROME2: is air dark?"
        )
    return ""


def _aspect_text(dataset: Any) -> str:
    for name in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing"):
        value = dataset.get(name)
        try:
            height, width = (float(side) for side in value or [])
        except (TypeError, ValueError):
            continue
        if height > 0 and width > 0 and not 1 / MAX_ASPECT <= height / width <= MAX_ASPECT:
            return f"a pixel is {height / width:.3g} times as high as wide by the header ({name}): export square pixels"
    return ""
