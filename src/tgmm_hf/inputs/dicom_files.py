"""Open DICOM files, or refuse them with a reason."""

import struct
from pathlib import Path
from typing import Any

from ..utils.errors import InputRefusedError

try:
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError
except ImportError:
    pydicom = None


# ---- DICOM


def is_dicom(path: str | Path) -> bool:
    """Whether the file has the DICOM preamble ("DICM" at byte 128)."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(path: Path, stop_before_pixels: bool = False) -> Any:
    if pydicom is None:
        raise ImportError(f"reading the DICOM file {path} needs pydicom: pip install pydicom")
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
        for _ in dataset:  # pydicom converts a value when it is first looked at: a damaged one must show here
            pass
        return dataset
    except FileNotFoundError as error:
        raise InputRefusedError(str(path), "no such file: check the path") from error
    except (InvalidDicomError, BytesLengthException, OSError, ValueError, EOFError, struct.error) as error:
        raise InputRefusedError(str(path), f"not readable as DICOM ({error})") from error
