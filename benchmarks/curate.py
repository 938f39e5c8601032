"""Time per row and peak memory of `tgmm curate` on a generated labevents table, against pandas.

    python benchmarks/curate.py --rows 1000000 10000000 --directory scratch

Generates different laboratory rows (250 per patient) as labevents.csv.gz, with the other tables. One patient in 50 has
an ECG and an echo, and is therefore a candidate. Every measurement runs in a process of its own. Its peak resident
memory includes Python, torch and transformers ("imports" in the result). On a busy machine look at
`cpu_microseconds_per_row`, the CPU time of the process. Gzip is read by one core. 100 million rows take a quarter of an
hour to generate and 2.5 GB of disk. A directory that holds them already is used again.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pandas as pd
from measuring import argument_parser, peak_gib, write

ROWS_PER_PATIENT = 250
CANDIDATE_EVERY = 50
ITEMS = (50912, 50971, 50983, 50902, 51006, 50931, 51222, 51265, 51301, 50868, 50882, 50820, 51256, 51491, 52172)
"""Item ids: eleven that the package reads and four others, because about a quarter of real rows are others."""


def generate(directory: Path, rows: int, threads: int) -> None:
    """Write the tables of rows / 250 patients, each with an admission of five days."""
    if (directory / "done").exists():
        return
    for name in ("hosp", "ecg", "echo"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    database = duckdb.connect(config={"threads": threads, "memory_limit": "2GB", "preserve_insertion_order": False})
    items = f"[{', '.join(map(str, ITEMS))}]"
    start = "TIMESTAMP '2150-01-01 08:00:00'"
    people = (
        f"SELECT 10000000 + i AS subject_id, 20000000 + i AS hadm_id, i FROM range({rows // ROWS_PER_PATIENT}) AS r(i)"
    )
    chosen = f"SELECT * FROM ({people}) WHERE i % {CANDIDATE_EVERY} = 0"
    tables = {
        "hosp/patients.csv.gz": f"""
            SELECT subject_id, if(i % 2 = 0, 'F', 'M') AS gender, 40 + i % 50 AS anchor_age, 2150 AS anchor_year,
                '2014 - 2016' AS anchor_year_group, NULL AS dod FROM ({people})""",
        "hosp/admissions.csv.gz": f"""
            SELECT subject_id, hadm_id, {start} AS admittime, {start} + INTERVAL 5 DAYS AS dischtime FROM ({people})""",
        "hosp/diagnoses_icd.csv.gz": f"""
            SELECT hadm_id, 1 AS seq_num, if(hash(i) % 2 = 0, 'I509', 'R079') AS icd_code, 10 AS icd_version
            FROM ({people})""",
        "ecg/record_list.csv": f"""
            SELECT subject_id, i AS study_id, {start} + INTERVAL 1 DAY AS ecg_time, 'files/' || i AS path
            FROM ({chosen})""",
        "echo/echo-record-list.csv": f"""
            SELECT subject_id, i AS study_id, {start} + INTERVAL 2 DAYS AS acquisition_datetime,
                'files/' || i || '.dcm' AS dicom_filepath FROM ({chosen})""",
        "hosp/labevents.csv.gz": f"""
            SELECT i AS labevent_id, 10000000 + i // {ROWS_PER_PATIENT} AS subject_id,
                if(i % 4 = 0, NULL, 20000000 + i // {ROWS_PER_PATIENT}) AS hadm_id, i AS specimen_id,
                ({items})[1 + (hash(i) % {len(ITEMS)})::INTEGER] AS itemid, NULL AS order_provider_id,
                {start} + to_minutes((hash(i + 1) % 7200)::BIGINT) AS charttime,
                charttime + INTERVAL 1 HOUR AS storetime, round(1 + (hash(i + 2) % 10000) / 1000, 2)::VARCHAR AS value,
                value::DOUBLE AS valuenum, '' AS valueuom, 0.5 AS ref_range_lower, 1.2 AS ref_range_upper,
                NULL AS flag, 'STAT' AS priority, '___' AS comments
            FROM range({rows}) AS r(i)""",
    }
    for name, query in tables.items():
        if name.endswith(".gz"):
            write_compressed(database, query, directory / name)
        else:
            database.execute(f"COPY ({query}) TO '{directory / name}' (HEADER)")
    (directory / "done").touch()


def write_compressed(database: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write a CSV file through a `gzip -1` process, because DuckDB's own compression takes several times as long."""
    with path.open("wb") as file, subprocess.Popen(["gzip", "-1"], stdin=subprocess.PIPE, stdout=file) as gzip:
        assert gzip.stdin is not None
        pipe = f"/dev/fd/{gzip.stdin.fileno()}"
        database.execute(f"COPY ({query}) TO '{pipe}' (FORMAT csv, HEADER, USE_TMP_FILE false)")
        gzip.stdin.close()


def run_curate(directory: Path, threads: int) -> float:
    """Measure the seconds of `curate` without imports."""
    from tgmm_hf.cohorts.mimic.cohort import curate

    start = time.perf_counter()
    curate(
        directory,
        directory / "out",
        mimic_ecg=directory / "ecg",
        mimic_echo=directory / "echo",
        memory="2GB",
        threads=threads,
    )
    return time.perf_counter() - start


def run_pandas(directory: Path, threads: int) -> float:
    """Measure the laboratory step in pandas: read, filter by item, candidate and time, take the last value."""
    from tgmm_hf.cohorts.mimic.rules import read_lab_items

    start = time.perf_counter()
    columns = ["labevent_id", "subject_id", "itemid", "charttime", "storetime", "valuenum"]
    rows = pd.read_csv(directory / "hosp" / "labevents.csv.gz", usecols=columns, parse_dates=["charttime", "storetime"])
    candidates = set(pd.read_csv(directory / "ecg" / "record_list.csv").subject_id)
    items = {item["itemid"] for item in read_lab_items(None)}
    rows = rows[rows.itemid.isin(items) & rows.subject_id.isin(candidates)]
    rows = rows[rows.charttime <= pd.Timestamp("2150-01-03 08:00:00")].sort_values(
        ["charttime", "storetime", "labevent_id"]
    )
    rows.groupby(["subject_id", "itemid"]).valuenum.last()
    return time.perf_counter() - start


def run_imports(directory: Path, threads: int) -> float:
    """Measure the seconds of the imports alone."""
    start = time.perf_counter()
    import tgmm_hf.cohorts.mimic  # noqa: F401

    return time.perf_counter() - start


RUNS = {"curate": run_curate, "pandas": run_pandas, "imports": run_imports}


def measure(what: str, directory: Path, threads: int, rows: int) -> dict[str, float]:
    """Run one of `RUNS` in its own process. Return seconds, microseconds per row (wall and CPU) and peak GiB."""
    command = [sys.executable, __file__, "--measure", what, "--directory", str(directory), "--threads", str(threads)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, cpu_seconds, gibibytes = json.loads(output.splitlines()[-1])
    return {
        "seconds": round(seconds, 1),
        "microseconds_per_row": round(1e6 * seconds / rows, 2),
        "cpu_microseconds_per_row": round(1e6 * cpu_seconds / rows, 2),
        "peak_gib": round(gibibytes, 2),
    }


def main() -> None:
    """Measure every number of rows and print one line for each."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000], help="numbers of rows"
    )
    parser.add_argument(
        "--directory", type=Path, required=True, help="directory to write; tables that are there are used again"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of DuckDB (default 2)")
    parser.add_argument("--pandas-up-to", type=int, default=10_000_000, help="largest number of rows for pandas")
    parser.add_argument("--measure", choices=tuple(RUNS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:  # this process was started by `measure`
        run_imports(arguments.directory, arguments.threads)
        cpu_before = time.process_time()
        seconds = RUNS[arguments.measure](arguments.directory, arguments.threads)
        cpu_seconds = time.process_time() - cpu_before
        write([seconds, cpu_seconds, peak_gib()])
        return
    imports = measure("imports", arguments.directory, arguments.threads, 1)
    write({"imports_peak_gib": imports["peak_gib"], "duckdb": duckdb.__version__})
    previous = None
    for rows in arguments.rows:
        directory = arguments.directory / str(rows)
        generate(directory, rows, arguments.threads)
        curate = measure("curate", directory, arguments.threads, rows)
        result: dict[str, object] = {"rows": rows, "curate": curate}
        if rows <= arguments.pandas_up_to:
            result["pandas"] = measure("pandas", directory, arguments.threads, rows)
        if previous is not None:
            names = ("microseconds_per_row", "cpu_microseconds_per_row")
            result["over_previous"] = {name: round(curate[name] / previous[name], 2) for name in names}
        previous = curate
        write(result)


if __name__ == "__main__":
    main()
