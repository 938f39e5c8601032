"""Names of the parts of Heartcare."""

PARTS = ("beat", "ecg_projector", "vision_tower", "image_projector", "language_model")
"""Attributes of [`HeartcareForConditionalGeneration`], and what a training names. Without torch, for the settings."""

__all__ = ["PARTS"]
