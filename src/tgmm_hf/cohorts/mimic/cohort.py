"""`tgmm curate`: from the tables of MIMIC to a cohort table, with every exclusion counted.

`steps.py` runs the SQL steps in a DuckDB database on disk with a memory limit. This module writes the results.

    OUT/cohort.parquet     the cohort table (docs/your_data.md)
    OUT/splits.csv         every split, by patient; later runs keep it
    OUT/flow.json, flow.svg, table1.csv, anomalies.csv (with the file checks)
    OUT/curate.sql         the SQL that was run
    OUT/curate.json        rules, input files with sha256, counts, digest of the rows, versions; written last
"""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from tgmm_hf.cohorts.flow import draw_flow
from tgmm_hf.cohorts.mimic.exclusions import EVENT_NAMES
from tgmm_hf.cohorts.mimic.frame import LVEF_SETTINGS, LVEF_TASK, RISK_TASK, TASK, write_cohort_table
from tgmm_hf.cohorts.mimic.rules import CurateRules
from tgmm_hf.cohorts.mimic.steps import BuiltCohort, CohortInputs, build_cohort, open_database
from tgmm_hf.cohorts.mimic.table1 import table_one
from tgmm_hf.cohorts.splits import read_splits, split_patients, write_splits
from tgmm_hf.configuration_tasks import DEFAULT_TASKS
from tgmm_hf.data.manifest import Tasks, read_cohort_table
from tgmm_hf.data.outcome_checks import validation_doubt
from tgmm_hf.utils.csv_files import write_csv_file
from tgmm_hf.utils.digests import file_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json, whole_file, write_json, write_text
from tgmm_hf.utils.output_lock import one_run_at_a_time
from tgmm_hf.utils.versions import package_versions


