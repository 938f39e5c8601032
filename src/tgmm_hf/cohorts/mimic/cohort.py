"""`tgmm curate`: tables -> SQL steps -> cohort.parquet, flow, table 1, splits, record.

The steps are the files of `sql/`, in the order of their names; this module loads the tables, sets the rules as SQL
variables, runs the steps in a DuckDB database on disk with a memory limit, and writes what they leave.

    OUT/cohort.parquet     the manifest (docs/manifest.md)
    OUT/splits.csv         every split, by patient; kept by later runs
    OUT/flow.json, flow.svg, table1.csv, anomalies.csv (with the file checks)
    OUT/curate.sql         the SQL that was run
    OUT/curate.json        rules, input files with sha256, counts, hash of the rows, versions; written last
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.cohorts.flow import EVENTS, NO_CLIP, FlowEntry, check_flow, count_flow, draw_flow
from tgmm_hf.cohorts.mimic.anomalies import check_clips, check_ecgs
from tgmm_hf.cohorts.mimic.rules import CurateRules, read_hf_codes, read_lab_items
from tgmm_hf.cohorts.mimic.table1 import table_one
from tgmm_hf.cohorts.splits import read_splits, split_patients, write_splits
from tgmm_hf.cohorts.tables import file_digest, find_tables, load_tables, run_sql
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.inputs.lab_columns import COLUMNS, LabColumn, unit_factor
from tgmm_hf.utils.files import whole_file

TASK, RISK_TASK = "hf_diagnosis", "hf_risk"
SQL = sorted(path.name for path in files("tgmm_hf.cohorts.mimic").joinpath("sql").iterdir())


def curate(
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
    """Build the cohort of `rules` from MIMIC's tables.

    Args:
        mimic_iv: MIMIC-IV (2.2 to 3.1): the directory with `hosp`, or `hosp` itself.
        out: directory of the result; never one whose cohort.parquet something else wrote.
        mimic_ecg: MIMIC-IV-ECG; without it stays need no ECG.
        mimic_echo: MIMIC-IV-ECHO (0.1, 1.0.x); without it stays need no echo.
        rules: see `CurateRules`.
        views: CSV with the columns dicom_filepath (as in echo-record-list.csv) and view.
        splits: split file to take; `out`/splits.csv when None. An existing file is kept, never drawn anew.
        check_files: read the ECG and echo files of every candidate and exclude what is anomalous.
        root: where the table's paths start; `out` when None.
        memory: limit of DuckDB's buffers, for example "2GB"; what does not fit goes to disk, below `out`.
        threads: DuckDB's; all cores when None.
        workers: processes of the file checks.

    Returns:
        The content of curate.json.

    Raises:
        FileNotFoundError: a required table is missing.
        ValueError: a table, code list or rule cannot be used, or nothing is left.
        FileExistsError: `out` holds a cohort that `curate` did not write.
    """
    rules, out = rules or CurateRules(), Path(out)
    if (out / "cohort.parquet").exists() and not (out / "curate.sql").exists():
        raise FileExistsError(f"{out} holds a cohort.parquet that `tgmm curate` did not write: choose another --out.")
    sources = {"mimic_iv": Path(mimic_iv), "mimic_ecg": _path(mimic_ecg), "mimic_echo": _path(mimic_echo)}
    tables = find_tables(sources)
    out.mkdir(parents=True, exist_ok=True)
    base = out if root is None else Path(root)
    with tempfile.TemporaryDirectory(prefix=".curate-", dir=out) as scratch:
        database = _open(Path(scratch), memory, threads)
        built = _build(database, tables, sources, rules, views, base, workers if check_files else None)
        database.close()
    (out / "curate.json").unlink(missing_ok=True)  # of an earlier run: it would not fit what is written now
    _write_text(out / "flow.json", json.dumps(built.flow, indent=1) + "\n")
    if built.cohort.empty:
        raise ValueError(f"No admission is left; see which step excluded them in {out / 'flow.json'}.")
    split_file = out / "splits.csv" if splits is None else Path(splits)
    kept = split_file.is_file()
    cohort = _with_split(built.cohort, split_file, rules)
    _write_results(out, cohort, built, check_files)
    record = {
        "data_hash": read_cohort_table(out / "cohort.parquet", root=base).digest(),
        "rules": asdict(rules),
        "check_files": check_files,
        "counts": _counts(cohort),
        "split_file": {"name": split_file.name, "kept": kept, "sha256": file_digest(split_file)},
        "inputs": {
            name: {"file": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)}
            for name, path in tables.items()
            if path is not None
        },
        "absent_tables": [name for name, path in tables.items() if path is None],
        "lab_results": built.lab_counts,
        **built.list_differences,
        "anomalies": built.anomalies.reason.value_counts().to_dict(),
        "versions": {name: version(name) for name in ("tgmm-hf", "duckdb", "iterative-stratification")},
    }
    _write_text(out / "curate.json", json.dumps(record, indent=1) + "\n")
    return record


@dataclass(frozen=True)
class _Built:
    """What the SQL steps leave."""

    cohort: pd.DataFrame  # still without its split
    excluded: pd.DataFrame  # patient_id, age, gender, ethnicity, prevalent of the stays that were excluded
    flow: list[FlowEntry]
    anomalies: pd.DataFrame
    lab_counts: list[dict[str, Any]]
    list_differences: dict[str, list[int]]
    script: list[str]


def _build(
    database: duckdb.DuckDBPyConnection,
    tables: Mapping[str, Path | None],
    sources: Mapping[str, Path | None],
    rules: CurateRules,
    views: str | Path | None,
    base: Path,
    workers: int | None,
) -> _Built:
    """Run the steps; with `workers`, the file checks before the decisions."""
    script = [load_tables(database, tables), _set_rules(database, rules, sources), _load_lists(database, rules, views)]
    for name in SQL:
        if name == "05_lab_cells.sql":
            script.append(_load_units(database))
        if name == "10_decisions.sql":
            anomalies = _no_anomalies() if workers is None else _check_files(database, rules, sources, workers)
            _register(database, "anomalous_stays", anomalies[anomalies.stay].rename(columns={"id": "hadm_id"}))
            clips = anomalies[~anomalies.stay].rename(columns={"item": "dicom_filepath"})
            _register(database, "anomalous_clips", clips)
        script.append(_run_step(database, name))
    flow = count_flow(database, rules, sources, workers is not None)
    check_flow(flow)
    excluded = database.execute(
        "SELECT s.subject_id::VARCHAR AS patient_id, s.age, s.gender, s.race AS ethnicity, h.prevalent::INTEGER AS "
        "prevalent FROM decisions AS d JOIN stays AS s USING (hadm_id) JOIN hf_status AS h USING (hadm_id) "
        "WHERE d.step <> 'included'"
    ).df()
    return _Built(
        cohort=_cohort_frame(database, sources, base),
        excluded=excluded,
        flow=flow,
        anomalies=anomalies,
        lab_counts=database.execute("SELECT * FROM lab_counts").df().to_dict("records"),
        list_differences=_list_differences(database),
        script=script,
    )


def _with_split(cohort: pd.DataFrame, split_file: Path, rules: CurateRules) -> pd.DataFrame:
    """The cohort with the column `split`, from the file if there is one, else drawn and written to it."""
    if split_file.is_file():
        splits = read_splits(split_file, cohort.patient_id)
    else:
        splits = write_splits(_draw(cohort, rules), split_file)
    place = list(cohort.columns).index("patient_id") + 1
    with_split = cohort.copy()
    with_split.insert(place, "split", _split_column(cohort, splits, rules))
    return with_split


def _write_results(out: Path, cohort: pd.DataFrame, built: _Built, check_files: bool) -> None:
    _write_text(out / "curate.sql", "\n".join(built.script))  # first: it marks the directory as curate's
    _write_parquet(cohort, out / "cohort.parquet")
    _write_with(out / "flow.svg", lambda path: draw_flow(built.flow, path))
    table = table_one(cohort, built.excluded)
    _write_text(out / "table1.csv", table.to_csv(index=False, lineterminator="\n"))
    if check_files:
        listed = built.anomalies[["id", "item", "reason"]]
        _write_text(out / "anomalies.csv", listed.to_csv(index=False, lineterminator="\n"))


def summary_text(out: Path, record: Mapping[str, Any]) -> str:
    """Flow and counts as `curate` prints them; numbers only."""
    lines = []
    for entry in json.loads((out / "flow.json").read_text()):
        sign = "-" if entry["kind"] == "excluded" else "="
        lines.append(f"{sign} {entry['admissions']:>9,} admissions {entry['patients']:>9,} patients  {entry['reason']}")
    kept = "kept" if record["split_file"]["kept"] else "drawn"
    counts = ", ".join(f"{split} {number}" for split, number in record["counts"]["splits"].items())
    return "\n".join([*lines, f"splits ({kept}): {counts} admissions"])


# ---- the database


def _open(scratch: Path, memory: str, threads: int | None) -> duckdb.DuckDBPyConnection:
    settings: dict[str, Any] = {
        "temp_directory": str(scratch),
        "memory_limit": memory,
        "preserve_insertion_order": False,
    }
    if threads is not None:
        settings["threads"] = threads
    return duckdb.connect(str(scratch / "curate.duckdb"), config=settings)


def _run_step(database: duckdb.DuckDBPyConnection, name: str) -> str:
    text = files("tgmm_hf.cohorts.mimic").joinpath("sql", name).read_text(encoding="utf-8")
    run_sql(database, text, f"step {name}")
    return f"-- ==== {name}\n{text}"


def _set_rules(database: duckdb.DuckDBPyConnection, rules: CurateRules, sources: Mapping[str, Path | None]) -> str:
    """Rules as SQL variables of the same names."""
    values = asdict(rules)
    values |= {"need_ecg": sources["mimic_ecg"] is not None, "need_echo": sources["mimic_echo"] is not None}
    lines = []
    for name, value in values.items():
        literal = "NULL" if value is None else "'" + value.replace("'", "''") + "'" if isinstance(value, str) else value
        lines.append(f"SET VARIABLE {name} = {str(literal) if value is not None else 'NULL::DOUBLE'};")
        database.execute(lines[-1])
    return "\n".join(lines) + "\n"


def _load_lists(database: duckdb.DuckDBPyConnection, rules: CurateRules, views: str | Path | None) -> str:
    """Code sets, laboratory items with their columns' limits, and views, as tables; returns them as comments."""
    codes = read_hf_codes(rules.hf_codes)
    answers = [*codes, *read_hf_codes("strict"), *read_hf_codes("broad")]
    items = read_lab_items(rules.lab_items)
    columns = _lab_columns([item["lab_column"] for item in items])
    limits = [
        {
            "lab_column": column.name,
            "lowest": column.plausible[0],
            "highest": column.plausible[1],
            "may_be_negative": column.plausible[0] < 0,
        }
        for column in columns
        if column.plausible is not None
    ]
    _register(database, "hf_codes", pd.DataFrame(codes).drop_duplicates())
    _register(database, "answer_codes", pd.DataFrame(answers).drop_duplicates())
    _register(database, "lab_items", pd.DataFrame(items).drop_duplicates())
    _register(database, "lab_columns", pd.DataFrame(limits))
    _register(database, "echo_views", _read_views(views))
    return (
        f"-- hf_codes ({rules.hf_codes}): {', '.join(row['icd_code'] for row in codes)}\n"
        f"-- lab_items: {len(items)} of {len(columns) - 3} columns\n"
    )


