"""Doubts about the text cells of a lab row: text that is no words, one text in two columns, history against gender.

No text of a cell is put into a reason or a finding. Decision 161 gives the reasons and the limits.
"""

import re
from collections.abc import Mapping
from itertools import combinations

from .lab_columns import ENGLISH_GENDERS, find_column
from .lab_findings import Finding, lab_finding
from .lab_history_checks import HISTORY, history_findings
from .lab_letters_lost import foreign_letters, is_base64, is_damaged

CODED_LENGTH, CODED_RISES = 12, 4
"""A word of this many letters and digits, in which a capital follows a small letter this often, is base64 or a key. The
name "DiphenhydrAMINE" has one such place. A word without a digit is names that were written together."""
LONG_WORD = 50
"""Letters and digits without a break. The longest word of 106,327 titles of diagnoses has 31 letters."""
EQUAL_LENGTH = 20
"""Letters from which two equal texts are named, because "unknown" may be right in two columns."""
ETHNICITY, GENDER_LETTERS = "ethnicity", ("F", "M", "f", "m")
LONG_LIST = 3
"""Entries of a list that are no ethnicity. Two may be: "White, Asian"."""
MAX_LENGTH = 20_000
"""Letters of a text that are looked at, because that takes time."""
DATE_LENGTH = 60
"""A longer text is no date."""

_BREAKS = re.compile(r"[\W_]+")
_RISE = re.compile(r"[a-z][A-Z]")
_RUN = re.compile(rf"[A-Za-z0-9]{{{LONG_WORD},}}")
_OF_TIMES = re.compile(r"(?<=\d)T(?=\d)|(?<=\d)\s?(?:Z|AM|PM|UTC)\b", re.IGNORECASE)
"""Letters of a time: "2026-11-29T08:15:00Z", "8:15 pm"."""
_DATE = re.compile(
    r"[\W\d]*\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b[\W\d]*",
    re.IGNORECASE,
)
"""One date with the English name of a month, and nothing else."""

_MARKUP = re.compile(
    r"\{\\rtf|</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>|&(?:amp|lt|gt|quot|apos|nbsp|szlig|[lr][sd]quo|[nm]dash|hellip|"
    r"[a-z]{1,2}(?:uml|acute|grave|circ|tilde|cedil|ring|slash|lig)|#x?[0-9a-f]+)[;,]",
    re.IGNORECASE,
)
"""RTF, tags of HTML or XML, and their codes for characters."""
_ESCAPED = re.compile(
    r"(?<=[A-Za-z])%(?:20|\d[A-F]|[A-F][0-9A-F])(?=[\w%])|(?<=[A-Za-z])(?:%2[CF]|%3[AB]|(?:%[0-9A-F]{2}){2})|"
    r"(?:=[0-9A-F]{2}){2}|(?<=[A-Za-z])=(?!A1c)(?:[89][A-F]|[A-F][0-9A-F])(?=[a-z])|"
    r"\\[nrt](?![^\W\dA-Z_])|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}"
)
"""Characters that a program wrote as codes: "type%202", "h=C3=A4m", a backslash with n for a new line.

One code of two digits is none, because clinicians write "HR =75bpm" and "Dextrose%50IV". A backslash with n before a
small letter is none either, because drugs are listed as "aspirin\\nitroglycerin"."""
_TURNED = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Marks that show the letters in another order than they are stored in."""
_ADDRESS = re.compile(r"https?://|www\.|[A-Za-z]:\\|\\\\\w|(?:^|\s)/(?:\w[\w-]*/)+[\w-]+\.\w{2,4}\b|^/\S+/\S+$")
"""An address of the web, or the path of a file."""
_STRUCTURE = re.compile(r"\s*(?:\{\s*\}|\[\s*\]|\{\s*[\"'].*\}|\[\s*[\"'{].*\])\s*", re.DOTALL)
"""A list or an object of JSON or Python."""
_CHOICE = re.compile(r"yes|true|false|y/n|checked|ja|oui|si", re.IGNORECASE)
"""The answer to a question that is not in the cell."""
_AGE = re.compile(r"\s*\d+\s*-?(?:y|yrs?|years?|months?|days?)(?:[ -]old)?\.?\s*", re.IGNORECASE)
_LAB_RESULT = re.compile(r"\d\s*(?:pg|ng|mg|ug|µg|μg|umol|µmol|μmol|mmol|mEq)/(?:d?L|ml)\b", re.IGNORECASE)
"""A number with a laboratory's unit. Drugs have such units too (50 mg/mL), histories have not."""
_SENTENCE = re.compile(r" of the \w+ is\b", re.IGNORECASE)
"""What stands behind the name of a cell in the text that the model reads: "NTproBNP of the patient is 20000"."""
NAME_LENGTH = 60
"""Letters before `_SENTENCE` that may be the name of a column."""
_LOST = "\ufffd"
"""The character that stands where a text was decoded wrongly."""
_QUANTITY = re.compile(
    r"\W*\d+(?:[.,]\d+)?\s*(?:cm|mm|m|kg|lbs?|pounds?|inch(?:es)?|in|ft|mg|mcg|ug|µg|g|ml|l|iu|units?|mmhg|bpm|"
    r"kg/m2|kg/m²|°[cf])\W*",
    re.IGNORECASE,
)
"""A number with a unit, and nothing else: a height among words, or a dose without its drug."""

_DOSE = re.compile(r"\d\s*(?:mg|mcg|ug|µg|ml|units?)\b", re.IGNORECASE)
"""The dose of a drug."""


