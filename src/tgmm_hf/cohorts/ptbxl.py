"""`tgmm curate-ptbxl`: PTB-XL -> manifest of the paper's second task, myocardial infarction against normal ECG.

Two layouts are read: the data set as PhysioNet ships it (ptbxl_database.csv, scp_statements.csv, records100 or 500),
and arrays made from it (.npz files with ecg_id and signal (records, samples, 12), and CSV files of labels). Such arrays
are often z-scored; they are written as WFDB records in "NU" (normalised units), which the reader takes as such.

Inputs beside the ECG are age, sex, height and weight. heart_axis, infarction_stadium, report, nurse, site and device
are never used: they hold the answer, or say where and by whom the ECG was taken.
"""

import ast
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import wfdb

from tgmm_hf.cohorts.flow import FlowEntry, check_flow, draw_flow
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.utils.files import whole_file, write_json
from tgmm_hf.utils.names import LEADS

TASK = "mi_diagnosis"
MI_TASK: dict[str, Any] = {
    "kind": "diagnosis",
    "question": "Does this patient have a myocardial infarction, given age, sex and the electrocardiogram?",
    "candidates": ["normal electrocardiogram", "myocardial infarction"],
}
"""What the manifest's labels mean; configs/ptbxl_mi.yaml holds the same with its training settings."""

BOTH = ("drop", "mi")
OVER_89 = 300
"""PTB-XL's age of everybody above 89."""
ARRAY_SECONDS = 10
LIKELIHOODS = (0, 50, 80, 100)
"""Thresholds whose counts are listed beside the chosen one."""


def curate_ptbxl(
    directory: str | Path,
    out: str | Path,
    *,
    likelihood: float = 0.0,
    both: str = "drop",
    sampling_rate: int = 500,
    validation_fold: int = 9,
    test_fold: int = 10,
    all_test: bool = False,
    all_records: bool = False,
) -> dict[str, Any]:
    """Write cohort.parquet, flow.json, flow.svg and curate.json for the task `mi_diagnosis`.

    Args:
        directory: PTB-XL as shipped, or a directory with .npz files of arrays, CSV files of labels and
            scp_statements.csv; a record may lie in any of the .npz files.
        out: directory of the result.
        likelihood: diagnostic statements below this likelihood (percent) are not counted. 0 counts all, as the
            published benchmark does; a likelihood of 0 in PTB-XL means that none was stated.
        both: records with MI and NORM: "drop", or "mi" (infarction).
        sampling_rate: 500 or 100 Hz, of the shipped records.
        validation_fold, test_fold: of the official folds; the others train.
        all_test: every record tests, whatever its fold: for records that a trained model is to be tried on.
        all_records: keep records of neither kind too, without a label: for pre-training, which needs none.

    Returns:
        The content of curate.json; its "selections" lists the counts that other rules would give.

    Raises:
        FileNotFoundError: neither layout is there.
        ValueError: a rule or a table that cannot be used.
    """
    if both not in BOTH or not 0 <= likelihood <= 100 or sampling_rate not in (100, 500):
        raise ValueError(
            f"both is {both!r} (drop or mi), likelihood {likelihood:g} (0 to 100), "
            f"sampling_rate {sampling_rate} (100 or 500)."
        )
    directory, out = Path(directory), Path(out)
    classes = _diagnostic_classes(directory / "scp_statements.csv")
    if (directory / "ptbxl_database.csv").is_file():
        records = _read_database(directory / "ptbxl_database.csv", classes, sampling_rate)
        arrays = None
    else:
        arrays, labels = _find_arrays(directory)
        records = pd.concat([_read_label_table(path, classes) for path in labels], ignore_index=True)
        if twice := records.ecg_id[records.ecg_id.duplicated()].tolist():
            raise ValueError(
                f"{len(twice)} ecg_id stand twice in {', '.join(path.name for path in labels)}, for example {twice[0]}."
            )
    chosen = _select(records, likelihood, both)
    records = records.assign(target=chosen.map({"MI": 1, "NORM": 0}))  # NaN: neither, or both
    if records.target.isna().all():
        raise ValueError(f"{directory}: none of {len(records)} records is MI or NORM under these rules.")
    included = records if all_records else records[records.target.notna()]
    out.mkdir(parents=True, exist_ok=True)
    if arrays is not None:
        _write_records(arrays, included.ecg_id.tolist(), out / "ecg")
    flow = _flow(records, chosen, both, all_records)
    check_flow(flow)
    splits = [_split(int(fold), validation_fold, test_fold, all_test) for fold in included.strat_fold]
    _write_manifest(included, splits, out, directory if arrays is None else None)
    with whole_file(out / "flow.svg") as building:
        draw_flow(flow, building)
    write_json(out / "flow.json", flow)
    manifest = read_cohort_table(out / "cohort.parquet", tasks={TASK: MI_TASK})
    record = {
        "data_hash": manifest.digest(),
        "rules": {
            "likelihood": likelihood,
            "both": both,
            "validation_fold": None if all_test else validation_fold,
            "test_fold": None if all_test else test_fold,
            "all_test": all_test,
            "all_records": all_records,
        },
        "units": "mV" if arrays is None else "normalised",
        "counts": {
            split: {
                name: sum(row.labels.get(TASK) == label for row in manifest.rows if row.split == split)
                for name, label in (("MI", 1), ("NORM", 0), *((("unlabelled", None),) if all_records else ()))
            }
            for split in ("train", "validation", "test")
        },
        "selections": _selections(records),
    }
    write_json(out / "curate.json", record)
    return record


