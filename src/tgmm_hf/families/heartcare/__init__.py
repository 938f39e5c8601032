"""Heartcare: an ECG as a row of codes (the tokenizer Beat), for a language model (arXiv 2506.05831)."""
