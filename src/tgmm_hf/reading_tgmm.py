"""Files -> arrays: 12-lead ECGs (WFDB, DICOM waveform) and echo clips (multi-frame DICOM, video).

Readers return what the file says (signals in millivolts by the header's gain, frames in the colour space they are
stored in) and leave resampling, filtering, masking and cropping to the feature extractor and the image processor.
Nothing but signal, sampling rate, lead names and pixels leaves this module: DICOM headers carry names and dates.

The optional libraries (wfdb, pydicom, Pillow, OpenCV) are imported inside `try`, so that a repository on the Hub loads
without them; whoever needs one that is missing is told the pip command.
"""

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .configuration_tgmm import LEADS

try:
    import wfdb
except ImportError:
    wfdb = None
try:
    import pydicom
    from pydicom.encaps import generate_frames
    from pydicom.errors import BytesLengthException, InvalidDicomError
    from pydicom.pixels import get_decoder
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.waveforms import multiplex_array
except ImportError:
    pydicom = None
try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]
try:
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
VIDEO_SUFFIXES = (".mp4", ".avi")
NORMALISED_UNITS = ("nu", "normalised", "normalized")
"""Units of signals that have lost their amplitude; "NU" is what WFDB writes for them."""

# Numbers behind the lead codes of DICOM CID 3001: "5.6.3-9-61" (SCPECG) and "2:61" (MDC) are both lead III.
_LEAD_OF_CODE = {"1": "I", "2": "II", "61": "III", "62": "aVR", "63": "aVL", "64": "aVF"} | {
    str(number + 2): f"V{number}" for number in range(1, 7)
}
_LEAD_CODE = re.compile(r"(?:5\.6\.3-9-|2:)(\d+)")
_LEAD_NAME = re.compile(r"(?:mdc[\s_-]*)?(?:(?:ecg|ekg)[\s_-]*)?(?:lead[\s_:-]*)?(i{1,3}|av[rlf]|v[1-6])")
_LEAD_BY_LOWER = {lead.lower(): lead for lead in LEADS}
_MILLIVOLTS = {
    "mv": 1.0,
    "millivolt": 1.0,
    "uv": 1e-3,
    "microvolt": 1e-3,
    "nv": 1e-6,
    "nanovolt": 1e-6,
    "v": 1e3,
    "volt": 1e3,
}


class RecordRefusedError(ValueError):
    """A file or record that cannot be used, with the reason in words.

    Attributes:
        item (`str`): file, record or view the reason is about.
        reason (`str`): what was wrong, the values involved and the remedy.
    """

    def __init__(self, item: str, reason: str):
        # both go to `args`, so that the error survives pickling between worker processes
        super().__init__(str(item), reason)
        self.item = str(item)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.item}: {self.reason}"


@dataclass
class EcgRecord:
    """An ECG as read: named leads with their sampling rate.

    Attributes:
        signal (`np.ndarray` of shape `(leads, samples)`): floating point; NaN where the file has no value.
        sampling_rate (`float`): Hz.
        lead_names (`list[str]`): one name per row of `signal`.
        units (`str`): "mV", or "normalised" for a signal that has lost its amplitude (z-scored arrays).
        source (`str`): file or record name for messages.
        notes (`list[str]`): what the reader left out or converted.
    """

    signal: np.ndarray
    sampling_rate: float
    lead_names: list[str]
    units: str = "mV"
    source: str = "ecg"
    notes: list[str] = field(default_factory=list)


@dataclass
class EchoClip:
    """The decoded frames of a clip.

    Attributes:
        frames (`np.ndarray` of shape `(frames, height, width, 3)`, uint8): only the frames that were asked for.
        colour_space (`str`): "YBR" (full range, components Y, Cb, Cr), "RGB" or "MONOCHROME" (three equal channels).
        total_frames (`int`): number of frames in the file.
        source (`str`): file name for messages.
    """

    frames: np.ndarray
    colour_space: str
    total_frames: int
    source: str = "clip"


