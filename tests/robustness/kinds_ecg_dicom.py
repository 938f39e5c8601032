"""Hostile ECGs in DICOM files."""

from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from ecg_files import ecg_dataset, heart_steps, waveform
from kinds_ecg import QUANTISED, draw_heart, read_file, right
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from trials import Trial, damaged, equal, equal_or_marked, kind, marked, no_oracle

from tgmm_hf.utils.names import LEADS

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}


def save(path: Path, dataset: Any, syntax: str = ExplicitVRLittleEndian) -> Path:
    dataset.file_meta.TransferSyntaxUID = syntax
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    return path


@kind("ecg_dicom_format")
def ecg_dicom_format(random, folder):
    """Right files in every dress."""
    seed, steps = draw_heart(random)
    order = random.permutation(12)
    syntax = str(random.choice(list(SYNTAXES)))
    end = ">" if syntax == "big" else "<"
    unit, per_step = [("uV", 2.0), ("mV", 0.002), ("V", 2e-6), ("nV", 2000.0)][random.integers(4)]
    dtype, interpretation, bits = [("i2", "SS", 16), ("i4", "SL", 32), ("i2", "SS", 16)][random.integers(3)]
    options: dict[str, Any] = {
        "unit": unit,
        "per_step": per_step,
        "dtype": end + dtype,
        "interpretation": interpretation,
        "bits": bits,
        "bits_stored": bits,
        "correction": float(random.choice([1.0, 1.0, 2.0, 0.5])),
        "baseline": float(random.choice([0, 0, 10])) * per_step,
        "coding": str(random.choice(["SCPECG", "MDC", "label"])),
    }
    if interpretation == "SS" and random.random() < 0.3:
        options["bits_stored"] = 13
    way = str(random.choice(["one", "one", "two", "beats", "beats_first", "no_preamble"]))
    names = [LEADS[lead] for lead in order]
    groups = [waveform(steps[order], names, **options)]
    if way == "two":
        groups = [waveform(steps[part], [LEADS[lead] for lead in part], **options) for part in (order[:6], order[6:])]
    elif way.startswith("beats"):
        beats = waveform(steps[order][:, :600], names, **(options | {"originality": "DERIVED"}))
        groups = [beats, *groups] if way == "beats_first" else [*groups, beats]
    path = save(folder / "ecg.dcm", ecg_dataset(groups), SYNTAXES[syntax])
    if way == "no_preamble":
        path.write_bytes(path.read_bytes()[132:])
    return Trial(f"{syntax} {way} {unit} {interpretation}", partial(read_file, path), equal(right(seed), QUANTISED))


REMOVED = (
    "PatientID", "StudyDate", "Modality", "SOPClassUID", "WaveformSequence", "NumberOfWaveformSamples", "SamplingFrequency",
    "NumberOfWaveformChannels", "WaveformBitsAllocated", "WaveformSampleInterpretation", "WaveformData", "WaveformOriginality",
    "ChannelDefinitionSequence", "ChannelSensitivity", "ChannelSensitivityCorrectionFactor", "ChannelBaseline",
    "WaveformBitsStored", "ChannelSensitivityUnitsSequence", "ChannelSourceSequence", "CodeValue", "CodeMeaning",
)  # fmt: skip
UNSEEN = ("SamplingFrequency", "ChannelSensitivity", "ChannelSensitivityCorrectionFactor")
"""A wrong but usable value in these makes another recording. Nobody can see that."""
VALUES: tuple[Any, ...] = (
    0,
    -1,
    1,
    7,
    65535,
    "",
    "x",
    "SS",
    "US",
    "SB",
    "UB",
    "MB",
    "AB",
    "nan",
    "inf",
    "1e400",
    "12\\13",
    None,
    "uV",
    "mV",
    "\ud800",
)


def holders(dataset: Any, name: str) -> list[Any]:
    """The (nested) data sets that hold an element."""
    found = [dataset] if name in dataset else []
    for element in dataset:
        if element.VR == "SQ":
            found += [holder for item in element.value for holder in holders(item, name)]
    return found


