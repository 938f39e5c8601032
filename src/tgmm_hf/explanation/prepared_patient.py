"""Explain the patients of prepared data, whose inputs are stored and not read from files."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.lab_rows import stored_labs
from tgmm_hf.explanation.explain import methods_of, steps
from tgmm_hf.explanation.scoring import PatientScore
from tgmm_hf.explanation.units import Units, ecg_units, echo_units, lab_units
from tgmm_hf.inputs.lab_text import LabsText


class PreparedPatient:
    """One patient of prepared data: score, units and attributions, computed when asked for.

    Args:
        model: `TgmmModel`.
        processor: its processor.
        collator: makes inputs of a prepared row.
        row: the prepared row.
        question: what is explained.
    """

    def __init__(self, model: Any, processor: Any, collator: TgmmCollator, row: Mapping[str, Any], question: Any):
        self.processor, self.collator, self.row, self.question = processor, collator, row, question
        inputs = {name: value for name, value in collator([row]).items() if name not in ("labels", "id")}
        self.score = PatientScore(model, inputs, question)
        self.labs = processor.write_labs(LabsText.from_stored(stored_labs(row)))

    def units(self, modality: str) -> Units:
        """Make the units of a modality that the patient has."""
        if modality == "labs":
            return lab_units(self.score, self.processor, self.labs)
        return ecg_units(self.score) if modality == "ecg" else echo_units(self.score)

    def values(self, modality: str, units: Units) -> dict[str, np.ndarray]:
        """Compute method -> values (units,) of all methods of a modality."""
        chosen = {modality: methods_of(self.score.model)[modality]}
        methods = steps(self.score, self.processor, self.labs, chosen, views=False)
        return {name: units.values(method()) for _, name, method in methods}
