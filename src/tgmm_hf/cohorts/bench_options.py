"""Closed questions whose options do not tell the answer: blocks of four questions with the same four options.

A block has four ECGs and four statements of one category. Each ECG has one of the statements, and none of the other
three is true of it. The four questions of a block show the same four texts. So each text is right once and wrong three
times in every block. A reader of the texts alone is right with probability 1/4, even if the reader knows how frequent
the statements are. The letters of the right options of a block are A, B, C and D in random order, and the wrong options
stand in random order.

This has a price. A frequent statement, such as sinus rhythm, is the answer for few of its ECGs, because every block
needs four different statements. The open questions ask all ECGs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tgmm_hf.cohorts.bench_texts import category_of, option_text
from tgmm_hf.cohorts.ecg_statements import BY_CODE
from tgmm_hf.data.bench_items import CATEGORIES, CLOSED, LETTERS, Question
from tgmm_hf.data.instructions import Statement

SIZE = len(LETTERS)
"""Questions of a block, and options of a question."""
ATTEMPTS = 200
"""Number of sets of statements that are tried for one block, before no more blocks are made."""

_IMPLICATIONS: tuple[tuple[str, str], ...] = (
    ("AFIB AFLT SVTAC PSVT", "SVARR"),
    ("PSVT", "SVTAC"),
    ("PVC PAC BIGU TRIGU", "PRC(S)"),
    ("1AVB", "LPR"),
    ("LPR", "1AVB"),
    ("INVT LOWT NT_ NDT", "TAB_"),
    ("INVT LOWT NDT TAB_", "NT_"),
    ("INVT LOWT NT_ TAB_", "NDT"),
    ("STD_ STE_", "NST_"),
    ("NST_", "STD_ STE_"),
    ("LVH HVOLT", "VCLVH"),
    ("VCLVH", "LVH HVOLT"),
    ("LVH", "HVOLT"),
    ("QWAVE LVOLT HVOLT VCLVH IVCD CLBBB CRBBB ILBBB IRBBB", "ABQRS"),
    ("IMI AMI LMI PMI ASMI ALMI ILMI IPMI IPLMI", "QWAVE"),
    ("ASMI ALMI", "AMI"),
    ("ILMI IPMI IPLMI", "IMI"),
    ("ALMI ILMI IPLMI", "LMI"),
    ("IPMI IPLMI", "PMI"),
    ("IPLMI", "ILMI IPMI"),
    ("ISCAL ISCAS ISCIL ISCAN ISCIN ISCLA", "ISC_"),
    ("ISCAL ISCAS", "ISCAN"),
    ("ISCAL ISCIL", "ISCLA"),
    ("ISCIL", "ISCIN"),
    ("INJAL INJIL", "INJLA"),
    ("INJIL", "INJIN"),
)
IMPLIED = {
    code: frozenset(name for codes, implied in _IMPLICATIONS if code in codes.split() for name in implied.split())
    for code in BY_CODE
}
"""Code -> codes that may be true of the same ECG without a statement. They are not taken as wrong options (ours)."""


@dataclass(frozen=True)
class AskedEcg:
    """An ECG that closed questions can be asked about.

    Attributes:
        id: Name of the ECG.
        statements: Statements that are present.
    """

    id: str
    statements: tuple[Statement, ...]

    @property
    def not_wrong(self) -> frozenset[str]:
        """Return the codes that cannot be a wrong option: what is present, and what may follow from it."""
        present = {statement.code for statement in self.statements}
        return frozenset(present.union(*(IMPLIED.get(code, frozenset()) for code in present)))


def closed_questions(ecgs: Sequence[AskedEcg], seed: int) -> dict[str, list[Question]]:
    """Make the closed questions of one split. Every statement of an ECG is asked for once at most.

    Args:
        ecgs: The ECGs of the split. Their order does not matter.
        seed: Source of all draws.

    Returns:
        Name of an ECG -> its questions. The wording is left at 0. An ECG without a question has no entry.
    """
    ordered = sorted(ecgs, key=lambda ecg: ecg.id)
    questions: dict[str, list[Question]] = {}
    for number, category in enumerate(CATEGORIES):
        generator = np.random.default_rng([seed, number])
        for block in _Blocks(ordered, category, generator).all():
            for ecg, question in _asked(block, category, seed, generator):
                questions.setdefault(ecg.id, []).append(question)
    return questions


Unit = tuple[AskedEcg, Statement]
"""An ECG and one of its statements. The statement becomes the right option of a question."""


class _Blocks:
    """Draws the blocks of one category.

    Args:
        ecgs: All ECGs.
        category: The category.
        generator: Source of the draws.
    """

    def __init__(self, ecgs: Sequence[AskedEcg], category: str, generator: np.random.Generator) -> None:
        units: dict[str, list[Unit]] = {}
        for ecg in ecgs:
            for statement in ecg.statements:
                if category_of(statement.code) == category:
                    units.setdefault(statement.code, []).append((ecg, statement))
        self.generator = generator
        self.left = {code: [units[code][i] for i in generator.permutation(len(units[code]))] for code in sorted(units)}

    def all(self) -> list[list[Unit]]:
        """Draw blocks until no set of four statements gives one."""
        blocks = []
        while (block := self._next()) is not None:
            blocks.append(block)
        return blocks

    def _next(self) -> list[Unit] | None:
        """Draw one block, and take its units away. None if there is none."""
        codes = [code for code, units in self.left.items() if units]
        if len(codes) < SIZE:
            return None
        sizes = np.array([len(self.left[code]) for code in codes], dtype=np.float64)
        for _ in range(ATTEMPTS):
            # The more ECGs a statement has left, the more often it is drawn.
            places = self.generator.choice(len(codes), SIZE, replace=False, p=sizes / sizes.sum())
            if (block := self._block([codes[place] for place in places])) is not None:
                return block
        return None

    def _block(self, codes: Sequence[str]) -> list[Unit] | None:
        """Take one unit of each statement, so that the other three are not true of its ECG. None if there is none."""
        places = {}
        for code in codes:
            distractors = set(codes) - {code}
            matches = (place for place, (ecg, _) in enumerate(self.left[code]) if not distractors & ecg.not_wrong)
            if (place := next(matches, None)) is None:
                return None
            places[code] = place
        return [self.left[code].pop(place) for code, place in places.items()]


def _asked(
    block: Sequence[Unit], category: str, seed: int, generator: np.random.Generator
) -> list[tuple[AskedEcg, Question]]:
    """Make the four questions of a block.

    Args:
        block: Its units.
        category: Its category.
        seed: Seed of the words of certainty.
        generator: Source of letters and order.
    """
    texts = {statement.code: option_text(statement, seed, ecg.id) for ecg, statement in block}
    letters = generator.permutation(SIZE)
    questions = []
    for (ecg, statement), right in zip(block, letters, strict=True):
        distractors = [code for code in texts if code != statement.code]
        order = [distractors[place] for place in generator.permutation(SIZE - 1)]
        order.insert(int(right), statement.code)
        question = Question(
            CLOSED,
            category,
            codes=(statement.code,),
            options=tuple(texts[code] for code in order),
            option_codes=tuple(order),
            letter=LETTERS[right],
        )
        questions.append((ecg, question))
    return questions
