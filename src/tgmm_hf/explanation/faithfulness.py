"""Measures of one patient: does an order of units by an attribution tell what the model uses, and where evidence lies?

    pointing     the strongest unit is one of the units that hold the evidence
    mass         share of the absolute attribution that lies on these units
    deletion     units are hidden, strongest support first; the mean score along the way should be low
    insertion    units are shown, strongest support first; the mean score along the way should be high
    comprehensiveness, sufficiency    change of the score without, and with only, the first fifth of the units
                                      (DeYoung et al. 2020)

Deletion and insertion are RISE's (Petsiuk et al. 2018), in the unit of the score, against random orders.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tgmm_hf.explanation.units import Units

SHARES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Shares of units that are hidden (deletion) or shown (insertion)."""
FIRST_SHARE = 0.2
"""Share of the units for comprehensiveness and sufficiency, one of `SHARES`."""
OTHER_SETS = 5
"""Draws of units without evidence in `evidence_effect`."""
EVIDENCE_SHARE = {"labs": 1.0, "ecg": 0.8, "echo": 0.8, "xray": 0.8, "ecg_time": 0.8}
"""The units that hold the evidence are the smallest set with this share of the planted change. Cells have it or not."""


@dataclass(frozen=True)
class Curves:
    """Scores along an order of units.

    Attributes:
        deletion: score after the first units, by `SHARES`, are hidden.
        insertion: score with only the first units shown.
    """

    deletion: np.ndarray
    insertion: np.ndarray

    def figures(self) -> dict[str, float]:
        """Compute the mean scores along both curves, comprehensiveness and sufficiency."""
        first = SHARES.index(FIRST_SHARE)
        return {
            "deletion": mean_along(self.deletion),
            "insertion": mean_along(self.insertion),
            "comprehensiveness": float(self.deletion[0] - self.deletion[first]),
            "sufficiency": float(self.deletion[0] - self.insertion[first]),
        }


def mean_along(scores: np.ndarray) -> float:
    """Compute the mean of a curve over `SHARES` by the trapezoid rule."""
    return float(np.trapezoid(scores, SHARES))


def curves(units: Units, orders: Sequence[np.ndarray]) -> list[Curves]:
    """Score all orders of units together.

    Args:
        units: units of one modality of one patient.
        orders: each a permutation of the units that are present, the unit that is hidden or shown first at its start.
    """
    kept = []
    for order in orders:
        rank = np.argsort(order)
        for share in SHARES:
            first = rank < round(share * len(order))
            kept += [~first, first]
    scores = units.score(np.array(kept)).reshape(len(orders), len(SHARES), 2)
    return [Curves(deletion=scores_of_order[:, 0], insertion=scores_of_order[:, 1]) for scores_of_order in scores]


def order_of(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Order units by their values, largest first. Equal values are in random order."""
    return np.lexsort((random.random(len(values)), -values))


def evidence_units(planted: np.ndarray, share: float) -> np.ndarray:
    """Choose the smallest set of units that holds a share of the planted change: (units,) bool.

    Args:
        planted: (units,) change of each unit, not negative.
        share: between 0 and 1.
    """
    order = np.argsort(-planted, kind="stable")
    before = np.cumsum(planted[order]) - planted[order]
    chosen = np.zeros(len(planted), bool)
    chosen[order] = (before < share * planted.sum()) & (planted[order] > 0)
    return chosen


def evidence_effect(units: Units, planted: np.ndarray, share: float, random: np.random.Generator) -> dict[str, float]:
    """Compare how much the score changes without evidence, and without as many other units.

    This is about the model, not about a method: no true map can point at evidence that the model does not read.

    Args:
        units: units of one modality of one patient.
        planted: (units,) change of each unit, not negative.
        share: share of the planted change that defines the evidence.
        random: draws the other units.

    Returns:
        {"evidence", "other_units"}: absolute change of the score; the second is the mean over `OTHER_SETS` draws. Empty
        if all units hold evidence, or none does.
    """
    evidence = evidence_units(planted, share)
    without_evidence = np.flatnonzero(~evidence)
    number = min(int(evidence.sum()), len(without_evidence))
    if number == 0:
        return {}
    hidden = [np.argsort(-planted, kind="stable")[:number]]
    hidden += [random.choice(without_evidence, number, replace=False) for _ in range(OTHER_SETS)]
    shown = np.ones((len(hidden) + 1, len(planted)), bool)
    for row, places in zip(shown[1:], hidden, strict=True):
        row[places] = False
    scores = units.score(shown)
    changes = np.abs(scores[1:] - scores[0])
    return {"evidence": float(changes[0]), "other_units": float(changes[1:].mean())}


def pointing(values: np.ndarray, evidence: np.ndarray) -> dict[str, float]:
    """Compare an attribution with the units that hold the evidence.

    Args:
        values: (units,) signed attribution.
        evidence: (units,) bool.

    Returns:
        "pointing": 1 if the unit with the largest absolute value holds evidence, else 0; of equal units, the share that
        does. "mass": share of the absolute values on evidence. "chance": share of the units that hold evidence, which
        is what both are for random values.
    """
    strength, chance = np.abs(values), float(evidence.mean())
    total = strength.sum()
    mass = float(strength[evidence].sum() / total) if total > 0 else chance
    return {"pointing": float(evidence[strength == strength.max()].mean()), "mass": mass, "chance": chance}
