"""`tgmm curate`: MIMIC-IV, MIMIC-IV-ECG and MIMIC-IV-ECHO as PhysioNet ships them -> cohort.parquet (docs/data.md)."""

from .cohort import curate
from .rules import CurateRules

__all__ = ["CurateRules", "curate"]
