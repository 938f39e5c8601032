"""Write ECG files by hand, byte by byte: an oracle that shares no code with the readers.

Every writer takes (12, samples) in steps of the converter, so that the right value in millivolts is known exactly.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from heart_signal import make_heart
from input_files import new_dicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage

from tgmm_hf.utils.names import LEADS

STEPS = 500.0
"""Steps per millivolt."""


@cache
def heart_steps(seed: int, samples: int = 5000, rate: float = 500.0) -> np.ndarray:
    """(12, samples) integer steps of 2 uV; the limb leads obey Einthoven to a step."""
    return np.rint(make_heart(samples, rate, seed) * STEPS).astype(np.int64)


def pack(values: np.ndarray, storage: int) -> bytes:
    """Pack stored values (in the order of the file) in a WFDB format."""
    if storage in (16, 61):
        return values.astype("<i2" if storage == 16 else ">i2").tobytes()
    if storage == 32:
        return values.astype("<i4").tobytes()
    if storage == 24:
        return values.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    assert storage == 212
    padded = np.append(values, 0) if values.size % 2 else values
    first, second = (padded[0::2] & 0xFFF).astype(np.uint32), (padded[1::2] & 0xFFF).astype(np.uint32)
    triples = np.stack([first & 0xFF, (first >> 8) | ((second >> 8) << 4), second & 0xFF], axis=1)
    return triples.astype(np.uint8).tobytes()[: -1 if values.size % 2 else None]


def checksum(values: np.ndarray) -> int:
    """The sum of stored values as a 16-bit number, as a WFDB header writes it."""
    total = int(values.sum()) % 65536
    return total - 65536 if total > 32767 else total


def write_record(folder: Path, steps: np.ndarray, name: str = "r", **options: Any) -> Path:
    """Write a WFDB recording of several formats, gains, baselines, files and samples a frame.

    Args:
        folder: where.
        steps: (leads, samples), steps of 1 / STEPS mV.
        name: of the recording.
        options: storage (16), names, rate (500), gains (steps per unit of every lead), units, baselines, files (leads
            of the first file; the rest goes into a second one), per_frame (samples a frame), offset (bytes).

    Returns:
        The path without suffix.
    """
    names = options.get("names", list(LEADS))
    storage, rate, per_frame = options.get("storage", 16), options.get("rate", 500), options.get("per_frame", 1)
    units = options.get("units", ["mV"] * len(names))
    gains = options.get("gains", [STEPS] * len(names))
    baselines = options.get("baselines", [0] * len(names))
    stored = steps + np.array(baselines)[:, None]
    frames = stored.shape[1] // per_frame
    stored = stored[:, : frames * per_frame]
    split, offset = options.get("files", len(names)), options.get("offset", 0)
    lines = [f"{name} {len(names)} {rate / per_frame:g} {frames}"]
    for number, leads in enumerate((range(split), range(split, len(names)))):
        if not leads:
            continue
        file = f"{name}_{number}.dat" if split < len(names) else f"{name}.dat"
        ordered = stored[list(leads)].reshape(len(leads), frames, per_frame).transpose(1, 0, 2).ravel()
        (folder / file).write_bytes(b"\x11" * offset + pack(ordered, storage))
        for lead in leads:
            form = f"{storage}" + (f"x{per_frame}" if per_frame > 1 else "") + (f"+{offset}" if offset else "")
            lines.append(
                f"{file} {form} {gains[lead]:.10g}({baselines[lead]})/{units[lead]} 16 0 {stored[lead, 0]} "
                f"{checksum(stored[lead])} 0 {names[lead]}"
            )
    (folder / f"{name}.hea").write_text("\n".join([*lines, *options.get("comments", [])]) + "\n")
    return folder / name


def waveform(steps: np.ndarray, names: Sequence[str] = LEADS, rate: float = 500.0, **options: Any) -> Dataset:
    """Build a multiplex group of 16-bit samples, one step 2 uV.

    Args:
        steps: (leads, samples).
        names: of the leads.
        rate: Hz.
        options: unit ("uV"), per_step (units per step, 2.0), correction (1.0), baseline (0, in units), dtype ("<i2"),
            interpretation ("SS"), bits (16), bits_stored (16), originality, coding ("SCPECG" or "MDC" or "label").
    """
    group = Dataset()
    group.WaveformOriginality = options.get("originality", "ORIGINAL")
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = steps.shape
    group.SamplingFrequency = rate
    group.WaveformBitsAllocated = options.get("bits", 16)
    group.WaveformSampleInterpretation = options.get("interpretation", "SS")
    per_step, baseline = options.get("per_step", 2.0), options.get("baseline", 0)
    channels = [_channel(name, options, per_step, baseline) for name in names]
    group.ChannelDefinitionSequence = channels
    stored = steps - int(baseline / per_step)
    # with its VR, because pydicom cannot guess it when other elements are missing
    group.add_new("WaveformData", "OW", stored.T.astype(options.get("dtype", "<i2")).tobytes())
    return group


MDC = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {f"V{n}": n + 2 for n in range(1, 7)}


def _channel(name: str, options: Mapping[str, Any], per_step: float, baseline: float) -> Dataset:
    channel, coding = Dataset(), options.get("coding", "SCPECG")
    if coding == "label":
        channel.ChannelLabel = name
    else:
        source = Dataset()
        source.CodeValue = f"5.6.3-9-{MDC[name]}" if coding == "SCPECG" else f"2:{MDC[name]}"
        source.CodingSchemeDesignator, source.CodeMeaning = coding, f"Lead {name}"
        channel.ChannelSourceSequence = [source]
    correction = options.get("correction", 1.0)
    channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = per_step / correction, correction
    channel.ChannelBaseline, channel.WaveformBitsStored = baseline, options.get("bits_stored", 16)
    unit = Dataset()
    unit.CodeValue = unit.CodeMeaning = options.get("unit", "uV")
    unit.CodingSchemeDesignator = "UCUM"
    channel.ChannelSensitivityUnitsSequence = [unit]
    return channel


def ecg_dataset(groups: list[Dataset], syntax: str = ExplicitVRLittleEndian) -> Any:
    """Put groups into a data set."""
    dataset = new_dicom(TwelveLeadECGWaveformStorage, syntax)
    dataset.Modality = "ECG"
    dataset.PatientID, dataset.StudyDate = "12345", "20200101"
    dataset.WaveformSequence = groups
    return dataset
