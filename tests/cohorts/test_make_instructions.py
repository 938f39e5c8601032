"""`tgmm make-instructions`: reports go to the right ECG, what is left out is counted, and texts are as published."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cohort_files import write_ecg
from ptbxl_files import STATEMENTS, write_arrays

from tgmm_hf.cli import main
from tgmm_hf.cohorts.instruction_texts import (
    OWN_INSTRUCTIONS,
    clean_machine_report,
    clean_ptbxl_report,
    drawn_instruction,
    instruction_wordings,
    statements_of_codes,
    words_of_statements,
)
from tgmm_hf.cohorts.instructions import OUTSIDE, make_instructions
from tgmm_hf.cohorts.instructions_ptbxl import _read_labels, read_descriptions
from tgmm_hf.cohorts.report_languages import language_of
from tgmm_hf.cohorts.splits import split_five_one_one
from tgmm_hf.data.instructions import Instruction, read_instructions
from tgmm_hf.inputs.feature_extraction_meit import MeitFeatureExtractor


def read(path: Path) -> dict[str, Instruction]:
    return {row.id: row for row in read_instructions(path, allow_outside=True)}


# ---- texts


@pytest.mark.parametrize(
    ("lines", "report"),
    [
        (["Sinus rhythm", None, "Borderline EKG"], "sinus rhythm. borderline ecg"),
        (["*** Poor quality ***", "", "--- Warning ==="], "poor quality ***. --- warning"),
        (["Sinus rhythm - normal ECG"], "sinus rhythm - normal ecg"),
        ([None, " ", ""], ""),
    ],
)
def test_machine_reports_are_cleaned_as_published(lines: list[str | None], report: str) -> None:
    assert clean_machine_report(lines) == report


def test_reports_of_ptbxl_hold_no_codes_of_the_annotators() -> None:
    assert clean_ptbxl_report(" Sinus rhythm. Normal ECG. Edit: NORM 100, (norm 80)") == "sinus rhythm. normal ecg."
    assert clean_ptbxl_report("sinusrhythmus QT-VerlÄngerung") == "sinusrhythmus qt-verlängerung"
    assert clean_ptbxl_report("Trace only requested. Edit: NORM 100, tor,") == ""


def test_certainty_is_worded() -> None:
    likelihoods = {"NDT": 100.0, "IMI": 15.0, "LVH": 50.0, "AMI": 80.0, "ASMI": 0.0, "SR": 0.0, "PVC": 0.0}
    statements = statements_of_codes(likelihoods)
    assert [(entry.code, entry.certainty) for entry in statements] == [
        ("SR", "unstated"),
        ("AMI", "probable"),
        ("LVH", "probable"),
        ("IMI", "possible"),
        ("ASMI", "unstated"),
        ("NDT", "definite"),
        ("PVC", "unstated"),
    ]
    names = {code: f"{code} words" for code in likelihoods}
    assert words_of_statements(statements, names) == (
        "sr words. probable ami words. probable lvh words. possible imi words. asmi words. ndt words. pvc words"
    )


@pytest.mark.parametrize(
    ("report", "language"),
    [
        ("sinus rhythm. normal ecg", "en"),
        ("sinusrhythmus linkstyp qrs(t) abnormal inferiorer infarkt alter unbest.", "de"),
        ("sinusrhythmus normales ekg", "de"),
        ("sinusrytm. normalt ekg", "sv"),
        ("förmaksflimmer", "sv"),
        ("sinusrhythmus a-v block i llt", "de"),
        ("qrs(t)", None),
        ("4.46 unbestätigter bericht sinusrhythmus", "de"),
    ],
)
def test_languages_are_told_apart(report: str, language: str | None) -> None:
    assert language_of(report) == language


def test_wordings_are_drawn_from_the_seed() -> None:
    one = instruction_wordings("ptb-xl", 1, seed=5)
    assert one == ("generate a description of the ECG embeddings:",)
    four = instruction_wordings("ptb-xl", 4, seed=5)
    assert four[0] == one[0] and len(set(four)) == 4 and set(four[1:]) <= set(OWN_INSTRUCTIONS)
    assert four == instruction_wordings("ptb-xl", 4, seed=5) != instruction_wordings("ptb-xl", 4, seed=6)
    drawn = Counter(drawn_instruction(four, 5, str(number)) for number in range(2000))
    assert all(420 < drawn[wording] < 580 for wording in four)  # 500 each, standard deviation 19
    with pytest.raises(ValueError, match="wordings is 14; it must be 1 to 13"):
        instruction_wordings("ptb-xl", 14, seed=5)


def test_patients_are_split_five_one_one() -> None:
    names = [str(number) for number in range(70)]
    split = split_five_one_one(names + names, seed=1)
    assert Counter(split.values()) == {"train": 50, "validation": 10, "test": 10}
    assert split == split_five_one_one(reversed(names), seed=1) != split_five_one_one(names, seed=2)
    with pytest.raises(ValueError, match="6 patients cannot be split"):
        split_five_one_one(names[:6], seed=1)


# ---- MIMIC-IV-ECG


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    """Twelve recordings in the layout of PhysioNet. The rows of the two tables are not in the same order."""
    directory = tmp_path / "mimic"
    studies = list(range(40000001, 40000011))
    records = [
        {"subject_id": 100 + n // 2, "study_id": study, "file_name": study, "path": f"files/p1/s{study}/{study}"}
        for n, study in enumerate(studies)
    ]
    for n in range(4):
        records.append({**records[0], "study_id": 40000090 + n, "subject_id": 200 + n, "path": f"files/x{n}"})
    records.append({**records[2], "path": "files/again"})  # study ...03 stands twice
    for row in records[:9]:
        write_ecg(directory / row["path"], row["study_id"])  # the last study has no file
    machine = [{**row, "report_0": f"Sinus rhythm {row['study_id']}", "report_1": ""} for row in records[:10]]
    machine += [{**records[10], "report_0": "", "report_1": " "}, {**records[11], "report_0": "x", "subject_id": 999}]
    machine += [{**records[12], "report_0": "one"}, {**records[12], "report_0": "other"}]
    machine += [{**records[0], "study_id": 5, "report_0": "of no recording"}]
    pd.DataFrame(records).to_csv(directory / "record_list.csv", index=False)
    table = pd.DataFrame(machine).drop(columns=["file_name", "path"]).sample(frac=1, random_state=0)
    table.to_csv(directory / "machine_measurements.csv", index=False)
    return directory


def test_reports_are_joined_by_study_and_losses_are_counted(mimic: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "mimic.jsonl"
    summary = make_instructions(mimic, out, seed=3)
    rows = read(out)
    assert sorted(rows) == [f"{study}" for study in range(40000001, 40000010) if study != 40000003]
    assert all(row.report == f"sinus rhythm {study}" for study, row in rows.items())  # by study_id, not by row
    assert all(row.statements is None and row.language == "en" for row in rows.values())
    assert rows["40000001"].ecg == str(out.parent / "../mimic/files/p1/s40000001/40000001")
    flow = {entry["step"]: (entry["admissions"], entry["patients"]) for entry in summary["flow"]}
    assert flow == {
        "source": (15, 9),
        "repeated": (2, 0),  # its patient has another study
        "repeated_report": (1, 1),
        "no_measurement": (1, 1),
        "other_patient": (1, 1),
        "no_report": (1, 1),
        "no_ecg": (1, 0),
        "used": (8, 5),
    }
    assert summary["notes"] == ["1 rows of machine_measurements have no recording in record_list.", OUTSIDE]
    assert len(make_instructions(mimic, mimic / "inside.jsonl")["notes"]) == 1
    assert len(read_instructions(mimic / "inside.jsonl")) == 8
    pairs = [(rows["40000001"], rows["40000002"]), (rows["40000005"], rows["40000006"])]
    assert all(one.patient_id == other.patient_id and one.split == other.split for one, other in pairs)
    assert rows["40000001"].instruction.startswith("Given the ECG signal embeddings, please help me")
    assert make_instructions(mimic, out, seed=3)["sha256"] == summary["sha256"]
    assert {row.split for row in (make_instructions(mimic, out, all_test=True), read(out))[1].values()} == {"test"}


def test_a_report_in_the_log_would_be_a_leak(mimic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["make-instructions", str(mimic), "--out", str(tmp_path / "m.parquet"), "--wordings", "2"])
    assert not stopped.value.code
    printed = capsys.readouterr()
    assert "8 ECGs" in printed.out and "splits: train" in printed.out
    assert "sinus" not in (printed.out + printed.err).lower() and "40000001" not in printed.out
    assert len({row.instruction for row in read(tmp_path / "m.parquet").values()}) == 2
    assert "sinus" not in (tmp_path / "m.parquet.json").read_text().lower()


def test_a_missing_table_or_report_stops_without_a_file(mimic: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.jsonl"
    table = pd.read_csv(mimic / "machine_measurements.csv")
    table.assign(report_0="", report_1="").to_csv(mimic / "machine_measurements.csv", index=False)
    with pytest.raises(ValueError, match="no ECG is left"):
        make_instructions(mimic, out)
    (mimic / "machine_measurements.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"machine_measurements\.csv"):
        make_instructions(mimic, out)
    with pytest.raises(FileNotFoundError, match="holds no data set"):
        make_instructions(tmp_path, out)
    with pytest.raises(ValueError, match=r"ends with '\.csv'"):
        make_instructions(mimic, tmp_path / "m.csv")
    assert not out.exists() and not (tmp_path / "m.jsonl.json").exists()


def test_foreign_files_are_not_replaced(mimic: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.jsonl"
    out.write_text("of somebody else")
    with pytest.raises(FileExistsError, match="did not write it"):
        make_instructions(mimic, out)
    assert out.read_text() == "of somebody else"
    (tmp_path / "other.jsonl.json").write_text('{"command": "x"}')
    with pytest.raises(FileExistsError, match=r"other\.jsonl\.json would be replaced"):
        make_instructions(mimic, tmp_path / "other.jsonl")


def test_the_tables_as_physionet_ships_them(shared_dir: Path, tmp_path: Path) -> None:
    """The header and the one row that are public, with a recording of our own in its place."""
    for name in ("record_list.csv", "machine_measurements.csv"):
        (tmp_path / name).write_bytes((shared_dir / "data" / "mimic_iv_ecg_schema" / name).read_bytes())
    write_ecg(tmp_path / "files/p1000/p10000032/s40689238/40689238", 1)
    make_instructions(tmp_path, tmp_path / "m.jsonl", all_test=True)
    (row,) = read_instructions(tmp_path / "m.jsonl", split="test")
    assert row.report == "sinus rhythm. possible right atrial abnormality. borderline ecg"
    assert (row.id, row.patient_id) == ("40689238", "10000032")
    with pytest.raises(ValueError, match="1 patients cannot be split"):
        make_instructions(tmp_path, tmp_path / "m.jsonl")


# ---- PTB-XL


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Five recordings in the layout of PhysioNet, the last without a file."""
    directory = tmp_path / "ptbxl"
    reports = ["Sinusrhythmus normales EKG ", "sinus rhythm. EKG OK", "", "something wrong with the data", "x"]
    codes = ["{'NORM': 100.0, 'SR': 0.0}", "{'SR': 0.0}", "{'IMI': 35.0, 'NDT': 100.0}", "{'SR': 0.0}", "{'SR': 0.0}"]
    rows = []
    for number, (report, code) in enumerate(zip(reports, codes, strict=True), start=1):
        name = f"records500/00000/{number:05d}_hr"
        row = {"ecg_id": number, "patient_id": float(number), "report": report, "scp_codes": code}
        rows.append(row | {"strat_fold": (1, 9, 10, 2, 3)[number - 1], "filename_hr": name, "filename_lr": "x"})
        if number < 5:
            write_ecg(directory / name, number)
    pd.DataFrame(rows).to_csv(directory / "ptbxl_database.csv", index=False)
    (directory / "scp_statements.csv").write_text(STATEMENTS)
    return directory


