"""Model outputs of a prepared dataset under all seven modality combinations, as one table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.utils.names import MODALITIES

SUBSETS: tuple[str, ...] = tuple(
    "+".join(subset) for size in range(1, len(MODALITIES) + 1) for subset in combinations(MODALITIES, size)
)
FULL = SUBSETS[-1]


def load_trained(model: str) -> TgmmModel:
    """A saved model to predict with, all its weights there.

    Raises:
        ValueError: if weights are missing, or some are there that this version does not know. transformers only logs
            that, and fills the missing ones with random numbers.
    """
    loaded, info = TgmmModel.from_pretrained(model, output_loading_info=True)
    if unknown := sorted(info["unexpected_keys"]):
        raise ValueError(
            f"{model} has {len(unknown)} weights that this version of tgmm-hf does not know ({', '.join(unknown[:3])}) "
            "and would leave out. Use the version it was saved by, or the code beside the weights (trust_remote_code), "
            "or train again."
        )
    if missing := sorted(info["missing_keys"]) + sorted(key for key, *_ in info["mismatched_keys"]):
        raise ValueError(
            f"{model} lacks {len(missing)} of the model's weights ({', '.join(missing[:3])}): it was saved by another "
            "version of tgmm-hf. Use that version, or the code beside the weights (trust_remote_code), or train again."
        )
    return loaded


def whole_subset(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The largest combination that anybody was scored under: all three modalities, or fewer where one is never there.

    Args:
        entries: combination -> its metrics with ``n``.
    """
    return next((subset for subset in reversed(SUBSETS) if entries[subset]["n"]), FULL)


@dataclass
class Predictions:
    """What a model said about n patients' admissions.

    Attributes:
        table: one row per admission, task and modality subset that the admission has in full. Columns: row (position in
            the dataset), id, patient_id, task, subset, probability (of the task's last candidate), predicted (candidate
            index), risk (prognosis, else NaN), label, positive (label is the last candidate), time, event (NaN where
            unknown).
        embeds: modality -> (n, D') float32 retrieval embeddings; empty without a retrieval task.
        embeds_mask: modality -> (n,) bool, which rows of `embeds` exist.
        ids: (n,) str. patient_ids: (n,) str.
    """

    table: pd.DataFrame
    embeds: dict[str, NDArray]
    embeds_mask: dict[str, NDArray]
    ids: NDArray
    patient_ids: NDArray

    def scored(self, task: str, subset: str) -> pd.DataFrame:
        """Rows of one task under one subset, in dataset order, index 0 ..."""
        table = self.table
        return table[(table["task"] == task) & (table["subset"] == subset)].sort_values("row").reset_index(drop=True)


