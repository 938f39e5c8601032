"""Draw a 12-lead ECG as a picture that a model reads, on the sheet of ecg_sheet.py, in plain NumPy.

No font and no graphics library is used, so that a saved model draws the same picture on every machine. The traces are
smooth in the vertical direction: a pixel is as dark as the part of it that the line covers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ecg_sheet import (
    BOTTOM,
    LAYOUTS,
    LEFT,
    NAME_SIZE,
    PULSE_MV,
    PULSE_SECONDS,
    PULSE_X,
    RIGHT,
    SECONDS,
    SPEED,
    TOP,
    EcgTraces,
    first_second,
    place_panels,
    trace_points,
)
from .ecg_signal import HarmonisedEcg, typical_peak

PIXELS_PER_MM = 4
"""Size of the drawing: 1040 x 588 pixels for 3 x 4. An image processor makes it as small as its model needs."""
LINE_MM = 0.35
"""Thickness of a trace."""
SENSITIVITY = 10.0
"""mm/mV."""
SMALLEST_PEAK = 1e-6
"""In normalised units. Prevents a division by zero."""
Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""
LETTERS = {
    "I": ("111", "010", "010", "010", "010", "010", "111"),
    "V": ("10001", "10001", "10001", "10001", "01010", "01010", "00100"),
    "a": ("0000", "0000", "0110", "0001", "0111", "1001", "0111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    "L": ("1000", "1000", "1000", "1000", "1000", "1000", "1111"),
    "F": ("1111", "1000", "1000", "1110", "1000", "1000", "1000"),
    "1": ("010", "110", "010", "010", "010", "010", "111"),
    "2": ("01110", "10001", "00001", "00110", "01000", "10000", "11111"),
    "3": ("01110", "10001", "00001", "00110", "00001", "10001", "01110"),
    "4": ("00010", "00110", "01010", "10010", "11111", "00010", "00010"),
    "5": ("11111", "10000", "11110", "00001", "00001", "10001", "01110"),
    "6": ("00110", "01000", "10000", "11110", "10001", "10001", "01110"),
}
"""Letters of the names of leads, seven rows of pixels each."""


@dataclass(frozen=True)
class SheetColours:
    """Colours of a drawn sheet.

    Attributes:
        paper: between the lines.
        small: lines of the grid every millimetre.
        large: lines every 5 mm.
        ink: traces and letters.
    """

    paper: Colour = (255, 255, 255)
    small: Colour = (250, 220, 220)
    large: Colour = (240, 170, 170)
    ink: Colour = (20, 20, 30)


def draw_ecg_picture(
    traces: EcgTraces, layout: str = "3x4", colours: SheetColours | None = None, with_pulse: bool = True
) -> NDArray[np.uint8]:
    """Draw a recording on standard paper.

    Args:
        traces: the recording. A sheet shows at most 10 s of it. NaN is a gap.
        layout: name in `LAYOUTS`.
        colours: of paper, grid and ink.
        with_pulse: draw calibration pulses. False for a recording without millivolts.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ValueError: if the layout is unknown.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"the layout is {layout!r}, known are {', '.join(LAYOUTS)}")
    colours = colours or SheetColours()
    rows, row_height = LAYOUTS[layout]
    height = round((TOP + len(rows) * row_height + BOTTOM) * PIXELS_PER_MM)
    sheet = _paper(height, round((LEFT + SECONDS * SPEED + RIGHT) * PIXELS_PER_MM), colours)
    ink = np.zeros(sheet.shape[:2], dtype=np.float32)
    for panel in place_panels(rows, row_height, first_second(traces)):
        _paint_line(ink, *trace_points(traces, panel, SENSITIVITY))
        _paint_name(ink, panel.lead, panel.left + 1, panel.baseline - row_height / 2)
    for row in range(len(rows) if with_pulse else 0):
        _paint_line(ink, *_pulse_points(TOP + (row + 0.5) * row_height))
    drawn = sheet + ink[..., None] * (np.array(colours.ink, dtype=np.float32) - sheet)
    return np.rint(drawn).astype(np.uint8)


