"""Findings in a report: which statements it makes, which it denies, and which it doubts.

The vocabulary finds the places where a statement is mentioned. The words around a place say whether the statement is
asserted, denied or doubted. The idea is that of NegEx (Chapman et al. 2001): a cue before or after the mention, with a
scope that ends at certain words. The cues are English, German and Swedish, because PTB-XL has reports in them.

Decision 157 gives the rules and their reasons.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from tgmm_hf.cohorts.ecg_statements import find_mentions

PRESENT, ABSENT = "present", "absent"
CERTAINTIES = ("definite", "probable", "possible")
"""How sure a report is, the surest first."""

SENTENCE_END = re.compile(r"[;:!?\n]|\.(?=\s|$)")

_CANNOT = r"(?:can ?not|can't|could not|kan (?:ej|inte))"
_RULE_OUT = r"(?:be )?(?:rule[d]? out|exclude[d]?)"
_NOT_EXCLUDED = (
    rf"{_CANNOT} {_RULE_OUT}|not (?:ruled out|excluded)|nicht (?:sicher )?(?:auszuschlie(?:ß|ss)en|ausgeschlossen)"
)
NO_CUE = re.compile(
    r"\bno (?:significant |major |other |further |definite )*(?:interval )?change\w*(?: (?:in|of|from))?|\bnot only\b"
    r"|\bwithout (?:any |significant )*change\w*",
    re.IGNORECASE,
)
"""Words that look like a denial and deny nothing that a statement says."""
POSSIBLE = re.compile(
    rf"\b(?:{_NOT_EXCLUDED}|possibl[ey]|possibility of|may(?:be)?|might|could|consider|questionable|rule out|r/o"
    r"|m(?:ö|oe|o)glich\w*|eventuell|evtl|fraglich\w*|m(?:ö|o)jlig\w*)(?!\w)",
    re.IGNORECASE,
)
PROBABLE = re.compile(
    r"\b(?:probabl[ey]|likely|presumabl[ey]|suggest(?:s|ing|ive of)?|consistent with|compatible with|suspect(?:ed)?"
    r"|suspicious for|wahrscheinlich\w*|vermutlich\w*|verdacht auf|v\. ?a\.|sannolik\w*|trolig\w*)(?!\w)",
    re.IGNORECASE,
)
DENIED = re.compile(
    r"\b(?:no|not|without|absence of|absent|negative for|free of|never|neither|nor|rule[sd] out|exclude[sd]?"
    r"|kein\w*|nicht|ohne|ing(?:en|a|et)|ej|utan)(?!\w)",
    re.IGNORECASE,
)
DENIED_AFTER = re.compile(
    r"(?:is |are |was |were |has been |have been )?"
    r"(?:absent|ruled out|excluded|unlikely|resolved|not (?:\w+ )?(?:seen|present|evident|identified|detected|found)"
    r"|no longer (?:seen|present|evident)|ausgeschlossen|nicht nachweisbar)\s*$",
    re.IGNORECASE,
)
AFTER = r"(?:is |are |was |were |ist |sind )?(?:{})\s*$"
POSSIBLE_AFTER = re.compile(
    AFTER.format(rf"{_NOT_EXCLUDED}|possible|questionable|m(?:ö|oe|o)glich\w*|fraglich\w*"), re.IGNORECASE
)
PROBABLE_AFTER = re.compile(
    AFTER.format(r"probable|likely|suspected|wahrscheinlich\w*|vermutlich\w*|sannolik\w*"), re.IGNORECASE
)
_TURN = "but|however|although|except|with|aber|jedoch|mit|men|med"
END_OF_DENIAL = re.compile(rf"\b(?:{_TURN})\b", re.IGNORECASE)
END_OF_DOUBT = re.compile(rf",|\b(?:and|und|och|{_TURN})\b", re.IGNORECASE)
ALTERNATIVE = re.compile(r"\s*(?:or|nor|oder|noch|eller)\b", re.IGNORECASE)


class Finding(NamedTuple):
    """What a report says of one statement.

    Attributes:
        code: Code of the statement.
        polarity: `PRESENT` or `ABSENT`.
        certainty: One of `CERTAINTIES`.
    """

    code: str
    polarity: str
    certainty: str


def read_findings(text: str) -> dict[str, Finding]:
    """Read the findings of a report, one for each statement that it mentions.

    A statement that is mentioned twice is present if one of the mentions asserts it, with the surest of the words.

    Args:
        text: The report.

    Returns:
        Code -> finding.
    """
    findings: dict[str, Finding] = {}
    for finding in _all_findings(text):
        earlier = findings.get(finding.code)
        if earlier is None or _rank(finding) < _rank(earlier):
            findings[finding.code] = finding
    return findings


def _rank(finding: Finding) -> tuple[bool, int]:
    return finding.polarity == ABSENT, CERTAINTIES.index(finding.certainty)


def _all_findings(text: str) -> Iterable[Finding]:
    """Yield a finding for every mention in a text."""
    plain = NO_CUE.sub(lambda match: " " * len(match.group()), text)
    ends = [match.start() for match in SENTENCE_END.finditer(text)]
    mentions = find_mentions(text)
    for mention in mentions:
        # A sentence end inside another mention, as in "qrs(t) abnormal.", is still one.
        start = max((end + 1 for end in ends if end < mention.start), default=0)
        stop = min((end for end in ends if end >= mention.end), default=len(text))
        other_places = [(other.start, other.end) for other in mentions if other is not mention]
        before = _without(plain, start, mention.start, other_places)
        following = plain[mention.end : stop]
        following_mention = min((first for first, _ in other_places if mention.end <= first < stop), default=None)
        parts = plain[mention.end : following_mention or stop].split(",")
        # The words before the next mention belong to that mention.
        its_parts = parts if following_mention is None else parts[:-1]
        after = next((part for part in map(_bare, its_parts) if part), "")
        yield Finding(mention.code, *_polarity_and_certainty(before, after, following))


def _without(text: str, start: int, stop: int, spans: Iterable[tuple[int, int]]) -> str:
    """Return a part of a text in which other mentions are blank, because their words are no cues."""
    letters = list(text[start:stop])
    for first, last in spans:
        for index in range(max(first, start), min(last, stop)):
            letters[index - start] = "_"
    return "".join(letters)


def _bare(text: str) -> str:
    return text.strip(" ()")


def _polarity_and_certainty(before: str, after: str, following: str) -> tuple[str, str]:
    """Return polarity and certainty of a mention.

    Args:
        before: Text from the start of the sentence to the mention, other mentions blank.
        after: First part behind the mention that belongs to the mention.
        following: Text from the mention to the end of the sentence.
    """
    if POSSIBLE_AFTER.fullmatch(after):
        return PRESENT, "possible"
    if DENIED_AFTER.fullmatch(after):
        return ABSENT, "probable" if after.endswith("unlikely") else "definite"
    if PROBABLE_AFTER.fullmatch(after):
        return PRESENT, "probable"
    doubted = [
        (match.end(), certainty)
        for certainty, cue in (("possible", POSSIBLE), ("probable", PROBABLE))
        for match in cue.finditer(before)
        if not END_OF_DOUBT.search(before, match.end())
    ]
    hidden = POSSIBLE.sub(lambda match: " " * len(match.group()), before)  # "cannot rule out" denies nothing
    if any(_reaches(hidden[match.end() :], following) for match in DENIED.finditer(hidden)):
        return ABSENT, "definite"
    return PRESENT, max(doubted)[1] if doubted else "definite"


def _reaches(between: str, following: str) -> bool:
    """Tell whether a denial reaches a mention.

    A comma ends a denial, unless the parts form a list that ends with "or": "no st elevation, depression, or q waves".

    Args:
        between: Text from the denial to the mention.
        following: Text from the mention to the end of the sentence.
    """
    if END_OF_DENIAL.search(between):
        return False
    parts = between.split(",")[1:]
    if not parts:
        return True
    last = parts[-1]
    return bool(ALTERNATIVE.match(last)) or any(ALTERNATIVE.match(part) for part in following.split(",")[1:])
