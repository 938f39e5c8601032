"""The optimum of a synthetic cohort: exact posteriors by numerical integration over the cardiac state.

y is the label, x the state on three axes, e_S the evidence of a subset S (see `evidence.py`). A product of the
likelihood ratios of single modalities would be wrong, because the modalities are correlated given y. Correct is:

P(e_S | y) = [ integral over x of p(x | y) prod_m L_m(x_m) ] * [ sum over rhythm of P(rhythm | y) prod_m R_m(rhythm) ]
with L_m, R_m the likelihoods of the present evidence of modality m. The integral is a trapezoid sum on a grid of the
three axes. For Gaussians it converges exponentially if the spacing of the grid is below the narrowest width.

The figures (AUC, C-index, retrieval) are written out here and not taken from `evaluation`, because the cohorts lie
below that room and the optimum must not share mistakes with the code that it checks.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.special import logit
from scipy.stats import hypergeom, rankdata

from tgmm_hf.cohorts.synthetic.evidence import (
    CENTRE,
    DRUGS,
    ECG_AF_GIVEN_RHYTHM,
    HISTORY,
    LA_SHIFT,
    PARAMETERS,
    PREVALENCE,
    WORDS,
    Evidence,
    Strength,
    draw,
    sigmoid,
    strength_of,
)
from tgmm_hf.cohorts.synthetic.interactions import log_odds_of_interactions, pair_factors
from tgmm_hf.cohorts.synthetic.interactions_bayes import additive_part, sides_of
from tgmm_hf.utils.names import MODALITIES, SUBSETS, join_names

GRID_POINTS = 49
CHUNK = 1000
POPULATION = 20_000
RETRIEVAL_POPULATION = 1_000
RETRIEVAL_PAIRS = tuple((query, gallery) for query in MODALITIES for gallery in MODALITIES if query != gallery)
CANDIDATES = (3, 4)


@dataclass(frozen=True)
class Grid:
    """Quadrature grid of G points per axis.

    Attributes:
        axis: (G,) values of every axis.
        prior: (2, G, G, G) weights of p(x | y) for y = 0 and y = 1. The weights of each y add up to 1.
        rhythm: (2, 2) P(rhythm | y), a row for each y, a column for each rhythm.
        risk_weights: (3,) log hazard of incident heart failure per unit of each axis.
        prevalence: P(y = 1).
    """

    axis: np.ndarray
    prior: np.ndarray
    rhythm: np.ndarray
    risk_weights: np.ndarray
    prevalence: float = PREVALENCE


def make_grid(strength: Strength) -> Grid:
    """Make the grid: from five standard deviations below the mean of y = 0 to five above the mean of y = 1."""
    axis = np.linspace(-5.0, max(strength.separation) + 5.0, GRID_POINTS)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    precision = np.linalg.inv(strength.covariance)
    prior = []
    for label in (0, 1):
        away = points - label * np.array(strength.separation)
        weight = np.exp(-0.5 * np.einsum("...i,ij,...j->...", away, precision, away))
        prior.append(weight / weight.sum())
    atrial = np.array(strength.rhythm_given_label)
    rhythm = np.stack([1 - atrial, atrial], axis=1)
    return Grid(axis, np.stack(prior), rhythm, np.array(strength.risk_weights), strength.prevalence)


@dataclass(frozen=True)
class Likelihood:
    """Likelihood of the evidence of one modality for n patients.

    Each row is scaled so that its largest entry is 1. The scale cancels in every posterior and in the pointwise mutual
    information.

    Attributes:
        axis: (n, G) likelihood at each grid point of the modality's axis.
        rhythm: (n, 2) likelihood without and with atrial fibrillation.
    """

    axis: np.ndarray
    rhythm: np.ndarray


def likelihoods(table: Evidence, grid: Grid) -> dict[str, Likelihood]:
    """Compute the likelihood of each modality, modality -> [`Likelihood`], from the evidence that is present."""
    log_axis = {m: np.zeros((len(table), len(grid.axis))) for m in MODALITIES}
    log_rhythm = {m: np.zeros((len(table), 2)) for m in MODALITIES}
    for k, p in enumerate(PARAMETERS):
        target, levels = (log_axis, grid.axis) if p.source == "axis" else (log_rhythm, LA_SHIFT * np.arange(2.0))
        term = -0.5 * ((table.values[:, k, None] - levels) / p.noise) ** 2
        target[p.modality] += np.where(table.present[:, k, None], term, 0.0)
    add_words(table, grid, log_axis["labs"], log_rhythm["labs"])
    af = np.array(ECG_AF_GIVEN_RHYTHM)
    term = np.where(table.ecg_af[:, None], np.log(af), np.log(1 - af))
    log_rhythm["ecg"] += np.where(table.usable[:, 1, None], term, 0.0)
    return {m: Likelihood(scaled_exp(log_axis[m]), scaled_exp(log_rhythm[m])) for m in MODALITIES}


def add_words(table: Evidence, grid: Grid, log_axis: np.ndarray, log_rhythm: np.ndarray) -> None:
    """Add the log-likelihood of every word whose text cell is present, in place.

    Args:
        table: Evidence of n patients.
        grid: The grid.
        log_axis: (n, G), changed by words that depend on the labs axis.
        log_rhythm: (n, 2), changed by words that depend on the rhythm.
    """
    for k, word in enumerate(WORDS):
        has_cell = table.cells[:, (HISTORY, DRUGS).index(word.cell), None]
        if word.given_rhythm is None:
            chance, target = sigmoid(word.intercept + word.slope * (grid.axis - CENTRE)), log_axis
        else:
            chance, target = np.array(word.given_rhythm), log_rhythm
        target += np.where(has_cell, np.where(table.words[:, k, None], np.log(chance), np.log(1 - chance)), 0.0)


def scaled_exp(logs: np.ndarray) -> np.ndarray:
    """Compute the exponential of `logs` (n, k), each row scaled so that its largest entry is 1."""
    return np.exp(logs - logs.max(axis=1, keepdims=True))


def contract(weights: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """Integrate over the grid: sum of the weights times the product of the factors of all axes.

    Args:
        weights: (G, ..., G), one axis for each factor.
        parts: One factor (n, G) for each axis.

    Returns:
        (n,).
    """
    n = len(parts[0])
    out = np.empty(n)
    for start in range(0, n, CHUNK):
        rows = slice(start, min(start + CHUNK, n))
        first = parts[0][rows]
        block = (first @ weights.reshape(len(weights), -1)).reshape(len(first), *weights.shape[1:])
        for part in parts[1:]:
            block = np.einsum("ng...,ng->n...", block, part[rows])
        out[rows] = block
    return out


@dataclass(frozen=True)
class Reference:
    """Best scores that any model can give to n patients. Keys are subsets, such as "labs+ecg".

    Attributes:
        posterior: Subset -> (n,) probability of heart failure given its evidence, P(y = 1 | e_S).
        risk: Subset -> (n,) expected log hazard of incident heart failure, E[log hazard | e_S, y = 0].
        defined: Subset -> (n,) bool, True if every modality of the subset can be read.
        late_fusion: Subset -> (n,) posterior of the additive evidence, which no late fusion can beat (see
            `interactions.py`). {} without interactions.
    """

    posterior: dict[str, np.ndarray]
    risk: dict[str, np.ndarray]
    defined: dict[str, np.ndarray]
    late_fusion: dict[str, np.ndarray] = field(default_factory=dict)


def references(table: Evidence, evidence: str | Strength) -> Reference:
    """Compute the best scores of all seven subsets for the patients of `table`.

    `evidence` is the strength, or its name in `EVIDENCE`.
    """
    strength = strength_of(evidence)
    grid = make_grid(strength)
    parts = likelihoods(additive_part(table, strength), grid)
    out = Reference({}, {}, {})
    for subset in SUBSETS:
        name = join_names(subset)
        out.posterior[name], out.risk[name] = subset_reference(grid, parts, subset)
        members = [MODALITIES.index(m) for m in subset]
        out.defined[name] = np.asarray(table.usable[:, members].all(axis=1))
        if strength.interactions is not None:
            out.late_fusion[name] = out.posterior[name]
            added = log_odds_of_interactions(sides_of(table), strength.interactions, subset)
            out.posterior[name] = sigmoid(logit(out.posterior[name]) + added)
    return out


def subset_reference(
    grid: Grid, parts: dict[str, Likelihood], subset: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the posterior (n,) and the risk (n,) of one subset, see [`Reference`].

    `parts` maps each modality to the likelihood of its evidence for n patients.
    """
    summed = tuple(k for k, m in enumerate(MODALITIES) if m not in subset)
    axes = [parts[m].axis for m in subset]
    rhythm = np.prod([parts[m].rhythm for m in subset], axis=0) @ grid.rhythm.T  # (n, 2): sum over rhythm, by y
    given = [contract(grid.prior[y].sum(axis=summed), axes) * rhythm[:, y] for y in (0, 1)]
    posterior = grid.prevalence * given[1] / (grid.prevalence * given[1] + (1 - grid.prevalence) * given[0])
    score = sum(w * grid.axis.reshape([-1 if k == j else 1 for j in range(3)]) for k, w in enumerate(grid.risk_weights))
    mean_score = contract((grid.prior[0] * score).sum(axis=summed), axes) * rhythm[:, 0] / given[0]
    return posterior, mean_score


