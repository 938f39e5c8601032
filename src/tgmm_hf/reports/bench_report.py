"""The HTML page of a bench: closed and open questions, reports and signals, each beside its controls.

The page holds no answer and no name of a patient, so that it can be passed on like the figures.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tgmm_hf.data.bench_items import CLOSED, OPEN, PREDICTION, RECONSTRUCTION, REPORT
from tgmm_hf.evaluation.bench_tables import bench_tables, evaluate_bench
from tgmm_hf.evaluation.evaluate_reporter import ReporterEvaluationSettings
from tgmm_hf.evaluation.notices import NOT_A_DEVICE, SYNTHETIC
from tgmm_hf.evaluation.report_controls import MODEL
from tgmm_hf.evaluation.tables import text_number, text_range
from tgmm_hf.reports.pages import render_page
from tgmm_hf.reports.reporter_report import drawn_systems, page_settings
from tgmm_hf.utils.files import write_text

MAIN_FIGURES = {
    CLOSED: ("accuracy_likelihood", "accuracy of closed questions, by likelihood"),
    OPEN: ("token_f1", "token F1 of open questions"),
    REPORT: ("micro_f1", "F1 of the findings of reports"),
    PREDICTION: ("rmse", "RMSE of predicted signals; less is better"),
    RECONSTRUCTION: ("rmse", "RMSE of rebuilt signals; less is better"),
}
"""Kind of question -> the figure at the top of the page, and its name in words."""
ALL = "all"
OPEN_TABLES = (CLOSED, OPEN, PREDICTION, RECONSTRUCTION, f"{REPORT}_findings")
"""Tables that are shown at once. The others are folded."""
SETTINGS = (
    *("model", "model_family", "model_fingerprint", "processor_fingerprint", "data", "data_hash", "datasets", "split"),
    *("generation", "seed", "bootstrap"),
)
CONTROLS_IN_WORDS = (
    "A model that reads the ECG is better than its controls: the model with the ECG of another patient, without an "
    "ECG, with one stream alone, a classifier that sees the texts alone, and the most frequent answer. Predicted "
    "signals stand beside the last beat repeated, the same beat scaled, a linear predictor and the mean of the lead."
)


def evaluate_bench_with_page(
    model: str, data: Path, out_dir: Path, settings: ReporterEvaluationSettings
) -> dict[str, Any]:
    """Evaluate a model on a bench file as `evaluate_bench` does, and write `report.html` beside its files.

    Returns:
        The content of `metrics.json`.
    """
    metrics = evaluate_bench(model, data, out_dir, settings)
    write_text(out_dir / "report.html", bench_html(metrics))
    return metrics


def bench_html(metrics: Mapping[str, Any]) -> str:
    """Return the HTML page. It refers to no other file. `metrics` is the content of metrics.json."""
    tables = bench_tables(metrics)
    systems = {kind: _systems(kind, metrics[kind]) for kind in MAIN_FIGURES if metrics[kind] is not None}
    is_synthetic = metrics["datasets"] == ["synthetic"]
    missing = [f"{kind}: not scored, {reason}." for kind, reason in metrics["kinds_missing"].items()]
    return render_page(
        "reporter_report.html",
        model=metrics["model"],
        title="Bench",
        heading=f"Questions about ECGs, {metrics['split']} split",
        headlines=[_headline(kind, metrics[kind], systems[kind]) for kind in systems],
        warnings=[f"{SYNTHETIC} {NOT_A_DEVICE}" if is_synthetic else NOT_A_DEVICE, *metrics["warnings"]],
        figures=[drawn_systems(systems[kind], *MAIN_FIGURES[kind]) for kind in systems],
        shown=[table for name, table in tables.items() if name in OPEN_TABLES],
        folded=[table for name, table in tables.items() if name not in OPEN_TABLES],
        strong_row=f"{ALL}, {MODEL}",
        notes=[CONTROLS_IN_WORDS, *missing, *metrics["notes"]],
        settings=page_settings(metrics, SETTINGS),
    )


def _systems(kind: str, entry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the figures of each system over all categories that has the main figure of the kind."""
    systems = {name: scores[ALL] if kind in (CLOSED, OPEN) else scores for name, scores in entry["systems"].items()}
    return {name: scores for name, scores in systems.items() if scores.get(MAIN_FIGURES[kind][0]) is not None}


def _headline(kind: str, entry: Mapping[str, Any], systems: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """Write the main figure of the model, and its difference from the control that comes nearest to it."""
    figure, title = MAIN_FIGURES[kind]
    scores, key = systems[MODEL], f"{figure}_difference"
    differences = {
        control: categories.get(ALL, {}) if kind in (CLOSED, OPEN) else categories
        for control, categories in entry["differences"].items()
    }
    differences = {control: entry for control, entry in differences.items() if entry.get(key) is not None}
    text = f"{title}, {text_range(scores[f'{figure}_ci'])}; {entry['n']} questions"
    if differences:
        # An error is better when it is smaller: the nearest control has the largest difference then.
        choose = max if figure == "rmse" else min
        control = choose(differences, key=lambda name: differences[name][key])
        nearest = differences[control]
        text += (
            f". Against the strongest control ({control}): {text_number(nearest[key], '+')} "
            f"({text_range(nearest[f'{key}_ci'], '+')})"
        )
    return text_number(scores[figure]), text


__all__ = ["bench_html", "evaluate_bench_with_page"]