def normalise_lead_name(name: str) -> str | None:
    """The model's name ("I" ... "V6") of a lead as files write it, or `None` if it is none of the twelve.

    Case, a leading "Lead" / "ECG" / "MDC_ECG_LEAD_" and explanations in brackets or after a comma do not count:
    "AVR", "Lead I (Einthoven)", "MDC_ECG_LEAD_V1" and "aVR, augmented voltage, right" are understood. Modified or
    inverted leads ("MLII", "-aVR") are not the standard leads and give `None`.
    """
    text = re.sub(r"\(.*?\)", "", str(name)).split(",")[0].strip().lower()
    match = _LEAD_NAME.fullmatch(text)
    return _LEAD_BY_LOWER[match.group(1)] if match else None


def millivolts_per_unit(unit: str) -> float:
    """How many millivolts one `unit` is; case-insensitive ("mV", "mv", "uV", "µV", "V").

    Raises:
        ValueError: for a unit that is no voltage known here.
    """
    text = str(unit).strip().casefold().replace("\u03bc", "u").replace("\u00b5", "u")
    factor = _MILLIVOLTS.get(text, _MILLIVOLTS.get(text.removesuffix("s")))
    if factor is None:
        raise ValueError(f"unknown unit {unit!r}; known are mV, uV (µV), nV and V: convert the signal to millivolts")
    return factor


# ---- ECG


def read_ecg(path: str | Path) -> EcgRecord:
    """Reads a WFDB record (with or without its suffix) or a DICOM 12-lead waveform, in millivolts.

    Channels that are none of the twelve leads are left out and named in `notes`; calling two channels the same lead is
    refused by the feature extractor. A record in "NU" (normalised units, such as z-scored arrays) keeps them.

    Raises:
        RecordRefusedError: the file is missing, unreadable, or has no ECG lead in a known unit.
    """
    path = Path(path)
    if is_dicom(path):
        return _read_dicom_ecg(path)
    record = path.with_suffix("") if path.suffix.lower() in (".hea", ".dat", ".mat") else path
    if not record.with_name(record.name + ".hea").is_file():
        raise RecordRefusedError(
            str(path), f"neither a WFDB record ({record.name}.hea is not there) nor a DICOM file: check the path"
        )
    return _read_wfdb(record)


def _read_wfdb(record: Path) -> EcgRecord:
    if wfdb is None:
        raise ImportError(f"reading the WFDB record {record} needs wfdb: pip install wfdb")
    try:
        content = wfdb.rdrecord(str(record.absolute()))
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        # wfdb lets parsing errors of damaged headers and short signal files through as these
        raise RecordRefusedError(
            str(record), f"not readable as a WFDB record ({error}): header and signal file are damaged or do not fit"
        ) from error
    if content.p_signal is None or content.p_signal.size == 0:
        raise RecordRefusedError(str(record), "the WFDB header lists no signal: nothing to read")
    channels = list(zip(content.sig_name, content.units, content.p_signal.T, strict=True))
    return _record_from_channels(channels, float(content.fs), str(record))


def _read_dicom_ecg(path: Path) -> EcgRecord:
    dataset = _read_dicom(path)
    if "WaveformSequence" not in dataset:
        raise RecordRefusedError(str(path), "a DICOM file without waveforms: not an ECG (is it an image or a report?)")
    index = _rhythm_group(dataset, path)
    group = dataset.WaveformSequence[index]
    try:
        samples = multiplex_array(dataset, index, as_raw=True)
        channels = _dicom_channels(group, samples)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        # a damaged sequence: elements missing, fewer bytes than samples, another number of channels
        raise RecordRefusedError(str(path), f"the waveform data cannot be decoded: {error}") from error
    record = _record_from_channels(channels, float(group.SamplingFrequency), str(path))
    if len(dataset.WaveformSequence) > 1:
        record.notes.append(f"read multiplex group {index + 1} of {len(dataset.WaveformSequence)}")
    return record


