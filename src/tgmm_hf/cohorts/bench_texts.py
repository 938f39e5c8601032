"""The wording of Heartcare-Bench: questions, and statements in words with their certainty. All of it is ours.

No question names a statement, because it would give a part of the answer away. The wording of a
question depends on the seed and on the name of the question. It never depends on the answer.
"""

from collections.abc import Iterable

from tgmm_hf.cohorts.ecg_statements import BY_CODE
from tgmm_hf.data.bench_items import CLOSED, LETTERS, OPEN, PREDICTION, RECONSTRUCTION, SIGNAL, Window
from tgmm_hf.data.instructions import Statement
from tgmm_hf.utils.digests import json_digest

CATEGORY_OF_KIND = {"rhythm": "rhythm", "axis": "form", "form": "form", "diagnostic": "diagnosis"}
"""Kind of a statement -> category of the bench. The axis belongs to the form, because it is read from the QRS."""
PROBABLE_FROM = 80.0
"""Lowest likelihood, in percent, of a statement that is worded as highly likely. 100 is plain."""
CERTAINTY_WORDINGS = {
    "definite": ("",),
    "unstated": ("",),
    "probable": ("highly likely ", "probable ", "very likely "),
    "possible": ("possible ", "possibly ", "maybe "),
}
"""Certainty -> words before a statement, one of which is drawn. Without a stated certainty the words show no doubt."""
NOTHING_STATED = {
    "diagnosis": "no diagnostic statement",
    "form": "no statement about the form",
    "rhythm": "no statement about the rhythm",
}
"""Category -> answer of an open question if the ECG has no statement of the category."""

OPTION_WORDS = {"SR": "normal sinus rhythm"}
"""Code -> words of an option whose plain words would be true of another option too. A sinus tachycardia is a sinus
rhythm, but it is no normal sinus rhythm. The data sets state only one of the two codes."""

_QUESTIONS: dict[tuple[str, str], tuple[str, ...]] = {
    ("open", "diagnosis"): (
        "Which diagnostic statements does this ECG support?",
        "What is the diagnosis from this electrocardiogram?",
        "Name the diagnostic findings of this recording.",
        "What would a cardiologist diagnose from these twelve leads?",
        "Give the diagnostic statements for this ECG, with how sure they are.",
    ),
    ("open", "form"): (
        "What does the form of the waves show in this ECG?",
        "Describe the shape of the QRS complexes, the ST segments and the T waves.",
        "Which statements about the waveforms apply to this recording?",
        "Name what is notable in the morphology of this electrocardiogram.",
        "Which findings of form does this ECG have?",
    ),
    ("open", "rhythm"): (
        "Which rhythm does this ECG show?",
        "What is the rhythm of this recording?",
        "Name the heart rhythm in this electrocardiogram.",
        "How would you state the rhythm of these twelve leads?",
        "State the rhythm.",
    ),
    ("closed", "diagnosis"): (
        "Which diagnostic statement is true of this ECG?",
        "Choose the diagnosis that this electrocardiogram supports.",
        "One of these diagnostic statements belongs to this recording. Which one?",
        "What is the diagnostic finding here?",
        "Select the diagnostic statement that applies.",
    ),
    ("closed", "form"): (
        "Which statement about the waveforms is true of this ECG?",
        "Choose what the form of the waves shows in this electrocardiogram.",
        "One of these statements of form belongs to this recording. Which one?",
        "What is notable in the morphology here?",
        "Select the finding of form that applies.",
    ),
    ("closed", "rhythm"): (
        "Which rhythm statement is true of this ECG?",
        "Choose the rhythm of this electrocardiogram.",
        "One of these rhythms belongs to this recording. Which one?",
        "What is the rhythm here?",
        "Select the statement about the rhythm that applies.",
    ),
    ("prediction", "signal"): (
        "You see {seconds:g} s of this ECG, from {start:g} s. Continue all leads for {target:g} s.",
        "Predict the {target:g} s that follow second {end:g} of this recording.",
        "The window from {start:g} s to {end:g} s is known. Draw the next {target:g} s of every lead.",
    ),
    ("reconstruction", "signal"): (
        "Code the window from {start:g} s to {end:g} s of this ECG, and rebuild it.",
        "Rebuild {seconds:g} s of this recording, from second {start:g}, in all leads.",
        "Write down the part from {start:g} s to {end:g} s so that it can be drawn again.",
    ),
}
SIGNAL_ANSWERS = {
    PREDICTION: "the signal from {end:g} s to {until:g} s",
    RECONSTRUCTION: "the signal from {start:g} s to {end:g} s",
}
"""Kind -> text in the place of an answer that is a signal."""


