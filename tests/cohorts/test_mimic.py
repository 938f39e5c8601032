"""`tgmm curate` against the generator's truth with traps planted, and against cases that are written out by hand."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mimic_tables import PATIENTS, append, change, copy_tables, read, render, write_hospital, write_synthetic_tables
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.cohorts.flow import check_flow
from tgmm_hf.cohorts.mimic.cohort import curate
from tgmm_hf.cohorts.mimic.rules import CurateRules, read_rules
from tgmm_hf.data.admissions import make_preparer
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import LEADS

PAPER = CurateRules(follow_up="later_contact")
"""The generator's manifest has the paper's follow-up: only patients who came back."""


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic")
    write_synthetic_tables(out)
    return out


@pytest.fixture
def tables(synthetic: Path, tmp_path: Path) -> Path:
    """A copy of the tables to plant traps in."""
    return copy_tables(synthetic, tmp_path / "mimic")


def truth_of(synthetic: Path) -> pd.DataFrame:
    return pd.read_parquet(synthetic / "cohort.parquet").set_index("id").sort_index()


def run(tables: Path, out: Path, rules: CurateRules = PAPER, **options: Any) -> pd.DataFrame:
    options = {"views": tables / "views.csv", "root": tables, "threads": 1, "memory": "500MB", **options}
    curate(tables, out, mimic_ecg=tables / "ecg", mimic_echo=tables / "echo", rules=rules, **options)
    return pd.read_parquet(out / "cohort.parquet").set_index("id").sort_index()


def run_labs(hospital: Path, rules: CurateRules | None = None) -> pd.DataFrame:
    """The hospital tables alone, with a split file that puts everybody into training."""
    patients = read(hospital / "hosp" / "patients.csv").subject_id
    out = hospital / "out"
    from tgmm_hf.cohorts.splits import FOLD_COLUMNS

    out.mkdir(exist_ok=True)
    columns = ["stratified", "temporal", *FOLD_COLUMNS]
    pd.DataFrame({"patient_id": patients, **dict.fromkeys(columns, "train")}).to_csv(out / "splits.csv", index=False)
    curate(hospital, out, rules=rules, threads=1, memory="500MB")
    return pd.read_parquet(out / "cohort.parquet").set_index("id").sort_index()


def assert_equal(found: pd.DataFrame, truth: pd.DataFrame, leaving_out: tuple[str, ...] = ("split",)) -> None:
    """Same admissions, and every cell of the truth's columns the same, missing where it is missing."""
    assert list(found.index) == list(truth.index)
    for column in truth.columns.difference(list(leaving_out)):
        for id_, left, right in zip(truth.index, found[column], truth[column], strict=True):
            if isinstance(right, np.ndarray):
                assert list(left) == list(right), (id_, column)
            elif pd.isna(right):
                assert pd.isna(left), (id_, column, left)
            else:
                assert left == right, (id_, column)


def flow_of(out: Path) -> dict[str, tuple[int, int]]:
    flow = json.loads((out / "flow.json").read_text())
    check_flow(flow)
    return {entry["step"]: (entry["patients"], entry["admissions"]) for entry in flow}


@cache
def index_stay(synthetic: Path, id_: str) -> dict[str, Any]:
    """Times of an index stay as timestamps; of the cohort without traps."""
    stay = cached(synthetic / "hosp" / "admissions.csv.gz", "hadm_id").loc[id_]
    ecg = cached(synthetic / "ecg" / "record_list.csv", "subject_id").ecg_time[stay.subject_id]
    echo = cached(synthetic / "echo" / "echo-study-list.csv", "subject_id").study_datetime[stay.subject_id]
    times = {"start": stay.edregtime, "admit": stay.admittime, "discharge": stay.dischtime, "ecg": ecg, "echo": echo}
    times["index"] = max(ecg, echo)
    return {"subject_id": stay.subject_id, **{name: pd.Timestamp(value) for name, value in times.items()}}


@cache
def cached(path: Path, index: str) -> pd.DataFrame:
    return read(path).set_index(index)


# ---- the generator's truth


def test_curate_recovers_the_table_of_the_generator(synthetic: Path, tmp_path: Path) -> None:
    found = run(synthetic, tmp_path / "out")
    assert_equal(found, truth_of(synthetic))
    read_cohort_table(tmp_path / "out" / "cohort.parquet", root=synthetic)  # `tgmm prepare` takes it unchanged
    assert flow_of(tmp_path / "out")["cohort"] == (PATIENTS, PATIENTS)


