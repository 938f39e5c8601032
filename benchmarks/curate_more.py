"""Seconds, CPU seconds and peak memory of `tgmm curate-more` on generated tables of MIMIC's size.

    python benchmarks/curate_more.py --directory scratch

Generates random tables: as many X-ray studies and ECGs as MIMIC-CXR-JPG and MIMIC-IV-ECG have, times `--share`. There
are no reports, so all notes of X-rays are made from labels. On real files the reading of the reports comes on top. A
directory that holds the tables already is used again.
"""

import time
from pathlib import Path

import duckdb
from measuring import argument_parser, peak_gib, write

from tgmm_hf.cohorts.mimic_cxr.curate_more import MoreSources, curate_more
from tgmm_hf.cohorts.mimic_cxr.steps import MoreRules
from tgmm_hf.cohorts.mimic_cxr.tables import FINDINGS

PATIENTS, STUDIES, ECGS = 65_000, 228_000, 800_000
"""Rounded numbers of the two data sets."""
DAYS = 1500
"""Days over which X-rays and ECGs of a patient are spread."""


def generate(directory: Path, share: float) -> None:
    """Write the tables. Some patients have many studies and ECGs, most have few."""
    if (directory / "done").exists():
        return
    for name in ("cxr", "ecg"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    database = duckdb.connect()
    database.execute("SELECT setseed(0.5)")
    subject = f"10000000 + floor(power(random(), 2) * {int(PATIENTS * share)})::BIGINT AS subject_id"
    database.execute(
        f"CREATE TABLE studies AS SELECT 50000000 + i AS study_id, {subject}, "
        f"DATE '2150-01-01' + (random() * {DAYS})::INTEGER AS day FROM range({int(STUDIES * share)}) AS r(i)"
    )
    database.execute(
        "CREATE TABLE images AS SELECT md5(study_id::VARCHAR || k) AS dicom_id, subject_id, study_id, "
        "CASE k WHEN 0 THEN 'AP' ELSE 'LATERAL' END AS ViewPosition, strftime(day, '%Y%m%d') AS StudyDate, "
        "'101112.5' AS StudyTime FROM studies, range(2) AS r(k) WHERE k = 0 OR random() < 0.65"
    )
    labels = ", ".join(
        f'CASE WHEN random() < 0.2 THEN 1.0 WHEN random() < 0.1 THEN -1.0 WHEN random() < 0.2 THEN 0.0 END AS "{name}"'
        for name in FINDINGS
    )
    split = "CASE subject_id % 100 WHEN 0 THEN 'test' WHEN 1 THEN 'validate' ELSE 'train' END AS split"
    database.execute(
        f"CREATE TABLE ecgs AS SELECT 40000000 + i AS study_id, {subject}, TIMESTAMP '2150-01-01' + "
        f"to_seconds(random() * {DAYS} * 86400) AS ecg_time FROM range({int(ECGS * share)}) AS r(i)"
    )
    tables = {
        "cxr/mimic-cxr-2.0.0-metadata.csv.gz": "SELECT * FROM images",
        "cxr/mimic-cxr-2.0.0-split.csv.gz": f"SELECT dicom_id, study_id, subject_id, {split} FROM images",
        "cxr/mimic-cxr-2.0.0-chexpert.csv.gz": f"SELECT subject_id, study_id, {labels} FROM studies",
        "ecg/record_list.csv": "SELECT subject_id, study_id, study_id AS file_name, ecg_time, 'files/p' || "
        "left(subject_id::VARCHAR, 4) || '/p' || subject_id || '/s' || study_id || '/' || study_id AS path FROM ecgs",
        "ecg/machine_measurements.csv": "SELECT subject_id, study_id, ecg_time, 'Sinus rhythm' AS report_0, "
        "'Left axis deviation' AS report_1, 'Abnormal ECG' AS report_2 FROM ecgs",
    }
    for name, query in tables.items():
        database.execute(f"COPY ({query}) TO '{directory / name}' (HEADER)")
    (directory / "done").touch()


def main() -> None:
    """Measure all pairs, and print one line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="directory to write")
    parser.add_argument("--share", type=float, default=1.0, help="share of MIMIC's size (default 1)")
    parser.add_argument("--pairs", choices=("all", "nearest"), default="all", help="as for the command (default all)")
    arguments = parser.parse_args()
    generate(arguments.directory, arguments.share)
    sources = MoreSources(arguments.directory / "cxr", arguments.directory / "ecg")
    start, cpu = time.perf_counter(), time.process_time()
    summary = curate_more(sources, arguments.directory / "out", MoreRules(pairs=arguments.pairs), threads=2)
    write(
        {
            "pairs": summary["counts"]["pairs"],
            "xrays": sum(summary["counts"]["views"].values()),
            "seconds": round(time.perf_counter() - start, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "peak_gib": round(peak_gib(), 2),
        }
    )


if __name__ == "__main__":
    main()
