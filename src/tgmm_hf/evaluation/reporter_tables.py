"""The figures of a MEIT evaluation as tables of text, and the files of the evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tgmm_hf.cohorts.finding_reader import ABSENT, CERTAINTIES
from tgmm_hf.evaluation.evaluate_reporter import (
    ReporterEvaluation,
    ReporterEvaluationSettings,
    compute_reporter_evaluation,
)
from tgmm_hf.evaluation.finding_figures import FIGURES
from tgmm_hf.evaluation.notices import NOT_A_DEVICE, SYNTHETIC
from tgmm_hf.evaluation.outputs import aligned
from tgmm_hf.evaluation.report_controls import MODEL
from tgmm_hf.evaluation.tables import Table, as_csv, text_number, text_range
from tgmm_hf.utils.files import whole_file, write_json, write_text
from tgmm_hf.utils.output_lock import one_run_at_a_time

UNSTATED = "unstated"
"""Certainty of a statement whose source gives no likelihood."""
TEXT_TITLES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "cider_d": "CIDEr-D",
    "bertscore_precision": "BERTScore P",
    "bertscore_recall": "BERTScore R",
    "bertscore_f1": "BERTScore F1",
}
"""Key of metrics.json -> name of a text metric."""
FINDING_TITLES = {
    "micro_precision": "precision",
    "micro_recall": "recall",
    "micro_f1": "F1",
    "macro_f1": "macro F1",
}


@one_run_at_a_time("out_dir")
def evaluate_reporter(
    model: str, data: str | Path, out_dir: Path, settings: ReporterEvaluationSettings
) -> dict[str, Any]:
    """Evaluate a MEIT model and write all files of the evaluation.

    The files are `reports.parquet`, `tables/*.csv`, `metrics.txt`, `metrics.md` and last `metrics.json`. If
    `metrics.json` exists, all other files are complete.

    Args:
        model: Directory or Hub repository of a saved MEIT model.
        data: Instruction file.
        out_dir: Directory to write.
        settings: What to evaluate, and how.

    Returns:
        The content of `metrics.json`.
    """
    evaluation = compute_reporter_evaluation(model, data, settings)
    _write_reports(evaluation, out_dir / "reports.parquet")
    tables = reporter_tables(evaluation.metrics)
    for name, table in tables.items():
        write_text(out_dir / "tables" / f"{name}.csv", as_csv(table.header, table.rows))
    write_text(out_dir / "metrics.txt", plain_text(evaluation.metrics, tables.values()) + "\n")
    write_text(out_dir / "metrics.md", markdown(evaluation.metrics, tables.values()) + "\n")
    write_json(out_dir / "metrics.json", evaluation.metrics, allow_nan=False)
    return evaluation.metrics


def _write_reports(evaluation: ReporterEvaluation, path: Path) -> None:
    """Write the reports of all systems beside the true reports. They are patient data where the reports are."""
    table = pd.DataFrame(
        {
            "id": [row.id for row in evaluation.rows],
            "patient_id": [row.patient_id for row in evaluation.rows],
            "instruction": [row.instruction for row in evaluation.rows],
            "reference": [row.report for row in evaluation.rows],
            **evaluation.reports,
        }
    )
    with whole_file(path) as building:
        table.to_parquet(building, index=False)


def reporter_tables(metrics: Mapping[str, Any]) -> dict[str, Table]:
    """Make the tables of a MEIT evaluation: name -> table. `metrics` is the content of metrics.json."""
    systems = metrics["systems"]
    tables = {"findings": _findings(metrics)}
    used_keys = [key for key in TEXT_TITLES if key in systems[MODEL]]
    rows = [[system, *(shown(entry, key) for key in used_keys)] for system, entry in systems.items()]
    tables["text"] = Table("Text metrics", ["reports", *(TEXT_TITLES[key] for key in used_keys)], rows)
    used = metrics["implementations"]
    rows = [[TEXT_TITLES[key], one["package"], one["version"], one["settings"]] for key, one in used.items()]
    rows += [[TEXT_TITLES[key], "-", "-", reason] for key, reason in metrics["metrics_missing"].items()]
    tables["implementations"] = Table("Implementations", ["metric", "package", "version", "settings"], rows)
    tables["statements"] = _statements(systems[MODEL]["statements"])
    tables["certainty"] = _certainty(metrics)
    if metrics["robustness"] is not None:
        tables["noise"] = _noise(metrics["robustness"])
    return tables


def shown(entry: Mapping[str, Any], key: str) -> str:
    """Write a figure with its interval. metrics.json says why an interval is missing."""
    if entry[key] is None:
        return "-"
    interval = entry[f"{key}_ci"]
    return f"{text_number(entry[key])} ({'no interval' if interval is None else text_range(interval)})"


def _findings(metrics: Mapping[str, Any]) -> Table:
    """Make the table of findings: one line for the model and for each control."""
    header = ["reports", *FINDING_TITLES.values(), "model's F1 minus this", "95 % CI", "denied", "of them true"]
    rows = []
    for system, entry in metrics["systems"].items():
        difference = metrics["differences"].get(system, {})
        rows.append(
            [
                system,
                *(shown(entry, key) for key in FINDING_TITLES),
                text_number(difference.get("micro_f1_difference"), "+"),
                text_range(difference.get("micro_f1_difference_ci"), "+"),
                str(entry["denied"]),
                text_number(entry["false_denials"]),
            ]
        )
    for control, reason in metrics["controls_missing"].items():
        rows.append([control, reason, *["-"] * (len(header) - 2)])
    return Table(f"Findings, against {metrics['truth']}", header, rows)


def _statements(statements: Mapping[str, Mapping[str, Any]]) -> Table:
    """Make the table of the model's statements, the most frequent first."""
    header = ["statement", "true", "stated", "precision", "recall", "F1"]
    rows = [
        [code, str(entry["n"]), str(entry["stated"]), *(shown(entry, key) for key in FIGURES)]
        for code, entry in sorted(statements.items(), key=lambda pair: (-pair[1]["n"], pair[0]))
    ]
    return Table("The model's statements", header, rows)


