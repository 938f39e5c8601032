"""Find the column of a name, and convert units. `lab_table.py` holds the table of columns."""

import difflib
import re

from .lab_names import OF_FASTING, without_brackets
from .lab_table import ALIAS_FACTORS, COLUMNS, LabColumn

ENGLISH_GENDERS = {**dict.fromkeys(("f", "female", "woman"), "F"), **dict.fromkeys(("m", "male", "man"), "M")}
"""Spellings that are no name and no other word where a text column holds them."""
_WOMAN = "weiblich frau femme féminin feminin mujer femenino donna femmina vrouw weibl. 女"
_MAN = "männlich maennlich mann homme masculin hombre masculino uomo maschio männl. 男"
GENDERS = {**ENGLISH_GENDERS, **dict.fromkeys(_WOMAN.split(), "F"), **dict.fromkeys(_MAN.split(), "M")}
"""Spellings of the gender, in lower case -> the text of the cell. "w" and "h" alone may be typing errors."""


def column_key(name: str) -> str:
    """Reduce a column name to its letters, digits and "%" in lower case: "NT-proBNP" -> "ntprobnp"."""
    return "".join(character for character in name.casefold() if character.isalnum() or character == "%")


_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


def unit_key(unit: str) -> str:
    """Reduce the spellings of a unit to one: "µmol / l" -> "umol/l", "x10^9/L" and "10*9/L" -> "109/l"."""
    text = unit.casefold().replace("µ", "u").replace("μ", "u").replace("×", "x").translate(_RAISED)
    text = re.sub(r"(?<![a-z])mc(?=[glu]|mol)", "u", text)  # mcg, mcL, mcU, mcmol
    text = (
        re.sub(r"\((\d+)\)", r"\1", re.sub(r"[\s^*\[\]]", "", text)).replace("10e", "10").replace("./", "/").rstrip(".")
    )
    text = re.sub(r"^gm(?=/)", "g", text).replace("vol.-%", "vol%")
    text = re.sub(r"c(?:u\.?)?mm$", "mm3", text)  # cubic millimetres
    text = re.sub(r"^thou(?:s|sands?)?/", "thousand/", re.sub(r"^(?:sec|second)s?$", "sec", text))
    return text.removeprefix("x") if text.startswith("x10") else text


COLUMN_POSITION: dict[str, int] = {column.name: position for position, column in enumerate(COLUMNS)}
"""Canonical name -> row of `COLUMNS`."""
_COLUMN_BY_KEY = {column_key(name): column for column in COLUMNS for name in (column.name, *column.aliases)}
_COLUMN_BY_KEY |= {column_key(alias): COLUMNS[COLUMN_POSITION[name]] for alias, (name, _) in ALIAS_FACTORS.items()}
_ALIAS_FACTORS_BY_KEY = {column_key(alias): factors for alias, (_, factors) in ALIAS_FACTORS.items()}


_BLOOD = re.compile(r"f?B-|(?i:(?:whole )?blood[-_ ])")
_SERUM = re.compile(r"f?[SP]-|(?i:(?:serum|plasma)[-_ ])")
"""Prefixes that name the specimen: "B-Hb", "S-Creatinine", "fP-Glucose". Urine ("U-") is another quantity."""
_OTHER_SPECIMEN = re.compile(r"(?i)\b(d?U|urine|urinary|CSF|pleural|ascites|saliva|stool)(\b|_)")
"""Specimens whose quantities are not those of the columns, in a name of a laboratory value."""
WITHOUT_SPECIMEN = ("age", "height", "weight", "BMI")
"""Columns of the patient. A specimen in front of their name is a slip: "b_weight" may be the weight at birth."""
OF_WHOLE_BLOOD = (
    *("Hemoglobin", "Hematocrit", "White Blood Cells", "Red Blood Cells", "Platelet Count"),
    *("MCV", "MCH", "MCHC", "RDW", "% Hemoglobin A1c"),
)
"""Columns that mean another quantity in serum or plasma, where only free haemoglobin is left."""


def _names_with_units() -> dict[str, tuple[str, str]]:
    """List names that end with a unit, without ambiguous ones: key of "creatinine mg/dL" -> ("creatinine", "mg/dL")."""
    names: dict[str, set[tuple[str, str]]] = {}
    written = [(name, column) for column in COLUMNS for name in (column.name, *column.aliases)]
    written += [(alias, COLUMNS[COLUMN_POSITION[name]]) for alias, (name, _) in ALIAS_FACTORS.items()]
    for name, column in written:
        for unit in unit_factors(column, name):
            if column_key(unit):
                names.setdefault(column_key(name) + column_key(unit), set()).add((name, unit))
    single = {key: next(iter(sorted(pairs))) for key, pairs in names.items()}
    return {key: pair for key, pair in single.items() if _same_reading(names[key]) and key not in _COLUMN_BY_KEY}


def _same_reading(pairs: set[tuple[str, str]]) -> bool:
    """Tell whether all pairs of a name and a unit mean the same column and the same factor."""
    readings = {(column_key(name), unit_key(unit)) for name, unit in pairs}
    return len({(_COLUMN_BY_KEY[name].name, unit) for name, unit in readings}) == 1


def find_column(name: str) -> LabColumn | None:
    """Find the known column of a name or alias, or None; case, spaces and punctuation are ignored."""
    return _COLUMN_BY_KEY.get(column_key(name))


