"""Evidence in which modalities change each other's meaning, on top of the additive evidence of `evidence.py`.

Two interactions, each on or off (y is the label, s = 2 y - 1):

sign     A labs axis a ~ N(0, 1) says how an ECG axis is to be read: u = s * sign(a) * SIGN_SIZE + noise. Neither a nor
         u alone depends on y. The drugs show a, the T wave shows u.
product  The ECG shows a bit c, the echo a bit e, each +1 or -1 with equal chance. Their product is s, except for a
         share `PRODUCT_ERROR` of the patients. The QT interval shows c, the size of the left ventricle shows e.

Where an interaction is off, its axis or bits are drawn without y, so that they are nuisance of the same look. Given y
the interactions are independent of the cardiac state. So the posterior odds of a subset are those of the additive
evidence times a factor of each interaction, and a modality alone knows nothing of them. Therefore late fusion, which
joins answers of single modalities, cannot be better than the posterior of the additive evidence.

The numbers are invented, so that each interaction is worth about as much as one modality (ours, decision 224).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FLIPPED, ECG_BIT, ECHO_BIT = "t_wave", "qt_interval", "lv_size"
"""Parameters that show u, c and e. Their usual evidence is replaced."""
SIGN_SIZE, SIGN_NOISE = 1.8, 0.9
BIT_SIZE, BIT_NOISE = 1.8, 0.9
PRODUCT_ERROR = 0.1
WORD_SLOPE = 3.0
"""Factor of a drug's slope: its log odds are WORD_SLOPE * slope * a."""
RARE = 1e-6
"""Chance of the rarest drug."""
NEUTRAL_WORD_RATE = 0.2
"""Chance of a drug without a slope. It shows the rhythm in other cohorts, and nothing here."""
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(60)
GRID = np.concatenate([-3.0 * (1 + NODES), 3.0 * (1 + NODES)])
"""Values of a from -6 to 6: Gauss-Legendre on either side of zero, because the sign jumps there."""
GRID_WEIGHTS = np.concatenate([NODE_WEIGHTS, NODE_WEIGHTS])


@dataclass(frozen=True)
class Interactions:
    """Which interactions a cohort has.

    Attributes:
        sign: A labs axis flips the meaning of an ECG axis.
        product: An ECG bit times an echo bit says the label.
    """

    sign: bool
    product: bool


@dataclass(frozen=True)
class InteractingEvidence:
    """What the interactions draw for n patients.

    Attributes:
        drugs: (n, drugs) bool, True for a drug that the patient takes.
        values: Parameter -> (n,) value, relative to the middle between the classes.
    """

    drugs: np.ndarray
    values: dict[str, np.ndarray]


def draw_interactions(
    rng: np.random.Generator, label: np.ndarray, slopes: Sequence[float], interactions: Interactions
) -> InteractingEvidence:
    """Draw the evidence of the interactions.

    Args:
        rng: Source of randomness.
        label: (n,), 1 = heart failure.
        slopes: Slope of each drug, 0 for a drug that shows nothing.
        interactions: Which interactions tell the label.
    """
    n = len(label)
    sign_of_label = 2 * label - 1
    nuisance = rng.choice((-1, 1), size=(2, n))
    a = rng.standard_normal(n)
    u = (sign_of_label if interactions.sign else nuisance[0]) * np.sign(a) * SIGN_SIZE
    c = rng.choice((-1, 1), size=n)
    right = np.where(rng.random(n) < PRODUCT_ERROR, -1, 1)
    e = c * right * (sign_of_label if interactions.product else nuisance[1])
    noise = rng.standard_normal((3, n))
    return InteractingEvidence(
        drugs=rng.random((n, len(slopes))) < drug_probabilities(a, slopes),
        values={
            FLIPPED: u + SIGN_NOISE * noise[0],
            ECG_BIT: c * BIT_SIZE + BIT_NOISE * noise[1],
            ECHO_BIT: e * BIT_SIZE + BIT_NOISE * noise[2],
        },
    )


def drug_probabilities(a: np.ndarray, slopes: Sequence[float]) -> np.ndarray:
    """Compute the probability of every drug, (n, drugs), from the labs axis a (n,)."""
    chance = 1 / (1 + np.exp(-WORD_SLOPE * a[:, None] * np.asarray(slopes)))
    # Never quite 0 or 1, so that the logarithms exist.
    return np.where(np.asarray(slopes) == 0, NEUTRAL_WORD_RATE, chance.clip(RARE, 1 - RARE))