def traces_to_draw(ecg: HarmonisedEcg, has_millivolts: bool) -> EcgTraces:
    """Return the traces of a harmonised ECG, of a recording longer than a sheet its centre.

    Args:
        ecg: as `harmonise_recording` gives it. Masked leads are drawn as gaps.
        has_millivolts: False scales the leads together, so that the typical peak has 1 mV.
    """
    signal = np.where(ecg.mask[:, None], ecg.signal, np.nan)
    if not has_millivolts:
        signal = signal / max(typical_peak(ecg.signal[ecg.mask]), SMALLEST_PEAK)
    return EcgTraces(signal, ecg.sampling_rate, window=(0.0, signal.shape[1] / ecg.sampling_rate))


def _paper(height: int, width: int, colours: SheetColours) -> NDArray:
    """Make an empty sheet (height, width, 3) with its grid. Time zero lies on a strong line, as in the reports."""
    sheet = np.full((height, width, 3), colours.paper, dtype=np.float32)
    for is_large, colour in ((False, colours.small), (True, colours.large)):
        sheet[list(_grid(height, int(TOP), is_large))] = colour
        sheet[:, list(_grid(width, int(LEFT), is_large))] = colour
    return sheet


def _grid(pixels: int, origin: int, is_large: bool) -> Iterator[int]:
    """List the pixels of the lines every millimetre, or every 5 mm counted from `origin` (mm)."""
    for millimetre in range(-(-pixels // PIXELS_PER_MM)):
        if not is_large or (millimetre - origin) % 5 == 0:
            yield millimetre * PIXELS_PER_MM


def _pulse_points(baseline: float) -> tuple[NDArray, NDArray]:
    """Return x and y (mm) of the calibration pulse of one row."""
    width, height = PULSE_SECONDS * SPEED, PULSE_MV * SENSITIVITY
    x = PULSE_X + np.array([-1.0, 0.0, 0.0, width, width, width + 0.5])
    return x, baseline - np.array([0.0, 0.0, height, height, 0.0, 0.0])


def _paint_line(ink: NDArray, x: NDArray, y: NDArray) -> None:
    """Paint a line into `ink` (height, width), in place: each pixel gets the part that the line covers.

    Args:
        ink: 0 (nothing) to 1.
        x: (points,) mm, ascending.
        y: (points,) mm, NaN for a gap.
    """
    present = np.isfinite(y)
    if not present.any():
        return
    x, y = x * PIXELS_PER_MM, y * PIXELS_PER_MM
    first, last = int(np.floor(x[present][0])), int(np.ceil(x[present][-1])) + 1
    edges = np.arange(first, last + 1)
    at_edges = np.interp(edges, x, y, left=np.nan, right=np.nan)
    lowest, highest = np.fmin(at_edges[:-1], at_edges[1:]), np.fmax(at_edges[:-1], at_edges[1:])
    columns = np.clip(np.floor(x).astype(int) - first, 0, len(lowest) - 1)
    np.fmin.at(lowest, columns, y)
    np.fmax.at(highest, columns, y)
    half = LINE_MM * PIXELS_PER_MM / 2
    top = max(int(np.nanmin(lowest) - half), 0)
    pixels = np.arange(top, min(int(np.nanmax(highest) + half) + 2, len(ink)))[:, None]
    covered = np.minimum(pixels + 1, highest + half) - np.maximum(pixels, lowest - half)
    covered = np.nan_to_num(np.clip(covered, 0, 1))
    inside = (edges[:-1] >= 0) & (edges[:-1] < ink.shape[1])
    place = np.ix_(pixels[:, 0], edges[:-1][inside])
    ink[place] = np.maximum(ink[place], covered[:, inside])


def _paint_name(ink: NDArray, name: str, left: float, top: float) -> None:
    """Paint the name of a lead into `ink`, in place. `left` and `top` are the corner in mm."""
    size = max(round(NAME_SIZE * PIXELS_PER_MM / 7), 1)
    x, y = round(left * PIXELS_PER_MM), max(round(top * PIXELS_PER_MM), 0)
    for letter in name:
        shape = np.array([[int(bit) for bit in row] for row in LETTERS[letter]], dtype=float)
        shape = shape.repeat(size, 0).repeat(size, 1)
        place = ink[y : y + shape.shape[0], x : x + shape.shape[1]]
        np.maximum(place, shape[: place.shape[0], : place.shape[1]], out=place)
        x += shape.shape[1] + size


__all__ = ["SheetColours", "draw_ecg_picture", "traces_to_draw"]
