"""`tgmm curate-ptbxl`: PTB-XL -> cohort table of the paper's second task, myocardial infarction against normal ECG.

Two layouts are read. One is the data set as PhysioNet ships it (ptbxl_database.csv, scp_statements.csv, records100 or
records500). The other is arrays made from it (.npz files, see `ptbxl_arrays.py`, and CSV files of labels).

The inputs beside the ECG are age, sex, height and weight. heart_axis, infarction_stadium, report, nurse, site and
device are never used, because they hold the answer or tell where and by whom the ECG was taken.
"""

import ast
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.cohorts.flow import FlowEntry, check_flow, draw_flow, flow_entry
from tgmm_hf.cohorts.ptbxl_arrays import find_arrays, write_recordings
from tgmm_hf.cohorts.tables import require_columns
from tgmm_hf.data.manifest import SPLITS, CohortTable, read_cohort_table
from tgmm_hf.data.table_files import declare_canonical_units
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import whole_file, write_json
from tgmm_hf.utils.output_lock import one_run_at_a_time

TASK = "mi_diagnosis"
MI_TASK: dict[str, Any] = {
    "kind": "diagnosis",
    "question": "Does this patient have a myocardial infarction, given age, sex and the electrocardiogram?",
    "candidates": ["normal electrocardiogram", "myocardial infarction"],
}
"""Meaning of the labels in the table. configs/ptbxl_mi.yaml holds the same with its training settings."""

BOTH = ("drop", "mi")
OVER_89 = 300
"""Age that PTB-XL writes for everybody above 89."""
LIKELIHOODS = (0, 50, 80, 100)
"""Thresholds of likelihood, in percent. curate.json lists the counts under each of them, to compare."""


@dataclass(frozen=True)
class PtbxlRules:
    """Rules that select and split the recordings.

    Attributes:
        likelihood: Percent. A diagnostic statement with a lower likelihood is not counted. 0 counts all statements, as
            the published benchmark does. In PTB-XL a likelihood of 0 means that no likelihood was stated.
        both: Use of recordings with statements of infarction (MI) and of a normal ECG (NORM): "drop" does not use them,
            "mi" counts them as infarction.
        validation_fold: The official fold that validates.
        test_fold: The official fold that tests. All folds but these two train.
        all_test: Every recording tests, whatever its fold. Use this for recordings on which a trained model is tried.
        all_records: Recordings that are neither MI nor NORM are kept too, without a label, for pre-training.
    """

    likelihood: float = 0.0
    both: str = "drop"
    validation_fold: int = 9
    test_fold: int = 10
    all_test: bool = False
    all_records: bool = False

    def __post_init__(self) -> None:
        """Raise a TgmmError if a rule has a value that it does not take."""
        if self.both not in BOTH:
            raise TgmmError("rules", f"both is {self.both!r}; it must be drop or mi.")
        if not 0 <= self.likelihood <= 100:
            raise TgmmError("rules", f"likelihood is {self.likelihood:g}; it must be 0 to 100 percent.")

    def split(self, fold: int) -> str:
        """Return the split of the official fold number `fold`: "train", "validation" or "test"."""
        if self.all_test or fold == self.test_fold:
            return "test"
        return "validation" if fold == self.validation_fold else "train"

    def describe(self) -> dict[str, Any]:
        """Return rule -> value for curate.json. With `all_test` the folds are None, because they are not used."""
        folds = dict.fromkeys(("validation_fold", "test_fold")) if self.all_test else {}
        return asdict(self) | folds


