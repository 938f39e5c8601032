"""MEIT: a report about an ECG, written by a language model that was tuned on instructions (Wan et al. 2024)."""
