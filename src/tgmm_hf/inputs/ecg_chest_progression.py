"""Check that the QRS complex turns from V1 to V6 as in most hearts: chest leads upside down or in reverse order.

The QRS complex points down in V1 and up in V5 and V6, because the left ventricle is larger. `polarities` measures the
direction: 1 is all up, -1 is all down. `docs/results/checks/ecg.md` has the measured rates, decision 144 the reasons.
"""

import numpy as np

from .ecg_beats import BeatSignals
from .ecg_numbers import percentile

TURNED = 0.3
"""Smallest polarity of V1, and of V6 downwards, for the finding."""
LOUDEST = 92
"""Percentile of the size in the QRS band from which a sample belongs to a QRS complex."""


def turned_chest_leads(names: list[str], signals: BeatSignals) -> tuple[float, float] | None:
    """Find chest leads whose QRS complexes point up in V1 and down in V5 and V6.

    Args:
        names: leads of the rows of `signals`.
        signals: at least 4 s.

    Returns:
        The polarities of V1 and V6 if they are turned; None if they are not, or if V1, V5 or V6 is missing.
    """
    if not {"V1", "V5", "V6"} <= set(names):
        return None
    first, fifth, sixth = polarities(signals)[[names.index(name) for name in ("V1", "V5", "V6")]]
    if first > TURNED and sixth < -TURNED and fifth < 0:
        return float(first), float(sixth)
    return None


def polarities(signals: BeatSignals) -> np.ndarray:
    """Compute the direction of the QRS complexes of each lead: (leads,), from -1 (down) to 1 (up)."""
    size = np.abs(signals.qrs).mean(axis=0)
    beats = size > percentile(size, LOUDEST)
    wide = signals.wide - np.median(signals.wide, axis=1, keepdims=True)
    up, down = (np.clip(sign * wide[:, beats], 0, None).sum(axis=1) for sign in (1, -1))
    return (up - down) / np.maximum(up + down, 1e-12)


__all__ = ["polarities", "turned_chest_leads"]
