"""Find leads whose samples wrapped around: a value above the range of the numbers came out at its lower end.

A recording that is stored in too few bits, or with too large a gain, does so at each large wave. The wave then leaves
the range on one side and comes back on the other side, so the lead jumps by the whole range and back soon after.
Decision 242 has the reasons.
"""

import numpy as np

from .ecg_findings import LeadFindings

JUMP = 0.7
"""Smallest jump between two samples, over the span of the lead."""
STEP = 0.5
"""Largest step before and after a jump, over the span of the lead: the wave goes on at its own speed."""
LEAST_STEP = 0.01
"""Smallest step before and after a jump, over the span of the lead. The flat top of a pacemaker's spike or of a
calibration pulse has smaller steps, from noise, and half of them go against the jump by chance."""
LEAST_PAIRS = 2
"""A lead with fewer pairs of jumps is not called wrapped: one pair occurs by chance."""
BACK_SECONDS = 0.2
"""A wave that left the range comes back in this time."""


def check_wrapped_leads(findings: LeadFindings, names: list[str], signal: np.ndarray, sampling_rate: float) -> None:
    """Put the leads (leads, samples) out of use that `wrapped_leads` finds; `names` are the leads of the rows."""
    for lead, times in zip(names, wrapped_leads(signal, sampling_rate), strict=True):
        if times >= LEAST_PAIRS:
            reason = f"jumps over its whole span and back ({times} x): its values were too large for their numbers"
            findings.put_out("ecg_wrapped", lead, reason)


def wrapped_leads(signal: np.ndarray, sampling_rate: float) -> list[int]:
    """Count for each lead how often it jumps over its whole span and back, against the direction of the wave.

    A pacemaker's spike and a calibration pulse jump too, but they are flat before they fall by the whole span. The QRS
    complex falls in several samples. None of 1,646 public recordings has one such pair of jumps.

    Args:
        signal: (leads, samples) as recorded, without NaN.
        sampling_rate: Hz.

    Returns:
        Number of pairs of each lead.
    """
    steps = np.diff(signal, axis=1)
    sizes = np.abs(steps)
    spans = np.ptp(signal, axis=1, keepdims=True)
    inner, before, after = steps[:, 1:-1], steps[:, :-2], steps[:, 2:]
    against = (inner * before < 0) & (inner * after < 0)
    beside = np.stack([sizes[:, :-2], sizes[:, 2:]])
    moves_on = ((beside >= LEAST_STEP * spans) & (beside < STEP * spans)).all(axis=0)
    jumps = (sizes[:, 1:-1] >= JUMP * spans) & against & moves_on
    counts = []
    for lead, is_jump in zip(inner, jumps, strict=True):
        places = np.flatnonzero(is_jump)
        back = (np.diff(places) <= BACK_SECONDS * sampling_rate) & (lead[places[1:]] * lead[places[:-1]] < 0)
        counts.append(int(back.sum()))
    return counts


__all__ = ["check_wrapped_leads", "wrapped_leads"]
