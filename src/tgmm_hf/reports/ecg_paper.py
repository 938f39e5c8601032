"""Draw a 12-lead ECG on standard paper, as SVG in millimetres.

    25 mm/s, 10 mm/mV, a grid of 1 mm and 5 mm, a calibration pulse of 1 mV and 200 ms before each row

One user unit of the drawing is one millimetre, on the screen and on paper. The leads of one row follow each other
without a break in time, as a cardiograph prints them: in 3 x 4 each lead shows another quarter of the ten seconds.
The signal is drawn as it was recorded, without a filter, around the median of its lead. A missing sample is a gap. The
measures of the sheet are in `inputs/ecg_sheet.py`.

Why not a library: docs/decisions/120-own-drawing-of-the-ecg.md.
"""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from tgmm_hf.inputs.ecg_sheet import (
    BOTTOM,
    LAYOUTS,
    LEFT,
    NAME_SIZE,
    PULSE_MV,
    PULSE_SECONDS,
    PULSE_X,
    RIGHT,
    SECONDS,
    SENSITIVITIES,
    SPEED,
    TEXT_SIZE,
    TOP,
    EcgTraces,
    Panel,
    first_second,
    place_panels,
    trace_points,
)
from tgmm_hf.utils.names import LEADS


class Band(NamedTuple):
    """A part of one lead behind which the contribution is painted.

    Attributes:
        lead: one of `LEADS`.
        start: seconds from the start of `EcgTraces.signal`.
        end: in the same seconds.
        strength: -1 to 1. Positive values speak for the explained answer.
    """

    lead: str
    start: float
    end: float
    strength: float


class EcgDrawing(NamedTuple):
    """A drawn sheet.

    Attributes:
        svg: the drawing.
        notes: sentences on what the drawing leaves out.
    """

    svg: str
    notes: list[str]


