"""Find one chest lead that is upside down, by the leads beside it.

The chest electrodes lie side by side, so a chest lead looks like its neighbours: V2 to V5 like the lead before and the
lead after them, V6 like V5 and the opposite of aVR, V1 like V2 and aVR. `docs/results/checks/ecg.md` has the measured
rates, decision 175 the reasons.
"""

from collections.abc import Container, Mapping

import numpy as np

TURNED = -0.4
"""A lead is upside down if it correlates less than this with the sum of its neighbours, each scaled to the same size.
Of 1,647 public recordings two have such a lead, both in a lead that has no beats; all others have at least -0.36."""
TURNED_FAR = -0.7
"""The same for a lead whose neighbour is missing, so that the next lead on this side takes its place. With each lead of
1,646 public recordings left out in turn, 2 recordings have such a lead (decision 244)."""
MAX_SKIPPED = 1
"""Largest number of missing leads between a lead and its neighbours. V1 and V6 are no neighbours: with these two
chest leads alone, 5 of 407 good recordings have a lead below `TURNED_FAR`."""
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
_AROUND = (("aVR", 1), *((lead, 1) for lead in NEIGHBOURS), ("aVR", -1))
"""The chest leads in their order around the chest, with aVR at the right and its opposite at the left."""


def turned_chest_lead(band: Mapping[str, np.ndarray]) -> tuple[str, float] | None:
    """Find the chest lead that is upside down.

    Args:
        band: usable lead -> values (samples,) in any unit, 1 to 20 Hz.

    Returns:
        The lead that contradicts its neighbours most, and its correlation with them; None if no lead is below
        `TURNED`, or `TURNED_FAR` where a neighbour is missing. A lead with two missing neighbours is not judged.
    """
    likeness: dict[str, float] = {}
    for lead in NEIGHBOURS:
        beside = neighbours_of(lead, band)
        if lead not in band or len(beside) < 2:
            continue
        total = np.sum([sign * _of_size_one(band[other]) for other, sign in beside], axis=0)
        size = float(np.linalg.norm(total))
        if size >= CANCELLED:
            value = float(_of_size_one(band[lead]) @ total) / size
            if value < (TURNED if beside == NEIGHBOURS[lead] else TURNED_FAR):
                likeness[lead] = value
    lowest = min(likeness, key=lambda lead: likeness[lead], default=None)
    return (lowest, likeness[lowest]) if lowest is not None else None


def neighbours_of(lead: str, usable: Container[str]) -> tuple[tuple[str, int], ...]:
    """Find the next usable lead on each side of a chest lead, each with its sign: `NEIGHBOURS`, if they are usable.

    Fewer than two leads are returned if a side has none, and no lead if more than `MAX_SKIPPED` are missing between.
    """
    place = [name for name, _ in _AROUND].index(lead)
    places = [index for index, (name, _) in enumerate(_AROUND) if name in usable and index != place]
    before, after = [index for index in places if index < place][-1:], [index for index in places if index > place][:1]
    if before and after and after[0] - before[0] - 2 > MAX_SKIPPED:
        return ()
    sides = after + before if lead == "V1" else before + after
    return tuple(_AROUND[side] for side in sides)


def _of_size_one(values: np.ndarray) -> np.ndarray:
    """Centre and scale a lead (samples,) to a norm of 1; a flat lead stays 0."""
    centred = values - values.mean()
    scaled: np.ndarray = centred / max(float(np.linalg.norm(centred)), 1e-12)
    return scaled


__all__ = ["NEIGHBOURS", "neighbours_of", "turned_chest_lead"]
