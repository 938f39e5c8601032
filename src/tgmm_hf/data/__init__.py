"""Cohort table -> prepared shards -> batches."""