def pointwise_mutual_information(
    grid: Grid, parts: dict[str, Likelihood], query: str, gallery: str, factors: np.ndarray | float = 1.0
) -> np.ndarray:
    """Compute how much each pair of inputs speaks for one patient: log P(e_a, e_b) - log P(e_a) - log P(e_b).

    No model can rank candidates better than by this number.

    Args:
        grid: The grid.
        parts: Likelihoods of n patients.
        query: Modality a.
        gallery: Modality b.
        factors: (2, n, n) for y = 0 and y = 1, what the interactions add to each pair, see [`pair_factors`].

    Returns:
        (n, n): row i is the query of patient i, column j the candidate of patient j.
    """
    a, b = MODALITIES.index(query), MODALITIES.index(gallery)
    (summed,) = (k for k in range(3) if k not in (a, b))
    prevalence = (1 - grid.prevalence, grid.prevalence)
    joint, single = 0.0, {query: 0.0, gallery: 0.0}
    for y in (0, 1):
        weights = grid.prior[y].sum(axis=summed)
        weights = weights if a < b else weights.T  # rows follow the axis of the query
        pair = parts[query].axis @ weights @ parts[gallery].axis.T
        rhythm = (parts[query].rhythm * grid.rhythm[y]) @ parts[gallery].rhythm.T
        joint = joint + prevalence[y] * pair * rhythm * (factors if isinstance(factors, float) else factors[y])
        for name, marginal in ((query, weights.sum(axis=1)), (gallery, weights.sum(axis=0))):
            alone = (parts[name].axis @ marginal) * (parts[name].rhythm @ grid.rhythm[y])
            single[name] = single[name] + prevalence[y] * alone
    return np.log(joint) - np.log(single[query])[:, None] - np.log(single[gallery])[None, :]


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Compute the area under the ROC curve of `score` (n,) for `label` (n,), 0 or 1.

    A pair of patients with the same score counts half. The result is NaN if all patients have the same label.
    """
    positives = int((label == 1).sum())
    negatives = len(label) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(score)[label == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def c_index(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Compute Harrell's C: in pairs with t_i < t_j in which i has the event, how often i has the higher risk.

    Args:
        time: (n,) days.
        event: (n,) 1 for the event. 0 and 2 (death) are censored.
        risk: (n,) scores. Equal scores count half.

    Returns:
        The share, NaN if there is no pair.
    """
    right = pairs = 0.0
    for i in np.flatnonzero(event == 1):
        later = risk[time > time[i]]
        right += (risk[i] > later).sum() + 0.5 * (risk[i] == later).sum()
        pairs += len(later)
    return float(right / pairs) if pairs else float("nan")


