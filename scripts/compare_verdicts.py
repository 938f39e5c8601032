"""Compare what two versions of the package say about the same ECG and echo files: refusals, codes and values.

    PYTHONPATH=OLD/src python scripts/compare_verdicts.py DIRECTORY [DIRECTORY ...] --out old.npz
    PYTHONPATH=src     python scripts/compare_verdicts.py DIRECTORY [DIRECTORY ...] --out new.npz --against old.npz

Every WFDB and DICOM recording and every clip under the directories is read as it is, and with the planted faults of
`measure_ecg_checks.py` and `measure_echo_checks.py`. A file *.npz with `signal` (PTB-XL) gives recordings in normalised
units, of which every `--every`-th is read. The printed JSON counts verdicts that differ: kept or refused, and codes of
findings. Texts hold measured figures, so texts that differ in numbers alone are counted apart. Values are compared at
a sample of places. Nothing names a file: an item has its number.
"""

import argparse
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ecg_faults import Fault, at_500_hz, faults
from measure_ecg_checks import read_all
from measure_echo_checks import (
    colour_faults,
    content_faults,
    damage_faults,
    geometry_faults,
    order_faults,
    rgb_frames,
    shape_faults,
)

from tgmm_hf.inputs.ecg_recording import NORMALISED, EcgRecording
from tgmm_hf.inputs.ecg_signal import HarmonisedEcg, harmonise_recording
from tgmm_hf.inputs.echo_reading import list_echo_files, read_echo_clip
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

ECHO_FAULTS = (content_faults, shape_faults, order_faults, colour_faults, geometry_faults, damage_faults)


def verdict(read: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Call `read` and return its verdict {"refused", "codes", "texts"}, and a sample of its values as float32."""
    try:
        values, checks = read()
    except InputRefusedError as error:
        return {"refused": True, "codes": [], "texts": [error.reason]}, np.zeros(0, np.float32)
    codes = [[check["code"], check.get("item", "")] for check in checks]
    return {"refused": False, "codes": codes, "texts": [check["text"] for check in checks]}, values


def ecg_verdict(recording: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Prepare an ECG as TGMM reads it."""

    def read() -> tuple[np.ndarray, list[dict[str, str]]]:
        prepared = EcgFeatureExtractor().prepare(recording)
        return prepared.values[:, ::25], prepared.checks

    return verdict(read)


def echo_verdict(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Prepare a clip as TGMM reads it."""

    def read() -> tuple[np.ndarray, list[dict[str, str]]]:
        processor = EchoImageProcessor()
        clip = processor.read_clip(path)
        pixels = processor.prepare_clip(clip).frames
        return pixels[::3, ::8, ::8].astype(np.float32), clip.notes

    return verdict(read)


def ecg_items(
    directories: list[Path], every: int, planted_into: int
) -> Iterator[tuple[str, tuple[dict[str, Any], np.ndarray]]]:
    """Yield (name, verdict) of recordings, unchanged and, for at most `planted_into` of each kind, with faults."""
    planted = faults()
    left = {True: planted_into, False: planted_into}
    for number, read in enumerate(read_all(directories)):
        if isinstance(read, InputRefusedError):
            yield f"ecg {number}", ({"refused": True, "codes": [], "texts": [read.reason]}, np.zeros(0, np.float32))
            continue
        in_mv = read.units != NORMALISED
        if not in_mv and number % every:
            continue
        yield f"ecg {number}", ecg_verdict(read)
        try:
            whole = harmonise_recording(read)
        except InputRefusedError:
            continue
        if not whole.mask.all() or left[in_mv] < 1:
            continue
        left[in_mv] -= 1
        for fault in planted:
            if fault.needs_mv and not in_mv:
                continue
            yield f"ecg {number}, {fault.name}", ecg_verdict(with_fault(fault, whole, read.units))


def with_fault(fault: Fault, ecg: HarmonisedEcg, units: str) -> EcgRecording:
    """Plant a fault into a good ECG."""
    signal, rate = ecg.signal, ecg.sampling_rate
    if fault.declared != 1:
        signal, rate = at_500_hz(signal, rate), max(rate, 500.0)
    return EcgRecording(fault.change(signal.copy(), rate), rate * fault.declared, list(LEADS), units)


def echo_items(directories: list[Path], clips: int) -> Iterator[tuple[str, tuple[dict[str, Any], np.ndarray]]]:
    """Yield (name, verdict) of clips, unchanged and, for at most `clips` of them, with faults."""
    paths = []
    for directory in directories:
        try:
            paths += list_echo_files(directory)
        except InputRefusedError:
            continue
    planted = [fault for kind in ECHO_FAULTS for fault in kind()]
    good = 0
    for number, path in enumerate(paths):
        found = echo_verdict(path)
        yield f"echo {number}", found
        if found[0]["refused"] or good >= clips:
            continue
        good += 1
        frames = rgb_frames(read_echo_clip(path, 32, 1))
        for fault in planted:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "clip.dcm"
                fault.plant(file, frames)
                yield f"echo {number}, {fault.name}", echo_verdict(file)


def compare(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Count what differs between two results of `collect`."""
    before, after = json.loads(str(old["verdicts"])), json.loads(str(new["verdicts"]))
    both = [name for name in before if name in after]
    refused = [name for name in both if before[name]["refused"] != after[name]["refused"]]
    codes = [name for name in both if before[name]["codes"] != after[name]["codes"]]

    def words(texts: list[str]) -> list[str]:
        return [re.sub(r"[-\d.,]+", "#", text) for text in texts]

    texts = [name for name in both if before[name]["texts"] != after[name]["texts"]]
    reasons = [name for name in both if words(before[name]["texts"]) != words(after[name]["texts"])]
    largest = {"ecg": 0.0, "echo": 0.0}
    for name in both:
        one, two = old[name], new[name]
        if one.size and one.shape == two.shape:
            kind = name.split()[0]
            largest[kind] = max(largest[kind], float(np.abs(one - two).max()))
    return {
        "items": len(both),
        "only_in_one": len(before) + len(after) - 2 * len(both),
        "refused_before": sum(entry["refused"] for entry in before.values()),
        "with_codes_before": sum(bool(entry["codes"]) for entry in before.values()),
        "differ_in_refusal": refused,
        "differ_in_codes": codes,
        "differ_in_words": reasons,
        "differ_in_numbers_of_a_text": len(texts) - len(reasons),
        "largest_difference_of_values": largest,
    }


def main() -> None:
    """Read everything, write the verdicts, compare them with another file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="file *.npz to write")
    parser.add_argument("--against", type=Path, help="file of another version to compare with")
    parser.add_argument("--every", type=int, default=100, help="which recordings of a *.npz are read (default 100)")
    parser.add_argument(
        "--recordings", type=int, default=3, help="recordings of each kind that faults are planted into (default 3)"
    )
    parser.add_argument("--clips", type=int, default=3, help="clips that faults are planted into (default 3)")
    parser.add_argument("--kinds", nargs="+", choices=("ecg", "echo"), default=["ecg", "echo"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    verdicts, values = {}, {}
    sources = {
        "ecg": lambda: ecg_items(arguments.directories, arguments.every, arguments.recordings),
        "echo": lambda: echo_items(arguments.directories, arguments.clips),
    }
    for kind in arguments.kinds:
        for name, (entry, sample) in sources[kind]():
            verdicts[name], values[name] = entry, sample
    new = {"verdicts": np.array(json.dumps(verdicts)), **values}
    np.savez_compressed(arguments.out, **new)
    if arguments.against is not None:
        result = compare(dict(np.load(arguments.against)), new)
        sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
