"""Synthetic patients to try the page with. They are made at the first start and stay on this machine."""

import os
from pathlib import Path

from tgmm_hf.cohorts.synthetic.cohort import write_cohort
from tgmm_hf.data.prediction import Patient, patients_from_table
from tgmm_hf.utils.names import MODALITIES

NUMBER = 4
"""Number of synthetic patients."""
SEED = 1
"""Another seed than that of the demo, so that its model has not seen the patients."""
WORDS = {"labs": "labs", "ecg": "ECG", "echo": "echo"}


def default_directory() -> Path:
    """Return the directory of the synthetic patients in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "tgmm-hf" / "app-examples"


def synthetic_patients(directory: Path) -> dict[str, Patient]:
    """Return the synthetic patients, and make them if they are not there yet.

    Args:
        directory: Directory of the cohort. It is made as by `tgmm synth`.

    Returns:
        What the page calls a patient -> the patient as the pipeline takes it. Some lack a modality, as in a hospital.
    """
    table = write_cohort(directory, NUMBER, SEED, "strong", workers=1, height=120, width=160, all_test=True)
    patients = patients_from_table(table)
    patients[1]["echo"] = patients[1]["views"] = None
    patients[2]["ecg"] = None
    return {_title(number, patient): patient for number, patient in enumerate(patients, start=1)}


def _title(number: int, patient: Patient) -> str:
    """Name a patient by number and modalities."""
    inputs = ", ".join(WORDS[name] for name in MODALITIES if patient.get(name) is not None)
    return f"Synthetic patient {number}: {inputs}"