@one_run_at_a_time("out")
def curate(  # noqa: PLR0913 - one argument per option of the command
    mimic_iv: str | Path,
    out: str | Path,
    *,
    mimic_ecg: str | Path | None = None,
    mimic_echo: str | Path | None = None,
    rules: CurateRules | None = None,
    views: str | Path | None = None,
    splits: str | Path | None = None,
    check_files: bool = False,
    root: str | Path | None = None,
    memory: str = "2GB",
    threads: int | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Build the cohort of `rules` from MIMIC.

    Args:
        mimic_iv: MIMIC-IV (2.2 to 3.1): the directory with `hosp`, or `hosp` itself.
        out: Directory of the result. It must not hold a cohort.parquet of another origin.
        mimic_ecg: Directory of MIMIC-IV-ECG. If None, a stay needs no ECG.
        mimic_echo: Directory of MIMIC-IV-ECHO (0.1, 1.0.x). If None, a stay needs no echo.
        rules: Rules of the cohort. None means the defaults.
        views: CSV file with the columns dicom_filepath (as in echo-record-list.csv) and view.
        splits: File of the splits. None means `out`/splits.csv. If the file exists, its splits are used. Otherwise new
            splits are drawn and written to it.
        check_files: Read the ECG and echo files of every stay that would be included, and exclude anomalous files.
        root: Directory that the paths in the table start from. None means `out`.
        memory: Limit of DuckDB's buffers, for example "2GB". The rest goes to disk, below `out`.
        threads: Threads of DuckDB. None means one per core.
        workers: Worker processes of the file checks.

    Returns:
        The content of curate.json.

    Raises:
        FileNotFoundError: If a required table is missing.
        TgmmError: If a table, code list or rule cannot be used, or no admission is left.
        FileExistsError: If `out` holds a cohort that `curate` did not write.
    """
    rules, out = rules or CurateRules(), Path(out)
    if (out / "cohort.parquet").exists() and not (out / "curate.sql").exists():
        raise FileExistsError(f"{out} holds a cohort.parquet that `tgmm curate` did not write: choose another --out.")
    sources = {"mimic_iv": Path(mimic_iv), "mimic_ecg": _path(mimic_ecg), "mimic_echo": _path(mimic_echo)}
    inputs = CohortInputs(sources, rules, views, _path(root) or out, workers if check_files else None)
    tables = inputs.tables()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".curate-", dir=out) as scratch:
        database = open_database(Path(scratch), memory, threads)
        built = build_cohort(database, tables, inputs)
        database.close()
    (out / "curate.json").unlink(missing_ok=True)  # an earlier one would not fit the files that are written now
    write_json(out / "flow.json", built.flow)
    if built.cohort.empty:
        raise TgmmError("the cohort", f"no admission is left; {out / 'flow.json'} tells which step excluded them.")
    split_file = out / "splits.csv" if splits is None else Path(splits)
    kept = split_file.is_file()
    cohort = _with_split(built.cohort, split_file, rules)
    _write_results(out, cohort, built, check_files)
    summary = {
        "data_hash": read_cohort_table(out / "cohort.parquet", root=inputs.base, tasks=_tasks(rules)).digest(),
        "rules": asdict(rules),
        "check_files": check_files,
        "counts": _counts(cohort),
        "doubts": _doubts(cohort),
        "split_file": {"name": split_file.name, "kept": kept, "sha256": file_digest(split_file)},
        **_describe(tables, built),
    }
    write_json(out / "curate.json", summary)
    return summary


def summary_text(out: Path, summary: Mapping[str, Any]) -> str:
    """Write the flow of exclusions and the sizes of the splits as text for the terminal.

    Args:
        out: Directory that `curate` wrote.
        summary: The content of curate.json.
    """
    lines = []
    for entry in read_json(out / "flow.json"):
        sign = "-" if entry["kind"] == "excluded" else "="
        lines.append(f"{sign} {entry['admissions']:>9,} admissions {entry['patients']:>9,} patients  {entry['reason']}")
    kept = "kept" if summary["split_file"]["kept"] else "drawn"
    counts = ", ".join(f"{split} {number}" for split, number in summary["counts"]["splits"].items())
    doubts = [f"note: {doubt}" for doubt in summary["doubts"]]
    return "\n".join([*lines, f"splits ({kept}): {counts} admissions", *doubts])


# ---- splits


def _with_split(cohort: pd.DataFrame, split_file: Path, rules: CurateRules) -> pd.DataFrame:
    """Return the cohort with the column `split`.

    The splits are read from `split_file` if it exists. Otherwise they are drawn, and written to it. `rules.split` names
    the split that fills the column.

    Raises:
        TgmmError: If an admission has no split, or the file lacks a patient.
    """
    if split_file.is_file():
        splits = read_splits(split_file, cohort.patient_id)
    else:
        splits = split_patients(_patients(cohort), rules.seed)
        write_splits(splits, split_file)
    by_admission = cohort.patient_id.map(splits.set_index("patient_id")[rules.split])
    if by_admission.isna().any():
        raise TgmmError(
            f"the split {rules.split!r}",
            f"is not defined for {int(by_admission.isna().sum())} of {len(cohort)} admissions: a temporal split needs "
            "at least three different values of anchor_year_group and one for every patient.",
        )
    with_split = cohort.copy()
    with_split.insert(list(cohort.columns).index("patient_id") + 1, "split", by_admission)
    return with_split


def _patients(cohort: pd.DataFrame) -> pd.DataFrame:
    """Make the table that `split_patients` takes, one row per patient, from the cohort, one row per stay.

    The values come from the patient's first stay. `label` is 1 if it is 1 in any stay.
    """
    cells = [name for name in cohort.columns if name.startswith("labs.")]
    rows = pd.DataFrame(
        {
            "patient_id": cohort.patient_id,
            "label": cohort[f"label.{TASK}"],
            "event": cohort[f"event.{RISK_TASK}"],
            "gender": cohort["labs.gender"],
            "age": cohort["labs.age"],
            "missing": cohort[cells].isna().mean(axis=1),
            "anchor_year_group": cohort.anchor_year_group,
        }
    )
    patients = rows.drop_duplicates("patient_id").set_index("patient_id").sort_index()
    patients["label"] = rows.groupby("patient_id").label.max()
    return patients.reset_index()


# ---- results


def _write_results(out: Path, cohort: pd.DataFrame, built: BuiltCohort, check_files: bool) -> None:
    write_text(out / "curate.sql", "\n".join(built.script))  # first, because it marks the directory as one of curate
    write_cohort_table(cohort, out / "cohort.parquet")
    with whole_file(out / "flow.svg") as building:
        draw_flow(built.flow, building)
    table = table_one(cohort, built.excluded)
    write_text(out / "table1.csv", table.to_csv(index=False, lineterminator="\n"))
    if check_files:
        anomalies = built.anomalies[["id", "item", "reason"]]
        write_csv_file(out / "anomalies.csv", list(anomalies.columns), anomalies.to_dict("records"))


def _describe(tables: Mapping[str, Path | None], built: BuiltCohort) -> dict[str, Any]:
    """Collect a part of curate.json: the files that were read, the tables without a file, and counts of the steps."""
    return {
        "inputs": {
            name: {"file": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)}
            for name, path in tables.items()
            if path is not None
        },
        "absent_tables": [name for name, path in tables.items() if path is None],
        "lab_results": built.lab_counts,
        **built.list_differences,
        "anomalies": built.anomalies.reason.value_counts().to_dict(),
        "versions": package_versions("duckdb", "iterative-stratification"),
    }


def _tasks(rules: CurateRules) -> Tasks:
    """Return the tasks that the cohort table has outcomes of."""
    return {**DEFAULT_TASKS, **({LVEF_TASK: LVEF_SETTINGS} if rules.lvef_value else {})}


def _counts(cohort: pd.DataFrame) -> dict[str, Any]:
    label, event = cohort[f"label.{TASK}"], cohort[f"event.{RISK_TASK}"]
    return {
        "admissions": len(cohort),
        "patients": int(cohort.patient_id.nunique()),
        "heart_failure": int((label == 1).sum()),
        "no_heart_failure": int((label == 0).sum()),
        "prognosis": int(event.notna().sum()),
        "events": {name: int((event == value).sum()) for value, name in EVENT_NAMES.items()},
        "splits": {str(name): int(number) for name, number in cohort.split.value_counts().items()},
    }


def _doubts(cohort: pd.DataFrame) -> list[str]:
    """Say what a training could not measure on the validation split."""
    validation = cohort[cohort.split == "validation"]
    outcomes = {TASK: ("diagnosis", "label"), RISK_TASK: ("prognosis", "event")}
    doubts = [
        validation_doubt(task, kind, validation[f"{column}.{task}"].dropna())
        for task, (kind, column) in outcomes.items()
    ]
    return [doubt for doubt in doubts if doubt is not None]


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)
