"""Measured outcomes of a synthetic cohort: an ejection fraction and several findings, with their optimum.

    ejection fraction (percent)     of the drawn left ventricle, whose axes all shorten by the share that the clips
                                    show, plus the error of a reader ~ N(0, READER_ERROR)
    findings                        atrial fibrillation is the rhythm of the state; the others are present with
                                    probability sigmoid(intercept + slope (x - CENTRE)), x one axis of the state

Given the state and the evidence the outcomes are independent. They are drawn from a random stream of their own, so that
a cohort without them keeps its bytes. The optimum of the error is the median of the ejection fraction given the
evidence of a subset. That of the findings is their probability given it. Both come from the grid of `bayes.py`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from tgmm_hf.cohorts.synthetic.bayes import CHUNK, Grid, Likelihood, auc, contract, likelihoods, make_grid
from tgmm_hf.cohorts.synthetic.evidence import (
    CENTRE,
    PARAMETERS,
    Evidence,
    Strength,
    draw,
    draw_state,
    index_of,
    sigmoid,
    stream,
    strength_of,
)
from tgmm_hf.cohorts.synthetic.render_echo import PHYSICAL
from tgmm_hf.utils.names import MODALITIES, SUBSETS, join_names

EJECTION_FRACTION, FINDINGS = "ejection_fraction", "findings"
"""Names of the tasks, as the columns of the cohort table have them."""
MEASURES_STREAM = 6
"""Number of the random stream of a patient."""
READER_ERROR = 5.0
"""Standard deviation of a measured ejection fraction around the drawn one, in percent points."""
MEASURED_RATE, FINDING_RATE = 0.9, 0.9
"""Share of patients with a measured ejection fraction, and of known findings. Both do not depend on the state."""
RANGE = (0.0, 100.0)
POPULATION = 4_000


@dataclass(frozen=True)
class AxisFinding:
    """A finding that depends on one axis of the state.

    Attributes:
        name: Name of the finding.
        modality: Its axis.
        intercept: Log odds at x = CENTRE.
        slope: Change of the log odds per unit of the axis.
    """

    name: str
    modality: str
    intercept: float
    slope: float

    def probability(self, x: np.ndarray) -> np.ndarray:
        """Compute the probability of the finding at values of its axis."""
        return sigmoid(self.intercept + self.slope * (x - CENTRE))


RHYTHM_FINDING = "atrial fibrillation"
AXIS_FINDINGS = (
    AxisFinding("renal impairment", "labs", -0.8, 2.5),
    AxisFinding("conduction disease", "ecg", -1.0, 2.5),
    AxisFinding("valve disease", "echo", -1.2, 2.5),
)
FINDING_NAMES = (RHYTHM_FINDING, *(finding.name for finding in AXIS_FINDINGS))


@dataclass(frozen=True)
class Outcomes:
    """Measured outcomes of n patients.

    Attributes:
        value: (n,) ejection fraction in percent, NaN where it was not measured.
        findings: (n, len(FINDING_NAMES)) 0 or 1, NaN where not known.
    """

    value: np.ndarray
    findings: np.ndarray

    def columns(self, row: int) -> dict[str, object]:
        """Return the columns of the cohort table for one patient, None where not known."""
        codes = {
            f"finding.{FINDINGS}.{name}": code for name, code in zip(FINDING_NAMES, self.findings[row], strict=True)
        }
        columns: dict[str, object] = {f"value.{EJECTION_FRACTION}": _cell(self.value[row], 1)}
        return columns | {name: None if np.isnan(code) else int(code) for name, code in codes.items()}


def _cell(value: float, digits: int) -> float | None:
    return None if np.isnan(value) else round(float(value), digits)


def shown_ejection_fraction(shortening: np.ndarray) -> np.ndarray:
    """Compute the ejection fraction in percent of a ventricle whose three axes shorten alike.

    Args:
        shortening: Evidence parameter "shortening", in axis units.
    """
    return 100 * (1 - (1 - PHYSICAL["shortening"](shortening)) ** 3)


def draw_outcomes(rng: np.random.Generator, table: Evidence, x: np.ndarray, rhythm: np.ndarray) -> Outcomes:
    """Draw the outcomes of n patients.

    Args:
        rng: Random generator.
        table: Evidence of the patients, as if no file were anomalous.
        x: (n, 3) state.
        rhythm: (n,) 0 or 1.
    """
    n = len(table)
    shown = shown_ejection_fraction(table.values[:, index_of("shortening")])
    value = np.clip(shown + READER_ERROR * rng.standard_normal(n), *RANGE)
    value[rng.random(n) >= MEASURED_RATE] = np.nan
    chances = np.stack(
        [finding.probability(x[:, MODALITIES.index(finding.modality)]) for finding in AXIS_FINDINGS], axis=1
    )
    present = (rng.random(chances.shape) < chances).astype(np.float64)
    findings = np.concatenate([rhythm[:, None].astype(np.float64), present], axis=1)
    findings[rng.random(findings.shape) >= FINDING_RATE] = np.nan
    return Outcomes(value, findings)


def draw_patient_outcomes(seed: int, index: int, evidence: str | Strength, table: Evidence) -> Outcomes:
    """Draw the outcomes of patient number `index`. `table` holds the patient's evidence in its only row."""
    _, x, rhythm = draw_state(stream(seed, index, 0), 1, strength_of(evidence))
    return draw_outcomes(stream(seed, index, MEASURES_STREAM), table, x, rhythm)


