"""Find leads that are copies of another lead: equal, scaled, turned over, or rounded after that."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from .ecg_limb_leads import LIMB_LEADS

COPY_RATIO = 0.005
"""Two leads are copies if the part of one that does not follow the other is below this share of its rms (1 to 20 Hz).
Real neighbours have 0.0075 or more."""
COPY_STEPS = 0.35
"""Two leads are also copies if this part is below COPY_STEPS times the step of the stored values, times the root of the
sum of the squares of both factors. A rounded copy has 0.29, real neighbours have 0.77 or more."""
NEAR_RATIO = 0.2
"""Leads that differ more (1 to 20 Hz) are not compared with their steps."""
_STEP_SAMPLES = 10_000


def copied_leads(leads: Mapping[str, np.ndarray], band: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Find pairs of leads, at least one of them a chest lead, that are copies of each other.

    Args:
        leads: lead -> values (samples,) without NaN.
        band: the same leads, 1 to 20 Hz.

    Returns:
        (lead, other lead) -> the factor by which the lead is the other lead. Limb leads have the same number of free
        signals as two leads, so copies among them are found by `ecg_checks` and not here.
    """
    factors = {}
    values = {lead: samples - samples.mean() for lead, samples in leads.items()}
    signals = np.stack([band[lead] for lead in leads])
    products = signals @ signals.T / signals.shape[1]
    rows = {lead: row for row, lead in enumerate(leads)}
    sizes = dict(zip(leads, np.sqrt(np.diag(products)).tolist(), strict=True))
    for one, two in combinations(leads, 2):
        if (one in LIMB_LEADS and two in LIMB_LEADS) or min(sizes[one], sizes[two]) == 0:
            continue
        likeness = float(products[rows[one], rows[two]]) / (sizes[one] * sizes[two])
        ratio = np.sqrt(max(0.0, 1 - likeness**2))
        if ratio < COPY_RATIO or (ratio < NEAR_RATIO and _is_rounded_copy(values[one], values[two])):
            factors[one, two] = likeness * sizes[one] / sizes[two]
    return factors


def _is_rounded_copy(one: np.ndarray, two: np.ndarray) -> bool:
    """Tell whether two leads (samples,) of mean zero differ by a factor and the rounding of their values only."""
    factor = float(one @ two / (two @ two))
    misfit = float(np.sqrt(np.square(one - factor * two).mean()))
    step = max(_step(one), _step(two))
    return misfit < COPY_STEPS * step * np.sqrt(1 + factor**2)


def _step(values: np.ndarray) -> float:
    """Find the smallest difference between the values of a lead (samples,), the step it was stored with; 0 if none."""
    steps = np.diff(np.unique(values[:_STEP_SAMPLES]))
    steps = steps[steps > 1e-9 * max(float(np.abs(values).max()), 1e-30)]
    return float(steps.min()) if steps.size else 0.0
