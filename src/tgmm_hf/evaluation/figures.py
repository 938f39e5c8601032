"""The figures of an evaluation. Every function returns a matplotlib figure and touches no global state (no pyplot)."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tgmm_hf.evaluation.metrics import bootstrap_counts
from tgmm_hf.evaluation.predictions import FULL, SUBSETS
from tgmm_hf.evaluation.survival import aalen_johansen

# Okabe and Ito's palette: told apart with the common colour-vision deficiencies and in print.
COLOURS = dict(zip(SUBSETS, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"), strict=True))
NAMES = {
    subset: " + ".join({"labs": "labs", "ecg": "ECG", "echo": "echo"}[m] for m in subset.split("+"))
    for subset in SUBSETS
}
HEADLINE_NAME = {"auc": "AUC", "c_index": "C-index"}


def roc_figure(table: pd.DataFrame, entries: Mapping[str, Any], title: str) -> Figure:
    """ROC curve of every modality subset.

    Args:
        table: rows of one diagnosis task with a known label: subset, positive, probability.
        entries: subset -> metrics with ``auc``.
    """
    figure = Figure(figsize=(5.4, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=1, linestyle=":", label="chance  0.50")
    for subset in SUBSETS:
        if entries[subset]["auc"] is None:
            continue
        rows = table[table["subset"] == subset]
        false_positive, true_positive = roc_curve(rows["probability"].to_numpy(), rows["positive"].to_numpy())
        whole = subset == FULL
        axes.plot(
            false_positive,
            true_positive,
            color=COLOURS[subset],
            linewidth=2.4 if whole else 1.3,
            zorder=3 if whole else 2,
            label=f"{NAMES[subset]}  {entries[subset]['auc']:.2f}",
        )
    axes.set(
        xlabel="1 - specificity",
        ylabel="sensitivity",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        title=title,
        aspect="equal",
    )
    axes.legend(title="AUC", loc="lower right", fontsize=8, title_fontsize=8, frameon=False)
    return _plain(figure)


def roc_curve(score: NDArray, positive: NDArray) -> tuple[NDArray, NDArray]:
    """False and true positive rate at every distinct threshold, from (0, 0) to (1, 1). Both classes must occur."""
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
    true_positives = np.cumsum(positive[order])[last_of_tie]
    false_positives = 1 + last_of_tie - true_positives
    true_rate = np.r_[0, true_positives] / true_positives[-1]
    return np.r_[0, false_positives] / false_positives[-1], true_rate


def forest_figure(entries: Mapping[str, Any], headline: str, title: str) -> Figure:
    """Figure and interval of every subset as a dot with a bar, the Bayes optimum as a diamond where known.

    Args:
        entries: subset -> metrics. headline: "auc" or "c_index".
    """
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0.5, color="0.75", linewidth=1, linestyle=":")
    for position, subset in enumerate(reversed(SUBSETS)):
        entry = entries[subset]
        if entry[headline] is None:
            continue
        if entry[f"{headline}_ci"] is not None:
            axes.plot(
                entry[f"{headline}_ci"], [position] * 2, color=COLOURS[subset], linewidth=2, solid_capstyle="round"
            )
        axes.plot(entry[headline], position, "o", color=COLOURS[subset], markersize=7)
        if entry.get(f"bayes_{headline}") is not None:
            axes.plot(
                entry[f"bayes_{headline}"],
                position - 0.3,  # below the dot, which it would hide where the model is near the optimum
                "D",
                markerfacecolor="white",
                markeredgecolor="0.35",
                markersize=5,
            )
    axes.set_yticks(
        range(len(SUBSETS)), [f"{NAMES[s]}  (n = {entries[s]['n']})" for s in reversed(SUBSETS)], fontsize=8
    )
    axes.set(xlabel=f"{HEADLINE_NAME[headline]}, 95 % interval", title=title, ylim=(-0.6, len(SUBSETS) - 0.4))
    if any(f"bayes_{headline}" in entry for entry in entries.values()):
        axes.plot([], [], "D", markerfacecolor="white", markeredgecolor="0.35", label="Bayes optimum, same patients")
        figure.legend(loc="outside lower right", fontsize=8, frameon=False)
    return _plain(figure)


def incidence_figure(rows: pd.DataFrame, title: str, seed: int = 0, replicates: int = 200) -> Figure:
    """Observed cumulative incidence of the event (Aalen-Johansen, death competing) above and below the median risk
    score.

    Args:
        rows: one prognosis task under one subset, follow-up known: risk, time (days), event, patient_id.
    """
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes, numbers = figure.subplots(2, 1, gridspec_kw={"height_ratios": [6, 1]}, sharex=True)
    high = (rows["risk"] > rows["risk"].median()).to_numpy()
    last = float(rows["time"].max())
    ticks = np.linspace(0, last, 6).round().astype(int)
    for position, (name, group, colour) in enumerate(
        (("higher risk score", rows[high], "#D55E00"), ("lower risk score", rows[~high], "#0072B2"))
    ):
        if group.empty:
            continue
        time, event = group["time"].to_numpy(), group["event"].to_numpy()
        days, incidence = aalen_johansen(time, event)
        counts = bootstrap_counts(group["patient_id"].to_numpy(), None, replicates, seed)
        low, up = np.quantile(aalen_johansen(time, event, counts)[1], [0.025, 0.975], axis=0)
        start = np.zeros(1)
        axes.fill_between(
            np.r_[start, days], np.r_[start, low], np.r_[start, up], step="post", color=colour, alpha=0.15, linewidth=0
        )
        label = f"{name}: {int((event == 1).sum())} events, {int((event == 2).sum())} deaths, n = {len(group)}"
        axes.step(
            np.r_[start, days], np.r_[start, incidence[0]], where="post", color=colour, linewidth=1.8, label=label
        )
        for tick in ticks:
            numbers.text(
                tick, 1 - position, str(int((time >= tick).sum())), color=colour, ha="center", va="center", fontsize=8
            )
    axes.set(ylabel="cumulative incidence of the event", title=title, ylim=(0, None), xlim=(-0.03 * last, 1.03 * last))
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    numbers.set(xlabel="days", ylim=(-0.6, 1.6), yticks=[], xticks=ticks)
    numbers.spines[["left", "bottom"]].set_visible(False)
    numbers.tick_params(bottom=False)
    numbers.set_ylabel("at risk", fontsize=8, rotation=0, ha="right", va="center")
    return _plain(figure)


def retrieval_figure(entries: Mapping[str, Any], title: str) -> Figure:
    """LRAP with three candidates, with four and over the full gallery, per direction, with each chance level and its
    interval.

    Args:
        entries: direction -> metrics of `tgmm_hf.evaluation.retrieval.evaluate_direction`.
    """
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    directions = list(entries)
    for axes, suffix, name in zip(
        panels, ("3", "4", "full"), ("3 candidates", "4 candidates", "full gallery"), strict=True
    ):
        for position, direction in enumerate(directions):
            entry = entries[direction]
            value, interval = entry[f"lrap_{suffix}"], entry[f"lrap_{suffix}_ci"]
            if value is None:
                continue
            axes.bar(position, value, width=0.7, color="#56B4E9", zorder=1)
            if interval is not None:
                axes.plot([position] * 2, interval, color="black", linewidth=1.2, zorder=3)
            low, high = entry[f"lrap_{suffix}_chance_ci"]
            axes.fill_between(
                [position - 0.45, position + 0.45], low, high, color="#D55E00", alpha=0.35, linewidth=0, zorder=2
            )
            axes.plot(
                [position - 0.45, position + 0.45],
                [entry[f"lrap_{suffix}_chance"]] * 2,
                color="#D55E00",
                linewidth=1,
                zorder=3,
            )
            optimum = entry.get(f"bayes_lrap_{suffix}_population")
            if optimum is not None:
                axes.plot(
                    position, optimum, "D", markerfacecolor="white", markeredgecolor="0.35", markersize=5, zorder=4
                )
        labels = [direction.replace("ecg", "ECG").replace("->", " → ") for direction in directions]
        axes.set_xticks(range(len(directions)), labels, rotation=60, ha="right", fontsize=8, rotation_mode="anchor")
        axes.set(title=name, ylim=(0, 1))
    panels[0].set_ylabel("LRAP")
    panels[0].plot([], [], color="#D55E00", label="ranking by lot, 95 %")
    if any("bayes_lrap_3_population" in entry for entry in entries.values()):
        panels[0].plot([], [], "D", markerfacecolor="white", markeredgecolor="0.35", label="Bayes optimum, population")
    figure.legend(loc="outside lower right", fontsize=8, frameon=False, ncols=2)
    figure.suptitle(title, fontsize=11)
    return _plain(figure)


def render(figure: Figure, file_format: str) -> bytes:
    """SVG (text kept as text, identical for identical input) or PNG (150 dpi) of a figure."""
    buffer = BytesIO()
    metadata = {"Date": None} if file_format == "svg" else {}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tgmm", "font.family": "DejaVu Sans"}):
        figure.savefig(buffer, format=file_format, dpi=150, metadata=metadata)
    return buffer.getvalue()


def _plain(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(11)
    return figure
