"""Hold an attribution: one number for each part of an input, and what the numbers mean.

All methods of this room return an [`Attribution`], for labs, ECG, echo, modalities, views and slots. So the report, the
web page and the faithfulness check read one form.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Axis:
    """One axis of the values of an attribution.

    Attributes:
        name: what lies along the axis: "cell", "token", "lead", "sample", "view", "frame", "row", "column", "modality"
            or "slot".
        labels: one text for each position, such as the leads' names; None where positions are plain numbers.
        step: distance between two positions in `unit`, for an axis without labels. 0.004 s for samples at 250 Hz.
        start: position 0 in `unit`.
        unit: "s", "px" or "".
    """

    name: str
    labels: tuple[str, ...] | None = None
    step: float = 1.0
    start: float = 0.0
    unit: str = ""


@dataclass(frozen=True)
class Attribution:
    """How much each part of an input contributed to one answer of the model.

    Attributes:
        modality: "labs", "ecg", "echo", "modalities", "views" or "slots".
        method: such as "shap", "grad_cam_plus_plus" or "integrated_gradients".
        task: name of the task whose answer is explained.
        target: the candidate that is explained, such as "heart failure"; "risk" for a prognosis.
        values (`np.ndarray`, one dimension per axis, floating point): positive values speak for the target. NaN marks
            a part that the input lacks, such as an unusable lead.
        axes: what the dimensions of `values` are.
        unit: unit of the values: "log-odds" of the target against all other candidates, "log hazard ratio", or
            "relative" for maps without a unit, such as Grad-CAM.
        baseline: what stands in place of a part that is taken away, in words.
        output: the explained quantity for the whole input, in `unit` of the quantity, not of the map.
        baseline_output: the same quantity for the baseline; None if the method has no baseline.
        completeness_error: |sum of values - (output - baseline_output)|; None if the method promises no sum.
        notes: sentences for the reader, such as the resolution of a map.
    """

    modality: str
    method: str
    task: str
    target: str
    values: np.ndarray
    axes: tuple[Axis, ...]
    unit: str
    baseline: str
    output: float
    baseline_output: float | None = None
    completeness_error: float | None = None
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check that the axes fit the values.

        Raises:
            ValueError: if the number of axes or the number of labels differs from the shape of the values.
        """
        if len(self.axes) != self.values.ndim:
            raise ValueError(
                f"an attribution of {self.values.ndim} dimensions needs as many axes, got {len(self.axes)}"
            )
        for axis, size in zip(self.axes, self.values.shape, strict=True):
            if axis.labels is not None and len(axis.labels) != size:
                raise ValueError(f"axis {axis.name!r} has {len(axis.labels)} labels for {size} positions")

    def to_dict(self) -> dict[str, Any]:
        """Return the attribution as JSON values. NaN becomes None."""
        return {
            "modality": self.modality,
            "method": self.method,
            "task": self.task,
            "target": self.target,
            "unit": self.unit,
            "baseline": self.baseline,
            "output": self.output,
            "baseline_output": self.baseline_output,
            "completeness_error": self.completeness_error,
            "axes": [_axis_to_dict(axis) for axis in self.axes],
            "values": _without_nan(self.values),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Attribution":
        """Build an attribution from what `to_dict` returned."""
        plain_fields = {key: stored[key] for key in stored if key not in ("values", "axes", "notes")}
        axes = tuple(_axis_from_dict(axis) for axis in stored["axes"])
        values = np.array(stored["values"], dtype=float)  # None becomes NaN
        return cls(values=values, axes=axes, notes=tuple(stored["notes"]), **plain_fields)

    def strongest(self, number: int) -> list[tuple[tuple[str | int, ...], float]]:
        """Return the positions with the largest absolute values, largest first.

        Args:
            number: how many positions to return at most. Positions with NaN are left out.

        Returns:
            (position, value) pairs. A position has one entry per axis: the label, or the index without labels.
        """
        flat = self.values.ravel()
        order = [index for index in np.argsort(-np.abs(flat), kind="stable") if not np.isnan(flat[index])]
        return [(self._position(index), float(flat[index])) for index in order[:number]]

    def _position(self, index: int) -> tuple[str | int, ...]:
        """Name a position of the flattened values, one entry per axis."""
        indices: Sequence[int] = [int(place) for place in np.unravel_index(index, self.values.shape)]
        return tuple(
            place if axis.labels is None else axis.labels[place] for axis, place in zip(self.axes, indices, strict=True)
        )


def _without_nan(values: np.ndarray) -> list[Any]:
    """Return the values as nested lists, with None in place of NaN because JSON has no NaN."""
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return plain.tolist()


def _axis_to_dict(axis: Axis) -> dict[str, Any]:
    """Return an axis as JSON values."""
    labels = None if axis.labels is None else list(axis.labels)
    return {"name": axis.name, "labels": labels, "step": axis.step, "start": axis.start, "unit": axis.unit}


def _axis_from_dict(stored: dict[str, Any]) -> Axis:
    """Build an axis from what `_axis_to_dict` returned."""
    labels = None if stored["labels"] is None else tuple(stored["labels"])
    return Axis(stored["name"], labels, stored["step"], stored["start"], stored["unit"])
