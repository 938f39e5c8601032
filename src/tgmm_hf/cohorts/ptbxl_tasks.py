"""The six tasks of the published PTB-XL benchmark as cohort tables, such as superclass and rhythm.

Definitions are those of Strodthoff et al. 2021 (IEEE JBHI 25:1519) and their code, helme/ecg_ptbxl_benchmarking
(`compute_label_aggregations`, `select_data`): a label is present if one of its statements is listed, whatever its
likelihood; a recording without a label of the task is left out; folds 1 to 8 train, 9 validates, 10 tests. Their names
of the tasks are all, diagnostic, subdiagnostic, superdiagnostic, form and rhythm.
"""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tgmm_hf.cohorts.flow import FlowEntry, check_flow, draw_flow, flow_entry
from tgmm_hf.cohorts.ptbxl import join_label_tables, read_ptbxl_table, read_statements, write_cohort_table
from tgmm_hf.cohorts.ptbxl_arrays import find_arrays, write_recordings
from tgmm_hf.data.manifest import SPLITS, read_cohort_table
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import whole_file, write_json
from tgmm_hf.utils.output_lock import one_run_at_a_time


@dataclass(frozen=True)
class PublishedTask:
    """One task of the benchmark.

    Attributes:
        kind: Column of scp_statements.csv that is 1 for the statements of the task; None takes all statements.
        label: Column of scp_statements.csv with the label of a statement; None takes its code.
        array_column: Column of label tables beside arrays that lists the labels; None if these tables do not hold them.
        question: The question of the task.
    """

    kind: str | None
    label: str | None
    array_column: str | None
    question: str

    def labels(self, statements: pd.DataFrame) -> dict[str, str]:
        """Return the code of each statement of the task -> its label. `statements` is scp_statements.csv."""
        codes = statements[statements.columns[0]]
        chosen = pd.Series(True, statements.index)
        if self.kind is not None:
            chosen = pd.to_numeric(statements[self.kind], errors="coerce") == 1
        names = codes if self.label is None else statements[self.label]
        return {code: name for code, name in zip(codes[chosen], names[chosen], strict=True) if isinstance(name, str)}


TASKS = {
    "all": PublishedTask(None, None, None, "Which statements describe this electrocardiogram?"),
    "diagnostic": PublishedTask("diagnostic", None, None, "Which diagnoses does this electrocardiogram show?"),
    "subclass": PublishedTask(
        "diagnostic", "diagnostic_subclass", "sub_class", "Which groups of diagnoses does this electrocardiogram show?"
    ),
    "superclass": PublishedTask(
        "diagnostic", "diagnostic_class", "super_class", "Which kinds of disease does this electrocardiogram show?"
    ),
    "form": PublishedTask("form", None, "form", "Which changes of form does this electrocardiogram show?"),
    "rhythm": PublishedTask("rhythm", None, "rhythm", "Which rhythm does this electrocardiogram show?"),
}
"""Name of a task, as `tgmm curate-ptbxl --task` takes it -> its definition."""
PUBLISHED_FOLDS = (9, 10)
"""The official folds that validate and test in the benchmark."""


def task_name(task: str) -> str:
    """Return the name of a task in configurations and cohort tables."""
    return f"ptbxl_{task}"


@dataclass(frozen=True)
class PublishedSplit:
    """Which official folds validate and test.

    Attributes:
        validation_fold: The fold that validates.
        test_fold: The fold that tests. Folds after it are not used, so that trying settings on fold 9 does not see the
            benchmark's test fold 10. All other folds train.
    """

    validation_fold: int = PUBLISHED_FOLDS[0]
    test_fold: int = PUBLISHED_FOLDS[1]

    def __post_init__(self) -> None:
        """Raise a TgmmError if a fold is none of the ten, or if the two are one."""
        if not {self.validation_fold, self.test_fold} <= set(range(1, 11)) or self.validation_fold == self.test_fold:
            raise TgmmError(
                "rules",
                f"the validation fold is {self.validation_fold} and the test fold {self.test_fold}; they must be two "
                "different folds of 1 to 10.",
            )

    def split_of(self, fold: int) -> str | None:
        """Return the split of a fold; None if the fold is not used."""
        if fold == self.validation_fold:
            return "validation"
        if fold > self.test_fold:
            return None
        return "test" if fold == self.test_fold else "train"


