"""All kinds of hostile inputs."""

import kinds_ecg
import kinds_ecg_dicom
from trials import KINDS

MODULES = (kinds_ecg, kinds_ecg_dicom)
"""Importing a module registers its kinds."""

__all__ = ["KINDS", "MODULES"]