def _lab_columns(names: list[str]) -> list[LabColumn]:
    """The known columns of these names, and those of omr."""
    known = {column.name: column for column in COLUMNS if column.is_number}
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"lab_column {', '.join(unknown)} is not a numeric column of docs/manifest.md.")
    return [known[name] for name in known if name in {*names, "height", "weight", "BMI"}]


def _load_units(database: duckdb.DuckDBPyConnection) -> str:
    """lab_units: factor of every unit that occurs, NULL where it is not known."""
    pairs = database.execute("SELECT DISTINCT lab_column, unit FROM lab_rows ORDER BY ALL").fetchall()
    known = {column.name: column for column in COLUMNS}
    rows = [{"lab_column": name, "unit": unit, "factor": unit_factor(known[name], unit)} for name, unit in pairs]
    frame = pd.DataFrame(rows, columns=["lab_column", "unit", "factor"]).astype(
        {"lab_column": "string", "unit": "string", "factor": "Float64"}
    )
    _register(database, "lab_units", frame)
    return "".join(f"-- unit of {row['lab_column']}: {row['unit'] or '(none)'} x {row['factor']}\n" for row in rows)


def _read_views(path: str | Path | None) -> pd.DataFrame:
    frame = pd.DataFrame({"dicom_filepath": [], "view": []}, dtype="string")
    if path is None:
        return frame
    read = pd.read_csv(path, dtype="string")
    if missing := [name for name in frame.columns if name not in read.columns]:
        raise ValueError(f"{path}: missing column(s) {', '.join(missing)}; found {', '.join(read.columns)}.")
    return read[list(frame.columns)].dropna().drop_duplicates("dicom_filepath")