# ---- reading


def _diagnostic_classes(path: Path) -> dict[str, str]:
    """Statement code -> diagnostic class, of the diagnostic statements."""
    table = _read_csv(path, ("diagnostic", "diagnostic_class"))
    table = table[pd.to_numeric(table.diagnostic, errors="coerce") == 1]
    return dict(zip(table[table.columns[0]], table.diagnostic_class, strict=True))


def _read_database(path: Path, classes: dict[str, str], sampling_rate: int) -> pd.DataFrame:
    column = "filename_lr" if sampling_rate == 100 else "filename_hr"
    table = _read_csv(path, ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", column))
    codes = [ast.literal_eval(text) for text in table.scp_codes]
    table["likelihoods"] = [_by_class(stated, classes) for stated in codes]
    return table.assign(path=table[column])


def _read_label_table(path: Path, classes: dict[str, str]) -> pd.DataFrame:
    """The table beside the arrays: classes as lists, likelihoods of the statements as JSON where they are known.

    A class without a stated likelihood (NORM has none there) is counted at every threshold.
    """
    table = _read_csv(
        path, ("ecg_id", "patient_id", "age", "sex", "strat_fold", "super_class", "scp_diagnostic_likelihood")
    )
    likelihoods = []
    for listed, stated in zip(table.super_class, table.scp_diagnostic_likelihood, strict=True):
        known = _by_class(json.loads(stated), classes)
        likelihoods.append({name: known.get(name, 100.0) for name in ast.literal_eval(listed)})
    return table.assign(likelihoods=likelihoods, path="")


def _by_class(codes: dict[str, float], classes: dict[str, str]) -> dict[str, float]:
    """Diagnostic class -> the largest likelihood of its statements."""
    found: dict[str, float] = {}
    for code, stated in codes.items():
        if (name := classes.get(code)) is not None:
            found[name] = max(found.get(name, 0.0), float(stated))
    return found


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: give the directory of PTB-XL (1.0.1 to 1.0.3), or copy its {path.name} beside the "
            "arrays."
        )
    table = pd.read_csv(path)
    if missing := [name for name in columns if name not in table.columns]:
        raise ValueError(f"{path.name}: missing column(s) {', '.join(missing)}; found {', '.join(table.columns)}.")
    return table


def _find_arrays(directory: Path) -> tuple[list[Path], list[Path]]:
    arrays = sorted(directory.glob("*.npz"))
    labels = sorted(set(directory.glob("*.csv")) - {directory / "scp_statements.csv"})
    if not arrays or not labels:
        raise FileNotFoundError(
            f"{directory} holds neither ptbxl_database.csv nor an .npz of arrays and a CSV of labels beside "
            f"scp_statements.csv (found {len(arrays)} and {len(labels)})."
        )
    return arrays, labels


# ---- selecting


def _classes_at(likelihoods: dict[str, float], threshold: float) -> set[str]:
    return {name for name, value in likelihoods.items() if value >= threshold}


def _select(records: pd.DataFrame, threshold: float, both: str) -> pd.Series:
    """ "MI", "NORM", "both" or "neither" for every record."""

    def one(likelihoods: dict[str, float]) -> str:
        found = _classes_at(likelihoods, threshold) & {"MI", "NORM"}
        if len(found) == 2:
            return "MI" if both == "mi" else "both"
        return found.pop() if found else "neither"

    return records.likelihoods.map(one)


