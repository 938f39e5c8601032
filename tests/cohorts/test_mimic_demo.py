"""`tgmm curate` on real hospital tables: the MIMIC-IV demo, counted a second time with pandas."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tgmm_hf.cohorts.mimic.cohort import curate
from tgmm_hf.cohorts.mimic.rules import CurateRules, read_lab_items
from tgmm_hf.inputs.lab_table import COLUMNS

HF_10, HF_9 = ("I50", "I110", "I130", "I132", "I0981"), ("428", "39891", "40201", "40211", "40291")
HF_9_KIDNEY = ("40401", "40403", "40411", "40413", "40491", "40493")


@pytest.fixture(scope="module")
def demo(shared_dir: Path) -> Path:
    return shared_dir / "data" / "mimic_iv_demo"


@pytest.fixture(scope="module")
def found(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """All stays of the demo, laboratory tables only; the directory in `attrs`."""
    out = tmp_path_factory.mktemp("demo")
    curate(demo, out, rules=CurateRules(admissions="all"), threads=1, memory="500MB")
    cohort = pd.read_parquet(out / "cohort.parquet").set_index("id")
    cohort.attrs["out"] = str(out)
    return cohort


@pytest.fixture(scope="module")
def stays(demo: Path) -> pd.DataFrame:
    """Admissions with window and heart failure, by pandas."""
    times = ["admittime", "dischtime", "edregtime", "edouttime", "deathtime"]
    stays = pd.read_csv(demo / "hosp" / "admissions.csv.gz", parse_dates=times)
    stays["start"] = stays[["admittime", "edregtime"]].min(axis=1)
    stays["index_time"] = np.minimum(stays.admittime + pd.Timedelta(hours=24), stays.dischtime)
    codes = pd.read_csv(demo / "hosp" / "diagnoses_icd.csv.gz", dtype={"icd_code": str})
    ill = [
        code.startswith(HF_10) if version == 10 else code.startswith((*HF_9, *HF_9_KIDNEY))
        for code, version in zip(codes.icd_code.str.strip(), codes.icd_version, strict=True)
    ]
    stays["coded"] = stays.hadm_id.isin(codes.hadm_id[ill])
    first = stays[stays.coded].groupby("subject_id").admittime.min().rename("first_hf")
    stays = stays.join(first, on="subject_id").set_index(stays.hadm_id.astype(str))
    stays["prevalent"] = stays.first_hf <= stays.admittime
    return stays


@pytest.fixture(scope="module")
def labs(demo: Path, stays: pd.DataFrame) -> pd.DataFrame:
    """Last usable value per stay and column, by pandas."""
    rows = pd.read_csv(demo / "hosp" / "labevents.csv.gz", parse_dates=["charttime", "storetime"], low_memory=False)
    names = {item["itemid"]: item["lab_column"] for item in read_lab_items(None)}
    rows = rows.assign(column=rows.itemid.map(names)).dropna(subset=["column", "valuenum"])
    window = stays.reset_index(drop=True)[["subject_id", "hadm_id", "start", "index_time"]]
    rows = rows.drop(columns="hadm_id").merge(window, on="subject_id")
    rows = rows[(rows.charttime >= rows.start) & (rows.charttime <= rows.index_time)]
    limits = {column.name: column.plausible for column in COLUMNS if column.plausible}
    low, high = rows.column.map(lambda name: limits[name][0]), rows.column.map(lambda name: limits[name][1])
    rows = rows[((rows.valuenum > 0) | (low < 0)) & (rows.valuenum >= low) & (rows.valuenum <= high)]
    rows = rows.sort_values(["charttime", "storetime", "labevent_id"], na_position="first")
    return rows.groupby(["hadm_id", "column"]).valuenum.last().unstack()


def test_stays_labels_and_laboratory_cells(found: pd.DataFrame, stays: pd.DataFrame, labs: pd.DataFrame) -> None:
    assert len(stays) == 147 and stays.subject_id.nunique() == 48
    assert set(found.index) == {str(hadm) for hadm in labs.index}
    assert (found["label.hf_diagnosis"] == stays.prevalent[found.index]).all()
    assert 0 < found["label.hf_diagnosis"].sum() < len(found)
    for name in (column.name for column in COLUMNS if f"labs.{column.name}" in found and column.name in labs):
        wanted = labs[name].set_axis([str(hadm) for hadm in labs.index])[found.index]
        np.testing.assert_array_equal(found[f"labs.{name}"].to_numpy(float), wanted.to_numpy(float), err_msg=name)
    flow = json.loads((Path(found.attrs["out"]) / "flow.json").read_text())
    counts = {entry["step"]: (entry["patients"], entry["admissions"]) for entry in flow}
    assert counts["start"] == (48, 147)
    assert counts["labs"][1] == 147 - len(found) and counts["cohort"][0] == found.patient_id.nunique()


def test_follow_up(demo: Path, found: pd.DataFrame, stays: pd.DataFrame) -> None:
    deaths = pd.read_csv(demo / "hosp" / "patients.csv.gz", parse_dates=["dod"]).set_index("subject_id").dod
    last = stays[["dischtime", "edouttime"]].max(axis=1).groupby(stays.subject_id).max().dt.normalize()
    for id_, stay in stays.loc[found.index].iterrows():
        landmark = stay.dischtime.normalize() + pd.Timedelta(days=30)
        ends = {
            0: last[stay.subject_id] + pd.Timedelta(days=365),
            1: pd.NaT if pd.isna(stay.first_hf) else stay.first_hf.normalize(),
            2: deaths[stay.subject_id],
        }
        event = min((code for code in ends if pd.notna(ends[code])), key=lambda code: (ends[code], (1, 0, 2)[code]))
        days = (ends[event] - landmark).days
        died = stay.hospital_expire_flag == 1 or stay.deathtime <= stay.dischtime
        row = found.loc[id_]
        if stay.prevalent or died or days <= 0:
            assert pd.isna(row["time.hf_risk"]), id_
        else:
            assert (row["time.hf_risk"], row["event.hf_risk"]) == (days, event), id_
    assert found["event.hf_risk"].notna().sum() > 20


def test_history_comes_from_earlier_stays_and_names_no_heart_failure(
    demo: Path, found: pd.DataFrame, stays: pd.DataFrame
) -> None:
    titles = pd.read_csv(demo / "hosp" / "d_icd_diagnoses.csv.gz", dtype=str)
    codes = pd.read_csv(demo / "hosp" / "diagnoses_icd.csv.gz", dtype=str).merge(titles, on=["icd_code", "icd_version"])
    for id_, stay in stays.loc[found.index].iterrows():
        own = stays[stays.subject_id == stay.subject_id]
        earlier = own.index[own.dischtime <= stay.start]
        said = set(codes.long_title[codes.hadm_id.isin(earlier)].str.strip())
        cell = found["labs.medical history"][id_]
        assert set(cell.split("; ") if isinstance(cell, str) else []) <= said, id_
        if not said:
            assert cell is None
    text = " ".join(found["labs.medical history"].dropna()).lower()
    assert text and "heart failure" not in text and "cardiomyopathy" not in text


def test_height_and_weight_are_recent(demo: Path, found: pd.DataFrame, stays: pd.DataFrame) -> None:
    omr = pd.read_csv(demo / "hosp" / "omr.csv.gz", parse_dates=["chartdate"])
    weights = omr[omr.result_name == "Weight (Lbs)"].assign(
        kg=lambda rows: rows.result_value.astype(float) * 0.45359237
    )
    for id_, stay in stays.loc[found.index].iterrows():
        age = (stay.index_time.normalize() - weights.chartdate) / pd.Timedelta(days=1)
        usable = weights[(weights.subject_id == stay.subject_id) & (age > 0) & (age <= 365)]
        wanted = usable.sort_values(["chartdate", "seq_num"]).kg.iloc[-1] if len(usable) else np.nan
        np.testing.assert_allclose(found["labs.weight"][id_], wanted, atol=0.051, err_msg=id_)
