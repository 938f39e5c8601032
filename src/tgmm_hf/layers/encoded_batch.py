"""Encoded patients: what the branches hand to fusion, guidance and response."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ..utils.names import MODALITIES


@dataclass
class TgmmEncoded:
    """Fusion tokens of a batch of B patients, N tokens of width d for each modality. Every task starts from them.

    Attributes:
        tokens: modality -> (B, N, d). After `encode` they are zeros for a patient without the modality. Where `present`
            is False their values do not count.
        present: modality -> (B,) bool, True for a patient with the modality.
        hidden_states: modality -> hidden states of its encoder, one tensor a layer; {} if nobody asked for them. The
            rows of a tensor are the patients (echo: the clips) that have the modality.
        attentions: modality -> attentions of its encoder, in the form of `hidden_states`.
    """

    tokens: dict[str, torch.Tensor]
    present: dict[str, torch.Tensor]
    hidden_states: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    attentions: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)

    def keep(self, modalities: Sequence[str]) -> "TgmmEncoded":
        """Return a copy in which every modality is absent that is not in `modalities`. The tokens are shared.

        Raises:
            ValueError: on an unknown modality.
        """
        if unknown := set(modalities) - set(MODALITIES):
            raise ValueError(f"Unknown modalities {sorted(unknown)}. The model has {list(MODALITIES)}.")
        present = {name: mask if name in modalities else torch.zeros_like(mask) for name, mask in self.present.items()}
        return replace(self, present=present)

    def has_all(self, modalities: Sequence[str]) -> torch.Tensor:
        """Return (B,) bool, True for a patient who has all of `modalities`."""
        return torch.stack([self.present[name] for name in modalities]).all(0)

    def repeat(self, times: int) -> "TgmmEncoded":
        """Return `times` copies of the batch, one whole copy after another: B * `times` rows.

        Hidden states and attentions of the encoders are not copied.
        """
        return TgmmEncoded(
            {name: tokens.repeat(times, 1, 1) for name, tokens in self.tokens.items()},
            {name: mask.repeat(times) for name, mask in self.present.items()},
        )

    def each_alone(self) -> "TgmmEncoded":
        """Return one copy of the batch for each modality, in the order of `MODALITIES`, with that modality alone.

        Hidden states and attentions of the encoders are not copied.
        """
        copies = self.repeat(len(MODALITIES))
        present = {
            name: torch.cat([mask if alone == name else torch.zeros_like(mask) for alone in MODALITIES])
            for name, mask in self.present.items()
        }
        return replace(copies, present=present)


def hide_modalities(encoded: TgmmEncoded, probability: float) -> TgmmEncoded:
    """Hide modalities of patients at random, for training.

    Args:
        encoded: the patients. They are not changed.
        probability: chance of each present modality of each patient to be hidden. One present modality always stays.

    Returns:
        the patients, with `present` False for the hidden modalities.
    """
    present = torch.stack([encoded.present[name] for name in MODALITIES], dim=1)
    draw = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    kept = present & ((draw >= probability) | (draw == draw.max(1, keepdim=True).values))
    return replace(encoded, present={name: kept[:, i] for i, name in enumerate(MODALITIES)})


def training_copies(
    encoded: TgmmEncoded, labels: Mapping[str, torch.Tensor] | None, copies: int, probability: float, whole: int = 0
) -> tuple[TgmmEncoded, dict[str, torch.Tensor] | None]:
    """Repeat a training batch and its labels, each copy with other modalities hidden.

    The reason is that fusion costs little beside the encoders, and that with one copy the model would hardly ever have
    to answer from one modality alone.

    Args:
        encoded: B patients.
        labels: name -> (B,) or (B, findings), or None.
        copies: number of copies.
        probability: chance of a modality to be hidden, see [`hide_modalities`].
        whole: number of copies, the first ones, in which nothing is hidden.

    Returns:
        the patients, B * `copies` rows, one whole copy after another; and the labels in the same order, or None.
    """
    if labels is not None:
        labels = {name: torch.cat([values] * copies) for name, values in labels.items()}
    repeated = encoded.repeat(copies)
    hidden = hide_modalities(repeated, probability)
    in_whole = whole * len(encoded.present["labs"])
    if in_whole == 0:
        return hidden, labels
    present = {
        name: torch.cat([repeated.present[name][:in_whole], mask[in_whole:]]) for name, mask in hidden.present.items()
    }
    return replace(hidden, present=present), labels
