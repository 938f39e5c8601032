"""Read whom an ECG export of another system names: id, birth, sex and age. No name is read."""

import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

from .ecg_vendor import (
    AECG,
    EDF,
    HEAD_BYTES,
    MAX_SCP_BYTES,
    MAX_XML_BYTES,
    MUSE,
    PHILIPS,
    SCP,
    parse_xml,
    vendor_format,
)
from .person_fields import age_in_years, age_on, date_digits, sex_of

EDF_PERSON_BYTES = 176
"""Bytes of an EDF header that hold patient, recording and date."""
EDF_UNKNOWN_DATE = "01.01.85"
"""Date of an EDF file that hides its date."""
EDF_HIDDEN_DAY = "19850101"
"""The same day in the field of EDF+."""
_EDF_PERSON = re.compile(r"(\S+) ([MFX]) (\d\d-[A-Z]{3}-\d{4}|X)(?: .*)?")
"""Patient of EDF+: code, sex, birth, name. Another text is free, and names nobody for certain."""
_EDF_START = re.compile(r"Startdate (\S+)(?: .*)?", re.IGNORECASE)
_US_DATE = re.compile(r"(\d{1,2})[-/](\d{1,2})[-/](\d{4})")
_SCP_UNITS = {1: "y", 2: "m", 3: "w", 4: "d", 5: "h"}
_SCP_SEX = {1: "m", 2: "f"}
_STATED_AGE = "21612-7"
"""LOINC code of a stated age in aECG."""


class VendorPerson(NamedTuple):
    """What an export says of a person; "" and None where it says nothing.

    Attributes:
        patient: id as written.
        birth: date of birth of eight digits.
        sex: "m" or "f".
        age: years at the recording.
        margin: years by which the age may be smaller.
    """

    patient: str = ""
    birth: str = ""
    sex: str = ""
    age: float | None = None
    margin: float = 0.0


