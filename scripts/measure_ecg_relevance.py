"""Measure on real ECGs which waves a model's explanations lie on: QRS, ST-T and P, against chance.

    python scripts/measure_ecg_relevance.py ptbxl/model ptbxl/data --split validation --out relevance.md

The waves are those that NeuroKit2 finds in lead II of what the model reads. A share is the part of the absolute
attribution, over all leads that the model reads, on the samples of a wave. A map of tokens gives all samples of a token
the same value. Chance is the part of the window that the wave takes: the share of a map that is equal everywhere. A
ratio above 1 means that the map lies on the wave more than that. Intervals are over patients (bootstrap). Nobody has
checked NeuroKit2's waves here, so a recording without three complete beats is left out and counted. A map of zeros has
no shares, so `n` is smaller then.
"""

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import neurokit2
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prediction import load_model
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.saved_models import load_processor
from tgmm_hf.explanation.explain import METHODS, steps
from tgmm_hf.explanation.prepared_patient import PreparedPatient
from tgmm_hf.explanation.scoring import question_of
from tgmm_hf.explanation.summary import mean_with_interval
from tgmm_hf.utils.files import whole_file
from tgmm_hf.utils.names import LEADS

LEAD = "II"
FEWEST_BEATS = 3
WAVES = {
    "P": ("ECG_P_Onsets", "ECG_P_Offsets"),
    "QRS": ("ECG_R_Onsets", "ECG_R_Offsets"),
    "ST-T": ("ECG_R_Offsets", "ECG_T_Offsets"),
}
"""Wave -> NeuroKit2's names of its first and last point."""


def wave_masks(signal: NDArray, rate: float) -> dict[str, NDArray] | None:
    """Find the samples of each wave in one lead.

    Args:
        signal: (samples,), of lead II.
        rate: Hz.

    Returns:
        Wave -> bool (samples,), and "rest" for all other samples; None if fewer than three beats are complete.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clean = neurokit2.ecg_clean(signal, sampling_rate=rate)
            peaks = neurokit2.ecg_peaks(clean, sampling_rate=rate)[1]["ECG_R_Peaks"]
            points = neurokit2.ecg_delineate(clean, peaks, sampling_rate=rate, method="dwt")[1]
    except (ValueError, IndexError, ZeroDivisionError, TypeError, KeyError):  # what the library raises over odd signals
        return None
    masks = {}
    for wave, (first, last) in WAVES.items():
        pairs = np.column_stack([points[first], points[last]]).astype(float)
        pairs = pairs[np.isfinite(pairs).all(1) & (pairs[:, 1] > pairs[:, 0])].astype(int)
        if len(pairs) < FEWEST_BEATS:
            return None
        masks[wave] = np.zeros(len(signal), bool)
        for start, end in pairs:
            masks[wave][start : end + 1] = True
    return masks | {"rest": ~np.any(list(masks.values()), axis=0)}


def shares(values: NDArray, masks: dict[str, NDArray]) -> dict[str, float] | None:
    """Compute the share of the absolute attribution on each wave, divided by the wave's share of the window.

    Args:
        values: (leads, samples or tokens). NaN counts as zero.
        masks: from `wave_masks`.

    Returns:
        Wave -> ratio; None if all values are zero, as Grad-CAM gives them where nothing speaks for the target.
    """
    samples = len(next(iter(masks.values())))
    weights = np.nan_to_num(np.abs(values)).sum(0)
    weights = np.repeat(weights, samples // len(weights))
    if not weights.any():
        return None
    return {wave: float(weights[mask].sum() / weights.sum() / mask.mean()) for wave, mask in masks.items()}


def measure(model: Any, processor: Any, rows: Any, task: str | None) -> tuple[list[dict[str, Any]], int]:
    """Measure all methods on all recordings: one entry per recording and method, and how many were left out."""
    question = question_of(model.config.tasks, task or model.config.task_names("diagnosis")[0])
    collator = TgmmCollator(processor, model.config, training=False)
    entries, left_out = [], 0
    for row in tqdm(rows, unit="recording"):
        label = row.get(f"label_{question.task}")
        batch = collator([row])
        signal, mask = batch["ecg_values"][0].double().numpy(), batch["ecg_mask"][0].numpy()
        if label is None or label != label or not mask[LEADS.index(LEAD)]:
            left_out += 1
            continue
        masks = wave_masks(signal[LEADS.index(LEAD)], processor.feature_extractor.sampling_rate)
        if masks is None:
            left_out += 1
            continue
        case = PreparedPatient(model, processor, collator, row, question)
        name = list(model.config.tasks[question.task]["candidates"])[int(label)]
        for _, method, compute in steps(case.score, processor, case.labs, {"ecg": METHODS["ecg"]}, views=False):
            if (ratios := shares(compute().values, masks)) is not None:
                entries.append({"class": name, "method": method, **ratios})
    return entries, left_out


def table(entries: list[dict[str, Any]], seed: int) -> str:
    """Write the ratios as a Markdown table: a row for each method and class."""
    waves = [*WAVES, "rest"]
    lines = [f"| method | class | n | {' | '.join(waves)} |", "|---" * (len(waves) + 3) + "|"]
    for method in dict.fromkeys(entry["method"] for entry in entries):
        for name in dict.fromkeys(entry["class"] for entry in entries):
            chosen = [entry for entry in entries if (entry["method"], entry["class"]) == (method, name)]
            if not chosen:
                continue
            cells = []
            for wave in waves:
                figure = mean_with_interval(np.array([entry[wave] for entry in chosen]), seed, 1000)
                cells.append(f"{figure['mean']:.2f} ({figure['ci'][0]:.2f} to {figure['ci'][1]:.2f})")
            lines.append(f"| {method} | {name} | {len(chosen)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line, measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="directory of a saved model with a diagnosis")
    parser.add_argument("data", type=Path, help="prepared data with ECGs")
    parser.add_argument("--split", default="test", help="split that is measured (test)")
    parser.add_argument("--task", help="a diagnosis (the first one)")
    parser.add_argument("--patients", type=int, help="largest number of recordings (all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples (0)")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    arguments = parser.parse_args()
    rows = load_prepared(arguments.data)[arguments.split]
    rows = rows.select(range(min(len(rows), arguments.patients or len(rows))))
    entries, left_out = measure(load_model(arguments.model), load_processor(arguments.model), rows, arguments.task)
    if not entries:
        sys.exit(f"none of {len(rows)} recordings has a label and three complete beats")
    text = table(entries, arguments.seed) + f"\n{left_out} of {len(rows)} recordings were left out.\n"
    with whole_file(arguments.out) as building:
        building.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
