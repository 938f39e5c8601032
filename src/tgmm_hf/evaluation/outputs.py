"""The data files of an evaluation: predictions, embeddings, the text summary, the CSV tables and metrics.json."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tgmm_hf.configuration_measured_tasks import MEASURED_KINDS
from tgmm_hf.evaluation.measured_tables import measured_tables
from tgmm_hf.evaluation.notices import NOT_A_DEVICE, SYNTHETIC
from tgmm_hf.evaluation.paper_tables import paper_tables
from tgmm_hf.evaluation.predictions import Predictions
from tgmm_hf.evaluation.tables import (
    Table,
    as_csv,
    comparison_table,
    diagnosis_table,
    headline,
    prediction_set_table,
    prognosis_table,
    retrieval_table,
    subgroup_rows,
    tasks_of,
)
from tgmm_hf.utils.files import whole_file, write_json, write_text


def write_outputs(metrics: Mapping[str, Any], predictions: Predictions, out_dir: Path) -> None:
    """Write the data files of an evaluation.

    The files are `predictions.parquet`, `embeddings.npz` (if there is a retrieval task), `metrics.txt`, `tables/*.csv`
    and last `metrics.json`. If `metrics.json` exists, all other files are complete. Each file is written whole or not
    at all.

    Args:
        metrics: The content of metrics.json.
        predictions: The predictions that the figures were computed from.
        out_dir: Directory to write.
    """
    with whole_file(out_dir / "predictions.parquet") as building:
        predictions.table.to_parquet(building, index=False)
    if predictions.embeds:
        arrays = {f"{modality}_embeds": array for modality, array in predictions.embeds.items()}
        arrays |= {f"{modality}_mask": array for modality, array in predictions.embeds_mask.items()}
        # An open file, because numpy appends ".npz" to the name of the temporary file.
        with whole_file(out_dir / "embeddings.npz") as building, building.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays, id=predictions.ids)
    write_text(out_dir / "metrics.txt", metrics_text(metrics) + "\n")
    tables = paper_tables(metrics)
    for task, entries in metrics["subgroups"].items():
        subgroups = subgroup_rows(task, entries)
        tables[f"{task}_subgroups.csv"] = as_csv(subgroups.header, subgroups.rows)
    for task, kind, entries in tasks_of(metrics):
        if kind == "diagnosis":
            sets = prediction_set_table(task, entries, metrics["subgroups"].get(task))
            tables |= {f"{task}_prediction_sets.csv": as_csv(sets.header, sets.rows)} if sets.rows else {}
        if kind in MEASURED_KINDS:
            by_name = zip(("", "_agreement", "_intervals") if kind == "regression" else ("", "_by_finding"),
                          measured_tables(task, kind, entries), strict=False)  # fmt: skip
            tables |= {f"{task}{name}.csv": as_csv(table.header, table.rows) for name, table in by_name}
    for name, text in tables.items():
        write_text(out_dir / "tables" / name, text)
    # NaN is refused, because an undefined figure must be null, with a reason beside it.
    write_json(out_dir / "metrics.json", metrics, allow_nan=False)


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """Write the content of metrics.json as plain text for the terminal: headlines, tables, warnings."""
    parts = ["\n".join(f"{figure}  [{details}]" for figure, details in (headline(*task) for task in tasks_of(metrics)))]
    for title, header, rows in _short_tables(metrics):
        lines = aligned([header, *rows])
        parts.append("\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]]))
    parts.extend(f"warning: {warning}" for warning in metrics["warnings"])
    parts.append(
        "Intervals: 95 % bootstrap over patients. p adjusted by Holm. "
        + (f"{SYNTHETIC} " if metrics.get("synthetic") else "")
        + NOT_A_DEVICE
    )
    return "\n\n".join(parts)


def aligned(rows: list[list[str]]) -> list[str]:
    """Return one text line per row of cells, with aligned columns: the first to the left, all others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _short_tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    for task, kind, entries in tasks_of(metrics):
        if kind == "retrieval":
            yield retrieval_table(task, entries)
            continue
        if kind in MEASURED_KINDS:
            yield from measured_tables(task, kind, entries)
        else:
            yield diagnosis_table(task, entries) if kind == "diagnosis" else prognosis_table(task, entries)
        yield comparison_table(task, metrics["comparisons"][task], kind)
