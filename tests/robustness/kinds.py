"""All kinds of hostile inputs."""

import kinds_ecg
import kinds_ecg_dicom
import kinds_ecg_heart
import kinds_echo
import kinds_echo_study
import kinds_labs
import kinds_models
import kinds_tables
from trials import KINDS

MODULES = (
    kinds_ecg,
    kinds_ecg_dicom,
    kinds_ecg_heart,
    kinds_labs,
    kinds_echo,
    kinds_echo_study,
    kinds_tables,
    kinds_models,
)
"""Importing a module registers its kinds."""

__all__ = ["KINDS", "MODULES"]
