"""Measure how many faulty inputs are marked as unlike the training, and how many good ones.

    python scripts/measure_unlike_training.py --prepared demo/data --ptbxl PTBXL.npz LABELS.csv --out unlike_training.md

`--prepared` names data of `tgmm prepare`. The description is fitted to the training and validation patients, as `tgmm
train` does it, and tried on the test patients and on those of `--unseen`. `--ptbxl` names a file with `signal`
(recordings, samples, 12) and `ecg_id`, each lead scaled by itself, and a table with `ecg_id` and `strat_fold`. Folds 1
to 7 are the training, 8 the validation and 9 the test. Faults are planted into the arrays, so that no other check sees
them. The page names no file.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from unlike_faults import clip_faults, ecg_faults, harmless_clip_changes, harmless_ecg_changes, lab_faults

from tgmm_hf.data.lab_rows import stored_labs
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.inputs.ecg_summary import summarise_ecg
from tgmm_hf.inputs.echo_summary import summarise_clip
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.training_likeness import Likeness, scores_of
from tgmm_hf.inputs.unlike_training import lab_numbers
from tgmm_hf.training.likeness_fit import collect, fit_likeness
from tgmm_hf.utils.names import LEADS, VIEWS

Inputs = list[tuple[int, str, dict[str, float]]]
"""(patient, view or "", name -> value) of each input."""
STATEMENTS = ("AFIB", "PACE", "STACH", "SBRAD", "SARRH", "AFLT", "PVC", "LVOLT")
"""Rhythms and forms of PTB-XL that are seldom and no faults."""
RATE = 250.0
"""Hz of prepared recordings."""
Rows = list[tuple[str, str, int, int]]
"""Kind of input, name, number tried, number marked."""


def ecg_inputs(signals: Iterable[np.ndarray], rate: float) -> Inputs:
    """Describe recordings (12, samples)."""
    mask = np.ones(len(LEADS), bool)
    return [(number, "", summarise_ecg(signal, mask, rate)) for number, signal in enumerate(signals)]


def is_marked(likeness: Likeness, inputs: Inputs) -> np.ndarray:
    """Tell which patients have an input that is unlike the training, (patients,) bool."""
    values = np.concatenate([likeness.vector(each) for _, _, each in inputs])
    scores = scores_of(likeness.excess(values, [group for _, group, _ in inputs]))
    above: np.ndarray = np.asarray(scores > likeness.limits).max(axis=1)
    patients = np.array([patient for patient, _, _ in inputs])
    return np.array([above[patients == patient].any() for patient in np.unique(patients)])


def fitted(training: Inputs, validation: Inputs) -> Likeness:
    """Fit a description."""
    trained = collect(training)
    stored = fit_likeness(trained, collect(validation, trained.names))
    if stored is None:
        raise SystemExit("There are too few patients for a description.")
    return Likeness(stored)


def count(rows: Rows, kind: str, name: str, likeness: Likeness, inputs: Inputs) -> None:
    """Add a line of the page."""
    marked = is_marked(likeness, inputs)
    rows.append((kind, name, marked.size, int(marked.sum())))
    sys.stderr.write(" | ".join(map(str, rows[-1])) + "\n")


def plant_ecgs(rows: Rows, kind: str, likeness: Likeness, signals: list[np.ndarray], rate: float, scaled: bool) -> None:
    """Plant every fault into recordings (12, samples).

    Args:
        rows: the lines are added here.
        kind: of the recordings.
        likeness: the description.
        signals: the recordings.
        rate: Hz.
        scaled: whether each lead is scaled by itself afterwards, as the recordings are.
    """
    for names, changes in (("fault", ecg_faults()), ("harmless", harmless_ecg_changes())):
        for name, change in changes.items():
            generator = np.random.default_rng(0)
            changed = (change(signal.astype(np.float64), rate, generator) for signal in signals)
            if scaled:
                changed = ((part - part.mean(1, keepdims=True)) / part.std(1, keepdims=True) for part in changed)
            count(rows, f"{kind}, {names}", name, likeness, ecg_inputs(changed, rate))


def clips_of(rows: Any) -> list[tuple[int, str, np.ndarray, int]]:
    """Return (patient, view, clip (frames, size, size, 3), number of real frames) of prepared rows."""
    clips = []
    for patient, row in enumerate(rows):
        for view, frames, clip in zip(row["clip_views"], row["clip_frames"], row["clips"], strict=True):
            shaped = np.asarray(clip, np.uint8)
            clips.append((patient, VIEWS[int(view)], shaped.reshape(*shaped.shape[:2], -1, 3), int(frames)))
    return clips


def echo_inputs(clips: Iterable[tuple[int, str, np.ndarray, int]]) -> Inputs:
    """Describe clips."""
    return [(patient, view, summarise_clip(clip, frames)) for patient, view, clip, frames in clips]


def lab_inputs(rows: Any) -> Inputs:
    """Describe laboratory rows."""
    described = []
    for patient, row in enumerate(rows):
        if (labs := stored_labs(row)) and (numbers := lab_numbers(LabsText.from_stored(labs).cells)):
            described.append((patient, "", numbers))
    return described


def signals_of(rows: Any) -> list[np.ndarray]:
    """Return the recordings (12, samples) of prepared rows with all leads."""
    return [np.asarray(row["ecg"], np.float32).T for row in rows if len(row["ecg"]) and all(row["ecg_mask"])]


def measure_prepared(rows: Rows, directory: Path, unseen: Path | None, number: int, modality: str | None) -> None:
    """Measure the modalities of prepared data, or one of them."""
    splits = load_prepared(directory)
    good = [*splits["test"], *([row for part in load_prepared(unseen).values() for row in part] if unseen else [])]
    few = list(splits["test"])[:number]
    if modality in (None, "ecg"):
        likeness = fitted(*(ecg_inputs(signals_of(splits[name]), RATE) for name in ("train", "validation")))
        count(rows, "synthetic ECG, good", "unseen patients", likeness, ecg_inputs(signals_of(good), RATE))
        plant_ecgs(rows, "synthetic ECG", likeness, signals_of(few), RATE, scaled=False)
    if modality in (None, "labs"):
        likeness = fitted(*(lab_inputs(splits[name]) for name in ("train", "validation")))
        count(rows, "synthetic labs, good", "unseen patients", likeness, lab_inputs(good))
        plant_labs(rows, likeness, [cells for _, _, cells in lab_inputs(splits["test"])])
    if modality in (None, "echo"):
        likeness = fitted(*(echo_inputs(clips_of(splits[name])) for name in ("train", "validation")))
        count(rows, "synthetic echo, good", "unseen patients", likeness, echo_inputs(clips_of(good)))
        plant_clips(rows, likeness, clips_of(few))


def plant_labs(rows: Rows, likeness: Likeness, good: list[dict[str, float]]) -> None:
    """Plant every fault into laboratory rows."""
    faulty: dict[str, Inputs] = {}
    for name, cells in lab_faults(good, np.random.default_rng(0)):
        faulty.setdefault(name, []).append((len(faulty.get(name, [])), "", cells))
    for name, inputs in faulty.items():
        count(rows, "synthetic labs, fault", name, likeness, inputs)


def plant_clips(rows: Rows, likeness: Likeness, clips: list[tuple[int, str, np.ndarray, int]]) -> None:
    """Plant every fault into clips. Each clip is counted by itself."""
    for names, changes in (("fault", clip_faults()), ("harmless", harmless_clip_changes())):
        for name, change in changes.items():
            generator = np.random.default_rng(0)
            pairs = zip(clips, [*clips[1:], clips[0]], strict=True)
            changed = [
                (place, view, change(clip.copy(), other[2], generator), frames)
                for place, ((_, view, clip, frames), other) in enumerate(pairs)
            ]
            count(rows, f"synthetic echo, {names}", name, likeness, echo_inputs(changed))


def measure_ptbxl(rows: Rows, file: Path, labels: Path, number: int) -> None:
    """Measure recordings of PTB-XL, whose leads are scaled by themselves."""
    content = np.load(file)
    with labels.open(encoding="utf-8") as table:
        lines = {int(line["ecg_id"]): line for line in csv.DictReader(table)}
    ordered = [lines[int(name)] for name in content["ecg_id"]]
    fold = np.array([int(line["strat_fold"]) for line in ordered])
    signals = content["signal"].astype(np.float32).transpose(0, 2, 1)
    rate = signals.shape[2] / 10.0
    likeness = fitted(*(ecg_inputs(signals[chosen], rate) for chosen in (fold <= 7, fold == 8)))
    count(rows, "PTB-XL, good", "fold 9", likeness, ecg_inputs(signals[fold == 9], rate))
    for name in STATEMENTS:
        stated = np.array([any(name in line[column] for column in ("rhythm", "form")) for line in ordered])
        if (chosen := stated & (fold == 9)).any():
            count(rows, "PTB-XL, good", f"fold 9 with {name}", likeness, ecg_inputs(signals[chosen], rate))
    plant_ecgs(rows, "PTB-XL", likeness, list(signals[fold == 9][:number]), rate, scaled=True)


def cost() -> str:
    """Measure the CPU time of a recording and of a clip, as a sentence."""
    generator = np.random.default_rng(0)
    signal, mask = generator.normal(size=(len(LEADS), 2500)).astype(np.float32), np.ones(len(LEADS), bool)
    clip = generator.integers(0, 255, (16, 224, 224, 3)).astype(np.uint8)
    times = []
    for work in (lambda: summarise_ecg(signal, mask, RATE), lambda: summarise_clip(clip, len(clip))):
        spent = []
        for _ in range(20):
            start = time.process_time()
            work()
            spent.append(time.process_time() - start)
        times.append(1000 * float(np.median(spent)))
    return (
        f"CPU time of a comparison: {times[0]:.1f} ms for a recording of 10 s at 250 Hz, {times[1]:.1f} ms for a clip "
        "of 16 frames of 224 x 224 pixels (median of 20, on a machine that did other work)."
    )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared", type=Path, help="directory of `tgmm prepare`")
    parser.add_argument("--unseen", type=Path, help="prepared data of another seed, good patients only")
    parser.add_argument("--ptbxl", type=Path, nargs=2, metavar=("NPZ", "CSV"))
    parser.add_argument("--modality", choices=("labs", "ecg", "echo"), help="of the prepared data; all without it")
    parser.add_argument("--number", type=int, default=60, help="patients that faults are planted into")
    parser.add_argument("--out", type=Path, help="table in Markdown")
    options = parser.parse_args()
    rows: Rows = []
    if options.ptbxl:
        measure_ptbxl(rows, options.ptbxl[0], options.ptbxl[1], options.number)
    if options.prepared:
        measure_prepared(rows, options.prepared, options.unseen, options.number, options.modality)
    lines = ["| inputs | kind | tried | marked |", "|---|---|---|---|"]
    lines += [f"| {kind} | {name} | {tried} | {marked / tried:.1%} ({marked}) |" for kind, name, tried, marked in rows]
    page = "\n".join([*lines, "", cost()]) + "\n"
    if options.out:
        options.out.write_text(page, encoding="utf-8")
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
