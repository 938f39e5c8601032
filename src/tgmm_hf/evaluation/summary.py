"""From predictions to the figures of metrics.json: every task, every modality subset, comparisons, warnings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tgmm_hf.evaluation.calibration import OperatingPoint, choose_operating_point
from tgmm_hf.evaluation.diagnosis import diagnosis_figures
from tgmm_hf.evaluation.headline_figures import OUTCOME, with_outcome
from tgmm_hf.evaluation.metrics import Bootstrap, bootstrap_draws
from tgmm_hf.evaluation.modality_effects import effect_warnings, modality_effects
from tgmm_hf.evaluation.notices import NOTES, figure_warnings, unmet_warnings
from tgmm_hf.evaluation.optimum import add_optimum_column, add_reference, optimum_figures
from tgmm_hf.evaluation.prediction_sets import add_set_columns, coverage_warnings, set_figures
from tgmm_hf.evaluation.predictions import SUBSET_NAMES, Predictions, whole_subset
from tgmm_hf.evaluation.prognosis import choose_risk_cut, prognosis_figures
from tgmm_hf.evaluation.retrieval import DIRECTIONS, evaluate_direction
from tgmm_hf.evaluation.subgroups import subgroup_table
from tgmm_hf.evaluation.subset_comparisons import compare_subsets


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
    replicates: int = 1000,
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
            table = add_optimum_column(_rows_of(predictions, task, kind), truth, kind)
            table = add_set_columns(table, settings) if kind == "diagnosis" else table
            chosen_on = None if validation is None else _rows_of(validation, task, kind)
            points = _operating_points(chosen_on, sensitivity, temperature) if kind == "diagnosis" else {}
            warnings += unmet_warnings(task, points, sensitivity, temperature)
            metrics[task] = {
                subset: _subset_figures(
                    table[table["subset"] == subset],
                    settings,
                    None if chosen_on is None else chosen_on[chosen_on["subset"] == subset],
                    points.get(subset),
                    (settings.get("baseline_hazards") or {}).get(subset),
                    bootstrap,
                )
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
    metrics["warnings"] = warnings + figure_warnings(metrics, tasks) + coverage_warnings(metrics, tasks)
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


def _subset_figures(
    rows: pd.DataFrame,
    settings: Mapping[str, Any],
    validation: pd.DataFrame | None,
    point: OperatingPoint | None,
    hazards: dict[str, Any] | None,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Compute the figures of one task under one subset.

    Args:
        rows: Scored admissions under the subset.
        settings: The task's settings from the configuration.
        validation: Validation admissions under the subset.
        point: Threshold and temperature of a diagnosis. None for a prognosis.
        hazards: Baseline hazards of a prognosis under the subset. None if the model stores none.
        bootstrap: Seed and number of resamples.

    Returns:
        "n", "patients" and the figures of `diagnosis_figures` or `prognosis_figures`, and the optimum if it is known.
    """
    kind = settings["kind"]
    draws = bootstrap_draws(rows["patient_id"], rows[OUTCOME[kind]], bootstrap.replicates, bootstrap.seed)
    entry: dict[str, Any] = {"n": len(rows), "patients": int(rows["patient_id"].nunique())}
    if point is not None:
        entry |= diagnosis_figures(rows, draws, point) | set_figures(rows, draws, settings)
    else:
        cut = choose_risk_cut(validation, hazards)
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
