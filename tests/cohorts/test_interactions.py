"""Evidence in which modalities change each other's meaning, and its optimum."""

import hashlib

import numpy as np
import pytest
from scipy.stats import norm

from tgmm_hf.cohorts.synthetic import bayes, cohort
from tgmm_hf.cohorts.synthetic.bayes import auc
from tgmm_hf.cohorts.synthetic.evidence import (
    CENTRE,
    DRUG_SLOPES,
    DRUGS,
    EVIDENCE,
    PREVALENCE,
    WORDS,
    draw,
    draw_patient,
    hide_modality,
    index_of,
)
from tgmm_hf.cohorts.synthetic.interactions import (
    BIT_NOISE,
    BIT_SIZE,
    ECG_BIT,
    ECHO_BIT,
    FLIPPED,
    PRODUCT_ERROR,
    SIGN_NOISE,
    SIGN_SIZE,
    drug_probabilities,
)
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json

NAMES = ("interacting", "sign", "xor")
WHOLE = "labs+ecg+echo"


def drawn(name: str, n: int = 4000, seed: int = 3):
    return draw(np.random.default_rng(seed), n, EVIDENCE[name])


@pytest.mark.parametrize(
    ("name", "digest"), [("default", "f9580fd87bd6"), ("strong", "488a62d24693")], ids=["default", "strong"]
)
def test_cohorts_of_the_same_seed_stay_as_they_were(name: str, digest: str) -> None:
    """The digests were computed before there were interactions."""
    table = [draw_patient(7, index, name) for index in range(40)]
    content = b"".join(np.ascontiguousarray(column).tobytes() for each in table for column in vars(each).values())
    assert hashlib.sha256(content).hexdigest()[:12] == digest


@pytest.mark.parametrize("name", NAMES)
def test_the_posteriors_are_calibrated(name: str) -> None:
    table = drawn(name, 6000)
    for subset, posterior in bayes.references(table, name).posterior.items():
        for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
            rows = (posterior > low) & (posterior <= high)
            error = np.sqrt(0.25 / max(rows.sum(), 1))
            assert abs(posterior[rows].mean() - table.label[rows].mean()) < 4 * error or not rows.any(), (subset, low)


def test_the_factor_of_the_sign_is_that_of_an_enumeration() -> None:
    """P(drugs, T wave | y) with a fine grid of the labs axis, written out, against the ratio of two posteriors."""
    table = drawn("sign", 20)
    reference = bayes.references(table, "sign")
    grid = np.linspace(-6, 6, 6000)  # without zero
    chance = drug_probabilities(grid, DRUG_SLOPES)
    drugs = table.words[:, [word.cell == DRUGS for word in WORDS]]
    u = table.values[:, index_of(FLIPPED)] - CENTRE
    for i in range(len(table)):
        weight = norm.pdf(grid)
        if table.cells[i, 1]:
            weight = weight * np.prod(np.where(drugs[i], chance, 1 - chance), axis=1)
        likelihood = [(weight * norm.pdf(u[i], s * np.sign(grid) * SIGN_SIZE, SIGN_NOISE)).sum() for s in (-1, 1)]
        odds = {
            kind: scores[WHOLE][i] / (1 - scores[WHOLE][i])
            for kind, scores in (("posterior", reference.posterior), ("late", reference.late_fusion))
        }
        assert odds["posterior"] / odds["late"] == pytest.approx(likelihood[1] / likelihood[0], rel=2e-3)


def test_the_factor_of_the_product_is_that_of_an_enumeration() -> None:
    table = drawn("xor", 20)
    reference = bayes.references(table, "xor")
    c, e = (table.values[:, index_of(name)] - CENTRE for name in (ECG_BIT, ECHO_BIT))
    for i in np.flatnonzero(table.present[:, index_of(ECHO_BIT)]):
        likelihood = [
            sum(
                norm.pdf(c[i], bit * BIT_SIZE, BIT_NOISE) * right * norm.pdf(e[i], bit * s * side * BIT_SIZE, BIT_NOISE)
                for bit in (-1, 1)
                for side, right in ((1, 1 - PRODUCT_ERROR), (-1, PRODUCT_ERROR))
            )
            for s in (-1, 1)
        ]
        whole, late = reference.posterior["ecg+echo"][i], reference.late_fusion["ecg+echo"][i]
        assert whole / (1 - whole) / (late / (1 - late)) == pytest.approx(likelihood[1] / likelihood[0], rel=1e-6)


