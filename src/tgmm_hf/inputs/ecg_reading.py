"""Read ECG files (WFDB, DICOM waveform, exports of other systems, text tables) into named leads in millivolts."""

from pathlib import Path

from ..utils.errors import InputRefusedError
from .dicom_files import is_dicom
from .ecg_csv import is_csv_ecg, read_csv_ecg
from .ecg_dicom import read_dicom_ecg
from .ecg_recording import EcgRecording
from .ecg_vendor import HEAD_BYTES, read_vendor_ecg, vendor_format
from .ecg_wfdb import read_wfdb
from .ecg_wfdb_header import find_header
from .input_limits import refusal_of

_GZIP = b"\x1f\x8b"


def read_ecg(path: str | Path) -> EcgRecording:
    """Read an ECG file in millivolts. Its content decides on the format, not its suffix.

    Channels that are not one of the twelve leads are left out, with a note. A recording in normalised units keeps them.

    Args:
        path: DICOM file, WFDB recording with or without its suffix, export in GE MUSE XML, HL7 aECG, Philips XML,
            SCP-ECG or EDF, or a text table (`ecg_csv`).

    Returns:
        `EcgRecording` with the leads of the file, in millivolts, or in normalised units if the file has them.

    Raises:
        InputRefusedError: if the file is missing or damaged, or has no ECG lead in a known unit.
        ImportError: if wfdb, pydicom or ecgdatakit is needed and not installed.
    """
    path = Path(path)
    try:
        if is_dicom(path):
            return read_dicom_ecg(path)
        if path.is_dir() and not path.name:
            raise InputRefusedError(_short(path), "a directory, not a recording: name the recording")
        if (header := find_header(path)) is not None:
            return read_wfdb(header.with_suffix(""), header.suffix)
        if path.is_file():
            return _read_other(path)
    except InputRefusedError:
        raise
    except (OSError, ValueError) as error:
        # a path of thousands of letters, a path with a zero byte, a folder without permission
        raise refusal_of(error, _short(path)) from error
    raise InputRefusedError(
        _short(path),
        "neither a file nor a WFDB recording (its .hea is not there): check the path",
    )


def _read_other(path: Path) -> EcgRecording:
    """Read a file that is neither DICOM nor part of a WFDB recording."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(_GZIP):
        raise InputRefusedError(_short(path), "compressed with gzip: unpack it first (gunzip)")
    if (name := vendor_format(head)) is not None:
        return read_vendor_ecg(path, name)
    if is_csv_ecg(path, head):
        return read_csv_ecg(path)
    raise InputRefusedError(
        _short(path),
        "not an ECG in a format that is read (WFDB with its header, DICOM, GE MUSE XML, HL7 aECG, Philips XML, "
        "SCP-ECG, EDF, CSV with lead names): check the path, or export the recording in one of them",
    )


def _short(path: str | Path) -> str:
    """Write a path for a message, cut after 300 characters."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:300]}..."
