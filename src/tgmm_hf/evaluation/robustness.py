"""Robustness: how figures fall when laboratory cells, ECG leads or echo views are dropped, or when noise is added.

Prepared rows are changed before they are collated, so that the model gets the same inputs as for a patient with worse
data. At least one cell, lead or view stays, so that the same patients are scored at every level. An item that is
dropped at one level is dropped at every higher level too.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset

from tgmm_hf.evaluation.headline_figures import HEADLINE, SCORE, headline_counts, headline_figure, with_outcome
from tgmm_hf.evaluation.metrics import Bootstrap, estimate
from tgmm_hf.evaluation.predictions import Predictions
from tgmm_hf.utils.names import SUBSET_NAMES

Row = dict[str, Any]

SHARES = (0.2, 0.4, 0.6, 0.8)
DECIBELS = (20, 10, 0)


def drop_cells(row: Row, share: float, generator: np.random.Generator) -> Row:
    """Return a prepared row without a share (0 to 1) of its laboratory cells. At least one cell stays."""
    if not row["labs"]:
        return row
    cells = json.loads(str(row["labs"]))
    kept = _kept(len(cells), share, generator)
    return row | {"labs": json.dumps({name: cells[name] for i, name in enumerate(cells) if i in kept})}


def drop_leads(row: Row, share: float, generator: np.random.Generator) -> Row:
    """Return a prepared row in which a share (0 to 1) of its usable ECG leads is masked and 0. At least one stays."""
    usable = np.flatnonzero(row["ecg_mask"])
    if not len(usable):
        return row
    mask = np.zeros(len(row["ecg_mask"]), dtype=bool)
    mask[usable[sorted(_kept(len(usable), share, generator))]] = True
    signal = np.where(mask, np.asarray(row["ecg"]), np.float32(0.0))  # (samples, leads)
    return row | {"ecg": signal, "ecg_mask": mask.tolist()}


def drop_views(row: Row, share: float, generator: np.random.Generator) -> Row:
    """Return a prepared row without a share (0 to 1) of its echo views. At least one view stays."""
    if not len(row["clip_views"]):
        return row
    kept = sorted(_kept(len(row["clip_views"]), share, generator))
    return row | {name: np.asarray(row[name])[kept] for name in ("clips", "clip_views", "clip_frames")}


def add_noise(row: Row, decibels: float, generator: np.random.Generator) -> Row:
    """Return a prepared row with white noise added to every usable ECG lead.

    Args:
        row: A prepared row. It is not changed.
        decibels: Signal-to-noise ratio in decibels: 10 log10(variance of the lead / variance of the noise).
        generator: Source of the noise.
    """
    signal = np.asarray(row["ecg"], dtype=np.float32)
    if not signal.size:
        return row
    deviation = signal.std(axis=0, keepdims=True) * 10 ** (-decibels / 20)  # 0 for a masked lead
    return row | {"ecg": signal + deviation * generator.standard_normal(signal.shape, dtype=np.float32)}


def _kept(number: int, share: float, generator: np.random.Generator) -> set[int]:
    """Return the indices of the items that stay if a `share` of `number` items is dropped; at least one stays."""
    return set(generator.permutation(number)[: max(1, number - round(share * number))].tolist())


Change = Callable[[Row, float, np.random.Generator], Row]


class Perturbation(NamedTuple):
    """One way to make inputs worse.

    Attributes:
        name: Its name in metrics.json.
        modality: The modality that is changed.
        change: Function from a row, a level and a generator to the changed row.
        levels: Shares (0 to 1) or decibels.
        label: Format string that writes a level for metrics.json, such as "{:.0%}".
    """

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


class ChangedRows(TorchDataset):
    """A prepared split whose rows are changed when they are read. The same row gets the same change every time.

    Args:
        rows: The prepared split.
        change: Function of a row, a level and a generator.
        level: Share or decibels.
        seed: Seed of the changes.
    """

    def __init__(self, rows: Dataset, change: Change, level: float, seed: int) -> None:
        self.rows, self.change, self.level, self.seed = rows, change, level, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | str) -> Any:
        """Return the changed row number `key`; for the name of a column return the column, which is never changed."""
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
    """Compute the headline figure of every task at every level of every perturbation.

    Args:
        predict: Function from rows and names of subsets to predictions. It is called once per level.
        rows: The prepared split.
        clean: The predictions of the unchanged split.
        tasks: `config.tasks`. Retrieval tasks are left out.
        seed: Seed of the perturbations and of the bootstrap.
        replicates: Number of resamples.

    Returns:
        Task -> name of the perturbation -> points. A point is a dict with "level", "subset", "n", and the
        headline figure with its interval (suffix _ci). There are points for all modalities together and for the changed
        modality alone. A perturbation of a modality that no patient has has no entry.
    """
    result: dict[str, Any] = {task: {} for task in tasks if tasks[task]["kind"] != "retrieval"}
    if not result:
        return {}
    scored_subsets = set(clean.table["subset"])
    whole = next(subset for subset in reversed(SUBSET_NAMES) if subset in scored_subsets)
    for name, modality, change, levels, label in PERTURBATIONS:
        if modality not in whole.split("+"):
            continue
        subsets = tuple(dict.fromkeys((modality, whole)))
        scored = {"none": clean}
        for level in levels:
            scored[label.format(level)] = predict(ChangedRows(rows, change, level, seed), subsets)
        for task, by_perturbation in result.items():
            by_perturbation[name] = [
                {"level": level, "subset": subset}
                | _headline(predictions.scored(task, subset), tasks[task]["kind"], Bootstrap(seed, replicates))
                for subset in subsets
                for level, predictions in scored.items()
            ]
    return result


def _headline(rows: pd.DataFrame, kind: str, bootstrap: Bootstrap) -> dict[str, Any]:
    rows = with_outcome(rows, kind)
    figure = estimate(headline_figure(rows, SCORE[kind], kind), headline_counts(rows, kind, bootstrap))
    return {"n": len(rows)} | figure.entry(HEADLINE[kind])