def _register(database: duckdb.DuckDBPyConnection, name: str, frame: pd.DataFrame) -> None:
    database.register("frame_to_copy", frame)
    database.execute(f"CREATE TABLE {name} AS SELECT * FROM frame_to_copy")
    database.unregister("frame_to_copy")


def _list_differences(database: duckdb.DuckDBPyConnection) -> dict[str, list[int]]:
    """Listed itemids that d_labitems does not call blood, and blood items of the same names that are not listed."""
    not_blood = database.execute(
        "SELECT itemid FROM lab_items JOIN d_labitems USING (itemid) WHERE fluid <> 'Blood' ORDER BY itemid"
    ).fetchall()
    not_listed = database.execute(
        "SELECT itemid FROM d_labitems WHERE fluid = 'Blood' AND label IN (SELECT lab_column FROM lab_items) "
        "AND itemid NOT IN (SELECT itemid FROM lab_items) ORDER BY itemid"
    ).fetchall()
    return {
        "lab_items_not_blood": [item for (item,) in not_blood],
        "lab_items_not_listed": [item for (item,) in not_listed],
    }


# ---- files


def _no_anomalies() -> pd.DataFrame:
    kinds = {"id": "Int64", "item": "string", "reason": "string", "stay": "bool"}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})


def _check_files(
    database: duckdb.DuckDBPyConnection, rules: CurateRules, sources: Mapping[str, Path | None], workers: int
) -> pd.DataFrame:
    """Anomalous files of the stays that would be included: id (hadm_id), item, reason, stay (the stay is excluded)."""
    stays = database.execute(
        "SELECT hadm_id, ecg_path, echo_study_id FROM candidates WHERE hadm_id IN (SELECT hadm_id FROM lab_cells) "
        "AND NOT coalesce(hours_apart > getvariable('max_hours_apart'), FALSE) ORDER BY hadm_id"
    ).df()
    rows: list[dict[str, Any]] = []
    if sources["mimic_ecg"] is not None:
        reasons = check_ecgs([sources["mimic_ecg"] / path for path in stays.ecg_path], workers)
        for stay, reason in zip(stays.itertuples(), reasons, strict=True):
            if reason is not None:
                rows.append({"id": stay.hadm_id, "item": stay.ecg_path, "reason": reason, "stay": True})
    if sources["mimic_echo"] is not None:
        clips = database.execute(
            "SELECT c.hadm_id, r.dicom_filepath FROM echo_records AS r JOIN candidates AS c ON r.study_id = "
            "c.echo_study_id ORDER BY c.hadm_id, r.dicom_filepath"
        ).df()
        clips = clips[clips.hadm_id.isin(stays.hadm_id)]
        paths = [sources["mimic_echo"] / path for path in clips.dicom_filepath]
        clips["reason"] = list(check_clips(paths, rules.min_clip_frames, workers))
        for clip in clips[clips.reason.notna()].itertuples():
            rows.append({"id": clip.hadm_id, "item": clip.dicom_filepath, "reason": clip.reason, "stay": False})
        without = clips.groupby("hadm_id").reason.apply(lambda reasons: reasons.notna().all())
        ecg_out = {row["id"] for row in rows if row["stay"]}
        for hadm in without[without].index.difference(sorted(ecg_out)):
            rows.append({"id": hadm, "item": "echo study", "reason": NO_CLIP, "stay": True})
    return pd.concat([_no_anomalies(), pd.DataFrame(rows)]) if rows else _no_anomalies()