@kind("ecg_dicom_removed")
def ecg_dicom_removed(random, folder):
    """An element that is missing or empty, in one place or everywhere."""
    seed, steps = draw_heart(random)
    dataset = ecg_dataset([waveform(steps)])
    name, empty = str(random.choice(REMOVED)), random.random() < 0.3
    found = holders(dataset, name)
    chosen = found if random.random() < 0.5 else [found[random.integers(len(found))]]
    for holder in chosen:
        if empty:
            holder[name].value = None
        else:
            del holder[name]
    what = f"{name} {'empty' if empty else 'missing'} in {len(chosen)} of {len(found)}"
    return Trial(what, partial(read_file, save(folder / "ecg.dcm", dataset)), equal_or_marked(right(seed), QUANTISED))


@kind("ecg_dicom_value")
def ecg_dicom_value(random, folder):
    """An element with another value."""
    seed, steps = draw_heart(random)
    dataset = ecg_dataset([waveform(steps)])
    name, value = str(random.choice(REMOVED)), VALUES[random.integers(len(VALUES))]
    found = holders(dataset, name)
    holder = found[random.integers(len(found))]
    with pydicom.config.disable_value_validation():
        try:
            holder[name].value = value
            path = save(folder / "ecg.dcm", dataset)
        except Exception:  # what cannot be written becomes a missing element
            if name in holder:
                del holder[name]
            path, value = save(folder / "ecg.dcm", dataset), "missing"
    judge = no_oracle if name in UNSEEN else equal_or_marked(right(seed), QUANTISED)
    return Trial(f"{name} = {value!r}", partial(read_file, path), judge)


@kind("ecg_dicom_samples")
def ecg_dicom_samples(random, folder):
    """Samples and header that contradict each other, and codings that are not linear."""
    seed, steps = draw_heart(random)
    group = waveform(steps)
    way = str(
        random.choice(
            [
                "mu",
                "unsigned",
                "bits8",
                "bits32",
                "short",
                "long",
                "channels",
                "samples",
                "twelve",
                "twelve_cut",
                "endian",
                "planar",
                "huge",
            ]
        )
    )
    judge: Any = equal_or_marked(right(seed), QUANTISED)
    if way == "mu":
        group.WaveformSampleInterpretation = str(random.choice(["MB", "AB"]))
    elif way == "unsigned":
        group.WaveformSampleInterpretation = "US"
    elif way in ("bits8", "bits32"):
        group.WaveformBitsAllocated = int(way[4:])
    elif way == "short":
        group.WaveformData = group.WaveformData[: -int(random.integers(2, 5000)) * 2]
    elif way == "long":
        group.WaveformData += bytes(2 * int(random.integers(1, 5000)))
    elif way == "channels":
        group.NumberOfWaveformChannels = int(random.choice([0, 1, 11, 13, 24, 65535]))
    elif way == "samples":
        group.NumberOfWaveformSamples = int(random.choice([0, 1, 4999, 5001, 10000, 2**32 - 1]))
    elif way in ("twelve", "twelve_cut"):
        for channel in group.ChannelDefinitionSequence:
            channel.WaveformBitsStored = 12
        if way == "twelve_cut":
            group.WaveformData = (steps.T & 0xFFF).astype("<i2").tobytes()
    elif way == "endian":
        group.WaveformData = steps.T.astype(">i2").tobytes()
    elif way == "planar":
        group.WaveformData = np.ascontiguousarray(steps).astype("<i2").tobytes()
    else:
        group.NumberOfWaveformSamples, group.NumberOfWaveformChannels = 2**31, 12
    return Trial(way, partial(read_file, save(folder / "ecg.dcm", ecg_dataset([group]))), judge)