def test_reports_of_ptbxl_keep_their_language(official: Path, tmp_path: Path) -> None:
    summary = make_instructions(official, tmp_path / "p.jsonl")
    rows = read(tmp_path / "p.jsonl")
    assert {(row.id, row.report, row.language, row.split) for row in rows.values()} == {
        ("1", "sinusrhythmus normales ekg", "de", "train"),
        ("2", "sinus rhythm. ekg ok", "en", "validation"),
        ("3", "possible inferior myocardial infarction. non-diagnostic t abnormalities", "en", "test"),
    }
    assert summary["languages"] == {"de": 1, "en": 2}
    assert [entry["step"] for entry in summary["flow"]] == ["source", "unusable_report", "no_ecg", "used"]
    imi, ndt = rows["3"].statements or ()
    assert (imi.code, imi.certainty, ndt.code, ndt.certainty) == ("IMI", "possible", "NDT", "definite")
    make_instructions(official, tmp_path / "p.jsonl", text="statements")
    rows = read(tmp_path / "p.jsonl")
    assert [rows[name].report for name in ("1", "2", "4")] == ["sinus rhythm. normal ecg", *["sinus rhythm"] * 2]
    with pytest.raises(ValueError, match="'words'"):
        make_instructions(official, tmp_path / "p.jsonl", text="words")


