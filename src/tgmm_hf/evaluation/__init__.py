"""Figures with intervals, comparisons, simple models and tables."""
