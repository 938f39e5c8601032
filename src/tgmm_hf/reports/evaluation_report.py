"""The report of an evaluation: the figures as SVG and PNG, the TRIPOD+AI checklist and the HTML page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from tgmm_hf.configuration_measured_tasks import MEASURED_KINDS
from tgmm_hf.configuration_tasks import CANDIDATE_KINDS
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.evaluate import Evaluation, EvaluationSettings, Reader, compute_evaluation
from tgmm_hf.evaluation.headline_figures import HEADLINE, HEADLINE_TITLES, with_outcome
from tgmm_hf.evaluation.measured_tables import measured_tables
from tgmm_hf.evaluation.notices import NOT_A_DEVICE, SYNTHETIC
from tgmm_hf.evaluation.outputs import write_outputs
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
    prediction_set_table,
    prognosis_table,
    retrieval_table,
    risk_group_table,
    robustness_table,
    subgroup_rows,
    tasks_of,
)
from tgmm_hf.explanation.group_averages import explain_groups
from tgmm_hf.reports.agreement_figures import bland_altman_figure, finding_figure
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
from tgmm_hf.reports.group_explanations import group_tables
from tgmm_hf.reports.pages import inline_svg, render_page
from tgmm_hf.utils.files import whole_file, write_text
from tgmm_hf.utils.output_lock import one_run_at_a_time
from tgmm_hf.utils.probabilities import scaled

Block = Table | str
"""A table, or the name of a figure."""


@dataclass(frozen=True)
class Part:
    """One table, or SVG figures that are shown side by side."""

    table: Table | None = None
    figures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """Parts of the report of a task. With a `summary` line they are folded, with None they are open."""

    summary: str | None
    parts: list[Part]


@one_run_at_a_time("out_dir")
def evaluate_with_report(
    model: Any,
    data_dir: str | Path,
    out_dir: str | Path,
    *,
    processor: Any = None,
    read: Reader | None = None,
    explained: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate a model and write everything: the data files, the figures and the HTML page.

    Writes the files of `write_report` and of `tgmm_hf.evaluation.outputs.write_outputs`. `metrics.json` is last: if it
    exists, all other files are complete.

    Args:
        model: Directory or Hub id of a saved model, or a `TgmmModel`.
        data_dir: Directory that `tgmm prepare` wrote.
        out_dir: Directory to write.
        processor: The model's `TgmmProcessor`. None loads it from `model`, which must then be a directory or an id.
        read: Gives rows and collator, for example to read cached frozen features. None uses `TgmmCollator`.
        explained: Number of patients whose explanations are averaged over groups. 0 explains nobody.
        **settings: Fields of `EvaluationSettings`.

    Returns:
        The content of `metrics.json`.
    """
    chosen = EvaluationSettings(**settings)
    evaluation = compute_evaluation(model, data_dir, chosen, processor=processor, read=read)
    if explained:
        evaluation.metrics["explanations"] = _explanations(evaluation, load_prepared(data_dir), chosen, explained)
    write_report(evaluation.metrics, evaluation.predictions, Path(out_dir))
    write_outputs(evaluation.metrics, evaluation.predictions, Path(out_dir))
    return evaluation.metrics


def _explanations(
    evaluation: Evaluation, prepared: DatasetDict, settings: EvaluationSettings, patients: int
) -> dict[str, Any]:
    """Explain patients of the scored split, and average over groups: task -> result of `explain_groups`."""
    result = {}
    for task, kind, _ in tasks_of(evaluation.metrics):
        if kind in CANDIDATE_KINDS:
            progress = partial(tqdm, desc=f"explaining {task}", unit="patient", disable=not settings.progress)
            rows, parts = prepared[settings.split], (evaluation.model, evaluation.processor)
            result[task] = explain_groups(*parts, rows, task, patients, settings.seed, progress)
    return result