def draw_ecg(
    traces: EcgTraces, layout: str = "3x4", sensitivity: float = 10.0, bands: Sequence[Band] = ()
) -> EcgDrawing:
    """Draw a recording on standard paper.

    Args:
        traces: the recording. A sheet shows at most `SECONDS` of it.
        layout: name in `LAYOUTS`.
        sensitivity: mm/mV, one of `SENSITIVITIES`.
        bands: contributions, painted behind the traces in a group of the class "attribution".

    Returns:
        `EcgDrawing`. The SVG has width and height in mm and a view box in mm.

    Raises:
        ValueError: if the layout or the sensitivity is not one of the standard ones, or the signal has another shape.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"the layout is {layout!r}, known are {', '.join(LAYOUTS)}")
    if sensitivity not in SENSITIVITIES:
        allowed = ", ".join(f"{value:g}" for value in SENSITIVITIES)
        raise ValueError(f"the sensitivity is {sensitivity:g} mm/mV, the standard ones are {allowed}")
    if traces.signal.ndim != 2 or len(traces.signal) != len(LEADS):
        raise ValueError(f"the signal has shape {traces.signal.shape}, expected ({len(LEADS)}, samples)")
    rows, row_height = LAYOUTS[layout]
    start = first_second(traces)
    panels = list(place_panels(rows, row_height, start))
    width, height = LEFT + SECONDS * SPEED + RIGHT, TOP + len(rows) * row_height + BOTTOM
    notes = _notes(traces, panels, sensitivity)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ecg" role="img" aria-labelledby="ecg-title ecg-desc" '
        f'width="{width:g}mm" height="{height:g}mm" viewBox="0 0 {width:g} {height:g}">',
        f'<title id="ecg-title">12-lead ECG, {layout.replace("x", " x ")} layout</title>',
        f'<desc id="ecg-desc">{_description(traces, sensitivity)}</desc>',
        _patterns(),
        _grid(width, height),
        '<g class="attribution">',
        *(_band(band, panel, row_height) for panel in panels for band in bands if band.lead == panel.lead),
        "</g>",
        *(_window(traces, panels, row_height)),
        *(_pulse(TOP + (row + 0.5) * row_height, sensitivity) for row in range(len(rows))),
        *(_trace(traces, panel, sensitivity, row_height) for panel in panels),
        f'<text x="{LEFT:g}" y="{height - 1.8:g}" font-size="{TEXT_SIZE}">'
        f"{SPEED:g} mm/s &#160; {sensitivity:g} mm/mV &#160; calibration pulse {PULSE_MV:g} mV, "
        f"{1000 * PULSE_SECONDS:g} ms &#160; no filter</text>",
        "</svg>",
    ]
    return EcgDrawing("\n".join(part for part in parts if part), notes)


def _trace(traces: EcgTraces, panel: Panel, sensitivity: float, row_height: float) -> str:
    """Draw one lead: its name, the mark of an unusable lead, and one line for each run without a gap."""
    x, y = trace_points(traces, panel, sensitivity)
    present = np.isfinite(y)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], present, [False])).astype(np.int8)))
    runs = [
        "M" + "L".join(f"{_mm(a)} {_mm(b)}" for a, b in zip(x[i:j], y[i:j], strict=True))
        for i, j in zip(edges[::2], edges[1::2], strict=True)
    ]
    name_y = panel.baseline - row_height / 2 + NAME_SIZE
    problem = traces.problems.get(panel.lead)
    mark = "" if problem is None else f'<tspan font-size="{TEXT_SIZE}" dx="1.5">not used by the model</tspan>'
    style = "trace" if problem is None else "trace unused"
    line = f'<path class="{style}" data-lead="{panel.lead}" d="{"".join(runs)}"/>' if runs else ""
    separator = (
        f'<path class="separator" d="M{_mm(panel.left)} {_mm(panel.baseline - 3)}v6"/>' if panel.left > LEFT else ""
    )
    return (
        f'<text x="{_mm(panel.left + 1)}" y="{_mm(name_y)}" font-size="{NAME_SIZE}" class="lead">{panel.lead}{mark}'
        f"</text>{separator}{line}"
    )


def _pulse(baseline: float, sensitivity: float) -> str:
    """Draw the calibration pulse of one row: 1 mV high and 200 ms wide, from the baseline upwards."""
    height, width = PULSE_MV * sensitivity, PULSE_SECONDS * SPEED
    return f'<path class="pulse" d="M{PULSE_X - 1:g} {_mm(baseline)}h1v-{height:g}h{width:g}v{height:g}h0.5"/>'


def _grid(width: float, height: float) -> str:
    """Draw the paper: lines every millimetre and stronger ones every 5 mm. Time zero lies on a stronger one."""
    lines: dict[str, list[str]] = {"small": [], "large": []}
    for step in range(int(width) + 1):
        lines["large" if (step - int(LEFT)) % 5 == 0 else "small"].append(f"M{step} 0V{height:g}")
    for step in range(int(height) + 1):
        lines["large" if (step - int(TOP)) % 5 == 0 else "small"].append(f"M0 {step}H{width:g}")
    return "".join(f'<path class="{name}" d="{"".join(parts)}"/>' for name, parts in lines.items())


def _band(band: Band, panel: Panel, row_height: float) -> str:
    """Paint one contribution behind the part of a trace that the panel shows; "" if the panel does not show it."""
    start, end = max(band.start, panel.start), min(band.end, panel.end)
    if end <= start or not np.isfinite(band.strength) or abs(band.strength) < 0.02:
        return ""
    kind = "for" if band.strength > 0 else "against"
    x, width = panel.left + (start - panel.start) * SPEED, (end - start) * SPEED
    return (
        f'<rect class="{kind}" x="{_mm(x)}" y="{_mm(panel.baseline - row_height / 2)}" width="{_mm(width)}" '
        f'height="{_mm(row_height)}" opacity="{0.85 * min(abs(band.strength), 1):.2f}"/>'
    )


def _window(traces: EcgTraces, panels: Sequence[Panel], row_height: float) -> Iterator[str]:
    """Veil the parts of the sheet that the model does not read."""
    if traces.window is None:
        return
    for panel in panels:
        for start, end in ((panel.start, traces.window[0]), (traces.window[1], panel.end)):
            start, end = max(start, panel.start), min(end, panel.end)
            if end - start > 1e-6:
                x, top = panel.left + (start - panel.start) * SPEED, panel.baseline - row_height / 2
                yield (
                    f'<rect class="unread" x="{_mm(x)}" y="{_mm(top)}" width="{_mm((end - start) * SPEED)}" '
                    f'height="{_mm(row_height)}"/>'
                )


def _patterns() -> str:
    """Define the hatch of contributions that speak against the answer, because a printer may have no colours."""
    return (
        '<defs><pattern id="ecg-hatch" width="1.2" height="1.2" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="0.6" height="1.2" fill="#0072B2"/></pattern></defs>'
    )


def _description(traces: EcgTraces, sensitivity: float) -> str:
    """Describe the drawing for a screen reader."""
    duration = traces.signal.shape[1] / traces.sampling_rate
    unusable = ", ".join(traces.problems) or "none"
    return escape(
        f"A recording of {duration:.3g} seconds at {traces.sampling_rate:g} Hz, drawn with {SPEED:g} mm/s and "
        f"{sensitivity:g} mm/mV. Leads that the model does not use: {unusable}."
    )


def _notes(traces: EcgTraces, panels: Sequence[Panel], sensitivity: float) -> list[str]:
    """Say which leads have gaps, and which leave the sheet."""
    missing: dict[str, float] = {}
    outside: dict[str, float] = {}
    for panel in panels:
        x, y = trace_points(traces, panel, sensitivity)
        first = int(np.ceil(panel.start * traces.sampling_rate - 1e-6))
        values = traces.signal[LEADS.index(panel.lead)][first : first + len(x)]
        gaps = np.isnan(values)
        for lost, samples in ((missing, gaps), (outside, np.isnan(y) & ~gaps)):
            if samples.any():
                lost[panel.lead] = max(lost.get(panel.lead, 0.0), samples.sum() / traces.sampling_rate)
    notes = [f"Lead {lead}: {seconds:.2g} s have no values and are a gap." for lead, seconds in missing.items()]
    return notes + [
        f"Lead {lead}: {seconds:.2g} s lie outside the sheet and are a gap. A smaller sensitivity shows them."
        for lead, seconds in outside.items()
    ]


def _mm(value: float) -> str:
    """Write a length in mm with two decimals: 0.01 mm is 0.4 ms or 1 microvolt at 10 mm/mV."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
