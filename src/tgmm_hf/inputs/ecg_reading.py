"""Read ECG files (WFDB, DICOM waveform) into named leads in millivolts."""

from pathlib import Path

from ..utils.errors import InputRefusedError
from .dicom_files import is_dicom
from .ecg_dicom import read_dicom_ecg
from .ecg_recording import EcgRecording
from .ecg_wfdb import read_wfdb
from .input_limits import refusal_of

_WFDB_SUFFIXES = (".hea", ".dat", ".mat")


def read_ecg(path: str | Path) -> EcgRecording:
    """Read a WFDB recording or a DICOM 12-lead waveform in millivolts.

    Channels that are not one of the twelve leads are left out, with a note. A recording in normalised units keeps them.

    Args:
        path: DICOM file, or WFDB recording with or without its suffix.

    Returns:
        `EcgRecording` with the leads of the file, in millivolts, or in normalised units if the file has them.

    Raises:
        InputRefusedError: if the file is missing or damaged, or has no ECG lead in a known unit.
        ImportError: if wfdb or pydicom is needed and not installed.
    """
    path = Path(path)
    try:
        if is_dicom(path):
            return read_dicom_ecg(path)
        stem = path.with_suffix("") if path.suffix.lower() in _WFDB_SUFFIXES else path
        if stem.with_name(stem.name + ".hea").is_file():
            return read_wfdb(stem)
    except (OSError, ValueError) as error:
        # a path of thousands of letters, a path with a zero byte, a folder without permission
        raise refusal_of(error, _short(path)) from error
    raise InputRefusedError(
        _short(path),
        "neither a WFDB recording (its .hea is not there) nor a DICOM file: check the path",
    )


def _short(path: str | Path) -> str:
    """Write a path for a message, cut after 300 characters."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:300]}..."
