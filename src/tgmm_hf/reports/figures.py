"""The figures of an evaluation. Every function returns a matplotlib figure and touches no global state (no pyplot)."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tgmm_hf.evaluation.calibration import recalibration_line
from tgmm_hf.evaluation.metrics import ALL_AGREE, bootstrap_counts
from tgmm_hf.evaluation.predictions import SUBSETS, whole_subset
from tgmm_hf.evaluation.subgroups import shown_counts
from tgmm_hf.evaluation.survival import aalen_johansen, kaplan_meier

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
    whole = whole_subset(entries)
    for subset in SUBSETS:
        if entries[subset]["auc"] is None:
            continue
        rows = table[table["subset"] == subset]
        false_positive, true_positive = roc_curve(rows["probability"].to_numpy(), rows["positive"].to_numpy())
        axes.plot(
            false_positive,
            true_positive,
            color=COLOURS[subset],
            linewidth=2.4 if subset == whole else 1.3,
            zorder=3 if subset == whole else 2,
            label=f"{NAMES[subset]}  {entries[subset]['auc']:.2f}",
        )
    entry = entries[whole]
    if entry["auc"] is not None:
        axes.plot(
            1 - entry["specificity"], entry["sensitivity"], "o", color=COLOURS[whole], markersize=7,
            markerfacecolor="white", zorder=4, label=f"threshold {entry['threshold']['value']:.2f}",
        )  # fmt: skip
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


def calibration_figure(rows: pd.DataFrame, entry: Mapping[str, Any], title: str) -> Figure:
    """Predicted against observed share in groups, the logistic recalibration line, and where the predictions lie.

    Args:
        rows: scored admissions under one combination: probability (as used, scaled or not), positive.
        entry: their metrics.
    """
    figure = Figure(figsize=(4.8, 5.2), layout="constrained")
    axes, spread = figure.subplots(2, 1, gridspec_kw={"height_ratios": [5, 1]}, sharex=True)
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=1, linestyle=":", label="right")
    probability, positive = rows["probability"].to_numpy(), rows["positive"].to_numpy()
    grid = np.linspace(max(probability.min(), 1e-3), min(probability.max(), 1 - 1e-3), 100)
    line = recalibration_line(probability, positive, grid)
    if line is not None:
        axes.plot(grid, line, color=COLOURS[SUBSETS[0]], linewidth=1.8, label="logistic fit")
    points = entry["calibration_curve"]
    for point in points:
        axes.plot([point["predicted"]] * 2, point["observed_ci"], color="0.3", linewidth=1)
    axes.plot(
        [p["predicted"] for p in points], [p["observed"] for p in points], "o", color="black", markersize=5,
        label="groups of equal size",
    )  # fmt: skip
    axes.set(ylabel="observed share", ylim=(-0.02, 1.02), xlim=(-0.02, 1.02), title=title)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    figures = [("slope", "calibration_slope"), ("intercept", "calibration_intercept"), ("Brier score", "brier")]
    known = [f"{name} {entry[key]:.2f}" for name, key in figures if entry[key] is not None]
    axes.text(0.98, 0.03, "\n".join(known), transform=axes.transAxes, ha="right", va="bottom", fontsize=8)
    bins = np.linspace(0, 1, 41)
    spread.hist(probability[positive == 1], bins, color="#D55E00", alpha=0.75, label="positive")
    spread.hist(probability[positive == 0], bins, color="#0072B2", alpha=0.45, label="negative")
    spread.set(xlabel="predicted probability", yticks=[])
    spread.spines["left"].set_visible(False)
    spread.legend(loc="lower center", bbox_to_anchor=(0.5, 0.9), ncols=2, fontsize=7, frameon=False)
    return _plain(figure)


def decision_figure(entries: Mapping[str, Any], title: str) -> Figure:
    """Net benefit by threshold of acting on all modalities (with its interval), on single ones, on all and on nobody.

    Args:
        entries: subset -> metrics with ``decision_curve``.
    """
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = figure.subplots()
    whole = whole_subset(entries)
    for subset in dict.fromkeys((*SUBSETS[:3], whole)):
        curve = entries[subset]["decision_curve"]
        if curve is None:
            continue
        axes.plot(
            curve["threshold"], curve["net_benefit"], color=COLOURS[subset], linewidth=2.4 if subset == whole else 1.2,
            label=NAMES[subset], zorder=3 if subset == whole else 2,
        )  # fmt: skip
    shown = entries[whole]["decision_curve"]
    if shown is not None:
        axes.fill_between(shown["threshold"], *shown["net_benefit_ci"], color="black", alpha=0.12, linewidth=0)
        axes.plot(
            shown["threshold"], shown["act_on_all"], color="0.55", linewidth=1.2, linestyle="--", label="act on all"
        )
        top = max(max(shown["net_benefit_ci"][1]), shown["act_on_all"][0])
        axes.set_ylim(-0.35 * top, 1.08 * top)
    axes.axhline(0, color="0.55", linewidth=1.2, linestyle=":", label="act on nobody")
    axes.set(xlabel="probability above which one would act", ylabel="net benefit", xlim=(0, 1), title=title)
    axes.legend(loc="upper right", fontsize=8, frameon=False)
    return _plain(figure)


def risk_groups_figure(rows: pd.DataFrame, groups: Mapping[str, Any], title: str, replicates: int = 200) -> Figure:
    """Higher against lower risk group: incidence with death competing (Aalen-Johansen), and share free of the event
    with deaths censored (Kaplan-Meier), with pointwise 95 % bands and numbers at risk.

    Args:
        rows: one prognosis task under one combination, follow-up known: risk, time (days), event, patient_id.
        groups: ``risk_groups`` of its metrics: the cut, whose it is, the log-rank test.
        replicates: bootstrap resamples behind the incidence's bands.
    """
    figure = Figure(figsize=(9.2, 4.6), layout="constrained")
    panels = figure.subplots(2, 2, gridspec_kw={"height_ratios": [6, 1]}, sharex=True)
    high = (rows["risk"] > groups["cut"]).to_numpy()
    last = float(rows["time"].max())
    ticks = np.linspace(0, last, 6).round().astype(int)
    for position, (name, group, colour) in enumerate(
        (("higher risk", rows[high], "#D55E00"), ("lower risk", rows[~high], "#0072B2"))
    ):
        if group.empty:
            continue
        time, event = group["time"].to_numpy(), group["event"].to_numpy()
        days, incidence = aalen_johansen(time, event)
        counts = bootstrap_counts(group["patient_id"].to_numpy(), None, replicates, 0)
        low, up = np.quantile(aalen_johansen(time, event, counts)[1], [0.025, 0.975], axis=0)
        label = f"{name}: n = {len(group)}, {int((event == 1).sum())} events, {int((event == 2).sum())} deaths"
        _step(panels[0, 0], days, incidence[0], low, up, 0.0, colour, label)
        curve = kaplan_meier(time, event)
        _step(panels[0, 1], days, curve["free"], curve["low"], curve["high"], 1.0, colour, label)
        for numbers in panels[1]:
            for tick in ticks:
                numbers.text(
                    tick,
                    1 - position,
                    str(int((time >= tick).sum())),
                    color=colour,
                    ha="center",
                    va="center",
                    fontsize=8,
                )
    panels[0, 0].set(ylabel="incidence of the event, death competing", ylim=(0, None), xlim=(-0.03 * last, 1.03 * last))
    panels[0, 0].legend(loc="upper left", fontsize=8, frameon=False)
    panels[0, 1].set(ylabel="free of the event, deaths censored", ylim=(0, 1.03))
    p = groups["log_rank_p"]
    test = groups["log_rank_missing"] if p is None else f"p {_p_value(p)}"
    panels[0, 1].text(
        0.02, 0.03, f"log-rank: {test}", transform=panels[0, 1].transAxes, fontsize=8, ha="left", va="bottom"
    )
    for numbers in panels[1]:
        numbers.set(xlabel="days", ylim=(-0.6, 1.6), yticks=[], xticks=ticks)
        numbers.spines[["left", "bottom"]].set_visible(False)
        numbers.tick_params(bottom=False)
    panels[1, 0].set_ylabel("at risk", fontsize=8, rotation=0, ha="right", va="center")
    figure.suptitle(f"{title}; cut at the {groups['chosen_on']}", fontsize=11)
    return _plain(figure)


def subgroup_figure(entries: Sequence[Mapping[str, Any]], headline: str, title: str) -> Figure:
    """Figure and interval of every subgroup; a group that is too small stands there without one.

    Args:
        entries: from `subgroup_table`, everybody first. headline: "auc" or "c_index".
    """
    figure = Figure(figsize=(6.4, 0.8 + 0.24 * len(entries)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0.5, color="0.75", linewidth=1, linestyle=":")
    labels = []
    for position, (entry, (n, cases)) in enumerate(zip(entries, shown_counts(entries), strict=True)):
        name = entry["group"] if entry["grouping"] == "all" else f"{entry['grouping']}: {entry['group']}"
        labels.append(f"{name}  ({n})" if cases == "-" else f"{name}  ({cases} of {n})")
        value, interval = entry[headline], entry[f"{headline}_ci"]
        if value is None:
            axes.text(0.52, position, entry[f"{headline}_missing"], fontsize=7, color="0.5", va="center")
            continue
        if interval is not None:
            axes.plot(interval, [position] * 2, color="#0072B2", linewidth=1.6)
        axes.plot(
            value, position, "o" if position else "D", color="black" if position == 0 else "#0072B2", markersize=5
        )
        if position == 0:
            axes.axvline(value, color="0.6", linewidth=0.8)
    axes.set_yticks(range(len(entries)), labels, fontsize=8)
    axes.set(ylim=(len(entries) - 0.5, -0.5), xlabel=f"{HEADLINE_NAME[headline]}, 95 % interval", title=title)
    return _plain(figure)


def differences_figure(entries: Sequence[Mapping[str, Any]], headline: str, reference: str, title: str) -> Figure:
    """One model minus each other one, with intervals: right of 0 it is the better one. A difference without interval
    is a hollow mark, and the row says why.

    Args:
        entries: row, difference, difference_ci, difference_missing; from `runs.paired_differences`, one task and
            combination.
        headline: "auc" or "c_index". reference: name of the model that the others are subtracted from.
    """
    figure = Figure(figsize=(6.4, 1.0 + 0.3 * len(entries)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="0.75", linewidth=1, linestyle=":")
    for position, entry in enumerate(entries):
        colour = "0.35" if entry["row"] == "optimum" else "#0072B2"
        known = entry["difference_ci"] is not None
        if known:
            axes.plot(entry["difference_ci"], [position] * 2, color=colour, linewidth=2, solid_capstyle="round")
        mark = "D" if entry["row"] == "optimum" else "o"
        axes.plot(
            entry["difference"], position, mark, color=colour, markersize=6, fillstyle="full" if known else "none"
        )
    axes.set_yticks(range(len(entries)), [_row_label(entry) for entry in entries], fontsize=8)
    axes.locator_params(axis="x", nbins=6)  # the rows' names may leave little room
    intervals = ", 95 % interval (patients)" if any(entry["difference_ci"] is not None for entry in entries) else ""
    axes.set(
        ylim=(len(entries) - 0.5, -0.5),
        xlabel=f"{HEADLINE_NAME[headline]}: {reference} minus the row{intervals}",
        title=title,
    )
    return _plain(figure)


def _row_label(entry: Mapping[str, Any]) -> str:
    if entry["difference_ci"] is not None:
        return str(entry["row"])
    reason = "resamples agree" if entry["difference_missing"] == ALL_AGREE else "often undefined"
    return f"{entry['row']}\n(no interval: {reason})"


def robustness_figure(entries: Mapping[str, Any], headline: str, title: str) -> Figure:
    """How the headline figure falls when cells, leads or views go missing, or noise is added to the ECG.

    Args:
        entries: perturbation -> list of points, from `robustness`. headline: "auc" or "c_index".
    """
    figure = Figure(figsize=(9.6, 3.0), layout="constrained")
    panels = figure.subplots(1, len(entries), sharey=True, squeeze=False)[0]  # one panel is no array otherwise
    for axes, (name, points) in zip(panels, entries.items(), strict=True):
        subsets = dict.fromkeys(point["subset"] for point in points)
        for subset in subsets:
            own = [point for point in points if point["subset"] == subset and point[headline] is not None]
            where = list(range(len(own)))
            known = [i for i in where if own[i][f"{headline}_ci"] is not None]
            bounds = [[own[i][f"{headline}_ci"][side] for i in known] for side in (0, 1)]
            axes.fill_between(known, *bounds, color=COLOURS[subset], alpha=0.12, linewidth=0)
            axes.plot(where, [p[headline] for p in own], "o-", color=COLOURS[subset], markersize=4, label=NAMES[subset])
            axes.set_xticks(where, [p["level"] for p in own], fontsize=8)
        axes.axhline(0.5, color="0.75", linewidth=1, linestyle=":")
        axes.set(xlabel=name)
        axes.legend(loc="lower left", fontsize=7, frameon=False)
    panels[0].set(ylabel=HEADLINE_NAME[headline])
    figure.suptitle(title, fontsize=11)
    return _plain(figure)


def _step(
    axes: Axes, days: NDArray, value: NDArray, low: NDArray, high: NDArray, start: float, colour: str, label: str
) -> None:
    """A curve that changes at `days`, from `start` on day 0, with its band where there is one."""
    axes.fill_between(
        np.r_[0, days], np.r_[np.nan if start else 0.0, low], np.r_[np.nan if start else 0.0, high],
        step="post", color=colour, alpha=0.15, linewidth=0,
    )  # fmt: skip
    axes.step(np.r_[0, days], np.r_[start, value], where="post", color=colour, linewidth=1.8, label=label)


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


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
        if figure.get_layout_engine() is not None:  # once a figure: laying out costs as much as drawing
            figure.draw_without_rendering()
            figure.set_layout_engine(None)
        figure.savefig(buffer, format=file_format, dpi=150, metadata=metadata)
    return buffer.getvalue()


def _plain(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(11)
    return figure
