"""Write the text of a laboratory cell with letters that tokenizers know, and read ages and ranges."""

import re
import unicodedata
from collections.abc import Collection

ADULT_AGE, OLDEST_AGE = 18, 120
"""Years. Between them a number with "M" or "W" behind it may be an age with a gender."""
_AGE_AND_GENDER = re.compile(r"(?!0\d{2}[MW]$)(?P<age>\d{1,4})\s*[mw]", re.IGNORECASE)
"""Age and gender written together, such as "54M" or "61w". DICOM writes 54 months as "054M",
and a zero in front leaves no doubt."""
_NO_WORDS = ("nan", "nat", "null", "<na>", "#n/a")
"""Entries that no person writes into a list of words."""
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u2060-\u2064\ufeff]")
"""Soft hyphens, joiners, spaces without a width and marks of direction."""
_LETTER_FORMS = ("<compat>", "<wide>", "<narrow>", "<font>")
"""Kinds of characters that are plain letters in another form: ligatures, letters of another width or font."""


def plain_letters(text: str) -> str:
    """Write ligatures and other forms of letters as plain letters, and a letter with its accent as one character.

    A PDF holds "fi" as one character, and some systems store an accent apart. A tokenizer that does not know such a
    character loses the whole word.
    """
    if text.isascii():
        return text
    return "".join(map(_plain_letter, unicodedata.normalize("NFC", text)))


def without_invisible(text: str) -> str:
    """Remove characters without a width from words, such as a soft hyphen, because a tokenizer drops them.

    A check would not see the word that the model reads. Between digits they may part two numbers, so a number with one
    stays as it is.
    """
    return text if text.isascii() else _INVISIBLE.sub("", text)


def _plain_letter(character: str) -> str:
    """Return the plain letters of one character, or the character if they are not ASCII."""
    if unicodedata.decomposition(character).partition(" ")[0] not in _LETTER_FORMS:
        return character
    plain = unicodedata.normalize("NFKC", character)
    return plain if plain.isascii() else character


def may_be_age_and_gender(text: str) -> bool:
    """Tell whether a text such as "54M" may be 54 months, or a man of 54 years.

    A larger number than `OLDEST_AGE`, such as 852 months, leaves no doubt. Nor does a child's age in months.

    Args:
        text: of the cell of the age.
    """
    match = _AGE_AND_GENDER.fullmatch(text)
    return match is not None and ADULT_AGE <= float(match["age"]) <= OLDEST_AGE


def is_range(text: str) -> bool:
    """Tell whether a text is a range "2-4" of two rising numbers without leading zeros, as some laboratories report."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)", text)
    if match is None or any(re.match(r"0\d", number) for number in match.groups()):
        return False
    return float(match[1]) < float(match[2])


def without_missing_entries(text: str, missing: Collection[str]) -> str:
    """Leave out entries of a list of words that a program wrote for missing ones; "" if all entries are missing.

    Args:
        text: of a column of words, with commas between the entries.
        missing: words for a missing cell, in lower case. "None" and "NA" beside other entries are words.
    """
    entries = [entry.strip() for entry in text.split(",")]
    if all(entry.casefold() in missing for entry in entries):
        return ""
    present = [entry for entry in entries if entry.casefold() not in _NO_WORDS]
    return text if len(present) == len(entries) else ", ".join(present)


__all__ = ["is_range", "may_be_age_and_gender", "plain_letters", "without_missing_entries"]