def test_planted_traps_do_not_change_the_cohort(synthetic: Path, tables: Path, tmp_path: Path) -> None:
    truth = truth_of(synthetic)
    hosp = tables / "hosp"
    ill = truth.index[(truth["label.hf_diagnosis"] == 1) & truth["labs.medical history"].notna()][0]
    creatinine = {"itemid": 50912, "valueuom": "mg/dL"}
    for id_ in truth.index[:5]:
        stay = index_stay(synthetic, id_)
        before, after = stay["index"] - pd.Timedelta(minutes=1), stay["index"] + pd.Timedelta(minutes=1)
        who = {"subject_id": stay["subject_id"], **creatinine}
        append(
            hosp / "labevents.csv.gz",
            {**who, "charttime": after, "value": "9.9", "valuenum": 9.9},  # after the cut-off
            {**who, "charttime": stay["start"] - pd.Timedelta(minutes=1), "value": "8.8", "valuenum": 8.8},
            *[
                {**who, "charttime": before, "value": text, "valuenum": ""}
                for text in (">2.8", "___", "2-4", "HEMOLYZED, NOT REPORTED", "")
            ],
            {**who, "charttime": before, "value": "___", "comments": '<0.01. a comment, with "quotes" and a comma'},
            {**who, "charttime": before, "value": "0", "valuenum": 0},
            {**who, "charttime": before, "value": "5210", "valuenum": 5210},
            {**who, "charttime": before, "value": "1.4", "valuenum": 1.4, "valueuom": "furlong"},
            {**who, "charttime": before, "value": "7", "valuenum": 7, "itemid": 51082},  # urine
        )
        # what the index stay was coded and treated for is no history
        append(hosp / "diagnoses_icd.csv.gz", {"hadm_id": id_, "seq_num": 9, "icd_code": "E785", "icd_version": 10})
        append(hosp / "prescriptions.csv.gz", {"hadm_id": id_, "drug_type": "MAIN", "drug": "Furosemide Drip"})
        for day, value in ((stay["index"], "99.9"), (stay["index"] - pd.Timedelta(days=400), "88.8")):
            row = {"subject_id": stay["subject_id"], "chartdate": f"{day:%Y-%m-%d}", "seq_num": 5}
            append(hosp / "omr.csv.gz", {**row, "result_name": "BMI (kg/m2)", "result_value": value})
    # heart failure in the diagnoses of an earlier stay of an ill patient: the text must not give it away
    history = read(hosp / "admissions.csv.gz")
    earlier = history[history.subject_id == truth.patient_id[ill]].sort_values("admittime").hadm_id.iloc[0]
    assert earlier != ill
    append(
        hosp / "diagnoses_icd.csv.gz",
        *[{"hadm_id": earlier, "seq_num": 0, "icd_code": c, "icd_version": 10} for c in ("I5023", "I255", "I119")],
    )
    append(
        hosp / "d_icd_diagnoses.csv.gz",
        {"icd_code": "I5023", "icd_version": 10, "long_title": "Acute on chronic systolic (congestive) heart failure"},
        {"icd_code": "I255", "icd_version": 10, "long_title": "Ischemic cardiomyopathy"},
        {"icd_code": "I119", "icd_version": 10, "long_title": "Hypertensive heart disease without heart failure"},
    )
    # a death that MIMIC could not have known of: more than a year after the last discharge
    censored = truth.index[truth["event.hf_risk"] == 0][0]
    last = pd.to_datetime(history[history.subject_id == truth.patient_id[censored]].dischtime).max()
    day = last + pd.Timedelta(days=400)
    change(hosp / "patients.csv.gz", "subject_id", truth.patient_id[censored], "dod", f"{day:%Y-%m-%d}")
    # a stay with labs and ECG but no echo, one without a patient row, and ECGs after the index time, nearer to the echo
    plant_stays(tables)
    first = index_stay(synthetic, truth.index[0])
    near = {"subject_id": first["subject_id"], "study_id": 7, "path": "files/late"}
    append(tables / "ecg" / "record_list.csv", {**near, "ecg_time": first["index"] + pd.Timedelta(seconds=1)})
    # a quarter of the rows carries no stay
    labs = read(hosp / "labevents.csv.gz")
    labs.loc[::4, "hadm_id"] = ""
    labs[labs.columns[::-1]].to_csv(hosp / "labevents.csv.gz", index=False)  # columns are found by name

    assert_equal(run(tables, tmp_path / "out"), truth)
    flow = flow_of(tmp_path / "out")
    assert flow["times"] == (1, 1) and flow["cohort"] == (PATIENTS, PATIENTS)
    assert flow["echo"][0] == 1
    record = json.loads((tmp_path / "out" / "curate.json").read_text())
    counts = {row["status"]: row["results"] for row in record["lab_results"] if row["lab_column"] == "Creatinine"}
    planted = {"not a number": 20, "beyond the measuring range": 10, "not positive": 5, "impossible value": 5}
    planted["unknown unit"] = 5
    assert {name: count for name, count in counts.items() if name != "used"} == planted


