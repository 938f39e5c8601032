"""Mark inputs of a patient that are unlike the inputs of the training.

This is the one place where a prediction is compared with the training. It needs no list of faults, so it finds kinds of
fault that nobody foresaw, and it also marks a good input of a kind that the model never saw. An input that is marked is
used as it is. Why, and what it finds: docs/decisions/263-inputs-unlike-the-training.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .ecg_summary import WORDS as ECG_WORDS
from .ecg_summary import summarise_ecg
from .echo_summary import WORDS as ECHO_WORDS
from .echo_summary import summarise_clip
from .lab_cells import LabCell
from .lab_findings import Finding, lab_finding
from .lab_scales import number_of
from .training_likeness import Excess, Likeness, scores_of, unpack

ECG, ECHO, LABS = "ecg_unlike_training", "echo_unlike_training", "labs_unlike_training"
"""Codes of the findings."""


class TrainedInputs:
    """Descriptions of the training inputs, by modality.

    Args:
        content: modality -> what `fit_likeness` returned. A modality without a description is not compared. "weights"
            names the weights that were trained on the inputs.

    Attributes:
        fitted: names the weights, as `Binding.fits` takes it.
    """

    def __init__(self, content: Mapping[str, Any]):
        self.labs, self.ecg, self.echo = (
            Likeness(content[name]) if content.get(name) else None for name in ("labs", "ecg", "echo")
        )
        self.fitted = {"weights": content.get("weights")}

    def check_ecg(self, signal: np.ndarray, mask: np.ndarray, rate: float) -> list[Finding]:
        """Compare a recording (12, samples) in `rate` Hz with usable leads `mask` (12,)."""
        if self.ecg is None:
            return []
        compared = _Compared(self.ecg, summarise_ecg(signal, mask, rate))
        if not compared.is_unlike:
            return []
        name = compared.strangest
        _, _, lead = name.partition(".")
        item = f"ecg.{lead}" if lead and "." not in lead else "ecg"
        return [{"code": ECG, "item": item, "text": compared.text(ECG_WORDS, lead.replace(".", " and "))}]

    def check_clips(self, clips: Mapping[str, np.ndarray], counts: Mapping[str, int]) -> dict[str, Finding]:
        """Compare clips: view -> finding.

        Args:
            clips: view -> (frames, size, size, 3) uint8 BGR, as the model reads it.
            counts: view -> number of real frames.
        """
        findings: dict[str, Finding] = {}
        if self.echo is None:
            return findings
        for view, frames in clips.items():
            compared = _Compared(self.echo, summarise_clip(frames, counts[view]), view)
            if compared.is_unlike:
                cell = compared.strangest.partition(".")[2]
                where = f"row {cell[1]}, column {cell[3]} of 8 x 8 parts" if cell else ""
                findings[view] = {"code": ECHO, "item": view, "text": compared.text(ECHO_WORDS, where)}
        return findings

    def check_labs(self, cells: Iterable[LabCell]) -> list[Finding]:
        """Compare the numbers of laboratory cells. Each cell that is unlike the training has a finding."""
        if self.labs is None:
            return []
        compared = _Compared(self.labs, lab_numbers(cells))
        findings = []
        for place in compared.unlike_places():
            name = compared.likeness.names[place]
            column = name.rpartition(" (")[0]
            findings.append(lab_finding(LABS, column, compared.sentence(place, _lab_text)))
        return findings


@lru_cache(maxsize=4)
def trained_inputs(packed: str | None) -> TrainedInputs:
    """Read packed descriptions once; None gives descriptions of nothing.

    Raises:
        ValueError: if the text is nothing that `pack` wrote, or its content is no description.
    """
    content = {} if packed is None else unpack(packed)
    try:
        return TrainedInputs(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the description of the training inputs cannot be used ({type(error).__name__}: {error}); restore "
            "processor_config.json, or train again"
        ) from error


def trained_before(packed: str | None, codes: Iterable[str], binding: Any) -> list[str]:
    """Note that the model was trained further since its inputs were described, if an input was marked.

    Args:
        packed: descriptions of a processor.
        codes: of the findings of a patient.
        binding: the `Binding` of model and processor.
    """
    if packed is None or not {ECG, ECHO, LABS} & set(codes) or binding.fits(trained_inputs(packed).fitted):
        return []
    return [
        "model: its weights are not those of the training whose inputs were described, so what is unlike this training "
        "may be like a later one"
    ]


def lab_numbers(cells: Iterable[LabCell]) -> dict[str, float]:
    """Return the numbers of laboratory cells: "column (unit)" -> arcsinh of the value."""
    numbers = {}
    for cell in cells:
        if (number := number_of(cell)) is not None:
            unit = cell.unit if cell.column is None else cell.column.unit
            numbers[f"{cell.name} ({unit})"] = float(np.arcsinh(number))
    return numbers


class _Compared:
    """An input and its description.

    Args:
        likeness: the description of the training.
        values: name -> value of the input.
        group: of the input, such as its view.
    """

    def __init__(self, likeness: Likeness, values: Mapping[str, float], group: str = ""):
        self.likeness, self.group = likeness, group
        self.values = likeness.vector(values)
        self.excess: Excess = likeness.excess(self.values, [group])

    @property
    def is_unlike(self) -> bool:
        """Whether the input is unlike the training."""
        has_numbers = not np.isnan(self.values).all()
        return has_numbers and bool((scores_of(self.excess)[0] > self.likeness.limits).any())

    @property
    def largest(self) -> np.ndarray:
        """The larger excess of each number, (numbers,)."""
        return np.asarray(np.maximum(self.excess.alone[0], self.excess.given[0]))

    @property
    def strangest(self) -> str:
        """Name of the number that strays most."""
        return self.likeness.names[int(self.largest.argmax())]

    def unlike_places(self) -> Sequence[int]:
        """Return the places of the numbers that are above the limit by themselves; of the strangest without one.

        A value that is far off makes the others seem not to fit, so these are not named.
        """
        if not self.is_unlike:
            return []
        places = np.flatnonzero(np.log1p(self.excess.alone[0]) > self.likeness.limits[0])
        return places.tolist() or [int(self.largest.argmax())]

    def text(self, words: Mapping[str, tuple[str, bool]], where: str) -> str:
        """Write what is unusual about the input.

        Args:
            words: first part of a name -> its words, and whether its value is a logarithm.
            where: lead, leads or place of the strangest number.
        """
        place = int(self.largest.argmax())
        first = self.likeness.names[place].partition(".")[0]
        subject, is_log = words[first]

        def written(value: float) -> str:
            return f"{np.exp(value) if is_log else value:.2g}"

        sentence = self.sentence(place, lambda _, value: written(value), subject)
        return f"{where}: {sentence}" if where else sentence

    def sentence(self, place: int, written: Any, subject: str = "the value") -> str:
        """Write a value beside those of the training.

        Args:
            place: of the number.
            written: writes a value, from the name of the number and the value.
            subject: what the number is.
        """
        name = self.likeness.names[place]
        low, high = self.likeness.usual_range(place, self.group)
        usual = f"{written(name, low)} to {written(name, high)}"
        share = f"{100 * self.likeness.usual_share(place):.0f} %"
        trained = f"{share} of {self.likeness.number} {self.likeness.unit} of the training have {usual}"
        value = float(self.values[0, place])
        start = f"{subject} is {written(name, value)}"
        if self.excess.given[0, place] <= self.excess.alone[0, place]:
            return f"{start}; {trained}"
        expected = written(name, float(self.excess.expected[0, place]))
        return f"{start}, and about {expected} would fit the other numbers of this input; {trained}"


def _lab_text(name: str, value: float) -> str:
    """Write the value of a laboratory column with its unit, from its arcsinh."""
    unit = name.rpartition(" (")[2].rstrip(")")
    return f"{np.sinh(value):.3g} {unit}".rstrip()


__all__ = ["ECG", "ECHO", "LABS", "TrainedInputs", "lab_numbers", "trained_before", "trained_inputs"]
