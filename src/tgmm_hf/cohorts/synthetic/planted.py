"""Where the evidence of a synthetic patient lies: which cells, which moments of which lead, which pixels.

The files of a patient are rendered twice, with the patient's state on the axis of the modality half a unit lower and
half a unit higher, and with the same nuisance. What differs between the two is what tells about the state. The rhythm
is a second, weaker source of evidence. It changes whole beats, or the left atrium, and is not part of these maps.
"""

import numpy as np

from tgmm_hf.cohorts.synthetic.cohort import ecg_variation
from tgmm_hf.cohorts.synthetic.evidence import DRUGS, HISTORY, PARAMETERS, Evidence
from tgmm_hf.cohorts.synthetic.patients import ECG, ECHO, Settings
from tgmm_hf.cohorts.synthetic.render_ecg import MIMIC_LEADS, render_ecg
from tgmm_hf.cohorts.synthetic.render_echo import render_clip
from tgmm_hf.utils.names import LEADS, VIEWS

SHIFT = 0.5
"""Shift of the state in both directions, in units of the axis. One unit is a standard deviation within a class."""

EVIDENCE_CELLS = (*(p.name for p in PARAMETERS if p.modality == "labs"), HISTORY, DRUGS)
"""Laboratory columns that tell about the state. All other columns are neutral."""


def ecg_evidence(settings: Settings, index: int) -> np.ndarray:
    """Compute how much each sample of a patient's ECG changes with the state: (12, 5000) mV, 500 Hz, order of `LEADS`.

    The ECG is compared before a centre's device samples and filters it.

    Args:
        settings: settings of the cohort.
        index: number of the patient.
    """
    low, high = (
        render_ecg(_shifted(settings, index, "ecg", shift), settings.stream(index, ECG), ecg_variation(settings, index))
        for shift in (-SHIFT, SHIFT)
    )
    order = [MIMIC_LEADS.index(lead) for lead in LEADS]
    return np.abs(high - low).T[order]


def clip_evidence(settings: Settings, index: int, view: str) -> np.ndarray:
    """Compute how much each pixel of a patient's clip changes with the state: (frames, height, width) grey levels.

    Brightness and colour count alike. Arguments as in `ecg_evidence`; `view` is one of `VIEWS`.
    """
    low, high = (
        render_clip(
            _shifted(settings, index, "echo", shift),
            view,
            settings.stream(index, ECHO + VIEWS.index(view)),
            *settings.clip_size,
            settings.site.echo,
        )
        for shift in (-SHIFT, SHIFT)
    )
    change = np.abs(high.luma.astype(np.float32) - low.luma)
    for one, other in ((high.blue, low.blue), (high.red, low.red)):
        change += np.repeat(np.abs(one.astype(np.float32) - other), 2, axis=2)
    return change


def _shifted(settings: Settings, index: int, modality: str, shift: float) -> Evidence:
    """Draw the evidence of a patient, with the parameters of the modality's axis moved by `shift`."""
    table = settings.intended(index)
    for column, parameter in enumerate(PARAMETERS):
        if parameter.modality == modality and parameter.source == "axis":
            table.values[:, column] += shift
    return table
