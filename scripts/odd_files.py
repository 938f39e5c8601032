"""Write the odd ECG and echo files, and the clean ones, that `compare_odd_files.py` reads.

Every file is made from a clean original: a heart in twelve leads, or an echo clip. So its right model input is known.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import wfdb
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    TwelveLeadECGWaveformStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)
from scipy.ndimage import gaussian_filter

from tgmm_hf.cohorts.synthetic.plain_heart import make_heart
from tgmm_hf.utils.names import LEADS

RATE, SAMPLES = 500, 5000
FRAMES, HEIGHT, WIDTH = 40, 240, 320
MIMIC_LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]
"""Order of the leads in MIMIC-IV-ECG: aVF stands before aVL."""
MICROVOLTS_PER_STEP = 2.0

Writer = Callable[[Path, np.ndarray], Path]


@dataclass(frozen=True)
class OddFile:
    """One file.

    Attributes:
        name: short name, also the name of its directory.
        modality: "ecg" or "echo".
        oddity: what is odd, for the table.
        write: writes the file into a directory from the original and returns its path. The original is (12, samples) mV
            in the order of `LEADS`, or (frames, height, width, 3) uint8 RGB.
        named: regular expression. A check or note that it matches names the fault.
        has_right_input: False where nothing in the file is a heart, so that only a refusal is right.
        is_grey: whether the file can hold no colour. The original is then made grey.
    """

    name: str
    modality: str
    oddity: str
    write: Writer
    named: str = ""
    has_right_input: bool = True
    is_grey: bool = False


# ---- originals


def make_clip(seed: int) -> np.ndarray:
    """Return (frames, height, width, 3) uint8 RGB: speckle in a fan, a cavity, a coloured jet, text, a trace."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    down, across = rows - 10, columns - WIDTH / 2
    radius = np.hypot(down, across)
    fan = (np.abs(np.arctan2(across, down)) < 0.6) & (radius > 20) & (radius < 0.85 * HEIGHT)
    clip = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for index, frame in enumerate(clip):
        speckle = np.clip(130 + 70 * 3 * gaussian_filter(generator.normal(size=rows.shape), 2), 40, 220)
        cavity = np.hypot(rows - 120, across) < 30 + 8 * np.sin(2 * np.pi * index / 24)
        frame[fan] = np.where(cavity, speckle / 4, speckle)[fan][:, None]
        frame[100:140, WIDTH // 2 - 15 : WIDTH // 2 + 15] = (200, 30 + index, 40)
        trace = (HEIGHT - 12 + 4 * np.sin((columns[0] + index) / 5)).astype(int)
        frame[trace, columns[0]] = (0, 255, 0)
        frame[24:34, 4:60] = 255
    return clip


def make_originals(seed: int) -> dict[str, np.ndarray]:
    """Return the clean original of each modality."""
    return {"ecg": make_heart(SAMPLES, RATE, seed), "echo": make_clip(seed)}


def original_of(file: OddFile, originals: dict[str, np.ndarray]) -> np.ndarray:
    """Return the original of a file."""
    original = originals[file.modality]
    return original[..., 1:2].repeat(3, axis=-1) if file.is_grey else original


# ---- WFDB


def write_wfdb(
    directory: Path,
    signal: np.ndarray,
    names: Sequence[str] = MIMIC_LEADS,
    line: str = f"{{}} 12 {RATE} {SAMPLES}",
    per_frame: int = 1,
    gain: Callable[[str], str] = lambda lead: "1000/mV",
) -> Path:
    """Write a WFDB record in the folders and the order of leads of MIMIC-IV-ECG, 16 bits of 1 uV.

    Args:
        directory: where the folders begin.
        signal: (12, samples) mV in the order of `LEADS`.
        names: names of the leads as the header writes them, in the order of `MIMIC_LEADS`.
        line: first line of the header; {} is the name of the record.
        per_frame: samples a frame.
        gain: gain of a lead as the header writes it.

    Returns:
        Path of the record without suffix.
    """
    record = directory / "files" / "p1000" / "p10000001" / "s40000001" / "40000001"
    record.parent.mkdir(parents=True, exist_ok=True)
    return _write_record(record, in_mimic_order(signal), names, line.format(record.name), per_frame, gain)


def _write_record(
    record: Path,
    signal: np.ndarray,
    names: Sequence[str],
    line: str,
    per_frame: int = 1,
    gain: Callable[[str], str] = lambda lead: "1000/mV",
) -> Path:
    """Write header and samples of one record; `signal` (12, samples) mV in the order of `names`."""
    stored = np.clip(np.rint(signal * 1000), -32767, 32767).astype("<i2")
    frames = stored.reshape(len(stored), -1, per_frame).transpose(1, 0, 2)
    record.with_suffix(".dat").write_bytes(frames.tobytes())
    fmt = "16" if per_frame == 1 else f"16x{per_frame}"
    rows = [
        f"{record.name}.dat {fmt} {gain(name)} 16 0 {values[0]} {int(values.sum(dtype=np.int64)) % 65536} 0 {name}"
        for name, values in zip(names, stored, strict=True)
    ]
    record.with_suffix(".hea").write_text("\n".join([line, *rows]) + "\n")
    return record


def in_mimic_order(signal: np.ndarray) -> np.ndarray:
    """Bring (12, samples) from the order of `LEADS` to the order of `MIMIC_LEADS`."""
    return signal[[LEADS.index(lead) for lead in MIMIC_LEADS]]


def _changed(signal: np.ndarray, **leads: np.ndarray | str) -> np.ndarray:
    """Replace leads of a copy: by an array, or by another lead of the original, given by name."""
    changed = signal.copy()
    for lead, values in leads.items():
        changed[LEADS.index(lead)] = signal[LEADS.index(values)] if isinstance(values, str) else values
    return changed


def _frames_of_four(directory: Path, signal: np.ndarray) -> Path:
    return write_wfdb(directory, signal, line=f"{{}} 12 {RATE // 4} {SAMPLES // 4}", per_frame=4)


def _chest_without_gain(directory: Path, signal: np.ndarray) -> Path:
    return write_wfdb(directory, signal, gain=lambda lead: "0/mV" if lead.startswith("V") else "1000/mV")


def _without_rate(directory: Path, signal: np.ndarray) -> Path:
    return write_wfdb(directory, signal, line="{} 12")


def _changed_samples(directory: Path, signal: np.ndarray) -> Path:
    record = write_wfdb(directory, signal)
    stored = np.fromfile(record.with_suffix(".dat"), "<i2").reshape(SAMPLES, 12)
    stored[2000:3000] = np.random.default_rng(0).integers(-2000, 2000, (1000, 12))
    stored.tofile(record.with_suffix(".dat"))
    return record


def _augmented_exchanged(directory: Path, signal: np.ndarray) -> Path:
    return write_wfdb(directory, _changed(signal, aVR="aVL", aVL="aVR"))


def _arms_exchanged(directory: Path, signal: np.ndarray) -> Path:
    changed = _changed(signal, II="III", III="II", aVR="aVL", aVL="aVR", I=-signal[0])
    return write_wfdb(directory, changed)


def _chest_exchanged(directory: Path, signal: np.ndarray) -> Path:
    return write_wfdb(directory, _changed(signal, V1="V3", V3="V1"))


def _v6_too_large(directory: Path, signal: np.ndarray) -> Path:
    return write_wfdb(directory, _changed(signal, V6=10 * signal[11]))


def _clipped(directory: Path, signal: np.ndarray) -> Path:
    limits = 0.4 * np.abs(signal).max(axis=1, keepdims=True)
    return write_wfdb(directory, np.clip(signal, -limits, limits))


def _noise(directory: Path, signal: np.ndarray) -> Path:
    return write_wfdb(directory, np.random.default_rng(0).normal(scale=0.3, size=signal.shape))


def _spanish_names(directory: Path, signal: np.ndarray) -> Path:
    names = ["DI", "DII", "DIII", "aVR", "aVF", "aVL", "C1", "C2", "C3", "C4", "C5", "C6"]
    return write_wfdb(directory, signal, names)


def _year_as_date(directory: Path, signal: np.ndarray) -> Path:
    return write_wfdb(directory, signal, line=f"{{}} 12 {RATE} {SAMPLES} 12:00:00 2019")


def _by_the_library(directory: Path, signal: np.ndarray) -> Path:
    wfdb.wrsamp(
        "40000001",
        fs=RATE,
        units=["mV"] * 12,
        sig_name=MIMIC_LEADS,
        p_signal=in_mimic_order(signal).T,
        fmt=["16"] * 12,
        adc_gain=[200.0] * 12,
        baseline=[0] * 12,
        write_dir=str(directory),
    )
    return directory / "40000001"


def _segments(directory: Path, signal: np.ndarray) -> Path:
    record, half = write_wfdb(directory, signal), SAMPLES // 2
    orders = {"first": MIMIC_LEADS, "second": [*MIMIC_LEADS[6:], *MIMIC_LEADS[:6]]}
    for index, (name, order) in enumerate(orders.items()):
        part = np.stack([signal[LEADS.index(lead), index * half : (index + 1) * half] for lead in order])
        _write_record(record.with_name(name), part, order, f"{name} 12 {RATE} {half}")
    record.with_suffix(".dat").unlink()
    lines = [f"{record.name}/2 12 {RATE} {SAMPLES}", f"first {half}", f"second {half}"]
    record.with_suffix(".hea").write_text("\n".join(lines) + "\n")
    return record


# ---- DICOM ECG


def _new_dicom(storage_class: str, syntax: str) -> FileDataset:
    """Return an empty DICOM data set with its header."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = storage_class, syntax
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["odd files"])
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = storage_class, meta.MediaStorageSOPInstanceUID
    return dataset


def _group(signal: np.ndarray, names: Sequence[str], originality: str = "ORIGINAL") -> Dataset:
    """Return a multiplex group of 16-bit samples: `signal` (leads, samples) mV in the order of `names`."""
    group = Dataset()
    group.WaveformOriginality = originality
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = signal.shape
    group.SamplingFrequency = RATE
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.ChannelDefinitionSequence = []
    for name in names:
        channel, source, unit = Dataset(), Dataset(), Dataset()
        source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = "x", "99ODD", name
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
        channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = [source], [unit]
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = MICROVOLTS_PER_STEP, 1.0
        channel.ChannelBaseline, channel.WaveformBitsStored = 0.0, 16
        group.ChannelDefinitionSequence.append(channel)
    group.WaveformData = np.rint(signal.T * 1000 / MICROVOLTS_PER_STEP).astype("<i2").tobytes()
    return group


def _whole_group(signal: np.ndarray) -> Dataset:
    return _group(in_mimic_order(signal), MIMIC_LEADS)


def _save_ecg(directory: Path, groups: list[Dataset]) -> Path:
    dataset = _new_dicom(TwelveLeadECGWaveformStorage, ExplicitVRLittleEndian)
    dataset.Modality, dataset.WaveformSequence = "ECG", groups
    dataset.save_as(directory / "ecg.dcm", enforce_file_format=True)
    return directory / "ecg.dcm"


def write_ecg_dicom(directory: Path, signal: np.ndarray) -> Path:
    """Write (12, samples) mV as a plain DICOM ECG and return its path."""
    return _save_ecg(directory, [_whole_group(signal)])


def _big_endian(directory: Path, signal: np.ndarray) -> Path:
    group = _whole_group(signal)
    group.WaveformData = np.frombuffer(group.WaveformData, "<i2").astype(">i2").tobytes()
    dataset = _new_dicom(TwelveLeadECGWaveformStorage, ExplicitVRBigEndian)
    dataset.Modality, dataset.WaveformSequence = "ECG", [group]
    pydicom.dcmwrite(directory / "ecg.dcm", dataset, implicit_vr=False, little_endian=False, force_encoding=True)
    return directory / "ecg.dcm"


def _twelve_bits(directory: Path, signal: np.ndarray) -> Path:
    group = _whole_group(signal)
    group.WaveformData = (np.frombuffer(group.WaveformData, "<i2") & 0x0FFF).astype("<i2").tobytes()
    for channel in group.ChannelDefinitionSequence:
        channel.WaveformBitsStored = 12
    return _save_ecg(directory, [group])


def _mu_law(directory: Path, signal: np.ndarray) -> Path:
    group = _whole_group(signal)
    share = in_mimic_order(signal).T / 4.0  # the law's range stands for 4 mV
    magnitude = np.rint(127 * np.log1p(255 * np.minimum(np.abs(share), 1)) / np.log(256)).astype(np.uint8)
    group.WaveformData = (255 - (magnitude | np.where(share < 0, 128, 0).astype(np.uint8))).tobytes()
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 8, "MB"
    for channel in group.ChannelDefinitionSequence:
        channel.WaveformBitsStored = 8
    return _save_ecg(directory, [group])


def _two_groups(directory: Path, signal: np.ndarray) -> Path:
    mimic = in_mimic_order(signal)
    return _save_ecg(directory, [_group(mimic[:6], MIMIC_LEADS[:6]), _group(mimic[6:], MIMIC_LEADS[6:])])


def _median_beats_first(directory: Path, signal: np.ndarray) -> Path:
    mimic, eight = in_mimic_order(signal), [0, 1, *range(6, 12)]
    beats = _group(mimic[:, :600], MIMIC_LEADS, "DERIVED")
    return _save_ecg(directory, [beats, _group(mimic[eight], [MIMIC_LEADS[lead] for lead in eight])])


def _empty_baseline(directory: Path, signal: np.ndarray) -> Path:
    group = _whole_group(signal)
    for channel in group.ChannelDefinitionSequence:
        channel.ChannelBaseline = None
    return _save_ecg(directory, [group])


def _without_preamble(directory: Path, signal: np.ndarray) -> Path:
    path = write_ecg_dicom(directory, signal)
    path.write_bytes(path.read_bytes()[132:])
    return path


# ---- echo


def write_echo(directory: Path, frames: np.ndarray, photometric: str = "YBR_FULL", **header: object) -> Path:
    """Write frames as they are stored to an uncompressed multi-frame file; `header` replaces elements, None deletes."""
    dataset = _new_dicom(UltrasoundMultiFrameImageStorage, ExplicitVRLittleEndian)
    dataset.Modality, dataset.PhotometricInterpretation = "US", photometric
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.SamplesPerPixel = 1 if frames.ndim == 3 else 3
    if frames.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = frames.tobytes()
    for name, value in header.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(directory / "echo.dcm", enforce_file_format=True)
    return directory / "echo.dcm"


def to_ybr(clip: np.ndarray) -> np.ndarray:
    """Convert RGB frames to the YCbCr of DICOM and JPEG."""
    return np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in clip])


def write_jpeg(directory: Path, clip: np.ndarray, photometric: str = "YBR_FULL", marker: bool = True) -> Path:
    """Write RGB frames as JPEG of their YCbCr, with or without the JFIF marker."""
    streams = []
    for frame in clip:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=95, subsampling=0)
        data = buffer.getvalue()
        streams.append(data if marker else data[:2] + data[4 + int.from_bytes(data[4:6], "big") :])
    path = write_echo(directory, clip, photometric)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate(streams)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path, enforce_file_format=True)
    return path


def _palette(directory: Path, clip: np.ndarray) -> Path:
    path = write_echo(directory, np.ascontiguousarray(clip[..., 0]), "PALETTE COLOR")
    dataset = pydicom.dcmread(path)
    for name in ("Red", "Green", "Blue"):
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", np.arange(256, dtype="<u2").tobytes())
    dataset.save_as(path)
    return path


ECG_FILES = (
    OddFile("frames_4x", "ecg", "WFDB: 4 samples a frame, 125 frames a second", _frames_of_four),
    OddFile("gain_0", "ecg", "WFDB: gain 0 (not calibrated) for V1 to V6", _chest_without_gain, r"V1.*(gain|calibrat)"),
    OddFile("no_rate", "ecg", "WFDB: no sampling rate in the header", _without_rate),
    OddFile("changed_samples", "ecg", "WFDB: 2 s of samples replaced, checksums of the original", _changed_samples),
    OddFile("avr_avl", "ecg", "WFDB: aVR and aVL exchanged", _augmented_exchanged, r"ecg_limb_arithmetic ecg\.aV[RL]"),
    OddFile("arms", "ecg", "WFDB: electrodes of the arms exchanged", _arms_exchanged, "ecg_arm_electrodes"),
    OddFile("v1_v3", "ecg", "WFDB: V1 and V3 exchanged", _chest_exchanged, r"V1.*V3"),
    OddFile("v6_gain", "ecg", "WFDB: V6 ten times too large", _v6_too_large, r"ecg_amplitude ecg\.V6"),
    OddFile("clipped", "ecg", "WFDB: all leads clipped at 40 % of their size", _clipped, "ecg_clipped"),
    OddFile("noise", "ecg", "WFDB: noise, no heart", _noise, has_right_input=False),
    OddFile("names_di", "ecg", "WFDB: leads named DI, DII, DIII, C1 to C6", _spanish_names),
    OddFile("year_date", "ecg", "WFDB: the date in the header is a year", _year_as_date),
    OddFile("segments", "ecg", "WFDB: two segments, leads in another order in the second", _segments),
    OddFile("big_endian", "ecg", "DICOM: explicit VR big endian", _big_endian),
    OddFile("twelve_bits", "ecg", "DICOM: 12 bits in 16, sign not extended", _twelve_bits),
    OddFile("mu_law", "ecg", "DICOM: 8-bit mu-law samples", _mu_law),
    OddFile("two_groups", "ecg", "DICOM: limb and chest leads in two groups", _two_groups),
    OddFile("median_beats", "ecg", "DICOM: median beats first, then a rhythm of 8 leads", _median_beats_first),
    OddFile("empty_baseline", "ecg", "DICOM: empty channel baseline", _empty_baseline),
    OddFile("no_preamble", "ecg", "DICOM: without the 128 bytes of preamble", _without_preamble),
)
ECHO_FILES = (
    OddFile(
        "jpeg_no_marker",
        "echo",
        "JPEG of YCbCr without marker, header says RGB",
        lambda directory, clip: write_jpeg(directory, clip, "RGB", marker=False),
    ),
    OddFile("rgb_as_ybr", "echo", "RGB pixels, header says YBR_FULL", write_echo),
    OddFile("palette", "echo", "palette of 16 bits that holds 8-bit colours", _palette, is_grey=True),
    OddFile("black", "echo", "black", lambda d, clip: write_echo(d, to_ybr(clip * 0)), has_right_input=False),
    OddFile(
        "frozen",
        "echo",
        "frozen: one frame repeated",
        lambda directory, clip: write_echo(directory, to_ybr(clip[:1]).repeat(FRAMES, axis=0)),
        has_right_input=False,
    ),
    OddFile(
        "frames_missing",
        "echo",
        "number of frames missing in the header",
        lambda directory, clip: write_echo(directory, to_ybr(clip), NumberOfFrames=None),
    ),
    OddFile(
        "half_the_frames",
        "echo",
        "header declares half of the frames",
        lambda directory, clip: write_echo(directory, to_ybr(clip), NumberOfFrames=FRAMES // 2),
    ),
    OddFile(
        "rows_columns",
        "echo",
        "rows and columns exchanged in the header",
        lambda directory, clip: write_echo(directory, to_ybr(clip), Rows=WIDTH, Columns=HEIGHT),
    ),
    OddFile(
        "modality_ct",
        "echo",
        "Modality CT",
        lambda directory, clip: write_echo(directory, to_ybr(clip), Modality="CT"),
        has_right_input=False,
    ),
    OddFile(
        "upside_down",
        "echo",
        "upside down",
        lambda directory, clip: write_echo(directory, to_ybr(clip[:, ::-1])),
        named="upside|sector_turned|view_contradict",
    ),
)
ODD_FILES = (*ECG_FILES, *ECHO_FILES)
CONTROLS = (
    OddFile("clean_mimic", "ecg", "clean: WFDB, written by hand", write_wfdb),
    OddFile("clean_wfdb", "ecg", "clean: WFDB as the library writes it, 200 steps a mV", _by_the_library),
    OddFile("clean_dicom_ecg", "ecg", "clean: DICOM ECG", write_ecg_dicom),
    OddFile(
        "clean_ybr", "echo", "clean: YCbCr, not compressed", lambda directory, clip: write_echo(directory, to_ybr(clip))
    ),
    OddFile("clean_jpeg", "echo", "clean: JPEG of YCbCr", write_jpeg),
)
