"""What an evaluation leaves behind: files, the text table, the figures and the HTML page."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tgmm_hf.evaluation.calibration import scaled
from tgmm_hf.evaluation.paper_tables import paper_tables
from tgmm_hf.evaluation.predictions import FULL, Predictions, whole_subset
from tgmm_hf.evaluation.tables import (
    Entries,
    Table,
    as_csv,
    by_day_tables,
    calibration_table,
    comparison_table,
    decision_table,
    diagnosis_table,
    headline,
    prognosis_table,
    retrieval_table,
    risk_group_table,
    robustness_table,
    subgroup_rows,
    tasks_of,
)
from tgmm_hf.reports.checklist import checklist
from tgmm_hf.reports.figures import (
    calibration_figure,
    decision_figure,
    forest_figure,
    render,
    retrieval_figure,
    risk_groups_figure,
    robustness_figure,
    roc_figure,
    subgroup_figure,
)
from tgmm_hf.utils.files import whole_file

NOT_A_DEVICE = "Research software, not a medical device: no figure here supports a decision about a patient."
SYNTHETIC = "The patients are synthetic: these figures test the software and are no clinical evidence."

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 0.6rem; border-bottom: 2px solid #1a1a1a; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.4rem; }
table { border-collapse: collapse; font-size: 0.87rem; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #999; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.words th, .words td { text-align: left; white-space: normal; vertical-align: top; }
.words td:nth-child(2) { min-width: 20rem; }
tr.whole td { font-weight: 600; background: #f3f6f9; }
.notice { background: #fff4e0; border-left: 4px solid #e69f00; padding: 0.5rem 0.9rem; margin: 0.5rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 0.8rem; margin: 1rem 0; }
.card { background: #f3f6f9; border-radius: 6px; padding: 0.7rem 1rem; }
.card b { display: block; font-size: 1.15rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; margin: 0.8rem 0; }
.figures svg { max-width: 100%; height: auto; }
summary { cursor: pointer; font-weight: 600; margin: 0.6rem 0; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0.1rem 1rem; }
dt { color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
.small { color: #555; font-size: 0.87rem; }
"""

