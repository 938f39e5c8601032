"""Refuse inputs of the model that have another shape, type or range than the processor gives them."""

from typing import Any

import torch


def check_values(values: torch.Tensor, mask: torch.Tensor | None, name: str, places: int, axes: str) -> None:
    """Raise unless an ECG or clips, and their mask, have the shape and type that the processor gives them.

    Args:
        values: as given.
        mask: as given; None if the call gives none.
        name: argument of `forward` with the values, for the message.
        places: number of leads or views that the model has.
        axes: names of the axes of the values, such as "patients, leads, samples".

    Raises:
        ValueError: if the values or the mask have another shape, or are not of the expected type.
    """
    expected = len(axes.split(", "))
    if values.ndim != expected or values.shape[1] != places:
        windows = " The pipeline averages the windows of crop='three'." if values.ndim == expected + 1 else ""
        raise ValueError(
            f"{name} has the shape {tuple(values.shape)}, expected ({axes}) with {places} {axes.split(', ')[1]}. Give "
            f"the processor's output as it is, and mask what is missing.{windows}"
        )
    if not values.is_floating_point():
        raise ValueError(
            f"{name} is of {values.dtype}, expected floating point: the processor filters and scales the values."
        )
    if mask is not None:
        check_mask(mask, values.shape[:2], f"the mask of {name}")


def check_mask(mask: torch.Tensor, shape: tuple[int, ...], name: str) -> None:
    """Raise unless a mask has the shape of its values and holds only 0 and 1 (or False and True).

    Args:
        mask: as given.
        shape: of the values that it masks.
        name: for the message.

    Raises:
        ValueError: if the mask has another shape, or holds other numbers, as additive masks do.
    """
    if tuple(mask.shape) != tuple(shape):
        raise ValueError(
            f"{name} has the shape {tuple(mask.shape)}, expected {tuple(shape)}: one entry for each value."
        )
    if mask.dtype == torch.bool or not may_look(mask):
        return
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"{name} holds other numbers than 0 and 1. Expected is 1 for what is used and 0 for the rest.")


def checked_text(
    input_ids: torch.Tensor, attention_mask: torch.Tensor | None, config: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Check token ids and their mask. Without a mask, padding tokens are masked.

    Args:
        input_ids: (B, L) as given.
        attention_mask: (B, L), 1 for a token; None derives it from the padding token of the text encoder.
        config: configuration of the text encoder.

    Returns:
        the token ids, with padding where they are masked; and the mask (B, L).

    Raises:
        ValueError: if ids or mask have another shape or type, if the text is too long, or if an id is no token.
    """
    if input_ids.ndim != 2 or input_ids.is_floating_point() or input_ids.is_complex() or input_ids.dtype == torch.bool:
        raise ValueError(
            f"input_ids is of {input_ids.dtype} and shape {tuple(input_ids.shape)}, expected whole numbers of shape "
            "(patients, tokens), as the processor gives them."
        )
    longest = getattr(config, "max_position_embeddings", None)
    if longest and input_ids.shape[1] > longest:
        raise ValueError(
            f"input_ids has {input_ids.shape[1]} tokens, the text encoder takes at most {longest}. The processor cuts "
            "the text between cells (max_labs_tokens)."
        )
    padding = getattr(config, "pad_token_id", None)
    if attention_mask is None:
        mask = torch.ones_like(input_ids) if padding is None else (input_ids != padding).to(input_ids.dtype)
    else:
        check_mask(attention_mask, tuple(input_ids.shape), "attention_mask")
        mask = attention_mask
    input_ids = input_ids.masked_fill(~mask.bool(), padding or 0)  # what stands under a mask is never read
    if may_look(input_ids) and bool((is_wrong := (input_ids < 0) | (input_ids >= config.vocab_size)).any()):
        raise ValueError(
            f"input_ids holds {int(input_ids[is_wrong][0])}, but the text encoder knows the tokens 0 to "
            f"{config.vocab_size - 1}. Use the tokenizer that was saved with the model."
        )
    return input_ids, mask


def refuse_nobody(present: dict[str, torch.Tensor]) -> None:
    """Raise if no patient of a call has any modality, because all answers would be NaN.

    Args:
        present: modality -> (B,) bool, True for a patient who has it.

    Raises:
        ValueError: if there are patients, and none has a modality.
    """
    anybody = torch.stack(list(present.values())).any(0)
    if len(anybody) and may_look(anybody) and not bool(anybody.any()):
        raise ValueError(
            f"None of the {len(anybody)} patients has a token, lead or view that is not masked, so there is nothing to "
            "answer from. Correct attention_mask, ecg_mask and view_mask, or leave these patients out."
        )


def check_clip_size(clips: torch.Tensor, num_frames: int, size: int) -> None:
    """Refuse clips that are not (n, `num_frames`, 3, `size`, `size`).

    Raises:
        ValueError: if the shape differs.
    """
    if clips.ndim != 5 or tuple(clips.shape[1:]) != (num_frames, 3, size, size):
        raise ValueError(
            f"pixel_values_videos must hold clips of {num_frames} frames, 3 channels and {size} x {size} pixels, got "
            f"{tuple(clips.shape)}. The image processor that was saved with the encoder makes them."
        )


def may_look(values: torch.Tensor) -> bool:
    """Tell whether values may be looked at. A compiled or exported model must not depend on the data."""
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing() or values.device.type == "meta")


__all__ = ["check_clip_size", "check_mask", "check_values", "checked_text", "may_look", "refuse_nobody"]
