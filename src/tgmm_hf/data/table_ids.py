"""Doubts about the ids of a cohort table: two spellings of one id, words that stand in the place of an id.

Ids are never merged, because two ids may be two patients. A doubt becomes a note (decision 255).
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Protocol

from tgmm_hf.data.table_files import first_few

_QUOTES = "\"'`´‘’‚“”„«»"
_SEPARATORS = re.compile(r"[\s_./,:\\-]+")
"""What systems write between the parts of an id. The dashes of other scripts become "-" before."""
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_NUMBER = re.compile(r"\+?(\d{1,30}(?:\.\d{0,30})?(?:e\+?\d{1,2})?)")
"""A number as a spreadsheet writes one: "7.0", "9.9368787e7", "99368787."."""
_LEADING_ZEROS = re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)")
"""Zeros before a number inside an id: "P-01", "S01P02". Behind a decimal point they are none."""
_LOOK_ALIKE = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0455\u0458"
    "\u03b1\u03b2\u03b5\u03ba\u03bf\u03c1\u03c4\u03bd\u03c7\u03b9\u03bc\u03b7\u03b6\u03c5",
    "abekmhopctyxisjabekoptnximhzy",
)
"""Small letters of the Cyrillic and Greek alphabets -> the Latin ones that they, or their capitals, look like."""
_SUMMARY = re.compile(
    r"(?:grand |sub-?|over)?total|all|overall|sum|means?|averages?|avg|medians?|modes?|(?:mean )?(?:std|sd|s d)|"
    r"(?:std|standard) ?(?:dev(?:iation)?|error)|sem|iqr|q[1-4]|(?:1st|3rd|25|50|75) ?(?:quartile|th percentile|%)|"
    r"variance|min(?:imum)?|max(?:imum)?|counts?|n|missing|"
    r"(?:reference|normal|ref) ?(?:range|interval|values?|limits?)s?|range|lower limit|upper limit|units?|"
    r"id|patient(?: ?id)?|subject(?: ?id)?|test|test ?patient|example|sample|dummy|demo|footer|end(?: of report)?"
)
"""Words of a row that sums other rows up, repeats the header or tries the export, and names no patient."""
_NOBODY = re.compile(
    r"#?n/?a|#(?:ref|value|name|num|null|div/0|spill|calc)[!?]|#+|nan|nat|none|null|nil|<na>|unknown|unk|not known|"
    r"anonym(?:ous|ised|ized)?|anon|missing|deleted|removed|redacted|no id|no name|undefined|tbd|todo|pending|"
    r"unidentified|(?:john|jane) doe|x{2,}|0+|9{4,}|[\W_]+"
)
"""What stands in the place of an id that is not known."""


class _Row(Protocol):
    """What a row of a cohort table has, see `CohortRow`."""

    @property
    def id(self) -> str:
        """Name of the row."""

    @property
    def patient_id(self) -> str:
        """Name of the patient."""


def spreadsheet_id(name: str) -> str:
    """Reduce the spellings of an id that spreadsheets, exports and keyboards make to one.

    Leading zeros, letter case, quotes, ="...", marks that nobody sees, wide letters, separators between the parts, and
    the forms "7.0" and "9.9368787E7" of a number go.
    """
    text = _plain(name)
    if (number := _NUMBER.fullmatch(text)) is not None:
        value = Decimal(number[1])
        if value == value.to_integral_value():
            text = str(int(value))
    text = _LEADING_ZEROS.sub("", text)
    return _SEPARATORS.sub("", text).lstrip("0") or text


def _plain(name: str) -> str:
    """Remove what nobody sees and what is put around an id. Write the rest in one form and in small letters."""
    text = unicodedata.normalize("NFKC", name)
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    text = _DASHES.sub("-", text).strip()
    return text.removeprefix("=").strip(_QUOTES + " ").casefold().translate(_LOOK_ALIKE)


def alike_ids(splits: Mapping[str, Iterable[str]]) -> list[str]:
    """List pairs of ids that may be one patient, and that stand in different splits: "7 and 007".

    Two ids with the same separators in other places ("1-23" and "12-3") are two patients of one numbering.

    Args:
        splits: Id of a patient -> splits of the patient's rows.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in splits:
        groups[spreadsheet_id(name)].append(name)
    pairs = [
        sorted(pair)
        for names in groups.values()
        for pair in combinations(names[:100], 2)
        if len({*splits[pair[0]], *splits[pair[1]]}) > 1 and not _is_other_number(*pair)
    ]
    return sorted(" and ".join(map(_shown, pair)) for pair in pairs)


def _is_other_number(first_id: str, second_id: str) -> bool:
    """Tell whether two ids have the same separators, but between other parts."""
    names = [_plain(name) for name in (first_id, second_id)]
    first, second = (_SEPARATORS.findall(name) for name in names)
    parts = [[part.lstrip("0") for part in _SEPARATORS.split(name.removesuffix(".0"))] for name in names]
    return bool(first) and first == second and parts[0] != parts[1]


def _shown(name: str) -> str:
    """Write an id with the marks that nobody sees as codes."""
    return "".join(
        character if character.isprintable() and unicodedata.category(character) != "Mn" else ascii(character)[1:-1]
        for character in name
    )


def odd_ids(rows: Sequence[_Row]) -> list[str]:
    """Say that ids are words of a summary, or stand in the place of an id that is not known.

    Args:
        rows: Rows of a cohort table.

    Returns:
        At most one sentence for each kind, with the numbers of rows and without ids.
    """
    kinds: dict[str, list[int]] = {"summary": [], "nobody": []}
    for number, row in enumerate(rows, start=1):
        names = {" ".join(re.split(r"[\s_.:-]+", _plain(name))).strip() for name in (row.id, row.patient_id)}
        if any(_SUMMARY.fullmatch(name) for name in names):
            kinds["summary"].append(number)
    owners: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows, start=1):
        owners[row.patient_id].append(number)
    for name, numbers in owners.items():
        text = unicodedata.normalize("NFKC", name).strip().casefold()
        if len(numbers) > 1 and _NOBODY.fullmatch(text):
            kinds["nobody"] += numbers
    notes = []
    if summary := kinds["summary"]:
        notes.append(
            f"{len(summary)} row(s) have a word such as mean, total, reference range, unit or test in the place of an "
            f"id (row {first_few(summary)}): is each of them a patient? If not, remove the row."
        )
    if nobody := sorted(kinds["nobody"]):
        notes.append(
            f"{len(nobody)} rows share a patient_id that stands for an unknown patient, such as n/a or unknown "
            f"(row {first_few(nobody)}). They count as one patient: give each patient an id."
        )
    return notes