@pytest.mark.parametrize(("name", "pairs"), [("sign", {"labs+ecg"}), ("xor", {"ecg+echo"})])
def test_an_interaction_helps_its_pair_and_nothing_else(name: str, pairs: set[str]) -> None:
    table = drawn(name)
    reference = bayes.references(table, name)
    gains = {
        subset: auc(reference.posterior[subset], table.label) - auc(reference.late_fusion[subset], table.label)
        for subset in reference.posterior
    }
    assert {subset for subset, gain in gains.items() if gain > 0.05} == {*pairs, WHOLE}
    assert max(gain for subset, gain in gains.items() if subset not in {*pairs, WHOLE}) == 0


def test_no_sum_of_single_answers_beats_the_stated_late_fusion() -> None:
    table = drawn("interacting", 8000)
    reference = bayes.references(table, "interacting")
    logs = [np.log(reference.posterior[m] / (1 - reference.posterior[m])) for m in ("labs", "ecg", "echo")]
    summed, stated = auc(sum(logs), table.label), auc(reference.late_fusion[WHOLE], table.label)
    assert stated - 0.02 < summed < stated + 0.002
    assert auc(reference.posterior[WHOLE], table.label) > stated + 0.1


def test_a_missing_modality_takes_its_interactions_away() -> None:
    table = drawn("interacting", 50)
    hide_modality(table, "ecg")
    reference = bayes.references(table, "interacting")
    assert np.allclose(reference.posterior[WHOLE], reference.late_fusion[WHOLE])


def test_prevalence_and_rhythm_words_are_no_hint() -> None:
    """Drugs without a slope show the rhythm elsewhere, and nothing here."""
    table = drawn("interacting", 20_000)
    neutral = [k for k, word in enumerate(WORDS) if word.cell == DRUGS and word.slope == 0]
    rates = [table.words[table.label == y][:, neutral].mean() for y in (0, 1)]
    assert abs(rates[0] - rates[1]) < 0.02
    assert abs(table.label.mean() - PREVALENCE) < 0.02


def test_pairs_of_interacting_modalities_are_found_better() -> None:
    """Retrieval by the stated mutual information is better than without the interactions."""
    table = drawn("interacting", 150)
    strength = EVIDENCE["interacting"]
    grid = bayes.make_grid(strength)
    parts = bayes.likelihoods(bayes.additive_part(table, strength), grid)
    factors = bayes.pair_factors(bayes.sides_of(table), strength.interactions, "ecg", "echo")
    back = bayes.pair_factors(bayes.sides_of(table), strength.interactions, "echo", "ecg")
    assert np.allclose(factors, np.swapaxes(back, 1, 2))
    without = bayes.pointwise_mutual_information(grid, parts, "ecg", "echo")
    whole = bayes.pointwise_mutual_information(grid, parts, "ecg", "echo", factors)
    assert bayes.retrieval_scores(whole)["lrap_3"] > bayes.retrieval_scores(without)["lrap_3"]
    # Over independent pairs a likelihood ratio has the mean 1.
    off = ~np.eye(150, dtype=bool)
    assert np.exp(whole)[off].mean() == pytest.approx(1, abs=0.1)


def test_synth_writes_late_fusion_beside_the_optimum(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cohort, "population_figures", lambda name: bayes.population_figures(name, 300))
    cohort.write_cohort(tmp_path / "c", 14, 0, "interacting", workers=1, frames=2, height=96, width=128)
    content = read_json(tmp_path / "c" / "bayes.json")
    figures = content["population"]["hf_diagnosis"][WHOLE]
    assert content["evidence"] == "interacting" and figures["late_fusion_auc"] < figures["auc"] - 0.05
    import pandas as pd

    truth = pd.read_parquet(tmp_path / "c" / "truth.parquet")
    assert truth[f"late_fusion.{WHOLE}"].notna().any()


@pytest.mark.parametrize("further", ["xray", "measures"])
def test_what_has_no_optimum_with_interactions_is_refused(tmp_path, further) -> None:
    with pytest.raises(TgmmError, match="additive"):
        cohort.write_cohort(tmp_path, 7, 0, "interacting", workers=1, no_echo=True, **{further: True})
