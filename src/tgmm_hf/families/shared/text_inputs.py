"""The text inputs of a language model: mask, positions, and vectors in the places of placeholder tokens.

Notation in shape comments: B rows, T tokens, d width of the language model.
"""

from typing import Any

import torch


def with_mask_and_positions(text: dict[str, Any], earlier: int) -> dict[str, Any]:
    """Add the mask and the positions of the tokens to the inputs where they are missing. Returns the inputs.

    Some language models count positions with padding, others without. Here the first token of a text has position 0.

    Args:
        text: "input_ids", "inputs_embeds", "attention_mask" and "position_ids", None where they are not given.
        earlier: number of tokens in the cache.

    Raises:
        ValueError: if the mask has another shape.
    """
    embeds = text["inputs_embeds"] if text["input_ids"] is None else text["input_ids"]
    shape = (embeds.shape[0], earlier + embeds.shape[1])
    mask = text["attention_mask"]
    if mask is None:
        mask = torch.ones(shape, dtype=torch.long, device=embeds.device)
    if tuple(mask.shape) != shape:
        raise ValueError(
            f"attention_mask must have the shape {shape}, one value for each token so far, got {tuple(mask.shape)}."
        )
    position_ids = text["position_ids"]
    if position_ids is None:
        position_ids = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, earlier:]
    return {**text, "attention_mask": mask, "position_ids": position_ids}


def put_in_places(embeds: torch.Tensor, places: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Replace embeddings by vectors, row after row and from left to right.

    Args:
        embeds: (B, T, d).
        places: (B, T) bool, True for an embedding that is replaced.
        vectors: (..., d), one vector for each True of `places`.

    Returns:
        (B, T, d), a new tensor.
    """
    return embeds.masked_scatter(places[..., None].expand_as(embeds), vectors.to(embeds.device, embeds.dtype))


__all__ = ["put_in_places", "with_mask_and_positions"]
