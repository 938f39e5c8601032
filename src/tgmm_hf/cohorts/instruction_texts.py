"""The texts of instruction data: reports cleaned as published, statements as words, and instructions."""

from collections.abc import Iterable, Mapping

import numpy as np

from tgmm_hf.cohorts.ecg_statements import BY_CODE
from tgmm_hf.data.instructions import Statement
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import TgmmError

MIMIC, PTBXL, SYNTHETIC = "mimic-iv-ecg", "ptb-xl", "synthetic"
"""Names of the data sets."""

_OF_MIMIC = (
    "Given the ECG signal embeddings, please help me generate an accurate description for this ECG signal embeddings:"
)
PUBLISHED = {MIMIC: _OF_MIMIC, PTBXL: "generate a description of the ECG embeddings:", SYNTHETIC: _OF_MIMIC}
"""Data set -> the published instruction, letter by letter. The synthetic cohort takes the one of MIMIC-IV-ECG."""
OWN_INSTRUCTIONS = (
    "What does this ECG show?",
    "Please report on this 12-lead electrocardiogram.",
    "Describe the rhythm, the conduction, the axis and the ST-T segment of this ECG.",
    "Write the findings of this ECG in short statements.",
    "You are reading a resting ECG. Which statements apply?",
    "Summarise this electrocardiogram for a colleague.",
    "Interpret the ECG. Name abnormal findings, or say that the ECG is normal.",
    "List what a cardiologist would note about this recording.",
    "Give the machine statements for this ECG.",
    "Is this ECG normal? Answer with a report.",
    "Read the twelve leads and write a report:",
    "Generate the report of this ECG.",
)
"""Further wordings (ours). None of them names a finding, because it would give a part of the answer away."""

REPORT_COLUMNS = tuple(f"report_{number}" for number in range(18))
"""Columns of MIMIC-IV-ECG's machine_measurements.csv that hold the machine's report."""
UNUSABLE = "something wrong with the data"
"""A report that holds these words is skipped, as in the published code. Compared in lower case."""
EDIT_MARK, TRACING_ONLY = "edit:", "trace only requested"
"""Texts in reports of PTB-XL, see `clean_ptbxl_report`."""
CERTAINTY_WORDS = {"definite": "", "probable": "probable ", "possible": "possible ", "unstated": ""}
"""Certainty -> words before a statement. A certainty that nobody stated adds no doubt."""


# ---- reports


def clean_machine_report(lines: Iterable[str | None]) -> str:
    """Clean the report of an ECG machine as the published code does.

    The lines that are there are joined with ". ". EKG becomes ECG. The characters `*`, `=`, `-` and spaces are taken
    away at both ends of the whole text. Letters become small.

    Args:
        lines: report_0 to report_17 of one study. None or an empty text is no line.

    Returns:
        The report. It is empty if there is no line.
    """
    joined = ". ".join(line for line in lines if line is not None and line.strip())
    return joined.replace("EKG", "ECG").strip("*=- \t\r\n").lower()


def clean_ptbxl_report(text: str) -> str:
    """Clean a report of PTB-XL as the published code does: small letters, no spaces at the ends.

    Two things are ours. What follows "Edit:" is taken away, because it holds the codes of the annotators. A report that
    says that only a tracing was requested is empty, because it says nothing about the ECG.
    """
    report = text.lower().split(EDIT_MARK)[0].strip()
    return "" if report.startswith(TRACING_ONLY) else report


# ---- statements


PROBABLE_FROM = 50.0
"""Lowest likelihood, in percent, of a probable statement."""


def certainty_of(likelihood: float, probable_from: float = PROBABLE_FROM) -> str:
    """Turn a likelihood of PTB-XL, in percent, into a certainty: 100 definite, then probable, above 0 possible.

    0 is "unstated", because PTB-XL writes 0 where the source states no likelihood.

    Args:
        likelihood: The likelihood.
        probable_from: Lowest likelihood that is probable.
    """
    if likelihood >= 100:
        return "definite"
    if likelihood >= probable_from:
        return "probable"
    return "possible" if likelihood > 0 else "unstated"


def statements_of_codes(
    likelihoods: Mapping[str, float], probable_from: float = PROBABLE_FROM
) -> tuple[Statement, ...]:
    """Turn SCP codes into statements, in the order of a report: rhythm, axis, diagnostic, form; likely ones first.

    Args:
        likelihoods: Code -> likelihood in percent.
        probable_from: As in [`certainty_of`].
    """

    def place(code: str) -> tuple[int, float, str]:
        kind = BY_CODE[code].kind if code in BY_CODE else "form"
        return ("rhythm", "axis", "diagnostic", "form").index(kind), -likelihoods[code], code

    return tuple(
        Statement(code, "present", certainty_of(likelihoods[code], probable_from))
        for code in sorted(likelihoods, key=place)
    )


def words_of_statements(statements: Iterable[Statement], descriptions: Mapping[str, str]) -> str:
    """Write statements as a report: the official descriptions with the certainty before them, in small letters.

    Args:
        statements: Statements that are present.
        descriptions: Code -> description, of scp_statements.csv.
    """
    texts = [CERTAINTY_WORDS[entry.certainty] + descriptions[entry.code] for entry in statements]
    return ". ".join(texts).lower()


# ---- instructions


def instruction_wordings(dataset: str, number: int, seed: int) -> tuple[str, ...]:
    """Choose the instructions of a data set.

    Args:
        dataset: `MIMIC`, `PTBXL` or `SYNTHETIC`.
        number: How many. 1 is the published instruction. More are added from `OWN_INSTRUCTIONS` in a random order.
        seed: Source of that order.

    Raises:
        TgmmError: If there are not that many.
    """
    most = 1 + len(OWN_INSTRUCTIONS)
    if not 1 <= number <= most:
        raise TgmmError("wordings", f"wordings is {number}; it must be 1 to {most}.")
    order = np.random.default_rng(seed).permutation(len(OWN_INSTRUCTIONS))
    return PUBLISHED[dataset], *(OWN_INSTRUCTIONS[place] for place in order[: number - 1])


def drawn_instruction(wordings: tuple[str, ...], seed: int, identifier: str) -> str:
    """Draw the instruction of one ECG. It depends on the seed and the id, and not on the other ECGs."""
    return wordings[int(json_digest([seed, identifier]), 16) % len(wordings)]