Block = Table | str  # a table, or the name of a figure


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: readers see the old file or the whole new
    one."""
    with whole_file(path) as building:
        write(building)


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """The figures as aligned plain text, for the terminal: what a reader looks for first, then the tables."""
    parts = ["\n".join(f"{figure}  [{behind}]" for figure, behind in (headline(*task) for task in tasks_of(metrics)))]
    for title, header, rows in _short_tables(metrics):
        widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in [header, *rows]
        ]
        parts.append("\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]]))
    parts.extend(f"warning: {warning}" for warning in metrics["warnings"])
    parts.append(
        "Intervals: 95 % bootstrap over patients. p adjusted by Holm. "
        + (f"{SYNTHETIC} " if metrics.get("synthetic") else "")
        + NOT_A_DEVICE
    )
    return "\n\n".join(parts)


def _short_tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    for task, kind, entries in tasks_of(metrics):
        if kind == "retrieval":
            yield retrieval_table(task, entries)
            continue
        yield diagnosis_table(task, entries) if kind == "diagnosis" else prognosis_table(task, entries)
        yield comparison_table(task, metrics["comparisons"][task], kind)


def write_outputs(metrics: Mapping[str, Any], predictions: Predictions, out_dir: Path) -> None:
    """Write every file of an evaluation, `metrics.json` last: where it stands, the rest is complete."""
    out_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(out_dir / "predictions.parquet", lambda path: predictions.table.to_parquet(path, index=False))
    if predictions.embeds:
        arrays = {f"{modality}_embeds": array for modality, array in predictions.embeds.items()}
        arrays |= {f"{modality}_mask": array for modality, array in predictions.embeds_mask.items()}
        arrays["id"] = predictions.ids
        # An open file: given a name, numpy appends ".npz" to the temporary one.
        write_atomically(out_dir / "embeddings.npz", lambda path: _savez(path, arrays))
    write_atomically(out_dir / "metrics.txt", lambda path: path.write_text(metrics_table(metrics) + "\n"))
    (out_dir / "tables").mkdir(exist_ok=True)
    tables = paper_tables(metrics) | {"tripod_ai.csv": as_csv(["item", "asked", "answer"], checklist(metrics))}
    for task, entries in metrics["subgroups"].items():
        subgroups = subgroup_rows(task, entries)
        tables[f"{task}_subgroups.csv"] = as_csv(subgroups.header, subgroups.rows)
    for name, text in tables.items():
        write_atomically(out_dir / "tables" / name, partial(Path.write_text, data=text))
    write_report(metrics, predictions, out_dir)
    content = json.dumps(metrics, indent=1, allow_nan=False) + "\n"
    write_atomically(out_dir / "metrics.json", lambda path: path.write_text(content))


def _savez(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def write_report(metrics: Mapping[str, Any], predictions: Predictions, out_dir: Path) -> None:
    """Write ``figures/<name>.svg`` and ``.png`` and the self-contained ``report.html``."""
    folder = out_dir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}
    for name, figure in _figures(metrics, predictions):
        svg, png = render(figure, "svg"), render(figure, "png")
        write_atomically(folder / f"{name}.svg", partial(Path.write_bytes, data=svg))
        write_atomically(folder / f"{name}.png", partial(Path.write_bytes, data=png))
        drawn[name] = svg.decode()
    html = report_html(metrics, drawn)
    write_atomically(out_dir / "report.html", lambda path: path.write_text(html))


def report_html(metrics: Mapping[str, Any], svgs: Mapping[str, str]) -> str:
    """One page without outside references: the headline of each task, its tables and figures, notes, settings.

    Args:
        metrics: from `tgmm_hf.evaluation.evaluate.evaluate`.
        svgs: figure name -> SVG text.
    """
    model, split = escape(str(metrics.get("model", "model"))), escape(str(metrics.get("split", "")))
    notices = [f"{SYNTHETIC} {NOT_A_DEVICE}" if metrics.get("synthetic") else NOT_A_DEVICE, *metrics["warnings"]]
    settings = {
        name: metrics[name] for name in ("model", "data", "data_hash", "split", "seed", "bootstrap") if name in metrics
    }
    settings |= metrics.get("versions", {})
    cards = (headline(*task) for task in tasks_of(metrics))
    body = [
        f"<h1>Evaluation on the {split or 'given'} split</h1><p class='small'>{model}</p>",
        "<div class='cards'>",
        *(f"<div class='card'><b>{escape(figure)}</b>{escape(behind)}</div>" for figure, behind in cards),
        "</div>",
        *(f"<p class='notice'>{escape(notice)}</p>" for notice in notices),
        *(_section(task, kind, entries, metrics, svgs) for task, kind, entries in tasks_of(metrics)),
        "<h2>How to read this</h2><ul class='small'>",
        *(f"<li>{escape(note)}</li>" for note in metrics["notes"]),
        "</ul><h2>Reporting</h2><details><summary>TRIPOD+AI, as far as this run knows</summary><div class='words'>",
        _html_table(Table("", ["item", "asked", "answer"], [list(item) for item in checklist(metrics)])),
        "</div></details><h2>Settings</h2><dl class='small'>",
        *(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in settings.items()),
        "</dl>",
    ]
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>Evaluation</title>"
    return (
        f"<!doctype html>\n<html lang='en'><head>{head}<style>{STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _section(task: str, kind: str, entries: Entries, metrics: Mapping[str, Any], svgs: Mapping[str, str]) -> str:
    """A task's part of the page: its main table and figures open, the rest to unfold."""
    parts = [f"<h2>{escape(task)}</h2>"]
    for summary, blocks in _blocks(task, kind, entries, metrics):
        inside = _inside(blocks, svgs)
        if inside:
            parts.append(inside if summary is None else _folded(summary, inside))
    return "".join(parts)


