"""From predictions to the figures of metrics.json: every task, every modality subset, comparisons, warnings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tgmm_hf.evaluation.calibration import OperatingPoint, choose_operating_point
from tgmm_hf.evaluation.diagnosis import diagnosis_figures
from tgmm_hf.evaluation.headline_figures import strata_of, with_outcome
from tgmm_hf.evaluation.metrics import Bootstrap, bootstrap_draws
from tgmm_hf.evaluation.modality_effects import effect_warnings, modality_effects
from tgmm_hf.evaluation.multilabel import choose_points, multilabel_figures
from tgmm_hf.evaluation.notices import NOTES, figure_warnings, unmet_warnings
from tgmm_hf.evaluation.optimum import add_optimum_column, add_reference, optimum_figures
from tgmm_hf.evaluation.prediction_intervals import interval_warnings
from tgmm_hf.evaluation.prediction_sets import add_set_columns, coverage_warnings, set_figures
from tgmm_hf.evaluation.predictions import Predictions, whole_subset
from tgmm_hf.evaluation.prognosis import choose_risk_cut, prognosis_figures
from tgmm_hf.evaluation.regression import regression_figures
from tgmm_hf.evaluation.retrieval import DIRECTIONS, evaluate_direction
from tgmm_hf.evaluation.subgroups import subgroup_table
from tgmm_hf.evaluation.subset_comparisons import compare_subsets
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES, SUBSET_NAMES


def compute_metrics(  # noqa: PLR0913 - each keyword is one optional input with its own meaning
    predictions: Predictions,
    tasks: Mapping[str, Mapping[str, Any]],
    *,
    validation: Predictions | None = None,
    groups: pd.DataFrame | None = None,
    truth: pd.DataFrame | None = None,
    reference: Mapping[str, Any] | None = None,
    sensitivity: float | None = None,
    temperature: bool = False,
    seed: int = 0,
    replicates: int = BOOTSTRAP_RESAMPLES,
) -> dict[str, Any]:
    """Compute all figures of a set of predictions, without writing files. docs/metrics.md lists them.

    Args:
        predictions: Predictions from `collect_predictions`.
        tasks: `TgmmConfig.tasks`. `kind`, `report_days` and `baseline_hazards` of the tasks are used.
        validation: Predictions of patients that the model was not trained on and that are not scored. Thresholds,
            temperatures and the cut between risk groups are chosen on them. Without them the threshold is 0.5, there is
            no temperature, and the cut comes from the baseline hazards.
        groups: Groups of the admissions from `describe_rows`. None computes no subgroups.
        truth: Ideal scores of synthetic patients. Columns: id, `posterior.<subset>` (probability of the last candidate
            given the inputs of that subset) and `risk.<subset>`.
        reference: Content of `bayes.json`.
        sensitivity: Sensitivity that the threshold must reach. None for Youden's index.
        temperature: Whether to scale the probabilities.
        seed: Seed of the bootstrap.
        replicates: Number of resamples.

    Returns:
        Task -> subset (or direction of a retrieval) -> figures; and "comparisons", "subgroups", "modality_effects",
        "warnings", "notes", "validation", "seed", "bootstrap" and "level".
    """
    bootstrap = Bootstrap(seed, replicates)
    metrics: dict[str, Any] = {"seed": seed, "bootstrap": replicates, "level": 0.95}
    metrics["validation"] = None if validation is None else {"n": len(validation.ids)}
    comparisons: dict[str, Any] = {}
    subgroups: dict[str, Any] = {}
    warnings: list[str] = []
    for task, settings in tasks.items():
        kind = settings["kind"]
        if kind == "retrieval":
            metrics[task] = _retrieval(predictions, bootstrap)
        else:
            table = _rows_of(predictions, task, kind)
            table = add_optimum_column(table, truth, kind, settings.get("findings", ()))
            table = add_set_columns(table, settings) if kind == "diagnosis" else table
            chosen_on = None if validation is None else _rows_of(validation, task, kind)
            points = _operating_points(chosen_on, sensitivity, temperature) if kind == "diagnosis" else {}
            warnings += unmet_warnings(task, points, sensitivity, temperature)
            choice = _Choice(chosen_on, points, sensitivity, temperature)
            metrics[task] = {
                subset: _subset_figures(table[table["subset"] == subset], subset, settings, choice, bootstrap)
                for subset in SUBSET_NAMES
            }
            comparisons[task] = compare_subsets(table, kind, whole_subset(metrics[task]), bootstrap)
            if groups is not None:
                subgroups[task] = subgroup_table(table, kind, groups, points, seed, replicates)
        if reference is not None:
            add_reference(metrics[task], reference.get(task, {}), "test_split")
            add_reference(metrics[task], reference.get("population", {}).get(task, {}), "population")
    metrics |= {"comparisons": comparisons, "subgroups": subgroups}
    metrics["modality_effects"] = modality_effects(predictions, tasks)
    warnings += effect_warnings(metrics["modality_effects"])
    warnings += figure_warnings(metrics, tasks) + coverage_warnings(metrics, tasks) + interval_warnings(metrics, tasks)
    metrics["warnings"] = warnings
    metrics["notes"] = list(NOTES)
    return metrics


def _rows_of(predictions: Predictions, task: str, kind: str) -> pd.DataFrame:
    """Return the predictions of a task, under all subsets, for the admissions with a known outcome."""
    return with_outcome(predictions.table[predictions.table["task"] == task], kind)


def _operating_points(
    validation: pd.DataFrame | None, sensitivity: float | None, temperature: bool
) -> dict[str, OperatingPoint]:
    """Choose a threshold and, if `temperature` is True, a temperature for every subset.

    Args:
        validation: Predictions of one task for validation patients. None gives the threshold 0.5.
        sensitivity: Sensitivity that the threshold must reach. None for Youden's index.
        temperature: Whether to fit a temperature.
    """
    if validation is None:
        return dict.fromkeys(SUBSET_NAMES, OperatingPoint(chosen_on="nobody: there is no validation split"))
    rows = {subset: validation[validation["subset"] == subset] for subset in SUBSET_NAMES}
    return {
        subset: choose_operating_point(
            rows[subset]["probability"].to_numpy(np.float64),
            rows[subset]["positive"].to_numpy(np.float64),
            sensitivity=sensitivity,
            temperature=temperature,
        )
        for subset in SUBSET_NAMES
    }


@dataclass(frozen=True)
class _Choice:
    """What the thresholds of a task are chosen on.

    Attributes:
        validation: Predictions of the task for validation patients. None if there are none.
        points: Subset -> threshold and temperature of a diagnosis.
        sensitivity: Sensitivity that the thresholds of findings must reach. None for Youden's index.
        temperature: Whether to scale the probabilities of findings.
    """

    validation: pd.DataFrame | None
    points: Mapping[str, OperatingPoint]
    sensitivity: float | None
    temperature: bool

    def rows(self, subset: str) -> pd.DataFrame | None:
        """Return the validation patients under a subset."""
        return None if self.validation is None else self.validation[self.validation["subset"] == subset]


def _subset_figures(
    rows: pd.DataFrame, subset: str, settings: Mapping[str, Any], choice: _Choice, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Compute the figures of one task under one subset.

    Args:
        rows: Scored admissions under the subset.
        subset: Name of the subset.
        settings: The task's settings from the configuration.
        choice: What thresholds and the cut between risk groups are chosen on.
        bootstrap: Seed and number of resamples.

    Returns:
        "n", "patients" and the figures of the kind of task, and the optimum if it is known.
    """
    kind = settings["kind"]
    draws = bootstrap_draws(rows["patient_id"], strata_of(rows, kind), bootstrap.replicates, bootstrap.seed)
    entry: dict[str, Any] = {"n": len(rows), "patients": int(rows["patient_id"].nunique())}
    if kind == "diagnosis":
        entry |= diagnosis_figures(rows, draws, choice.points[subset]) | set_figures(rows, draws, settings)
    elif kind == "regression":
        entry |= regression_figures(rows, draws, settings)
    elif kind == "multilabel":
        findings = list(settings["findings"])
        points = choose_points(choice.rows(subset), findings, choice.sensitivity, choice.temperature)
        entry |= multilabel_figures(rows, draws, settings, points)
    else:
        hazards = (settings.get("baseline_hazards") or {}).get(subset)
        cut = choose_risk_cut(choice.rows(subset), hazards)
        entry |= prognosis_figures(rows, draws, settings.get("report_days") or [], hazards, cut)
    return entry | optimum_figures(rows, kind, bootstrap)


def _retrieval(predictions: Predictions, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compute the retrieval figures: direction ("labs->ecg") -> figures on the admissions with both modalities."""
    result = {}
    for query, target in DIRECTIONS:
        has_both = predictions.embeds_mask[query] & predictions.embeds_mask[target]
        result[f"{query}->{target}"] = evaluate_direction(
            predictions.embeds[query][has_both],
            predictions.embeds[target][has_both],
            predictions.patient_ids[has_both],
            seed=bootstrap.seed,
            replicates=bootstrap.replicates,
        )
    return result