def question_texts(kind: str, category: str) -> tuple[str, ...]:
    """Return all wordings of a kind and category. The wordings of signal questions have places for the window."""
    return _QUESTIONS[kind, category]


def categories_of(kind: str) -> tuple[str, ...]:
    """Return the categories that a kind has wordings for, in alphabetical order."""
    return tuple(sorted(category for question_kind, category in _QUESTIONS if question_kind == kind))


def drawn_number(seed: int, name: str, number: int) -> int:
    """Draw a number from 0 to `number` - 1. It depends on the seed and the name only, in every process."""
    return int(json_digest([seed, name]), 16) % number


def category_of(code: str) -> str | None:
    """Return the category of a statement, None for a code that the vocabulary does not have."""
    return CATEGORY_OF_KIND[BY_CODE[code].kind] if code in BY_CODE else None


def statement_text(statement: Statement, seed: int, name: str) -> str:
    """Write a statement in small letters, with its certainty before it.

    Args:
        statement: A statement that is present.
        seed: Seed of the wording.
        name: Name of the ECG, by which the wording is drawn.
    """
    words = CERTAINTY_WORDINGS[statement.certainty]
    chosen = words[drawn_number(seed, f"certainty/{name}/{statement.code}", len(words))]
    return (chosen + BY_CODE[statement.code].description).lower()


def option_text(statement: Statement, seed: int, name: str) -> str:
    """Write a statement as an option. It is true of no ECG that has another option, see `OPTION_WORDS`.

    Args:
        statement: A statement that is present.
        seed: Seed of the wording.
        name: Name of the ECG, by which the wording is drawn.
    """
    text = statement_text(statement, seed, name)
    words = BY_CODE[statement.code].description.lower()
    return text.replace(words, OPTION_WORDS.get(statement.code, words))


def open_answer(category: str, statements: Iterable[Statement], seed: int, name: str) -> str:
    """Write the answer of an open question: the statements of the category, or that there is none.

    Args:
        category: The category.
        statements: The present statements of this category.
        seed: Seed of the wording.
        name: Name of the ECG.
    """
    texts = [statement_text(statement, seed, name) for statement in statements]
    return ". ".join(texts) if texts else NOTHING_STATED[category]


def closed_question(template: int, category: str, options: Iterable[str]) -> str:
    """Write a closed question with its options, one a line."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
    return "\n".join([_QUESTIONS[CLOSED, category][template], *lines, "Answer with the letter and the words."])


def open_question(template: int, category: str) -> str:
    """Write an open question."""
    return _QUESTIONS[OPEN, category][template]


def signal_texts(kind: str, template: int, window: Window) -> tuple[str, str]:
    """Write a question about a signal, and the text in the place of its answer.

    Args:
        kind: `PREDICTION` or `RECONSTRUCTION`.
        template: Number of the wording.
        window: The part of the recording.
    """
    end = window.start + window.seconds
    places = {"start": window.start, "seconds": window.seconds, "end": end}
    places |= {"target": window.target_seconds, "until": end + window.target_seconds}
    return _QUESTIONS[kind, SIGNAL][template].format(**places), SIGNAL_ANSWERS[kind].format(**places)
