"""What a row of a bench file asks: the kind of the question, its category, the options and the right letter.

`tgmm make-bench` writes a bench file. It is an instruction file (`data/instructions.py`) whose rows have one more key,
`question`, with an object:

    kind           "closed" (four options), "open" (an answer in words), "report", "prediction" or "reconstruction"
    category       "diagnosis", "form" or "rhythm"; "signal" for prediction and reconstruction, "all" for a report
    template       number of the wording, from 0, within kind and category
    codes          codes of the statements that the answer names
    options        closed: the four texts in their order; else no key
    option_codes   closed: code of each option
    letter         closed: letter of the right option, "A" to "D"
    window         prediction, reconstruction: {"start", "seconds", "target_seconds"}, in seconds of the recording
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tgmm_hf.utils.errors import TgmmError

CLOSED, OPEN, REPORT, PREDICTION, RECONSTRUCTION = "closed", "open", "report", "prediction", "reconstruction"
KINDS = (CLOSED, OPEN, REPORT, PREDICTION, RECONSTRUCTION)
TEXT_KINDS = (CLOSED, OPEN, REPORT)
"""Kinds with an answer in words. The answer of the other kinds is a signal."""
CATEGORIES = ("diagnosis", "form", "rhythm")
SIGNAL, ALL = "signal", "all"
"""Category of signal questions, and of reports."""
LETTERS = "ABCD"
WINDOW_KEYS = ("start", "seconds", "target_seconds")
LONGEST_SECONDS = 1e5
"""Seconds of a recording beyond which no window is accepted. A day has 86,400."""


@dataclass(frozen=True)
class Window:
    """The part of a recording that a signal question is about.

    Attributes:
        start: Second of the recording at which the window begins.
        seconds: Length of the window.
        target_seconds: Length of what follows and must be predicted. 0 for a reconstruction.
    """

    start: float
    seconds: float
    target_seconds: float = 0.0


@dataclass(frozen=True)
class Question:
    """What a row asks, see the head of this file.

    Attributes:
        kind: One of `KINDS`.
        category: One of `CATEGORIES`, `SIGNAL` or `ALL`.
        template: Number of the wording.
        codes: Codes that the answer names.
        options: The four texts of a closed question, else empty.
        option_codes: Their codes.
        letter: The right letter of a closed question, else None.
        window: Of a signal question, else None.
    """

    kind: str
    category: str
    template: int = 0
    codes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    option_codes: tuple[str, ...] = ()
    letter: str | None = None
    window: Window | None = None

    @property
    def right(self) -> int:
        """Return the place of the right option, from 0. Only a closed question has one."""
        assert self.letter is not None
        return LETTERS.index(self.letter)


def option_answer(place: int, option: str) -> str:
    """Write an option as an answer: "B. atrial fibrillation".

    Args:
        place: Place of the option, from 0.
        option: Its text.
    """
    return f"{LETTERS[place]}. {option}"


def question_content(question: Question) -> dict[str, Any]:
    """Return a question as the value that JSON holds. A property that the kind lacks has no key."""
    content: dict[str, Any] = {"kind": question.kind, "category": question.category, "template": question.template}
    content["codes"] = list(question.codes)
    if question.kind == CLOSED:
        content |= {"options": list(question.options), "option_codes": list(question.option_codes)}
        content["letter"] = question.letter
    return content if question.window is None else content | {"window": vars(question.window)}


def checked_question(item: str, content: Any) -> Question:
    """Check the value of `question`, and make a `Question`.

    Args:
        item: Name of the row, for an error message.
        content: The parsed value.

    Raises:
        TgmmError: If a key is missing or has a value that it does not take.
    """
    if not isinstance(content, Mapping) or content.get("kind") not in KINDS:
        raise TgmmError(item, f"question must be an object whose kind is one of {', '.join(KINDS)}.")
    kind, template = content["kind"], content.get("template")
    categories = {CLOSED: CATEGORIES, OPEN: CATEGORIES, REPORT: (ALL,)}.get(kind, (SIGNAL,))
    if content.get("category") not in categories:
        raise TgmmError(item, f"the category of a question of the kind {kind} must be one of {', '.join(categories)}.")
    if not isinstance(template, int) or isinstance(template, bool) or template < 0:
        raise TgmmError(item, "template of its question must be a whole number from 0.")
    codes, options, option_codes = (
        _texts(item, key, content.get(key, [])) for key in ("codes", "options", "option_codes")
    )
    question = Question(kind, content["category"], template, codes, options, option_codes)
    if kind == CLOSED:
        return _with_letter(item, question, content.get("letter"))
    if kind in (PREDICTION, RECONSTRUCTION):
        return Question(kind, SIGNAL, template, window=_window(item, kind, content.get("window")))
    return question


def _texts(item: str, key: str, values: Any) -> tuple[str, ...]:
    """Check a list of texts of a question, and return it as a tuple."""
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        raise TgmmError(item, f"{key} of its question must be a list of texts.")
    return tuple(values)


def _with_letter(item: str, question: Question, letter: Any) -> Question:
    """Check options and letter of a closed question, and return it with the letter."""
    number = len(LETTERS)
    if len(question.options) != number or len(question.option_codes) != number or len(set(question.options)) != number:
        raise TgmmError(
            item,
            f"a closed question has {number} different options with a code each; this one has "
            f"{len(set(question.options))} different options and {len(question.option_codes)} codes.",
        )
    if not isinstance(letter, str) or len(letter) != 1 or letter not in LETTERS:
        raise TgmmError(item, f"letter of its question must be one of {', '.join(LETTERS)}.")
    whole = replace(question, letter=letter)
    if question.codes != (question.option_codes[whole.right],):
        raise TgmmError(item, "codes of its closed question must hold the code of the right option, and only this one.")
    return whole


def _window(item: str, kind: str, content: Any) -> Window:
    """Check the window of a signal question."""
    values = [content.get(key) if isinstance(content, Mapping) else None for key in WINDOW_KEYS]
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != len(WINDOW_KEYS) or not all(0 <= number < LONGEST_SECONDS for number in numbers):
        raise TgmmError(item, f"window of its question must hold the numbers {', '.join(WINDOW_KEYS)}, in seconds.")
    start, seconds, target = numbers
    if seconds == 0 or (target == 0) == (kind == PREDICTION):
        raise TgmmError(
            item,
            f"window of a {kind} has {seconds:g} s and {target:g} s of target. The window must be longer than 0 s, and "
            "only a prediction has a target.",
        )
    return Window(start, seconds, target)
