"""The fusion's slots, gates and attention: of one patient, and averaged over groups (paper, figure 8).

Attention shows where the model looks. It is no attribution, because it says nothing about the direction.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.scoring import PatientScore
from tgmm_hf.utils.names import MODALITIES, SLOT_NAMES


def explain_slots(patient: PatientScore) -> tuple[Attribution, ...]:
    """Collect slot map, gates and the candidates' attention to the slots.

    Returns:
        "slot_attention" (7, 7), row = slot that asks, column = slot that is read; "candidate_attention" (candidates,
        7); "gates" (7 slots, 3 modalities). NaN marks what the patient does not have. A map that the model's
        settings do not give is left out.
    """
    with torch.no_grad():
        output = patient.model.answer(patient.encoded, patient.question.task)
    mask = output.slot_mask[0].cpu().numpy()
    if len(mask) != len(SLOT_NAMES):
        return ()
    candidates = tuple(patient.model.config.tasks[patient.question.task]["candidates"])
    maps = []
    if output.slot_attentions is not None:
        attention = np.where(mask[:, None] & mask[None, :], _array(output.slot_attentions), np.nan)
        maps.append(_map(patient, "slot_attention", attention, (Axis("slot", SLOT_NAMES), Axis("slot", SLOT_NAMES))))
    if output.candidate_attentions is not None:
        attention = np.where(mask[None, :], _array(output.candidate_attentions), np.nan)
        axes = Axis("candidate", candidates), Axis("slot", SLOT_NAMES)
        maps.append(_map(patient, "candidate_attention", attention, axes))
    if output.gates:
        axes = Axis("slot", SLOT_NAMES), Axis("modality", MODALITIES)
        maps.append(_map(patient, "gates", _gates(output.gates, mask), axes))
    return tuple(maps)


def mean_of(attributions: Sequence[Attribution]) -> Attribution:
    """Average attributions of several patients, position by position. NaN of a patient is left out.

    Raises:
        ValueError: if there is none, or they differ in method, task, target or axes.
    """
    if not attributions:
        raise ValueError("There is no attribution to average.")
    first = attributions[0]
    for other in attributions[1:]:
        same = (other.modality, other.method, other.task, other.target) == (
            first.modality,
            first.method,
            first.task,
            first.target,
        )
        if not same or other.axes != first.axes:
            raise ValueError(
                f"{other.method} of {other.task} ({other.target}) and {first.method} of {first.task} ({first.target}) "
                "cannot be averaged: method, task, target and axes must be equal."
            )
    stacked = np.stack([attribution.values for attribution in attributions])
    counts = (~np.isnan(stacked)).sum(0)
    values = np.where(counts > 0, np.nansum(stacked, axis=0) / np.maximum(counts, 1), np.nan)
    output = float(np.mean([attribution.output for attribution in attributions]))
    notes = (f"mean over {len(attributions)} patients",)
    return replace(first, values=values, output=output, baseline_output=None, completeness_error=None, notes=notes)


def _array(tensor: torch.Tensor) -> np.ndarray:
    """Return the first patient's values as float64."""
    return tensor[0].detach().double().cpu().numpy()


def _gates(gates: dict[str, dict[str, torch.Tensor]], mask: np.ndarray) -> np.ndarray:
    """Return the mean gates (7 slots, 3 modalities) of the first patient; NaN where there is no gate."""
    values = np.full((len(SLOT_NAMES), len(MODALITIES)), np.nan)
    for row, slot in enumerate(SLOT_NAMES):
        for name, gate in gates.get(slot, {}).items():
            if mask[row]:
                values[row, MODALITIES.index(name)] = float(gate[0])
    return values


def _map(patient: PatientScore, method: str, values: np.ndarray, axes: tuple[Axis, ...]) -> Attribution:
    """Make an attribution of the slots, whose values are shares without a direction."""
    note = "a share of attention or a gate between 0 and 1, without a direction"
    return patient.attribution("slots", method, values, axes, notes=(note,))
