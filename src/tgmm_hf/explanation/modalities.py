"""How much labs, ECG and echo contributed: exact Shapley values over the subsets of modalities that are present."""

import numpy as np

from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.scoring import PatientScore
from tgmm_hf.explanation.shapley import shapley_values, subsets_of
from tgmm_hf.utils.names import MODALITIES

NO_MODALITY = "no modality: all candidates equally likely, or a risk score of zero"


def explain_modalities(patient: PatientScore) -> Attribution:
    """Attribute the score to the modalities that the patient has. NaN marks a modality that is absent."""
    present = patient.present
    scores = np.array(
        [
            patient.of_subset(tuple(name for name, is_in in zip(present, row, strict=True) if is_in))
            for row in subsets_of(len(present))
        ]
    )
    shares = shapley_values(scores)
    values = np.full(len(MODALITIES), np.nan)
    values[[MODALITIES.index(name) for name in present]] = shares
    ends = {"output": float(scores[-1]), "baseline_output": float(scores[0]), "summed": True}
    axes = (Axis("modality", MODALITIES),)
    return patient.attribution("modalities", "shapley", values, axes, baseline=NO_MODALITY, **ends)
