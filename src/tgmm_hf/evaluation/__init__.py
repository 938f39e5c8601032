"""Figures with intervals, survival curves, retrieval, and the report of `tgmm evaluate`."""
