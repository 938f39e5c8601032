"""The figures of an evaluation. Every function returns a matplotlib figure. pyplot is not used: it has global state."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from tgmm_hf.evaluation.calibration import recalibration_line
from tgmm_hf.evaluation.headline_figures import HEADLINE_TITLES
from tgmm_hf.evaluation.metrics import ALL_AGREE, bootstrap_counts
from tgmm_hf.evaluation.predictions import whole_subset
from tgmm_hf.evaluation.subgroups import shown_count, shown_counts, shown_parts
from tgmm_hf.evaluation.survival_curves import aalen_johansen, kaplan_meier
from tgmm_hf.reports.figure_parts import draw_no_skill, write_reason
from tgmm_hf.utils.names import SUBSET_NAMES

COLOURS = dict(
    zip(SUBSET_NAMES, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"), strict=True)
)
"""Subset -> colour. Okabe and Ito's palette, because it is readable in print and with colour-vision deficiencies."""
NAMES = {
    subset: " + ".join({"labs": "labs", "ecg": "ECG", "echo": "echo"}[m] for m in subset.split("+"))
    for subset in SUBSET_NAMES
}
"""Subset -> its name in a figure."""


def roc_figure(table: pd.DataFrame, entries: Mapping[str, Any], title: str) -> Figure:
    """Draw the ROC curve of every modality subset.

    Args:
        table: Rows of one diagnosis with a known label. Columns: subset, positive, probability.
        entries: Subset -> figures with `auc`.
        title: Title of the figure.
    """
    figure = Figure(figsize=(5.4, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=1, linestyle=":", label="chance  0.50")
    whole = whole_subset(entries)
    for subset in SUBSET_NAMES:
        if entries[subset]["auc"] is None:
            continue
        rows = table[table["subset"] == subset]
        false_positive, true_positive, _ = roc_curve(rows["positive"], rows["probability"], drop_intermediate=False)
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
    return plain(figure)


def forest_figure(entries: Mapping[str, Any], headline: str, title: str) -> Figure:
    """Draw the headline figure of every subset as a dot with its interval, and the optimum, if known, as a diamond.

    Args:
        entries: Subset -> figures.
        headline: A key of `HEADLINE_TITLES`.
        title: Title of the figure.
    """
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    draw_no_skill(axes.axvline, headline)
    for position, subset in enumerate(reversed(SUBSET_NAMES)):
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
                position - 0.3,  # below the dot, because it would hide the dot of a model near the optimum
                "D",
                markerfacecolor="white",
                markeredgecolor="0.35",
                markersize=5,
            )
    axes.set_yticks(
        range(len(SUBSET_NAMES)), [f"{NAMES[s]}  (n = {entries[s]['n']})" for s in reversed(SUBSET_NAMES)], fontsize=8
    )
    axes.set(xlabel=f"{HEADLINE_TITLES[headline]}, 95 % interval", title=title, ylim=(-0.6, len(SUBSET_NAMES) - 0.4))
    if any(f"bayes_{headline}" in entry for entry in entries.values()):
        axes.plot([], [], "D", markerfacecolor="white", markeredgecolor="0.35", label="Bayes optimum, same patients")
        figure.legend(loc="outside lower right", fontsize=8, frameon=False)
    return plain(figure)