def _dicom_channels(group: Any, samples: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
    """Name, unit and values of each channel; `samples` (samples, channels) as stored."""
    signal = samples.astype(np.float64).T
    if "WaveformPaddingValue" in group:
        signal[signal == _padding_value(group, samples.dtype)] = np.nan
    channels = []
    for values, channel in zip(signal, group.ChannelDefinitionSequence, strict=True):
        # DICOM C.10.9.1.4.2: value = sample x sensitivity x correction factor, plus the baseline in the same unit
        scale = float(channel.get("ChannelSensitivity", 1.0)) * float(
            channel.get("ChannelSensitivityCorrectionFactor", 1.0)
        )
        unit_codes = channel.get("ChannelSensitivityUnitsSequence")
        unit = str(unit_codes[0].CodeValue) if unit_codes else "not stated"
        values = values * scale + float(channel.get("ChannelBaseline", 0.0))
        channels.append((_dicom_lead_name(channel), unit, values))
    return channels


def _rhythm_group(dataset: Any, path: Path) -> int:
    """The group with most leads; among equals the recorded one (median beats are derived), then the longest."""

    def worth(index: int) -> tuple[int, bool, float]:
        group = dataset.WaveformSequence[index]
        leads = {normalise_lead_name(_dicom_lead_name(channel)) for channel in group.ChannelDefinitionSequence} - {None}
        seconds = group.NumberOfWaveformSamples / group.SamplingFrequency
        return len(leads), str(group.get("WaveformOriginality", "")).upper() == "ORIGINAL", float(seconds)

    try:
        return max(range(len(dataset.WaveformSequence)), key=worth)
    except (AttributeError, ValueError, ZeroDivisionError, TypeError) as error:
        raise RecordRefusedError(str(path), f"the waveform sequence is incomplete: {error}") from error


def _dicom_lead_name(channel: Any) -> str:
    """Lead name by the code, which does not depend on the language of the text; else the code's meaning."""
    codes = channel.get("ChannelSourceSequence")
    if not codes:
        return str(channel.get("ChannelLabel", "unnamed"))
    match = _LEAD_CODE.fullmatch(str(codes[0].get("CodeValue", "")))
    return (
        _LEAD_OF_CODE.get(match.group(1), codes[0].CodeMeaning)
        if match
        else str(codes[0].get("CodeMeaning", "unnamed"))
    )


def _padding_value(group: Any, dtype: np.dtype) -> float:
    value = group.WaveformPaddingValue
    return float(np.frombuffer(value, dtype=dtype)[0]) if isinstance(value, bytes) else float(value)


def _record_from_channels(channels: list[tuple[str, str, np.ndarray]], sampling_rate: float, source: str) -> EcgRecord:
    names, rows, foreign = [], [], []
    normalised = {
        unit.strip().casefold() in NORMALISED_UNITS
        for name, unit, _ in channels
        if normalise_lead_name(name) is not None
    }
    if len(normalised) == 2:
        raise RecordRefusedError(
            source, "some leads are in volts, others in normalised units (NU): they do not compare"
        )
    for name, unit, values in channels:
        if normalise_lead_name(name) is None:
            foreign.append(name)
            continue
        if True in normalised:
            rows.append(np.asarray(values, dtype=np.float64))
            names.append(name)
            continue
        try:
            rows.append(np.asarray(values, dtype=np.float64) * millivolts_per_unit(unit))
        except ValueError as error:
            raise RecordRefusedError(source, f"lead {name}: {error}") from error
        names.append(name)
    if not rows:
        raise RecordRefusedError(source, f"none of the channels {foreign} is one of the leads {', '.join(LEADS)}")
    notes = [f"channels that are no standard lead were left out: {', '.join(foreign)}"] if foreign else []
    units = "normalised" if True in normalised else "mV"
    return EcgRecord(np.stack(rows), sampling_rate, names, units, source, notes)


# ---- echo


def list_echo_files(directory: str | Path) -> list[Path]:
    """DICOM (by content or suffix) and video files (by suffix) under a study directory, sorted by path.

    A `.dcm` file that is no DICOM, such as a transfer cut short, is among them: reading it says so.

    Raises:
        RecordRefusedError: no such directory, or no such file in it.
    """
    directory = Path(directory)
    if directory.is_file():
        raise RecordRefusedError(
            str(directory), "a file, not a study directory: give {view: file}, or a list of files with their view names"
        )
    if not directory.is_dir():
        raise RecordRefusedError(str(directory), "no such study directory: check the path")
    files = sorted(path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))
    found = [path for path in files if path.suffix.lower() in (*VIDEO_SUFFIXES, ".dcm") or is_dicom(path)]
    found = [path for path in found if path.name.upper() != "DICOMDIR"]
    if not found:
        raise RecordRefusedError(
            str(directory), f"no echo file among {len(files)} files: expected DICOM or {' / '.join(VIDEO_SUFFIXES)}"
        )
    return found


