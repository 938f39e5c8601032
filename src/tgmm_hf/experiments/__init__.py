"""Grids of trainings, and searches for settings."""