def write_report(metrics: Mapping[str, Any], predictions: Predictions, out_dir: Path) -> None:
    """Write `figures/<name>.svg` and `.png`, `tables/tripod_ai.csv` and the self-contained `report.html`.

    Args:
        metrics: The content of metrics.json.
        predictions: The predictions that the figures were computed from.
        out_dir: Directory to write.
    """
    svgs: dict[str, str] = {}
    for name, figure in _figures(metrics, predictions):
        for suffix in ("svg", "png"):
            content = render(figure, suffix)
            with whole_file(out_dir / "figures" / f"{name}.{suffix}") as building:
                building.write_bytes(content)
            if suffix == "svg":
                svgs[name] = content.decode()
    write_text(out_dir / "tables" / "tripod_ai.csv", as_csv(["item", "asked", "answer"], checklist(metrics)))
    write_text(out_dir / "report.html", report_html(metrics, svgs))


def report_html(metrics: Mapping[str, Any], svgs: Mapping[str, str]) -> str:
    """Return the HTML page of an evaluation: headlines, tables and figures of each task, notes, settings.

    The page refers to no other file.

    Args:
        metrics: The content of metrics.json.
        svgs: Name of a figure -> SVG text. A figure without an entry is not shown.
    """
    settings = {
        name: metrics[name]
        for name in (
            *("model", "model_fingerprint", "processor_fingerprint"),
            *("data", "data_hash", "split", "seed", "bootstrap"),
        )
        if name in metrics
    }
    return render_page(
        "evaluation_report.html",
        model=metrics.get("model", "model"),
        split=metrics.get("split", ""),
        headlines=[headline(*task) for task in tasks_of(metrics)],
        warnings=[f"{SYNTHETIC} {NOT_A_DEVICE}" if metrics.get("synthetic") else NOT_A_DEVICE, *metrics["warnings"]],
        tasks={task: list(_sections(task, kind, entries, metrics, svgs)) for task, kind, entries in tasks_of(metrics)},
        notes=metrics["notes"],
        checklist=Table("", ["item", "asked", "answer"], [list(item) for item in checklist(metrics)]),
        settings=settings | metrics.get("versions", {}),
        strong_row=FULL,
    )


def _sections(
    task: str, kind: str, entries: Entries, metrics: Mapping[str, Any], svgs: Mapping[str, str]
) -> Iterator[Section]:
    """Yield the sections of a task that have content.

    Args:
        task: Name of the task.
        kind: One of `KINDS`.
        entries: Value of the task in metrics.json.
        metrics: The content of metrics.json.
        svgs: Name of a figure -> SVG text.
    """
    for summary, blocks in _blocks(task, kind, entries, metrics):
        if parts := list(_parts(blocks, svgs)):
            yield Section(summary, parts)


def _blocks(
    task: str, kind: str, entries: Entries, metrics: Mapping[str, Any]
) -> Iterator[tuple[str | None, list[Block]]]:
    """Yield the content of each section of a task, in order.

    `entries` is the value of the task in `metrics`, the content of metrics.json.

    Yields:
        Summary line, or None for an open section; and the section's tables and names of figures.
    """
    if kind == "retrieval":
        yield None, [retrieval_table(task, entries), task]
        return
    comparison = comparison_table(task, metrics["comparisons"][task], kind)
    subgroups = metrics.get("subgroups", {}).get(task)
    worse_inputs = metrics.get("robustness", {}).get(task)
    if kind in MEASURED_KINDS:
        yield from _measured_blocks(task, kind, entries, comparison)
    elif kind == "diagnosis":
        yield None, [diagnosis_table(task, entries), f"{task}_auc", f"{task}_roc"]
        yield None, [comparison]
        yield "Decisions and probabilities", [
            decision_table(task, entries), calibration_table(task, entries), f"{task}_calibration", f"{task}_decision",
        ]  # fmt: skip
    else:
        yield None, [prognosis_table(task, entries), f"{task}_c_index", f"{task}_risk_groups"]
        yield None, [comparison]
        yield "Risk groups and figures by day", [risk_group_table(task, entries), *by_day_tables(task, entries)]
    if kind == "diagnosis":
        yield "Prediction sets", [prediction_set_table(task, entries, subgroups)]
    if subgroups:
        yield "Subgroups", [subgroup_rows(task, subgroups), f"{task}_subgroups"]
    if averages := metrics.get("explanations", {}).get(task):
        yield "What the answers rest on", [*group_tables(task, averages)]
    if worse_inputs:
        yield "Worse inputs", [f"{task}_robustness", robustness_table(task, worse_inputs)]