def retrieval_scores(similarity: np.ndarray) -> dict[str, float]:
    """Compute LRAP (here the mean reciprocal rank) and recall of a retrieval.

    With 3 or 4 candidates the figure is the exact expectation over all ways to draw the wrong candidates.

    Args:
        similarity: (n, n) of query i and candidate j. Candidate i is right for query i. A tie counts as an error.

    Returns:
        "n", "lrap_full" (all candidates), and "lrap_3", "recall_1_3", "recall_2_3" and the same with 4.
    """
    n = len(similarity)
    above = (similarity >= np.diag(similarity)[:, None]).sum(axis=1) - 1  # without the item itself
    out = {"n": n, "lrap_full": float((1.0 / (above + 1)).mean())}
    for candidates in CANDIDATES:
        if n < candidates:
            continue
        ranks = np.arange(candidates)  # number of drawn negatives above the right item
        chance = hypergeom.pmf(ranks, n - 1, above[:, None], candidates - 1)  # (n, candidates)
        out[f"lrap_{candidates}"] = float((chance / (ranks + 1)).sum(axis=1).mean())
        out[f"recall_1_{candidates}"] = float(chance[:, 0].mean())
        out[f"recall_2_{candidates}"] = float(chance[:, :2].sum(axis=1).mean())
    return out