def count_echo_frames(path: str | Path) -> int:
    """Number of frames of a clip, from the header alone.

    Raises:
        RecordRefusedError: no image, a still, or a colour space that cannot be used.
    """
    path = Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        video = _open_video(path)
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        video.release()
    else:
        total = _check_clip_header(_read_dicom(path, stop_before_pixels=True), path)
    return _refuse_still(total, path)


def read_echo_clip(path: str | Path, num_frames: int = 16, stride: int = 2) -> EchoClip:
    """Decodes frames 0, stride, 2 x stride, ... of a clip, at most `num_frames` of them, and no others.

    DICOM: JPEG baseline through Pillow; uncompressed, RLE and JPEG 2000 through pydicom. Colours stay as stored (YBR is
    *not* converted: EchoPrime's mask and colours start from it); palettes are looked up to RGB. Video files give RGB.

    Args:
        path: multi-frame DICOM, `.mp4` or `.avi`.
        num_frames: frames wanted.
        stride: step between them, in frames of the file.

    Raises:
        RecordRefusedError: no clip, a still, damaged, or stored in a way that cannot be decoded here.
    """
    path = Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _read_video(path, num_frames, stride)
    dataset = _read_dicom(path)
    total = _refuse_still(_check_clip_header(dataset, path), path)
    indices = list(range(0, min(total, num_frames * stride), stride))
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise RecordRefusedError(str(path), "the header states no transfer syntax: frames cannot be decoded")
    try:
        if syntax == JPEG_BASELINE:
            frames, space = _decode_jpeg_frames(dataset, indices, total)
        else:
            frames, space = _decode_other_frames(dataset, indices)
    except (OSError, ValueError, RuntimeError, NotImplementedError, AttributeError, EOFError) as error:
        # Raised by pydicom and Pillow for damaged streams and, NotImplementedError too, for codings without a decoder;
        # nothing is swallowed: the record is refused with the cause in its reason.
        raise RecordRefusedError(
            str(path),
            f"frames stored as {syntax.name} cannot be decoded ({error}): the file is damaged, or convert it to "
            "uncompressed, RLE, JPEG baseline or JPEG 2000 first (for example with DCMTK's dcmdjpeg)",
        ) from error
    if frames.dtype != np.uint8:
        raise RecordRefusedError(str(path), f"pixels of {frames.dtype} were decoded, 8 bits are expected: rescale them")
    if frames.ndim == 3:
        frames = np.repeat(frames[..., None], 3, axis=-1)
    return EchoClip(frames, space, total, str(path))


def _check_clip_header(dataset: Any, path: Path) -> int:
    """Number of frames, after a check that the header describes pixels that can be used."""
    if "Rows" not in dataset or "PhotometricInterpretation" not in dataset:
        raise RecordRefusedError(str(path), "a DICOM file without an image: not an echo clip (a report or a waveform?)")
    if dataset.get("BitsAllocated") != 8:
        raise RecordRefusedError(
            str(path), f"{dataset.get('BitsAllocated')} bits a sample, 8 are expected: rescale the pixels"
        )
    _colour_space(dataset.PhotometricInterpretation, path)
    return int(dataset.get("NumberOfFrames") or 1)


def _colour_space(photometric: str, path: Path | str) -> str:
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return "YBR"
    if photometric in ("RGB", "YBR_RCT", "YBR_ICT", "PALETTE COLOR"):
        # the two wavelet colour transforms are part of JPEG 2000 and undone by its decoder
        return "RGB"
    if photometric == "MONOCHROME2":
        return "MONOCHROME"
    raise RecordRefusedError(
        str(path),
        f"photometric interpretation {photometric!r} is not supported (YBR_FULL, YBR_FULL_422, YBR_RCT, YBR_ICT, RGB, "
        "PALETTE COLOR and MONOCHROME2 are): convert the file to RGB",
    )


