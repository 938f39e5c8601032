"""A bench file about the ECGs of tests/reporter_data.py, and models of a few lines that answer it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.cohorts.bench_texts import closed_question, open_question, signal_texts
from tgmm_hf.data.bench_items import LETTERS, Question, Window, option_answer
from tgmm_hf.data.instructions import Instruction, new_messages, read_instructions, write_instruction_rows
from tgmm_hf.evaluation.bench_words import Sight
from tgmm_hf.inputs.ecg_signal import HarmonisedEcg, resample_leads

OPTIONS = {
    "diagnosis": ("AMI", "LVH", "CLBBB", "1AVB"),
    "rhythm": ("SR", "AFIB", "AFLT", "PACE"),
}
TEXTS = {"AMI": "anterior myocardial infarction", "LVH": "left ventricular hypertrophy"}


def write_bench(reporter_file: Path, name: str, kinds: Sequence[str] = ("closed", "open", "report", "signal")) -> Path:
    """Write a bench file beside `reporter_file`: one row of each kind and ECG. Which letter is right changes."""
    rows: list[Instruction] = []
    for number, row in enumerate(read_instructions(reporter_file)):
        codes = tuple(one.code for one in row.statements)
        category = "diagnosis" if "AMI" in codes else "rhythm"
        turn = number // 2 % 4
        order = OPTIONS[category][-turn:] + OPTIONS[category][:-turn] if turn else OPTIONS[category]
        texts = tuple(TEXTS.get(code, code.lower()) for code in order)
        right = order.index(OPTIONS[category][0])
        closed = Question("closed", category, 0, (order[right],), texts, order, LETTERS[right])
        opened = Question("open", "diagnosis", 1, ("AMI",) if "AMI" in codes else ())
        answer = TEXTS["AMI"] if "AMI" in codes else "no diagnostic statement"
        made: list[tuple[Question, str, str]] = []
        if "closed" in kinds:
            made.append((closed, closed_question(0, category, texts), option_answer(right, texts[right])))
        if "open" in kinds:
            made.append((opened, open_question(1, "diagnosis"), answer))
        if "report" in kinds:
            made.append((Question("report", "all", 0, codes), "describe it", row.report))
        if "signal" in kinds:
            for kind, window in (("prediction", Window(1.5, 4, 1)), ("reconstruction", Window(2, 4))):
                made.append((Question(kind, "signal", 0, window=window), *signal_texts(kind, 0, window)))
        ecg = str(Path(row.ecg).relative_to(reporter_file.parent))
        rows += [
            replace(row, id=f"{row.id}-{n}", ecg=ecg, messages=new_messages(text, words), question=question)
            for n, (question, text, words) in enumerate(made)
        ]
    path = reporter_file.parent / name
    write_instruction_rows(rows, path, path.suffix)
    return path


class KnowingModel:
    """Knows the answer of each ECG, if it sees the signal. With the picture alone it says the first option."""

    streams: tuple[str, ...] = ("signal", "picture")
    has_vectors = False

    def __init__(self) -> None:
        self.rows: Sequence[Instruction] = ()
        self.seen: list[Sight] = []

    def open(self, rows: Sequence[Instruction], asked: int, cache: Path | None) -> dict[int, str]:
        """Refuse the first row."""
        self.rows = rows
        return {0: "it cannot be used"}

    def write(self, numbers: Sequence[int], sights: Sequence[Sight], title: str) -> list[tuple[str, bool]]:
        """Give the reference of the row whose ECG is seen, if this row has the same kind of question."""
        self.seen += sights
        return [(self.rows[sight.row].report if self._sees(sight) else "A. the first", True) for sight in sights]

    def weigh_options(self, numbers: Sequence[int], sights: Sequence[Sight], title: str) -> NDArray:
        """Weigh the option that the row whose ECG is seen would have; without the signal all alike."""
        scores = np.zeros((len(numbers), 4))
        for place, sight in enumerate(sights):
            if self._sees(sight):
                scores[place, self.rows[sight.row].question.right] = 1
        return scores

    def vectors(self, numbers: Sequence[int]) -> NDArray:
        """Never called, because the model has none."""
        raise AssertionError

    def described(self) -> dict[str, Any]:
        """Name the family."""
        return {"model_family": "knowing"}

    def _sees(self, sight: Sight) -> bool:
        return sight.row is not None and "signal" in sight.streams


class ShiftedModel:
    """Gives the mean of each lead of a window, and rebuilds windows 0.1 mV too high."""

    sampling_rate = 250.0

    def clean(self, ecg: HarmonisedEcg) -> NDArray:
        """Resample only."""
        return resample_leads(ecg, self.sampling_rate).signal

    def predict(self, windows: NDArray, samples: int) -> NDArray:
        """Continue by the mean."""
        return np.repeat(windows.mean(axis=2, keepdims=True), samples, axis=2)

    def rebuild(self, windows: NDArray) -> NDArray:
        """Add 0.1 mV."""
        return windows + 0.1

    def described(self) -> dict[str, Any]:
        """Name the family."""
        return {"model_family": "shifted"}