@one_run_at_a_time("out")
def curate_ptbxl(directory: str | Path, out: str | Path, *, sampling_rate: int = 500, **rules: Any) -> dict[str, Any]:
    """Write cohort.parquet, flow.json, flow.svg and curate.json for the task `mi_diagnosis` into `out`.

    If `directory` holds arrays, they are written as WFDB recordings into `out`/ecg.

    Args:
        directory: PTB-XL as shipped; or a directory with .npz files of arrays, CSV files of labels and
            scp_statements.csv. A recording may lie in any of the .npz files.
        out: Directory of the result.
        sampling_rate: 500 or 100 Hz, of the shipped recordings.
        **rules: Fields of [`PtbxlRules`].

    Returns:
        The content of curate.json. "counts" are numbers of recordings by split and label. "selections" lists the
        numbers of recordings that each threshold of `LIKELIHOODS` gives.

    Raises:
        FileNotFoundError: If the directory has neither layout.
        TgmmError: If a rule or a table cannot be used.
    """
    if sampling_rate not in (100, 500):
        raise TgmmError("rules", f"sampling_rate is {sampling_rate}; it must be 100 or 500.")
    chosen = PtbxlRules(**rules)
    directory, out = Path(directory), Path(out)
    recordings, arrays = _read_recordings(directory, sampling_rate)
    kinds = _kinds(recordings, chosen)
    recordings = recordings.assign(target=kinds.map({"MI": 1, "NORM": 0}))  # NaN: neither, or both
    if recordings.target.isna().all():
        raise TgmmError(str(directory), f"none of {len(recordings)} recordings is MI or NORM under these rules.")
    included = recordings if chosen.all_records else recordings[recordings.target.notna()]
    out.mkdir(parents=True, exist_ok=True)
    if arrays is not None:
        write_recordings(arrays, included.ecg_id.tolist(), out / "ecg")
    flow = _flow(recordings, kinds, chosen)
    check_flow(flow)
    splits = [chosen.split(int(fold)) for fold in included.strat_fold]
    outcomes = {f"label.{TASK}": [None if pd.isna(target) else int(target) for target in included.target]}
    write_cohort_table(included, splits, outcomes, out, directory if arrays is None else None)
    with whole_file(out / "flow.svg") as building:
        draw_flow(flow, building)
    write_json(out / "flow.json", flow)
    table = read_cohort_table(out / "cohort.parquet", tasks={TASK: MI_TASK})
    summary = {
        "data_hash": table.digest(),
        "rules": chosen.describe(),
        "units": "mV" if arrays is None else "normalised",
        "counts": _counts(table, chosen),
        "selections": _selections(recordings),
    }
    write_json(out / "curate.json", summary)
    return summary


def _counts(table: CohortTable, rules: PtbxlRules) -> dict[str, dict[str, int]]:
    labels = {"MI": 1, "NORM": 0, **({"unlabelled": None} if rules.all_records else {})}
    return {
        split: {
            name: sum(row.labels.get(TASK) == label for row in table.rows if row.split == split)
            for name, label in labels.items()
        }
        for split in SPLITS
    }


# ---- reading


def _read_recordings(directory: Path, sampling_rate: int) -> tuple[pd.DataFrame, list[Path] | None]:
    """Read the recordings of either layout.

    Args:
        directory: Directory of PTB-XL or of the arrays.
        sampling_rate: 100 or 500 Hz. It chooses the files in the layout of PhysioNet.

    Returns:
        One row per recording, with the column `likelihoods` (diagnostic class -> largest likelihood of its statements,
        in percent); and the .npz files, None in the layout of PhysioNet.
    """
    classes = _diagnostic_classes(directory / "scp_statements.csv")
    if (directory / "ptbxl_database.csv").is_file():
        return _read_database(directory / "ptbxl_database.csv", classes, sampling_rate), None
    arrays, labels = find_arrays(directory)
    return join_label_tables({path.name: _read_label_table(path, classes) for path in labels}), arrays


