"""Read what headers say of a person: dates, sex and age, in the forms that headers really have."""

import re
from datetime import date

UNKNOWN_BIRTHS = ("19000101", "19700101", "18000101", "19010101", "20000101", "18581117")
"""Dates that systems write where the birth is not known: the first days of their calendars."""
OLDEST_PERSON = 130
"""Years. A larger age follows from a date that is none."""
_YEARS_OF = {"y": 1.0, "j": 1.0, "a": 1.0, "m": 1 / 12, "w": 1 / 52.2, "d": 1 / 365.25, "h": 1 / 8766}
"""First letter of a unit of age -> how many years it has ("j": the German and French years; "a": annus in UCUM)."""
_AGE = re.compile(
    r"(?P<age>\d{1,3})(?:\.\d{0,2})?\s*(?P<unit>years?(?: old)?|yrs?|yo|y|jahre?|j|a|months?|mon|mo|m|weeks?|wks?|wk|w|"
    r"days?|d|hours?|hrs?|h)?\.?"
)
_MONTHS = {
    name: number
    for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)  # noqa: SIM905
}
_PARTS = (
    re.compile(r"(?P<year>\d{4})(?P<month>\d{2})?(?P<day>\d{2})?(?:\d{2}(?:\d{2}){0,2}(?:\.\d+)?)?(?:[+-]\d{4}|z)?"),
    re.compile(r"(?P<year>\d{4})[-./](?P<month>\d{1,2})[-./](?P<day>\d{1,2})(?:[t ].*)?"),
    re.compile(r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})"),
    re.compile(r"(?P<day>\d{1,2})-(?P<month>[a-z]{3})-(?P<year>\d{4})"),
)
_SEXES = {
    **dict.fromkeys(("m", "male", "man", "mann", "männlich", "maennlich"), "m"),
    **dict.fromkeys(("f", "female", "woman", "w", "weiblich", "frau"), "f"),
}


def date_digits(text: str) -> str:
    """Write a date as eight digits; "" for a text that is no date.

    A date of which only the year or the month is known becomes the first of January, as many systems write it.

    Args:
        text: such as "19900515", "1990.05.15", "15.05.1990", "15-MAY-1990" or "1990".
    """
    plain = text.strip().casefold()
    match = next((match for pattern in _PARTS if (match := pattern.fullmatch(plain))), None)
    if match is None:
        return ""
    month, day = match["month"] or "00", match["day"] or "00"
    number = _MONTHS.get(month, 0) if month.isalpha() else int(month)
    if month.isalpha() and not number:
        return ""
    if number == 0 or int(day) == 0:
        number, day = 1, "1"
    try:
        return date(int(match["year"]), number, int(day)).strftime("%Y%m%d").zfill(8)
    except ValueError:
        return ""


def age_on(birth: str, day: str) -> tuple[float, float] | None:
    """Compute an age from two dates; None where they do not give one.

    Args:
        birth: as `date_digits` writes it.
        day: of the recording, as `date_digits` writes it.

    Returns:
        The age in years, and how much smaller it may be: one year where the birth is a first of January, because this
        is written where only the year is known.
    """
    if not birth or not day or birth in UNKNOWN_BIRTHS or birth >= day:
        return None
    age = float((int(day) - int(birth)) // 10_000)
    return None if age > OLDEST_PERSON else (age, 1.0 if birth.endswith("0101") else 0.0)


def same_birth(one: str, two: str) -> bool:
    """Tell whether two dates of birth may be one, because one of them may have the year only."""
    if one == two or one in UNKNOWN_BIRTHS or two in UNKNOWN_BIRTHS:
        return True
    return one[:4] == two[:4] and (one.endswith("0101") or two.endswith("0101"))


def sex_of(text: str) -> str:
    """Return "m" or "f"; "" for anything else, such as "O" for another sex."""
    return _SEXES.get(text.strip().casefold(), "")


def age_in_years(text: str, unit: str = "") -> float | None:
    """Read a stated age in years; None for a text that states none.

    Args:
        text: such as "071Y", "71", "71 years". A number without a unit is years. Zero without a unit is no age, and
            "54M" may be a man of 54 years.
        unit: unit that stands in a field of its own, such as "YEARS".
    """
    match = _AGE.fullmatch(f"{text.strip()} {unit.strip()}".strip().casefold())
    if match is None:
        return None
    number, word = int(match["age"]), match["unit"] or ""
    if not word and number == 0:
        return None
    if word in ("m", "w") and len(match["age"]) < 3 and number > 17:
        return None
    age = number * _YEARS_OF[(word or "y")[0]]
    return None if age > OLDEST_PERSON else age


__all__ = ["UNKNOWN_BIRTHS", "age_in_years", "age_on", "date_digits", "same_birth", "sex_of"]