# ---- what is written


def _cohort_frame(database: duckdb.DuckDBPyConnection, sources: Mapping[str, Path | None], base: Path) -> pd.DataFrame:
    """The cohort with its laboratory columns in the order of the text, still without its split."""
    cohort = database.execute("SELECT * FROM cohort ORDER BY patient_id::BIGINT, index_time, hadm_id").df()
    listed = {name for (name,) in database.execute("SELECT DISTINCT lab_column FROM lab_items").fetchall()}
    texts = {
        name
        for (name,) in database.execute(
            "SELECT DISTINCT lab_column FROM lab_cells WHERE comparator IS NOT NULL"
        ).fetchall()
    }
    cells = _wide(database, "lab_cells", [column.name for column in COLUMNS if column.name in listed], texts)
    body = _wide(database, "body_cells", ["height", "weight", "BMI"], set())
    cohort = cohort.merge(body, on="hadm_id", how="left").merge(cells, on="hadm_id", how="left")
    named = {"age": "age", "gender": "gender", "ethnicity": "ethnicity"}
    named |= {"medical history": "medical_history", "drug history": "drug_history"}
    labs = {
        f"labs.{column.name}": cohort[named.get(column.name, column.name)]
        for column in COLUMNS
        if named.get(column.name, column.name) in cohort.columns
    }
    ecg, echo = _prefix(sources["mimic_ecg"], base), _prefix(sources["mimic_echo"], base)
    return pd.DataFrame(
        {
            "id": cohort.id,
            "patient_id": cohort.patient_id,
            **labs,
            "ecg_path": [str(ecg / path) if isinstance(path, str) else None for path in cohort.ecg_path],
            "echo_paths": [[str(echo / path) for path in _list(paths)] for paths in cohort.echo_paths],
            "echo_views": [_list(views) for views in cohort.echo_views],
            f"label.{TASK}": cohort.hf_diagnosis.astype("Int64"),
            f"time.{RISK_TASK}": cohort.hf_risk_time,
            f"event.{RISK_TASK}": cohort.hf_risk_event.astype("Int64"),
            **{
                name: cohort[name]
                for name in ("index_time", "ecg_time", "echo_time", "later_contact", "lvef", "anchor_year_group")
            },
        }
    )


