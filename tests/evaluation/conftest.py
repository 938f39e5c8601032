"""Fixtures of the rooms evaluation and reports: predictions of a fake model, and their figures."""

from fake_model import cohort, groups, metrics, predictions, validation

__all__ = ["cohort", "groups", "metrics", "predictions", "validation"]
