"""The sheet of a drawn 12-lead ECG in millimetres: standard paper, order of the leads, and the points of a trace.

    25 mm/s, 10 mm/mV, a calibration pulse of 1 mV and 200 ms before each row

The leads of one row follow each other without a break in time, as a cardiograph prints them: in 3 x 4 each lead shows
another quarter of the ten seconds. The SVG of the reports and the picture that a model reads are drawn on this sheet.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..utils.names import LEADS

SPEED = 25.0
"""Paper speed in mm/s."""
SENSITIVITIES = (2.5, 5.0, 10.0, 20.0)
"""Sensitivities in mm/mV that IEC 60601-2-25 names."""
SECONDS = 10.0
"""Longest time that one sheet shows: 250 mm. With pulse and margins it fits Letter and A4 in landscape."""
PULSE_MV, PULSE_SECONDS = 1.0, 0.2
"""Height and width of the calibration pulse."""
LEFT, RIGHT, TOP, BOTTOM = 9.0, 1.0, 5.0, 6.0
"""Margins of the sheet in mm. The pulse stands in the left one."""
PULSE_X = 2.0
"""Where the pulse begins, in mm from the left edge."""
EDGE = 0.5
"""No trace comes nearer to the upper edge of the sheet, in mm."""
NAME_SIZE, TEXT_SIZE = 3.2, 2.8
"""Heights of the letters in mm."""


class Layout(NamedTuple):
    """Where the leads stand on the sheet.

    Attributes:
        rows: leads of each row, from left to right.
        row_height: distance between two rows in mm.
    """

    rows: tuple[tuple[str, ...], ...]
    row_height: float


LAYOUTS = {
    "3x4": Layout((*((LEADS[i], LEADS[i + 3], LEADS[i + 6], LEADS[i + 9]) for i in range(3)), ("II",)), 34.0),
    "6x2": Layout(tuple((LEADS[i], LEADS[i + 6]) for i in range(6)), 26.0),
    "12x1": Layout(tuple((lead,) for lead in LEADS), 14.0),
}
"""Name of a layout, rows x columns -> `Layout`. 3x4 has a fourth row with lead II as the rhythm strip."""


@dataclass(frozen=True)
class EcgTraces:
    """A recording as it is drawn.

    Attributes:
        signal (`np.ndarray` of shape `(12, samples)`): mV in the order of `LEADS`. NaN marks a missing sample.
        sampling_rate: Hz.
        problems: lead -> why the model does not use the lead.
        window: start and end, in seconds of `signal`, of the part that the model reads; None if it reads all of it.
    """

    signal: NDArray
    sampling_rate: float
    problems: Mapping[str, str] = field(default_factory=dict)
    window: tuple[float, float] | None = None


class Panel(NamedTuple):
    """The place of one lead on the sheet.

    Attributes:
        lead: one of `LEADS`.
        start: first second.
        end: last second.
        left: left edge in mm.
        baseline: in mm from the top.
        highest: smallest y in mm that the trace may reach. It may enter the rows beside its own, as on paper.
        lowest: largest y in mm that the trace may reach.
    """

    lead: str
    start: float
    end: float
    left: float
    baseline: float
    highest: float
    lowest: float


def first_second(traces: EcgTraces) -> float:
    """Choose the first second that a sheet shows: 0, or for a longer recording so that the window is in the middle."""
    duration = traces.signal.shape[1] / traces.sampling_rate
    if duration <= SECONDS or traces.window is None:
        return 0.0
    middle = sum(traces.window) / 2
    return float(np.clip(middle - SECONDS / 2, 0.0, duration - SECONDS))


def place_panels(rows: Sequence[Sequence[str]], row_height: float, start: float) -> Iterator[Panel]:
    """Place every lead of every row. The leads of a row share the ten seconds that begin at `start`."""
    bottom = TOP + len(rows) * row_height
    for row, leads in enumerate(rows):
        seconds = SECONDS / len(leads)
        baseline = TOP + (row + 0.5) * row_height
        reach = max(baseline - row_height, EDGE), min(baseline + row_height, bottom)
        for column, lead in enumerate(leads):
            first = start + column * seconds
            yield Panel(lead, first, first + seconds, LEFT + column * seconds * SPEED, baseline, *reach)


def trace_points(traces: EcgTraces, panel: Panel, sensitivity: float) -> tuple[NDArray, NDArray]:
    """Compute the points of one trace.

    Args:
        traces: the recording.
        panel: the place of the lead.
        sensitivity: mm/mV.

    Returns:
        Two arrays (points,): x and y in mm. y is NaN for a missing sample, and where the panel does not
        reach.
    """
    rate = traces.sampling_rate
    first, last = int(np.ceil(panel.start * rate - 1e-6)), int(np.floor(panel.end * rate + 1e-6))
    values = traces.signal[LEADS.index(panel.lead)]
    middle = np.nanmedian(values) if np.isfinite(values).any() else 0.0
    shown = values[first : last + 1] - middle
    x = panel.left + (np.arange(first, first + len(shown)) / rate - panel.start) * SPEED
    y = panel.baseline - shown * sensitivity
    return x, np.where((y >= panel.highest) & (y <= panel.lowest), y, np.nan)
