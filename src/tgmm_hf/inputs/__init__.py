"""Files -> arrays -> tensors, shared by every family of models."""