def plant_stays(tables: Path) -> None:
    """Patient 1 was never scanned; patient 2 has a stay but no row in patients."""
    hosp = tables / "hosp"
    append(hosp / "patients.csv.gz", {"subject_id": 1, "gender": "F", "anchor_age": 60, "anchor_year": 2150})
    for subject in (1, 2):
        times = {"admittime": "2150-03-01 08:00:00", "dischtime": "2150-03-05 12:00:00"}
        append(hosp / "admissions.csv.gz", {"subject_id": subject, "hadm_id": subject, **times})
        row = {"subject_id": subject, "charttime": "2150-03-01 09:00:00", "itemid": 50912, "value": "1", "valuenum": 1}
        append(hosp / "labevents.csv.gz", row)
        ecg = {"subject_id": subject, "study_id": subject, "ecg_time": "2150-03-01 09:00:00", "path": "files/x"}
        append(tables / "ecg" / "record_list.csv", ecg)


def second_stay(synthetic: Path, tables: Path, id_: str, days: int = 90) -> None:
    """A second stay of the same patient with everything that the first one has, so many days later."""
    stay = index_stay(synthetic, id_)
    later = {name: stay[name] + pd.Timedelta(days=days) for name in ("admit", "discharge", "ecg", "echo")}
    who = {"subject_id": stay["subject_id"]}
    append(
        tables / "hosp" / "admissions.csv.gz",
        {**who, "hadm_id": 777, "admittime": later["admit"], "dischtime": later["discharge"]},
    )
    lab = {"itemid": 50912, "charttime": later["admit"], "value": "1.1", "valuenum": 1.1, "valueuom": "mg/dL"}
    append(tables / "hosp" / "labevents.csv.gz", {**who, **lab})
    append(tables / "ecg" / "record_list.csv", {**who, "study_id": 8, "ecg_time": later["ecg"], "path": "files/8"})
    append(tables / "echo" / "echo-study-list.csv", {**who, "study_id": 9, "study_datetime": later["echo"]})
    record = {**who, "study_id": 9, "acquisition_datetime": later["echo"], "dicom_filepath": "files/9_0001.dcm"}
    append(tables / "echo" / "echo-record-list.csv", record)


def test_rule_admissions_takes_the_first_stay_or_all(synthetic: Path, tables: Path, tmp_path: Path) -> None:
    truth = truth_of(synthetic)
    id_ = truth.index[truth["label.hf_diagnosis"] == 1][0]
    second_stay(synthetic, tables, id_)
    assert_equal(run(tables, tmp_path / "first"), truth)
    assert flow_of(tmp_path / "first")["not_first"] == (0, 1)
    found = run(tables, tmp_path / "all", CurateRules(follow_up="later_contact", admissions="all"))
    assert set(found.index) == {*truth.index, "777"}
    assert found.split["777"] == found.split[id_], "all stays of a patient are in one split"
    assert found["labs.Creatinine"]["777"] == 1.1
    assert found["label.hf_diagnosis"]["777"] == 1, "heart failure at an earlier stay is prevalent"
    assert list(found.echo_paths["777"]) == ["echo/files/9_0001.dcm"] and list(found.echo_views["777"]) == [None]


