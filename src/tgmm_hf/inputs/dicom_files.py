"""Open DICOM files, or refuse them with a reason."""

import re
import struct
import zlib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from ..utils.errors import InputRefusedError
from .input_limits import LIMITS, MIB, InputLimits, check_file, refusal_of, refusing
from .optional_packages import LatePackage, require_package

pydicom: Any = LatePackage("pydicom")

DEFLATED = "1.2.840.10008.1.2.1.99"  # transfer syntax UID of a deflated data set
_PREAMBLE = 132  # bytes: 128 of any content, then "DICM"
_META_START = _PREAMBLE + 12
"""Byte after the group length, which is the first element of a file's meta information."""
_CHUNK = 4 * MIB  # bytes that are inflated at a time
_FIRST_GROUPS = (0x0002, 0x0008)
"""Group of the first element of a data set without preamble: meta information, or identification."""
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
"""Tags of the elements that hold pixels."""
MAX_ELEMENTS = 20_000
"""Largest number of elements of a data set. Echo files have a few hundred. A data set that is filled up with zeros has
an element in every 8 bytes, and pydicom reads about 300,000 elements a second."""
_TEXT = re.compile(rb"[A-Z0-9._\\ ]{4}")
_FIRST_VRS = (b"UL", b"OB", b"CS", b"UI", b"DA", b"TM", b"LO", b"SH", b"SQ")


HUMAN = ("human", "homo sapiens", "homo sapien", "person")
"""Words for a person in PatientSpeciesDescription, in lower case."""


def is_dicom(path: str | Path) -> bool:
    """Tell whether a file is DICOM by its content: the preamble, or a data set that starts at the first byte."""
    try:
        return starts_as_dicom(path)
    except (OSError, ValueError):  # no permission, a path that is too long, a zero byte in the path
        return False


def starts_as_dicom(path: str | Path) -> bool:
    """Tell the same as `is_dicom`, but raise an error of the file system.

    Raises:
        OSError: if the file system does not give the first bytes.
        ValueError: if the path holds a zero byte.
    """
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_PREAMBLE)
    return head[128:] == b"DICM" or starts_with_data_set(head)


def starts_with_data_set(head: bytes) -> bool:
    """Tell whether the bytes start with an element that stands first in DICOM data sets without preamble.

    Args:
        head: first bytes of a file.

    Returns:
        True if the first element fits one of `_FIRST_GROUPS`, with explicit or implicit VR.
    """
    if len(head) < 12:
        return False
    for order in "<>":
        group, element = struct.unpack(f"{order}HH", head[:4])
        if group not in _FIRST_GROUPS or element > 0x0070:
            continue
        if head[4:6] in _FIRST_VRS:
            return True
        if order == "<" and group == _FIRST_GROUPS[1] and _is_first_implicit(head, element):
            return True
    return False


def _is_first_implicit(head: bytes, element: int) -> bool:
    """Tell whether a first element with implicit VR follows: the group's length, or a short text."""
    length = struct.unpack("<I", head[4:8])[0]
    if element == 0:
        return length == 4 and head[12:14] == b"\x08\x00"
    return 0 < length <= 64 and not length % 2 and _TEXT.match(head, 8) is not None


def read_dicom(path: str | Path, stop_before_pixels: bool = False, limits: InputLimits = LIMITS) -> Any:
    """Read a DICOM file and check that each of its values can be parsed.

    A file without the preamble is read too.

    Args:
        path: the file.
        stop_before_pixels: read the header only.
        limits: largest sizes of the file and of an inflated data set.

    Returns:
        The pydicom `Dataset`, without pixels if `stop_before_pixels` is true.

    Raises:
        InputRefusedError: if the file is missing, too large, damaged, or not DICOM, or has more than `MAX_ELEMENTS`.
        ImportError: if pydicom is not installed.
    """
    require_package(pydicom, "pydicom", "reading DICOM files")
    path = Path(path)
    check_file(path, limits)
    with refusing(path, _refusal_of_parsing):  # pydicom raises many kinds for damaged files
        with path.open("rb") as file:
            head = file.read(1024)
        has_preamble = head[128:_PREAMBLE] == b"DICM"
        if not has_preamble and not starts_with_data_set(head):
            raise InputRefusedError(
                str(path), "not readable as DICOM (neither the DICOM prefix nor a data set stands at its start)"
            )
        if DEFLATED.encode() in head:
            _check_inflated_size(path, head, limits)
        with path.open("rb") as file:
            stop = _stop_counting(str(path), _PIXELS if stop_before_pixels else ())
            dataset = pydicom.filereader.read_partial(file, stop, force=not has_preamble)
        for _ in dataset:  # pydicom parses a value when it is first read, and a damaged value must be found here
            pass
    return dataset


def _stop_counting(item: str, last: tuple[int, ...]) -> Callable[[int, str | None, int], bool]:
    """Return a function that pydicom asks at every element whether to stop; too many elements are refused.

    Args:
        item: name of the file in the refusal.
        last: tags before which the reading stops.
    """
    numbers = count(1)

    def stop(tag: int, vr: str | None, length: int) -> bool:
        if next(numbers) > MAX_ELEMENTS:
            raise InputRefusedError(
                item, f"the data set has more than {MAX_ELEMENTS:,} elements: the file is damaged or hostile"
            )
        return tag in last

    return stop


def refuse_animal(dataset: Any, item: str) -> None:
    """Refuse a file whose header says that the patient is an animal, because the model was made for people.

    Args:
        dataset: pydicom `Dataset`.
        item: name of the file in the refusal.

    Raises:
        InputRefusedError: if the header names a species that is not human.
    """
    species = str(dataset.get("PatientSpeciesDescription") or "").strip().casefold()
    if species and species not in HUMAN:
        raise InputRefusedError(item, "the header names an animal (PatientSpeciesDescription): not a file of a person")


def _refusal_of_parsing(error: Exception, path: Path | str) -> InputRefusedError:
    """Turn what pydicom raised for the header into the refusal to raise."""
    # pydicom raises NotImplementedError for a damaged value representation
    of_pydicom = (pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException)
    damaged = (*of_pydicom, NotImplementedError, EOFError, struct.error, zlib.error)
    if isinstance(error, damaged) or (type(error) in (ValueError, OSError) and getattr(error, "errno", None) is None):
        return InputRefusedError(
            str(path), f"not readable as DICOM ({type(error).__name__}): the file is cut short or damaged"
        )
    return refusal_of(error, path)


def _check_inflated_size(path: Path, head: bytes, limits: InputLimits) -> None:
    """Inflate a deflated data set piece by piece and refuse it before it exceeds the limit."""
    if head[_PREAMBLE : _PREAMBLE + 6] != b"\x02\x00\x00\x00UL":
        raise InputRefusedError(str(path), "a deflated data set without the length of its meta information: damaged")
    start = _META_START + struct.unpack("<I", head[_PREAMBLE + 8 : _META_START])[0]
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(_CHUNK)
        while data and not inflater.eof:
            size += len(inflater.decompress(data, _CHUNK))
            if size > limits.max_inflated_bytes:
                raise InputRefusedError(
                    str(path),
                    f"the deflated data set is larger than {limits.max_inflated_bytes / MIB:,.0f} MiB: raise "
                    "max_inflated_bytes of the input limits if the file is right",
                )
            data = inflater.unconsumed_tail or file.read(_CHUNK)