def read_vendor_person(path: Path) -> VendorPerson | None:
    """Read the person of an export; None for another file, and for one that its reader will refuse.

    Args:
        path: any file.

    Raises:
        OSError: if the file system does not give the file.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    reader = _READERS.get(vendor_format(head) or "")
    if reader is None:
        return None
    read, limit = reader
    if path.stat().st_size > limit:
        return None
    try:
        return read(head if limit > MAX_XML_BYTES else path.read_bytes())
    except (ValueError, LookupError, SyntaxError, AttributeError, TypeError, ArithmeticError, struct.error):
        return None
    except (RecursionError, MemoryError):
        return None


def _edf(content: bytes) -> VendorPerson | None:
    """Read the fields of EDF+. Plain EDF has free text there, which is read if it has the same form."""
    text = content[:EDF_PERSON_BYTES].decode("latin-1")
    person = _EDF_PERSON.fullmatch(text[8:88].strip())
    if person is None:
        return None
    start = _EDF_START.fullmatch(text[88:168].strip())
    day = date_digits(start[1]) if start is not None else _short_date(text[168:176])
    day = "" if day == EDF_HIDDEN_DAY else day
    patient, sex, birth = ("" if part == "X" else part for part in person.groups())
    return _person(patient.replace("_", " "), date_digits(birth), sex, day)


def _short_date(text: str) -> str:
    """Read the date "dd.mm.yy" of an EDF header, whose years lie from 1985 to 2084."""
    if text == EDF_UNKNOWN_DATE:
        return ""
    day, month, year = text.split(".")
    return date_digits(f"{day}.{month}.{1900 + int(year) if int(year) >= 85 else 2000 + int(year)}")


def _muse(content: bytes) -> VendorPerson:
    root = parse_xml(content)
    person, test = root.find("PatientDemographics"), root.find("TestDemographics")
    birth, day = _us_year(_text(person, "DateofBirth")), _us_year(_text(test, "AcquisitionDate"))
    unit = _text(person, "AgeUnits")
    age = age_in_years(_text(person, "PatientAge"), unit) if unit else None
    stated = _person(_text(person, "PatientID"), "", _text(person, "Gender"), "", age or None)
    if age is None and (computed := age_on(birth, day)) is not None:
        return stated._replace(age=computed[0], margin=computed[1])
    return stated


def _us_year(text: str) -> str:
    """Read a date of MUSE as the first of January of its year, because sites write day and month in either order."""
    match = _US_DATE.fullmatch(text)
    digits = f"{match[3]}0101" if match is not None else date_digits(text)
    return digits and digits[:4] + "0101"


def _aecg(content: bytes) -> VendorPerson:
    root = parse_xml(content)
    subject = root.find("componentOf/timepointEvent/componentOf/subjectAssignment/subject/trialSubject")
    person = None if subject is None else subject.find("subjectDemographicPerson")
    ages = [
        age_in_years(_value(entry.find("value")), _value(entry.find("value"), "unit"))
        for entry in root.iterfind("controlVariable/relatedObservation")
        if _value(entry.find("code"), "code") == _STATED_AGE
    ]
    times = [
        date_digits(_value(element))
        for place in ("effectiveTime", "component/series/effectiveTime")
        for part in ("low", "center")
        for element in root.iterfind(f"{place}/{part}")
    ]
    return _person(
        "" if subject is None else _value(subject.find("id"), "extension"),
        "" if person is None else date_digits(_value(person.find("birthTime"))),
        "" if person is None else _value(person.find("administrativeGenderCode"), "code"),
        next(filter(None, times), ""),
        next((age for age in ages if age is not None), None),
    )


def _philips(content: bytes) -> VendorPerson:
    root = parse_xml(content)
    person = root.find("patient/generalpatientdata")
    test = root.find("dataacquisition")
    age = None if person is None else person.find("age")
    birth = date_digits(_text(age, "dateofbirth") or _text(person, "dateofbirth"))
    day = "" if test is None else date_digits(test.get("date") or "")
    patient = _text(person, "patientid") or _text(person, "MRN")
    years = _text(age, "years")
    return _person(patient, birth, _text(person, "sex"), day, age_in_years(years, "y") if years else None)


def _scp(content: bytes) -> VendorPerson | None:
    """Read section 1 of SCP-ECG: tag, length and value of each field."""
    length = int.from_bytes(content[10:14], "little")
    pointers = [
        struct.unpack_from("<HII", content, place) for place in range(22, min(6 + length, len(content) - 9), 10)
    ]
    section = next(((size, place - 1) for number, size, place in pointers if number == 1 and place), None)
    if section is None:
        return None
    place, end = section[1] + 16, min(sum(section), len(content))
    fields: dict[int, bytes] = {}
    while place + 3 <= end and content[place] != 255:
        tag, size = struct.unpack_from("<BH", content, place)
        fields.setdefault(tag, content[place + 3 : min(place + 3 + size, end)])
        place += 3 + size
    age, unit = struct.unpack_from("<HB", fields[4]) if len(fields.get(4, b"")) >= 3 else (0, 0)
    return _person(
        fields.get(2, b"").split(b"\0")[0].decode("latin-1"),
        _scp_date(fields.get(5, b"")),
        _SCP_SEX.get(fields[8][0], "") if fields.get(8) else "",
        _scp_date(fields.get(25, b"")),
        age_in_years(f"{age:03d}", _SCP_UNITS[unit]) if age and unit in _SCP_UNITS else None,
    )


def _scp_date(value: bytes) -> str:
    return date_digits("{:04d}{:02d}{:02d}".format(*struct.unpack_from("<HBB", value))) if len(value) >= 4 else ""


def _person(patient: str, birth: str, sex: str, day: str, age: float | None = None) -> VendorPerson:
    """Make the person. A stated age counts more than the age that the dates give."""
    computed = None if age is not None else age_on(birth, day)
    years, margin = (age, 0.0) if computed is None else computed
    return VendorPerson(patient.strip(), birth, sex_of(sex), years, margin)


def _text(element: Any, tag: str) -> str:
    return "" if element is None else (element.findtext(tag) or "").strip()


def _value(element: Any, name: str = "value") -> str:
    return "" if element is None else (element.get(name) or "").strip()


_READERS = {
    EDF: (_edf, 2**63),
    MUSE: (_muse, MAX_XML_BYTES),
    AECG: (_aecg, MAX_XML_BYTES),
    PHILIPS: (_philips, MAX_XML_BYTES),
    SCP: (_scp, MAX_SCP_BYTES),
}
"""Format -> how its person is read, and the largest file. Of EDF only the first bytes are read."""
__all__ = ["VendorPerson", "read_vendor_person"]
