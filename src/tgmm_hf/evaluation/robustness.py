"""How figures fall when inputs get worse: laboratory cells, ECG leads or echo views at random taken away, noise added.

Prepared rows are changed before they are collated, so the model sees what it would see of such a patient. At least one
cell, lead or view stays, so that the same patients are scored at every level; what is taken away at a level is taken
away at every higher one too.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset

from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, resampled_auc
from tgmm_hf.evaluation.predictions import SUBSETS, Predictions
from tgmm_hf.evaluation.survival import resampled_c_index

Row = dict[str, Any]

SHARES = (0.2, 0.4, 0.6, 0.8)
DECIBELS = (20, 10, 0)


def drop_cells(row: Row, share: float, generator: np.random.Generator) -> Row:
    """The row without this share of its laboratory cells."""
    if not row["labs"]:
        return row
    cells = json.loads(str(row["labs"]))
    kept = _kept(len(cells), share, generator)
    return row | {"labs": json.dumps({name: cells[name] for i, name in enumerate(cells) if i in kept})}


def drop_leads(row: Row, share: float, generator: np.random.Generator) -> Row:
    """The row with this share of its usable ECG leads masked."""
    usable = np.flatnonzero(row["ecg_mask"])
    if not len(usable):
        return row
    mask = np.zeros(len(row["ecg_mask"]), dtype=bool)
    mask[usable[sorted(_kept(len(usable), share, generator))]] = True
    signal = np.where(mask, np.asarray(row["ecg"]), np.float32(0.0))  # (samples, leads)
    return row | {"ecg": signal, "ecg_mask": mask.tolist()}


def drop_views(row: Row, share: float, generator: np.random.Generator) -> Row:
    """The row without this share of its echo views."""
    if not len(row["clip_views"]):
        return row
    kept = sorted(_kept(len(row["clip_views"]), share, generator))
    return row | {name: np.asarray(row[name])[kept] for name in ("clips", "clip_views", "clip_frames")}


def add_noise(row: Row, decibels: float, generator: np.random.Generator) -> Row:
    """The row with white noise on every usable lead; `decibels`: signal over noise, the lead's variance being its
    signal."""
    signal = np.asarray(row["ecg"], dtype=np.float32)
    if not signal.size:
        return row
    deviation = signal.std(axis=0, keepdims=True) * 10 ** (-decibels / 20)  # 0 for a masked lead
    return row | {"ecg": signal + deviation * generator.standard_normal(signal.shape, dtype=np.float32)}


def _kept(number: int, share: float, generator: np.random.Generator) -> set[int]:
    """Which of so many stay: the first of a random order, at least one."""
    return set(generator.permutation(number)[: max(1, number - round(share * number))].tolist())


Change = Callable[[Row, float, np.random.Generator], Row]


class Perturbation(NamedTuple):
    """What is done to which modality, at which levels, and how a level is written."""

    name: str
    modality: str
    change: Change
    levels: tuple[float, ...]
    label: str


PERTURBATIONS = (
    Perturbation("laboratory cells dropped", "labs", drop_cells, SHARES, "{:.0%}"),
    Perturbation("ECG leads dropped", "ecg", drop_leads, SHARES, "{:.0%}"),
    Perturbation("echo views dropped", "echo", drop_views, SHARES, "{:.0%}"),
    Perturbation("ECG noise, SNR in dB", "ecg", add_noise, DECIBELS, "{:g}"),
)


class Changed(TorchDataset):
    """A prepared split whose rows are changed as they are read; the same row gets the same change every time."""

    def __init__(self, rows: Dataset, change: Change, level: float, seed: int) -> None:
        self.rows, self.change, self.level, self.seed = rows, change, level, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.rows[key]
        return self.change(dict(self.rows[key]), self.level, np.random.default_rng([self.seed, key]))


def robustness(
    predict: Callable[[Any, tuple[str, ...]], Predictions],
    rows: Dataset,
    clean: Predictions,
    tasks: Mapping[str, Mapping[str, Any]],
    *,
    seed: int,
    replicates: int,
) -> dict[str, Any]:
    """The headline figure of every task at every level of every perturbation.

    Args:
        predict: (rows, combinations) -> predictions; runs the model once a level.
        rows: the prepared split. clean: its predictions as it is.
        tasks: `config.tasks`. Retrieval is left out.

    Returns:
        ``{task: {perturbation: [{"level", "subset", "n", "auc" | "c_index", its interval}, ...]}}``, for all modalities
        together and for the one that is changed; without a modality that nobody has.
    """
    result: dict[str, Any] = {task: {} for task in tasks if tasks[task]["kind"] != "retrieval"}
    if not result:
        return {}
    scored_subsets = set(clean.table["subset"])
    whole = next(subset for subset in reversed(SUBSETS) if subset in scored_subsets)
    for name, modality, change, levels, label in PERTURBATIONS:
        if modality not in whole.split("+"):
            continue
        subsets = tuple(dict.fromkeys((modality, whole)))
        scored = {"none": clean}
        for level in levels:
            scored[label.format(level)] = predict(Changed(rows, change, level, seed), subsets)
        for task, by_perturbation in result.items():
            by_perturbation[name] = [
                {"level": level, "subset": subset}
                | _headline(predictions.scored(task, subset), tasks[task]["kind"], seed, replicates)
                for subset in subsets
                for level, predictions in scored.items()
            ]
    return result


def _headline(rows: pd.DataFrame, kind: str, seed: int, replicates: int) -> dict[str, Any]:
    rows = rows[rows["label" if kind == "diagnosis" else "time"].notna()]
    strata = rows["label" if kind == "diagnosis" else "event"].to_numpy()
    counts = bootstrap_counts(rows["patient_id"].to_numpy(), strata, replicates, seed)
    if kind == "diagnosis":
        score, positive = rows["probability"].to_numpy(np.float64), rows["positive"].to_numpy()
        return {"n": len(rows)} | estimate(lambda drawn: resampled_auc(score, positive, drawn), counts).entry("auc")
    risk, time, event = (rows[name].to_numpy(np.float64) for name in ("risk", "time", "event"))
    figure = estimate(lambda drawn: resampled_c_index(risk, time, event, drawn), counts)
    return {"n": len(rows)} | figure.entry("c_index")
