"""The figures of a MoRE evaluation as tables of text, and the files of the evaluation."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tgmm_hf.data.note_index import names_findings
from tgmm_hf.evaluation.evaluate_findings import AVAILABLE, BOTH, compute_findings_evaluation
from tgmm_hf.evaluation.evaluate_more import MoreEvaluationSettings, compute_more_evaluation
from tgmm_hf.evaluation.note_retrieval import RANKS
from tgmm_hf.evaluation.notices import NOT_A_DEVICE
from tgmm_hf.evaluation.outputs import aligned, write_text
from tgmm_hf.evaluation.reporter_tables import section, shown
from tgmm_hf.evaluation.tables import Table, as_csv, text_number
from tgmm_hf.utils.files import whole_file, write_json
from tgmm_hf.utils.output_lock import one_run_at_a_time

KIND_TITLES = {"text": "note", "xray": "X-ray", "ecg": "ECG", BOTH: "X-ray and ECG", AVAILABLE: "what a row has"}
"""Kind of input -> its name in tables."""
FIGURES = (*(f"recall_{limit}" for limit in RANKS), "median_rank")
CHANCE = "chance"


@one_run_at_a_time("out_dir")
def evaluate_more(model: str, data: str | Path, out_dir: Path, settings: MoreEvaluationSettings) -> dict[str, Any]:
    """Evaluate a MoRE model and write all files of the evaluation.

    The files are `refused.csv`, `tables/*.csv`, `metrics.txt`, `metrics.md` and last `metrics.json`. If `metrics.json`
    exists, all other files are complete. `refused.csv` holds ids of rows.

    Args:
        model: Directory or Hub repository of a saved MoRE model.
        data: Table of X-rays, ECGs and notes.
        out_dir: Directory to write.
        settings: What to evaluate, and how.

    Returns:
        The content of `metrics.json`.
    """
    finds = names_findings(model)
    metrics, refused = (compute_findings_evaluation if finds else compute_more_evaluation)(model, data, settings)
    tables = more_tables(metrics)
    with whole_file(out_dir / "refused.csv") as building, building.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["id", "item", "reason"], *refused])
    for name, table in tables.items():
        write_text(out_dir / "tables" / f"{name}.csv", as_csv(table.header, table.rows))
    texts = ["\n".join([table.title, *aligned([table.header, *table.rows])]) for table in tables.values()]
    write_text(out_dir / "metrics.txt", "\n\n".join([_head(metrics), *texts, *_tail(metrics)]) + "\n")
    sections = [section(table) for table in tables.values()]
    title = f"# {'Findings' if finds else 'Retrieval'} of {Path(metrics['model']).name}"
    write_text(out_dir / "metrics.md", "\n\n".join([title, _head(metrics), *sections, *_tail(metrics)]) + "\n")
    write_json(out_dir / "metrics.json", metrics, allow_nan=False)
    return metrics


def more_tables(metrics: Mapping[str, Any]) -> dict[str, Table]:
    """Make the tables of a MoRE evaluation: name -> table. `metrics` is the content of metrics.json."""
    if "findings" in metrics:
        table = _by_finding("Findings", metrics["findings"])
        for name, entry in metrics["mean_auc"].items():
            row = [f"mean of {entry['findings']}", KIND_TITLES[name], str(metrics["inputs"][name]), "-", "model"]
            table.rows.append([*row, shown(entry, "auc"), "-"])
        return {"findings": table}
    tables = {"retrieval": _retrieval(metrics["retrieval"])}
    if metrics["zero_shot"]:
        tables["zero_shot"] = _by_finding("Zero-shot findings", metrics["zero_shot"])
    return tables


def more_card_section(metrics: Mapping[str, Any]) -> str:
    """Write the figures of a MoRE evaluation as a Markdown section for a model card."""
    sections = [section(table, "###") for table in more_tables(metrics).values()]
    return "\n\n".join(["## Results", _head(metrics), *sections, *_tail(metrics)])


def _retrieval(directions: Mapping[str, Mapping[str, Any]]) -> Table:
    """Make the table of retrieval: three lines for each direction."""
    titles = [*(f"R@{limit}" for limit in RANKS), "median rank"]
    rows = []
    for name, entry in directions.items():
        title = " to ".join(KIND_TITLES[kind] for kind in name.split("->"))
        counts = [str(entry["n"]), str(entry["patients"]), str(entry["candidates"])]
        if "missing" in entry:
            rows.append([f"{title}: {entry['missing']}", "-", *counts, *["-"] * len(FIGURES)])
        for system, figures in entry["systems"].items():
            rows.append([title, system, *counts, *(shown(figures, figure) for figure in FIGURES)])
        if entry["chance"]:
            rows.append([title, CHANCE, *counts, *(text_number(entry["chance"][figure]) for figure in FIGURES)])
    return Table("Retrieval", ["direction", "system", "queries", "patients", "candidates", *titles], rows)


def _by_finding(title: str, findings: Mapping[str, Mapping[str, Any]]) -> Table:
    """Make the table of findings: two lines for each finding and kind of input."""
    rows = []
    for finding, kinds in findings.items():
        for kind, entry in kinds.items():
            counts = [KIND_TITLES[kind], str(entry["n"]), str(entry["positives"])]
            if "missing" in entry:
                rows.append([finding, *counts, entry["missing"], "-", "-"])
            for system, figures in entry["systems"].items():
                rows.append([finding, *counts, system, shown(figures, "auc"), shown(figures, "auprc")])
    header = ["finding", "input", "n", "positive", "system", "AUROC", "average precision"]
    return Table(title, header, rows)


def _head(metrics: Mapping[str, Any]) -> str:
    """Write what was scored, in one sentence."""
    if "findings" in metrics:
        numbers = ", ".join(f"{number} rows with {KIND_TITLES[name]}" for name, number in metrics["inputs"].items())
    else:
        numbers = ", ".join(f"{number} {KIND_TITLES[kind]}s" for kind, number in metrics["inputs"].items())
    refused = f", {metrics['refused']} inputs refused" if metrics["refused"] else ""
    return f"{metrics['data']}, split {metrics['split']}: {numbers} of {metrics['patients']} patients{refused}."


def _tail(metrics: Mapping[str, Any]) -> Sequence[str]:
    """Write warnings and notices."""
    return [*(f"warning: {warning}" for warning in metrics["warnings"]), *metrics["notes"], NOT_A_DEVICE]