def _blocks(
    task: str, kind: str, entries: Entries, metrics: Mapping[str, Any]
) -> Iterator[tuple[str | None, list[Block]]]:
    """(None for what stands open, or a summary line; tables and names of figures)."""
    if kind == "retrieval":
        yield None, [retrieval_table(task, entries), task]
        return
    comparison = comparison_table(task, metrics["comparisons"][task], kind)
    subgroups = metrics.get("subgroups", {}).get(task)
    worse = metrics.get("robustness", {}).get(task)
    if kind == "diagnosis":
        yield None, [diagnosis_table(task, entries), f"{task}_auc", f"{task}_roc"]
        yield None, [comparison]
        yield "Decisions and probabilities", [
            decision_table(task, entries), calibration_table(task, entries), f"{task}_calibration", f"{task}_decision",
        ]  # fmt: skip
    else:
        yield None, [prognosis_table(task, entries), f"{task}_c_index", f"{task}_risk_groups"]
        yield None, [comparison]
        yield "Risk groups and figures by day", [risk_group_table(task, entries), *by_day_tables(task, entries)]
    if subgroups:
        yield "Subgroups", [subgroup_rows(task, subgroups), f"{task}_subgroups"]
    if worse:
        yield "Worse inputs", [f"{task}_robustness", robustness_table(task, worse)]


def _inside(blocks: list[Block], svgs: Mapping[str, str]) -> str:
    """Tables under each other, figures that follow each other side by side."""
    parts = []
    for kind, group in groupby(blocks, key=type):
        if kind is str:
            # matplotlib writes an XML prologue that HTML does not allow inside a page.
            svg = (svgs[str(name)] for name in group if name in svgs)
            shown = [text[text.index("<svg") :] for text in svg]
            parts.extend(["<div class='figures'>", *shown, "</div>"] if shown else [])
        else:
            parts.extend(_html_table(block) for block in group if isinstance(block, Table) and block.rows)
    return "".join(parts)


def _folded(summary: str, inside: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    lines = [
        f"<tr{' class=whole' if row[0] == FULL else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in table.rows
    ]
    title = f"<h3>{escape(table.title)}</h3>" if table.title else ""
    return f"{title}<div class='wide'><table><tr>{head}</tr>{''.join(lines)}</table></div>"


def _figures(metrics: Mapping[str, Any], predictions: Predictions) -> Iterator[tuple[str, Figure]]:
    for task, kind, entries in tasks_of(metrics):
        if kind == "retrieval":
            yield task, retrieval_figure(entries, f"{task}: own record among candidates")
            continue
        yield from _task_figures(task, kind, entries, predictions)
        key = "auc" if kind == "diagnosis" else "c_index"
        subgroups = metrics.get("subgroups", {}).get(task, [])
        if sum(entry[key] is not None for entry in subgroups) > 1:
            yield f"{task}_subgroups", subgroup_figure(subgroups, key, f"{task}: subgroups (cases of admissions)")
        if worse := metrics.get("robustness", {}).get(task):
            yield f"{task}_robustness", robustness_figure(worse, key, f"{task}: worse inputs")


def _task_figures(task: str, kind: str, entries: Entries, predictions: Predictions) -> Iterator[tuple[str, Figure]]:
    table = predictions.table[predictions.table["task"] == task]
    whole = whole_subset(entries)
    entry = entries[whole]
    if kind == "diagnosis":
        known = table[table["positive"].notna()]
        yield f"{task}_auc", forest_figure(entries, "auc", f"{task}: discrimination by modalities")
        yield f"{task}_roc", roc_figure(known, entries, f"{task}: ROC")
        rows = known[known["subset"] == whole]
        if entry["temperature"] is not None:
            rows = rows.assign(probability=scaled(rows["probability"].to_numpy(), entry["temperature"]))
        if entry["calibration_curve"]:
            yield f"{task}_calibration", calibration_figure(rows, entry, f"{task}: calibration, {whole}")
        if entry["decision_curve"]:
            yield f"{task}_decision", decision_figure(entries, f"{task}: net benefit")
    else:
        yield f"{task}_c_index", forest_figure(entries, "c_index", f"{task}: concordance by modalities")
        rows = table[(table["subset"] == whole) & table["time"].notna()]
        if len(rows) and entry["risk_groups"] is not None:
            yield f"{task}_risk_groups", risk_groups_figure(rows, entry["risk_groups"], f"{task}, {whole}")
