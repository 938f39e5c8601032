"""Compare the patients that the headers of DICOM and WFDB files name. No text of a header is put into a message."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ..utils.errors import InputRefusedError
from .dicom_files import read_dicom, starts_as_dicom
from .ecg_wfdb_header import find_header, read_comments
from .input_limits import LIMITS, InputLimits, is_unreadable, refusal_of

KEYWORDS = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID")
"""Elements that are read."""
DIFFERENT_IDS = "patient_ids_differ"
"""Code of an ECG and an echo with two patient ids that may still be of one patient."""
_COMMENT_ID = re.compile(r"\b(?:subject|patient)[ _-]?id>?\s*[:=]\s*([^\s<>,;]*\d[^\s<>,;]*)", re.IGNORECASE)
"""Id in a comment of a WFDB header: "<subject_id>: 10000032", "Patient ID = A7". A text without digits is no id."""


_PLACEHOLDER = re.compile(r"(?:anon|unknown|none|no name|de-?ident|phantom|test)\D*|n/?a")
"""What is written over the PatientID of an anonymous file. A pseudonym with digits is compared like any id."""


@dataclass(frozen=True)
class Identity:
    """Whom a header names; "" where it names nobody. Spelling is made alike: no leading zeros, capitals or spaces.

    Attributes:
        patient: PatientID.
        issuer: IssuerOfPatientID, the system that gave the id.
        birth: PatientBirthDate of eight digits.
        sex: "m" or "f".
        study: StudyInstanceUID.
        is_comment: the id stood in a comment of a WFDB header, which no standard defines.
    """

    patient: str = ""
    issuer: str = ""
    birth: str = ""
    sex: str = ""
    study: str = ""
    is_comment: bool = False


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
    birth, sex = texts["PatientBirthDate"], texts["PatientSex"]
    return Identity(
        "" if _PLACEHOLDER.fullmatch(texts["PatientID"]) else plain_id(texts["PatientID"]),
        texts["IssuerOfPatientID"],
        birth if birth.isdigit() and len(birth) == 8 else "",
        sex if sex in ("m", "f") else "",
        texts["StudyInstanceUID"],
    )


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
        comments = [] if header is None else read_comments(header)
    except (InputRefusedError, OSError, ValueError) as error:
        _raise_if_unreadable(error, file)
        return None
    match = next((match for line in comments if (match := _COMMENT_ID.search(line)) is not None), None)
    return None if match is None else Identity(plain_id(match[1]), is_comment=True)


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
    pairs = list(combinations(different, 2))
    if elements := [name for name in ("patient", "birth", "sex") if any(_differ(*pair, name) for pair in pairs)]:
        return (
            f"the headers of its files name different patients ({_written(elements)}): keep the files of one patient, "
            "or correct the headers"
        )
    if any(_differ(*pair, "study") for pair in pairs):
        return (
            "its files are of different examinations (StudyInstanceUID differs): a study is one examination, so keep "
            "the files of one"
        )
    return None


def patient_conflict(ecg: Identity | None, echo: Identity | None, other: str = "echo") -> tuple[str, bool] | None:
    """Say that the ECG and the echo (or X-ray) of one patient name two patients; None if they do not.

    Two systems of a hospital may give one patient two ids. So two ids are no proof if birth and sex agree, or if one of
    them stood in a comment of a WFDB header, which states no issuer, birth or sex (decision 160).

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
    if not elements:
        return None
    agree = bool(ecg.birth and ecg.birth == echo.birth and ecg.sex and ecg.sex == echo.sex)
    reason = f"the headers of the ECG and of the {other} name different patients ({_written(elements)})"
    is_certain = not agree and not (ecg.is_comment or echo.is_comment)
    return f"{reason}: keep the files of one patient, or correct the headers", is_certain


def _differ(one: Identity, two: Identity, name: str) -> bool:
    """Tell whether two headers name different things. Ids of two issuers are not compared."""
    first, second = getattr(one, name), getattr(two, name)
    if name == "patient" and one.issuer and two.issuer and one.issuer != two.issuer:
        return False
    return bool(first and second and first != second)


def _written(elements: list[str]) -> str:
    names = {"patient": "PatientID", "birth": "PatientBirthDate", "sex": "PatientSex"}
    verb = "differs" if len(elements) == 1 else "differ"
    return f"{', '.join(names[element] for element in elements)} {verb}"