def calibration_figure(rows: pd.DataFrame, entry: Mapping[str, Any], title: str) -> Figure:
    """Draw the predicted against the observed share, the logistic recalibration, and a histogram of the predictions.

    Args:
        rows: Scored admissions under one subset. Columns: probability (scaled if there is a temperature), positive.
        entry: Figures of these admissions in metrics.json.
        title: Title of the figure.
    """
    figure = Figure(figsize=(4.8, 5.2), layout="constrained")
    axes, spread = figure.subplots(2, 1, gridspec_kw={"height_ratios": [5, 1]}, sharex=True)
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=1, linestyle=":", label="right")
    probability, positive = rows["probability"].to_numpy(), rows["positive"].to_numpy()
    grid = np.linspace(max(probability.min(), 1e-3), min(probability.max(), 1 - 1e-3), 100)
    line = recalibration_line(probability, positive, grid)
    if line is not None:
        axes.plot(grid, line, color=COLOURS[SUBSET_NAMES[0]], linewidth=1.8, label="logistic fit")
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
    lines = [f"{name} {entry[key]:.2f}" for name, key in figures if entry[key] is not None]
    axes.text(0.98, 0.03, "\n".join(lines), transform=axes.transAxes, ha="right", va="bottom", fontsize=8)
    bins = np.linspace(0, 1, 41)
    spread.hist(probability[positive == 1], bins, color="#D55E00", alpha=0.75, label="positive")
    spread.hist(probability[positive == 0], bins, color="#0072B2", alpha=0.45, label="negative")
    spread.set(xlabel="predicted probability", yticks=[])
    spread.spines["left"].set_visible(False)
    spread.legend(loc="lower center", bbox_to_anchor=(0.5, 0.9), ncols=2, fontsize=7, frameon=False)
    return plain(figure)


def decision_figure(entries: Mapping[str, Any], title: str) -> Figure:
    """Draw the net benefit by threshold of acting on the model, on all patients and on no patient.

    There is one curve for all modalities together, with its interval, and one for each single modality.

    Args:
        entries: Subset -> figures with `decision_curve`.
        title: Title of the figure.
    """
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = figure.subplots()
    whole = whole_subset(entries)
    for subset in dict.fromkeys((*SUBSET_NAMES[:3], whole)):
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
    return plain(figure)


def risk_groups_figure(rows: pd.DataFrame, groups: Mapping[str, Any], title: str, replicates: int = 200) -> Figure:
    """Draw the incidence and the share without the event of the higher and the lower risk group.

    The incidence has death competing (Aalen-Johansen). The share without the event has deaths censored (Kaplan-Meier).
    Both have pointwise 95 % bands, and the numbers at risk are below them.

    Args:
        rows: Admissions of one prognosis under one subset, with known follow-up. Columns: risk, time (days), event,
            patient_id.
        groups: "risk_groups" in the figures of the subset: the cut, how it was chosen, the log-rank test.
        title: Title of the figure.
        replicates: Number of bootstrap resamples for the bands of the incidence.
    """
    figure = Figure(figsize=(9.2, 4.6), layout="constrained")
    panels = figure.subplots(2, 2, gridspec_kw={"height_ratios": [6, 1]}, sharex=True)
    is_high = (rows["risk"] > groups["cut"]).to_numpy()
    labels = _risk_group_labels(rows["event"].to_numpy(), is_high)
    last = float(rows["time"].max())
    ticks = np.linspace(0, last, 6).round().astype(int)
    for height, name, group, colour in (
        (1, "higher risk", rows[is_high], "#D55E00"),
        (0, "lower risk", rows[~is_high], "#0072B2"),
    ):
        if group.empty:
            continue
        _draw_risk_group(panels[0], group, f"{name}: {labels[1 - height]}", colour, replicates)
        time = group["time"].to_numpy()
        for axes in panels[1]:
            for tick in ticks:
                number = shown_count(int((time >= tick).sum()))
                axes.text(tick, height, number, color=colour, ha="center", va="center", fontsize=8)
    panels[0, 0].set(ylabel="incidence of the event, death competing", ylim=(0, None), xlim=(-0.03 * last, 1.03 * last))
    panels[0, 0].legend(loc="upper left", fontsize=8, frameon=False)
    panels[0, 1].set(ylabel="free of the event, deaths censored", ylim=(0, 1.03))
    p = groups["log_rank_p"]
    test = groups["log_rank_missing"] if p is None else f"p {_p_value(p)}"
    panels[0, 1].text(
        0.02, 0.03, f"log-rank: {test}", transform=panels[0, 1].transAxes, fontsize=8, ha="left", va="bottom"
    )
    for axes in panels[1]:
        axes.set(xlabel="days", ylim=(-0.6, 1.6), yticks=[], xticks=ticks)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(bottom=False)
    panels[1, 0].set_ylabel("at risk", fontsize=8, rotation=0, ha="right", va="center")
    figure.suptitle(f"{title}; cut at the {groups['chosen_on']}", fontsize=11)
    return plain(figure)