def _wide(database: duckdb.DuckDBPyConnection, table: str, names: list[str], texts: set[str]) -> pd.DataFrame:
    """Cells of the cohort as one column each; a column with a result such as "<0.01" is text throughout."""
    columns = []
    for name in names:
        value = "coalesce(comparator, canonical::VARCHAR)" if name in texts else "canonical"
        quoted = name.replace("'", "''")
        columns.append(f"max({value}) FILTER (WHERE lab_column = '{quoted}') AS \"{name}\"")
    return database.execute(
        f"SELECT hadm_id, {', '.join(columns)} FROM {table} SEMI JOIN cohort USING (hadm_id) GROUP BY hadm_id"
    ).df()


def _prefix(source: Path | None, base: Path) -> PurePosixPath:
    """How a source's directory is written in the table; symbolic links followed, since `..` follows them too."""
    if source is None:
        return PurePosixPath()
    return PurePosixPath(Path(os.path.relpath(source.resolve(), base.resolve())).as_posix())


def _list(values: Any) -> list[Any]:
    """A list of DuckDB's as pandas holds it: an array, or a missing value for a stay without an echo."""
    return [None if pd.isna(value) else value for value in values] if hasattr(values, "__len__") else []


def _draw(cohort: pd.DataFrame, rules: CurateRules) -> pd.DataFrame:
    """Splits of the cohort's patients; of several stays the first one counts, ill if any is."""
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
    groups = rows.groupby("patient_id")
    patients = groups.first()
    patients["label"] = groups.label.max()
    return split_patients(patients.reset_index(), rules.seed)


def _split_column(cohort: pd.DataFrame, splits: pd.DataFrame, rules: CurateRules) -> pd.Series:
    named = cohort.patient_id.map(splits.set_index("patient_id")[rules.split])
    if named.isna().any():
        raise ValueError(
            f"the split {rules.split!r} is not defined for {int(named.isna().sum())} of {len(cohort)} admissions: "
            "a temporal split needs at least three different values of anchor_year_group and one for every patient."
        )
    return named


def _counts(cohort: pd.DataFrame) -> dict[str, Any]:
    label, event = cohort[f"label.{TASK}"], cohort[f"event.{RISK_TASK}"]
    return {
        "admissions": len(cohort),
        "patients": int(cohort.patient_id.nunique()),
        "heart_failure": int((label == 1).sum()),
        "no_heart_failure": int((label == 0).sum()),
        "prognosis": int(event.notna().sum()),
        "events": {name: int((event == value).sum()) for value, name in EVENTS.items()},
        "splits": {str(name): int(number) for name, number in cohort.split.value_counts().items()},
    }


def _write_parquet(cohort: pd.DataFrame, path: Path) -> None:
    lists = pa.list_(pa.string())
    table = pa.Table.from_pandas(cohort.drop(columns=["echo_paths", "echo_views"]), preserve_index=False)
    for index, field in enumerate(table.schema):
        if pa.types.is_null(field.type):  # a text column without any value: the same type for every cohort
            table = table.set_column(index, field.name, table.column(index).cast(pa.string()))
    place = table.column_names.index("ecg_path") + 1
    for name in ("echo_views", "echo_paths"):
        table = table.add_column(place, name, pa.array(cohort[name].tolist(), lists))
    # pandas' own metadata would name index and dtypes of an intermediate table
    _write_with(path, lambda temporary: pq.write_table(table.replace_schema_metadata(None), temporary))


def _write_text(path: Path, text: str) -> None:
    _write_with(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _write_with(path: Path, write: Any) -> None:
    with whole_file(path) as building:
        write(building)


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)