def figures(table: Evidence, evidence: str | Strength, reference: Reference | None = None) -> dict[str, dict]:
    """Compute the optimum on the patients of `table`.

    Args:
        table: Evidence of the patients.
        evidence: The strength, or its name in `EVIDENCE`.
        reference: Best scores of the same patients. None computes them.

    Returns:
        "hf_diagnosis": subset -> auc, accuracy, n, and with interactions late_fusion_auc. "hf_risk": subset -> c_index,
        n, events. "retrieval": direction -> figures of [`retrieval_scores`].
    """
    reference = reference or references(table, evidence)
    out: dict[str, dict] = {"hf_diagnosis": {}, "hf_risk": {}, "retrieval": {}}
    for name, posterior in reference.posterior.items():
        rows: np.ndarray = reference.defined[name]
        label = table.label[rows]
        out["hf_diagnosis"][name] = {
            "auc": auc(posterior[rows], label),
            "accuracy": float(((posterior[rows] > 0.5) == label).mean()) if rows.any() else float("nan"),
            "n": int(rows.sum()),
        }
        if reference.late_fusion:
            out["hf_diagnosis"][name]["late_fusion_auc"] = auc(reference.late_fusion[name][rows], label)
        followed = rows & table.followed
        out["hf_risk"][name] = {
            "c_index": c_index(table.time[followed], table.event[followed], reference.risk[name][followed]),
            "n": int(followed.sum()),
            "events": int((table.event[followed] == 1).sum()),
        }
    out["retrieval"] = retrieval_figures(table, evidence)
    return out


def retrieval_figures(table: Evidence, evidence: str | Strength) -> dict[str, dict]:
    """Compute the best retrieval figures: direction ("labs->ecg") -> figures of [`retrieval_scores`].

    `evidence` is the strength, or its name in `EVIDENCE`. `table` holds the evidence of the patients. At most the
    first `RETRIEVAL_POPULATION` patients with all modalities count. Without such a patient the result is {}.
    """
    rows = np.flatnonzero(table.usable.all(axis=1))[:RETRIEVAL_POPULATION]
    if not len(rows):
        return {}
    strength, table = strength_of(evidence), table.take(rows)
    grid = make_grid(strength)
    parts = likelihoods(additive_part(table, strength), grid)
    out = {}
    for a, b in RETRIEVAL_PAIRS:
        factors = pair_factors(sides_of(table), strength.interactions, a, b) if strength.interactions else 1.0
        out[f"{a}->{b}"] = retrieval_scores(pointwise_mutual_information(grid, parts, a, b, factors))
    return out


@lru_cache(maxsize=4)
def population_figures(evidence: str | Strength, n: int = POPULATION) -> dict[str, dict]:
    """Compute [`figures`] on `n` patients that are drawn with a fixed seed, so that they are the same for every cohort.

    Nothing is written. `evidence` is a strength, or its name in `EVIDENCE`.
    """
    return figures(draw(np.random.default_rng(20_250_101), n, strength_of(evidence)), evidence)
