"""`tgmm curate-more`: which X-rays and ECGs are paired, what their notes say, and what is counted."""

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import run as run_command
from cxr_tables import REPORT, ecg, write_csv, write_cxr, write_ecg_lists, xray

from tgmm_hf.cohorts.mimic_cxr.curate_more import MoreSources, curate_more
from tgmm_hf.cohorts.mimic_cxr.report_text import note_of_labels, without_clock_times, xray_note
from tgmm_hf.cohorts.mimic_cxr.steps import MoreRules
from tgmm_hf.data.label_columns import read_labels
from tgmm_hf.data.note_tables import read_note_table
from tgmm_hf.utils.errors import TgmmError

A, B, C, D, E, F = (10_000_001 + number for number in range(6))
SPLITS = {"a1": "train", "a2": "train", "alat": "train", "b1": "validate", "c1": "test", "d1": "train", "d2": "test"}
SPLITS |= {"e1": "train"}


@pytest.fixture
def sources(tmp_path: Path) -> MoreSources:
    """Six patients. A has two X-rays and three ECGs in reach, D stands in two splits, E has no ECG in reach."""
    xrays = [
        xray("a1", A, 501, time="101500.125"),
        xray("a2", A, 502, "21800510", "AP"),
        xray("alat", A, 501, view="LATERAL"),
        xray("b1", B, 503),
        xray("c1", C, 504),
        xray("d1", D, 505),
        xray("d2", D, 506),
        xray("e1", E, 507),
        xray("f1", F, 508),  # no split
        xray("f2", F, 509, date="not a date"),
        xray("f3", F, 509, view=""),
        xray("a1", A, 501),  # stands twice
    ]
    labels = {
        501: {"Cardiomegaly": "1.0", "Pleural Effusion": "0.0", "Edema": "-1.0"},
        502: {"Cardiomegaly": "1.0", "Edema": "-1.0", "Pneumonia": "7"},
        503: {"No Finding": "1.0"},
    }
    reports = {(A, 501): REPORT, (B, 503): " no sections here", (C, 504): " IMPRESSION: =Clear lungs."}
    cxr = write_cxr(tmp_path / "data/cxr", xrays, SPLITS, labels, reports)
    ecgs = [
        ecg(A, 901, "2180-05-06 23:00:00"),
        ecg(A, 902, "2180-03-07 00:00:00"),  # 60 days before a1
        ecg(A, 903, "2180-05-07 02:00:00"),  # one day after a1
        ecg(A, 904, "2180-03-06 23:59:00"),  # 61 days before a1
        ecg(B, 905, "2180-05-06 08:00:00"),
        ecg(C, 906, "2180-05-01 08:00:00"),
        ecg(D, 907, "2180-05-06 08:00:00"),
        ecg(E, 908, "2181-05-06 08:00:00"),
        ecg(F, 909, "2180-05-06 08:00:00"),
        ecg(B, 910, ""),
        ecg(B, 911, "2180-05-06 08:00:00"),
        ecg(B, 911, "2180-05-06 09:00:00"),  # stands twice
    ]
    machine = [
        {"subject_id": A, "study_id": 901, "report_0": "Sinus rhythm", "report_1": "Abnormal ECG", "report_17": "ST"},
        {"subject_id": E, "study_id": 905, "report_0": "of another patient"},
        {"subject_id": C, "study_id": 906, "report_0": "Atrial fibrillation"},
    ]
    return MoreSources(cxr, write_ecg_lists(tmp_path / "data/ecg", ecgs, machine))


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_xrays_are_paired_with_all_ecgs_of_the_patient_within_the_days(sources: MoreSources, tmp_path: Path):
    summary = curate_more(sources, tmp_path / "data")
    rows = rows_of(tmp_path / "data/notes.csv")
    assert {name: int(row["days_apart"]) for name, row in rows.items()} == {
        "a1-901": 0,
        "a1-902": -60,
        "a1-903": 1,
        "a2-901": -4,
        "a2-903": -3,
        "b1-905": 0,
        "c1-906": -5,
    }
    assert {row["split"] for row in rows.values()} == {"train", "validation", "test"}
    assert rows["a1-901"]["xray"] == f"cxr/files/p10/p{A}/s501/a1.jpg"
    assert rows["a1-901"]["ecg"] == f"ecg/files/p1000/p{A}/s901/901"
    assert summary["counts"]["pairs"] == 7 and summary["counts"]["xrays"] == 4 and summary["counts"]["ecgs"] == 5
    assert summary["counts"]["views"]["LATERAL"] == 1
    assert read_note_table(tmp_path / "data/notes.csv")[0].text.keys() == {"xray", "ecg"}


