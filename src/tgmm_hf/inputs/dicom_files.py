"""Open DICOM files, or refuse them with a reason."""

import struct
from pathlib import Path
from typing import Any

from ..utils.errors import InputRefusedError
from .optional_packages import require_package

try:
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError
except ImportError:
    pydicom = None


def is_dicom(path: str | Path) -> bool:
    """Tell whether a file has the DICOM preamble ("DICM" at byte 128)."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(path: str | Path, stop_before_pixels: bool = False) -> Any:
    """Read a DICOM file and check that each of its values can be parsed.

    Args:
        path: the file.
        stop_before_pixels: read the header only.

    Returns:
        The pydicom `Dataset`.

    Raises:
        InputRefusedError: if the file is missing, damaged, or not DICOM.
        ImportError: if pydicom is not installed.
    """
    require_package(pydicom, "pydicom", f"reading the DICOM file {path}")
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
        for _ in dataset:  # pydicom parses a value when it is first read, and a damaged value must be found here
            pass
        return dataset
    except FileNotFoundError as error:
        raise InputRefusedError(str(path), "no such file: check the path") from error
    except (InvalidDicomError, BytesLengthException, OSError, ValueError, EOFError, struct.error) as error:
        raise InputRefusedError(str(path), f"not readable as DICOM ({error})") from error
