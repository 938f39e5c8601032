"""A small MIMIC-CXR-JPG, its reports and a small MIMIC-IV-ECG, as PhysioNet ships them, for tests."""

import csv
import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tgmm_hf.cohorts.mimic_cxr.tables import FINDINGS

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old with cough at 09:15

 COMPARISON:  None.

 FINDINGS:

 PA AND LATERAL VIEWS OF THE CHEST:  The heart is enlarged.  There is no
 effusion.

 IMPRESSION:

 Cardiomegaly.  Findings were called to Dr. ___ at 3:45 p.m. by Dr. ___.

 NOTIFICATION:  Seen by the ward.
"""
METADATA = ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime")
ECG_LIST = ("subject_id", "study_id", "file_name", "ecg_time", "path")
MACHINE = ("subject_id", "study_id", "cart_id", "ecg_time", "report_0", "report_1", "report_17")
SPLIT = ("dicom_id", "study_id", "subject_id", "split")


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)


def xray(
    dicom: str, subject: int, study: int, date: str = "21800506", view: str = "PA", time: str = ""
) -> dict[str, Any]:
    values = (dicom, subject, study, view, 2544, 3056, date, time)
    return dict(zip(METADATA, values, strict=True))


def ecg(subject: int, study: int, time: str, path: str | None = None) -> dict[str, Any]:
    path = path or f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"
    return dict(zip(ECG_LIST, (subject, study, study, time, path), strict=True))


def write_cxr(
    out: Path,
    xrays: list[dict[str, Any]],
    splits: Mapping[str, str],
    labels: Mapping[int, Mapping[str, Any]],
    reports: Mapping[tuple[int, int], str],
) -> Path:
    """The tables and reports. `splits`: image -> split. `labels`: study -> column -> cell."""
    subjects = {row["study_id"]: row["subject_id"] for row in xrays}
    write_csv(out / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA, xrays)
    rows = [
        {"dicom_id": row["dicom_id"], "study_id": row["study_id"], "subject_id": row["subject_id"], "split": split}
        for row in xrays
        if (split := splits.get(row["dicom_id"]))
    ]
    write_csv(out / "mimic-cxr-2.0.0-split.csv.gz", SPLIT, rows)
    rows = [{"subject_id": subjects[study], "study_id": study, **cells} for study, cells in labels.items()]
    write_csv(out / "mimic-cxr-2.0.0-chexpert.csv.gz", ("subject_id", "study_id", *FINDINGS), rows)
    for (subject, study), text in reports.items():
        path = out / f"files/p{str(subject)[:2]}/p{subject}/s{study}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return out


def write_ecg_lists(out: Path, ecgs: list[dict[str, Any]], machine: list[dict[str, Any]]) -> Path:
    write_csv(out / "record_list.csv", ECG_LIST, ecgs)
    write_csv(out / "machine_measurements.csv", MACHINE, machine)
    return out