def test_tables_that_do_not_fit_are_refused(official: Path, tmp_path: Path) -> None:
    table = pd.read_csv(official / "ptbxl_database.csv")
    for change, message in (
        ({"scp_codes": "{'XYZ': 100.0}"}, "lacks the description of 1 code.* XYZ"),
        ({"scp_codes": "SR"}, "no list and no dictionary"),
        ({"patient_id": ""}, "patient_id of 5 row.* is no number"),
        ({"ecg_id": 7}, "4 ecg_id stand twice, for example 7"),
    ):
        table.assign(**change).to_csv(official / "ptbxl_database.csv", index=False)
        with pytest.raises(ValueError, match=message):
            make_instructions(official, tmp_path / "p.jsonl")


def test_arrays_and_a_further_fold_in_the_same_form(tmp_path: Path) -> None:
    """The files name recordings that MEIT reads; a fold that comes later is the test split."""
    for name, folds, first in (("nine", [1, 2, 3, 4, 8, 9, 9, 9], 0), ("ten", [10] * 8, 8)):
        (tmp_path / name).mkdir()
        write_arrays(tmp_path / name, folds=folds, first=first)
        make_instructions(tmp_path / name, tmp_path / f"{name}.jsonl")
    rows = read_instructions(tmp_path / "nine.jsonl")  # the recordings lie below the file's directory
    assert Counter(row.split for row in rows) == {"train": 5, "validation": 3}
    assert rows[0].report == "normal ecg"
    assert rows[1].report == "possible inferior myocardial infarction. non-diagnostic t abnormalities"
    assert {row.split for row in read_instructions(tmp_path / "ten.jsonl")} == {"test"}
    with np.load(tmp_path / "nine" / "arrays.npz") as content:
        signal = content["signal"][3].astype(float)
    values = MeitFeatureExtractor().prepare(rows[3].ecg).values
    lead = int(np.argmax(np.ptp(signal, axis=0)))
    assert values.shape == (12, 5000)
    assert np.corrcoef(values[lead, ::5], signal[:, lead])[0, 1] > 0.99
    before = json.loads((tmp_path / "nine.jsonl.json").read_text())
    assert make_instructions(tmp_path / "nine", tmp_path / "nine.jsonl")["sha256"] == before["sha256"]
    (tmp_path / "nine.jsonl_ecg" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        make_instructions(tmp_path / "nine", tmp_path / "nine.jsonl")


def test_labels_of_the_real_arrays(shared_dir: Path) -> None:
    """Codes counted by another way: the words of the columns."""
    directory = shared_dir / "data" / "ptbxl"
    codes = _read_labels(directory / "labels_folds1-9.csv", read_descriptions(directory / "scp_statements.csv")).codes
    table = pd.read_csv(directory / "labels_folds1-9.csv").fillna("")
    for code, column, word in (
        ("AFIB", "rhythm", "'AFIB'"),
        ("NORM", "super_class", "'NORM'"),
        ("STD_", "form", "'STD'"),
        ("LAFB", "scp_diagnostic_likelihood", '"LAFB"'),
    ):
        assert sum(code in found for found in codes) == table[column].str.contains(word, regex=False).sum() > 10
