"""The HTML page of a MEIT evaluation: findings beside the controls, text metrics, certainty, settings.

The page holds no report and no name of a patient, so that it can be passed on like the figures.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tgmm_hf.evaluation.evaluate_reporter import ReporterEvaluationSettings
from tgmm_hf.evaluation.notices import NOT_A_DEVICE, SYNTHETIC
from tgmm_hf.evaluation.report_controls import MODEL
from tgmm_hf.evaluation.reporter_tables import evaluate_reporter, reporter_tables
from tgmm_hf.evaluation.tables import text_number, text_range
from tgmm_hf.reports.figures import plain, render
from tgmm_hf.reports.pages import inline_svg, render_page
from tgmm_hf.utils.files import write_text

OPEN_TABLES = ("findings", "text")
"""Tables that are shown at once. The others are folded."""
SETTINGS = (
    *("model", "model_fingerprint", "processor_fingerprint", "data", "data_hash", "datasets", "split", "fusion"),
    *("generation", "truth", "seed", "bootstrap"),
)


CONTROLS_IN_WORDS = (
    "F1 is over all statements of all ECGs (micro). Macro F1 is the mean over the statements. Controls do not rest on "
    "the right ECG: the model with the ECG of another patient, the model with an ECG of zeros, the report of the "
    "training ECG whose vectors are the nearest, and the most frequent report. Codes of statements are those of PTB-XL "
    "(SCP-ECG)."
)


def evaluate_reporter_with_page(
    model: str, data: Path, out_dir: Path, settings: ReporterEvaluationSettings
) -> dict[str, Any]:
    """Evaluate a MEIT model as `evaluate_reporter` does, and write `report.html` beside its files.

    Returns:
        The content of `metrics.json`.
    """
    metrics = evaluate_reporter(model, data, out_dir, settings)
    write_text(out_dir / "report.html", reporter_html(metrics))
    return metrics


def reporter_html(metrics: Mapping[str, Any]) -> str:
    """Return the HTML page. It refers to no other file. `metrics` is the content of metrics.json."""
    tables = reporter_tables(metrics)
    is_synthetic = metrics["datasets"] == ["synthetic"]
    return render_page(
        "reporter_report.html",
        model=metrics["model"],
        title="Evaluation of ECG reports",
        heading=f"ECG reports on the {metrics['split']} split",
        headlines=_headlines(metrics),
        warnings=[f"{SYNTHETIC} {NOT_A_DEVICE}" if is_synthetic else NOT_A_DEVICE, *metrics["warnings"]],
        figures=[drawn_systems(metrics["systems"], "micro_f1", "F1 of the findings")],
        shown=[tables[name] for name in OPEN_TABLES],
        folded=[table for name, table in tables.items() if name not in OPEN_TABLES],
        strong_row=MODEL,
        notes=[CONTROLS_IN_WORDS, *metrics["notes"]],
        settings=page_settings(metrics, SETTINGS),
    )


def page_settings(metrics: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Collect what was scored and how: the keys `names` of metrics.json, and the versions of packages.

    A package may have the name of a key, so its version gets the word "package".
    """
    packages = {f"package {name}": version for name, version in metrics.get("versions", {}).items()}
    return {name: metrics[name] for name in names if name in metrics} | packages


def _headlines(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write the model's F1, and its difference from the control that comes nearest to it."""
    entry = metrics["systems"][MODEL]
    refused = f", {metrics['refused']} more refused" if metrics["refused"] else ""
    scored = f"{metrics['n']} ECGs of {metrics['patients']} patients{refused}"
    cards = [(f"F1 {text_number(entry['micro_f1'])}", f"findings, {text_range(entry['micro_f1_ci'])}; {scored}")]
    differences = {
        control: figures
        for control, figures in metrics["differences"].items()
        if figures["micro_f1_difference"] is not None
    }
    if differences:
        control = min(differences, key=lambda name: differences[name]["micro_f1_difference"])
        figures = differences[control]
        cards.append(
            (
                f"{text_number(figures['micro_f1_difference'], '+')} F1",
                f"against the strongest control ({control}), {text_range(figures['micro_f1_difference_ci'], '+')}",
            )
        )
    return cards


def drawn_systems(systems: Mapping[str, Mapping[str, Any]], key: str, title: str) -> str:
    """Draw one figure of all systems as SVG for a page. Arguments as in `systems_figure`."""
    return inline_svg(render(systems_figure(systems, key, title), "svg").decode())


def systems_figure(systems: Mapping[str, Mapping[str, Any]], key: str, title: str) -> Figure:
    """Draw one figure of the model, of each control and of the true reports, with intervals.

    Args:
        systems: Name -> figures, as in metrics.json.
        key: Key of the figure, such as "micro_f1".
        title: Name of the figure in words.
    """
    figure = Figure(figsize=(5.8, 0.6 + 0.4 * len(systems)), layout="constrained")
    axes = figure.subplots()
    names = list(systems)[::-1]
    for position, name in enumerate(names):
        entry, colour = systems[name], "#D55E00" if name == MODEL else "#0072B2"
        if entry.get(f"{key}_ci") is not None:
            axes.plot(entry[f"{key}_ci"], [position] * 2, color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(entry[key], position, "o", color=colour, markersize=7)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    right = max(1.02, *(1.02 * (entry.get(f"{key}_ci") or [0, entry[key]])[1] for entry in systems.values()))
    axes.set(xlabel=f"{title}, 95 % interval", xlim=(0, right), ylim=(-0.6, len(names) - 0.4))
    return plain(figure)
