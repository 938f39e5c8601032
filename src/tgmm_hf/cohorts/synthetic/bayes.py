"""Bayes-optimal references: joint posteriors by quadrature over the state, never a product of per-modality ratios.

P(e_S | y) = [ integral over x of p(x | y) prod_m L_m(x_m) ] * [ sum over rhythm of P(rhythm | y) prod_m R_m(rhythm) ]
with L_m, R_m the likelihoods of the present evidence of modality m (`evidence.py`). The integral is a trapezoid sum
on a grid of the three axes: for Gaussians it converges exponentially once the spacing is below the narrowest width.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import hypergeom, rankdata

from tgmm_hf.cohorts.synthetic.evidence import (
    CENTRE,
    DRUGS,
    ECG_AF_GIVEN_RHYTHM,
    EVIDENCE,
    HISTORY,
    LA_SHIFT,
    PARAMETERS,
    PREVALENCE,
    WORDS,
    Evidence,
    Strength,
    draw,
    sigmoid,
)
from tgmm_hf.utils.names import MODALITIES, SUBSETS

GRID_POINTS = 49
CHUNK = 1000
POPULATION = 20_000
RETRIEVAL_POPULATION = 1_000
DIRECTIONS = tuple((a, b) for a in MODALITIES for b in MODALITIES if a != b)
CANDIDATES = (3, 4)


@dataclass(frozen=True)
class Grid:
    """Quadrature grid: `axis` (G,), `prior` (2, G, G, G) = weights of p(x | y), `rhythm` (2, 2) = P(rhythm | y)."""

    axis: np.ndarray
    prior: np.ndarray
    rhythm: np.ndarray
    risk_weights: np.ndarray


def make_grid(strength: Strength) -> Grid:
    """Lay the grid over both classes, five within-class standard deviations to each side."""
    axis = np.linspace(-5.0, max(strength.separation) + 5.0, GRID_POINTS)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    precision = np.linalg.inv(strength.covariance)
    prior = []
    for label in (0, 1):
        away = points - label * np.array(strength.separation)
        weight = np.exp(-0.5 * np.einsum("...i,ij,...j->...", away, precision, away))
        prior.append(weight / weight.sum())
    atrial = np.array(strength.rhythm_given_label)
    return Grid(axis, np.stack(prior), np.stack([1 - atrial, atrial], axis=1), np.array(strength.risk_weights))


@dataclass(frozen=True)
class Likelihood:
    """Likelihood of one modality's evidence for n patients, each row scaled by its own constant.

    `axis` (n, G) at the grid points of the modality's axis, `rhythm` (n, 2). The scale cancels in every posterior
    and in the pointwise mutual information.
    """

    axis: np.ndarray
    rhythm: np.ndarray


def likelihoods(table: Evidence, grid: Grid) -> dict[str, Likelihood]:
    """Likelihoods of all three modalities; absent parameters do not enter."""
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
    """Add the log-likelihood of every word whose cell is recorded, in place."""
    for k, word in enumerate(WORDS):
        recorded = table.cells[:, (HISTORY, DRUGS).index(word.cell), None]
        if word.given_rhythm is None:
            chance, target = sigmoid(word.intercept + word.slope * (grid.axis - CENTRE)), log_axis
        else:
            chance, target = np.array(word.given_rhythm), log_rhythm
        target += np.where(recorded, np.where(table.words[:, k, None], np.log(chance), np.log(1 - chance)), 0.0)


def scaled_exp(logs: np.ndarray) -> np.ndarray:
    """exp of each row, its largest entry scaled to one."""
    return np.exp(logs - logs.max(axis=1, keepdims=True))


def contract(weights: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """Sum over the grid of weights (G, ..., G) times one (n, G) factor per axis, giving (n,)."""
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
    """Per patient and subset: posterior P(y = 1 | e_S) and oracle risk E[log hazard | e_S, y = 0]; both (n,)."""

    posterior: dict[str, np.ndarray]
    risk: dict[str, np.ndarray]
    defined: dict[str, np.ndarray]  # every modality of the subset is readable


def references(table: Evidence, evidence: str) -> Reference:
    """Exact posteriors and oracle risks of all seven subsets for the patients of `table`."""
    grid = make_grid(EVIDENCE[evidence])
    parts = likelihoods(table, grid)
    out = Reference({}, {}, {})
    for subset in SUBSETS:
        name = "+".join(subset)
        out.posterior[name], out.risk[name] = subset_reference(grid, parts, subset)
        members = [MODALITIES.index(m) for m in subset]
        out.defined[name] = np.asarray(table.usable[:, members].all(axis=1))
    return out


def subset_reference(
    grid: Grid, parts: dict[str, Likelihood], subset: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior and oracle risk (n,) of one subset."""
    others = tuple(k for k, m in enumerate(MODALITIES) if m not in subset)
    axes = [parts[m].axis for m in subset]
    rhythm = np.prod([parts[m].rhythm for m in subset], axis=0) @ grid.rhythm.T  # (n, 2): sum over rhythm, by y
    given = [contract(grid.prior[y].sum(axis=others), axes) * rhythm[:, y] for y in (0, 1)]
    posterior = PREVALENCE * given[1] / (PREVALENCE * given[1] + (1 - PREVALENCE) * given[0])
    score = sum(w * grid.axis.reshape([-1 if k == j else 1 for j in range(3)]) for k, w in enumerate(grid.risk_weights))
    mean_score = contract((grid.prior[0] * score).sum(axis=others), axes) * rhythm[:, 0] / given[0]
    return posterior, mean_score


