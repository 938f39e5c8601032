"""The text of a chest X-ray report: sections, sentences without clock times, and a note that is made of labels."""

import re
from collections.abc import Mapping

SECTIONS = (
    "examinations?|exams?|studies|study|type of exam(?:ination)?|views?|indications?|history|clinical (?:history|"
    "information|indication)|reason for (?:exam|examination|study|this examination)|technique|procedures?|comparisons?|"
    "wet read|notifications?|recommendations?|addendum|final addendum|provisional findings impression.*|"
    "dose|attending|signed by"
)
"""Headings that end a section. A heading that is not listed stays in the text, because it may name a view."""
WANTED = (
    r"findings?|impressions?|conclusions?|findings?\s*(?:and|/|&)\s*impressions?|impressions?\s*(?:and|/|&)\s*findings?"
)
"""Headings of the text that is kept."""
_HEADING = re.compile(rf"^[ \t]*(?:(?P<kept>{WANTED})|(?:{SECTIONS}))[ \t]*:", re.IGNORECASE | re.MULTILINE)
_CLOCK = re.compile(
    r"\b\d{1,2}:\d{2}\b|\b\d{1,2}\s*[ap]\.?\s?m\b|\b\d{3,4}\s*(?:hours|hrs)\b|\b(?:at|@)\s*\d{4}\b", re.IGNORECASE
)
_END = re.compile(r"(?<!\b[Dd]r\.)(?<!\b[Mm]r\.)(?<!\b[Mm]rs\.)(?<!\b[Mm]s\.)(?<!\b\d\.)(?<=[.!?])\s+(?=[A-Z0-9_(])")
_RULE = re.compile(r"^[\s_=*-]+$")

ABNORMAL_NOT = ("no_finding", "support_devices")
"""Labels that name no abnormal finding of the chest."""


def xray_note(report: str) -> str:
    """Take FINDINGS and IMPRESSION of a report, without sentences that hold a clock time.

    Args:
        report: The text of the file.

    Returns:
        One line of text. It is empty if the report has neither section, or if nothing is left of the sections.
    """
    parts = []
    matches = list(_HEADING.finditer(report))
    for number, match in enumerate(matches):
        end = matches[number + 1].start() if number + 1 < len(matches) else None
        if match["kept"]:
            parts.append(report[match.end() : end])
    return " ".join(text for part in parts if (text := without_clock_times(part)))


def without_clock_times(text: str) -> str:
    """Remove the sentences that hold a clock time. Many say when a doctor was called.

    Returns:
        The other sentences in one line.
    """
    sentences = _END.split(" ".join(text.split()))
    kept = [part for part in sentences if not _CLOCK.search(part) and not _RULE.match(part)]
    return " ".join(kept).strip()


def note_of_labels(labels: Mapping[str, float | None]) -> str:
    """Write a note from labels, for a study without a report (wording ours).

    Args:
        labels: Finding -> 1 (present), 0 (absent), -1 (uncertain) or None.

    Returns:
        The note. It is empty without a present or uncertain finding.
    """
    names = {value: [name for name, label in labels.items() if label == value] for value in (1, -1)}
    present, possible = ([name.replace("_", " ") for name in names[value] if name != "no_finding"] for value in (1, -1))
    sentences = []
    if labels.get("no_finding") == 1 and not set(names[1]) - set(ABNORMAL_NOT):
        sentences.append("No abnormal finding.")
    if present:
        sentences.append(f"The X-ray shows {_list(present)}.")
    if possible:
        sentences.append(f"Possible {_list(possible)}.")
    return " ".join(sentences)


def _list(names: list[str]) -> str:
    """Join names as English does: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