def test_the_nearest_ecg_is_chosen_by_day_and_then_by_time(sources: MoreSources, tmp_path: Path):
    path = tmp_path / "more"
    curate_more(sources, path, MoreRules(pairs="nearest"))
    assert set(rows_of(path / "notes.csv")) == {"a1-901", "a2-903", "b1-905", "c1-906"}
    curate_more(sources, path, MoreRules(days=3))
    assert set(rows_of(path / "notes.csv")) == {"a1-901", "a1-903", "a2-903", "b1-905"}


def test_labels_are_missing_where_the_cell_is_empty_and_not_zero(sources: MoreSources, tmp_path: Path):
    curate_more(sources, tmp_path / "data")
    labels = read_labels(tmp_path / "data/notes.csv")
    assert labels["cardiomegaly"]["a1-901"] == 1 and labels["pleural_effusion"]["a1-901"] == 0
    unknown = [labels["edema"]["a1-901"], labels["pneumonia"]["a2-901"], labels["cardiomegaly"]["c1-906"]]
    assert all(value != value for value in unknown)
    curate_more(sources, tmp_path / "data", MoreRules(uncertain="keep"))
    assert rows_of(tmp_path / "data/notes.csv")["a1-901"]["label_edema"] == "-1"
    kept = read_labels(tmp_path / "data/notes.csv")["edema"]
    assert kept["a1-901"] != kept["a1-901"]  # an uncertain label is not scored


def test_notes_come_from_reports_then_from_labels_and_machine_reports(sources: MoreSources, tmp_path: Path):
    summary = curate_more(sources, tmp_path / "data")
    rows = rows_of(tmp_path / "data/notes.csv")
    note = rows["a1-901"]["xray_report"]
    assert "The heart is enlarged. There is no effusion." in note and note.endswith("Cardiomegaly.")
    assert not any(word in note for word in ("Dr.", "cough", "ward", "3:45"))
    assert "cardiomegaly" in rows["a2-901"]["xray_report"] and "edema" in rows["a2-901"]["xray_report"]
    sources_of = {name: rows[name]["xray_note_source"] for name in ("a1-901", "a2-901", "b1-905", "c1-906")}
    assert sources_of == {"a1-901": "report", "a2-901": "labels", "b1-905": "labels", "c1-906": "report"}
    assert rows["a1-901"]["ecg_report"] == "sinus rhythm. abnormal ecg. st"
    assert rows["b1-905"]["ecg_report"] == ""  # the report under its number is of another patient
    assert rows["c1-906"]["xray_report"] == "'=Clear lungs."  # no formula for a spreadsheet
    assert {row.id: row for row in read_note_table(tmp_path / "data/notes.csv")}["c1-906"].text[
        "xray"
    ] == "=Clear lungs."
    assert summary["counts"]["X-ray_notes_from"] == {"labels": 2, "report": 2}


def test_the_flow_names_every_exclusion_and_adds_up(sources: MoreSources, tmp_path: Path):
    curate_more(sources, tmp_path / "data")
    flow = json.loads((tmp_path / "data/flow.json").read_text())
    counts = {entry["step"]: entry.get("xrays", entry.get("pairs")) for entry in flow}
    assert counts == {
        "start": 12,
        "incomplete": 1,
        "repeated": 1,
        "view": 2,
        "no split": 1,
        "two splits": 2,
        "no ecg": 1,
        "included": 4,
        "train": 5,
        "validation": 1,
        "test": 1,
    }
    patients = {entry["step"]: entry["patients"] for entry in flow}
    assert patients["start"] == 6 and patients["included"] == 3 and patients["two splits"] == patients["no ecg"] == 1
    assert "X-rays" in (tmp_path / "data/flow.svg").read_text()
    table = pd.read_csv(tmp_path / "data/table1.csv", dtype=str).set_index(["characteristic", "statistic"])
    assert (
        table.loc[("pairs", "n"), "train"] == "5"
        and table.loc[("cardiomegaly", "present, n (%)"), "train"] == "2 (100.0)"
    )
    assert table.loc[("edema", "uncertain, n (%)"), "all"] == "2 (50.0)"
    assert pd.read_csv(tmp_path / "data/splits.csv", dtype=str).set_index("patient_id").split[str(B)] == "validation"


