"""Why a Heartcare model names the right words beside a wrong letter: letter and words of closed questions apart.

    python experiments/heartcare_letters.py heartcare/bench/model_0 meit/bench.jsonl

An answer is "B. atrial fibrillation". For every closed question of a split the model weighs the four letters, and the
four texts after each of the four letters. The script prints

    letter          share of questions whose most probable letter is the right one (chance 0.25)
    loss of letter  mean surprise at the right letter, in nats (1.386 if all four letters are equally probable)
    words           share whose most probable text is the right one, averaged over the four letters before it
    words, letter   the same after the letter of each option: what the accuracy by likelihood compares
    follows letter  share of pairs of question and letter after which the most probable text is the one of that letter
                    (1: the model copies the option of the letter; 0.25: the letter does not matter)

With `--told` the model reads the report of the ECG in the question and no ECG. This asks whether it can find the letter
of words that it knows.

The text of a chosen letter can only be right if the letter is. A model that copies therefore cannot be scored by words.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from bench_lookups import below_report
from numpy.typing import NDArray
from tiny_training import write

from tgmm_hf.data.bench_items import CATEGORIES, CLOSED, LETTERS, option_answer
from tgmm_hf.data.ecg_reports import PICTURE, SIGNAL
from tgmm_hf.data.instructions import Instruction, asked_in, read_instructions, report_rows
from tgmm_hf.evaluation.bench_heartcare import HeartcareWords
from tgmm_hf.evaluation.bench_words import Sight
from tgmm_hf.families.heartcare.processing_heartcare import HeartcareRow
from tgmm_hf.families.shared.ecg_conversations import IGNORED_LABEL, pad_left

NUMBER = len(LETTERS)


def main() -> None:
    """Weigh letters and words of every split that is asked for, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="directory of a trained Heartcare model")
    parser.add_argument("bench", type=Path, help="bench file")
    parser.add_argument("--splits", nargs="+", default=["train", "validation", "test"])
    parser.add_argument("--rows", type=int, default=400, help="at most this number of questions of a split")
    parser.add_argument("--told", action="store_true", help="no ECG: the report of the ECG stands in the question")
    arguments = parser.parse_args()
    write("split | category | n | letter | loss of letter | words | words, letter | follows letter")
    words = HeartcareWords(arguments.model, progress=False)
    for split in arguments.splits:
        every = read_instructions(arguments.bench)
        reports = {row.ecg: row.report for row in report_rows(every)}
        closed = [row for row in every if row.kind == CLOSED and row.split == split]
        rows = [closed[i] for i in np.random.default_rng(0).permutation(len(closed))[: arguments.rows]]
        if arguments.told:
            rows = [below_report(row, reports[row.ecg], range(NUMBER)) for row in rows]
        if not rows:
            continue
        if not arguments.told:
            refused = words.open(rows, len(rows), None)
            rows = [row for number, row in enumerate(rows) if number not in refused]
            words.open(rows, len(rows), None)
        letters, texts = log_probabilities(words, rows, arguments.told)
        for category in ("all", *CATEGORIES):
            chosen = [i for i, row in enumerate(rows) if category in ("all", asked_in(row).category)]
            if chosen:
                figures = shares(letters[chosen], texts[chosen], [asked_in(rows[i]).right for i in chosen])
                write(f"{split} | {category} | {len(chosen)} | " + " | ".join(f"{figure:.3f}" for figure in figures))


def shares(letters: NDArray, texts: NDArray, right: Sequence[int]) -> list[float]:
    """Compute the five figures.

    Args:
        letters: (n, 4), log-probability of each letter.
        texts: (n, 4, 4), mean log-probability of a token of each text (last axis) after each letter.
        right: Place of the right option of each question.
    """
    places, every = np.array(right), np.arange(len(right))
    normed = letters - np.logaddexp.reduce(letters, axis=1, keepdims=True)
    after_own = texts[:, range(NUMBER), range(NUMBER)]
    return [
        float((letters.argmax(1) == places).mean()),
        float(-normed[every, places].mean()),
        float((texts.argmax(2) == places[:, None]).mean()),
        float((after_own.argmax(1) == places).mean()),
        float((texts.argmax(2) == np.arange(NUMBER)).mean()),
    ]


def log_probabilities(words: HeartcareWords, rows: Sequence[Instruction], told: bool) -> tuple[NDArray, NDArray]:
    """Return log-probabilities of the letters (n, 4), and of the texts after each letter (n, 4, 4).

    Args:
        words: The model.
        rows: Closed questions.
        told: Whether the model gets no ECG.
    """
    letters, texts = [], []
    for number, row in enumerate(rows):
        options = asked_in(row).options
        answers = [option_answer(letter, text) for letter in range(NUMBER) for text in options]
        seen = words.seen([Sight(None, ()) if told else Sight(number, (SIGNAL, PICTURE))], 0)
        first, rest = zip(*token_log_probabilities(words, row, seen, answers), strict=True)
        letters.append(np.array(first).reshape(NUMBER, NUMBER)[:, 0])
        texts.append(np.array(rest).reshape(NUMBER, NUMBER))
    return np.stack(letters), np.stack(texts)


def token_log_probabilities(
    words: HeartcareWords, row: Instruction, seen: HeartcareRow, answers: Sequence[str]
) -> Iterator[tuple[float, float]]:
    """Give for each answer the log-probability of its first token, a letter, and the mean of its other tokens."""
    reporter = words.reporter
    model, processor = cast(Any, reporter.pipe.model), cast(Any, reporter.pipe.processor)
    pieces = [
        reporter.pieces([*row.conversation(with_answer=False), {"role": "assistant", "content": text}], seen, False)
        for text in answers
    ]
    data = pad_left(processor.tokenizer, pieces, output_labels=True)
    inputs = {name: torch.from_numpy(array) for name, array in data.items()} | reporter.repeated([seen], len(pieces))
    labels = inputs.pop("labels")[:, 1:]
    with torch.no_grad():
        scores = model.eval()(**inputs, use_cache=False).logits[:, :-1].double().log_softmax(-1)
    for line, targets in zip(scores, labels, strict=True):
        counted = targets != IGNORED_LABEL
        values = line[counted].gather(-1, targets[counted].unsqueeze(-1)).squeeze(-1)
        if processor.tokenizer.decode(targets[counted][0]).strip() not in LETTERS:
            raise ValueError("The first token of an answer is more than its letter, so the two cannot be told apart.")
        yield float(values[0]), float(values[1:].mean())


if __name__ == "__main__":
    main()