def _selections(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Counts under other rules, so that one can see which gives which number."""
    rows = []
    for threshold in LIKELIHOODS:
        found = [_classes_at(likelihoods, threshold) for likelihoods in records.likelihoods]
        rows.append(
            {
                "likelihood": threshold,
                "mi_without_norm": sum("MI" in classes and "NORM" not in classes for classes in found),
                "mi_alone": sum(classes == {"MI"} for classes in found),
                "norm_without_mi": sum("NORM" in classes and "MI" not in classes for classes in found),
                "norm_alone": sum(classes == {"NORM"} for classes in found),
                "both": sum({"MI", "NORM"} <= classes for classes in found),
            }
        )
    return rows


def _flow(records: pd.DataFrame, chosen: pd.Series, both: str, all_records: bool) -> list[FlowEntry]:
    def entry(step: str, kind: str, reason: str, rows: pd.DataFrame, patients: int | None = None) -> FlowEntry:
        number = rows.patient_id.nunique() if patients is None else patients
        return {"step": step, "kind": kind, "reason": reason, "patients": int(number), "admissions": len(rows)}

    kept = {name: records[chosen.isin(names)] for name, names in _REMAINING.items()}
    flow = [entry("records", "start", "records of PTB-XL", records)]
    left = records
    for step, reason in (("neither", "neither MI nor NORM"), ("both", "both MI and NORM")):
        if all_records or (step == "both" and both == "mi"):
            continue
        lost = left.patient_id.nunique() - kept[step].patient_id.nunique()
        flow.append(entry(step, "excluded", reason, records[chosen == step], lost))
        left = kept[step]
    flow.append(entry("cohort", "included", "included", left))
    flow.append(entry("MI", "group", "myocardial infarction", records[chosen == "MI"]))
    flow.append(entry("NORM", "group", "normal", records[chosen == "NORM"]))
    if all_records:
        flow.append(entry("unlabelled", "group", "without a label", records[records.target.isna()]))
    return flow


_REMAINING = {"neither": ("MI", "NORM", "both"), "both": ("MI", "NORM")}
"""What is left after a step of the flow."""


# ---- writing


def _split(fold: int, validation_fold: int, test_fold: int, all_test: bool) -> str:
    if all_test or fold == test_fold:
        return "test"
    return "validation" if fold == validation_fold else "train"


def _write_manifest(included: pd.DataFrame, splits: list[str], out: Path, source: Path | None) -> None:
    """cohort.parquet; the text column age holds ">89" where PTB-XL codes 300."""
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
    columns[f"label.{TASK}"] = [None if pd.isna(target) else int(target) for target in included.target]
    with whole_file(out / "cohort.parquet") as building:
        pq.write_table(pa.table(columns), building)


def _age(value: float) -> str | None:
    if pd.isna(value):
        return None
    return ">89" if value >= OVER_89 else f"{value:g}"


def _write_records(paths: list[Path], wanted: list[int], out: Path) -> None:
    """The arrays of these records as WFDB, unit NU, one by one; what is there stays."""
    out.mkdir(parents=True, exist_ok=True)
    left = {int(number) for number in wanted}
    for path in paths:
        signals = _read_arrays(path)
        rate = next(iter(signals.values())).shape[0] / ARRAY_SECONDS
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            for name, values in _missing_records(sorted(left & signals.keys()), signals, out):
                wfdb.wrsamp(name, rate, ["NU"] * 12, list(LEADS), values, fmt=["16"] * 12, write_dir=scratch)
                for suffix in (".dat", ".hea"):  # the header last: it says that the record is whole
                    shutil.move(Path(scratch) / f"{name}{suffix}", out / f"{name}{suffix}")
        left -= signals.keys()
    if left:
        names = ", ".join(path.name for path in paths)
        raise ValueError(f"No signal of {len(left)} labelled records in {names}, for example of {min(left)}.")


def _read_arrays(path: Path) -> dict[int, np.ndarray]:
    """ecg_id -> signal (samples, 12)."""
    with np.load(path) as content:
        if missing := {"ecg_id", "signal"} - set(content.files):
            raise ValueError(f"{path.name} lacks {', '.join(sorted(missing))}; it has {', '.join(content.files)}.")
        identifiers, signal = content["ecg_id"], content["signal"]
    if signal.ndim != 3 or signal.shape[2] != len(LEADS) or not len(identifiers) == len(signal) > 0:
        raise ValueError(
            f"{path.name}: signal has the shape {signal.shape} for {len(identifiers)} ecg_id, expected "
            f"(records, samples, {len(LEADS)})."
        )
    _check_lead_order(signal, path.name)
    return {int(number): values for number, values in zip(identifiers, signal, strict=True)}


def _missing_records(wanted: list[int], signals: dict[int, np.ndarray], out: Path) -> Iterator[tuple[str, np.ndarray]]:
    for number in wanted:
        name = f"{number:05d}"
        if not (out / f"{name}.hea").is_file():
            yield name, signals[number].astype(np.float64)


def _check_lead_order(signal: np.ndarray, name: str) -> None:
    """Arrays name no leads. PTB-XL's order is that of `LEADS`; Einthoven's law shows whether they keep it.

    The limb leads are weighted sums of I and II, and filtering and scaling each lead leaves the signs of the weights:
    III -+, aVR --, aVL +-, aVF -+ (so III and aVF cannot be told apart, but each of them from the others).
    """
    signs = {"III": (-1, 1), "aVR": (-1, -1), "aVL": (1, -1), "aVF": (-1, 1)}
    for lead, wanted in signs.items():
        weights = []
        for record in signal[:50].astype(np.float64):
            weight, *_ = np.linalg.lstsq(record[:, :2], record[:, LEADS.index(lead)], rcond=None)
            weights.append(np.sign(weight))
        if tuple(np.sign(np.sum(weights, axis=0))) != wanted:
            raise ValueError(
                f"{name}: channel {LEADS.index(lead) + 1} does not follow from I and II as {lead} does: "
                f"reorder the leads to {', '.join(LEADS)}."
            )
