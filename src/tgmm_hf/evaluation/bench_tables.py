"""The figures of a bench as tables of text, and the files of its evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tgmm_hf.data.bench_items import CLOSED, OPEN, PREDICTION, RECONSTRUCTION, REPORT
from tgmm_hf.evaluation.bench_answers import CLOSED_FIGURES, OPEN_FIGURES
from tgmm_hf.evaluation.bench_models import BenchModels
from tgmm_hf.evaluation.evaluate_bench import compute_bench_evaluation
from tgmm_hf.evaluation.evaluate_reporter import ReporterEvaluationSettings
from tgmm_hf.evaluation.notices import NOT_A_DEVICE, SYNTHETIC
from tgmm_hf.evaluation.report_controls import MODEL
from tgmm_hf.evaluation.reporter_tables import reporter_tables, ruled, section, shown
from tgmm_hf.evaluation.tables import Table, as_csv, text_number, text_range
from tgmm_hf.utils.files import whole_file, write_json, write_text
from tgmm_hf.utils.names import LEADS
from tgmm_hf.utils.output_lock import one_run_at_a_time

FIGURE_TITLES = {
    "accuracy_likelihood": "accuracy by likelihood",
    "accuracy_letter": "accuracy by letter",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "micro_f1": "F1 of findings",
}
"""Key of metrics.json -> name of a figure."""
REPORT_TABLES = ("findings", "text", "statements", "certainty")
"""Tables of the reports that stand in the text files. All are written as CSV."""
CARD_REPORT = f"{REPORT}_findings"
"""Table of the reports that stands in a model card."""
SIGNAL_TITLES = {PREDICTION: "Predicted signals: RMSE", RECONSTRUCTION: "Rebuilt signals: RMSE"}


@one_run_at_a_time("out_dir")
def evaluate_bench(
    model: str,
    data: str | Path,
    out_dir: Path,
    settings: ReporterEvaluationSettings,
    models: BenchModels | None = None,
) -> dict[str, Any]:
    """Evaluate a model on a bench file and write all files of the evaluation.

    The files are `answers.parquet`, `tables/*.csv`, `metrics.txt`, `metrics.md` and last `metrics.json`. If
    `metrics.json` exists, all other files are complete.

    Args:
        model: Directory or Hub repository of a saved model.
        data: Bench file.
        out_dir: Directory to write.
        settings: What to evaluate, and how.
        models: As in [`compute_bench_evaluation`].

    Returns:
        The content of `metrics.json`.
    """
    evaluation = compute_bench_evaluation(model, data, settings, models)
    if evaluation.answers is not None:
        with whole_file(out_dir / "answers.parquet") as building:
            evaluation.answers.to_parquet(building, index=False)
    metrics = evaluation.metrics
    tables = bench_tables(metrics)
    for name, table in tables.items():
        write_text(out_dir / "tables" / f"{name}.csv", as_csv(table.header, table.rows))
    in_text = [table for name, table in tables.items() if not name.startswith(f"{REPORT}_") or _is_shown(name)]
    write_text(out_dir / "metrics.txt", _plain_text(metrics, in_text) + "\n")
    write_text(out_dir / "metrics.md", _markdown(metrics, in_text) + "\n")
    write_json(out_dir / "metrics.json", metrics, allow_nan=False)
    return metrics


def _is_shown(name: str) -> bool:
    return name.removeprefix(f"{REPORT}_") in REPORT_TABLES


def bench_tables(metrics: Mapping[str, Any]) -> dict[str, Table]:
    """Make the tables of a bench: name -> table. `metrics` is the content of metrics.json."""
    tables: dict[str, Table] = {}
    for kind, figures, title in (
        (CLOSED, CLOSED_FIGURES, "Closed questions"),
        (OPEN, OPEN_FIGURES, "Open questions"),
    ):
        if metrics[kind] is not None:
            tables[kind] = _questions(title, metrics[kind], figures)
    if metrics[REPORT] is not None:
        tables |= {f"{REPORT}_{name}": table for name, table in reporter_tables(metrics[REPORT]).items()}
    for kind, title in SIGNAL_TITLES.items():
        if metrics[kind] is not None:
            tables[kind] = _signals(title, metrics[kind])
    return tables


def _questions(title: str, entry: Mapping[str, Any], figures: Sequence[str]) -> Table:
    """Make the table of closed or open questions: a line for each category and system."""
    named = [name for name in figures if any(name in scores for scores in entry["systems"][MODEL].values())]
    header = ["category, answers", "n"]
    for name in named:
        header += [FIGURE_TITLES[name], "model minus this"]
    has_letters = any("no_letter" in scores for scores in entry["systems"][MODEL].values())
    header += ["no letter"] if has_letters else []
    rows = []
    for category in entry["systems"][MODEL]:
        for system, categories in entry["systems"].items():
            scores = categories[category]
            difference = entry["differences"].get(system, {}).get(category, {})
            line = [f"{category}, {system}", str(scores["n"])]
            for name in named:
                line += [shown(scores, name) if name in scores else "-", _difference(difference, name)]
            rows.append(line + ([text_number(scores.get("no_letter"))] if has_letters else []))
    rows += [
        [f"{control}: {reason}", *["-"] * (len(header) - 1)] for control, reason in entry["controls_missing"].items()
    ]
    return Table(title, header, rows)


def _difference(entry: Mapping[str, Any], name: str) -> str:
    """Write the difference of a figure with its interval."""
    key = f"{name}_difference"
    if entry.get(key) is None:
        return "-"
    interval = entry[f"{key}_ci"]
    return f"{text_number(entry[key], '+')} ({'no interval' if interval is None else text_range(interval, '+')})"


def _signals(title: str, entry: Mapping[str, Any]) -> Table:
    """Make the table of signals: a line for each system, over all leads and for each lead."""
    header = ["signal", "all leads", "model minus this", *LEADS]
    rows = [
        [
            system,
            shown(scores, "rmse"),
            _difference(entry["differences"].get(system, {}), "rmse"),
            *(text_number(scores["leads"][lead]["rmse"]) for lead in LEADS),
        ]
        for system, scores in entry["systems"].items()
    ]
    rows += [
        [f"{control}: {reason}", *["-"] * (len(header) - 1)] for control, reason in entry["controls_missing"].items()
    ]
    return Table(f"{title} ({entry['units']}, {entry['n']} questions)", header, rows)


def _plain_text(metrics: Mapping[str, Any], tables: Sequence[Table]) -> str:
    """Write the figures as plain text for the terminal."""
    return "\n\n".join([_head(metrics), *map(ruled, tables), *_tail(metrics)])


def _markdown(metrics: Mapping[str, Any], tables: Sequence[Table]) -> str:
    """Write the figures as Markdown."""
    parts = [f"# Bench of {metrics['model']}", _head(metrics), *(section(table) for table in tables)]
    return "\n\n".join([*parts, *_tail(metrics)])


def bench_section(metrics: Mapping[str, Any]) -> str:
    """Write the figures of a bench as a Markdown section for a model card, without what belongs to single leads."""
    tables = {name: table for name, table in bench_tables(metrics).items() if name in (CLOSED, OPEN, CARD_REPORT)}
    sections = [section(table, "###") for table in tables.values()]
    head = _head({**metrics, "data": Path(metrics["data"]).name})
    return "\n\n".join(["## Results", head, *sections, *_tail(metrics)])


def _head(metrics: Mapping[str, Any]) -> str:
    """Write what was scored, in one sentence."""
    return (
        f"{metrics['data']}, split {metrics['split']}: questions about {metrics['n']} ECGs of {metrics['patients']} "
        "patients. Intervals: 95 % bootstrap over patients."
    )


def _tail(metrics: Mapping[str, Any]) -> list[str]:
    """Write what is missing, warnings and notices."""
    missing = [f"{kind}: not scored, {reason}." for kind, reason in metrics["kinds_missing"].items()]
    warnings = [f"warning: {warning}" for warning in metrics["warnings"]]
    synthetic = [SYNTHETIC] if metrics["datasets"] == ["synthetic"] else []
    return [*missing, *warnings, *metrics["notes"], *synthetic, NOT_A_DEVICE]