def text_doubt(column: str, text: str) -> str | None:
    """Say why a text is no text of a column of words; None if it may be one.

    Args:
        column: name of the column: ethnicity, medical history or drug history.
        text: text of the cell, with a letter or digit in it.
    """
    looked_at = text[:MAX_LENGTH]
    sentences = _SENTENCE.finditer(text)
    has_letters = any(character.isalpha() for character in _OF_TIMES.sub("", looked_at))
    if not has_letters or (len(text) <= DATE_LENGTH and _DATE.fullmatch(text) and text.casefold() != "may"):
        return f"{column} holds words, but the cell holds nothing but a date or numbers: write the words"
    if (reason := _doubt_of_column(column, looked_at)) is not None:
        return reason
    if (reason := _doubt_of_characters(column, looked_at)) is not None:
        return reason
    if column == HISTORY and _LAB_RESULT.search(looked_at):
        return f"{column} holds a laboratory result: put it into the column of the test"
    if any(_ends_with_column(text[max(0, match.start() - NAME_LENGTH) : match.start()]) for match in sentences):
        return f"{column} holds a sentence such as the model reads for another cell: write the words of this cell alone"
    if _holds_key(looked_at):
        return f"{column} holds words, but the cell holds a key or encoded text: write the words"
    return None


def writing_doubt(name: str, text: str) -> str | None:
    """Say that a text of words is markup, codes or a key of a program; None if it may be words.

    Args:
        name: what the text is, for the message.
        text: of any length; its first `MAX_LENGTH` letters are looked at.
    """
    looked_at = text[:MAX_LENGTH]
    if (doubt := _doubt_of_characters(name, looked_at)) is not None:
        return doubt
    return f"{name} holds a key or encoded text: write the words" if _holds_key(looked_at) else None


def _holds_key(text: str) -> bool:
    """Tell whether a text holds a word that is a key or encoded text."""
    return _RUN.search(text) is not None or any(map(_is_coded, _BREAKS.split(text)))


def _doubt_of_column(column: str, text: str) -> str | None:
    """Say that a text belongs to another column, or is no answer of its own; None if it may belong to this one."""
    if len(text) > 1 and text.casefold() in ENGLISH_GENDERS:  # one letter may be a code of the column
        return f"{column} holds a gender: the columns may have been exchanged"
    for kind, words in (("a quantity and no word", _QUANTITY), ("an age", _AGE)):
        if words.fullmatch(text):
            return f"{column} holds {kind}: the columns may have been exchanged, or a word is missing"
    if column == ETHNICITY and _DOSE.search(text):
        return f"{column} holds a dose: the columns may have been exchanged"
    if _CHOICE.fullmatch(text.strip()):
        return f"{column} holds words, but the cell holds yes or no: write the words"
    return None


def _doubt_of_characters(column: str, text: str) -> str | None:
    """Say that characters were lost or are codes, marks or markup of a program; None if they are letters."""
    if _LOST in text:
        return f"{column} holds characters that were lost in a wrong encoding: export the table as UTF-8"
    if _MARKUP.search(text) or _ADDRESS.search(text) or _STRUCTURE.fullmatch(text):
        return (
            f"{column} holds markup, an address or a structure of a program where words are expected: write the words"
        )
    if _ESCAPED.search(text):
        return f"{column} holds codes in the place of characters, as addresses and mails have them: write the words"
    if (reason := foreign_letters(text)) is not None:
        return f"{column} holds {reason}: export the table anew, or write the words"
    if _TURNED.search(text):
        return f"{column} holds marks that turn the order of letters: write the words without them"
    return None


def _ends_with_column(text: str) -> bool:
    """Tell whether the last words of a text are the name of a known column."""
    words = text.split()
    return any(find_column(" ".join(words[start:])) is not None for start in range(len(words)))


def _is_coded(word: str) -> bool:
    """Tell whether a word looks like base64: small letters and capitals without order."""
    has_digit = any(character.isdigit() for character in word)
    if has_digit and len(word) >= CODED_LENGTH and len(_RISE.findall(word)) >= CODED_RISES:
        return True
    return len(word) >= CODED_LENGTH and is_base64(word)


def text_findings(texts: Mapping[str, str], age: float | None = None) -> list[Finding]:
    """List the text cells of a row that contradict each other.

    Args:
        texts: column -> text, of the known text columns; gender as F or M.
        age: years; None without one.

    Returns:
        Findings with a `code`: "labs_equal_texts", "labs_ethnicity", "labs_damaged_text", and the codes of
        `history_findings`.
    """
    findings = []
    for one, two in combinations([name for name in texts if name != "gender"], 2):
        if len(texts[one]) >= EQUAL_LENGTH and texts[one].casefold() == texts[two].casefold():
            findings.append(lab_finding("labs_equal_texts", one, f"{one} and {two} hold one text: look which is wrong"))
    ethnicity = texts.get(ETHNICITY, "")
    # Beside a gender the letter may be a code of the hospital.
    is_gender = ethnicity in GENDER_LETTERS and "gender" not in texts
    if is_gender or ethnicity.count(",") + 1 >= LONG_LIST:
        text = "ethnicity holds the letter of a gender or a long list: look whether columns were exchanged"
        findings.append(lab_finding("labs_ethnicity", ETHNICITY, text))
    for column, words in texts.items():
        if column != "gender" and is_damaged(words[:MAX_LENGTH]):
            text = f"{column} may be cut, repeat one word, or hold question marks for letters: look at the source"
            findings.append(lab_finding("labs_damaged_text", column, text))
    return findings + history_findings(texts, age)
