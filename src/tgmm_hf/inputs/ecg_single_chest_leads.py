"""Find one chest lead that is upside down, by the leads beside it.

The chest electrodes lie side by side, so a chest lead looks like its neighbours: V2 to V5 like the lead before and the
lead after them, V6 like V5 and the opposite of aVR, V1 like V2 and aVR. `docs/results/checks/ecg.md` has the measured
rates, decision 175 the reasons.
"""

from collections.abc import Mapping

import numpy as np

TURNED = -0.4
"""A lead is upside down if it correlates less than this with the sum of its neighbours, each scaled to the same size.
Of 1,647 public recordings two have such a lead, both in a lead that has no beats; all others have at least -0.36."""
CANCELLED = 0.5
"""Smallest size of the sum of two neighbours of size 1. Neighbours that cancel each other tell nothing."""
NEIGHBOURS = {
    "V1": (("V2", 1), ("aVR", 1)),
    "V2": (("V1", 1), ("V3", 1)),
    "V3": (("V2", 1), ("V4", 1)),
    "V4": (("V3", 1), ("V5", 1)),
    "V5": (("V4", 1), ("V6", 1)),
    "V6": (("V5", 1), ("aVR", -1)),
}
"""Chest lead -> the two leads that it looks like, each with its sign."""


def turned_chest_lead(band: Mapping[str, np.ndarray]) -> tuple[str, float] | None:
    """Find the chest lead that is upside down.

    Args:
        band: usable lead -> values (samples,) in any unit, 1 to 20 Hz.

    Returns:
        The lead that contradicts its neighbours most, and its correlation with them; None if no lead is below
        `TURNED`. A lead without both neighbours is not judged.
    """
    likeness: dict[str, float] = {}
    for lead, beside in NEIGHBOURS.items():
        if lead in band and all(other in band for other, _ in beside):
            total = np.sum([sign * _of_size_one(band[other]) for other, sign in beside], axis=0)
            size = float(np.linalg.norm(total))
            if size >= CANCELLED:
                likeness[lead] = float(_of_size_one(band[lead]) @ total) / size
    lowest = min(likeness, key=lambda lead: likeness[lead], default=None)
    return (lowest, likeness[lowest]) if lowest is not None and likeness[lowest] < TURNED else None


def _of_size_one(values: np.ndarray) -> np.ndarray:
    """Centre and scale a lead (samples,) to a norm of 1; a flat lead stays 0."""
    centred = values - values.mean()
    scaled: np.ndarray = centred / max(float(np.linalg.norm(centred)), 1e-12)
    return scaled


__all__ = ["NEIGHBOURS", "turned_chest_lead"]