def sides_of_drugs(drugs: np.ndarray, has_cell: np.ndarray, slopes: Sequence[float]) -> np.ndarray:
    """Compute P(a < 0 | drugs) and P(a > 0 | drugs), (n, 2). They are one half each without the cell.

    Args:
        drugs: (n, drugs) bool.
        has_cell: (n,) bool, False where the drug history is missing.
        slopes: Slope of each drug.
    """
    chance = drug_probabilities(GRID, slopes)  # (G, drugs)
    logs = drugs @ np.log(chance).T + (~drugs) @ np.log(1 - chance).T
    logs = np.where(has_cell[:, None], logs, 0.0) - 0.5 * GRID**2
    weights = np.exp(logs - logs.max(axis=1, keepdims=True)) * GRID_WEIGHTS
    positive = weights[:, GRID > 0].sum(axis=1) / weights.sum(axis=1)
    return np.stack([1 - positive, positive], axis=1)


def signs_of(values: np.ndarray, present: np.ndarray, size: float, noise: float) -> np.ndarray:
    """Compute the likelihood that the value stands at -size, or at +size, (n, 2). A row adds up to 1.

    Args:
        values: (n,) relative to the middle between the classes.
        present: (n,) bool, False for a value that is missing.
        size: Distance of either side from the middle.
        noise: Standard deviation.
    """
    logs = -0.5 * ((values[:, None] - size * np.array([-1.0, 1.0])) / noise) ** 2
    logs = np.where(present[:, None], logs, 0.0)
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


SAME, OTHER = np.eye(2), 1 - np.eye(2)
"""Which sides agree, and which do not: (2, 2)."""
PRODUCT_GIVEN_LABEL = np.stack(
    [PRODUCT_ERROR * SAME + (1 - PRODUCT_ERROR) * OTHER, (1 - PRODUCT_ERROR) * SAME + PRODUCT_ERROR * OTHER]
)
SIGN_GIVEN_LABEL = np.stack([OTHER, SAME])
"""(2, 2, 2): for y = 0 and y = 1, the chance of each side of the second, given the side of the first."""


@dataclass(frozen=True)
class Sides:
    """What the evidence says of the sides -1 and +1 of each axis and bit, (n, 2) each, rows add up to 1."""

    a: np.ndarray
    u: np.ndarray
    c: np.ndarray
    e: np.ndarray

    def links(self, interactions: Interactions) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """List the interactions: pair of modalities -> sides of the first, sides of the second, chance given y."""
        out = {}
        if interactions.sign:
            out["labs", "ecg"] = (self.a, self.u, SIGN_GIVEN_LABEL)
        if interactions.product:
            out["ecg", "echo"] = (self.c, self.e, PRODUCT_GIVEN_LABEL)
        return out


def log_odds_of_interactions(sides: Sides, interactions: Interactions, subset: Sequence[str]) -> np.ndarray:
    """Compute what the interactions add to the log odds of heart failure under a subset of modalities, (n,)."""
    out = np.zeros(len(sides.a))
    for pair, (first, second, chance) in sides.links(interactions).items():
        if set(pair) <= set(subset):
            without, with_disease = (np.einsum("ni,ij,nj->n", first, table, second) for table in chance)
            out += np.log(with_disease) - np.log(without)
    return out


def pair_factors(sides: Sides, interactions: Interactions, query: str, gallery: str) -> np.ndarray | float:
    """Compute how much likelier a pair of inputs is for one patient than for two, by the interactions and y.

    Args:
        sides: What the evidence of n patients says.
        interactions: The interactions of the cohort.
        query: Modality of the rows.
        gallery: Modality of the columns.

    Returns:
        (2, n, n) for y = 0 and y = 1; 1.0 if no interaction joins the two modalities.
    """
    links = sides.links(interactions)
    if (query, gallery) in links:
        first, second, chance = links[query, gallery]
    elif (gallery, query) in links:
        second, first, chance = links[gallery, query]  # the chances are symmetric
    else:
        return 1.0
    return np.stack([2 * first @ table @ second.T for table in chance])