@torch.inference_mode()
def collect_predictions(
    model: Any,
    dataset: Any,
    collator: Any,
    *,
    subsets: Sequence[str] = SUBSETS,
    tasks: Iterable[str] | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> Predictions:
    """Run a model over a prepared dataset; each encoder runs once per batch, whatever the number of subsets and tasks.

    An admission that lacks a modality of a subset is not scored under it.

    Args:
        model: `TgmmModel` (uses ``config.tasks``, ``encode``, ``answer``).
        dataset: one split of a prepared dataset, with the columns id and patient_id.
        collator: `TgmmCollator` with ``training=False``: rows -> model inputs, ``labels`` and ``id``.
        tasks: names from ``model.config.tasks``; all by default.

    Raises:
        ValueError: on an unknown task or subset, an empty dataset, or outputs that are not finite.
    """
    kinds = {name: model.config.tasks[name]["kind"] for name in _checked_tasks(model, tasks)}
    unknown = [subset for subset in subsets if subset not in SUBSETS]
    if unknown:
        raise ValueError(f"unknown modality subsets {unknown}: choose from {list(SUBSETS)}")
    if len(dataset) == 0:
        raise ValueError("the dataset has no rows: nothing to evaluate (was this split left empty by `tgmm prepare`?)")

    loader = DataLoader(dataset, batch_size=batch_size, shuffle=False, collate_fn=collator)
    was_training = model.training
    model.eval()
    pieces: list[pd.DataFrame] = []
    embeds: dict[str, list[NDArray]] = {modality: [] for modality in MODALITIES}
    embeds_mask: dict[str, list[NDArray]] = {modality: [] for modality in MODALITIES}
    ids: list[str] = []
    for batch in tqdm(loader, desc="predicting", unit="batch", disable=not progress):
        inputs = {name: value.to(model.device) for name, value in batch.items() if isinstance(value, torch.Tensor)}
        encoded = model.encode(**inputs)
        rows = np.arange(len(ids), len(ids) + len(batch["id"]))
        ids.extend(batch["id"])
        for name, kind in kinds.items():
            if kind == "retrieval":
                output = model.answer(encoded, name)
                for modality, vectors in output.embeds.items():
                    embeds[modality].append(_array(vectors))
                    embeds_mask[modality].append(_array(output.embeds_mask[modality]).astype(bool))
                continue
            for subset in subsets:
                members = tuple(subset.split("+"))
                present = np.all([_array(encoded.present[member]) for member in members], axis=0).astype(bool)
                if not present.any():
                    continue
                output = model.answer(encoded.keep(members), name)
                columns = {"row": rows, "task": name, "subset": subset}
                columns |= _outputs(output, present, f"task {name!r} under {subset}")
                columns |= _labels(batch["labels"].get(name, {}), *output.probabilities.shape)
                pieces.append(pd.DataFrame(columns)[present])
    model.train(was_training)

    names = np.asarray(ids, dtype=str)
    stored = np.asarray(dataset["id"], dtype=str)
    if not np.array_equal(names, stored):
        raise ValueError(
            f"the collator's ids differ from the dataset's ({len(names)} against {len(stored)}): it must keep the order"
        )
    patient_ids = np.asarray(dataset["patient_id"], dtype=str)
    table = pd.concat(pieces, ignore_index=True) if pieces else _empty_table()
    table.insert(1, "id", names[table["row"].to_numpy(dtype=int)])
    table.insert(2, "patient_id", patient_ids[table["row"].to_numpy(dtype=int)])
    return Predictions(
        table=table,
        embeds={modality: np.concatenate(parts) for modality, parts in embeds.items() if parts},
        embeds_mask={modality: np.concatenate(parts) for modality, parts in embeds_mask.items() if parts},
        ids=names,
        patient_ids=patient_ids,
    )


def _checked_tasks(model: Any, tasks: Iterable[str] | None) -> list[str]:
    known = list(model.config.tasks)
    chosen = known if tasks is None else list(tasks)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"unknown tasks {unknown}: the model has {known}")
    return chosen


def _outputs(output: Any, present: NDArray, where: str) -> dict[str, NDArray]:
    probabilities = _array(output.probabilities).astype(np.float64)  # (B, C)
    risk = np.full(len(probabilities), np.nan) if output.risk is None else _array(output.risk).astype(np.float64)
    broken = ~np.isfinite(probabilities).all(axis=1)
    if output.risk is not None:
        broken |= ~np.isfinite(risk)
    if (broken & present).any():
        raise ValueError(
            f"{int((broken & present).sum())} of {int(present.sum())} outputs for {where} are not finite: "
            "the model's weights diverged or an input is broken"
        )
    return {"probability": probabilities[:, -1], "predicted": probabilities.argmax(axis=1), "risk": risk}


def _labels(labels: dict[str, torch.Tensor], batch: int, candidates: int) -> dict[str, NDArray]:
    """Label, positive, time and event as floats, NaN where the task's mask says unknown."""
    known = _array(labels["mask"]).astype(bool) if "mask" in labels else np.ones(batch, dtype=bool)
    columns = {}
    for name in ("label", "time", "event"):
        values = _array(labels[name]).astype(np.float64) if name in labels else np.full(batch, np.nan)
        columns[name] = np.where(known, values, np.nan)
    label = columns["label"]
    columns["positive"] = np.where(np.isnan(label), np.nan, label == candidates - 1)
    return columns


def _array(tensor: torch.Tensor) -> NDArray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _empty_table() -> pd.DataFrame:
    columns = ["row", "task", "subset", "probability", "predicted", "risk", "label", "positive", "time", "event"]
    return pd.DataFrame({name: [] for name in columns})
