"""Read what stands in the name of a laboratory column beside the test: specimen, fasting, choices, charges."""

import re

CALCIUM = "Calcium, Total"
IONISED_BELOW = 7.0
"""mg/dL. Ionised calcium lies below (1.75 mmol/L), and so does a low total calcium."""
_CHARGED = re.compile(r"(?:^|[^a-z])(?:ca|calcium)\s*[(\[]?\s*[+⁺＋]", re.IGNORECASE)
"""Calcium with the sign of its charge: "Ca++", "Ca ++", "S-Ca+". "Ca2+" and "iCa" are names of no known column."""
_IN_BRACKETS = re.compile(
    r"(?P<name>[^(\[]*[^(\[\s])\s*[(\[]\s*(?P<words>[A-Za-z][A-Za-z /|,-]{0,30}?)\s*[)\]]\s*(?P<rest>.*)"
)
_BEHIND_COMMA = re.compile(
    r"(?P<name>[^(\[,]*[^(\[,\s]),\s*(?P<words>plasma|fasting)\s*(?P<rest>[(\[].*)?",
    re.IGNORECASE,
)
"""Words behind a comma, as catalogues sort names: "Glucose, plasma". In MIMIC-IV "Chloride, Whole Blood" is of a
blood gas and "Creatinine, Serum" of an examination of urine, so these stay columns of their own."""
_SERUM = re.compile(r"(?:venous |arterial |capillary )?(?:serum|plasma|serum[ /,]+plasma|s|p)", re.IGNORECASE)
_BLOOD = re.compile(r"(?:venous |whole |capillary )*blood|b", re.IGNORECASE)
_FASTING = re.compile(r"fast(?:ing|ed)|(?:serum|plasma)[ ,]+fasting|fasting[ ,]+(?:serum|plasma)", re.IGNORECASE)
_CHOICES = re.compile(r"(?:m|male)\s*[/|,-]\s*(?:f|female)|(?:f|female)\s*[/|,-]\s*(?:m|male)", re.IGNORECASE)
OF_FASTING = (
    *("Glucose", "Triglycerides", "Iron"),
    *("Cholesterol, Total", "Cholesterol, LDL, Calculated", "Cholesterol, HDL"),
)
"""Columns that are the same test in a fasting patient."""


def without_brackets(name: str) -> tuple[str, str]:
    """Split "Potassium (serum)" or "Glucose, plasma" into the name and the words beside it; else ("", "").

    Args:
        name: name of a column. What follows the brackets, such as a unit, stays with the name.

    Returns:
        The name, and "serum", "blood", "fasting" or "choices" (such as "M/F").
    """
    match = _BEHIND_COMMA.fullmatch(name.strip()) or _IN_BRACKETS.fullmatch(name.strip())
    if match is None:
        return "", ""
    plain = f"{match['name']} {match['rest'] or ''}".strip()
    kinds = {"serum": _SERUM, "blood": _BLOOD, "fasting": _FASTING, "choices": _CHOICES}
    kind = next((kind for kind, words in kinds.items() if words.fullmatch(match["words"])), "")
    return (plain, kind) if kind else ("", "")


def charge_doubt(written: str, column: str, number: float | None) -> str | None:
    """Say that a value of calcium under a name with a charge may be ionised calcium; None if it is not in doubt.

    Args:
        written: name as the row writes it.
        column: name of the known column.
        number: value in mg/dL; None for text.
    """
    if column != CALCIUM or number is None or number >= IONISED_BELOW or not _CHARGED.search(written):
        return None
    return (
        f"a name of calcium with a charge may mean ionised calcium, and the value is below {IONISED_BELOW:g} mg/dL, as "
        "ionised calcium is: write Calcium, Total for the total calcium, and leave ionised calcium out"
    )


__all__ = ["CALCIUM", "OF_FASTING", "charge_doubt", "without_brackets"]
