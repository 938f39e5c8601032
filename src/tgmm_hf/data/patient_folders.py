"""Find out what the files of a patient's folder are: ECG recordings, echo clips, or something else.

The content of a file decides, not its name alone. The readers' own cheap checks are used, which read headers and no
pixels. A file is never opened if it is a link that leads out of the folder.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tgmm_hf.inputs.dicom_files import is_dicom, read_dicom
from tgmm_hf.inputs.ecg_csv import is_csv_ecg
from tgmm_hf.inputs.ecg_recording import normalise_lead_name
from tgmm_hf.inputs.ecg_vendor import HEAD_BYTES, vendor_format
from tgmm_hf.inputs.ecg_wfdb_header import read_header
from tgmm_hf.inputs.echo_reading import count_echo_frames, leads_outside
from tgmm_hf.inputs.echo_video import VIDEO_SUFFIXES
from tgmm_hf.inputs.input_limits import check_file, refusing
from tgmm_hf.utils.errors import InputRefusedError

SIGNAL_SUFFIXES = (".dat", ".mat")
"""Signal files of WFDB recordings. Their header is the recording."""
USUAL_SUFFIXES = (".pdf", ".xml", ".txt", ".csv", ".json", ".jpg", ".png", ".tif", ".edf", ".scp", ".zip", ".docx")
"""Suffixes that the report may show."""
_VIDEO_STARTS = ((4, b"ftyp"), (0, b"RIFF"), (0, b"\x1aE\xdf\xa3"))
"""Place and first bytes of MP4 and QuickTime, AVI, and Matroska files."""


@dataclass(frozen=True)
class Recording:
    """An ECG recording.

    Attributes:
        path: WFDB header, DICOM file, or export of another system.
        time: When it was recorded. None if the file does not give date and time.
    """

    path: Path
    time: datetime | None


@dataclass(frozen=True)
class Clip:
    """An echo clip.

    Attributes:
        path: The file.
        study: Study of the clip: the number in its header, else the folder it lies in.
    """

    path: Path
    study: str


@dataclass
class FolderContent:
    """What a folder holds.

    Attributes:
        recordings: ECG recordings, sorted by path.
        clips: Echo clips, sorted by path.
        unused: What else was found -> number of files. The words name no patient.
    """

    recordings: list[Recording] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)

    @property
    def studies(self) -> set[str]:
        """The studies of the clips."""
        return {clip.study for clip in self.clips}


def scan_folder(folder: Path) -> FolderContent:
    """Look at every file below a folder. Hidden files are left out and not counted.

    A file that cannot be looked at is counted as unused. It raises no error.
    """
    content = FolderContent()
    headers: list[Path] = []
    signals: list[Path] = []
    for path in _files(folder):
        if leads_outside(path, folder):
            content.unused["link that leads out of the folder"] += 1
        elif path.suffix.lower() == ".hea":
            headers.append(path)
        elif path.suffix.lower() in SIGNAL_SUFFIXES and not is_dicom(path):
            signals.append(path)
        else:
            _look_at(path, folder, content)
    _add_wfdb(headers, signals, content)
    content.recordings.sort(key=lambda recording: recording.path)
    _join_videos(content)
    return content


def _files(folder: Path) -> Iterator[Path]:
    """List the files below a folder in sorted order, without hidden ones. Links to folders are not followed."""
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(directory) / name for name in sorted(files) if not name.startswith("."))


def _look_at(path: Path, folder: Path, content: FolderContent) -> None:
    """Sort one file, which is no part of a WFDB recording, into `content`."""
    if path.name.upper() == "DICOMDIR":
        content.unused["DICOMDIR"] += 1
        return
    try:
        with refusing(path):  # one odd file must not stop the others
            if is_dicom(path):
                _look_at_dicom(path, folder, content)
            elif _is_video(path):
                _look_at_video(path, folder, content)
            elif _is_ecg_export(path):
                content.recordings.append(Recording(path, None))
            else:
                content.unused[f"file of another kind{_shown_suffix(path)}"] += 1
    except InputRefusedError as error:
        content.unused[_kind(error)] += 1


def _is_ecg_export(path: Path) -> bool:
    """Tell whether a file is an ECG of another system (GE MUSE, HL7 aECG, ...) or a text table with lead names."""
    check_file(path)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return vendor_format(head) is not None or (is_csv_ecg(path, head) and _names_leads(head))


def _names_leads(head: bytes) -> bool:
    """Tell whether a line of a text table names several leads, because a lab table is a text table too."""
    lines = head.decode("utf-8", "replace").splitlines()[:30]
    return any(sum(bool(normalise_lead_name(cell)) for cell in re.split(r"[,;\t]", line)) >= 3 for line in lines)


def _shown_suffix(path: Path) -> str:
    """Write the suffix of a file if it is a usual one; "" for any other, because it may be a part of a name."""
    suffix = path.suffix.lower()
    return f" ({suffix})" if suffix in USUAL_SUFFIXES else ""


def _kind(error: InputRefusedError) -> str:
    """Write the reason of a refusal without its figures in brackets, so that equal reasons are counted together."""
    if error.reason.startswith("unexpected: "):
        return error.reason
    return error.reason.split(" (", 1)[0].split(":", 1)[0]


def _look_at_dicom(path: Path, folder: Path, content: FolderContent) -> None:
    dataset = read_dicom(path, stop_before_pixels=True)
    if dataset.get("WaveformSequence"):
        if dataset.get("Modality") not in (None, "", "ECG"):
            raise InputRefusedError(str(path), "DICOM waveform of another modality than ECG")
        content.recordings.append(Recording(path, _dicom_time(dataset)))
        return
    count_echo_frames(path)
    content.clips.append(Clip(path, str(dataset.get("StudyInstanceUID") or _folder_of(path, folder))))


def _look_at_video(path: Path, folder: Path, content: FolderContent) -> None:
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        content.unused[f"video without one of the suffixes {', '.join(VIDEO_SUFFIXES)}"] += 1
        return
    count_echo_frames(path)
    content.clips.append(Clip(path, _folder_of(path, folder)))


def _folder_of(path: Path, folder: Path) -> str:
    return f"folder {path.parent.relative_to(folder).as_posix()}"


def _is_video(path: Path) -> bool:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(12)
    return any(head[place:].startswith(start) for place, start in _VIDEO_STARTS)


def _join_videos(content: FolderContent) -> None:
    """Give videos the study of the DICOM clips in the same folder, if that is one study."""
    by_folder: dict[Path, set[str]] = {}
    for clip in content.clips:
        if not clip.study.startswith("folder "):
            by_folder.setdefault(clip.path.parent, set()).add(clip.study)
    content.clips = [
        Clip(clip.path, next(iter(by_folder[clip.path.parent])))
        if clip.study.startswith("folder ") and len(by_folder.get(clip.path.parent, ())) == 1
        else clip
        for clip in content.clips
    ]


def _add_wfdb(headers: list[Path], signals: list[Path], content: FolderContent) -> None:
    """Sort headers and signal files into `content`. A segment of another recording is no recording of its own."""
    parts: set[Path] = set()
    read: list[Path] = []
    for path in headers:
        try:
            header = read_header(path)
        except InputRefusedError:
            content.unused["WFDB header that cannot be read"] += 1
            continue
        parts |= {signal.file for signal in header.signals}
        if header.signals and not any(normalise_lead_name(signal.name) for signal in header.signals):
            content.unused["WFDB recording without an ECG lead"] += 1
            continue
        read.append(path)
        parts |= {path.parent / f"{name}.hea" for name, _ in header.segments if name != "~"}
    content.recordings += [Recording(path, _wfdb_time(path)) for path in read if path not in parts]
    # Segments are read too, so that their signal files count as used.
    if alone := sum(path not in parts for path in signals):
        content.unused["signal file (.dat, .mat) without a WFDB header"] += alone


# ---- times


def _dicom_time(dataset: Any) -> datetime | None:
    """Read when a waveform was recorded. The time zone is left out, because a patient's files come from one place."""
    text = str(dataset.get("AcquisitionDateTime") or "")
    for date, time in (("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime")):
        if not text and dataset.get(date) and dataset.get(time):
            text = f"{dataset.get(date)}{dataset.get(time)}"
    return _time(text[:14], "%Y%m%d%H%M%S")


def _wfdb_time(path: Path) -> datetime | None:
    """Read base time and base date from the first line of a WFDB header: `name signals rate samples time date`."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = (line.strip() for line in file)
        fields = next((line for line in lines if line and not line.startswith("#")), "").split()
    return _time(" ".join([fields[4].partition(".")[0], fields[5]]), "%H:%M:%S %d/%m/%Y") if len(fields) > 5 else None


def _time(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None