def _risk_group_labels(event: np.ndarray, is_high: np.ndarray) -> list[str]:
    """Write n, events and deaths of the higher and of the lower risk group, small numbers hidden.

    Args:
        event: (n,) 0, 1 for the event, 2 for death.
        is_high: bool (n,).
    """
    counts = [
        shown_parts([int(flags[group].sum()) for group in (is_high, ~is_high)])
        for flags in (np.ones(len(event), dtype=bool), event == 1, event == 2)
    ]
    return ["n = {}, {} events, {} deaths".format(*numbers) for numbers in zip(*counts, strict=True)]


def _draw_risk_group(panels: Sequence[Axes], group: pd.DataFrame, label: str, colour: str, replicates: int) -> None:
    """Draw the curves of one risk group: incidence into panel 0, share without the event into panel 1.

    Args:
        panels: The two axes.
        group: Admissions of the group. Columns: time (days), event, patient_id.
        label: Text of the group in the legend.
        colour: Colour of the curves.
        replicates: Number of bootstrap resamples for the band of the incidence.
    """
    time, event = group["time"].to_numpy(), group["event"].to_numpy()
    days, incidence = aalen_johansen(time, event)
    counts = bootstrap_counts(group["patient_id"].to_numpy(), None, replicates, 0)
    low, high = np.quantile(aalen_johansen(time, event, counts)[1], [0.025, 0.975], axis=0)
    _step(panels[0], _Curve(days, incidence[0], low, high), 0.0, colour, label)
    free = kaplan_meier(time, event)
    _step(panels[1], _Curve(free["days"], free["free"], free["low"], free["high"]), 1.0, colour, label)


def subgroup_figure(entries: Sequence[Mapping[str, Any]], headline: str, title: str) -> Figure:
    """Draw the headline figure and its interval for every subgroup. A group that is too small shows the reason instead.

    Args:
        entries: Entries of `subgroup_table`. The first entry is about all admissions.
        headline: A key of `HEADLINE_TITLES`.
        title: Title of the figure.
    """
    figure = Figure(figsize=(6.4, 0.8 + 0.24 * len(entries)), layout="constrained")
    axes = figure.subplots()
    draw_no_skill(axes.axvline, headline)
    labels = []
    for position, (entry, (n, cases)) in enumerate(zip(entries, shown_counts(entries), strict=True)):
        name = entry["group"] if entry["grouping"] == "all" else f"{entry['grouping']}: {entry['group']}"
        labels.append(f"{name}  ({n})" if cases == "-" else f"{name}  ({cases} of {n})")
        value, interval = entry[headline], entry[f"{headline}_ci"]
        if value is None:
            write_reason(axes, headline, position, entry)
            continue
        if interval is not None:
            axes.plot(interval, [position] * 2, color="#0072B2", linewidth=1.6)
        axes.plot(
            value, position, "o" if position else "D", color="black" if position == 0 else "#0072B2", markersize=5
        )
        if position == 0:
            axes.axvline(value, color="0.6", linewidth=0.8)
    axes.set_yticks(range(len(entries)), labels, fontsize=8)
    axes.set(ylim=(len(entries) - 0.5, -0.5), xlabel=f"{HEADLINE_TITLES[headline]}, 95 % interval", title=title)
    return plain(figure)