def join_label_tables(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Join the label tables (file name -> rows) that lie beside arrays. Raise a TgmmError if an ecg_id stands twice."""
    recordings = pd.concat(tables.values(), ignore_index=True)
    if repeated := recordings.ecg_id[recordings.ecg_id.duplicated()].tolist():
        raise TgmmError(
            ", ".join(tables), f"{len(repeated)} ecg_id stand twice, for example {repeated[0]}. Remove one of the rows."
        )
    return recordings


def _diagnostic_classes(path: Path) -> dict[str, str]:
    """Read scp_statements.csv: code of each diagnostic statement -> its class, such as "MI" or "NORM"."""
    table = read_ptbxl_table(path, ("diagnostic", "diagnostic_class"))
    table = table[pd.to_numeric(table.diagnostic, errors="coerce") == 1]
    return dict(zip(table[table.columns[0]], table.diagnostic_class, strict=True))


def _read_database(path: Path, classes: dict[str, str], sampling_rate: int) -> pd.DataFrame:
    table = read_statements(path, sampling_rate)
    return table.assign(likelihoods=[_by_class(stated, classes) for stated in table.statements])


def read_statements(path: Path, sampling_rate: int) -> pd.DataFrame:
    """Read ptbxl_database.csv with two more columns.

    `statements` has the code of each statement -> its likelihood in percent, `path` the file of the recording at 100 or
    500 Hz (`sampling_rate`) below the directory of PTB-XL.

    Raises:
        FileNotFoundError: If there is no such file.
        TgmmError: If a column is missing, or the sampling rate is another one.
    """
    if sampling_rate not in (100, 500):
        raise TgmmError("rules", f"sampling_rate is {sampling_rate}; it must be 100 or 500.")
    column = "filename_lr" if sampling_rate == 100 else "filename_hr"
    table = read_ptbxl_table(path, ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", column))
    return table.assign(statements=[ast.literal_eval(text) for text in table.scp_codes], path=table[column])


def _read_label_table(path: Path, classes: dict[str, str]) -> pd.DataFrame:
    """Read a table of labels that lies beside arrays, as `_read_recordings` describes it.

    Its column super_class holds the classes as a list, and scp_diagnostic_likelihood the likelihoods of the statements
    as JSON. A class without a likelihood, such as NORM, gets 100, so that it counts at every threshold.
    """
    table = read_ptbxl_table(
        path, ("ecg_id", "patient_id", "age", "sex", "strat_fold", "super_class", "scp_diagnostic_likelihood")
    )
    likelihoods = []
    for listed, stated in zip(table.super_class, table.scp_diagnostic_likelihood, strict=True):
        by_class = _by_class(json.loads(stated), classes)
        likelihoods.append({name: by_class.get(name, 100.0) for name in ast.literal_eval(listed)})
    return table.assign(likelihoods=likelihoods, path="")


def _by_class(codes: dict[str, float], classes: dict[str, str]) -> dict[str, float]:
    """Return diagnostic class -> largest likelihood of its statements.

    Args:
        codes: Code of a statement -> likelihood in percent.
        classes: Code of a statement -> class. Codes without a class are not used.
    """
    likelihoods: dict[str, float] = {}
    for code, stated in codes.items():
        if (name := classes.get(code)) is not None:
            likelihoods[name] = max(likelihoods.get(name, 0.0), float(stated))
    return likelihoods


def read_ptbxl_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a table of PTB-XL, or of labels beside its arrays.

    Raises:
        FileNotFoundError: If there is no such file.
        TgmmError: If one of `columns` is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: give the directory of PTB-XL (1.0.1 to 1.0.3), or copy its {path.name} beside the "
            "arrays."
        )
    table = pd.read_csv(path)
    require_columns(path.name, list(table.columns), columns)
    return table


# ---- selecting


def _classes_at(likelihoods: dict[str, float], threshold: float) -> set[str]:
    return {name for name, value in likelihoods.items() if value >= threshold}


def _kinds(recordings: pd.DataFrame, rules: PtbxlRules) -> pd.Series:
    """Return "MI", "NORM", "both" or "neither" for every recording, under the rules."""

    def kind(likelihoods: dict[str, float]) -> str:
        classes = _classes_at(likelihoods, rules.likelihood) & {"MI", "NORM"}
        if len(classes) == 2:
            return "MI" if rules.both == "mi" else "both"
        return classes.pop() if classes else "neither"

    return recordings.likelihoods.map(kind)


def _selections(recordings: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the recordings with MI, with NORM and with both, under each threshold of `LIKELIHOODS`."""
    rows = []
    for threshold in LIKELIHOODS:
        class_sets = [_classes_at(likelihoods, threshold) for likelihoods in recordings.likelihoods]
        rows.append(
            {
                "likelihood": threshold,
                "mi_without_norm": sum("MI" in classes and "NORM" not in classes for classes in class_sets),
                "mi_alone": sum(classes == {"MI"} for classes in class_sets),
                "norm_without_mi": sum("NORM" in classes and "MI" not in classes for classes in class_sets),
                "norm_alone": sum(classes == {"NORM"} for classes in class_sets),
                "both": sum({"MI", "NORM"} <= classes for classes in class_sets),
            }
        )
    return rows


_REMAINING = {"neither": ("MI", "NORM", "both"), "both": ("MI", "NORM")}
"""Step of the flow -> kinds that remain after it."""


def _flow(recordings: pd.DataFrame, kinds: pd.Series, rules: PtbxlRules) -> list[FlowEntry]:
    def entry(step: str, kind: str, reason: str, rows: pd.DataFrame, patients: int | None = None) -> FlowEntry:
        return flow_entry(
            step, kind, reason, int(rows.patient_id.nunique() if patients is None else patients), len(rows)
        )

    flow = [entry("records", "start", "recordings of PTB-XL", recordings)]
    left = recordings
    for step, reason in (("neither", "neither MI nor NORM"), ("both", "both MI and NORM")):
        if rules.all_records or (step == "both" and rules.both == "mi"):
            continue
        remaining = recordings[kinds.isin(_REMAINING[step])]
        lost = left.patient_id.nunique() - remaining.patient_id.nunique()
        flow.append(entry(step, "excluded", reason, recordings[kinds == step], lost))
        left = remaining
    flow.append(entry("cohort", "included", "included", left))
    flow.append(entry("MI", "group", "myocardial infarction", recordings[kinds == "MI"]))
    flow.append(entry("NORM", "group", "normal", recordings[kinds == "NORM"]))
    if rules.all_records:
        flow.append(entry("unlabelled", "group", "without a label", recordings[recordings.target.isna()]))
    return flow


# ---- writing


def write_cohort_table(
    included: pd.DataFrame, splits: list[str], outcomes: dict[str, list[int | None]], out: Path, source: Path | None
) -> None:
    """Write cohort.parquet into `out`. The column labs.age is text, with ">89" where PTB-XL writes 300.

    Args:
        included: The n recordings of the cohort.
        splits: Split of each recording, length n.
        outcomes: Name of an outcome column -> its n cells; None where unknown.
        out: Directory of the result.
        source: Directory of PTB-XL. None if the recordings lie in `out`/ecg.
    """
    columns: dict[str, Any] = {
        "id": [str(int(number)) for number in included.ecg_id],
        "patient_id": [str(int(number)) for number in included.patient_id],
        "split": splits,
        "labs.age": [_age(value) for value in included.age],
        "labs.gender": [{0: "M", 1: "F"}.get(value) for value in included.sex],
    }
    for name in ("height", "weight"):
        if name in included:
            columns[f"labs.{name}"] = included[name].astype(float).where(included[name].notna(), None).tolist()
    if source is None:
        columns["ecg_path"] = [f"ecg/{int(number):05d}" for number in included.ecg_id]
    else:
        columns["ecg_path"] = [os.path.relpath((source / path).absolute(), out.absolute()) for path in included.path]
    with whole_file(out / "cohort.parquet") as building:
        pq.write_table(declare_canonical_units(pa.table(columns | outcomes)), building)


def _age(value: float) -> str | None:
    if pd.isna(value):
        return None
    return ">89" if value >= OVER_89 else f"{value:g}"
