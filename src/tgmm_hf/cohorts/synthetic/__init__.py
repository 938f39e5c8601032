"""Synthetic tri-modal cohort with known Bayes-optimal references (issue section 4; see docs/synthetic.md)."""

from tgmm_hf.cohorts.synthetic.cohort import write_cohort

__all__ = ["write_cohort"]
