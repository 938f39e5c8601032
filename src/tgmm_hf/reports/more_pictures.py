"""Pictures of X-rays and ECGs of MoRE for pages without scripts: the X-ray with its map, the ECG on standard paper."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.more_maps import on_leads, on_original_picture
from tgmm_hf.inputs.ecg_recording import NORMALISED
from tgmm_hf.inputs.ecg_sheet import EcgTraces
from tgmm_hf.inputs.ecg_signal import as_recording, harmonise_recording, in_millivolts, standard_lead_names
from tgmm_hf.inputs.xray_reading import read_xray
from tgmm_hf.reports.contributions import ecg_bands
from tgmm_hf.reports.ecg_paper import draw_ecg
from tgmm_hf.reports.echo_strips import COLOUR_AGAINST, COLOUR_FOR, LARGEST_OPACITY, data_uri
from tgmm_hf.reports.patient_inputs import NOT_IN_MILLIVOLTS
from tgmm_hf.utils.names import LEADS

LARGEST_SIDE = 640
"""Largest height or width of a shown X-ray in pixels."""


@dataclass(frozen=True)
class XrayShown:
    """An X-ray as a page shows it.

    Attributes:
        width: in pixels.
        height: in pixels.
        picture: data URI, JPEG.
        overlay: data URI of the map over the picture, PNG with transparency; "" without a map.
        view: view as the file states it, or "view not stated".
    """

    width: int
    height: int
    picture: str
    overlay: str = ""
    view: str = ""


@dataclass(frozen=True)
class EcgShown:
    """An ECG as a page shows it.

    Attributes:
        svg: the drawing; "" if it cannot be drawn.
        notes: what the drawing leaves out, or why there is none.
        has_bands: whether a map is painted behind the traces.
    """

    svg: str
    notes: list[str]
    has_bands: bool = False


def show_xray(
    images: Any, xray: Any, attribution: Attribution | None = None, largest_side: int = LARGEST_SIDE
) -> XrayShown:
    """Draw an X-ray, with its map over it.

    Args:
        images: `MoreImageProcessor` of the model.
        xray: X-ray as the processor takes it.
        attribution: map with the axes row and column.
        largest_side: largest height or width in pixels.

    Raises:
        InputRefusedError: if the X-ray cannot be used.
    """
    picture = read_xray(xray, images.views, images.limits)
    shape = picture.pixels.shape
    scale = min(1.0, largest_side / max(shape))
    height, width = (max(1, round(side * scale)) for side in shape)
    small = Image.fromarray(picture.pixels).resize((width, height), Image.Resampling.BOX)
    overlay = "" if attribution is None else data_uri(_painted(attribution, (height, width)), "PNG")
    return XrayShown(width, height, data_uri(np.asarray(small), "JPEG"), overlay, picture.view or "view not stated")


def _painted(attribution: Attribution, shape: tuple[int, int]) -> NDArray:
    """Paint a map in the colours for and against: (height, width, 4) uint8. The strongest place is most opaque."""
    values = on_original_picture(attribution, shape)
    strength = values / (float(np.abs(attribution.values).max()) or 1.0)
    painted = np.zeros((*shape, 4), np.uint8)
    painted[..., :3] = np.where(strength[..., None] >= 0, COLOUR_FOR, COLOUR_AGAINST)
    painted[..., 3] = np.clip(np.abs(strength), 0, 1) * LARGEST_OPACITY
    return painted


def show_ecg(
    extractor: Any,
    ecg: Any,
    attribution: Attribution | None = None,
    layout: str = "3x4",
    sensitivity: float = 10.0,
) -> EcgShown:
    """Draw an ECG, with its map behind the traces.

    Args:
        extractor: `MoreFeatureExtractor` of the model.
        ecg: recording as the processor takes it.
        attribution: map over the model's window, with the axis token, or lead and sample.
        layout: name in `ecg_sheet.LAYOUTS`.
        sensitivity: mm/mV, one of `ecg_sheet.SENSITIVITIES`.

    Raises:
        InputRefusedError: if the recording cannot be used.
    """
    traces = more_traces(extractor, ecg)
    if traces is None:
        return EcgShown("", [NOT_IN_MILLIVOLTS])
    if attribution is not None and attribution.axes[0].name == "token":
        attribution = on_leads(attribution)
    start = 0.0 if traces.window is None else traces.window[0]
    bands = ecg_bands(attribution, start)
    drawing = draw_ecg(traces, layout, sensitivity, bands)
    return EcgShown(drawing.svg, drawing.notes, bool(bands))


def with_own_ids(shown: EcgShown, number: int) -> EcgShown:
    """Number the ids inside a drawing, because a page may hold several drawings and an id may stand there once."""
    svg = shown.svg
    for name in ("ecg-title", "ecg-desc"):
        svg = svg.replace(name, f"{name}-{number}")
    return replace(shown, svg=svg)


def more_traces(extractor: Any, ecg: Any) -> EcgTraces | None:
    """Read a recording for the drawing: its samples, the derived leads, and the window that the model reads.

    Args:
        extractor: `MoreFeatureExtractor` of the model.
        ecg: recording as the processor takes it.

    Returns:
        The traces; None if the recording is not in millivolts.

    Raises:
        InputRefusedError: if the recording cannot be used.
    """
    recording = as_recording(ecg)
    if recording.units == NORMALISED:
        return None
    options = {"max_gap_seconds": extractor.max_gap_seconds, "min_leads": extractor.min_leads}
    signal = harmonise_recording(recording, **options).signal.astype(np.float64)
    names = standard_lead_names(recording)
    for lead, values in zip(names, in_millivolts(recording), strict=True):  # as recorded, with its gaps
        signal[LEADS.index(lead)] = values
    rate = recording.sampling_rate
    length = extractor.num_samples / extractor.sampling_rate
    before = max(0, int((signal.shape[1] / rate - length) * extractor.sampling_rate)) // 2
    start = before / extractor.sampling_rate
    return EcgTraces(signal, rate, {}, (start, start + length))


def strongest_places(attribution: Attribution, number: int = 3) -> list[str]:
    """Name the strongest places of a map in words: rows and columns of an X-ray, seconds and leads of an ECG.

    Args:
        attribution: of an X-ray or an ECG.
        number: largest number of places. Places with the value 0 are left out.
    """
    places = []
    for position, value in attribution.strongest(number):
        if value == 0:
            continue
        parts = [_place(axis, index) for axis, index in zip(attribution.axes, position, strict=True)]
        places.append(f"{', '.join(parts)} ({value:+.2g})")
    return places


def _place(axis: Any, index: Any) -> str:
    """Name one position of an axis."""
    if axis.labels is not None:
        return str(index)
    first = axis.start + index * axis.step
    if axis.unit == "px":
        return f"{axis.name}s {first:.0f} to {first + axis.step:.0f}"
    return f"{first:.2f} to {first + axis.step:.2f} s"