def test_rules_ecg_and_max_hours_apart(synthetic: Path, tables: Path, tmp_path: Path) -> None:
    truth = truth_of(synthetic)
    ids = [id_ for id_ in truth.index if index_stay(synthetic, id_)["ecg"] < index_stay(synthetic, id_)["echo"]]
    stay = index_stay(synthetic, ids[0])
    middle = stay["ecg"] + (stay["echo"] - stay["ecg"]) * 0.9
    row = {"subject_id": stay["subject_id"], "study_id": 7, "ecg_time": middle.floor("s"), "path": "files/7"}
    append(tables / "ecg" / "record_list.csv", row)
    assert run(tables, tmp_path / "nearest").ecg_path[ids[0]] == "ecg/files/7"
    first = run(tables, tmp_path / "first", CurateRules(ecg="first"))
    assert first.ecg_path[ids[0]] == truth.ecg_path[ids[0]]
    assert set(first["index_time"].dropna()) == {index_stay(synthetic, id_)["index"] for id_ in truth.index}
    stays = {id_: index_stay(synthetic, id_) for id_ in truth.index}
    hours = {id_: abs(times["ecg"] - times["echo"]) / pd.Timedelta(hours=1) for id_, times in stays.items()}
    hours[ids[0]] = (stay["echo"] - middle) / pd.Timedelta(hours=1)
    near = run(tables, tmp_path / "near", CurateRules(max_hours_apart=12))
    assert list(near.index) == [id_ for id_ in truth.index if hours[id_] <= 12]
    assert flow_of(tmp_path / "near")["apart"] == (PATIENTS - len(near), PATIENTS - len(near))


def test_rule_label_lvef_uses_the_structured_ejection_fraction(synthetic: Path, tables: Path, tmp_path: Path) -> None:
    truth = truth_of(synthetic)
    path = tables / "echo" / "echo-study-list.csv"
    studies = read(path)
    studies["measurement_id"] = [str(100 + k) for k in range(len(studies))]
    studies.to_csv(path, index=False)
    rows = []
    for k, subject in enumerate(studies.subject_id):
        row = {"subject_id": subject, "measurement_id": 100 + k, "test_type": "TTE", "unit": "%"}
        rows.append({**row, "measurement": "lvef", "result": ">55"})
        if k < 20:
            rows.append({**row, "measurement": "lvef", "result": "70"})
            rows.append({**row, "measurement": "biplane_lvef", "result": str(30 + k)})
        rows.append({**row, "measurement": "lvef", "result": "33", "test_type": "stress"})
    pd.DataFrame(rows).to_csv(tables / "echo" / "structured-measurement.csv.gz", index=False)
    found = run(tables, tmp_path / "out")
    assert_equal(found, truth)
    wanted = {subject: 30.0 + k for k, subject in enumerate(studies.subject_id) if k < 20}
    assert found.set_index("patient_id").lvef.dropna().to_dict() == wanted
    assert "value.lvef" not in found
    with_value = run(tables, tmp_path / "value", CurateRules(lvef_value=True))
    assert with_value.set_index("patient_id")["value.lvef"].dropna().to_dict() == wanted
    by_fraction = run(tables, tmp_path / "lvef", CurateRules(label="lvef", lvef_below=40))
    labels = by_fraction.set_index("patient_id")["label.hf_diagnosis"].to_dict()
    assert labels == {subject: int(fraction < 40) for subject, fraction in wanted.items()}
    assert flow_of(tmp_path / "lvef")["lvef"] == (PATIENTS - 20, PATIENTS - 20)


# ---- files


