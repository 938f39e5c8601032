"""Text-only questions whose answer a report tells, so that a language model learns which letter belongs to a text.

    python experiments/bench_lookups.py meit/bench.jsonl meit/lookups.jsonl --copies 4

Every closed question of the train and validation splits is asked again, below the report of its ECG, with its options
in a new order: N times in the train split, once in the validation split. The rows of the bench stand in the file too.
It serves a training with `data.streams: none`, which reads no ECG. It teaches nothing about ECGs.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tgmm_hf.data.bench_items import CLOSED, LETTERS, option_answer
from tgmm_hf.data.instructions import (
    Instruction,
    asked_in,
    new_messages,
    read_instructions,
    report_rows,
    rows_in_words,
    write_instruction_rows,
)
from tgmm_hf.utils.files import whole_file


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="bench file with closed questions and reports")
    parser.add_argument("file", type=Path, help="instruction file to write, in the directory of the bench file")
    parser.add_argument("--copies", type=int, default=4, help="rows for each closed question of the train split")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_lookups(arguments.bench, arguments.file, arguments.copies, arguments.seed)


def write_lookups(bench: Path, file: Path, copies: int, seed: int = 0) -> None:
    """Write the rows of a bench that are answered in words, and its closed questions below the reports."""
    rows = [row for row in rows_in_words(read_instructions(bench)) if row.split != "test"]
    rows = [replace(row, ecg=str(Path(row.ecg).relative_to(bench.parent))) for row in rows]
    with whole_file(file) as building:
        write_instruction_rows([*rows, *lookups(rows, copies, seed)], building, file.suffix)


def below_report(row: Instruction, report: str, order: Sequence[int]) -> Instruction:
    """Ask a closed question below the report of its ECG, with the options in the order `order`."""
    question, lines = asked_in(row), row.instruction.split("\n")
    options = [question.options[old] for old in order]
    answers = [option_answer(place, option) for place, option in enumerate(options)]
    right = list(order).index(question.right)
    text = "\n".join([f"Report of this ECG: {report}", lines[0], *answers, lines[-1]])
    asked = replace(question, options=tuple(options), letter=LETTERS[right])
    return replace(row, messages=new_messages(text, answers[right]), question=asked)


def lookups(rows: Sequence[Instruction], copies: int, seed: int) -> Iterator[Instruction]:
    """Ask the closed questions of `rows` below the reports of their ECGs, with the options in a new order."""
    reports = {row.ecg: row.report for row in report_rows(rows)}
    generator = np.random.default_rng(seed)
    for row in rows:
        if row.kind == CLOSED:
            for copy in range(copies if row.split == "train" else 1):
                asked = below_report(row, reports[row.ecg], generator.permutation(len(LETTERS)).tolist())
                yield replace(asked, id=f"{row.id}-lookup-{copy}", question=None)


if __name__ == "__main__":
    main()
