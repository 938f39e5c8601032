"""Tables and figures of a grid of trainings: the paper's tables 2 to 6, and differences with intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tgmm_hf.evaluation.paper_tables import FIGURES, MULTIMODAL, NAMES, PAPER_DIRECTIONS, WITHOUT_ECHO, ticks
from tgmm_hf.evaluation.tables import text_estimate, text_number, text_p
from tgmm_hf.experiments.grid_figures import FigurePlace
from tgmm_hf.reports.figures import differences_figure, render
from tgmm_hf.utils.files import whole_file
from tgmm_hf.utils.names import SUBSET_NAMES

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""
ANSWERED = tuple(FIGURES)
"""Kinds of tasks that have candidates or a risk: diagnosis and prognosis."""
PAIRED = ["n", "positives or events", "seeds", "Difference (95 % CI)", "by seed"]
COMPONENT_MARKS = ["Human", "Learned", "Response", "Linear"]


def grid_tables(
    figures: Mapping[FigurePlace, Mapping[str, Any]], components: Mapping[str, Mapping[str, str]]
) -> dict[str, Table]:
    """Make the paper's tables 2 to 6 of a grid, with cells "mean ± standard deviation over the seeds".

    Table 5 compares fusions: it has the rows with the same guidance and response as the first row. Table 6 compares
    guidance and response: it has the rows with the same fusion as the first row. A diagnosis of patients without echo
    is in table 4 instead of table 2.

    Args:
        figures: The result of `collect_figures`.
        components: Name of a row -> values of "fusion", "guidance" and "response" in its configuration.

    Returns:
        "table2" to "table6" -> header and rows. A table without rows has no entry.
    """
    first = next(iter(components.values()))
    same_head = [
        row for row, c in components.items() if all(c[name] == first[name] for name in ("guidance", "response"))
    ]
    same_fusion = [row for row, c in components.items() if c["fusion"] == first["fusion"]]
    everyone = list(components)
    tables = {
        "table2": (
            _header(SUBSET_NAMES),
            _lines(figures, everyone, SUBSET_NAMES, _tasks(figures, ANSWERED, with_echo=True)),
        ),
        "table3": (
            _header(PAPER_DIRECTIONS),
            _lines(figures, everyone, PAPER_DIRECTIONS, _tasks(figures, ("retrieval",))),
        ),
        "table4": (
            _header(WITHOUT_ECHO),
            _lines(figures, everyone, WITHOUT_ECHO, _tasks(figures, ("diagnosis",), with_echo=False)),
        ),
        "table5": (
            _header(MULTIMODAL),
            _lines(figures, same_head, MULTIMODAL, _tasks(figures, ANSWERED, with_echo=True)),
        ),
    }
    lines = _lines(figures, same_fusion, SUBSET_NAMES, _tasks(figures, ANSWERED, with_echo=True))
    rows = [[*line[:3], *ticks(components[line[2]]), *line[3:]] for line in lines]
    tables["table6"] = ([*_header(())[:3], *COMPONENT_MARKS, *_header(SUBSET_NAMES)[3:]], rows)
    return {name: table for name, table in tables.items() if table[1]}


def _tasks(
    figures: Mapping[FigurePlace, Mapping[str, Any]], kinds: Sequence[str], with_echo: bool | None = None
) -> list[tuple[str, str]]:
    """List (task, title of a metric) for the tasks of some kinds, each pair once.

    Args:
        figures: The result of `collect_figures`.
        kinds: Kinds of tasks.
        with_echo: True takes tasks whose patients have an echo, False takes all other tasks, None takes both.
    """
    return list(
        dict.fromkeys(
            (key.task, key.title)
            for key, entry in figures.items()
            if entry["kind"] in kinds
            and (with_echo is None or (figures[key._replace(column="echo")]["n"] > 0) == with_echo)
        )
    )


def _lines(
    figures: Mapping[FigurePlace, Mapping[str, Any]],
    rows: Sequence[str],
    columns: Sequence[str],
    tasks: Sequence[tuple[str, str]],
) -> list[list[str]]:
    """Make the lines of a table: task, title of the metric, name of the row, and one cell per column.

    `tasks` are pairs of task and title. Every pair gets one line for each of `rows`.
    """
    return [
        [task, title, row, *(_cell(figures.get(FigurePlace(row, task, title, column))) for column in columns)]
        for task, title in tasks
        for row in rows
    ]


def _header(columns: Sequence[str]) -> list[str]:
    return ["Task", "Metric", "Model", *(NAMES.get(column, column) for column in columns)]


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["mean"] is None:
        return "—"
    return f"{entry['mean']:.3f}" + ("" if entry["sd"] is None else f" ± {entry['sd']:.3f}")


def row_difference_table(differences: Sequence[Mapping[str, Any]], reference: str) -> Table:
    """Make header and rows of ``differences.csv``: the first row of the plan minus each other row.

    Args:
        differences: The result of `differences_between_rows`.
        reference: The name of the first row of the plan.
    """
    return ["Task", "Modalities", f"{reference} minus", *PAIRED, "p (DeLong, first seed, Holm)"], [
        [entry["task"], NAMES[entry["subset"]], entry["row"], *_paired_cells(entry), text_p(entry.get("delong_p_holm"))]
        for entry in differences
    ]


def subset_difference_table(differences: Sequence[Mapping[str, Any]]) -> Table:
    """Make header and rows of ``combinations.csv``: all modalities minus each other subset, for the first row.

    `differences` is the result of `differences_between_subsets`.
    """
    return ["Task", "Modalities", "minus", *PAIRED], [
        [entry["task"], NAMES[entry["whole"]], NAMES[entry["subset"]], *_paired_cells(entry)] for entry in differences
    ]


def _paired_cells(entry: Mapping[str, Any]) -> list[str]:
    """Make the cells of the columns `PAIRED` from one difference."""
    cases = entry["events" if entry["kind"] == "prognosis" else "positives"]
    seeds = ", ".join(str(seed) for seed in entry["seeds"])
    by_seed = ", ".join(text_number(value, "+") for value in entry["by_seed"] or [None])
    return [str(entry["n"]), str(cases), seeds, text_estimate(entry, "difference"), by_seed]


def write_figures(differences: Sequence[Mapping[str, Any]], reference: str, folder: Path) -> None:
    """Draw how much better the table's first row is than each other row, and write one figure per task.

    A figure compares answers from the largest subset of modalities that the table has, as a rule all three.

    Args:
        differences: The result of `differences_between_rows`.
        reference: The name of the first row.
        folder: The directory into which ``differences_<task>.svg`` and ``.png`` are written.
    """
    for task in dict.fromkeys(entry["task"] for entry in differences):
        of_task = [entry for entry in differences if entry["task"] == task]
        whole = next(subset for subset in reversed(SUBSET_NAMES) if any(entry["subset"] == subset for entry in of_task))
        shown = [entry for entry in of_task if entry["subset"] == whole and entry["difference"] is not None]
        headline = {"diagnosis": "auc", "prognosis": "c_index"}[of_task[0]["kind"]]
        figure = differences_figure(shown, headline, reference, f"{task}, {NAMES[whole]}")
        for file_format in ("svg", "png"):
            with whole_file(folder / f"differences_{task}.{file_format}") as building:
                building.write_bytes(render(figure, file_format))
