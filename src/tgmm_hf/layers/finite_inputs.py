"""Refuse inputs of the model that are not finite, because one NaN makes every answer of the batch NaN in silence."""

import torch

from .input_shapes import may_look


def refuse_not_finite(values: torch.Tensor, mask: torch.Tensor, name: str) -> None:
    """Raise if a usable lead or view holds NaN or infinity.

    A compiled or exported model is not checked, because the check depends on the data. Elsewhere it costs one sum.

    Args:
        values: (B, leads or views, ...).
        mask: (B, leads or views) bool, True for a usable one. The others may hold anything.
        name: the argument of `forward`, for the message.

    Raises:
        ValueError: with the first patient and the first lead or view that is not finite.
    """
    if not may_look(values):
        return
    with torch.no_grad():
        is_wrong = ~values.flatten(2).sum(-1, dtype=torch.float32).isfinite() & mask
        if not is_wrong.any():
            return
        patient, place = is_wrong.nonzero()[0].tolist()
    raise ValueError(
        f"{name} holds NaN or infinity for patient {patient}, lead or view {place} (both counted from 0). Mask what is "
        "missing, and let the processor prepare the values."
    )


__all__ = ["refuse_not_finite"]