def _measured_blocks(
    task: str, kind: str, entries: Entries, comparison: Table
) -> Iterator[tuple[str | None, list[Block]]]:
    """Yield the content of the first sections of a regression or multilabel."""
    first, *further = measured_tables(task, kind, entries)
    detail = "agreement" if kind == "regression" else "findings"
    yield None, [first, f"{task}_{HEADLINE[kind]}", f"{task}_{detail}"]
    yield None, [comparison]
    yield None, [*further]


def _parts(blocks: list[Block], svgs: Mapping[str, str]) -> Iterator[Part]:
    """Turn tables and names of figures into parts. Figures that follow each other become one part.

    Tables without rows and figures without an SVG text are not yielded.
    """
    for kind, group in groupby(blocks, key=type):
        if kind is str:
            if shown := [inline_svg(svgs[str(name)]) for name in group if name in svgs]:
                yield Part(figures=shown)
        else:
            yield from (Part(table=block) for block in group if isinstance(block, Table) and block.rows)


def _figures(metrics: Mapping[str, Any], predictions: Predictions) -> Iterator[tuple[str, Figure]]:
    """Yield (file name without suffix, figure) of all figures of an evaluation."""
    for task, kind, entries in tasks_of(metrics):
        if kind == "retrieval":
            yield task, retrieval_figure(entries, f"{task}: the patient's own input among candidates")
            continue
        figures = _measured_figures if kind in MEASURED_KINDS else _task_figures
        yield from figures(task, kind, entries, predictions)
        key = HEADLINE[kind]
        subgroups = metrics.get("subgroups", {}).get(task, [])
        if sum(entry[key] is not None for entry in subgroups) > 1:
            yield f"{task}_subgroups", subgroup_figure(subgroups, key, f"{task}: subgroups (cases of admissions)")
        if worse_inputs := metrics.get("robustness", {}).get(task):
            yield f"{task}_robustness", robustness_figure(worse_inputs, key, f"{task}: worse inputs")


def _measured_figures(task: str, kind: str, entries: Entries, predictions: Predictions) -> Iterator[tuple[str, Figure]]:
    """Yield (file name without suffix, figure) of a regression or a multilabel (`kind`)."""
    whole, key = whole_subset(entries), HEADLINE[kind]
    yield f"{task}_{key}", forest_figure(entries, key, f"{task}: {HEADLINE_TITLES[key]} by modalities")
    if kind == "multilabel":
        yield f"{task}_findings", finding_figure(entries[whole]["findings"], whole, f"{task}: by finding")
        return
    rows = with_outcome(predictions.scored(task, whole), kind)
    yield f"{task}_agreement", bland_altman_figure(rows, entries[whole], whole, f"{task}: agreement")


def _task_figures(task: str, kind: str, entries: Entries, predictions: Predictions) -> Iterator[tuple[str, Figure]]:
    """Yield (file name without suffix, figure) of a diagnosis or a prognosis (`kind`).

    `entries` is the value of the task in metrics.json. A figure without data is not yielded.
    """
    table = predictions.table[predictions.table["task"] == task]
    whole = whole_subset(entries)
    entry = entries[whole]
    if kind == "diagnosis":
        labelled = table[table["positive"].notna()]
        yield f"{task}_auc", forest_figure(entries, "auc", f"{task}: discrimination by modalities")
        yield f"{task}_roc", roc_figure(labelled, entries, f"{task}: ROC")
        rows = labelled[labelled["subset"] == whole]
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
