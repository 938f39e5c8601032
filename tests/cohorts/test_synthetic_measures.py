"""Measured outcomes of synthetic patients: they leave other files alone, and their optimum cannot be beaten."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from test_synthetic import PATIENTS, TINY, digests

from tgmm_hf.cohorts.synthetic import cohort, measures, write_cohort
from tgmm_hf.cohorts.synthetic.evidence import EVIDENCE, PARAMETERS, Evidence, draw, draw_state, index_of
from tgmm_hf.cohorts.synthetic.measures import FINDING_NAMES, Outcomes, draw_outcomes, optimal_answers
from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.evaluation.optimum import read_optimum
from tgmm_hf.utils.names import MODALITIES, SUBSETS

NUMBER = 1500
CONFIG = Path(__file__).parents[2] / "configs" / "measures.yaml"


@pytest.fixture(scope="module")
def drawn() -> tuple[Evidence, Outcomes, dict[str, np.ndarray]]:
    strength = EVIDENCE["default"]
    table = draw(np.random.default_rng(5), NUMBER, strength)
    _, x, rhythm = draw_state(np.random.default_rng(5), NUMBER, strength)
    return table, draw_outcomes(np.random.default_rng(6), table, x, rhythm), optimal_answers(table, "default")


@pytest.mark.parametrize("subset", ["+".join(subset) for subset in SUBSETS])
def test_half_of_the_measured_values_lie_above_the_optimum(drawn, subset):
    _, outcomes, answers = drawn
    is_measured = ~np.isnan(outcomes.value)
    above = (outcomes.value > answers[f"value.{subset}"])[is_measured]
    assert abs(above.mean() - 0.5) < 3 * 0.5 / np.sqrt(len(above))
    # ... among patients with a low and with a high value, too
    high = answers[f"value.{subset}"][is_measured] > np.median(answers[f"value.{subset}"])
    for part in (above[high], above[~high]):
        assert abs(part.mean() - 0.5) < 3.5 * 0.5 / np.sqrt(len(part))


def features(table: Evidence, modalities: tuple[str, ...]) -> np.ndarray:
    columns = [k for k, p in enumerate(PARAMETERS) if p.modality in modalities]
    values = np.where(table.present[:, columns], table.values[:, columns], 0.0)
    words = [table.words.astype(float) * table.cells.any(axis=1, keepdims=True)] if "labs" in modalities else []
    rhythm = [table.ecg_af[:, None].astype(float)] if "ecg" in modalities else []
    return np.concatenate([values, table.present[:, columns].astype(float), *words, *rhythm], axis=1)


@pytest.mark.parametrize(
    "modalities", [("labs", "ecg"), *(pytest.param(subset, marks=pytest.mark.slow) for subset in (("ecg",), ("echo",)))]
)
def test_boosting_on_the_evidence_does_not_beat_the_optimum(drawn, modalities):
    table, outcomes, answers = drawn
    rows = ~np.isnan(outcomes.value)
    model = HistGradientBoostingRegressor(loss="absolute_error", max_iter=60)
    guess = cross_val_predict(model, features(table, modalities)[rows], outcomes.value[rows], cv=5)
    reached = np.abs(guess - outcomes.value[rows]).mean()
    optimum = np.abs(answers[f"value.{'+'.join(modalities)}"] - outcomes.value)[rows].mean()
    constant = np.abs(outcomes.value[rows] - np.median(outcomes.value[rows])).mean()
    assert optimum < reached < constant


@pytest.mark.parametrize("finding", FINDING_NAMES)
def test_probabilities_of_findings_are_calibrated_and_not_beaten(drawn, finding):
    table, outcomes, answers = drawn
    code = outcomes.findings[:, FINDING_NAMES.index(finding)]
    rows = ~np.isnan(code)
    ideal = answers[f"finding.{finding}.labs+ecg+echo"][rows]
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        members = (ideal >= low) & (ideal <= high)
        expected, spread = ideal[members].mean(), np.sqrt((ideal[members] * (1 - ideal[members])).sum())
        assert abs(code[rows][members].sum() - expected * members.sum()) < 3.5 * max(spread, 1.0)
    evidence = features(table, MODALITIES)[rows]
    guess = cross_val_predict(LogisticRegression(max_iter=2000, C=0.1), evidence, code[rows], cv=5,
                              method="predict_proba")[:, 1]  # fmt: skip
    assert roc_auc_score(code[rows], guess) < roc_auc_score(code[rows], ideal) + 0.01


def test_more_modalities_are_never_worse(drawn):
    _, outcomes, answers = drawn
    figures = measures.figures(outcomes, answers)
    for kind, better in (("ejection_fraction", lambda a, b: a["mae"] <= b["mae"] + 0.1),
                         ("findings", lambda a, b: a["macro_auc"] >= b["macro_auc"] - 0.01)):  # fmt: skip
        for subset in SUBSETS:
            for smaller in SUBSETS:
                if set(smaller) < set(subset):
                    assert better(figures[kind]["+".join(subset)], figures[kind]["+".join(smaller)]), (subset, smaller)


def test_the_shown_fraction_falls_with_the_axis_and_stays_in_the_range():
    shown = measures.shown_ejection_fraction(np.linspace(-6, 8, 50))
    assert (np.diff(shown) < 0).all() and 10 < shown[-1] < shown[0] < 85


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same small cohort without and with the measures. The population is left out, because it takes seconds."""
    plain, measured = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort.measured, "population_figures", lambda evidence: {"ejection_fraction": {}, "findings": {}})
        write_cohort(plain, PATIENTS, 3, workers=1, no_echo=True, **TINY)
        write_cohort(measured, PATIENTS, 3, workers=1, no_echo=True, measures=True, **TINY)
    return plain, measured


def test_the_option_changes_no_other_file_and_no_other_column(written):
    plain, measured = written
    tables = ("cohort.parquet", "truth.parquet", "bayes.json", "synth.json")
    first, second = ({name: digest for name, digest in digests(root).items() if name not in tables} for root in written)
    assert first == second
    for name in tables[:2]:
        frames: list[Any] = [pd.read_parquet(root / name) for root in written]
        pd.testing.assert_frame_equal(frames[0], frames[1][list(frames[0].columns)])
    assert "measures" not in json.loads((plain / "synth.json").read_text())
    assert json.loads((measured / "synth.json").read_text())["measures"] is True


def test_the_cohort_is_read_with_the_tasks_of_the_configuration(written):
    changes = yaml.safe_load(CONFIG.read_text())["tasks"]
    tasks = {name: {**DEFAULT_TASKS.get(name, {}), **(settings or {})} for name, settings in changes.items()}
    table = read_cohort_table(written[1] / "cohort.parquet", tasks=tasks)
    assert table.tasks["ejection_fraction"] == "regression" and table.tasks["findings"] == "multilabel"
    assert list(tasks["findings"]["findings"]) == list(FINDING_NAMES)
    values = [row.values["ejection_fraction"] for row in table.rows if row.values]
    assert 0 < len(values) < PATIENTS and all(tasks["ejection_fraction"]["range"][0] <= v for v in values)


def test_the_optimum_of_the_cohort_stands_in_its_files(written):
    truth, bayes = read_optimum(written[1])
    assert truth is not None and truth["value.labs"].notna().any() and truth["value.echo"].isna().all()
    assert truth["finding.valve disease.labs"].min() >= 0 and truth["finding.valve disease.labs"].max() <= 1
    assert bayes["ejection_fraction"]["labs"]["mae"] > 0 and bayes["findings"]["labs"]["macro_auc"] is not None
    assert index_of("shortening") >= 0
