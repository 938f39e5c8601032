"""The vocabulary of ECG statements: each wording finds its own code, and the longer of two matches counts."""

import csv
from pathlib import Path

import pytest

from tgmm_hf.cohorts.ecg_statements import BY_CODE, STATEMENTS, find_mentions


def codes(text: str) -> list[str]:
    return [mention.code for mention in find_mentions(text)]


def test_every_description_and_wording_finds_its_own_code_only() -> None:
    assert len(BY_CODE) == len(STATEMENTS)
    texts = [(entry.code, text) for entry in STATEMENTS for text in (entry.description, entry.wording) if text]
    assert [(code, text) for code, text in texts if codes(text.upper()) != [code]] == []


def test_the_official_table_is_covered(shared_dir: Path) -> None:
    with (shared_dir / "data" / "ptbxl" / "scp_statements.csv").open() as file:
        official = {row[""]: row["description"] for row in csv.DictReader(file)}
    assert {code: BY_CODE[code].description for code in official} == official


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sinus rhythm with 1st degree a-v block. left axis deviation", ["SR", "1AVB", "LAD"]),
        ("rbbb with left anterior fascicular block. inferior infarct - age undetermined", ["CRBBB", "LAFB", "IMI"]),
        ("incomplete right bundle branch block", ["IRBBB"]),
        ("inferolateral myocardial infarction", ["ILMI"]),
        ("left ventricular hypertrophy by voltage", ["VCLVH"]),
        ("left ventricular hypertrophy", ["LVH"]),
        ("nonspecific st-t abnormalities. ST segment depression", ["NST_", "STD_"]),
        ("normal ecg", ["NORM"]),
        ("abnormal ecg", []),
        ("otherwise normal ecg", ["NORM"]),
        (
            "st segments are depressed in v5. t waves are inverted in avl. low limb lead voltage",
            ["STD_", "INVT", "LVOLT"],
        ),
        ("voltages are high in chest leads suggesting lvh", ["VCLVH"]),
        ("atrial-paced rhythm. pvc(s)", ["PACE", "PVC"]),
        ("a-v block ii. av block iii", ["2AVB", "3AVB"]),
        ("überdrehter linkstyp, inkompletter rechtsschenkelblock", ["LAD", "IRBBB"]),
        ("linkstyp. hinterwandinfarkt. t-negativierung", ["IMI", "INVT"]),
        ("sinus. rhythmical. branch block", []),
    ],
)
def test_wordings_of_machines_and_of_german_reports(text: str, expected: list[str]) -> None:
    assert codes(text) == expected


def test_a_mention_gives_its_place() -> None:
    text = "no evidence of atrial fibrillation."
    (mention,) = find_mentions(text)
    assert text[mention.start : mention.end] == "atrial fibrillation"