def _refuse_still(total: int, path: Path) -> int:
    if total < 2:
        raise RecordRefusedError(str(path), f"a single-frame still ({total} frame; a clip has at least 2): skipped")
    return total


def _decode_jpeg_frames(dataset: Any, indices: list[int], total: int) -> tuple[np.ndarray, str]:
    if Image is None:
        raise ImportError("decoding JPEG clips needs Pillow: pip install pillow")
    stream: Iterator[bytes] = islice(generate_frames(dataset.PixelData, number_of_frames=total), indices[-1] + 1)
    wanted = set(indices)
    decoded = [
        _decode_jpeg(data, dataset.PhotometricInterpretation) for index, data in enumerate(stream) if index in wanted
    ]
    if len(decoded) != len(indices):
        raise ValueError(f"{len(decoded)} of {len(indices)} frames found in the pixel data")
    return np.stack([frame for frame, _ in decoded]), decoded[0][1]


def _decode_jpeg(data: bytes, photometric: str) -> tuple[np.ndarray, str]:
    """One JPEG frame as its stored components, and the colour space these are in.

    The stream's own markers win over the header, which often says RGB where the stream is YCbCr: an Adobe marker states
    the transform, a JFIF marker means YCbCr. Only without either the header decides.
    """
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if image.mode == "L":
        return np.asarray(image), "MONOCHROME"
    if image.mode != "RGB":
        raise ValueError(f"a JPEG frame of mode {image.mode}, expected grey or three components")
    if "adobe_transform" in image.info:
        space = "YBR" if image.info["adobe_transform"] == 1 else "RGB"
    else:
        space = "YBR" if "jfif" in image.info or photometric.startswith("YBR") else "RGB"
    if space == "YBR" or "adobe_transform" not in image.info:
        image.draft("YCbCr", image.size)  # hand out the components as they are, no colour conversion
    return np.asarray(image), space


def _decode_other_frames(dataset: Any, indices: list[int]) -> tuple[np.ndarray, str]:
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    # one call a frame: pydicom 3.0's iter_array reads uncompressed YBR_FULL_422 wrongly from the second frame on
    decoded = [decoder.as_array(dataset, index=index, raw=True) for index in indices]
    stacked, photometric = np.stack([frame for frame, _ in decoded]), decoded[0][1]["photometric_interpretation"]
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(stacked, dataset)
        stacked = (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
    return stacked, _colour_space(photometric, "frames")


def _open_video(path: Path) -> Any:
    if cv2 is None:
        raise ImportError(f"reading the video {path} needs OpenCV: pip install opencv-python-headless")
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise RecordRefusedError(
            str(path), "OpenCV cannot open the video: the file is missing, damaged or of another codec"
        )
    return video


def _read_video(path: Path, num_frames: int, stride: int) -> EchoClip:
    video = _open_video(path)
    total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for index in range((num_frames - 1) * stride + 1):
        if not video.grab():
            break
        if index % stride == 0:
            frames.append(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB))
    video.release()
    if not frames:
        raise RecordRefusedError(
            str(path), f"no frame could be decoded (the header says {total}): the video is damaged"
        )
    _refuse_still(max(total, len(frames)), path)
    return EchoClip(np.stack(frames), "RGB", max(total, len(frames)), str(path))


# ---- DICOM


def is_dicom(path: str | Path) -> bool:
    """Whether the file has the DICOM preamble ("DICM" at byte 128)."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read_dicom(path: Path, stop_before_pixels: bool = False) -> Any:
    if pydicom is None:
        raise ImportError(f"reading the DICOM file {path} needs pydicom: pip install pydicom")
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
        for _ in dataset:  # pydicom converts a value when it is first looked at: a damaged one must show here
            pass
        return dataset
    except FileNotFoundError as error:
        raise RecordRefusedError(str(path), "no such file: check the path") from error
    except (InvalidDicomError, BytesLengthException, OSError, ValueError, EOFError, struct.error) as error:
        raise RecordRefusedError(str(path), f"not readable as DICOM ({error})") from error