@one_run_at_a_time("out")
def curate_ptbxl_task(
    directory: str | Path, out: str | Path, task: str, *, sampling_rate: int = 500, split: PublishedSplit | None = None
) -> dict[str, Any]:
    """Write cohort.parquet, flow.json, flow.svg and curate.json for one task of the benchmark into `out`.

    Args:
        directory: PTB-XL as shipped, or arrays with their label tables (see `curate_ptbxl`).
        out: Directory of the result.
        task: A key of `TASKS`.
        sampling_rate: 500 or 100 Hz, of the shipped recordings. The benchmark reads 100 Hz.
        split: Folds that validate and test; None takes the benchmark's.

    Returns:
        The content of curate.json: "data_hash", "task", "findings" (labels in the benchmark's order), "rules", "units",
        "counts" (split -> recordings and patients) and "positives" (label -> split -> number of recordings).

    Raises:
        FileNotFoundError: If the directory has neither layout.
        TgmmError: If a table or a fold cannot be used, or the label tables beside arrays do not hold the task.
    """
    directory, out, split = Path(directory), Path(out), split or PublishedSplit()
    published = TASKS[task]
    columns = tuple(name for name in (published.kind, published.label) if name is not None)
    statements = read_ptbxl_table(directory / "scp_statements.csv", columns)
    labels = published.labels(statements)
    findings = sorted(set(labels.values()))
    recordings, arrays = _read_recordings(directory, published, labels, sampling_rate)
    recordings = recordings.assign(split=[split.split_of(int(fold)) for fold in recordings.strat_fold])
    labelled = recordings[recordings.labels.map(len) > 0]
    included = labelled[labelled.split.notna()]
    if not len(included):
        raise TgmmError(str(directory), f"none of {len(recordings)} recordings has a label of the task {task}.")
    out.mkdir(parents=True, exist_ok=True)
    if arrays is not None:
        write_recordings(arrays, included.ecg_id.tolist(), out / "ecg")
    flow = _flow(recordings, labelled, included, task)
    check_flow(flow)
    with whole_file(out / "flow.svg") as building:
        draw_flow(flow, building)
    write_json(out / "flow.json", flow)
    outcomes: dict[str, list[int | None]] = {
        f"finding.{task_name(task)}.{name}": [int(name in listed) for listed in included.labels] for name in findings
    }
    write_cohort_table(included, included.split.tolist(), outcomes, out, directory if arrays is None else None)
    settings = {"kind": "multilabel", "question": published.question, "candidates": [], "findings": findings}
    summary = {
        "data_hash": read_cohort_table(out / "cohort.parquet", tasks={task_name(task): settings}).digest(),
        "task": task,
        "findings": findings,
        "rules": {"validation_fold": split.validation_fold, "test_fold": split.test_fold},
        "units": "mV" if arrays is None else "normalised",
        "counts": {name: _count(included[included.split == name]) for name in SPLITS},
        "positives": {
            name: {part: int(sum(name in listed for listed in included.labels[included.split == part]))
                   for part in SPLITS}
            for name in findings
        },
    }  # fmt: skip
    write_json(out / "curate.json", summary)
    return summary


def _count(rows: pd.DataFrame) -> dict[str, int]:
    return {"recordings": len(rows), "patients": int(rows.patient_id.nunique())}


def _flow(recordings: pd.DataFrame, labelled: pd.DataFrame, included: pd.DataFrame, task: str) -> list[FlowEntry]:
    """Make the flow: all recordings, those without a label and in later folds excluded, the cohort."""
    patients = int(recordings.patient_id.nunique())
    flow = [flow_entry("records", "start", "recordings of PTB-XL", patients, len(recordings))]
    steps = (("unlabelled", f"no label of the task {task}", recordings, labelled),
             ("folds", "folds after the test fold", labelled, included))  # fmt: skip
    for step, reason, before, after in steps:
        patients = int(before.patient_id.nunique() - after.patient_id.nunique())
        flow.append(flow_entry(step, "excluded", reason, patients, len(before) - len(after)))
    return [*flow, flow_entry("cohort", "included", "included", int(included.patient_id.nunique()), len(included))]


# ---- reading


def _read_recordings(
    directory: Path, task: PublishedTask, labels: dict[str, str], sampling_rate: int
) -> tuple[pd.DataFrame, list[Path] | None]:
    """Read the recordings of either layout, with the column `labels` (a set of labels of the task).

    Args:
        directory: Directory of PTB-XL or of the arrays.
        task: The task.
        labels: Code of a statement -> label.
        sampling_rate: 100 or 500 Hz. It chooses the files in the layout of PhysioNet.

    Returns:
        One row per recording; and the .npz files, None in the layout of PhysioNet.
    """
    database = directory / "ptbxl_database.csv"
    if database.is_file():
        table = read_statements(database, sampling_rate)
        codes = [set(stated) for stated in table.statements]
        if task.kind is None and (unknown := sorted(set().union(*codes) - labels.keys())):
            raise TgmmError(database.name, f"the statements {unknown} are not in scp_statements.csv: add them there.")
        return table.assign(labels=[{labels[code] for code in stated & labels.keys()} for stated in codes]), None
    arrays, paths = find_arrays(directory)
    if task.array_column is None:
        raise TgmmError(
            ", ".join(path.name for path in paths),
            "label tables beside arrays do not list all statements, which this task needs: give the directory of "
            "PTB-XL with ptbxl_database.csv.",
        )
    return join_label_tables({path.name: _read_label_table(path, task.array_column, labels) for path in paths}), arrays


def _read_label_table(path: Path, column: str, labels: dict[str, str]) -> pd.DataFrame:
    """Read a table of labels that lies beside arrays. Its lists write names without underscores at their ends.

    Raises:
        TgmmError: If a listed name is no label of the task.
    """
    table = read_ptbxl_table(path, ("ecg_id", "patient_id", "age", "sex", "strat_fold", column))
    names = {name.strip("_"): name for name in labels.values()}
    listed = [[str(name).strip("_") for name in ast.literal_eval(text)] if isinstance(text, str) else []
              for text in table[column]]  # fmt: skip
    if unknown := sorted({name for row in listed for name in row} - names.keys()):
        raise TgmmError(path.name, f"column {column} lists {unknown}, but the labels are {sorted(names)}.")
    return table.assign(labels=[{names[name] for name in row} for row in listed], path="")
