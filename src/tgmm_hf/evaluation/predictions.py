"""The outputs of a model for a prepared dataset under all seven modality subsets, as one table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from tgmm_hf.configuration_measured_tasks import MEASURED_KINDS
from tgmm_hf.evaluation.measured_columns import array_of, measured_columns, refuse_broken
from tgmm_hf.utils.names import MODALITIES, SUBSET_NAMES, join_names

FULL = SUBSET_NAMES[-1]

COLUMNS = (
    *("row", "task", "subset", "probability", "predicted", "risk", "label", "positive", "time", "event"),
    "probabilities",
)

Answers = dict[str, dict[str, Any]]
"""Task -> name of a subset -> the model's output for a batch."""


def whole_subset(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the largest subset that any patient was scored under: all three modalities, or fewer if one never occurs.

    Args:
        entries: Subset -> its figures with `n`, the number of scored admissions.
    """
    return next((subset for subset in reversed(SUBSET_NAMES) if entries[subset]["n"]), FULL)


@dataclass
class Predictions:
    """The predictions of a model for n admissions.

    Attributes:
        table: One row for each admission, task and subset, if the admission has all modalities of the subset. Columns:
            row (position in the dataset), id, patient_id, task, subset, probability (of the task's last candidate),
            predicted (index of the candidate with the highest probability), risk (NaN if the task is no prognosis),
            label, positive (whether the label is the last candidate), time, event (NaN where unknown), probabilities
            (of all candidates of a diagnosis, of all findings of a multilabel; None otherwise). With a regression also
            value, deviation (NaN if the model gives none) and measured (NaN where unknown). With a multilabel also
            findings (list of 0, 1, NaN where unknown) and num_known (number of known findings, NaN for none).
        embeds: Modality -> retrieval embeddings (n, D'), float32. Empty without a retrieval task.
        embeds_mask: Modality -> bool (n,), True for a row of `embeds` whose admission has the modality.
        ids: Name of each admission, shape (n,), str.
        patient_ids: Patient of each admission, shape (n,), str.
    """

    table: pd.DataFrame
    embeds: dict[str, NDArray]
    embeds_mask: dict[str, NDArray]
    ids: NDArray
    patient_ids: NDArray

    def scored(self, task: str, subset: str) -> pd.DataFrame:
        """Return the rows of one task under one subset, in dataset order, with a new index from 0."""
        table = self.table
        return table[(table["task"] == task) & (table["subset"] == subset)].sort_values("row").reset_index(drop=True)


@dataclass
class _Batches:
    """Collects the predictions of batches, one after the other."""

    tables: list[pd.DataFrame] = field(default_factory=list)
    embeds: dict[str, list[NDArray]] = field(default_factory=lambda: {name: [] for name in MODALITIES})
    embeds_mask: dict[str, list[NDArray]] = field(default_factory=lambda: {name: [] for name in MODALITIES})
    ids: list[str] = field(default_factory=list)

    def add_embeds(self, output: Any) -> None:
        for modality, vectors in output.embeds.items():
            self.embeds[modality].append(array_of(vectors))
            self.embeds_mask[modality].append(array_of(output.embeds_mask[modality]).astype(bool))

    def join(self, dataset: Any) -> Predictions:
        """Join the batches into `Predictions`, with the ids and patients of `dataset`.

        Raises:
            ValueError: If the ids of the batches are not those of the dataset, in its order.
        """
        ids, stored = np.asarray(self.ids, dtype=str), np.asarray(dataset["id"], dtype=str)
        if not np.array_equal(ids, stored):
            raise ValueError(
                f"The collator's ids differ from the dataset's ({len(ids)} against {len(stored)}). The collator must "
                "keep the order of the rows."
            )
        patient_ids = np.asarray(dataset["patient_id"], dtype=str)
        empty = pd.DataFrame({name: [] for name in COLUMNS})
        table = pd.concat(self.tables, ignore_index=True) if self.tables else empty
        rows = table["row"].to_numpy(dtype=int)
        table.insert(1, "id", ids[rows])
        table.insert(2, "patient_id", patient_ids[rows])
        return Predictions(
            table=table,
            embeds={modality: np.concatenate(parts) for modality, parts in self.embeds.items() if parts},
            embeds_mask={modality: np.concatenate(parts) for modality, parts in self.embeds_mask.items() if parts},
            ids=ids,
            patient_ids=patient_ids,
        )


@torch.inference_mode()
def collect_predictions(  # noqa: PLR0913 - the data, what to answer, and how to run
    model: Any,
    dataset: Any,
    collator: Any,
    *,
    subsets: Sequence[str] = SUBSET_NAMES,
    tasks: Iterable[str] | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> Predictions:
    """Run a model over a prepared dataset. Each encoder runs once per batch, for all subsets and tasks.

    An admission that lacks a modality of a subset is not scored under that subset.

    Args:
        model: `TgmmModel`. Its `config.tasks`, `encode` and `answer_subsets` are used.
        dataset: One split of a prepared dataset, with the columns id and patient_id.
        collator: `TgmmCollator` with `training=False`. It turns rows into model inputs, `labels` and `id`.
        subsets: Names from `SUBSET_NAMES`.
        tasks: Names from `model.config.tasks`. None takes all tasks.
        batch_size: Number of admissions that are encoded together.
        progress: Whether to show a progress bar.

    Returns:
        The predictions. The model is in evaluation mode during the call, and afterwards in its mode before.

    Raises:
        ValueError: If a task or subset is unknown, the dataset is empty, or an output is not finite.
    """
    kinds = {name: model.config.tasks[name]["kind"] for name in _checked_tasks(model, tasks)}
    if unknown := [subset for subset in subsets if subset not in SUBSET_NAMES]:
        raise ValueError(f"unknown modality subsets {unknown}: choose from {list(SUBSET_NAMES)}")
    if len(dataset) == 0:
        raise ValueError(
            "The dataset has no rows, so there is nothing to evaluate. Did `tgmm prepare` leave this split empty?"
        )
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=False, collate_fn=collator)
    was_training = model.training
    model.eval()
    batches = _Batches()
    for batch in tqdm(loader, desc="predicting", unit="batch", disable=not progress):
        inputs = {name: value.to(model.device) for name, value in batch.items() if isinstance(value, torch.Tensor)}
        present, answers = answer_batch(model, inputs, list(kinds), subsets)
        rows = np.arange(len(batches.ids), len(batches.ids) + len(batch["id"]))
        batches.ids.extend(batch["id"])
        for task, by_subset in answers.items():
            for subset, output in by_subset.items():
                if kinds[task] == "retrieval":
                    batches.add_embeds(output)
                else:
                    table = {"row": rows, "task": task, "subset": subset}
                    columns = measured_columns if kinds[task] in MEASURED_KINDS else _candidate_columns
                    place = f"task {task!r} under {subset}"
                    table |= columns(kinds[task], output, batch["labels"].get(task, {}), present[subset], place)
                    batches.tables.append(pd.DataFrame(table)[present[subset]])
    model.train(was_training)
    return batches.join(dataset)


def answer_batch(
    model: Any, inputs: Mapping[str, torch.Tensor], tasks: Sequence[str], subsets: Sequence[str]
) -> tuple[dict[str, NDArray], Answers]:
    """Encode a batch once and answer every task under every subset.

    Args:
        model: `TgmmModel`.
        inputs: Arguments of `model.encode`, by name, for B admissions.
        tasks: Names of tasks.
        subsets: Names from `SUBSET_NAMES`.

    Returns:
        Two dictionaries. The first has an entry for every subset: bool (B,), True for an admission that has all
        modalities of the subset. The second is task -> subset -> output for all B rows. Use only the rows that are True
        in the first dictionary. Only the second dictionary has no entry for a subset that no admission has. A retrieval
        task has one output, under `FULL`, because the embedding of a modality does not depend on the other modalities.
    """
    encoded = model.encode(**inputs)
    members = {subset: tuple(subset.split("+")) for subset in subsets}
    present = {
        subset: np.all([array_of(encoded.present[name]) for name in names], axis=0).astype(bool)
        for subset, names in members.items()
    }
    asked = [members[subset] for subset in subsets if present[subset].any()]
    answers = model.answer_subsets(encoded, tasks, asked)
    return present, {
        task: {join_names(subset): output for subset, output in by_subset.items()}
        for task, by_subset in answers.items()
    }


def _candidate_columns(
    kind: str, output: Any, labels: dict[str, torch.Tensor], present: NDArray, place: str
) -> dict[str, Any]:
    """Return the columns of a diagnosis or prognosis for a batch, see `Predictions`."""
    table: dict[str, Any] = {**_outputs(output, present, place), **_labels(labels, *output.probabilities.shape)}
    all_candidates = list(array_of(output.probabilities).astype(np.float64))
    return table | {"probabilities": all_candidates if kind == "diagnosis" else None}


def _checked_tasks(model: Any, tasks: Iterable[str] | None) -> list[str]:
    available = list(model.config.tasks)
    chosen = available if tasks is None else list(tasks)
    if unknown := [name for name in chosen if name not in available]:
        raise ValueError(f"unknown tasks {unknown}: the model has {available}")
    return chosen


def _outputs(output: Any, present: NDArray, place: str) -> dict[str, NDArray]:
    """Return the columns probability (of the last candidate), predicted (index of a candidate) and risk of a batch.

    Each has shape (B,). Risk is NaN if the task is no prognosis.

    Args:
        output: The model's output for B admissions.
        present: True for an admission that has all modalities of the subset, bool (B,). The outputs of the other
            admissions may be NaN.
        place: Task and subset, for the error message.

    Raises:
        ValueError: If an output of a present admission is not finite.
    """
    probabilities = array_of(output.probabilities).astype(np.float64)  # (B, C)
    risk = np.full(len(probabilities), np.nan) if output.risk is None else array_of(output.risk).astype(np.float64)
    broken = np.asarray(~np.isfinite(probabilities).all(axis=1))
    if output.risk is not None:
        broken |= ~np.isfinite(risk)
    refuse_broken(np.asarray(broken), present, place)
    return {"probability": probabilities[:, -1], "predicted": probabilities.argmax(axis=1), "risk": risk}


def _labels(labels: dict[str, torch.Tensor], batch: int, candidates: int) -> dict[str, NDArray]:
    """Return the columns label, positive, time and event of a batch, each (B,) float, NaN where unknown.

    Args:
        labels: The task's labels as the collator gives them.
        batch: Number of admissions B.
        candidates: Number of candidates. `positive` is 1 if the label is the last candidate.
    """
    is_known = array_of(labels["mask"]).astype(bool) if "mask" in labels else np.ones(batch, dtype=bool)
    columns = {}
    for name in ("label", "time", "event"):
        values = array_of(labels[name]).astype(np.float64) if name in labels else np.full(batch, np.nan)
        columns[name] = np.where(is_known, values, np.nan)
    label = columns["label"]
    columns["positive"] = np.where(np.isnan(label), np.nan, label == candidates - 1)
    return columns
