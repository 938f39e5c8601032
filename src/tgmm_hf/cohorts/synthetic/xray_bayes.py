"""The optimum of the synthetic X-rays: best figures for findings, heart failure and retrieval.

The evidence of an X-ray are the numbers that the picture is drawn from (`XrayEvidence.values` and `device`). It lies
on all three axes of the state and on the rhythm, so its likelihood has a factor for each. A report is evidence too: the
band of each reading, and whether an absent finding is denied. Everything else is `bayes.py`.

Labels are what the report says, so the best score of a finding is P(label = 1) / P(label = 0) given the evidence. It
does not reach 1, because the reader errs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import norm

from tgmm_hf.cohorts.synthetic.bayes import Grid, auc, contract, likelihoods, make_grid, retrieval_scores, scaled_exp
from tgmm_hf.cohorts.synthetic.evidence import EVIDENCE, LA_SHIFT, PREVALENCE, Evidence, draw, draw_state
from tgmm_hf.cohorts.synthetic.xray_evidence import (
    ABSENT,
    COMPRESSION,
    DEVICE_REPORTED,
    MILD,
    READINGS,
    XRAY_PARAMETERS,
    XrayEvidence,
    band_chances,
    device_probability,
    draw_xray,
    index_of,
)
from tgmm_hf.cohorts.synthetic.xray_report import labels_of
from tgmm_hf.utils.names import MODALITIES, join_names

FINDINGS = ("No Finding", "Cardiomegaly", "Edema", "Pleural Effusion", "Atelectasis", "Support Devices")
"""Labels with an optimum. The others are never positive, or follow from the wording only."""
BLANK_IS_ABSENT = ("No Finding", "Support Devices")
"""Labels that are 1 or empty. An empty one counts as 0."""
XRAY_SUBSETS = (("xray",), ("ecg", "xray"), ("labs", "xray"), ("echo", "xray"), (*MODALITIES, "xray"))
"""Subsets with X-ray. Those without are in bayes.json."""
POPULATION = 8_000
RETRIEVAL_POPULATION = 1_000
RECALLS = (1, 5, 10)
NODES = 61
"""Points of the integral over the noise of a parameter."""


@dataclass(frozen=True)
class Factors:
    """Likelihood of an input for n patients: a factor (n, G) for each axis, and (n, 2) for the rhythm."""

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    rhythm: np.ndarray

    def times(self, other: "Factors") -> "Factors":
        """Join the likelihoods of two inputs of the same patients that are independent given the state."""
        first, second, third = (a * b for a, b in zip(self.axes, other.axes, strict=True))
        return Factors((first, second, third), self.rhythm * other.rhythm)


def xray_factors(table: XrayEvidence, grid: Grid) -> Factors:
    """Compute the likelihood of what the pictures show. A number below its limit tells only that it lies there."""
    n = len(table)
    logs = {m: np.zeros((n, len(grid.axis))) for m in MODALITIES} | {"rhythm": np.zeros((n, 2))}
    for k, parameter in enumerate(XRAY_PARAMETERS):
        if parameter.source == "none":
            continue
        levels = LA_SHIFT * np.arange(2.0) if parameter.source == "rhythm" else grid.axis
        term = -0.5 * ((table.values[:, k, None] - levels) / parameter.noise) ** 2
        if parameter.limit is not None:
            hidden = norm.logcdf((parameter.limit - levels) / parameter.noise) + 0.5 * np.log(2 * np.pi)
            term = np.where(table.values[:, k, None] > parameter.limit, term, hidden)
        logs[parameter.source] += term
    chance = device_probability(grid.axis)
    logs["ecg"] += np.where(table.device[:, None], np.log(chance), np.log(1 - chance))
    labs, ecg, echo = (scaled_exp(logs[m]) for m in MODALITIES)
    return Factors((labs, ecg, echo), scaled_exp(logs["rhythm"]))


def input_factors(table: Evidence, grid: Grid) -> dict[str, Factors]:
    """Give the likelihoods of labs, ECG and echo the form of [`Factors`]."""
    flat = np.ones((len(table), len(grid.axis)))
    result = {}
    for k, (name, part) in enumerate(likelihoods(table, grid).items()):
        labs, ecg, echo = (part.axis if j == k else flat for j in range(3))
        result[name] = Factors((labs, ecg, echo), part.rhythm)
    return result


def band_curves(grid: Grid) -> dict[str, np.ndarray]:
    """Compute the chance of each band given the state: parameter -> (G, 5), by an integral over the noise.

    The curve of a parameter without a source is the same everywhere.
    """
    nodes = np.linspace(-5, 5, NODES)
    weights = np.exp(-0.5 * nodes**2) / np.exp(-0.5 * nodes**2).sum()
    curves = {}
    for reading in READINGS:
        parameter = XRAY_PARAMETERS[index_of(reading.parameter)]
        centre = np.zeros_like(grid.axis) if parameter.source == "none" else grid.axis
        chances = band_chances(centre[:, None] + parameter.noise * nodes, reading.parameter)
        curves[reading.parameter] = np.einsum("gkb,k->gb", chances, weights)
    return curves


def report_states(table: XrayEvidence) -> np.ndarray:
    """Return what each report says, (n, readings + 1): the band of each reading, -1 for silence, and the device.

    Reports with equal rows differ in their wording only.
    """
    fluids = [k for k, reading in enumerate(READINGS) if reading.parameter.startswith("effusion")]
    silent = (table.bands == ABSENT) & ~table.mentioned
    silent[:, fluids] &= (table.bands[:, fluids] == ABSENT).all(axis=1)[:, None]
    states = np.where(silent, -1, table.bands)
    return np.concatenate([states, table.reported_device[:, None].astype(int)], axis=1)


def report_factors(table: XrayEvidence, grid: Grid) -> Factors:
    """Compute the likelihood of what the reports say. Silence and denial tell the same, because chance decides."""
    curves = band_curves(grid)
    axes = {m: np.ones((len(table), len(grid.axis))) for m in MODALITIES}
    for k, reading in enumerate(READINGS):
        source = XRAY_PARAMETERS[index_of(reading.parameter)].source
        if source in axes:
            axes[source] = axes[source] * curves[reading.parameter].T[table.bands[:, k]]
    chance = DEVICE_REPORTED * device_probability(grid.axis)
    axes["ecg"] = axes["ecg"] * np.where(table.reported_device[:, None], chance, 1 - chance)
    return Factors((axes["labs"], axes["ecg"], axes["echo"]), np.ones((len(table), 2)))


def posterior(grid: Grid, parts: Sequence[Factors]) -> np.ndarray:
    """Compute P(y = 1 given all inputs of `parts`), (n,)."""
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.times(part)
    given = [contract(grid.prior[y], list(joined.axes)) * (joined.rhythm @ grid.rhythm[y]) for y in (0, 1)]
    return PREVALENCE * given[1] / (PREVALENCE * given[1] + (1 - PREVALENCE) * given[0])


Chances = tuple[np.ndarray, np.ndarray]
"""Chance that a label is 1, and that it is 0."""


def finding_chances(bands: Mapping[str, np.ndarray], device: np.ndarray) -> dict[str, Chances]:
    """Compute the chances of both labels of each of `FINDINGS`.

    The share of denials is left out, because it is the same for all patients.

    Args:
        bands: Parameter -> chance of each band, (..., 5).
        device: Chance that the report names a device, (...).

    Returns:
        Finding -> [`Chances`]. The arrays have the shapes of `bands` without the last axis, broadcast.
    """
    positive = {name: chances[..., MILD:].sum(-1) for name, chances in bands.items()}
    absent = {name: chances[..., ABSENT] for name, chances in bands.items()}
    fluid = 1 - (1 - positive["effusion_right"]) * (1 - positive["effusion_left"])
    no_fluid = absent["effusion_right"] * absent["effusion_left"]
    plate = 1 - (1 - positive["atelectasis"]) * (1 - COMPRESSION * fluid)
    clear = absent["heart_size"] * absent["congestion"] * no_fluid * absent["atelectasis"]
    return {
        "No Finding": (clear, 1 - clear),
        "Cardiomegaly": (positive["heart_size"], absent["heart_size"]),
        "Edema": (positive["congestion"], absent["congestion"]),
        "Pleural Effusion": (fluid, no_fluid),
        "Atelectasis": (plate, absent["atelectasis"] * (1 - COMPRESSION * fluid)),
        "Support Devices": (device, 1 - device),
    }


def scores_from_xrays(table: XrayEvidence) -> dict[str, np.ndarray]:
    """Compute the best score (n,) of each finding from the pictures: the odds of label 1 against label 0."""
    bands = {r.parameter: band_chances(table.value(r.parameter), r.parameter) for r in READINGS}
    chances = finding_chances(bands, DEVICE_REPORTED * table.device)
    return {name: _log_odds(*pair) for name, pair in chances.items()}


def scores_from_ecgs(grid: Grid, ecg: Factors) -> dict[str, np.ndarray]:
    """Compute the best score (n,) of each finding from the ECGs: P(label = 1 given ECG) against P(label = 0)."""
    places = {"labs": (-1, 1, 1), "ecg": (1, -1, 1), "echo": (1, 1, -1), "none": (-1, 1, 1)}
    bands = {}
    for name, curve in band_curves(grid).items():
        bands[name] = curve.reshape(*places[XRAY_PARAMETERS[index_of(name)].source], curve.shape[-1])
    device = (DEVICE_REPORTED * device_probability(grid.axis)).reshape(places["ecg"])
    scores = {}
    for name, pair in finding_chances(bands, device).items():
        positive, negative = (np.broadcast_to(chance, grid.prior[0].shape) for chance in pair)
        expected = [_expected(grid, ecg, chance) for chance in (positive, negative)]
        scores[name] = _log_odds(*expected)
    return scores


def _expected(grid: Grid, ecg: Factors, chance: np.ndarray) -> np.ndarray:
    """Integrate a chance (G, G, G) over the state given the ECGs, (n,), up to a factor for each patient."""
    total = np.zeros(len(ecg.rhythm))
    for y, share in enumerate((1 - PREVALENCE, PREVALENCE)):
        weights = (grid.prior[y] * chance).sum(axis=(0, 2))
        total += share * (ecg.axes[1] @ weights) * (ecg.rhythm @ grid.rhythm[y])
    return total


def _log_odds(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(positive, 1e-300)) - np.log(np.maximum(negative, 1e-300))


def association_with_ecgs(grid: Grid, others: Factors, ecg: Factors) -> np.ndarray:
    """Compute log P(a, ecg) - log P(a) - log P(ecg) for inputs a (rows) and ECGs (columns): (n, n)."""
    joint, alone, ecg_alone = 0.0, 0.0, 0.0
    for y, share in enumerate((1 - PREVALENCE, PREVALENCE)):
        block = np.tensordot(others.axes[0], grid.prior[y], axes=1)  # (n, G, G): ECG axis, echo axis
        reduced = np.einsum("nbc,nc->nb", block, others.axes[2]) * others.axes[1]
        rhythm = others.rhythm * grid.rhythm[y]
        joint = joint + share * (reduced @ ecg.axes[1].T) * (rhythm @ ecg.rhythm.T)
        alone = alone + share * reduced.sum(1) * rhythm.sum(1)
        marginal = grid.prior[y].sum(axis=(0, 2))
        ecg_alone = ecg_alone + share * (ecg.axes[1] @ marginal) * (ecg.rhythm @ grid.rhythm[y])
    return np.log(joint) - np.log(alone)[:, None] - np.log(ecg_alone)[None, :]


def association_with_reports(table: XrayEvidence, population: XrayEvidence) -> np.ndarray:
    """Compute log P(report given picture) - log P(report) for pictures (rows) and reports (columns): (n, n).

    A report depends on the state through the picture only. P(report) is the mean over the pictures of `population`.
    """
    given, overall = (_report_chances(pictures, table) for pictures in (table, population))
    most = overall.max(axis=0)
    return given - (np.log(np.exp(overall - most).mean(axis=0)) + most)


def _report_chances(pictures: XrayEvidence, reports: XrayEvidence) -> np.ndarray:
    """Compute log P(report given picture), (pictures, reports). Silence and denial count alike."""
    total = np.zeros((len(pictures), len(reports)))
    for k, reading in enumerate(READINGS):
        chances = np.log(np.maximum(band_chances(pictures.value(reading.parameter), reading.parameter), 1e-300))
        total += chances[:, reports.bands[:, k]]
    device = DEVICE_REPORTED * pictures.device
    named, silent = np.log(np.maximum(device, 1e-300)), np.log(1 - device)
    return total + np.where(reports.reported_device[None, :], named[:, None], silent[:, None])


def ranking_figures(similarity: np.ndarray, states: np.ndarray | None = None) -> dict[str, float]:
    """Compute recall among all candidates, median rank, and the figures of `retrieval_scores`.

    Args:
        similarity: (n, n) of query i and candidate j. Candidate i is right for query i.
        states: (n, k) what the reports say. Candidates of others with an equal report are left out.
    """
    right = np.diag(similarity)[:, None]
    above = similarity >= right
    if states is not None:
        above &= ~(states[:, None] == states[None]).all(axis=2)
    else:
        np.fill_diagonal(above, False)
    rank = above.sum(axis=1) + 1
    figures = {f"recall_{k}": float((rank <= k).mean()) for k in RECALLS}
    few = retrieval_scores(similarity) if states is None else {}
    return {"n": len(rank), "median_rank": float(np.median(rank)), **figures, **few}


def figures(table: Evidence, xrays: XrayEvidence, evidence: str) -> dict[str, dict]:
    """Compute the optimum on patients who all have an X-ray.

    Args:
        table: Evidence of the patients.
        xrays: What their X-rays show, and what the reports say.
        evidence: Name of the strength, a key of `EVIDENCE`.

    Returns:
        "findings": finding -> input -> auroc, n, positive. "hf_diagnosis": subset -> auc, n. "retrieval": direction ->
        figures of [`ranking_figures`].
    """
    grid = make_grid(EVIDENCE[evidence])
    inputs = {**input_factors(table, grid), "xray": xray_factors(xrays, grid)}
    usable = {m: table.usable[:, k] for k, m in enumerate(MODALITIES)} | {"xray": np.ones(len(table), bool)}
    diagnosis = {}
    for subset in XRAY_SUBSETS:
        rows = np.logical_and.reduce([usable[name] for name in subset])
        score = posterior(grid, [inputs[name] for name in subset])
        diagnosis[join_names(subset)] = {"auc": auc(score[rows], table.label[rows]), "n": int(rows.sum())}
    scores = {"xray": scores_from_xrays(xrays), "ecg": scores_from_ecgs(grid, inputs["ecg"])}
    return {
        "findings": finding_figures(xrays, scores, usable),
        "hf_diagnosis": diagnosis,
        "retrieval": retrieval_figures(table, xrays, evidence),
    }


def finding_figures(
    xrays: XrayEvidence, scores: Mapping[str, Mapping[str, np.ndarray]], usable: Mapping[str, np.ndarray]
) -> dict[str, dict]:
    """Compute the AUROC of each finding from each input, on the reports with label 1 or 0."""
    labels = [labels_of(xrays, row) for row in range(len(xrays))]
    result: dict[str, dict] = {}
    for name in FINDINGS:
        empty = 0.0 if name in BLANK_IS_ABSENT else np.nan
        column = np.array([empty if row[name] is None else row[name] for row in labels], dtype=float)
        result[name] = {}
        for source, by_finding in scores.items():
            rows = np.isin(column, (0, 1)) & usable[source]
            value = auc(by_finding[name][rows], column[rows].astype(int))
            result[name][source] = {"auroc": value, "n": int(rows.sum()), "positive": int((column[rows] == 1).sum())}
    return result


def retrieval_figures(table: Evidence, xrays: XrayEvidence, evidence: str) -> dict[str, dict]:
    """Compute the best retrieval between X-rays, ECGs and reports of X-rays, among the patients with a readable ECG.

    At most the first `RETRIEVAL_POPULATION` patients count. Arguments as in [`figures`].
    """
    rows = np.flatnonzero(table.usable[:, MODALITIES.index("ecg")])[:RETRIEVAL_POPULATION]
    if not len(rows):
        return {}
    grid = make_grid(EVIDENCE[evidence])
    few, pictures = table.take(rows), xrays.take(rows)
    ecg, states = input_factors(few, grid)["ecg"], report_states(pictures)
    pairs = {
        ("xray", "ecg"): association_with_ecgs(grid, xray_factors(pictures, grid), ecg),
        ("report", "ecg"): association_with_ecgs(grid, report_factors(pictures, grid), ecg),
        ("xray", "report"): association_with_reports(pictures, draw_population(evidence, POPULATION)[1]),
    }
    result = {}
    for (first, second), similarity in pairs.items():
        kept = states if "report" in (first, second) else None
        result[f"{first}->{second}"] = ranking_figures(similarity, kept)
        result[f"{second}->{first}"] = ranking_figures(similarity.T, kept)
    return result


@lru_cache(maxsize=4)
def draw_population(evidence: str, n: int) -> tuple[Evidence, XrayEvidence]:
    """Draw `n` patients with X-rays from a fixed seed."""
    table = draw(np.random.default_rng(20_250_101), n, EVIDENCE[evidence])
    _, x, rhythm = draw_state(np.random.default_rng(20_250_101), n, EVIDENCE[evidence])
    return table, draw_xray(np.random.default_rng(20_250_102), x, rhythm)


@lru_cache(maxsize=4)
def xray_population_figures(evidence: str, n: int = POPULATION) -> dict[str, dict]:
    """Compute [`figures`] on `n` patients of a fixed seed, so that they are the same for every cohort."""
    return figures(*draw_population(evidence, n), evidence)
