"""The text-only questions of `experiments/bench_lookups.py`."""

from pathlib import Path

import pytest

from tgmm_hf.data.bench_items import CLOSED, REPORT, Question, option_answer
from tgmm_hf.data.instructions import Instruction, new_messages, read_instructions, write_instruction_rows

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
OPTIONS = ("sinus rhythm", "atrial flutter", "atrial fibrillation", "sinus bradycardia")


@pytest.fixture
def bench_lookups(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    import bench_lookups

    return bench_lookups


def bench_rows(number: str, split: str) -> list[Instruction]:
    named = {"dataset": "synthetic", "patient_id": number, "split": split, "ecg": f"ecg_{number}"}
    text = "\n".join(["Which one?", *(option_answer(*pair) for pair in enumerate(OPTIONS)), "Answer with the letter."])
    codes = ("SR", "AFLT", "AFIB", "SBRAD")
    question = Question(CLOSED, "rhythm", 0, ("AFIB",), OPTIONS, codes, "C")
    return [
        Instruction(
            f"{number}-closed", **named, messages=new_messages(text, "C. atrial fibrillation"), question=question
        ),
        Instruction(
            f"{number}-report",
            **named,
            messages=new_messages("Report?", "atrial fibrillation. left axis"),
            question=Question(REPORT, "all"),
        ),
    ]


def test_the_letter_follows_its_text_below_the_report(bench_lookups, tmp_path: Path):
    rows = [*bench_rows("1", "train"), *bench_rows("2", "validation"), *bench_rows("3", "test")]
    write_instruction_rows(rows, tmp_path / "bench.jsonl", ".jsonl")
    bench_lookups.write_lookups(tmp_path / "bench.jsonl", tmp_path / "lookups.jsonl", copies=6)
    written = read_instructions(tmp_path / "lookups.jsonl")
    asked = [row for row in written if "lookup" in row.id]
    assert [row.split for row in asked] == ["train"] * 6 + ["validation"]
    assert {row.id for row in written} - {row.id for row in asked} == {row.id for row in rows if row.split != "test"}
    for row in asked:
        first, question, *options, last = row.instruction.split("\n")
        assert first == "Report of this ECG: atrial fibrillation. left axis"
        assert (question, last) == ("Which one?", "Answer with the letter.")
        assert sorted(option[3:] for option in options) == sorted(OPTIONS)
        assert [option[:3] for option in options] == ["A. ", "B. ", "C. ", "D. "]
        assert row.report in options and row.report.endswith("atrial fibrillation")
    assert len({row.report for row in asked}) > 1