# ---- the optimum


def optimal_answers(table: Evidence, evidence: str | Strength) -> dict[str, np.ndarray]:
    """Compute the best answers that any model can give to n patients.

    Args:
        table: Evidence of the patients.
        evidence: The strength, or its name in `EVIDENCE`.

    Returns:
        "value.<subset>" -> (n,) median ejection fraction, "finding.<finding>.<subset>" -> (n,) probability. A patient
        who lacks a modality of the subset has NaN.
    """
    grid = make_grid(strength_of(evidence))
    parts = likelihoods(table, grid)
    answers = {}
    for subset in SUBSETS:
        name = join_names(subset)
        missing = ~table.usable[:, [MODALITIES.index(m) for m in subset]].all(axis=1)
        axes = [axis_posterior(grid, parts, subset, axis) for axis in range(len(MODALITIES))]
        answers[f"value.{name}"] = median_value(table, grid, axes[MODALITIES.index("echo")], "echo" in subset)
        answers[f"finding.{RHYTHM_FINDING}.{name}"] = rhythm_posterior(grid, parts, subset)
        for finding in AXIS_FINDINGS:
            chance = finding.probability(grid.axis)
            answers[f"finding.{finding.name}.{name}"] = axes[MODALITIES.index(finding.modality)] @ chance
        for column in [column for column in answers if column.endswith(f".{name}")]:
            answers[column] = np.where(missing, np.nan, answers[column])
    return answers


def axis_posterior(grid: Grid, parts: dict[str, Likelihood], subset: tuple[str, ...], axis: int) -> np.ndarray:
    """Compute the posterior of one axis of the state given the evidence of a subset: (n, G), rows add up to 1."""
    members = [k for k, m in enumerate(MODALITIES) if m in subset and k != axis]
    free = tuple(place for place, k in enumerate(k for k in range(3) if k != axis) if k not in members)
    rhythm = np.prod([parts[m].rhythm for m in subset], axis=0) @ grid.rhythm.T  # (n, 2), by y
    rows = []
    for start in range(0, len(rhythm), CHUNK):
        part = slice(start, start + CHUNK)
        total = np.zeros((len(rhythm[part]), len(grid.axis)))
        for y, prevalence in enumerate((1 - grid.prevalence, grid.prevalence)):
            factors = [parts[MODALITIES[k]].axis[part] for k in members]
            marginal = _marginal(np.moveaxis(grid.prior[y], axis, -1).sum(axis=free), factors)
            total += prevalence * rhythm[part, y, None] * marginal
        rows.append(total * parts[MODALITIES[axis]].axis[part] if MODALITIES[axis] in subset else total)
    posterior = np.concatenate(rows)
    return posterior / posterior.sum(axis=1, keepdims=True)


def _marginal(weights: np.ndarray, factors: list[np.ndarray]) -> np.ndarray:
    """Sum over all axes but the last: weights (G, ..., G) times one factor (n, G) for each of these axes.

    Returns:
        (n, G), or (G,) without factors.
    """
    if not factors:
        return weights
    block = (factors[0] @ weights.reshape(len(weights), -1)).reshape(-1, *weights.shape[1:])
    return block if len(factors) == 1 else np.matmul(factors[1][:, None, :], block)[:, 0]


