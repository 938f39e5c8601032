"""What the fuzzer calls: bytes -> one reader. A documented refusal is no find."""

import json
import traceback
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from ecg_files import ecg_dataset, heart_steps, waveform, write_record
from kinds_echo import clip_of, dataset_of, jpeg_dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from tgmm_hf.data.prediction import read_labs
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.echo_reading import read_echo_clip
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.utils.errors import TgmmError


class FoundError(Exception):
    """A find that is no exception of the package."""


def _refusing(read: Callable[[], Any]) -> Any:
    """Read, and let documented refusals pass."""
    try:
        return read()
    except TgmmError as error:
        if "unexpected: " in str(error):
            raise FoundError(f"unexpected at {place_of(error)}") from None
        return None


def place_of(error: BaseException) -> str:
    """Name the place where an error (or the first cause of it) arose, so that each fault counts once."""
    seen = {id(error)}
    while error.__context__ is not None and id(error.__context__) not in seen:  # an error may be its own cause
        error = error.__context__
        seen.add(id(error))
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else str(error)
    return f"{type(error).__name__} {where}" if not isinstance(error, FoundError) else str(error)


def wfdb_header(data: bytes, folder: Path) -> None:
    """The header is hostile, the signal file is right."""
    if not (folder / "r.dat").exists():
        write_record(folder, heart_steps(0)[:, :500])
    (folder / "r.hea").write_bytes(data)
    recording = _refusing(lambda: read_ecg(folder / "r"))
    if recording is not None and np.isinf(recording.signal).any():
        raise FoundError("infinite values of a WFDB recording")


def ecg_dicom(data: bytes, folder: Path) -> None:
    (folder / "ecg.dcm").write_bytes(data)
    recording = _refusing(lambda: read_ecg(folder / "ecg.dcm"))
    if recording is not None and np.isinf(recording.signal).any():
        raise FoundError("infinite values of a DICOM ECG")


def echo_dicom(data: bytes, folder: Path) -> None:
    (folder / "clip.dcm").write_bytes(data)
    _refusing(lambda: read_echo_clip(folder / "clip.dcm"))


def lab_row(data: bytes, folder: Path) -> None:
    (folder / "row.json").write_bytes(data)
    row = _refusing(lambda: read_labs(folder / "row.json"))
    if row is not None:
        labs = LabsText.from_row(row).write(flags=True)
        json.dumps(labs.stored_values(), allow_nan=False).encode()
        labs.text.encode()


READERS: dict[str, Callable[[bytes, Path], None]] = {
    "wfdb_header": wfdb_header,
    "ecg_dicom": ecg_dicom,
    "echo_dicom": echo_dicom,
    "lab_row": lab_row,
}
WORDS = {
    "wfdb_header": ("r.dat", " 16 ", " 212 ", "x4", ":3", "+24", "500(0)/mV", "0(0)/uV", "/2 12 500", "~ 100", "nan", "inf", "aVR", "V1", "#", "..", "516"),
    "ecg_dicom": ("SS", "US", "SB", "MB", "\\\\x00T\\\\x00T", "5.6.3-9-1", "2:61", "uV", "mV", "SQ", "UN", "OW", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"),
    "echo_dicom": ("RGB", "YBR_FULL", "MONOCHROME2", "PALETTE COLOR", "US", "OB", "OW", "SQ", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"),
    "lab_row": ("Creatinine", "umol/L", "mg/dL", "NaN", "Infinity", "1e999", "\\\\ud800", "null", "true", "[", "{", "gender", "age", "<0.5", " H", "1,4"),
}  # fmt: skip


def seeds(reader: str) -> Iterator[bytes]:
    """Right files to start from."""
    if reader == "wfdb_header":
        import tempfile

        for options in ({}, {"storage": 212}, {"per_frame": 4}, {"files": 6}, {"units": ["uV"] * 12}):
            with tempfile.TemporaryDirectory() as folder:
                yield write_record(Path(folder), heart_steps(0)[:, :500], **options).with_suffix(".hea").read_bytes()
        yield b"r/2 12 500 1000\nr 500\n~ 500\n"
    elif reader == "ecg_dicom":
        steps = heart_steps(0)[:, :300]
        for groups in (
            [waveform(steps)],
            [waveform(steps[:2], ["I", "II"]), waveform(steps[6:], [f"V{n}" for n in range(1, 7)])],
        ):
            yield _bytes(ecg_dataset(groups), ExplicitVRLittleEndian)
    elif reader == "echo_dicom":
        frames = clip_of(0)[:3, ::4, ::4].copy()
        yield _bytes(dataset_of(frames), ExplicitVRLittleEndian)
        yield _bytes(dataset_of(frames[..., 0], "MONOCHROME2"), ExplicitVRLittleEndian)
        yield _bytes(jpeg_dataset(frames), JPEGBaseline8Bit)
    else:
        yield b'{"Creatinine": 1.4, "NTproBNP": [616.5, "pmol/L"], "age": 71, "gender": "F"}'
        yield b'{"Hb (g/dL)": "10.1 L", "medical history": "diabetes", "own": "<0.5", "Sodium": null}'


def _bytes(dataset: Any, syntax: str) -> bytes:
    file = BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()
