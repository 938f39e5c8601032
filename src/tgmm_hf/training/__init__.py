"""Training, pre-training, checkpoints and the cache of frozen features."""