def rhythm_posterior(grid: Grid, parts: dict[str, Likelihood], subset: tuple[str, ...]) -> np.ndarray:
    """Compute the probability (n,) of atrial fibrillation given the evidence of a subset."""
    rhythm = np.prod([parts[m].rhythm for m in subset], axis=0)  # (n, 2), by rhythm
    summed = tuple(k for k, m in enumerate(MODALITIES) if m not in subset)
    total = np.zeros_like(rhythm)
    for y, prevalence in enumerate((1 - grid.prevalence, grid.prevalence)):
        evidence = contract(grid.prior[y].sum(axis=summed), [parts[m].axis for m in subset])
        total += prevalence * evidence[:, None] * grid.rhythm[y] * rhythm
    return total[:, 1] / total.sum(axis=1)


def median_value(table: Evidence, grid: Grid, posterior: np.ndarray, with_echo: bool) -> np.ndarray:
    """Compute the median (n,) of the measured ejection fraction.

    Args:
        table: Evidence of n patients.
        grid: The grid.
        posterior: (n, G) of the echo axis given the evidence of the subset.
        with_echo: Whether the subset has the echo, whose clips show the shortening itself.
    """
    column = index_of("shortening")
    noise = PARAMETERS[column].noise
    # The shortening that the clips would show, on a finer grid: p(v | e) is the sum over x of p(v | x) p(x | e).
    values = np.linspace(grid.axis[0] - 4 * noise, grid.axis[-1] + 4 * noise, 4 * len(grid.axis))
    spread = np.exp(-0.5 * ((values[None, :] - grid.axis[:, None]) / noise) ** 2)
    spread /= spread.sum(axis=1, keepdims=True)
    levels = np.linspace(*RANGE, 1001)
    below = ndtr((levels[None, :] - shown_ejection_fraction(values)[:, None]) / READER_ERROR)  # (values, levels)
    median = np.empty(len(posterior))
    for start in range(0, len(posterior), CHUNK):
        shares = posterior[start : start + CHUNK] @ spread @ below
        median[start : start + CHUNK] = [np.interp(0.5, share, levels) for share in shares]
    if not with_echo:
        return median
    return np.where(table.present[:, column], shown_ejection_fraction(table.values[:, column]), median)


def figures(outcomes: Outcomes, answers: dict[str, np.ndarray]) -> dict[str, dict]:
    """Compute the optimum on n patients.

    Returns:
        "ejection_fraction": subset -> {"mae", "n"}. "findings": subset -> {"macro_auc", "n"}. A figure that nobody has
        is NaN.
    """
    out: dict[str, dict] = {EJECTION_FRACTION: {}, FINDINGS: {}}
    for subset in SUBSETS:
        name = join_names(subset)
        error = np.abs(answers[f"value.{name}"] - outcomes.value)
        scored = error[~np.isnan(error)]
        mean = float(scored.mean()) if len(scored) else float("nan")
        out[EJECTION_FRACTION][name] = {"mae": mean, "n": len(scored)}
        single, number = [], 0
        for column, finding in enumerate(FINDING_NAMES):
            ideal, code = answers[f"finding.{finding}.{name}"], outcomes.findings[:, column]
            is_scored = ~np.isnan(ideal) & ~np.isnan(code)
            single.append(auc(ideal[is_scored], code[is_scored]))
            number = max(number, int(is_scored.sum()))
        defined = [value for value in single if not np.isnan(value)]
        out[FINDINGS][name] = {"macro_auc": float(np.mean(defined)) if defined else float("nan"), "n": number}
    return out


@lru_cache(maxsize=4)
def population_figures(evidence: str | Strength, n: int = POPULATION) -> dict[str, dict]:
    """Compute [`figures`] on `n` patients that are drawn with a fixed seed. `evidence` is a strength or its name."""
    seed, strength = 20_250_101, strength_of(evidence)
    table = draw(np.random.default_rng(seed), n, strength)
    _, x, rhythm = draw_state(np.random.default_rng(seed), n, strength)  # the same draw begins with the state
    outcomes = draw_outcomes(np.random.default_rng(seed + 1), table, x, rhythm)
    return figures(outcomes, optimal_answers(table, evidence))
