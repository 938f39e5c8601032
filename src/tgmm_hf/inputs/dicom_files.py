"""Open DICOM files, or refuse them with a reason."""

import io
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
PLAIN = "1.2.840.10008.1.2.1"  # the same, not deflated
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
MAX_SHORT_READS = 200_000
"""Largest number of reads of at most _SHORT bytes. Each element and each item of a sequence needs one or two, wherever
it lies. pydicom makes 200,000 in about a second."""
MAX_DEPTH = 16
"""Largest depth of sequences in sequences. Echo and ECG files have at most three."""
MAX_NESTED_BYTES = 64 * MIB
"""Largest size of a sequence that lies in another one. Pixels and waveforms lie further out."""
_SHORT = 8
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
        with path.open("rb") as start:
            head = start.read(1024)
        has_preamble = head[128:_PREAMBLE] == b"DICM"
        if not has_preamble and not starts_with_data_set(head):
            raise InputRefusedError(
                str(path), "not readable as DICOM (neither the DICOM prefix nor a data set stands at its start)"
            )
        reads = count(1)
        if is_deflated := DEFLATED.encode() in head:
            file: Any = _CountedBytes(_inflated(path, head, limits), reads, str(path))
        else:
            file = _CountedFile(path, reads)
        with file:
            stop = _stop_counting(str(path), _PIXELS if stop_before_pixels else ())
            dataset = pydicom.filereader.read_partial(file, stop, force=not has_preamble)
        if is_deflated:
            dataset.file_meta.TransferSyntaxUID = DEFLATED
        _count_nested(dataset, reads, str(path))
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


class _CountedFile(io.BufferedReader):
    """A file that counts its short reads, because pydicom counts no element inside a sequence.

    Args:
        path: the file.
        reads: the counter, which several files of one data set share.
    """

    def __init__(self, path: Path, reads: "count[int]") -> None:
        super().__init__(path.open("rb", buffering=0))
        self.reads, self.item = reads, str(path)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `size` bytes. A negative size reads to the end.

        Raises:
            InputRefusedError: if there were more than `MAX_SHORT_READS` short reads.
        """
        _count_read(self.reads, size, self.item)
        return super().read(size)


class _CountedBytes(io.BytesIO):
    """Bytes in memory that count their short reads like `_CountedFile`.

    Args:
        data: the bytes.
        reads: the counter.
        item: name of the file in the refusal.
    """

    def __init__(self, data: bytes, reads: "count[int]", item: str) -> None:
        super().__init__(data)
        self.reads, self.item = reads, item

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like `_CountedFile.read`."""
        _count_read(self.reads, size, self.item)
        return super().read(size)


def _count_read(reads: "count[int]", size: int | None, item: str) -> None:
    """Count a read of a size in bytes; refuse the file if there are too many short ones."""
    if size is not None and 0 <= size <= _SHORT and next(reads) > MAX_SHORT_READS:
        raise InputRefusedError(
            item, f"its sequences have more than {MAX_SHORT_READS:,} elements and items: the file is damaged or hostile"
        )


def _count_nested(dataset: Any, reads: "count[int]", item: str, depth: int = 1) -> None:
    """Count the elements of all sequences that pydicom has not parsed yet, because their length is defined.

    Private sequences in sequences are left out: no reader looks at them, so pydicom never parses them.

    Args:
        dataset: pydicom `Dataset`.
        reads: counter of short reads.
        item: name of the file in the refusal.
        depth: number of sequences that the data set lies in, and one more.

    Raises:
        InputRefusedError: if the sequences have too many elements, are nested too deeply or are too large.
    """
    for element in dataset.values():
        if not _is_sequence(element) or (depth > 1 and element.tag.is_private):
            continue
        if depth > MAX_DEPTH:
            raise InputRefusedError(item, "its parts are nested too deeply: the file is damaged or hostile")
        for part in _items(element, reads, item, depth):
            _count_nested(part, reads, item, depth + 1)


def _is_sequence(element: Any) -> bool:
    """Tell whether an element, parsed or not, is a sequence. Implicit and unknown VRs are looked up."""
    if element.VR in (None, "UN") and element.tag in pydicom.datadict.DicomDictionary:
        return bool(pydicom.datadict.dictionary_VR(element.tag) == "SQ")
    return bool(element.VR == "SQ")


def _items(element: Any, reads: "count[int]", item: str, depth: int) -> Any:
    """Return the items of a sequence. Of a damaged sequence in another one there are none: its reader refuses it."""
    if not isinstance(element.value, bytes):
        return element.value or ()
    if depth > 1 and len(element.value) > MAX_NESTED_BYTES:
        raise InputRefusedError(
            item, f"a sequence in a sequence has {len(element.value) / MIB:,.0f} MiB: it is hostile"
        )
    file = _CountedBytes(element.value, reads, item)
    is_implicit = element.is_implicit_VR or element.VR == "UN"
    try:
        read = pydicom.filereader.read_sequence
        return read(file, is_implicit, element.is_little_endian, len(element.value), "iso8859")
    except (OSError, ValueError, EOFError, NotImplementedError, struct.error) as error:
        # What pydicom raises for a damaged sequence. In an outer sequence it refuses the file. A sequence in another
        # one may never be read, so it is only not counted. Our own limits always refuse; pydicom may wrap their error.
        is_limit = isinstance(error, InputRefusedError) or isinstance(error.__context__, InputRefusedError)
        if is_limit or depth == 1:
            raise
        return ()


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
    if isinstance(error.__context__, InputRefusedError | RecursionError):  # pydicom hides any error of a file
        return refusal_of(error.__context__, path)
    # pydicom raises NotImplementedError for a damaged value representation
    of_pydicom = (pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException)
    damaged = (*of_pydicom, NotImplementedError, EOFError, struct.error, zlib.error)
    if isinstance(error, damaged) or (type(error) in (ValueError, OSError) and getattr(error, "errno", None) is None):
        return InputRefusedError(
            str(path), f"not readable as DICOM ({type(error).__name__}): the file is cut short or damaged"
        )
    return refusal_of(error, path)


def _inflated(path: Path, head: bytes, limits: InputLimits) -> bytes:
    """Inflate a deflated data set piece by piece, and refuse it before it exceeds the limit.

    Args:
        path: the file.
        head: its first bytes.
        limits: `max_inflated_bytes` is the largest size.

    Returns:
        The file with the inflated data set, as if it had been written without compression.

    Raises:
        InputRefusedError: if the data set is too large, or the meta information states no length.
    """
    if head[_PREAMBLE : _PREAMBLE + 6] != b"\x02\x00\x00\x00UL":
        raise InputRefusedError(str(path), "a deflated data set without the length of its meta information: damaged")
    start = _META_START + struct.unpack("<I", head[_PREAMBLE + 8 : _META_START])[0]
    inflater, parts, size = zlib.decompressobj(-zlib.MAX_WBITS), [], 0
    with path.open("rb") as file:
        meta = file.read(start)
        data = file.read(_CHUNK)
        while data and not inflater.eof:
            parts.append(inflater.decompress(data, _CHUNK))
            size += len(parts[-1])
            if size > limits.max_inflated_bytes:
                raise InputRefusedError(
                    str(path),
                    f"the deflated data set is larger than {limits.max_inflated_bytes / MIB:,.0f} MiB: raise "
                    "max_inflated_bytes of the input limits if the file is right",
                )
            data = inflater.unconsumed_tail or file.read(_CHUNK)
    plain = PLAIN.ljust(len(DEFLATED), "\0")  # a UID may end with zeros
    return b"".join([meta.replace(DEFLATED.encode(), plain.encode()), *parts])
