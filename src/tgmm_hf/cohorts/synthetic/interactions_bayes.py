"""The optimum of a cohort whose modalities interact: the additive part, and what the interactions add to it."""

from dataclasses import replace

import numpy as np

from tgmm_hf.cohorts.synthetic.evidence import CENTRE, DRUG_SLOPES, DRUGS, HISTORY, WORDS, Evidence, Strength, index_of
from tgmm_hf.cohorts.synthetic.interactions import (
    BIT_NOISE,
    BIT_SIZE,
    ECG_BIT,
    ECHO_BIT,
    FLIPPED,
    SIGN_NOISE,
    SIGN_SIZE,
    Sides,
    sides_of_drugs,
    signs_of,
)


def additive_part(table: Evidence, strength: Strength) -> Evidence:
    """Return the table without the evidence of the interactions, which is marked as absent. Nothing is changed."""
    if strength.interactions is None:
        return table
    present, cells = table.present.copy(), table.cells.copy()
    present[:, [index_of(name) for name in (FLIPPED, ECG_BIT, ECHO_BIT)]] = False
    cells[:, (HISTORY, DRUGS).index(DRUGS)] = False
    return replace(table, present=present, cells=cells)


def sides_of(table: Evidence) -> Sides:
    """Compute what the evidence of each patient says of the sides of the axes and bits of the interactions."""
    has_drugs = table.cells[:, (HISTORY, DRUGS).index(DRUGS)]

    def signs(name: str, size: float, noise: float) -> np.ndarray:
        column = index_of(name)
        return signs_of(table.values[:, column] - CENTRE, table.present[:, column], size, noise)

    return Sides(
        a=sides_of_drugs(table.words[:, [word.cell == DRUGS for word in WORDS]], has_drugs, DRUG_SLOPES),
        u=signs(FLIPPED, SIGN_SIZE, SIGN_NOISE),
        c=signs(ECG_BIT, BIT_SIZE, BIT_NOISE),
        e=signs(ECHO_BIT, BIT_SIZE, BIT_NOISE),
    )