def _certainty(metrics: Mapping[str, Any]) -> Table:
    """Make the table of the model's words of certainty."""
    kinds = (*CERTAINTIES, UNSTATED, ABSENT)
    counts = metrics["certainty_counts"]
    rows = [
        [word, str(entry["n"]), shown(entry, "true"), *(str(counts[word].get(kind, 0)) for kind in kinds)]
        for word, entry in metrics["certainty"].items()
    ]
    header = ["word", "statements", "true", *(f"truth {kind}" for kind in kinds)]
    return Table("How often the model's statements are true, by its own words", header, rows)


def _noise(robustness: Mapping[str, Mapping[str, Any]]) -> Table:
    """Make the table of the figures on noisy ECGs."""
    keys = {"micro_f1": "F1", "bleu_4": "BLEU-4", "rouge_l": "ROUGE-L"}
    rows = [[noise, *(shown(entry, key) for key in keys)] for noise, entry in robustness.items()]
    return Table("Noisy ECGs", ["noise", *keys.values()], rows)


def plain_text(metrics: Mapping[str, Any], tables: Any) -> str:
    """Write the figures as plain text for the terminal."""
    return "\n\n".join([_head(metrics), *map(ruled, tables), *_tail(metrics)])


def markdown(metrics: Mapping[str, Any], tables: Any) -> str:
    """Write the figures as Markdown."""
    parts = [f"# Reports of {metrics['model']}", _head(metrics), *(section(table) for table in tables)]
    return "\n\n".join([*parts, *_tail(metrics)])


def card_section(metrics: Mapping[str, Any]) -> str:
    """Write the findings and the text metrics of a MEIT evaluation as a Markdown section for a model card."""
    tables = reporter_tables(metrics)
    sections = [section(tables[name], "###") for name in ("findings", "text")]
    return "\n\n".join(["## Results", _head(metrics), *sections, *_tail(metrics)])


def ruled(table: Table) -> str:
    """Write a table as plain text: title, header, a rule, and rows with aligned columns."""
    header, *rows = aligned([table.header, *table.rows])
    return "\n".join([table.title, header, "-" * len(header), *rows])


def section(table: Table, level: str = "##") -> str:
    """Write a table as Markdown below its title."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return f"{level} {table.title}\n\n" + "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _head(metrics: Mapping[str, Any]) -> str:
    """Write what was scored, in one sentence."""
    refused = f", {metrics['refused']} refused" if metrics["refused"] else ""
    scored = f"{metrics['n']} ECGs of {metrics['patients']} patients{refused}"
    return (
        f"{Path(metrics['data']).name}, split {metrics['split']}: {scored}. "
        f"Intervals: 95 % bootstrap over patients. References {metrics['references_hash'][:19]}."
    )


def _tail(metrics: Mapping[str, Any]) -> Sequence[str]:
    """Write warnings and notices."""
    synthetic = [SYNTHETIC] if metrics["datasets"] == ["synthetic"] else []
    return [*(f"warning: {warning}" for warning in metrics["warnings"]), *metrics["notes"], *synthetic, NOT_A_DEVICE]
