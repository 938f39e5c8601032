"""Encoded patients: what the branches hand to fusion, guidance and response."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ..utils.names import MODALITIES


@dataclass
class TgmmEncoded:
    """Fusion tokens of a batch of patients. Every task starts from them.

    Attributes:
        tokens: modality -> (B, N, d); zeros for a patient without the modality.
        present: modality -> (B,) bool, True for a patient with the modality.
        hidden_states: modality -> hidden states of its encoder, one tensor a layer, if they were asked for. Their rows
            are the patients (echo: the clips) that have the modality.
        attentions: modality -> attentions of its encoder, in the same form.
    """

    tokens: dict[str, torch.Tensor]
    present: dict[str, torch.Tensor]
    hidden_states: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    attentions: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)

    def keep(self, modalities: Sequence[str]) -> "TgmmEncoded":
        """Make every modality absent that is not in `modalities`.

        Raises:
            ValueError: on an unknown modality.
        """
        if unknown := set(modalities) - set(MODALITIES):
            raise ValueError(f"Unknown modalities {sorted(unknown)}. The model has {list(MODALITIES)}.")
        present = {name: mask if name in modalities else torch.zeros_like(mask) for name, mask in self.present.items()}
        return replace(self, present=present)

    def has_all(self, modalities: Sequence[str]) -> torch.Tensor:
        """Tell which patients have all of these modalities: (B,) bool."""
        return torch.stack([self.present[name] for name in modalities]).all(0)

    def repeat(self, times: int) -> "TgmmEncoded":
        """Repeat the batch, one whole copy after another."""
        return TgmmEncoded(
            {name: tokens.repeat(times, 1, 1) for name, tokens in self.tokens.items()},
            {name: mask.repeat(times) for name, mask in self.present.items()},
        )


def hide_modalities(encoded: TgmmEncoded, probability: float) -> TgmmEncoded:
    """Hide each present modality of each patient with this probability. One present modality always stays."""
    present = torch.stack([encoded.present[name] for name in MODALITIES], dim=1)
    draw = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    kept = present & ((draw >= probability) | (draw == draw.max(1, keepdim=True).values))
    return replace(encoded, present={name: kept[:, i] for i, name in enumerate(MODALITIES)})


def training_copies(
    encoded: TgmmEncoded, labels: Mapping[str, torch.Tensor] | None, copies: int, probability: float
) -> tuple[TgmmEncoded, dict[str, torch.Tensor] | None]:
    """Repeat a training batch and its labels, each copy with other modalities hidden.

    Fusion costs little beside the encoders. With one copy a weaker modality would hardly ever be asked alone.
    """
    if labels is not None:
        labels = {name: values.repeat(copies) for name, values in labels.items()}
    return hide_modalities(encoded.repeat(copies), probability), labels
