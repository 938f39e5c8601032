"""Figures of answers in words: accuracy of closed questions; token F1, ROUGE-L and findings of open questions.

Every figure is computed over all categories together and for each one, with a percentile bootstrap over patients. The
same resamples serve all systems, so the differences between systems are paired.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.cohorts.finding_reader import read_findings
from tgmm_hf.data.bench_items import CATEGORIES, LETTERS
from tgmm_hf.data.instructions import Instruction, asked_in
from tgmm_hf.evaluation.finding_figures import micro_f1, truth_of
from tgmm_hf.evaluation.metrics import Estimate, estimate, estimate_of_values, estimate_share, resampled_mean
from tgmm_hf.evaluation.text_metrics import TextResources, text_figures, tokenise

ALL = "all"
LETTER = re.compile(
    rf"\s*(?:(?:the )?(?:right )?answer(?: is)?:?\s*)?[(\[]?([{LETTERS}])(?:[.):\]]|\s*$)", re.IGNORECASE
)
"""A letter at the start of an answer. "A normal ECG" begins with an article, so a letter needs a sign or an end."""
OPEN_FIGURES = ("token_f1", "rouge_l", "micro_f1")
CLOSED_FIGURES = ("accuracy_likelihood", "accuracy_letter")

Figures = dict[str, Callable[[NDArray], NDArray]]
"""Name -> function from counts (R, n) to values (R,)."""


def letter_of(answer: str) -> str | None:
    """Return the letter that an answer begins with, None if it begins with none."""
    match = LETTER.match(answer)
    return None if match is None else match.group(1).upper()


def token_f1(reference: str, answer: str) -> float:
    """Compute the F1 of the tokens that an answer shares with its reference, each as often as it occurs."""
    reference_tokens, answer_tokens = Counter(tokenise(reference)), Counter(tokenise(answer))
    shared = (reference_tokens & answer_tokens).total()
    return (
        2 * shared / (reference_tokens.total() + answer_tokens.total())
        if shared
        else float(reference_tokens == answer_tokens)
    )


def by_category(rows: Sequence[Instruction]) -> dict[str, NDArray]:
    """Return "all" and each category that occurs -> numbers of its rows."""
    categories = np.array([asked_in(row).category for row in rows])
    named = {name: np.flatnonzero(categories == name) for name in CATEGORIES if (categories == name).any()}
    return {ALL: np.arange(len(rows))} | named


def closed_correct(
    rows: Sequence[Instruction], scores: NDArray | None, answers: Sequence[str] | None
) -> dict[str, Any]:
    """Return which closed questions are right: "accuracy_likelihood", "accuracy_letter" and "no_letter" -> (n,) bool.

    Args:
        rows: The questions.
        scores: (n, 4), how probable each option is. None leaves this figure out. Equal scores are wrong, because they
            choose nothing.
        answers: Written answers. None leaves this figure out.
    """
    correct: dict[str, Any] = {}
    if scores is not None:
        places = [asked_in(row).right for row in rows]
        best = scores == scores.max(axis=1, keepdims=True)
        correct["accuracy_likelihood"] = best[np.arange(len(rows)), places] & (best.sum(axis=1) == 1)
    if answers is not None:
        letters = [letter_of(answer) for answer in answers]
        right = [letter == asked_in(row).letter for row, letter in zip(rows, letters, strict=True)]
        correct["accuracy_letter"] = np.array(right, dtype=bool)
        correct["no_letter"] = np.array([letter is None for letter in letters], dtype=bool)
    return correct


def closed_figures(
    rows: Sequence[Instruction], systems: Mapping[str, Mapping[str, NDArray]], model: str, counts: NDArray
) -> dict[str, Any]:
    """Compute the figures of closed questions.

    Args:
        rows: The questions.
        systems: System -> what `closed_correct` returns.
        model: Name of the system that the others are subtracted from.
        counts: Resamples (R, n).

    Returns:
        "systems": system -> category -> figures. "differences": control -> category -> figures.
    """
    categories = by_category(rows)
    return {
        "systems": {
            name: {category: _closed_entry(correct, chosen, counts) for category, chosen in categories.items()}
            for name, correct in systems.items()
        },
        "differences": {
            name: {
                category: {
                    key: value
                    for figure in CLOSED_FIGURES
                    if figure in correct and figure in systems[model]
                    for key, value in _mean_difference(
                        systems[model][figure][chosen], correct[figure][chosen], counts[:, chosen]
                    )
                    .entry(f"{figure}_difference")
                    .items()
                }
                for category, chosen in categories.items()
            }
            for name, correct in systems.items()
            if name != model
        },
    }


def _closed_entry(correct: Mapping[str, NDArray], chosen: NDArray, counts: NDArray) -> dict[str, Any]:
    """Return the figures of one system on the rows `chosen`."""
    entry: dict[str, Any] = {"n": len(chosen)}
    for figure in CLOSED_FIGURES:
        if figure in correct:
            entry |= estimate_share(correct[figure][chosen], counts[:, chosen]).entry(figure)
    if "no_letter" in correct:
        entry["no_letter"] = float(correct["no_letter"][chosen].mean())
    return entry


def _mean_difference(first: NDArray, second: NDArray, counts: NDArray) -> Estimate:
    """Estimate the mean of `first` minus `second`, row by row."""
    return estimate(partial(resampled_mean, first.astype(np.float64) - second.astype(np.float64)), counts)


def open_figures(
    rows: Sequence[Instruction], systems: Mapping[str, Sequence[str]], model: str, counts: NDArray
) -> dict[str, Any]:
    """Compute the figures of open questions.

    Args:
        rows: The questions. Their answers are the references.
        systems: System -> one answer for each row.
        model: Name of the system that the others are subtracted from.
        counts: Resamples (R, n).

    Returns:
        "systems" and "differences" as in [`closed_figures`]; "implementations" and "metrics_missing" as in the
        evaluation of reports.
    """
    categories = by_category(rows)
    made: dict[str, dict[str, Figures]] = {}
    implementations: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, answers in systems.items():
        made[name] = {}
        for category, chosen in categories.items():
            figures, text = _open_one([rows[i] for i in chosen], [answers[i] for i in chosen])
            made[name][category] = figures
            implementations |= {key: text.implementations[key] for key in ("rouge_l",) if key in text.implementations}
            missing |= {key: text.missing[key] for key in ("rouge_l",) if key in text.missing}
    return {
        "systems": {
            name: {
                category: _open_entry(made[name][category], chosen, counts) for category, chosen in categories.items()
            }
            for name in systems
        },
        "differences": {
            name: {
                category: _differences(made[model][category], made[name][category], counts[:, chosen])
                for category, chosen in categories.items()
            }
            for name in systems
            if name != model
        },
        "implementations": implementations,
        "metrics_missing": missing,
    }


def _open_one(rows: Sequence[Instruction], answers: Sequence[str]) -> tuple[Figures, Any]:
    """Make the figures of one system on one category, and return the text metrics with what they were made by."""
    references = [row.report for row in rows]
    shared = np.array([token_f1(*pair) for pair in zip(references, answers, strict=True)])
    text = text_figures(references, answers, TextResources())
    findings = [read_findings(answer) for answer in answers]
    truth = truth_of([set(asked_in(row).codes) for row in rows], [findings])
    figures: Figures = {"token_f1": partial(resampled_mean, shared)}
    if "rouge_l" in text.figures:
        figures["rouge_l"] = text.figures["rouge_l"]
    figures["micro_f1"] = partial(micro_f1, truth, findings)
    return figures, text


def _open_entry(figures: Figures, chosen: NDArray, counts: NDArray) -> dict[str, Any]:
    entry: dict[str, Any] = {"n": len(chosen)}
    for name, figure in figures.items():
        entry |= estimate(figure, counts[:, chosen]).entry(name)
    return entry


def _differences(first: Figures, second: Figures, counts: NDArray) -> dict[str, Any]:
    """Estimate the differences of all figures that both systems have."""
    entry: dict[str, Any] = {}
    whole = np.ones((1, counts.shape[1]))
    for name in first:
        if name in second:
            value = float((first[name](whole) - second[name](whole))[0])
            difference = estimate_of_values(value, first[name](counts) - second[name](counts))
            entry |= difference.entry(f"{name}_difference")
    return entry


def frequent_answers(training: Sequence[Instruction]) -> dict[str, str]:
    """Return category -> the most frequent answer to its open questions; of several, the first in the alphabet."""
    answers: dict[str, Counter[str]] = {}
    for row in training:
        answers.setdefault(asked_in(row).category, Counter())[row.report] += 1
    return {category: min(count, key=lambda text: (-count[text], text)) for category, count in answers.items()}
