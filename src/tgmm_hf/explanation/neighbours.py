"""The patients of a gallery whose embeddings are nearest to those of one patient.

A gallery is the output directory of `tgmm evaluate` for a model with a retrieval task. Neighbours are examples:
patients that the model places near to this one, with what happened to them. They are no explanation of the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.names import MODALITIES

SAME = 0.9999
"""Cosine similarity from which two recordings are probably the same one."""


@dataclass(frozen=True)
class Gallery:
    """Embeddings and outcomes of n admissions.

    Attributes:
        embeds: modality -> unit vectors (n, width).
        masks: modality -> bool (n,), True where the admission has the modality.
        ids: names of the admissions, (n,).
        patient_ids: names of their patients, (n,).
        outcomes: per admission: task -> outcome in words.
    """

    embeds: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray]
    ids: np.ndarray
    patient_ids: np.ndarray
    outcomes: tuple[Mapping[str, str], ...]


def read_gallery(directory: Path, model: Any) -> Gallery:
    """Read the gallery that an evaluation of the same model left.

    Args:
        directory: output directory of `tgmm evaluate`.
        model: `TgmmModel` whose embeddings are compared.

    Raises:
        TgmmError: if the directory has no embeddings, or they are those of other weights.
    """
    path = directory / "embeddings.npz"
    if not path.is_file() or not (directory / "metrics.json").is_file():
        raise TgmmError(str(directory), "holds no gallery. Name the output of `tgmm evaluate` with a retrieval task.")
    metrics, weights = read_json(directory / "metrics.json"), (model.config.weights_fingerprint or {}).get("id")
    if weights is None or metrics.get("model_fingerprint") != weights:
        raise TgmmError(
            str(directory),
            f"has embeddings of the weights {metrics.get('model_fingerprint')}, and the model has {weights}. "
            "Evaluate this model again.",
        )
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    table = pd.read_parquet(directory / "predictions.parquet")
    ids = arrays["id"].astype(str)
    patients = dict(zip(table["id"].astype(str), table["patient_id"].astype(str), strict=True))
    return Gallery(
        embeds={name: arrays[f"{name}_embeds"] for name in MODALITIES},
        masks={name: arrays[f"{name}_mask"].astype(bool) for name in MODALITIES},
        ids=ids,
        patient_ids=np.array([patients.get(name, name) for name in ids]),
        outcomes=_outcomes(table, ids, model.config.tasks),
    )


def _outcomes(
    table: pd.DataFrame, ids: np.ndarray, tasks: Mapping[str, Mapping[str, Any]]
) -> tuple[Mapping[str, str], ...]:
    """Say what happened to each admission, for each task with a label."""
    result: dict[str, dict[str, str]] = {name: {} for name in ids}
    for row in table.drop_duplicates(["id", "task"]).itertuples():
        settings = tasks.get(row.task)
        if settings is None:
            continue
        if settings["kind"] == "diagnosis" and row.label == row.label and row.label is not None:
            result[str(row.id)][row.task] = settings["candidates"][int(row.label)]
        elif settings["kind"] == "prognosis" and row.time == row.time and row.time is not None:
            event = "event" if row.event == 1 else "no event"
            result[str(row.id)][row.task] = f"{event} up to day {row.time:.0f}"
        elif settings["kind"] == "regression" and row.measured == row.measured:
            result[str(row.id)][row.task] = f"{row.measured:.4g} {settings['unit']}"
        elif settings["kind"] == "multilabel" and row.num_known == row.num_known:
            present = [name for name, code in zip(settings["findings"], row.findings, strict=True) if code == 1]
            result[str(row.id)][row.task] = ", ".join(present) or "no finding"
    return tuple(result[name] for name in ids)


def nearest(
    gallery: Gallery, embeds: Mapping[str, Any], number: int = 5, identifier: str | None = None
) -> list[dict[str, Any]]:
    """Find the nearest patients of the gallery that have all modalities of the patient.

    Args:
        gallery: from `read_gallery`.
        embeds: modality -> unit vector of the patient.
        number: how many patients to return at most, each with the nearest admission only.
        identifier: name of the patient or admission, whose admissions are left out.

    Returns:
        Nearest first: {"similarity": mean cosine over the modalities, "outcomes": task -> words, "id": name of the
        admission, "same": whether it is probably the same recording}.
    """
    names = [name for name in MODALITIES if name in embeds]
    if not names:
        return []
    similarity = np.mean([gallery.embeds[name] @ np.asarray(embeds[name], float) for name in names], axis=0)
    usable = np.all([gallery.masks[name] for name in names], axis=0)
    if identifier is not None:
        same_patient = {identifier, *gallery.patient_ids[gallery.ids == identifier]}
        usable &= ~np.isin(gallery.patient_ids, list(same_patient))
    result: list[dict[str, Any]] = []
    shown: set[str] = set()
    for place in np.argsort(-similarity, kind="stable"):
        if usable[place] and gallery.patient_ids[place] not in shown and len(result) < number:
            shown.add(gallery.patient_ids[place])
            value = float(similarity[place])
            result.append(
                {
                    "similarity": value,
                    "outcomes": dict(gallery.outcomes[place]),
                    "id": str(gallery.ids[place]),
                    "same": value > SAME,
                }
            )
    return result