def split_name(written: str) -> tuple[str, str]:
    """Split a hospital's column name into a known name and a unit, "" without a unit.

    "NT proBNP (ng/L)" -> ("NTproBNP", "ng/L"), "S-Creatinine" -> ("Creatinine", ""). A name that is known as it is, or
    that is not known at all, comes back as it is.
    """
    if find_column(written) is not None:
        return written, ""
    plain = written.strip()
    if (pair := _name_and_unit(plain)) is not None:
        return pair
    for specimen in (_BLOOD, _SERUM):
        if (prefix := specimen.match(plain)) is None or (pair := _name_and_unit(plain[prefix.end() :])) is None:
            continue
        column = find_column(pair[0])
        excluded = WITHOUT_SPECIMEN if specimen is _BLOOD else (*WITHOUT_SPECIMEN, *OF_WHOLE_BLOOD)
        if column is not None and column.is_number and column.name not in excluded:
            return pair
    return _bracketed(plain) or (written, "")


def _bracketed(name: str) -> tuple[str, str] | None:
    """Split "Potassium (serum) mmol/L" into ("Potassium", "mmol/L"), and "Sex (M/F)" into ("Sex", ""); else None.

    A specimen in brackets is read by the rules of a specimen in front of the name.
    """
    plain, kind = without_brackets(name)
    pair = _name_and_unit(plain) if plain else None
    column = None if pair is None else find_column(pair[0])
    if column is None:
        return None
    if kind == "choices":
        return pair if column.name == "gender" else None
    if kind == "fasting":
        return pair if column.name in OF_FASTING else None
    excluded = WITHOUT_SPECIMEN if kind == "blood" else (*WITHOUT_SPECIMEN, *OF_WHOLE_BLOOD)
    return pair if column.is_number and column.name not in excluded else None


def specimen_column(written: str) -> LabColumn | None:
    """Find the column of numbers of a name with a specimen or "fasting" in brackets; None for another name."""
    if find_column(written) is not None or (pair := _bracketed(written.strip())) is None:
        return None
    column = find_column(pair[0])
    return column if column is not None and column.is_number else None


def _name_and_unit(name: str) -> tuple[str, str] | None:
    """Split "Hb (g/L)" into ("Hb", "g/L"), and "Hb" into ("Hb", ""); None if the name is not known."""
    if find_column(name) is not None:
        return name, ""
    spelled = name.replace("µ", "u").replace("μ", "u").translate(str.maketrans("²³⁶⁹", "2369"))
    spelled = re.sub(r"[x×]\s*(?=10)", "", spelled, flags=re.IGNORECASE)
    if find_column(spelled) is not None:
        return spelled, ""
    if not re.search(r"[\s_(\[,:/-]", name):
        return None
    return _NAMES_WITH_UNITS.get(column_key(spelled))


def suggest_column(name: str) -> LabColumn | None:
    """Find the known column whose name or alias is most similar to an unknown name; None if none is similar.

    A name with another specimen, such as "U-Sodium", has no similar column, because it is another quantity.
    """
    if _OTHER_SPECIMEN.search(name):
        return None
    close = difflib.get_close_matches(column_key(name), _COLUMN_BY_KEY, n=1, cutoff=0.8)
    return _COLUMN_BY_KEY[close[0]] if close else None


def needs_unit(name: str) -> bool:
    """Tell whether a value under this name is ambiguous without its unit (`ALIAS_FACTORS`)."""
    return column_key(name) in _ALIAS_FACTORS_BY_KEY


def unit_factors(column: LabColumn, name: str | None = None) -> dict[str, float]:
    """List the units that a value may come in, each with its factor to the canonical unit.

    Args:
        column: the column.
        name: the name under which the value came, because an alias may have its own factors; the column's own if None.

    Returns:
        Unit -> factor. A value in the unit times the factor is the value in the canonical unit.
    """
    alias_factors = _ALIAS_FACTORS_BY_KEY.get(column_key(name)) if name else None
    return {column.unit: 1.0, **column.factors} if alias_factors is None else dict(alias_factors)


def to_canonical(column: LabColumn, number: float, unit: str, name: str | None = None) -> float | None:
    """Convert a number to the canonical unit of its column.

    Args:
        column: the column.
        number: in `unit`.
        unit: as written; "" means the canonical unit.
        name: see `unit_factors`.

    Returns:
        The number in the canonical unit; None if the unit is not known.
    """
    factors = {"": 1.0} if not unit else unit_factors(column, name)
    for other, factor in factors.items():
        if unit_key(other) == unit_key(unit):
            return number * factor + column.offsets.get(other, 0.0)
    return None


def same_unit(column: LabColumn, first: str, second: str, name: str | None = None) -> bool:
    """Tell whether two texts are one unit of a column, such as "m" and "months" of the age.

    Args:
        column: the column.
        first: a unit, or "" for none.
        second: another text for a unit, or "".
        name: the name under which the value came, as for `to_canonical`.
    """
    if not first or not second or unit_key(first) == unit_key(second):
        return unit_key(first) == unit_key(second)
    number = to_canonical(column, 1.0, first, name)
    return number is not None and number == to_canonical(column, 1.0, second, name)


def unit_factor(column: LabColumn, unit: str) -> float | None:
    """Look up the factor from `unit` to the canonical unit; None if the unit is not known or needs an offset too."""
    if not unit:
        return 1.0
    factors = {other: factor for other, factor in unit_factors(column).items() if other not in column.offsets}
    return next((factor for other, factor in factors.items() if unit_key(other) == unit_key(unit)), None)


def is_canonical_unit(column: LabColumn, unit: str) -> bool:
    """Tell whether `unit` is a spelling of the column's canonical unit."""
    return unit_key(unit) == unit_key(column.unit)


_NAMES_WITH_UNITS = _names_with_units()
