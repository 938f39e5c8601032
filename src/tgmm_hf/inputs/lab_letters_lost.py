"""Find texts that an export damaged: a wrong encoding, letters apart, the writing of a program, a cut."""

import base64
import re
import string
import unicodedata

_NOT_ASCII = re.compile(r"[^\x00-\x7f]{2,}")
_WESTERN = r"[\u00a1-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc]"
_WESTERN_RUN = re.compile(rf"{_WESTERN}{{4,}}")
"""Four neighbouring letters or signs with accents, two letters among them: no word has them, and a Chinese or Russian
text that was read in a western encoding consists of them."""
WESTERN_LETTERS = 2
"""Letters of such a run. Signs alone, such as points in the middle of a line, are no text."""
_CYRILLIC, _GREEK = r"[\u0400-\u04ff]", r"[\u0370-\u03ff]"
_LATIN_LIKE_CYRILLIC = "(?:[aceopxyijks]+|[ABCEHIKMOPSTXY])"
_CYRILLIC_LIKE_LATIN = "(?:[асеорхуіјѕ]+|[АВСЕНІКМОРЅТХУ])"
_LATIN_LIKE_GREEK, _GREEK_LIKE_LATIN = "[oABEZHIKMNOPTYX]", "[οΑΒΕΖΗΙΚΜΝΟΡΤΥΧ]"
_TWO_ALPHABETS = re.compile(
    rf"(?<={_CYRILLIC}){_LATIN_LIKE_CYRILLIC}(?={_CYRILLIC})|(?<=[A-Za-z]){_CYRILLIC_LIKE_LATIN}(?=[A-Za-z])|"
    rf"(?<={_GREEK}){_LATIN_LIKE_GREEK}(?={_GREEK})|(?<=[A-Za-z]){_GREEK_LIKE_LATIN}(?=[A-Za-z])"
)
"""A letter between two letters of another alphabet that has the same look there: a Cyrillic "e" in a Latin word. Words
of two alphabets are written side by side ("COVID" before a Russian word), and a small Greek beta has its own look."""
_APART = re.compile(r"(?<!\w)(?:[^\W\d_] ){9,}[^\W\d_](?!\w)")
"""Ten letters or more with a space behind each. "C H F N Y H A" is two abbreviations."""
_PROGRAM = re.compile(
    r"<[\w.]+ object at 0x[0-9a-f]+>|\b(?:Timestamp|Decimal|datetime|array|Series|dict_\w+)\([\[{'\"\d]|^b(['\"]).*\1$",
    re.DOTALL,
)
"""A value as Python prints it: an object, a time, an array, bytes."""
_AGAIN = re.compile(r"\b(\w{4,})(?: \1){2,}\b", re.IGNORECASE)
"""One word three times or more, with nothing between. A list may name a drug twice, with a comma between."""
_CUT = re.compile(
    r"\[\s?(?:\.{3}|\u2026)\s?\]$|[\[(](?:text )?truncated[\])]$|"
    r"[\[(][^()\[\]]*(?<!\betc)(?<=[^\W\d_])(?:\.{3}|\u2026)$",
    re.IGNORECASE,
)
"""The mark of a program for a cut text, such as "[...]", or points in a bracket that has no end. Points behind a whole
word are a clinician's way to write ("see previous notes..."), and no list of words tells a whole word from a part."""
PRINTED_LENGTH = 49
"""Letters of a cell, with the three points, to which pandas cuts a longer text where it prints a table."""
_QUESTION_MARK = re.compile(r"(?<=[a-z])\?(?=[a-z])|\b[A-Z]\?(?=[a-z])")
"""A question mark inside a word: "Bl?sche". Clinicians write one before a word that is in doubt: "MI?stroke"."""
LOST_MARKS = 2
"""Question marks inside words from which letters were lost."""
LETTERS = 0.85
"""Least share of letters and spaces in a word that base64 hides."""


def foreign_letters(text: str) -> str | None:
    """Say what stands in the place of words: letters of another encoding or alphabet, letters apart, a program's value.

    Args:
        text: of a column of words.

    Returns:
        What the text holds; None for words.
    """
    if any(_is_misread(part) for part in _NOT_ASCII.findall(text)):
        return "letters that were read in a wrong encoding (UTF-8 as another one)"
    if any(sum(map(str.isalpha, run)) >= WESTERN_LETTERS for run in _WESTERN_RUN.findall(text)):
        return "letters that were read in a wrong encoding"
    if _TWO_ALPHABETS.search(text):
        return "words with letters of two alphabets"
    if _APART.search(text):
        return "letters with spaces between them"
    if _PROGRAM.search(text):
        return "a value as a program prints it"
    return None


def is_damaged(text: str) -> bool:
    """Tell whether a text ends as a program cuts it, repeats a word, or has question marks in the place of letters."""
    if _CUT.search(text) or (text.endswith("...") and len(text) == PRINTED_LENGTH) or _AGAIN.search(text):
        return True
    return len(_QUESTION_MARK.findall(text)) >= LOST_MARKS


def is_base64(word: str) -> bool:
    """Tell whether a word of small letters and capitals is base64 of a text. Any other word gives bytes of no text."""
    if not word.isascii() or not word.isalnum() or word.islower() or word.isupper():
        return False
    hidden = base64.b64decode(word[: len(word) // 4 * 4])
    letters = sum(chr(byte) in string.ascii_letters + " " for byte in hidden)
    return all(32 <= byte < 127 for byte in hidden) and letters >= LETTERS * len(hidden)


def _is_misread(part: str) -> bool:
    """Tell whether neighbouring letters beyond ASCII are a letter of UTF-8 that was read in another encoding."""
    for encoding in ("cp1252", "latin-1"):
        try:
            read = part.encode(encoding).decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            continue
        return all(
            unicodedata.name(letter, "").startswith("LATIN") or unicodedata.category(letter)[0] in "PSZ"
            for letter in read
        )
    return False


__all__ = ["foreign_letters", "is_base64", "is_damaged"]
