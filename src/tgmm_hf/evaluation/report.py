"""What an evaluation leaves behind: files, the text table, the figures and the HTML page."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tgmm_hf.evaluation.figures import forest_figure, incidence_figure, render, retrieval_figure, roc_figure
from tgmm_hf.evaluation.predictions import FULL, SUBSETS, Predictions

NOT_A_DEVICE = "Research software, not a medical device: no figure here supports a decision about a patient."
SYNTHETIC = "The patients are synthetic: these figures test the software and are no clinical evidence."

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #999; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
tr.whole td { font-weight: 600; background: #f3f6f9; }
.notice { background: #fff4e0; border-left: 4px solid #e69f00; padding: 0.5rem 0.9rem; margin: 0.8rem 0; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; } .figures svg { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0.1rem 1rem; }
dt { color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
.small { color: #555; font-size: 0.87rem; }
"""

Table = tuple[str, list[str], list[list[str]]]  # title, header, rows of cells; the first cell names the row


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: readers see the old file or the whole new
    one."""
    temporary = path.with_name(f".{path.name}.partial")
    write(temporary)
    temporary.replace(path)


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """The figures as aligned plain text, for the terminal."""
    parts = []
    for title, header, rows in _tables(metrics):
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
        "Intervals: 95 % bootstrap over patients. "
        + (f"{SYNTHETIC} " if metrics.get("synthetic") else "")
        + NOT_A_DEVICE
    )
    return "\n\n".join(parts)


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
    write_report(metrics, predictions, out_dir)
    text = json.dumps(metrics, indent=1, allow_nan=False) + "\n"
    write_atomically(out_dir / "metrics.json", lambda path: path.write_text(text))


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
    """One page without outside references: notices, tables, figures, settings.

    Args:
        metrics: from `tgmm_hf.evaluation.evaluate.evaluate`.
        svgs: figure name -> SVG text.
    """
    model, split = escape(str(metrics.get("model", "model"))), escape(str(metrics.get("split", "")))
    notices = [SYNTHETIC] * bool(metrics.get("synthetic")) + [NOT_A_DEVICE, *metrics["warnings"]]
    settings = {
        name: metrics[name] for name in ("model", "data", "data_hash", "split", "seed", "bootstrap") if name in metrics
    }
    settings |= metrics.get("versions", {})
    body = [
        f"<h1>Evaluation on the {split or 'given'} split</h1><p class='small'>{model}</p>",
        *(f"<p class='notice'>{escape(notice)}</p>" for notice in notices),
        *(_html_table(*table) for table in _tables(metrics)),
        "<h2>Figures</h2><div class='figures'>",
        # matplotlib writes an XML prologue that HTML does not allow inside a page.
        *(svg[svg.index("<svg") :] for svg in svgs.values()),
        "</div><h2>How to read this</h2><ul class='small'>",
        *(f"<li>{escape(note)}</li>" for note in metrics["notes"]),
        "</ul><h2>Settings</h2><dl class='small'>",
        *(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in settings.items()),
        "</dl>",
    ]
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>Evaluation</title>"
    return (
        f"<!doctype html>\n<html lang='en'><head>{head}<style>{STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    for task, entries in metrics.items():
        if not isinstance(entries, Mapping):
            continue
        if FULL in entries and "auc" in entries[FULL]:
            yield _diagnosis_table(task, entries)
            yield _comparison_table(task, metrics["comparisons"][task], "auc")
        elif FULL in entries and "c_index" in entries[FULL]:
            yield _prognosis_table(task, entries)
            yield _comparison_table(task, metrics["comparisons"][task], "c_index")
        elif "labs->ecg" in entries:
            yield _retrieval_table(task, entries)


def _diagnosis_table(task: str, entries: Mapping[str, Any]) -> Table:
    header = [
        "modalities",
        "AUC",
        "95 % CI",
        "accuracy",
        "95 % CI",
        "optimum",
        "AUC - optimum",
        "95 % CI",
        "n",
        "positive",
    ]
    rows = [
        [subset, _number(e["auc"]), _range(e["auc_ci"]), _number(e["accuracy"]), _range(e["accuracy_ci"]),
         *_optimum_cells(e, "auc"), str(e["n"]), str(e["positives"])]
        for subset, e in _by_subset(entries)
    ]  # fmt: skip
    return f"{task}: diagnosis", *_without_empty_columns(header, rows)


def _prognosis_table(task: str, entries: Mapping[str, Any]) -> Table:
    header = ["modalities", "C-index", "95 % CI", "optimum", "C - optimum", "95 % CI", "n", "events", "deaths"]
    rows = [
        [subset, _number(e["c_index"]), _range(e["c_index_ci"]), *_optimum_cells(e, "c_index"),
         str(e["n"]), str(e["events"]), str(e["deaths"])]
        for subset, e in _by_subset(entries)
    ]  # fmt: skip
    return f"{task}: prognosis", *_without_empty_columns(header, rows)


def _comparison_table(task: str, comparisons: Mapping[str, Any], headline: str) -> Table:
    best = {comparisons["best_single"]: " (best single)", comparisons["best_pair"]: " (best pair)"}
    rows = []
    for subset in SUBSETS[:-1]:
        entry = comparisons[f"{FULL} - {subset}"]
        difference, interval = entry[f"{headline}_difference"], entry[f"{headline}_difference_ci"]
        rows.append(
            [
                f"{FULL} - {subset}{best.get(subset, '')}",
                _number(difference, "+"),
                _range(interval, "+"),
                str(entry["n"]),
            ]
        )
    return f"{task}: what all three modalities add, on the same patients", ["difference", "", "95 % CI", "n"], rows


def _retrieval_table(task: str, entries: Mapping[str, Any]) -> Table:
    header = ["direction", "LRAP of 3", "95 % CI", "chance, 95 %", "optimum", "R@1", "R@2"]
    header += ["LRAP of 4", "R@1", "R@2", "LRAP of all", "chance", "n"]
    figures = ("recall_1_3", "recall_2_3", "lrap_4", "recall_1_4", "recall_2_4", "lrap_full")
    rows = [
        [direction, _number(e["lrap_3"]), _range(e["lrap_3_ci"]), _range(e.get("lrap_3_chance_ci")),
         _number(e.get("bayes_lrap_3_population")),
         *(_number(e[figure]) for figure in figures),
         _number(e.get("lrap_full_chance")), str(e["n"])]
        for direction, e in entries.items()
    ]  # fmt: skip
    return f"{task}: cross-modal retrieval", *_without_empty_columns(header, rows)


def _by_subset(entries: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((subset, entries[subset]) for subset in SUBSETS)


def _optimum_cells(entry: Mapping[str, Any], headline: str) -> list[str]:
    gap = f"{headline}_minus_bayes"
    return [_number(entry.get(f"bayes_{headline}")), _number(entry.get(gap), "+"), _range(entry.get(f"{gap}_ci"), "+")]


def _without_empty_columns(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Drop columns that say nothing in any row (the optimum, on real data)."""
    kept = [column for column in range(len(header)) if any(row[column] != "-" for row in rows)]
    return [header[column] for column in kept], [[row[column] for column in kept] for row in rows]


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _range(interval: list[float] | None, sign: str = "") -> str:
    return "-" if interval is None else f"{interval[0]:{sign}.3f} to {interval[1]:{sign}.3f}"


