"""Figures of a regression (Bland-Altman) and of a multilabel (AUC by finding). Without pyplot, as in `figures.py`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tgmm_hf.reports.figures import COLOURS, NAMES, plain

FEWEST_POINTS = 10
"""Number of admissions from which single points are drawn. Below, a point might identify a person."""


def bland_altman_figure(rows: pd.DataFrame, entry: Mapping[str, Any], subset: str, title: str) -> Figure:
    """Draw the difference of model and measurement against their mean, with bias and limits of agreement.

    The second panel shows the model's value against the measured one, with the cut points of the task. An answer
    outside the range of the task is a hollow mark.

    Args:
        rows: Admissions under the subset with a known value. Columns: value, measured.
        entry: Figures of these admissions in metrics.json.
        subset: Name of the subset.
        title: Title of the figure.
    """
    figure = Figure(figsize=(9.2, 4.2), layout="constrained")
    agreement, scatter = figure.subplots(1, 2)
    value, measured = (rows[name].to_numpy(np.float64) for name in ("value", "measured"))
    low, high = entry["range"]
    is_inside, unit, colour = (value >= low) & (value <= high), entry["unit"], COLOURS[subset]
    for axes, x, y in ((agreement, (value + measured) / 2, value - measured), (scatter, measured, value)):
        if len(rows) < FEWEST_POINTS:
            axes.text(0.5, 0.5, "too few admissions to be drawn", transform=axes.transAxes, ha="center", fontsize=8)
            continue
        axes.plot(x[is_inside], y[is_inside], "o", color=colour, markersize=3, alpha=0.5)
        axes.plot(x[~is_inside], y[~is_inside], "o", color=colour, markersize=4, markerfacecolor="white")
    for name, style in (("bias", "-"), ("limit_low", "--"), ("limit_high", "--")):
        if entry[name] is None:
            continue
        agreement.axhline(entry[name], color="black", linewidth=1.2, linestyle=style)
        if entry[f"{name}_ci"] is not None:
            agreement.axhspan(*entry[f"{name}_ci"], color="black", alpha=0.08, linewidth=0)
        label = f"{'bias' if name == 'bias' else 'limit'} {entry[name]:+.2f}"
        agreement.annotate(label, (1.0, entry[name]), xycoords=("axes fraction", "data"), fontsize=8, ha="right",
                           va="bottom")  # fmt: skip
    agreement.axhline(0, color="0.75", linewidth=1, linestyle=":")
    agreement.set(xlabel=f"mean of model and measurement, {unit}", ylabel=f"model minus measurement, {unit}")
    scatter.axline((low, low), slope=1, color="0.75", linewidth=1, linestyle=":")
    for cut in entry["cut_points"]:
        scatter.axvline(float(cut), color="0.6", linewidth=0.8)
        scatter.axhline(float(cut), color="0.6", linewidth=0.8)
    scatter.set(xlabel=f"measured, {unit}", ylabel=f"model, {unit}")
    figure.suptitle(f"{title}, {NAMES[subset]}, n = {entry['n']}", fontsize=11)
    return plain(figure)


def finding_figure(findings: Mapping[str, Mapping[str, Any]], subset: str, title: str) -> Figure:
    """Draw the AUC of every finding as a dot with its interval.

    Args:
        findings: Finding -> figures.
        subset: Name of the subset.
        title: Title of the figure.
    """
    figure = Figure(figsize=(6.4, 1.2 + 0.28 * len(findings)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0.5, color="0.75", linewidth=1, linestyle=":")
    for position, entry in enumerate(findings.values()):
        if entry["auc"] is None:
            axes.text(0.52, position, "one class only", fontsize=7, color="0.5", va="center")
            continue
        if entry["auc_ci"] is not None:
            axes.plot(entry["auc_ci"], [position] * 2, color=COLOURS[subset], linewidth=2, solid_capstyle="round")
        axes.plot(entry["auc"], position, "o", color=COLOURS[subset], markersize=6)
    axes.set_yticks(range(len(findings)), list(findings), fontsize=8)
    axes.set(ylim=(len(findings) - 0.5, -0.5), xlabel="AUC, 95 % interval", title=f"{title}, {NAMES[subset]}")
    return plain(figure)
