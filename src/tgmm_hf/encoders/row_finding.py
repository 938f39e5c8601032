"""Find the patients of a batch that have a modality."""

import torch


def rows_with_text(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find the patients with lab text, and the order of tokens that moves padding to the right end.

    Padding on the left has to move, because an encoder's positions are absolute and its summary is the first token.

    Args:
        mask: (B, L), 1 for a token and 0 for padding.

    Returns:
        indices of the n patients with text (n,); their mask in the new order (n, L); the new order (n, L), for
        `gather`.
    """
    rows = mask.bool().any(1).nonzero()[:, 0]
    order = mask[rows].bool().argsort(dim=1, descending=True, stable=True)
    return rows, mask[rows].gather(1, order), order


def rows_and_mask(values: torch.Tensor | None, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the patients with any usable lead or view.

    Args:
        values: (B, leads or views, ...). Only read if there is no mask.
        mask: (B, leads or views), True for a usable one. None means that all are usable.

    Returns:
        indices of these patients (n,), and the mask as bool (B, leads or views).
    """
    if mask is None:
        assert values is not None  # `count_patients` asks for one of them
        mask = torch.ones(values.shape[:2], device=values.device)
    mask = mask.bool()
    return mask.any(1).nonzero()[:, 0], mask


__all__ = ["rows_and_mask", "rows_with_text"]
