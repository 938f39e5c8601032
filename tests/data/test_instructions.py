"""The instruction file: JSONL and Parquet hold the same rows, and a file that cannot be trusted is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tgmm_hf.data.instructions import Instruction, Statement, new_messages, read_instructions, write_instruction_rows

ROWS = [
    Instruction(
        *("7", "ptb-xl", "p1", "train", "ecg/00007"),
        new_messages("Describe the ECG:", "sinusrhythmus, möglich\nlinkstyp"),
        (Statement("SR"), Statement("AFIB", "absent", "possible")),
        "de",
    ),
    Instruction("8", "ptb-xl", "p1", "train", "ecg/00008", new_messages("Describe it:", "sinus rhythm"), ()),
    Instruction("9", "mimic-iv-ecg", "p2", "test", "ecg/00009", new_messages("Describe it:", "atrial fibrillation")),
]


def write(directory: Path, *changes: dict[str, Any]) -> Path:
    """Write one row per change: the last of `ROWS` with the change applied. None takes a key away."""
    write_instruction_rows(ROWS[-1:], directory / "one.jsonl", ".jsonl")
    base = json.loads((directory / "one.jsonl").read_text())
    rows = [{key: value for key, value in (base | change).items() if value is not None} for change in changes]
    path = directory / "changed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_both_forms_give_back_every_row(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    write_instruction_rows(ROWS, path, suffix)
    rows = read_instructions(path)
    assert [{**vars(row), "ecg": str(Path(row.ecg).relative_to(tmp_path))} for row in rows] == list(map(vars, ROWS))
    assert [row.id for row in read_instructions(path, split="test")] == ["9"]
    with pytest.raises(ValueError, match="no row of the split validation among 3 rows"):
        read_instructions(path, split="validation")


def test_a_line_is_the_documented_object(tmp_path: Path) -> None:
    write_instruction_rows(ROWS, tmp_path / "rows.jsonl", ".jsonl")
    first, second, third = (json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines())
    assert first["messages"] == [
        {"role": "user", "content": [{"type": "ecg"}, {"type": "text", "text": "Describe the ECG:"}]},
        {"role": "assistant", "content": "sinusrhythmus, möglich\nlinkstyp"},
    ]
    assert first["statements"][1] == {"code": "AFIB", "polarity": "absent", "certainty": "possible"}
    assert second["statements"] == [] and "language" not in second
    assert "statements" not in third  # no truth is not the same as an empty truth


def test_a_conversation_names_the_recording(tmp_path: Path) -> None:
    write_instruction_rows(ROWS, tmp_path / "rows.jsonl", ".jsonl")
    row = read_instructions(tmp_path / "rows.jsonl")[0]
    question, answer = row.conversation()
    assert question["content"][0] == {"type": "ecg", "ecg": str(tmp_path / "ecg" / "00007")}
    assert answer["content"] == row.report == "sinusrhythmus, möglich\nlinkstyp"
    assert row.instruction == "Describe the ECG:" and row.conversation(with_answer=False) == [question]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{"patient_id": None}], "row 1: patient_id must hold a text"),
        ([{"id": 9}], "row 1: id must hold a text"),
        ([{"split": "dev"}], "row 1: its split is none of train"),
        ([{}, {"split": "train"}], "row 2: its id stands in an earlier row"),
        ([{}, {"id": "10", "split": "train"}], "row 2: its patient is in the splits test and train"),
        ([{"ecg": "../elsewhere/1"}], "row 1: its recording lies outside"),
        ([{"ecg": "/etc/passwd"}], "row 1: its recording lies outside"),
        ([{"messages": new_messages("a", "b")[:1]}], "last message is by user"),
        ([{"messages": new_messages("a", " ")}], "end with a text"),
        ([{"messages": [{"role": "assistant", "content": "b"}]}], "0 such block"),
        ([{"messages": [{"role": "doctor", "content": "b"}]}], "must be a list of"),
        ([{"statements": [{"code": "SR", "polarity": "yes", "certainty": "definite"}]}], "polarity is one of"),
        ([{"statements": ["SR"]}], "statements must be a list"),
    ],
)
def test_a_wrong_row_is_named_by_its_number(tmp_path: Path, changes: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_instructions(write(tmp_path, *changes))
    assert "fibrillation" not in str(error.value)


def test_a_broken_line_is_not_quoted(tmp_path: Path) -> None:
    path = write(tmp_path, {}, {"id": "10"})
    path.write_text(path.read_text()[:-5])
    with pytest.raises(ValueError, match=r"changed\.jsonl, line 2: this is not valid JSON") as error:
        read_instructions(path)
    assert "fibrillation" not in str(error.value)
    (tmp_path / "x.parquet").write_text("text")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read_instructions(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"ends with '\.csv'"):
        read_instructions(tmp_path / "x.csv")


def test_recordings_elsewhere_are_read_if_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, {"ecg": "../elsewhere/1"})
    assert read_instructions(path, allow_outside=True)[0].ecg == str(tmp_path / "../elsewhere/1")