def test_patients_of_a_list_are_left_out_and_age_comes_from_mimic_iv(sources: MoreSources, tmp_path: Path):
    write_csv(tmp_path / "listed.csv", ["patient_id"], [{"patient_id": A}])
    patient = {"subject_id": B, "gender": "F", "anchor_age": 60, "anchor_year": 2178}
    write_csv(tmp_path / "iv/hosp/patients.csv", list(patient), [patient])
    more = MoreSources(
        sources.mimic_cxr, sources.mimic_ecg, None, tmp_path / "iv", exclude_patients=tmp_path / "listed.csv"
    )
    summary = curate_more(more, tmp_path / "more", parquet=True)
    table = pd.read_parquet(tmp_path / "more/notes.parquet")
    assert set(table.id) == {"b1-905", "c1-906"} and summary["table"] == "notes.parquet"
    assert any("train" in doubt for doubt in summary["doubts"])
    rows = pd.read_csv(tmp_path / "more/table1.csv", dtype=str).set_index(["characteristic", "statistic"])
    assert rows.loc[("gender: F", "n (%)"), "validation"] == "1 (100.0)"
    write_csv(tmp_path / "listed.csv", ["patient_id"], [{"patient_id": "somebody"}])
    with pytest.raises(TgmmError, match="no number"):
        curate_more(more, tmp_path / "more")


def test_reports_are_read_from_the_zip_file_too(sources: MoreSources, tmp_path: Path):
    path = tmp_path / "mimic-cxr-reports.zip"
    with zipfile.ZipFile(path, "w") as file:
        for report in sources.mimic_cxr.rglob("*.txt"):
            file.write(report, report.relative_to(sources.mimic_cxr))
            report.unlink()
    without = curate_more(sources, tmp_path / "without")
    assert "report" not in without["counts"]["X-ray_notes_from"] and any(
        "--reports" in text for text in without["doubts"]
    )
    zipped = curate_more(MoreSources(sources.mimic_cxr, sources.mimic_ecg, path), tmp_path / "more")
    assert zipped["counts"]["X-ray_notes_from"]["report"] == 2
    path.write_bytes(b"no zip")
    with pytest.raises(TgmmError, match="no ZIP"):
        curate_more(MoreSources(sources.mimic_cxr, sources.mimic_ecg, path), tmp_path / "more")


def test_a_table_of_another_origin_is_not_replaced(sources: MoreSources, tmp_path: Path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/notes.csv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.csv"):
        curate_more(sources, tmp_path / "more")
    assert (tmp_path / "more/notes.csv").read_text() == "mine"
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort/curate.json").write_text('{"rules": {}}')  # of `tgmm curate`
    with pytest.raises(FileExistsError, match="tgmm curate"):
        curate_more(sources, tmp_path / "cohort")


def test_no_pair_at_all_is_an_error_that_names_the_flow(sources: MoreSources, tmp_path: Path):
    write_ecg_lists(sources.mimic_ecg, [ecg(E, 908, "2181-05-06 08:00:00")], [])
    with pytest.raises(TgmmError, match=r"flow\.json"):
        curate_more(sources, tmp_path / "more")
    assert not (tmp_path / "more/notes.csv").exists()


def test_the_command_writes_the_table(sources: MoreSources, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words: list[Any] = ["curate-more", "--mimic-cxr", sources.mimic_cxr, "--mimic-ecg", sources.mimic_ecg]
    assert run_command(*words, "--out", tmp_path / "more", "--pairs", "nearest", "--uncertain", "keep") == 0
    assert "allow_outside" in capsys.readouterr().out
    assert rows_of(tmp_path / "more/notes.csv")["a1-901"]["label_edema"] == "-1"
    assert run_command(*words, "--out", tmp_path / "more", "--labels", "negbio") == 1  # no such table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FINDINGS: Clear.\nIMPRESSION: Normal.", "Clear. Normal."),
        ("Impression:\n No change.\n RECOMMENDATION: CT.", "No change."),
        ("FINDINGS AND IMPRESSION:  Clear lungs.", "Clear lungs."),
        ("INDICATION: cough. FINDINGS of old.", ""),
        ("", ""),
    ],
)
def test_only_findings_and_impression_are_taken(text: str, expected: str):
    assert xray_note(text) == expected


@pytest.mark.parametrize(
    "sentence",
    ["Called to Dr. ___ at 10:45.", "Seen at 3 pm.", "Paged at 1530 hours on ___.", "Told at 3:45 p.m. by Dr. ___."],
)
def test_sentences_with_clock_times_are_removed(sentence: str):
    assert without_clock_times(f"Heart normal. {sentence} No effusion.") == "Heart normal. No effusion."


def test_numbers_that_are_no_clock_times_stay():
    text = "A 3.5 cm mass at T5. Two of 10 ribs are fractured."
    assert without_clock_times(text) == text


def test_a_note_of_labels_names_present_and_uncertain_findings():
    labels = {"cardiomegaly": 1.0, "edema": -1, "pneumonia": 0, "pleural_effusion": 1, "fracture": None}
    note = note_of_labels(labels)
    assert "cardiomegaly and pleural effusion" in note and "edema" in note
    assert "pneumonia" not in note and "fracture" not in note
    assert note_of_labels({"no_finding": 1, "cardiomegaly": None}) and note_of_labels({"cardiomegaly": 0}) == ""
