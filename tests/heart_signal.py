"""A plain heart for tests: the one that the package's scripts use too."""

from tgmm_hf.cohorts.synthetic.plain_heart import make_heart

__all__ = ["make_heart"]
