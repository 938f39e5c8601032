"""Chest X-rays of a synthetic cohort in the layout of MIMIC-CXR-JPG, with reports in the layout of MIMIC-CXR.

OUT/cxr/files/p10/p10000032/s50414267/DICOM_ID.jpg          the pictures, grey
OUT/cxr/files/p10/p10000032/s50414267.txt                   the report of the study
OUT/cxr/mimic-cxr-2.0.0-{metadata,chexpert,split}.csv.gz    the tables
OUT/truth/xray.parquet, xray_regions.parquet                what was drawn, and where
OUT/xray_bayes.json                                         the optimum
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from tgmm_hf.cohorts.synthetic.bayes import make_grid
from tgmm_hf.cohorts.synthetic.evidence import EVIDENCE, Evidence, stream
from tgmm_hf.cohorts.synthetic.hospital import Identity
from tgmm_hf.cohorts.synthetic.layout import TableWriter, finite
from tgmm_hf.cohorts.synthetic.patients import Settings, patient_identity, patient_labs
from tgmm_hf.cohorts.synthetic.planted_xray import SHAPES, picture_source, xray_regions
from tgmm_hf.cohorts.synthetic.render_xray import apparent_ratio, render_xray
from tgmm_hf.cohorts.synthetic.render_xray_lateral import render_lateral
from tgmm_hf.cohorts.synthetic.worker_processes import drawing_processes
from tgmm_hf.cohorts.synthetic.xray_bayes import (
    figures,
    posterior,
    scores_from_xrays,
    xray_factors,
    xray_population_figures,
)
from tgmm_hf.cohorts.synthetic.xray_evidence import (
    XRAY_LATERAL,
    XRAY_PLAN,
    XRAY_WORDS,
    XrayEvidence,
    draw_patient_xray,
    shown_of,
    stack_xrays,
)
from tgmm_hf.cohorts.synthetic.xray_report import CHEXPERT_NAMES, write_report
from tgmm_hf.utils.files import whole_file, write_json, write_text

XRAY_NAMES = ("cxr", "truth", "xray_bayes.json")
"""What the X-rays of a cohort are written as."""
XRAY_RATE, EARLIER_RATE, LATERAL_RATE = 0.92, 0.15, 0.8
"""Share of patients with an X-ray; of these, with an earlier study too; of PA pictures, with a lateral one too."""
EARLIER_DAYS = (70, 400)
"""Days between the earlier study and the ECG. MoRE pairs what lies at most 60 days apart."""
JPEG_QUALITY = 92
CORRUPT_PERIOD, CORRUPT_FIRST = 300, 62
"""Patient 62 of every 300 has a corrupt file: it ends inside the picture. The rule does not depend on the state."""
CORRUPT_BYTES = 4000
SPLIT_NAMES = {"train": "train", "validation": "validate", "test": "test"}
PREFIX = "cxr/mimic-cxr-2.0.0-"
COLUMNS = {
    f"{PREFIX}metadata.csv.gz": "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,"
    "Columns,StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
    "PatientOrientationCodeSequence_CodeMeaning",
    f"{PREFIX}split.csv.gz": "dicom_id,study_id,subject_id,split",
    f"{PREFIX}chexpert.csv.gz": "subject_id,study_id," + ",".join(CHEXPERT_NAMES),
}
VIEW_TEXTS = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral", "LL": "left lateral"}


@dataclass(frozen=True)
class Picture:
    """One file of a study: its name without suffix, and its view as MIMIC-CXR-JPG states it."""

    dicom_id: str
    view: str


@dataclass(frozen=True)
class XrayStudy:
    """One study of a patient.

    Attributes:
        number: 0 for the study beside the ECG, 1 for an earlier one.
        study_id: Number of the study.
        when: Time of the study.
        pictures: The frontal picture, and the lateral one if the study has it.
    """

    number: int
    study_id: int
    when: datetime
    pictures: tuple[Picture, ...]


def xray_studies(settings: Settings, index: int, who: Identity) -> list[XrayStudy]:
    """List the X-ray studies of patient number `index`. Nothing here depends on the state.

    The list is empty for a patient without an X-ray.
    """
    rng = stream(settings.seed, index, XRAY_PLAN)
    has_xray, has_earlier = rng.random() < XRAY_RATE, rng.random() < EARLIER_RATE
    hours, days, draws = rng.uniform(-20, 20), rng.uniform(*EARLIER_DAYS), rng.random((2, 2))
    times = [who.ecg_time + timedelta(hours=float(hours)), who.ecg_time - timedelta(days=float(days))]
    place, studies = who.subject - 10_000_000, []
    for number in range((1 + has_earlier) if has_xray else 0):
        table = draw_patient_xray(settings.seed, index, settings.evidence, number)
        views = ["AP" if table.is_ap[0] else "PA"]
        if not table.is_ap[0] and draws[number, 0] < LATERAL_RATE:
            views.append("LATERAL" if draws[number, 1] < 0.8 else "LL")
        study_id = 50_000_000 + number * 10_000_000 + place
        pictures = tuple(Picture(picture_name(settings.seed, study_id, view), view) for view in views)
        studies.append(XrayStudy(number, study_id, times[number], pictures))
    return studies


def picture_name(seed: int, study_id: int, view: str) -> str:
    """Make the name of a picture, five groups of eight hexadecimal digits. Equal arguments give the same name."""
    digest = hashlib.sha256(f"{seed}/{study_id}/{view}".encode()).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


def study_path(subject: int, study: int) -> str:
    """Return the path of a study below `cxr/`, without the suffix of its report, as in MIMIC-CXR."""
    return f"files/p{str(subject)[:2]}/p{subject}/s{study}"


def is_corrupt(index: int) -> bool:
    """Tell whether the frontal picture of patient number `index` is damaged on purpose."""
    return index % CORRUPT_PERIOD == CORRUPT_FIRST


@dataclass
class PatientRows:
    """Rows of the tables for one patient: table -> rows."""

    metadata: list[dict[str, object]]
    labels: list[dict[str, object]]
    truth: list[dict[str, object]]
    regions: list[dict[str, object]]
    evidence: list[XrayEvidence]


def write_xrays(out: Path, settings: Settings, table: Evidence, splits: list[str], workers: int) -> None:
    """Write the chest X-rays of a cohort below `out`: pictures, reports, tables, truth and optimum.

    Args:
        out: Directory of the cohort.
        settings: Settings of the cohort.
        table: Evidence of all patients.
        splits: Split of each patient.
        workers: Number of worker processes.
    """
    patients = len(table)
    jobs = ((out, settings, index) for index in range(patients))
    with drawing_processes(workers) as pool:
        chunk = max(1, min(8, patients // workers))
        rendered = pool.map(write_patient_xrays, jobs, chunksize=chunk)
        rows = list(tqdm(rendered, total=patients, desc="X-rays", unit="patient"))
    write_xray_tables(out, rows, splits)
    write_xray_truth(out, settings, rows, splits)
    write_xray_optimum(out, settings, table, splits)


def write_patient_xrays(job: tuple[Path, Settings, int]) -> PatientRows:
    """Write pictures and reports of one patient that do not exist yet: `job` is (out, settings, number)."""
    out, settings, index = job
    who = patient_identity(settings, index)
    rows = PatientRows([], [], [], [], [])
    for study in xray_studies(settings, index, who):
        table = draw_patient_xray(settings.seed, index, settings.evidence, study.number)
        path = study_path(who.subject, study.study_id)
        rows.metadata += write_pictures(out / "cxr" / path, settings, index, study)
        ids = {"subject_id": who.subject, "study_id": study.study_id}
        views = "CHEST (PA AND LAT)" if len(study.pictures) == 2 else f"CHEST ({study.pictures[0].view})"
        text, labels = write_report(table, stream(settings.seed, index, XRAY_WORDS + study.number), views)
        write_text(out / "cxr" / f"{path}.txt", text)
        rows.labels.append({**ids, **{name: "" if v is None else f"{v:.1f}" for name, v in labels.items()}})
        picture = {**ids, "dicom_id": study.pictures[0].dicom_id}
        rows.evidence.append(table)
        rows.truth.append({**picture, **truth_of(settings, index, study, table)})
        for region in xray_regions(settings, index, study.number):
            x0, y0, x1, y1 = region.box
            entry = {"region": region.name, "finding": region.finding, "is_drawn": region.is_drawn}
            rows.regions.append({**picture, **entry, "x0": x0, "y0": y0, "x1": x1, "y1": y1})
    return rows


def write_pictures(directory: Path, settings: Settings, index: int, study: XrayStudy) -> list[dict[str, object]]:
    """Write the pictures of a study that do not exist yet, and return their rows of the metadata."""
    rows = []
    is_female = patient_labs(settings, index).gender == "F"
    for picture in study.pictures:
        is_frontal, is_ap = picture.view in ("PA", "AP"), picture.view == "AP"
        shape = SHAPES[is_ap]
        target = directory / f"{picture.dicom_id}.jpg"
        if not target.exists():
            if is_frontal:
                shown = shown_of(draw_patient_xray(settings.seed, index, settings.evidence, study.number))
                pixels = render_xray(shown, picture_source(settings, index, study.number), is_ap, is_female, shape)
            else:
                pixels = render_lateral(stream(settings.seed, index, XRAY_LATERAL + study.number), shape)
            content = encode(pixels)
            with whole_file(target) as building:
                building.write_bytes(content[:CORRUPT_BYTES] if is_corrupt(index) and is_frontal else content)
        rows.append(metadata_row(picture, study, shape))
    return rows


def encode(pixels: np.ndarray) -> bytes:
    """Encode grey values (height, width) uint8 as the bytes of a JPEG file."""
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def metadata_row(picture: Picture, study: XrayStudy, shape: tuple[int, int]) -> dict[str, object]:
    """Make the row of a picture in the metadata of MIMIC-CXR-JPG."""
    text = "CHEST (PORTABLE AP)" if picture.view == "AP" else "CHEST (PA AND LAT)"
    return {
        "dicom_id": picture.dicom_id,
        "study_id": study.study_id,
        "PerformedProcedureStepDescription": text,
        "ViewPosition": picture.view,
        "Rows": shape[0],
        "Columns": shape[1],
        "StudyDate": f"{study.when:%Y%m%d}",
        "StudyTime": f"{study.when:%H%M%S}.000",
        "ProcedureCodeSequence_CodeMeaning": text,
        "ViewCodeSequence_CodeMeaning": VIEW_TEXTS[picture.view],
        "PatientOrientationCodeSequence_CodeMeaning": "Erect" if picture.view != "AP" else "",
    }


def truth_of(settings: Settings, index: int, study: XrayStudy, table: XrayEvidence) -> dict[str, object]:
    """Return what the frontal picture of a study shows."""
    shown = shown_of(table)
    drawn = asdict(shown) | {"effusion_right": shown.effusions[0], "effusion_left": shown.effusions[1]}
    del drawn["effusions"]
    return {
        "id": str(patient_identity(settings, index).hadm),
        "is_index_study": study.number == 0,
        "view": study.pictures[0].view,
        "anomaly": "corrupt_xray" if is_corrupt(index) else None,
        "apparent_ratio": apparent_ratio(shown, bool(table.is_ap[0])),
        **drawn,
    }


def write_xray_tables(out: Path, rows: list[PatientRows], splits: list[str]) -> None:
    """Write metadata, labels and split below `out`/cxr, patient by patient."""
    for name, columns in COLUMNS.items():
        with whole_file(out / name) as building:
            table = TableWriter(building, columns.split(","), name.endswith(".gz"))
            for patient, split in zip(rows, splits, strict=True):
                for row in _table_rows(name, patient, split):
                    table.add(**row)
            table.close()


def _table_rows(name: str, patient: PatientRows, split: str) -> list[dict[str, object]]:
    """Return the rows of one patient in a table of `COLUMNS`."""
    if name.endswith("chexpert.csv.gz"):
        return patient.labels
    subjects = {row["study_id"]: row["subject_id"] for row in patient.labels}
    pictures = [{**row, "subject_id": subjects[row["study_id"]]} for row in patient.metadata]
    if name.endswith("metadata.csv.gz"):
        return pictures
    keys = ("dicom_id", "study_id", "subject_id")
    return [{**{key: row[key] for key in keys}, "split": SPLIT_NAMES[split]} for row in pictures]


def write_xray_truth(out: Path, settings: Settings, rows: list[PatientRows], splits: list[str]) -> None:
    """Write `out`/truth/xray.parquet (a row for each study) and xray_regions.parquet (a row for each region).

    The first holds the best scores that each picture allows: the posterior of heart failure, and the log odds of each
    label.
    """
    truth = [{**row, "split": split} for patient, split in zip(rows, splits, strict=True) for row in patient.truth]
    if truth:
        xrays = stack_xrays([table for patient in rows for table in patient.evidence])
        grid = make_grid(EVIDENCE[settings.evidence])
        scores = {"posterior.xray": posterior(grid, [xray_factors(xrays, grid)])}
        scores |= {f"score.{name}": values for name, values in scores_from_xrays(xrays).items()}
        truth = [row | {name: float(v[k]) for name, v in scores.items()} for k, row in enumerate(truth)]
    regions = [row for patient in rows for row in patient.regions]
    for name, content in (("xray", truth), ("xray_regions", regions)):
        with whole_file(out / "truth" / f"{name}.parquet") as building:
            pq.write_table(pa.Table.from_pylist(content), building)


def write_xray_optimum(out: Path, settings: Settings, table: Evidence, splits: list[str]) -> None:
    """Write `out`/xray_bayes.json: the optimum on the test patients with an X-ray, and on a large sample.

    The studies beside the ECG count. A corrupt picture counts as no X-ray.
    """
    rows = [
        index
        for index, split in enumerate(splits)
        if split == "test"
        and not is_corrupt(index)
        and xray_studies(settings, index, patient_identity(settings, index))
    ]
    on_test = {}
    if rows:
        xrays = stack_xrays([draw_patient_xray(settings.seed, index, settings.evidence) for index in rows])
        on_test = figures(table.take(np.array(rows)), xrays, settings.evidence)
    content = {
        "evidence": settings.evidence,
        "seed": settings.seed,
        "patients": len(table),
        "note": "synthetic evidence: no clinical meaning; figures beside n are on the test split of this cohort",
        **on_test,
        "population": xray_population_figures(settings.evidence),
    }
    write_json(out / "xray_bayes.json", finite(content))
