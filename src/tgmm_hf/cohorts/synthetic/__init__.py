"""Synthetic tri-modal cohort whose optimum is known (see docs/synthetic.md)."""

from tgmm_hf.cohorts.synthetic.cohort import write_cohort

__all__ = ["write_cohort"]