def test_file_checks_exclude_and_name_anomalous_files(synthetic: Path, tables: Path, tmp_path: Path) -> None:
    """Patients 7 (flat ECG), 18 (five seconds), 29 (a still), 40 (a clip cut off), and a record that is not there."""
    truth = pd.read_parquet(synthetic / "cohort.parquet").drop(columns="split")
    chosen = [0, 1, 2, 3, 4, 5, 7, 18, 29, 40]
    render(tables, [k for k in chosen if k != 5])
    subjects = truth.patient_id[chosen]
    for name in ("echo-study-list", "echo-record-list"):
        listed = read(tables / "echo" / f"{name}.csv")
        listed[listed.subject_id.isin(subjects)].to_csv(tables / "echo" / f"{name}.csv", index=False)
    rules = CurateRules(follow_up="later_contact", min_clip_frames=4)
    found = run(tables, tmp_path / "out", rules, check_files=True, workers=1)
    assert set(found.patient_id) == set(truth.patient_id[[0, 1, 2, 3, 4, 29, 40]])
    flow = flow_of(tmp_path / "out")
    assert flow["ECG flat"] == flow["ECG of wrong duration"] == flow["ECG unreadable"] == (1, 1)
    listed = pd.read_csv(tmp_path / "out" / "anomalies.csv", dtype=str).set_index("item").reason
    for index, reason in ((29, "single frame"), (40, "corrupt")):
        first = truth.echo_paths[index][0]
        assert listed[first.removeprefix("echo/")] == reason
        row = found[found.patient_id == truth.patient_id[index]].iloc[0]
        assert list(row.echo_paths) == list(truth.echo_paths[index][1:])
        assert list(row.echo_views) == list(truth.echo_views[index][1:])
    # leads come by name: MIMIC stores aVF before aVL
    record = read_ecg(tables / found.ecg_path.iloc[0])
    assert record.lead_names[3:6] == ["aVR", "aVF", "aVL"]
    signal = EcgFeatureExtractor().harmonise(tables / found.ecg_path.iloc[0]).signal
    lead = {name: signal[LEADS.index(name)] for name in LEADS}
    derived = {"aVL": lead["I"] - lead["II"] / 2, "aVF": lead["II"] - lead["I"] / 2}
    for name, other in (("aVL", "aVF"), ("aVF", "aVL")):
        right, wrong = (np.corrcoef(lead[name], derived[which])[0, 1] for which in (name, other))
        assert right > 0.8 and right > wrong + 0.3


def test_an_empty_cohort_names_the_step_in_the_flow(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"flow\.json"):
        run(tables, tmp_path / "out", CurateRules(label="lvef"))
    assert flow_of(tmp_path / "out")["lvef"] == (PATIENTS, PATIENTS)
    assert not (tmp_path / "out" / "cohort.parquet").exists()


def test_the_command_leaves_a_table_that_prepare_takes(
    synthetic: Path, tables: Path, processor: TgmmProcessor, tmp_path: Path
) -> None:
    render(tables, [0])
    out = tmp_path / "out"
    words = [
        "curate",
        "--mimic-iv",
        tables,
        "--mimic-ecg",
        tables / "ecg",
        "--mimic-echo",
        tables / "echo",
        "--out",
        out,
    ]
    words += ["--views", tables / "views.csv", "--set", "follow_up=later_contact", "--memory", "500MB", "--threads", 1]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    assert f"{PATIENTS} admissions" in result.output
    files = {path.name for path in out.iterdir()}
    wanted = {"cohort.parquet", "curate.json", "curate.sql", "flow.json", "flow.svg", "splits.csv", "table1.csv"}
    assert files == wanted, "and nothing else: no database, no temporary file"
    manifest = read_cohort_table(out / "cohort.parquet", allow_outside=True)  # MIMIC lies beside the cohort
    truth = pd.read_parquet(synthetic / "cohort.parquet")
    row = next(row for row in manifest.rows if row.id == truth.id[0])
    prepared = make_preparer(manifest, processor).prepare(row)
    assert prepared.example is not None and prepared.refused == []
    assert prepared.example["ecg"].shape == (2500, 12) and len(prepared.example["clips"]) == len(row.echo_paths)


# ---- tables as they come


def test_optional_tables_and_plain_csv(synthetic: Path, tables: Path, tmp_path: Path) -> None:
    hosp = tables / "hosp"
    for name in ("omr", "prescriptions", "d_labitems"):
        (hosp / f"{name}.csv.gz").unlink()
    (tables / "echo" / "echo-study-list.csv").unlink()  # times are in the record list as well
    (hosp / "labevents.csv").write_bytes(gzip.decompress((hosp / "labevents.csv.gz").read_bytes()))
    (hosp / "labevents.csv.gz").unlink()
    (tables / "ecg" / "record_list.csv").rename(tables / "ecg" / "record-list.csv")
    found = run(tables, tmp_path / "out")
    gone = ("split", "labs.height", "labs.weight", "labs.BMI", "labs.drug history")
    assert_equal(found, truth_of(synthetic), gone)
    assert found[list(gone[1:])].isna().all().all()
    record = json.loads((tmp_path / "out" / "curate.json").read_text())
    assert set(record["absent_tables"]) >= {"omr", "prescriptions", "d_labitems", "echo_study_list"}


