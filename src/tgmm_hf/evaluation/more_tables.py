"""The figures of a MoRE evaluation as tables of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from tgmm_hf.evaluation.evaluate_findings import AVAILABLE, BOTH
from tgmm_hf.evaluation.note_retrieval import RANKS
from tgmm_hf.evaluation.notices import NOT_A_DEVICE
from tgmm_hf.evaluation.reporter_tables import section, shown
from tgmm_hf.evaluation.tables import Table, text_number

KIND_TITLES = {"text": "note", "xray": "X-ray", "ecg": "ECG", BOTH: "X-ray and ECG", AVAILABLE: "what a row has"}
"""Kind of input -> its name in tables."""
FIGURES = (*(f"recall_{limit}" for limit in RANKS), "median_rank")
CHANCE = "chance"


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
    return "\n\n".join(["## Results", more_head(metrics), *sections, *more_tail(metrics)])


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


def more_head(metrics: Mapping[str, Any]) -> str:
    """Write what was scored, in one sentence."""
    if "findings" in metrics:
        numbers = ", ".join(f"{number} rows with {KIND_TITLES[name]}" for name, number in metrics["inputs"].items())
    else:
        numbers = ", ".join(f"{number} {KIND_TITLES[kind]}s" for kind, number in metrics["inputs"].items())
    refused = f", {metrics['refused']} inputs refused" if metrics["refused"] else ""
    return f"{metrics['data']}, split {metrics['split']}: {numbers} of {metrics['patients']} patients{refused}."


def more_tail(metrics: Mapping[str, Any]) -> Sequence[str]:
    """Write warnings and notices."""
    return [*(f"warning: {warning}" for warning in metrics["warnings"]), *metrics["notes"], NOT_A_DEVICE]