def pointwise_mutual_information(grid: Grid, parts: dict[str, Likelihood], query: str, gallery: str) -> np.ndarray:
    """log P(e_a, e_b) - log P(e_a) - log P(e_b) for every query i and gallery item j, shape (n, n)."""
    a, b = MODALITIES.index(query), MODALITIES.index(gallery)
    others = tuple(k for k in range(3) if k not in (a, b))
    prevalence = (1 - PREVALENCE, PREVALENCE)
    joint, single = 0.0, {query: 0.0, gallery: 0.0}
    for y in (0, 1):
        weights = grid.prior[y].sum(axis=others)
        weights = weights if a < b else weights.T  # rows follow the query's axis
        pair = parts[query].axis @ weights @ parts[gallery].axis.T
        rhythm = (parts[query].rhythm * grid.rhythm[y]) @ parts[gallery].rhythm.T
        joint = joint + prevalence[y] * pair * rhythm
        for name, marginal in ((query, weights.sum(axis=1)), (gallery, weights.sum(axis=0))):
            alone = (parts[name].axis @ marginal) * (parts[name].rhythm @ grid.rhythm[y])
            single[name] = single[name] + prevalence[y] * alone
    return np.log(joint) - np.log(single[query])[:, None] - np.log(single[gallery])[None, :]


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; NaN when only one class is there."""
    positives = int((label == 1).sum())
    negatives = len(label) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(score)[label == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def c_index(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Harrell's C for event code 1 (deaths censor): pairs with t_i < t_j and i an event, risk ties half."""
    right = pairs = 0.0
    for i in np.flatnonzero(event == 1):
        later = risk[time > time[i]]
        right += (risk[i] > later).sum() + 0.5 * (risk[i] == later).sum()
        pairs += len(later)
    return float(right / pairs) if pairs else float("nan")


def retrieval_scores(similarity: np.ndarray) -> dict[str, float]:
    """LRAP (= mean reciprocal rank) and recalls of the diagonal, exact expectation over random negatives.

    `similarity` (n, n): query i against gallery item j; ties count against the right item.
    """
    n = len(similarity)
    above = (similarity >= np.diag(similarity)[:, None]).sum(axis=1) - 1  # the item itself excluded
    out = {"n": n, "lrap_full": float((1.0 / (above + 1)).mean())}
    for candidates in CANDIDATES:
        if n < candidates:
            continue
        ranks = np.arange(candidates)  # how many of the drawn negatives stand above
        chance = hypergeom.pmf(ranks, n - 1, above[:, None], candidates - 1)  # (n, candidates)
        out[f"lrap_{candidates}"] = float((chance / (ranks + 1)).sum(axis=1).mean())
        out[f"recall_1_{candidates}"] = float(chance[:, 0].mean())
        out[f"recall_2_{candidates}"] = float(chance[:, :2].sum(axis=1).mean())
    return out


def figures(table: Evidence, evidence: str, reference: Reference | None = None) -> dict[str, dict]:
    """Optimal AUC, C-index and retrieval figures on the patients of `table`, each with its n."""
    reference = reference or references(table, evidence)
    out: dict[str, dict] = {"hf_diagnosis": {}, "hf_risk": {}, "retrieval": {}}
    for name, posterior in reference.posterior.items():
        rows: np.ndarray = reference.defined[name]
        label = table.label[rows]
        out["hf_diagnosis"][name] = {
            "auc": auc(label, posterior[rows]),
            "accuracy": float(((posterior[rows] > 0.5) == label).mean()) if rows.any() else float("nan"),
            "n": int(rows.sum()),
        }
        followed = rows & table.followed
        out["hf_risk"][name] = {
            "c_index": c_index(table.time[followed], table.event[followed], reference.risk[name][followed]),
            "n": int(followed.sum()),
            "events": int((table.event[followed] == 1).sum()),
        }
    out["retrieval"] = retrieval_figures(table, evidence)
    return out


def retrieval_figures(table: Evidence, evidence: str) -> dict[str, dict]:
    """Retrieval figures by pointwise mutual information, among patients with all three modalities; {} without any."""
    rows = np.flatnonzero(table.usable.all(axis=1))[:RETRIEVAL_POPULATION]
    if not len(rows):
        return {}
    grid = make_grid(EVIDENCE[evidence])
    parts = likelihoods(table.take(rows), grid)
    return {f"{a}->{b}": retrieval_scores(pointwise_mutual_information(grid, parts, a, b)) for a, b in DIRECTIONS}


@lru_cache(maxsize=4)
def population_figures(evidence: str, n: int = POPULATION) -> dict[str, dict]:
    """The same figures on a large fixed sample of the model itself (no files), the same for every cohort."""
    return figures(draw(np.random.default_rng(20_250_101), n, EVIDENCE[evidence]), evidence)