def test_required_tables_and_columns_are_named(tables: Path, tmp_path: Path) -> None:
    path = tables / "hosp" / "labevents.csv.gz"
    read(path).drop(columns=["valuenum", "charttime"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"labevents\.csv\.gz: missing column\(s\) charttime, valuenum"):
        run(tables, tmp_path / "out")
    path.unlink()
    (tables / "echo" / "echo-record-list.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"labevents.*--mimic-iv.*echo-record-list.*--mimic-echo"):
        run(tables, tmp_path / "out")


def test_a_broken_table_is_named_but_not_quoted(tables: Path, tmp_path: Path) -> None:
    path = tables / "hosp" / "labevents.csv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lines[5] += ",one,cell,too,many"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(TgmmError, match=r"step 04_lab_rows\.sql: failed") as error:
        run(tables, tmp_path / "out")
    assert lines[5].split(",")[1] not in str(error.value)


def test_a_table_of_another_origin_is_not_overwritten(synthetic: Path) -> None:
    with pytest.raises(FileExistsError, match="did not write"):
        run(synthetic, synthetic)


def test_unknown_rules_and_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("hf_codes: broad\nlandmark_days: 60\n")
    assert read_rules(path, ["landmark_days=90", "max_hours_apart=24"]) == CurateRules(
        hf_codes="broad", landmark_days=90, max_hours_apart=24
    )
    for setting, message in (
        ("landmark=3", "no such rule: landmark"),
        ("admissions=second", "first, all"),
        ("landmark_days=soon", "landmark_days is 'soon'"),
        ("drug_history=1", "must be true or false"),
        ("omr_days=-1", "omr_days is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            read_rules(None, [setting])


# ---- splits


def test_splits_are_drawn_once(synthetic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(synthetic, out)
    before = (out / "splits.csv").read_bytes()
    run(synthetic, tmp_path / "again")
    assert (tmp_path / "again" / "splits.csv").read_bytes() == before, "deterministic"
    splits = pd.read_csv(out / "splits.csv", dtype=str)
    splits["stratified"] = splits.stratified.map({"train": "test", "test": "train", "validation": "validation"})
    splits.to_csv(out / "splits.csv", index=False)
    second = run(synthetic, out, CurateRules(follow_up="later_contact", seed=9))
    assert ((second.split == "test") == (first.split == "train")).all(), "the file is kept, not drawn anew"
    assert json.loads((out / "curate.json").read_text())["split_file"]["kept"]
    splits.iloc[1:].to_csv(out / "splits.csv", index=False)
    with pytest.raises(ValueError, match="no split for 1 of 42 patients"):
        run(synthetic, out)


def test_splits_are_stratified_and_share_patients(tmp_path: Path) -> None:
    from tgmm_hf.cohorts.splits import FOLD_COLUMNS, split_patients, temporal_split

    rng = np.random.default_rng(0)
    n = 700
    label = (rng.random(n) < 0.46).astype(int)
    patients = pd.DataFrame(
        {
            "patient_id": [str(k) for k in range(n)],
            "label": label,
            "event": np.where(label == 1, np.nan, rng.choice([0, 1, 2], n, p=[0.6, 0.3, 0.1])),
            "gender": rng.choice(["F", "M"], n),
            "age": rng.normal(68, 14, n),
            "missing": rng.random(n),
            "anchor_year_group": rng.choice(["2008 - 2010", "2011 - 2013", "2014 - 2016", "2017 - 2019"], n),
        }
    )
    splits = split_patients(patients, 0)
    shuffled = split_patients(patients.sample(frac=1, random_state=1), 0)
    pd.testing.assert_frame_equal(splits, shuffled)
    joined = patients.merge(splits, on="patient_id")
    for name, share in (("train", 500), ("validation", 100), ("test", 100)):
        part = joined[joined.stratified == name]
        assert abs(len(part) - share) <= 3
        assert abs(part.label.mean() - label.mean()) < 0.02
        assert abs((part.gender == "F").mean() - (patients.gender == "F").mean()) < 0.03
        assert abs((part.age >= 65).mean() - (patients.age >= 65).mean()) < 0.03
    for first, second in zip(FOLD_COLUMNS[::2], FOLD_COLUMNS[1::2], strict=True):
        assert ((joined[first] == "test") != (joined[second] == "test")).all(), "each patient is tested once"
        for column in (first, second):
            counts = joined[column].value_counts()
            assert abs(counts["validation"] / (counts["train"] + counts["validation"]) - 0.2) < 0.02
            rate = (joined.event[(joined[column] == "test") & joined.event.notna()] == 1).mean()
            assert abs(rate - (patients.event.dropna() == 1).mean()) < 0.03
    assert joined[FOLD_COLUMNS].nunique().eq(3).all() and joined[FOLD_COLUMNS].T.drop_duplicates().shape[0] == 10
    assert set(joined.temporal[joined.anchor_year_group == "2017 - 2019"]) == {"test"}
    assert set(joined.temporal[joined.anchor_year_group == "2014 - 2016"]) == {"validation"}
    assert temporal_split(pd.Series(["2014 - 2016", "2017 - 2019"])) == [None, None]
    with pytest.raises(ValueError, match="6 patients cannot be split"):
        split_patients(patients[:6], 0)


# ---- follow-up, codes, ages and units, by hand


def stay(subject: int, hadm: int, start: str, end: str, **more: Any) -> dict[str, Any]:
    times = {"admittime": f"{start} 10:00:00", "dischtime": f"{end} 15:00:00"}
    return {"subject_id": subject, "hadm_id": hadm, **times, **more}


def one_patient_each(cases: dict[int, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Tables of patients with an index stay 2150-01-01 to 2150-01-05 and what a case adds: stays, codes, dod."""
    tables: dict[str, list[dict[str, Any]]] = {"patients": [], "admissions": [], "diagnoses_icd": [], "labevents": []}
    for subject, case in cases.items():
        row = {"subject_id": subject, "gender": "F", "anchor_age": case.get("age", 60), "anchor_year": 2148}
        tables["patients"].append({**row, "dod": case.get("dod", "")})
        tables["admissions"].append(stay(subject, 10 * subject, "2150-01-01", "2150-01-05", **case.get("index", {})))
        for number, (start, end, code) in enumerate(case.get("stays", []), start=1):
            tables["admissions"].append(stay(subject, 10 * subject + number, start, end))
            diagnosis = {"hadm_id": 10 * subject + number, "seq_num": 1, "icd_code": code, "icd_version": 10}
            tables["diagnoses_icd"].append(diagnosis)
        for code, version in case.get("codes", []):
            diagnosis = {"hadm_id": 10 * subject, "seq_num": 1, "icd_code": code, "icd_version": version}
            tables["diagnoses_icd"].append(diagnosis)
        for lab in case.get("labs", [{}]):
            basic = {"itemid": 50912, "charttime": "2150-01-01 11:00:00", "value": "1", "valuenum": 1}
            tables["labevents"].append({"subject_id": subject, **basic, "valueuom": "mg/dL", **lab})
    return tables


def test_follow_up_rules(tmp_path: Path) -> None:
    """Index discharge 2150-01-05, landmark 02-04. Without a later stay observation ends 2151-01-05, day 335."""
    cases: dict[int, tuple[dict[str, Any], tuple[float, int] | None]] = {
        1: ({}, (335, 0)),
        2: ({"stays": [("2150-06-01", "2150-06-03", "R079")]}, (117 + 2 + 365, 0)),  # last discharge + 365
        3: ({"stays": [("2150-06-01", "2150-06-03", "I509")]}, (117, 1)),
        4: ({"dod": "2150-07-01"}, (147, 2)),
        5: ({"dod": "2151-02-01"}, (335, 0)),  # a year and more after the last discharge
        6: ({"stays": [("2150-06-01", "2150-06-03", "I509")], "dod": "2150-06-02"}, (117, 1)),
        7: ({"stays": [("2150-01-20", "2150-01-22", "I509")]}, None),  # up to the landmark
        8: ({"dod": "2150-02-01"}, None),
        9: ({"index": {"hospital_expire_flag": 1, "deathtime": "2150-01-05 15:00:00"}, "dod": "2150-01-05"}, None),
        10: ({"codes": [("I110", 10)]}, None),  # prevalent
        11: ({"stays": [("2150-02-04", "2150-02-06", "I509")]}, None),  # on the landmark's day
        12: ({"stays": [("2150-02-05", "2150-02-06", "I509")]}, (1, 1)),
        13: ({"stays": [("2149-01-01", "2149-01-02", "I509")]}, None),  # prevalent: coded earlier
        14: ({"index": {"edouttime": "2150-01-08 00:00:00"}}, (338, 0)),
    }
    hospital = write_hospital(tmp_path, one_patient_each({subject: case for subject, (case, _) in cases.items()}))
    rules = CurateRules()
    found = run_labs(hospital, rules)
    for subject, (_, wanted) in cases.items():
        row = found.loc[str(10 * subject)]
        if wanted is None:
            assert pd.isna(row["time.hf_risk"]) and pd.isna(row["event.hf_risk"]), subject
        else:
            assert (row["time.hf_risk"], row["event.hf_risk"]) == wanted, subject
        assert row["label.hf_diagnosis"] == int(subject in (10, 13)), subject
    flow = flow_of(hospital / "out")
    assert flow["prevalent"] == (2, 2) and flow["died in stay"] == (1, 1) and flow["early death"] == (1, 1)
    assert flow["early heart failure"] == (2, 2) and flow["prognosis"] == (8, 8)
    paper = run_labs(hospital, PAPER)
    assert set(paper.index[paper["time.hf_risk"].notna()]) == {"20", "30", "60", "120"}
    assert list(paper.later_contact) == list(found.later_contact)


def test_code_sets(tmp_path: Path) -> None:
    codes = {1: ("4280", 9), 2: ("I5023", 10), 3: ("40493", 9), 4: ("I0981", 10), 5: ("I42.0", 10), 6: ("4254", 9)}
    codes |= {7: ("I099", 10), 8: ("I500", 9), 9: ("I1310", 10), 10: ("42800", 10)}
    hospital = write_hospital(tmp_path, one_patient_each({k: {"codes": [code]} for k, code in codes.items()}))

    def ill(rules: CurateRules) -> set[int]:
        found = run_labs(hospital, rules)
        return {int(id_) // 10 for id_ in found.index[found["label.hf_diagnosis"] == 1]}

    assert ill(CurateRules()) == {1, 2, 3, 4}
    assert ill(CurateRules(hf_codes="broad")) == {1, 2, 3, 4, 5, 6, 7}
    (tmp_path / "own.csv").write_text("icd_version,icd_code\n10,I13*\n")
    assert ill(CurateRules(hf_codes=str(tmp_path / "own.csv"))) == {9}


def test_age_and_laboratory_units(tmp_path: Path) -> None:
    at = {"charttime": "2150-01-01 12:00:00"}
    cases: dict[int, dict[str, Any]] = {
        1: {"age": 60, "labs": [{}, {**at, "itemid": 52546, "value": "124", "valuenum": 124, "valueuom": "umol/L"}]},
        2: {"age": 91, "labs": [{}, {**at, "value": "1.2", "valuenum": "", "valueuom": ""}]},
        3: {"labs": [{"itemid": 51003, "value": "___", "valuenum": "", "comments": "<0.01. x"}, {}]},
        4: {"labs": [{"itemid": 50868, "value": "-2", "valuenum": -2, "valueuom": "mEq/L"}]},
        # the same minute: the result stored last, then the larger labevent_id
        5: {
            "labs": [
                {"value": "2", "valuenum": 2, "storetime": "2150-01-01 14:00:00"},
                {"storetime": "2150-01-01 13:00:00"},
            ]
        },
        6: {"labs": [{"charttime": "2150-01-02 10:00:01", "value": "3", "valuenum": 3}, {}]},  # 24 h after admission
    }
    hospital = write_hospital(tmp_path, one_patient_each(cases))
    found = run_labs(hospital)
    assert found["labs.age"].to_dict()["10"] == 62 and found["labs.age"]["20"] == 91
    assert found["labs.Creatinine"].fillna(-9).tolist() == [1.4, 1.2, 1, -9, 2, 1]
    assert found["labs.Anion Gap"]["40"] == -2 and pd.isna(found["labs.Troponin T"]["30"])
    kept = run_labs(hospital, CurateRules(keep_comparators=True))
    assert kept["labs.Troponin T"]["30"] == "<0.01" and kept["labs.Creatinine"]["10"] == 1.4
    record = json.loads((hospital / "out" / "curate.json").read_text())
    converted = [row for row in record["lab_results"] if row["lab_column"] == "Creatinine" and row["status"] == "used"]
    assert converted[0]["converted"] == 1
