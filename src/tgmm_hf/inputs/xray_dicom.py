"""Decode chest X-rays that lie in DICOM files (CR, DX): header, view, grey values as a viewer shows them."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..utils.errors import InputRefusedError
from .dicom_files import refuse_animal
from .echo_decoders import decode_frames
from .echo_dicom import declared_frames, transfer_syntax
from .input_limits import LIMITS, InputLimits
from .optional_packages import LatePackage, require_package
from .xray_header_checks import field_of_view_notes, header_checks, stored_checks

processing: Any = LatePackage("pydicom.pixels.processing")

FRONTAL = ("PA", "AP")
"""Views that the model was trained on."""
OTHER_VIEWS = ("lateral", "oblique", "decubitus")
VIEWS_OF_XRAYS = (*FRONTAL, *OTHER_VIEWS)
_VIEW_OF_POSITION = {
    "PA": "PA", "AP": "AP", "LL": "lateral", "RL": "lateral", "LAT": "lateral", "LATERAL": "lateral",
    "RLD": "decubitus", "LLD": "decubitus", "RLO": "oblique", "LLO": "oblique", "LAO": "oblique", "RAO": "oblique",
    "LPO": "oblique", "RPO": "oblique",
}  # fmt: skip
"""ViewPosition (0018,5101) -> view."""
_VIEW_OF_CODE = {
    "postero-anterior": "PA", "posteroanterior": "PA", "antero-posterior": "AP", "anteroposterior": "AP",
    "oblique": "oblique", "decubitus": "decubitus", "lateral": "lateral",
}  # fmt: skip
"""Word in the meaning of a code of ViewCodeSequence -> view. The first word that occurs decides."""
_CHEST = re.compile("CHEST|THORA|TORAX|LUNG|HEART|RIB")
_OTHER_BODY_PARTS = """
    ABDOMEN ANKLE ARM BREAST CALCANEUS CLAVICLE COCCYX CSPINE CTSPINE ELBOW EXTREMITY FEMUR FINGER FOOT FOREARM HAND
    HEAD HIP HUMERUS JAW KNEE LEG LSPINE LSSPINE MANDIBLE MAXILLA NECK NOSE ORBIT PATELLA PELVIS SCAPULA SHOULDER SKULL
    SPINE SSPINE THIGH THUMB TIBIA TOE TSPINE WRIST ZYGOMA
    """
OTHER_BODY_PARTS = frozenset(_OTHER_BODY_PARTS.split())
"""Terms of BodyPartExamined (DICOM PS3.16, annex L) that do not show the lungs."""


@dataclass
class XrayPicture:
    """A chest X-ray as a viewer shows it: air dark, bone bright.

    Attributes:
        pixels: (height, width) uint8.
        view: one of `VIEWS_OF_XRAYS`; "" where nothing states it.
        is_dicom: whether the picture was made from the detector's values.
        source: file name for messages.
        notes: what was assumed or changed.
        checks: {"code", "text"} for what makes the X-ray doubtful.
    """

    pixels: np.ndarray
    view: str = ""
    is_dicom: bool = False
    source: str = "xray"
    notes: list[str] = field(default_factory=list)
    checks: list[dict[str, str]] = field(default_factory=list)


def check_xray_header(dataset: Any, item: str, limits: InputLimits = LIMITS) -> None:
    """Check that the header describes one grey picture of a chest, and a size within the limits.

    Args:
        dataset: pydicom `Dataset`; the pixels are not needed.
        item: file name for the message.
        limits: `max_xray_pixels` is the largest size.

    Raises:
        InputRefusedError: with what is wrong.
    """
    if "Rows" not in dataset or "PhotometricInterpretation" not in dataset:
        raise InputRefusedError(item, "a DICOM file without an image: not an X-ray (a report or a waveform?)")
    refuse_animal(dataset, item)
    modality = str(dataset.get("Modality") or "").strip().upper()
    if modality not in ("CR", "DX"):
        shown = modality if re.fullmatch("[A-Z]{2}", modality) else "of another name" if modality else "not stated"
        raise InputRefusedError(item, f"modality {shown}, a chest X-ray has modality CR or DX: not an X-ray")
    part = str(dataset.get("BodyPartExamined") or "").strip().upper().replace(" ", "").replace("_", "")
    if part in OTHER_BODY_PARTS:
        raise InputRefusedError(item, f"the header states the body part {part}, the chest is expected")
    photometric = str(dataset.PhotometricInterpretation)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputRefusedError(
            item, "its colours are neither MONOCHROME1 nor MONOCHROME2: a screen capture or an export, not an X-ray"
        )
    allocated, stored = dataset.get("BitsAllocated"), dataset.get("BitsStored")
    if allocated not in (8, 16) or not isinstance(stored, int) or not 8 <= stored <= allocated:
        raise InputRefusedError(item, f"{stored} of {allocated} bits a pixel, 8 to 16 are expected (BitsStored)")
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise InputRefusedError(item, f"{dataset.SamplesPerPixel} samples a pixel, 1 is expected: not an X-ray")
    if (number := declared_frames(dataset, item)) > 1:
        raise InputRefusedError(item, f"{number} frames, an X-ray has one: a fluoroscopy or tomosynthesis?")
    rows, columns = dataset.Rows, dataset.get("Columns")
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise InputRefusedError(item, "Rows or Columns is not one whole number: the header is damaged")
    check_xray_size(rows, columns, item, limits)


def check_xray_size(rows: int, columns: int, item: str, limits: InputLimits = LIMITS) -> None:
    """Refuse a picture that is larger than the limit, or so small that nothing of a chest can be seen.

    Args:
        rows: height.
        columns: width.
        item: file name for the message.
        limits: `max_xray_pixels` is the largest size.

    Raises:
        InputRefusedError: with both sizes.
    """
    if min(rows, columns) < SMALLEST_SIDE:
        raise InputRefusedError(
            item, f"{rows} x {columns} pixels, at least {SMALLEST_SIDE} in each direction are needed: a thumbnail?"
        )
    if rows * columns > limits.max_xray_pixels:
        raise InputRefusedError(
            item,
            f"{rows:,} x {columns:,} pixels, the limit is {limits.max_xray_pixels:,} pixels: raise max_xray_pixels of "
            "the input limits if the file is right",
        )


FEW_GREYS, SAMPLED = 16, 4
"""A window that leaves fewer grey values is left out. They are counted in every SAMPLED-th row and column."""
SMALLEST_SIDE = 112
"""Pixels. Half of what the published model reads."""


def view_of(dataset: Any, item: str) -> str:
    """Read the view of an X-ray from ViewPosition and ViewCodeSequence.

    Args:
        dataset: pydicom `Dataset`.
        item: file name for the message.

    Returns:
        One of `VIEWS_OF_XRAYS`; "" if neither element states one of these views.

    Raises:
        InputRefusedError: if the two elements name different views.
    """
    by_position = _VIEW_OF_POSITION.get(str(dataset.get("ViewPosition") or "").strip().upper(), "")
    codes = dataset.get("ViewCodeSequence") or []
    meaning = str(codes[0].get("CodeMeaning") or "").casefold() if codes else ""
    by_code = next((view for word, view in _VIEW_OF_CODE.items() if word in meaning), "")
    if by_position and by_code and by_position != by_code:
        raise InputRefusedError(
            item, f"ViewPosition names the view {by_position}, ViewCodeSequence {by_code}: correct the header"
        )
    return by_position or by_code


def decode_dicom_xray(dataset: Any, item: str) -> XrayPicture:
    """Decode an X-ray whose header `check_xray_header` accepted, as a viewer shows it.

    The steps follow DICOM (PS3.4, N.2): modality LUT or rescale slope, then VOI LUT or window, then MONOCHROME1
    is inverted. Without a window, the lowest and the highest value are black and white. Padding is black.

    Args:
        dataset: pydicom `Dataset` with pixels.
        item: file name for messages.

    Returns:
        `XrayPicture`.

    Raises:
        InputRefusedError: if the file does not say how its pixels are coded, or the window does not fit the pixels.
        ValueError: and other kinds from the decoders, if the pixels are damaged.
    """
    require_package(processing, "pydicom", "reading DICOM files")
    assumed: list[dict[str, str]] = []
    transfer_syntax(dataset, item, assumed)
    stored = decode_frames(dataset, [0])[0][0]
    notes = [note["text"] for note in assumed]
    checks = stored_checks(dataset, stored)
    if not int(dataset.get("PixelRepresentation") or 0):
        # old files keep overlays in the bits above BitsStored
        stored = stored & np.asarray((1 << int(dataset.BitsStored)) - 1, dtype=stored.dtype)
    padding = _padding(dataset, stored)
    shown = _windowed(processing.apply_modality_lut(stored, dataset), dataset, notes, checks).astype(np.float64)
    inside = shown[~padding]
    if not inside.size or not np.isfinite(inside).all() or np.ptp(inside) == 0:
        raise InputRefusedError(item, "all pixels have one grey value after the window of the header: nothing to see")
    scaled = np.clip((shown - inside.min()) / np.ptp(inside), 0, 1)
    if str(dataset.PhotometricInterpretation) == "MONOCHROME1":
        scaled = 1 - scaled
    scaled[padding] = 0
    view = view_of(dataset, item)
    notes += orientation_notes(dataset, view) + field_of_view_notes(dataset)
    checks += header_checks(dataset, view)
    part = str(dataset.get("BodyPartExamined") or "").strip().upper()
    if not _CHEST.search(part):
        notes.append("the header does not state that the body part is the chest")
    return XrayPicture(np.rint(scaled * 255).astype(np.uint8), view, True, item, notes, checks)


def _windowed(values: np.ndarray, dataset: Any, notes: list[str], checks: list[dict[str, str]]) -> np.ndarray:
    """Apply the VOI LUT or the first window of the header to pixel values, if it has one that can be applied.

    A window that leaves hardly any grey values is left out, because a picture of black and white is no X-ray.

    Args:
        values: (height, width), after the modality LUT.
        dataset: pydicom `Dataset`.
        notes: a note is added here if the window has no width.
        checks: a finding is added here if the window is left out for its few grey values.
    """
    has_lut = bool(dataset.get("VOILUTSequence"))
    center, width = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    first_width = width[0] if isinstance(width, list | tuple) or hasattr(width, "append") else width
    if not has_lut and (center in (None, "") or first_width in (None, "")):
        return values
    if not has_lut and float(first_width) < 1:
        notes.append("the window of the header has no width and is left out")
        return values
    shown = processing.apply_voi_lut(values, dataset, index=0)
    step = slice(None, None, SAMPLED)
    if not has_lut and 1 < np.unique(shown[step, step]).size < FEW_GREYS <= np.unique(values[step, step]).size:
        text = f"the window of the header leaves fewer than {FEW_GREYS} grey values and is left out"
        checks.append({"code": "xray_window", "text": text})
        return values
    return shown


def _padding(dataset: Any, stored: np.ndarray) -> np.ndarray:
    """Mark the pixels that the header calls padding: (height, width) bool."""
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return np.zeros(stored.shape, dtype=bool)
    last = dataset.get("PixelPaddingRangeLimit")
    last = last if isinstance(last, int) else first
    return (stored >= min(first, last)) & (stored <= max(first, last))


def orientation_notes(dataset: Any, view: str) -> list[str]:
    """Compare PatientOrientation with the way a frontal X-ray is shown: the patient's left is on the right.

    Args:
        dataset: pydicom `Dataset`.
        view: of `view_of`. Other views than PA and AP are not judged.

    Returns:
        One text if the header says otherwise; else an empty list. The text is a note and no finding, because the
        share of wrong headers is unknown.
    """
    stated = [str(part).strip().upper() for part in dataset.get("PatientOrientation") or []]
    if len(stated) != 2 or view not in FRONTAL:
        return []
    wrong = []
    if stated[0].startswith("R"):
        wrong.append("mirrored, with the heart on the wrong side")
    if stated[1].startswith("H"):
        wrong.append("upside down")
    if not wrong:
        return []
    return [f"the header says that it is {' and '.join(wrong)} (PatientOrientation); it was read as it is stored"]


__all__ = ["FRONTAL", "VIEWS_OF_XRAYS", "XrayPicture", "check_xray_header", "check_xray_size", "decode_dicom_xray"]
