"""The figures of regressions and multilabels as tables of text."""

from collections.abc import Mapping
from typing import Any

from tgmm_hf.configuration_measured_tasks import INTERVALS_KEY
from tgmm_hf.evaluation.predictions import whole_subset
from tgmm_hf.evaluation.subgroups import shown_cases, shown_count
from tgmm_hf.evaluation.tables import (
    Entries,
    Table,
    optimum_cells,
    text_estimate,
    text_number,
    text_range,
    without_empty_columns,
)
from tgmm_hf.utils.names import SUBSET_NAMES


def regression_table(task: str, entries: Entries) -> Table:
    """Make the table of errors by subset, beside the control and the optimum.

    `entries` is the value of `task`, a regression, in metrics.json.
    """
    header = ["modalities", "MAE", "95 % CI", "of training mean", "of training median", "optimum", "MAE - optimum",
              "95 % CI", "RMSE", "R2", "out of range", "n"]  # fmt: skip
    rows = [
        [subset, text_number(e["mae"]), text_range(e["mae_ci"]), text_number(e["mae_of_mean"]),
         text_number(e["mae_of_median"]), *optimum_cells(e, "mae"), text_estimate(e, "rmse"), text_estimate(e, "r2"),
         str(e["out_of_range"]), shown_count(e["n"])]
        for subset, e in _by_subset(entries)
    ]  # fmt: skip
    return without_empty_columns(f"{task}: regression, errors in {entries[SUBSET_NAMES[0]]['unit']}", header, rows)


def agreement_table(task: str, entries: Entries) -> Table:
    """Make the table of bias and limits of agreement, and of the AUC at each cut point, by subset."""
    cuts = list(entries[SUBSET_NAMES[0]]["cut_points"])
    unit = entries[SUBSET_NAMES[0]]["unit"]
    header = ["modalities", "bias", "lower limit", "upper limit"]
    header += [title for cut in cuts for title in (f"AUC below {cut} {unit}", "below")]
    rows = []
    for subset, e in _by_subset(entries):
        points = [e["cut_points"][cut] for cut in cuts]
        cells = [cell for point in points for cell in (text_estimate(point, "auc"), _cases(point["n_below"], e["n"]))]
        rows.append([subset, *(text_estimate(e, name) for name in ("bias", "limit_low", "limit_high")), *cells])
    return without_empty_columns(f"{task}: agreement (model minus measured, Bland-Altman)", header, rows)


def _cases(number: int, whole: int) -> str:
    """Write a number of cases among admissions so that it may be published."""
    return shown_cases({"positives": number, "n": whole})


def interval_table(task: str, entries: Entries) -> Table:
    """Make the table of coverage and width of the prediction intervals. No rows mean that the model stores none."""
    rows = [
        [level, subset, str(figures["n"]), text_estimate(figures, "coverage"), text_estimate(figures, "width")]
        for subset, entry in _by_subset(entries)
        for level, figures in entry.get(INTERVALS_KEY, {}).items()
    ]
    return Table(f"{task}: prediction intervals", ["level", "modalities", "n", "coverage", "mean width"], rows)


def multilabel_table(task: str, entries: Entries) -> Table:
    """Make the table of the means over the findings by subset."""
    header = ["modalities", "macro AUC", "95 % CI", "optimum", "AUC - optimum", "95 % CI", "macro AUPRC", "by lot",
              "findings", "n"]  # fmt: skip
    rows = [
        [subset, text_number(e["macro_auc"]), text_range(e["macro_auc_ci"]), *optimum_cells(e, "macro_auc"),
         text_estimate(e, "macro_auprc"), text_number(e["macro_auprc_chance"]), str(e["macro_findings"]),
         shown_count(e["n"])]
        for subset, e in _by_subset(entries)
    ]  # fmt: skip
    return without_empty_columns(f"{task}: several findings", header, rows)


def finding_table(task: str, entries: Entries) -> Table:
    """Make the table of every finding, under the largest subset that any patient was scored under."""
    whole = whole_subset(entries)
    header = ["finding", "AUC", "AUPRC", "Brier score", "of prevalence", "temperature", "threshold", "sensitivity",
              "specificity", "n", "present"]  # fmt: skip
    rows = [
        [name, text_estimate(e, "auc"), text_estimate(e, "auprc"), text_estimate(e, "brier"),
         text_number(e["brier_of_prevalence"]), text_number(e["temperature"]), text_number(e["threshold"]["value"]),
         text_estimate(e, "sensitivity"), text_estimate(e, "specificity"), shown_count(e["n"]), shown_cases(e)]
        for name, e in entries[whole]["findings"].items()
    ]  # fmt: skip
    return without_empty_columns(f"{task}: by finding, {whole}", header, rows)


def measured_tables(task: str, kind: str, entries: Entries) -> list[Table]:
    """Make the tables of a regression or multilabel in their order; tables without rows are left out."""
    makers: Mapping[str, Any] = {
        "regression": (regression_table, agreement_table, interval_table),
        "multilabel": (multilabel_table, finding_table),
    }
    return [table for table in (make(task, entries) for make in makers[kind]) if table.rows]


def _by_subset(entries: Entries) -> list[tuple[str, Mapping[str, Any]]]:
    return [(subset, entries[subset]) for subset in SUBSET_NAMES]
