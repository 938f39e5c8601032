"""Evaluate a MoRE model and write the files of the evaluation."""

from pathlib import Path
from typing import Any

from tgmm_hf.data.note_index import names_findings
from tgmm_hf.evaluation.evaluate_findings import compute_findings_evaluation
from tgmm_hf.evaluation.evaluate_more import MoreEvaluationSettings, compute_more_evaluation
from tgmm_hf.evaluation.more_tables import more_head, more_tables, more_tail
from tgmm_hf.evaluation.outputs import aligned
from tgmm_hf.evaluation.reporter_tables import section
from tgmm_hf.evaluation.tables import as_csv
from tgmm_hf.utils.csv_files import write_csv_file
from tgmm_hf.utils.files import write_json, write_text
from tgmm_hf.utils.output_lock import one_run_at_a_time


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
    columns = ["id", "item", "reason"]
    write_csv_file(out_dir / "refused.csv", columns, (dict(zip(columns, cells, strict=True)) for cells in refused))
    for name, table in tables.items():
        write_text(out_dir / "tables" / f"{name}.csv", as_csv(table.header, table.rows))
    texts = ["\n".join([table.title, *aligned([table.header, *table.rows])]) for table in tables.values()]
    write_text(out_dir / "metrics.txt", "\n\n".join([more_head(metrics), *texts, *more_tail(metrics)]) + "\n")
    sections = [section(table) for table in tables.values()]
    title = f"# {'Findings' if finds else 'Retrieval'} of {Path(metrics['model']).name}"
    write_text(out_dir / "metrics.md", "\n\n".join([title, more_head(metrics), *sections, *more_tail(metrics)]) + "\n")
    write_json(out_dir / "metrics.json", metrics, allow_nan=False)
    return metrics
