"""Explanations of one prediction: how much each lab cell, ECG sample, echo region, modality and slot contributed."""
