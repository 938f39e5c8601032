"""Units of an input that can be hidden one by one: lab cells, ECG tokens, echo regions.

All methods of a modality are compared on the same units, whatever their own resolution. Hiding a unit means: the cell
leaves the text, the token becomes a flat line, the region gets the mean colour in all frames.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.echo import echo_axes, region_grid
from tgmm_hf.explanation.labs import score_cells, used_cells
from tgmm_hf.explanation.scoring import PatientScore
from tgmm_hf.explanation.views import encode_clips, score_views, view_features
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.utils.names import LEADS, VIEWS

PIECE = 75
"""Samples of a patch of the published ST-MEM, 300 ms."""
SCORED_TOGETHER = 32
"""Changed inputs that are scored together."""
CLIPS_TOGETHER = 16
"""Changed clips that are encoded together."""


@dataclass(frozen=True)
class Units:
    """The units of one modality of one patient.

    Attributes:
        shape: (cells,), (leads, tokens) or (views, rows, columns).
        present: bool of this shape, True for a unit that the patient has.
        score: function from kept units (n, number of units that are present) bool to scores (n,).
    """

    shape: tuple[int, ...]
    present: np.ndarray
    score: Callable[[np.ndarray], np.ndarray]

    def values(self, attribution: Attribution) -> np.ndarray:
        """Bring an attribution to the units that are present: sums of its values, (units,)."""
        return to_units(attribution.values, self.shape)[self.present]

    def full(self, values: np.ndarray) -> np.ndarray:
        """Put values (units,) of the units that are present into the full shape; NaN elsewhere."""
        result = np.full(self.shape, np.nan)
        result[self.present] = values
        return result


def to_units(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum values over blocks so that they get the shape of units. NaN counts as zero.

    Args:
        values: (cells,), (leads, samples or tokens) or (views, frames, rows, columns).
        shape: of the units. An axis of `values` is a multiple of its axis of the units; frames are summed.

    Raises:
        ValueError: if an axis is no multiple.
    """
    values = np.nan_to_num(values)
    if values.ndim == 4:
        values = values.sum(1)
    if values.ndim != len(shape) or any(size % units for size, units in zip(values.shape, shape, strict=True)):
        raise ValueError(f"values of shape {values.shape} do not divide into units of shape {shape}")
    for axis, units in enumerate(shape):
        split = (*values.shape[:axis], units, values.shape[axis] // units, *values.shape[axis + 1 :])
        values = values.reshape(split).sum(axis + 1)
    return values


def lab_units(patient: PatientScore, processor: Any, labs: LabsText) -> Units:
    """Make the units of a lab row: its cells in the order of the text."""
    row = used_cells(labs)
    shape = (len(row.cells),)
    return Units(shape, np.ones(shape, bool), score_cells(patient, processor, row))


def ecg_units(patient: PatientScore) -> Units:
    """Make the units of an ECG: usable leads x tokens of ST-MEM (300 ms), or as long pieces for another encoder."""
    values, mask = patient.inputs["ecg_values"], patient.inputs["ecg_mask"]
    shape = (len(LEADS), values.shape[-1] // _piece_of(patient.model.config.ecg_config))
    present = np.repeat(mask[0].cpu().numpy().astype(bool)[:, None], shape[1], axis=1)

    @torch.no_grad()
    def scores(kept: np.ndarray) -> np.ndarray:
        parts = []
        for rows in np.split(kept, range(SCORED_TOGETHER, len(kept), SCORED_TOGETHER)):
            full = np.zeros((len(rows), *shape), np.float32)
            full[:, present] = rows
            shown = torch.from_numpy(full).to(values).repeat_interleave(values.shape[-1] // shape[1], dim=2)
            arguments = {"ecg_values": values * shown, "ecg_mask": mask.expand(len(rows), -1)}
            parts.append(patient.with_inputs("ecg", **arguments).double().cpu().numpy())
        return np.concatenate(parts)

    return Units(shape, present, scores)


def echo_units(patient: PatientScore) -> Units:
    """Make the units of an echo: views that are present x regions, see `region_grid`."""
    clips, mask = patient.inputs["pixel_values_videos"][0], patient.inputs["view_mask"][0].bool()
    shape = (len(VIEWS), *region_grid(patient.model.config.echo_config))
    views = np.flatnonzero(mask.cpu().numpy())
    present = np.broadcast_to(mask.cpu().numpy()[:, None, None], shape)
    with torch.no_grad():
        whole, blank = view_features(patient), encode_clips(patient, torch.zeros_like(clips[:1]))[0]

    @torch.no_grad()
    def scores(kept: np.ndarray) -> np.ndarray:
        parts = []
        for rows in np.split(kept, range(SCORED_TOGETHER, len(kept), SCORED_TOGETHER)):
            full = np.zeros((len(rows), *shape), bool)
            full[:, present] = rows
            features = whole.repeat(len(rows), 1, 1)
            # A view that is shown whole or hidden whole is not encoded again.
            features[torch.from_numpy(~full.any((2, 3))).to(mask.device) & mask] = blank
            changed = [(n, v) for n in range(len(rows)) for v in views if full[n, v].any() and not full[n, v].all()]
            for start in range(0, len(changed), CLIPS_TOGETHER):
                batch = changed[start : start + CLIPS_TOGETHER]
                shown = torch.from_numpy(np.stack([full[n, v] for n, v in batch])).to(clips)
                shown = shown.repeat_interleave(clips.shape[-2] // shape[1], 1)
                shown = shown.repeat_interleave(clips.shape[-1] // shape[2], 2)[:, None, None]
                encoded = encode_clips(patient, clips[[int(v) for _, v in batch]] * shown)
                for (n, v), feature in zip(batch, encoded, strict=True):
                    features[n, v] = feature
            parts.append(score_views(patient, features, mask.expand(len(rows), -1)).double().cpu().numpy())
        return np.concatenate(parts)

    return Units(shape, present, scores)


def _piece_of(config: Any) -> int:
    """Return the number of samples that are hidden together: a patch, or what divides the window most like one."""
    if hasattr(config, "patch_size"):
        return int(config.patch_size)
    divisors = (size for size in range(1, config.seq_length + 1) if config.seq_length % size == 0)
    return min(divisors, key=lambda size: abs(size - PIECE))


def occlusion(units: Units, within: Callable[[float], None] | None = None) -> np.ndarray:
    """Compute the score minus the score without each unit: values of the full shape of the units, NaN for absent ones.

    It needs one pass for each unit. The values do not sum to the score, because units act together.

    Args:
        units: of one modality.
        within: called with the share of the units that are done, 0 to 1.
    """
    number = int(units.present.sum())
    kept = np.concatenate([np.ones((1, number), bool), ~np.eye(number, dtype=bool)])
    parts = []
    for start in range(0, len(kept), SCORED_TOGETHER):
        if within is not None:
            within(start / len(kept))
        parts.append(units.score(kept[start : start + SCORED_TOGETHER]))
    scores = np.concatenate(parts)
    return units.full(scores[0] - scores[1:])


def explain_ecg_by_occlusion(
    patient: PatientScore, sampling_rate: float, within: Callable[[float], None] | None = None
) -> Attribution:
    """Attribute the score to ECG tokens by hiding one after the other: (12 leads, tokens)."""
    units = ecg_units(patient)
    seconds = _piece_of(patient.model.config.ecg_config) / sampling_rate
    axes = Axis("lead", LEADS), Axis("token", None, seconds, 0.0, "s")
    more = {"unit": patient.question.unit, "baseline": "a flat line in place of one token"}
    return patient.attribution("ecg", "occlusion", occlusion(units, within), axes, **more)


def explain_echo_by_occlusion(patient: PatientScore, within: Callable[[float], None] | None = None) -> Attribution:
    """Attribute the score to echo regions by hiding one after the other: (11 views, 1, rows, columns)."""
    values = occlusion(echo_units(patient), within)[:, None]
    more = {"unit": patient.question.unit, "baseline": "the mean colour in place of one region, in all frames"}
    return patient.attribution("echo", "occlusion", values, echo_axes(patient, values.shape), **more)