def differences_figure(entries: Sequence[Mapping[str, Any]], headline: str, reference: str, title: str) -> Figure:
    """Draw the differences between the reference model and each of the other models, with intervals.

    Right of 0 the reference is better. A difference without interval is a hollow mark, and its label says why.

    Args:
        entries: Entries of `grid_figures.differences_between_rows` for one task and subset, with row, difference,
            difference_ci and difference_missing.
        headline: A key of `HEADLINE_TITLES`.
        reference: Name of the reference model.
        title: Title of the figure.
    """
    figure = Figure(figsize=(6.4, 1.0 + 0.3 * len(entries)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="0.75", linewidth=1, linestyle=":")
    for position, entry in enumerate(entries):
        colour = "0.35" if entry["row"] == "optimum" else "#0072B2"
        has_interval = entry["difference_ci"] is not None
        if has_interval:
            axes.plot(entry["difference_ci"], [position] * 2, color=colour, linewidth=2, solid_capstyle="round")
        mark = "D" if entry["row"] == "optimum" else "o"
        axes.plot(
            entry["difference"],
            position,
            mark,
            color=colour,
            markersize=6,
            fillstyle="full" if has_interval else "none",
        )
    axes.set_yticks(range(len(entries)), [_row_label(entry) for entry in entries], fontsize=8)
    axes.locator_params(axis="x", nbins=6)  # long names of the rows may leave little room
    intervals = ", 95 % interval (patients)" if any(entry["difference_ci"] is not None for entry in entries) else ""
    axes.set(
        ylim=(len(entries) - 0.5, -0.5),
        xlabel=f"{HEADLINE_TITLES[headline]}: {reference} minus the row{intervals}",
        title=title,
    )
    return plain(figure)


def _row_label(entry: Mapping[str, Any]) -> str:
    if entry["difference_ci"] is not None:
        return str(entry["row"])
    reason = "resamples agree" if entry["difference_missing"] == ALL_AGREE else "often undefined"
    return f"{entry['row']}\n(no interval: {reason})"


def robustness_figure(entries: Mapping[str, Any], headline: str, title: str) -> Figure:
    """Draw how the headline figure falls when cells, leads or views are dropped, or noise is added to the ECG.

    Args:
        entries: Perturbation -> points, from `robustness`.
        headline: A key of `HEADLINE_TITLES`.
        title: Title of the figure.
    """
    figure = Figure(figsize=(9.6, 3.0), layout="constrained")
    panels = figure.subplots(1, len(entries), sharey=True, squeeze=False)[0]  # without it, one panel is no array
    for axes, (name, points) in zip(panels, entries.items(), strict=True):
        subsets = dict.fromkeys(point["subset"] for point in points)
        for subset in subsets:
            shown = [point for point in points if point["subset"] == subset and point[headline] is not None]
            places = list(range(len(shown)))
            with_interval = [i for i in places if shown[i][f"{headline}_ci"] is not None]
            bounds = [[shown[i][f"{headline}_ci"][side] for i in with_interval] for side in (0, 1)]
            colour = COLOURS[subset]
            axes.fill_between(with_interval, *bounds, color=colour, alpha=0.12, linewidth=0)
            axes.plot(places, [p[headline] for p in shown], "o-", color=colour, markersize=4, label=NAMES[subset])
            axes.set_xticks(places, [p["level"] for p in shown], fontsize=8)
        draw_no_skill(axes.axhline, headline)
        axes.set(xlabel=name)
        axes.legend(loc="lower left", fontsize=7, frameon=False)
    panels[0].set(ylabel=HEADLINE_TITLES[headline])
    figure.suptitle(title, fontsize=11)
    return plain(figure)


class _Curve(NamedTuple):
    """A step curve with its band. `value` holds from each of `days` on. `low` and `high` are NaN without a band."""

    days: NDArray
    value: NDArray
    low: NDArray
    high: NDArray


def _step(axes: Axes, curve: _Curve, start: float, colour: str, label: str) -> None:
    """Draw a step curve with its band into `axes`. From day 0 to the first day of the curve its value is `start`."""
    first_bound = np.nan if start else 0.0
    days = np.r_[0, curve.days]
    axes.fill_between(
        days, np.r_[first_bound, curve.low], np.r_[first_bound, curve.high],
        step="post", color=colour, alpha=0.15, linewidth=0,
    )  # fmt: skip
    axes.step(days, np.r_[start, curve.value], where="post", color=colour, linewidth=1.8, label=label)


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def retrieval_figure(entries: Mapping[str, Any], title: str) -> Figure:
    """Draw the LRAP of every direction with three candidates, with four and over the full gallery.

    Each bar has its interval. A line with a band shows the value of random rankings and their central 95 %.

    Args:
        entries: Direction -> figures of `tgmm_hf.evaluation.retrieval.evaluate_direction`.
        title: Title of the figure.
    """
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    directions = list(entries)
    for axes, suffix, name in zip(
        panels, ("3", "4", "full"), ("3 candidates", "4 candidates", "full gallery"), strict=True
    ):
        for position, direction in enumerate(directions):
            if entries[direction][f"lrap_{suffix}"] is not None:
                _draw_direction(axes, position, entries[direction], suffix)
        labels = [direction.replace("ecg", "ECG").replace("->", " → ") for direction in directions]
        axes.set_xticks(range(len(directions)), labels, rotation=60, ha="right", fontsize=8, rotation_mode="anchor")
        axes.set(title=name, ylim=(0, 1))
    panels[0].set_ylabel("LRAP")
    panels[0].plot([], [], color="#D55E00", label="ranking by lot, 95 %")
    if any("bayes_lrap_3_population" in entry for entry in entries.values()):
        panels[0].plot([], [], "D", markerfacecolor="white", markeredgecolor="0.35", label="Bayes optimum, population")
    figure.legend(loc="outside lower right", fontsize=8, frameon=False, ncols=2)
    figure.suptitle(title, fontsize=11)
    return plain(figure)


def _draw_direction(axes: Axes, position: int, entry: Mapping[str, Any], suffix: str) -> None:
    """Draw one direction into `axes`: bar, interval, random level with its range, and the optimum if known.

    Args:
        axes: Axes to draw into.
        position: Place of the bar on the x axis.
        entry: Figures of the direction.
        suffix: Number of candidates: "3", "4" or "full".
    """
    axes.bar(position, entry[f"lrap_{suffix}"], width=0.7, color="#56B4E9", zorder=1)
    if entry[f"lrap_{suffix}_ci"] is not None:
        axes.plot([position] * 2, entry[f"lrap_{suffix}_ci"], color="black", linewidth=1.2, zorder=3)
    low, high = entry[f"lrap_{suffix}_chance_ci"]
    width = [position - 0.45, position + 0.45]
    axes.fill_between(width, low, high, color="#D55E00", alpha=0.35, linewidth=0, zorder=2)
    axes.plot(width, [entry[f"lrap_{suffix}_chance"]] * 2, color="#D55E00", linewidth=1, zorder=3)
    optimum = entry.get(f"bayes_lrap_{suffix}_population")
    if optimum is not None:
        axes.plot(position, optimum, "D", markerfacecolor="white", markeredgecolor="0.35", markersize=5, zorder=4)


def risk_curve_figure(days: Sequence[float], risk: Sequence[float], by_day: Mapping[str, float]) -> Figure:
    """Draw the probability of the event by each day for one patient.

    Args:
        days: Days of the curve.
        risk: Probability by each of these days.
        by_day: Day as text -> probability; these points are marked with their values.
    """
    figure = Figure(figsize=(5.4, 2.7), layout="constrained")
    axes = figure.subplots()
    axes.step(days, risk, where="post", color="#0072B2", linewidth=1.8)
    for day, probability in by_day.items():
        axes.plot(float(day), probability, "o", color="#0072B2", markersize=6, clip_on=False, zorder=3)
        axes.annotate(
            f"{probability:.0%}", (float(day), probability), xytext=(-6, 5), textcoords="offset points",
            ha="right", fontsize=9,
        )  # fmt: skip
    axes.set(xlabel="days", ylabel="probability of the event", xlim=(0, None), ylim=(0, 1))
    return plain(figure)


def render(figure: Figure, file_format: str) -> bytes:
    """Render a figure as SVG or PNG.

    In an SVG the text stays text, and equal figures give equal bytes. A PNG has 150 dpi.

    Args:
        figure: The figure. Its layout is computed at the first call and then fixed, in place.
        file_format: "svg" or "png".

    Returns:
        The content of the file.
    """
    buffer = BytesIO()
    metadata = {"Date": None} if file_format == "svg" else {}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tgmm", "font.family": "DejaVu Sans"}):
        if figure.get_layout_engine() is not None:  # only once, because the layout costs as much as the drawing
            figure.draw_without_rendering()
            figure.set_layout_engine(None)
        figure.savefig(buffer, format=file_format, dpi=150, metadata=metadata)
    return buffer.getvalue()


def plain(figure: Figure) -> Figure:
    """Hide the upper and right border of every panel, in place, and return the figure."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(11)
    return figure
