"""Count what a bench file holds: rows by split, kind, category, wording and letter, and the statements."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tgmm_hf.data.bench_items import CLOSED, KINDS, LETTERS, OPEN
from tgmm_hf.data.instructions import Instruction
from tgmm_hf.data.manifest import SPLITS


def bench_counts(rows: Sequence[Instruction]) -> dict[str, Any]:
    """Count the rows of a bench file.

    Args:
        rows: All rows, each with a question.

    Returns:
        "rows": their number. "ecgs", "patients": split -> number. "kinds": kind -> split -> rows. "categories": "kind /
        category" -> split -> rows. "templates": "kind / category / number" -> rows. "letters": category -> letter ->
        closed questions with this answer. "statements": code -> "open" (open questions whose answer names it), "right"
        and "wrong" (closed questions with it as the right, or as a wrong option).
    """
    asked = [(row.split, row.question) for row in rows if row.question is not None]
    kinds = Counter((question.kind, split) for split, question in asked)
    categories = Counter((f"{question.kind} / {question.category}", split) for split, question in asked)
    templates = Counter(f"{question.kind} / {question.category} / {question.template}" for _, question in asked)
    closed = [question for _, question in asked if question.kind == CLOSED]
    letters = Counter((question.category, question.letter) for question in closed)
    return {
        "rows": len(asked),
        "ecgs": {split: len({row.ecg for row in rows if row.split == split}) for split in SPLITS},
        "patients": {split: len({row.patient_id for row in rows if row.split == split}) for split in SPLITS},
        "kinds": {kind: {split: kinds[kind, split] for split in SPLITS} for kind in KINDS},
        "categories": {
            name: {split: categories[name, split] for split in SPLITS}
            for name in dict.fromkeys(name for name, _ in sorted(categories))
        },
        "templates": {name: templates[name] for name in sorted(templates)},
        "letters": {
            category: {letter: letters[category, letter] for letter in LETTERS}
            for category in sorted({question.category for question in closed})
        },
        "statements": _statements([question for _, question in asked]),
    }


def _statements(questions: Sequence[Any]) -> dict[str, dict[str, int]]:
    """Count for each statement the open questions and the closed options that name it, the most frequent first."""
    named = Counter(code for question in questions if question.kind == OPEN for code in question.codes)
    shown = Counter(code for question in questions for code in question.option_codes)
    right = Counter(code for question in questions if question.kind == CLOSED for code in question.codes)
    codes = sorted(named.keys() | shown.keys(), key=lambda code: (-named[code], code))
    return {code: {"open": named[code], "right": right[code], "wrong": shown[code] - right[code]} for code in codes}