@kind("ecg_dicom_leads")
def ecg_dicom_leads(random, folder):
    """Codes and texts of leads that contradict each other, are doubled, foreign or exchanged."""
    seed, steps = draw_heart(random)
    group = waveform(steps)
    lead = int(random.integers(12))
    other = (lead + int(random.integers(1, 12))) % 12
    channel = group.ChannelDefinitionSequence[lead]
    source = channel.ChannelSourceSequence[0]
    way = str(
        random.choice(["meaning", "label", "doubled", "foreign", "language", "no_code", "exchanged_limb", "scale_limb"])
    )
    if way == "meaning":
        source.CodeMeaning = f"Lead {LEADS[other]}"
    elif way == "label":
        channel.ChannelLabel = LEADS[other]
    elif way == "doubled":
        source.CodeValue = group.ChannelDefinitionSequence[other].ChannelSourceSequence[0].CodeValue
        source.CodeMeaning = f"Lead {LEADS[other]}"
    elif way == "foreign":
        source.CodeValue, source.CodeMeaning = "5.6.3-9-15", "Lead V7"
    elif way == "language":
        source.CodeMeaning = "Ableitung zwei"
    elif way == "no_code":
        source.CodeValue, source.CodeMeaning = "x", f"Lead {LEADS[lead]}"
    elif way == "scale_limb":
        group.ChannelDefinitionSequence[lead % 6].ChannelSensitivity = 20.0
    else:
        first, second = lead % 6, (lead % 6 + 1 + other % 5) % 6
        if first == second:
            second = (second + 1) % 6
        data = steps.copy()
        data[[first, second]] = data[[second, first]]
        group.WaveformData = data.T.astype("<i2").tobytes()
    path = save(folder / "ecg.dcm", ecg_dataset([group]))
    return Trial(f"{way} {LEADS[lead]}", partial(read_file, path), equal_or_marked(right(seed), QUANTISED))


@kind("ecg_dicom_nested")
def ecg_dicom_nested(random, folder):
    """Sequences in sequences, long values, private elements, many elements, identities."""
    seed, steps = draw_heart(random)
    dataset = ecg_dataset([waveform(steps)])
    way = str(random.choice(["deep", "private", "many", "long_text", "charset", "groups", "empty_group"]))
    judge: Any = equal_or_marked(right(seed), QUANTISED)
    if way == "deep":
        inner = Dataset()
        for _ in range(int(random.choice([10, 60, 200]))):
            outer = Dataset()
            outer.ContentSequence = [inner]
            inner = outer
        dataset.ContentSequence = [inner]
    elif way == "private":
        dataset.add_new(0x00090010, "LO", "ACME")
        dataset.add_new(0x00091001, "UN", random.bytes(1001))
    elif way == "many":
        for number in range(2000):
            dataset.add_new(0x00110000 + number * 2 + 0x10001, "LO", "x")
    elif way == "long_text":
        dataset.PatientComments = "x" * 3_000_000
    elif way == "charset":
        dataset.SpecificCharacterSet = str(random.choice(["ISO 2022 IR 87", "nonsense", "ISO_IR 192\\x"]))
    elif way == "groups":
        dataset.WaveformSequence = [waveform(steps[:, :50], originality="DERIVED") for _ in range(40)] + [
            waveform(steps)
        ]
    else:
        dataset.WaveformSequence = [Dataset(), waveform(steps)]
    return Trial(way, partial(read_file, save(folder / "ecg.dcm", dataset)), judge)


@cache
def plain_bytes(seed: int) -> bytes:
    file = BytesIO()
    dataset = ecg_dataset([waveform(heart_steps(seed))])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@kind("ecg_dicom_bytes")
def ecg_dicom_bytes(random, folder):
    """Damaged bytes, most of them in the header. A file that is cut inside its samples must be refused."""
    seed = int(random.integers(2))
    content = plain_bytes(seed)
    head = content.index(np.ascontiguousarray(heart_steps(seed).T).astype("<i2").tobytes()[:64])
    judge: Any = no_oracle
    if random.random() < 0.3:
        length = int(random.integers(head, len(content)))
        what, data, judge = f"cut to {length} of {len(content)}", content[:length], marked()
    else:
        what, changed = damaged(random, content[:head])
        data = changed + content[head:]
    (folder / "ecg.dcm").write_bytes(data)
    return Trial(what, partial(read_file, folder / "ecg.dcm"), judge)