def _html_table(title: str, header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = [
        f"<tr{' class=whole' if row[0] == FULL else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    ]
    return f"<h2>{escape(title)}</h2><div class='wide'><table><tr>{head}</tr>{''.join(lines)}</table></div>"


def _figures(metrics: Mapping[str, Any], predictions: Predictions) -> Iterator[tuple[str, Figure]]:
    for task, entries in metrics.items():
        if not isinstance(entries, Mapping):
            continue
        table = predictions.table[predictions.table["task"] == task]
        if FULL in entries and "auc" in entries[FULL]:
            yield f"{task}_auc", forest_figure(entries, "auc", f"{task}: discrimination by modalities")
            yield f"{task}_roc", roc_figure(table[table["positive"].notna()], entries, f"{task}: ROC")
        elif FULL in entries and "c_index" in entries[FULL]:
            yield f"{task}_c_index", forest_figure(entries, "c_index", f"{task}: concordance by modalities")
            rows = table[(table["subset"] == FULL) & table["time"].notna()]
            if len(rows):
                yield (
                    f"{task}_incidence",
                    incidence_figure(rows, f"{task}: observed, by the score of all three modalities"),
                )
        elif "labs->ecg" in entries:
            yield task, retrieval_figure(entries, f"{task}: own record among candidates")
