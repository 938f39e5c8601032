"""Find leads that are copies of another lead (equal, scaled, turned over), or computed from several leads."""

from collections.abc import Mapping
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from .ecg_findings import LeadFindings
from .ecg_limb_leads import LIMB_LEADS

COPY_RATIO = 0.005
"""Two leads are copies if the part of one that does not follow the other is below this share of its rms (1 to 20 Hz).
Real neighbours have 0.0075 or more."""
COPY_STEPS = 0.35
"""Two leads are also copies if this part is below COPY_STEPS times the step of the stored values, times the root of the
sum of the squares of both factors. A rounded copy has 0.29, real neighbours have 0.77 or more."""
NEAR_RATIO = 0.2
"""Leads that differ more (1 to 20 Hz) are not compared with their steps."""
COMPUTED_RATIO = 0.003
"""A chest lead is computed from the other leads if the part that does not follow them is below this share of its rms (1
to 20 Hz), or if it is a rounded sum (`COPY_STEPS`). Of 1,646 public recordings one has 0.0074 and 0.77 steps, all
others at least 0.013. Decision 243 has the reasons."""
CERTAIN_RATIO = 0.015
"""A rounded sum is certain if the part that does not follow the other leads is below this share of its rms (1 to 20
Hz). Coarser numbers hide the signal of the lead itself: with steps of 0.1 mV, 5 of 20 good recordings have a lead that
looks like a rounded sum. Of 833 public recordings one has 0.0075 beside its neighbours, all others at least 0.017."""
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


def check_computed_leads(
    findings: LeadFindings, leads: Mapping[str, np.ndarray], band: Mapping[str, np.ndarray]
) -> None:
    """Put chest leads out of use that are a mean of the leads beside them; note leads that follow from all others.

    A lead is only noted, and used, if its numbers are too coarse to tell whether it was computed.
    """
    computed = computed_leads({lead: leads[lead] for lead in leads if lead not in findings.unusable}, band)
    for lead, (before, after) in computed.between.items():
        if lead in computed.coarse:
            text = f"lead {lead} is the mean of {before} and {after} within the steps of its numbers: was it computed?"
            findings.add("ecg_computed_leads", lead, text)
        else:
            findings.put_out("ecg_computed_leads", lead, f"was computed from {before} and {after}")
    if computed.dependent:
        coarse = set(computed.dependent) & set(computed.coarse)
        how = "within the steps of their numbers" if coarse else "exactly"
        text = f"{', '.join(computed.dependent)} can be computed from the other leads {how}, as if most were computed"
        findings.add("ecg_computed_leads", None, f"{text} from a few recorded ones: find the recorded leads")


class ComputedLeads(NamedTuple):
    """Chest leads without a signal of their own.

    Attributes:
        between: chest lead -> the two leads beside it that it is a mean of.
        dependent: other chest leads that follow from all other leads.
        coarse: the leads of both that follow only because their numbers are coarse (`CERTAIN_RATIO`).
    """

    between: dict[str, tuple[str, str]]
    dependent: list[str]
    coarse: list[str]


def computed_leads(leads: Mapping[str, np.ndarray], band: Mapping[str, np.ndarray]) -> ComputedLeads:
    """Find chest leads that were computed from other leads.

    Args:
        leads: usable lead -> values (samples,) without NaN, in any unit.
        band: the same leads, 1 to 20 Hz.

    Returns:
        The leads. Nothing is found with fewer than three chest leads.
    """
    chest = [lead for lead in leads if lead not in LIMB_LEADS]
    free = [lead for lead in leads if lead in LIMB_LEADS][:2] + chest
    if len(chest) < 3 or min(float(np.ptp(band[lead])) for lead in free) == 0:
        return ComputedLeads({}, [], [])
    all_others = [lead for lead in chest if _follows(lead, free, leads, band)]
    between, dependent, coarse = {}, [], []
    for lead, before, after in zip(chest[1:-1], chest, chest[2:], strict=False):
        how = _follows(lead, [before, lead, after], leads, band, of_positive_weights=True) if lead in all_others else ""
        if how:
            between[lead] = (before, after)
            coarse += [lead] if how == "coarse" else []
    rest = [lead for lead in free if lead not in between]
    for lead in rest:
        how = _follows(lead, rest, leads, band) if lead in all_others else ""
        if how:
            dependent.append(lead)
            coarse += [lead] if how == "coarse" else []
    return ComputedLeads(between, dependent, coarse)


def _follows(
    lead: str,
    group: list[str],
    leads: Mapping[str, np.ndarray],
    band: Mapping[str, np.ndarray],
    of_positive_weights: bool = False,
) -> Literal["", "exact", "coarse"]:
    """Tell whether a lead is a weighted sum of the other leads of `group`, perhaps rounded.

    Returns:
        "exact" for a sum, "coarse" if it is a sum within the steps of coarse numbers (`CERTAIN_RATIO`), else "".
    """
    row = group.index(lead)
    rest, size, weights = _misfit_of_sum(np.stack([band[name] for name in group]), row)
    if of_positive_weights and not (np.delete(weights, row) > 0).all():
        return ""
    if rest < COMPUTED_RATIO * size:
        return "exact"
    if rest >= NEAR_RATIO * size:
        return ""
    values = np.stack([leads[name] - leads[name].mean() for name in group])
    misfit, _, weights = _misfit_of_sum(values, row)
    if misfit >= COPY_STEPS * _step(values[row]) * float(np.sqrt(1 + np.square(weights).sum())):
        return ""
    return "exact" if rest < CERTAIN_RATIO * size else "coarse"


def _misfit_of_sum(signals: np.ndarray, row: int) -> tuple[float, float, np.ndarray]:
    """Fit one signal by the others.

    Args:
        signals: (signals, samples).
        row: the signal to fit.

    Returns:
        Three elements: rms of what is left; rms of the signal; (signals,) weights, 0 at `row`.
    """
    gram = signals @ signals.T / signals.shape[1]
    is_used = np.arange(len(signals)) != row
    weights = np.zeros(len(signals))
    weights[is_used] = np.linalg.lstsq(gram[np.ix_(is_used, is_used)], gram[is_used, row], rcond=1e-12)[0]
    rest = float(np.sqrt(np.square(signals[row] - weights @ signals).mean()))
    return rest, float(np.sqrt(gram[row, row])), weights
