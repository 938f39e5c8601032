"""Compare the patients that the headers of DICOM and WFDB files name. No text of a header is put into a message."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ..utils.errors import InputRefusedError
from .dicom_files import read_dicom, starts_as_dicom
from .ecg_wfdb_header import find_header, read_comments
from .input_limits import LIMITS, InputLimits, is_unreadable, refusal_of
from .person_fields import age_in_years, age_on, date_digits, same_birth, sex_of
from .vendor_identity import VendorPerson, read_vendor_person

KEYWORDS = (
    *("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"),
    *("PatientAge", "StudyDate", "AcquisitionDateTime", "AcquisitionDate", "SeriesDate", "ContentDate", "PatientName"),
)
"""Elements that are read."""
DIFFERENT_IDS = "patient_ids_differ"
"""Code of an ECG and an echo with two patient ids that may still be of one patient."""
_COMMENT_ID = re.compile(r"\b(?:subject|patient)[ _-]?id>?\s*[:=]\s*([^\s<>,;]*\d[^\s<>,;]*)", re.IGNORECASE)
"""Id in a comment of a WFDB header: "<subject_id>: 10000032", "Patient ID = A7". A text without digits is no id."""


_COMMENT_SEX = re.compile(r"\b(?:sex|gender)>?\s*[:=]\s*(m|f|male|female)\b", re.IGNORECASE)
_COMMENT_AGE = re.compile(
    r"\bage>?\s*[:=]\s*(\d{1,3})(?:\.0*)?(?![\d.])(?:\s*(months?|weeks?|days?)\b)?", re.IGNORECASE
)
ADULT = 18
"""Years. The model was made for adults."""
YEARS_APART, OLDEST = 3, 89
"""Largest difference of two ages (years) of one patient, because labs and recordings have their own dates. Above OLDEST
some sources write one number for everybody."""
_NUMBER, _SHORT_WORD = re.compile(r"\d+"), re.compile(r"(?<![a-z])[a-z]{1,2}(?![a-z])")
_NAME_WORD, _APOSTROPHE, _UMLAUT = re.compile(r"[^\W_]{2,}"), re.compile("['`\u00b4\u2019]"), re.compile("(?<=[aou])e")
_LETTERS = str.maketrans({"ø": "o", "æ": "a", "œ": "o", "ł": "l", "đ": "d", "ı": "i"})
"""Letters that are no letter with a mark."""
_NO_NAME = re.compile(r"anon\w*|emergency|patient|unknown|removed|hidden|redacted|masked|deleted|x{2,}")
"""A word of a name that nobody has."""
_HEXADECIMAL = re.compile(r"[0-9a-f-]+")
MIN_HEXADECIMAL = 8
"""Shortest digest that is taken for one. Two digests differ in the places of their letters."""
_PLACEHOLDER = re.compile(
    r"(?:anon|unknown|none|no name|de-?ident|phantom|test|removed|hidden|redacted|masked|deleted)\D*|n/?a|x{2,}"
)
"""What is written over the PatientID of an anonymous file. A pseudonym with digits is compared like any id."""


@dataclass(frozen=True)
class Identity:
    """Whom a header names; "" where it names nobody. Spelling is made alike: no leading zeros, capitals or spaces.

    Attributes:
        patient: PatientID.
        issuer: IssuerOfPatientID, the system that gave the id.
        birth: PatientBirthDate of eight digits. The first of January may stand for a year.
        sex: "m" or "f".
        study: StudyInstanceUID.
        is_comment: this stood in a comment of a WFDB header, which no standard defines, or in an export of another
            system. A difference is then no proof.
        age: years at the recording; None where the header does not state it.
        age_margin: years by which the age may be smaller, because only the year of birth is known.
        name: words of PatientName. They are compared within a study, and never shown.
    """

    patient: str = ""
    issuer: str = ""
    birth: str = ""
    sex: str = ""
    study: str = ""
    is_comment: bool = False
    age: float | None = None
    age_margin: float = 0.0
    name: frozenset[str] = frozenset()


def identity_of(file: Any, limits: InputLimits = LIMITS) -> Identity | None:
    """Read whom a DICOM file names; None for anything else, and for a file that cannot be read.

    A file that cannot be read is refused by its reader, with the reason.

    Args:
        file: path, or anything else that is given as a recording or clip.
        limits: largest sizes.

    Raises:
        ImportError: if the file is DICOM and pydicom is not installed.
    """
    try:
        return read_identity(file, limits)
    except InputRefusedError:
        return None


def read_identity(file: Any, limits: InputLimits = LIMITS) -> Identity | None:
    """Read the same as `identity_of`, but raise if the file system fails, because the file may name somebody then.

    Args:
        file: path, or anything else that is given as a recording or clip.
        limits: largest sizes.

    Raises:
        ImportError: if the file is DICOM and pydicom is not installed.
        InputRefusedError: if the file system does not give the file, see `is_unreadable`.
    """
    if not isinstance(file, str | Path):
        return None
    try:
        header = read_dicom(file, stop_before_pixels=True, limits=limits) if starts_as_dicom(file) else None
    except (InputRefusedError, OSError, ValueError) as error:  # ValueError: a zero byte in the path
        _raise_if_unreadable(error, file)
        return None
    if header is None:
        return None
    texts = {keyword: str(header.get(keyword) or "").strip().casefold() for keyword in KEYWORDS}
    age, margin = _age_of(texts)
    return Identity(
        "" if _PLACEHOLDER.fullmatch(texts["PatientID"]) else plain_id(texts["PatientID"]),
        texts["IssuerOfPatientID"],
        date_digits(texts["PatientBirthDate"]),
        sex_of(texts["PatientSex"]),
        texts["StudyInstanceUID"],
        age=age,
        age_margin=margin,
        name=_words_of_name(texts["PatientName"]),
    )


def _words_of_name(text: str) -> frozenset[str]:
    """Split a name in lower case into its words, spelled alike: no marks, no apostrophes, and "ae" is "a".

    Words of other scripts than Latin are left out, because one person may be written in two scripts. A name of an
    anonymous file has no words.
    """
    letters = unicodedata.normalize("NFKD", _APOSTROPHE.sub("", text).translate(_LETTERS))
    words = _NAME_WORD.findall("".join(letter for letter in letters if not unicodedata.combining(letter)))
    if _PLACEHOLDER.fullmatch(" ".join(words)) or any(_NO_NAME.fullmatch(word) for word in words):
        return frozenset()
    return frozenset(_UMLAUT.sub("", word) for word in words if word.isascii())


def _age_of(texts: dict[str, str]) -> tuple[float | None, float]:
    """Read the age (years) of a DICOM header and its margin: as stated, or from the dates of birth and recording."""
    if (age := age_in_years(texts["PatientAge"])) is not None:
        return age, 0.0
    days = ("StudyDate", "AcquisitionDateTime", "AcquisitionDate", "SeriesDate", "ContentDate")
    day = next(filter(None, (date_digits(texts[name]) for name in days)), "")
    return age_on(date_digits(texts["PatientBirthDate"]), day) or (None, 0.0)


def plain_id(text: str) -> str:
    """Write an id without white space at its ends, capitals and leading zeros, because systems differ in these."""
    return text.strip().casefold().lstrip("0")


def identity_of_ecg(file: Any, limits: InputLimits = LIMITS) -> Identity | None:
    """Read whom a DICOM file or the header of a WFDB recording names. Arguments and errors as in `identity_of`."""
    try:
        return read_identity_of_ecg(file, limits)
    except InputRefusedError:
        return None


def read_identity_of_ecg(file: Any, limits: InputLimits = LIMITS) -> Identity | None:
    """Read the same as `identity_of_ecg`, but raise as `read_identity` does."""
    identity = read_identity(file, limits)
    if identity is not None or not isinstance(file, str | Path):
        return identity
    try:
        header = find_header(Path(file))
        if header is None:
            return _identity_of_export(Path(file))
        comments = read_comments(header)
    except (InputRefusedError, OSError, ValueError) as error:
        _raise_if_unreadable(error, file)
        return None
    text = "\n".join(comments)
    name, sex, age = (pattern.search(text) for pattern in (_COMMENT_ID, _COMMENT_SEX, _COMMENT_AGE))
    if name is None and sex is None and age is None:
        return None
    return Identity(
        "" if name is None else plain_id(name[1]),
        sex="" if sex is None else sex[1][0].lower(),
        is_comment=True,
        age=None if age is None else age_in_years(age[1], age[2] or "years"),
    )


def _identity_of_export(file: Path) -> Identity | None:
    """Read whom an export of another system names; None for another file."""
    person = read_vendor_person(file) if file.is_file() else None
    if person is None or person == VendorPerson():
        return None
    patient = "" if _PLACEHOLDER.fullmatch(person.patient.casefold()) else plain_id(person.patient)
    return Identity(
        patient,
        birth=person.birth,
        sex=person.sex,
        is_comment=True,
        age=person.age,
        age_margin=person.margin,
    )


def _raise_if_unreadable(error: Exception, file: str | Path) -> None:
    """Raise the refusal for an error if the file system failed."""
    refusal = refusal_of(error, file)
    if is_unreadable(refusal.reason):
        raise refusal from error


def study_conflict(identities: Iterable[Identity | None]) -> str | None:
    """Say that the files of one study name two patients or two examinations; None if they do not.

    Args:
        identities: of the files of the study; None for a file without a header.
    """
    different = {identity for identity in identities if identity is not None}
    if elements := different_patients(different):
        return (
            f"the headers of its files name different patients ({_written(elements)}): keep the files of one patient, "
            "or correct the headers"
        )
    if any(_differ(*pair, "study") for pair in combinations(different, 2)):
        return (
            "its files are of different examinations (StudyInstanceUID differs): a study is one examination, so keep "
            "the files of one"
        )
    return None


def study_doubts(identities: Iterable[Identity | None]) -> list[dict[str, str]]:
    """Note files of one study whose headers name two persons without two ids: by other names, or by other ages.

    Names are compared only if a file states no id, because one person may be written in two ways.

    Args:
        identities: of the files of the study; None for a file without a header.

    Returns:
        {"code", "item", "text"} for each difference, without its values.
    """
    pairs = list(combinations({identity for identity in identities if identity is not None}, 2))
    names = any(not (one.patient and two.patient) and _are_other_names(one.name, two.name) for one, two in pairs)
    ages = any(_are_other_ages(one, two) for one, two in pairs)
    reasons = {"patient_names_differ": (names, "PatientName"), "patient_ages_differ": (ages, "age of the patient")}
    text = "the headers of the files of the study differ in the {}: make sure that all are of one patient"
    return [
        {"code": code, "item": "echo study", "text": text.format(what)}
        for code, (is_found, what) in reasons.items()
        if is_found
    ]


def _are_other_ages(one: Identity, two: Identity) -> bool:
    """Tell whether two ages are of two persons, even if each is smaller by its margin."""
    if one.age is None or two.age is None or max(one.age, two.age) > OLDEST:
        return False
    young, old = sorted((one, two), key=lambda identity: identity.age or 0.0)
    return (old.age or 0.0) - old.age_margin - (young.age or 0.0) > YEARS_APART


def _are_other_names(one: frozenset[str], two: frozenset[str]) -> bool:
    """Tell whether two names are of two persons: both are stated, and none is the other one with more words."""
    return bool(one and two) and not (one <= two or two <= one)


def different_patients(identities: Iterable[Identity | None]) -> list[str]:
    """List the elements in which the headers of files name different patients: "patient", "birth", "sex"."""
    pairs = list(combinations({identity for identity in identities if identity is not None}, 2))
    return [name for name in ("patient", "birth", "sex") if any(_differ(*pair, name) for pair in pairs)]


def patient_conflict(ecg: Identity | None, echo: Identity | None, other: str = "echo") -> tuple[str, bool] | None:
    """Say that the ECG and the echo (or X-ray) of one patient name two patients; None if they do not.

    Two systems of a hospital may give one patient two ids. So two ids are no proof if birth and sex agree, or if one of
    them stood in a comment of a WFDB header, which states no issuer, birth or sex (decision 160). A pseudonym and an id
    of a hospital are not compared at all (decision 206).

    Args:
        ecg: of the recording; None without a header.
        echo: of a file of the study; None without a header.
        other: what the second file is, for the message.

    Returns:
        The reason, and whether it is certain.
    """
    if ecg is None or echo is None:
        return None
    elements = [name for name in ("patient", "birth", "sex") if _differ(ecg, echo, name)]
    if "patient" in elements and not is_one_numbering(ecg.patient, echo.patient):
        elements.remove("patient")
    if not elements:
        return None
    agree = bool(ecg.birth and ecg.birth == echo.birth and ecg.sex and ecg.sex == echo.sex)
    reason = f"the headers of the ECG and of the {other} name different patients ({_written(elements)})"
    is_certain = not agree and not (ecg.is_comment or echo.is_comment)
    return f"{reason}: keep the files of one patient, or correct the headers", is_certain


def ids_not_compared(ecg: Identity | None, echo: Identity | None, other: str = "echo") -> str | None:
    """Note two ids that `patient_conflict` does not compare, because of their forms or issuers; None if it does.

    This is a note and no finding, because every patient of a pseudonymised cohort may have it (decision 231).

    Args:
        ecg: of the recording; None without a header.
        echo: of a file of the study; None without a header.
        other: what the second file is, for the note.
    """
    if ecg is None or echo is None or not ecg.patient or not echo.patient or ecg.patient == echo.patient:
        return None
    if _differ(ecg, echo, "patient") and is_one_numbering(ecg.patient, echo.patient):
        return None
    return (
        f"patient: the ids of the ECG and of the {other} have two forms or issuers and were not compared: make sure "
        "that both are of this patient"
    )


def labs_conflicts(gender: str | None, age: float | None, files: Mapping[str, Identity | None]) -> list[dict[str, str]]:
    """Note a laboratory row whose gender or age is another than in the header of the ECG or the echo, and a child.

    Args:
        gender: "F" or "M" of the row; None without one.
        age: years; None without one.
        files: name of the input, for the message -> whom its header names.

    Returns:
        {"code", "item", "text"} for each difference, without its values.
    """
    conflicts = []
    for name, identity in files.items():
        if identity is None:
            continue
        if gender in ("F", "M") and identity.sex and gender.lower() != identity.sex:
            conflicts.append(_labs_conflict("patient_sex_differs", "gender", name))
        if _ages_differ(age, identity):
            conflicts.append(_labs_conflict("patient_age_differs", "age", name))
        if identity.age is not None and identity.age < ADULT and (age is None or age >= ADULT):
            text = (
                f"the header of the {name} says that the patient is younger than {ADULT} years; the model is for adults"
            )
            conflicts.append({"code": "patient_not_adult", "item": "patient", "text": text})
    return conflicts


def _ages_differ(age: float | None, identity: Identity) -> bool:
    """Tell whether the age of a laboratory row (years) is another than in a header."""
    if age is None or identity.age is None or max(age, identity.age) > OLDEST:
        return False
    return not -YEARS_APART - identity.age_margin <= age - identity.age <= YEARS_APART


def _labs_conflict(code: str, column: str, name: str) -> dict[str, str]:
    text = f"{column} of the laboratory row and of the header of the {name} differ: are they of one patient?"
    return {"code": code, "item": "patient", "text": text}


def is_one_numbering(one: str, two: str) -> bool:
    """Tell whether two different ids may come from one list of patients.

    The ids of one list have one form: the same words, and one or two letters in the same places. A pseudonym such as
    "sub-0012" has another form than the id of a hospital such as "10000032". Two plain numbers may always be of one
    list, which may have begun at 1 long ago.

    Args:
        one: id as `plain_id` writes it.
        two: the other id.
    """
    first, second = (_NUMBER.sub("0", _SHORT_WORD.sub("a", text)) for text in (one, two))
    if set(first + second) <= set("0-_/ "):  # numbers; some systems write them with a dash
        return True
    is_hexadecimal = all(len(text) >= MIN_HEXADECIMAL and _HEXADECIMAL.fullmatch(text) for text in (one, two))
    return first == second or (is_hexadecimal and len(one) == len(two))


def _differ(one: Identity, two: Identity, name: str) -> bool:
    """Tell whether two headers name different things. Ids of two issuers are not compared."""
    first, second = getattr(one, name), getattr(two, name)
    if name == "patient" and one.issuer and two.issuer and one.issuer != two.issuer:
        return False
    if name == "birth" and same_birth(first, second):
        return False
    return bool(first and second and first != second)


def _written(elements: list[str]) -> str:
    names = {"patient": "PatientID", "birth": "PatientBirthDate", "sex": "PatientSex"}
    verb = "differs" if len(elements) == 1 else "differ"
    return f"{', '.join(names[element] for element in elements)} {verb}"
