"""MedFlexFusion: fusion tokens of up to three modalities -> seven slots (paper, section 4.2.2, eq. (1)-(8)).

Notation in shape comments: B patients, N fusion tokens, d width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..configuration_tgmm import TgmmConfig
from ..utils.names import MODALITIES, SLOTS, join_names
from .attention import TgmmProjection


@dataclass
class FusionOutput:
    """Slots of a batch. A rival fusion has one slot instead of seven, no gates and no lambdas.

    Attributes:
        slots: (B, 7, N, d), eq. (8), in the order of `SLOTS`. Slots that a patient lacks are zero.
        slot_mask: (B, 7) bool, True for a slot whose modalities the patient has.
        gates: subset ("labs+ecg") -> modality -> (B,), mean over tokens and features of the gate G_i(S) of eq. (6).
            A gate in [0, 1] says how much the modality's answer counts in the slot of the subset.
        lambdas: subset -> name -> (B,), mean over tokens and features of the mixing weights of eq. (4)-(5). The names
            are "key_1", "key_2", "value_1", "value_2".
        alignment: (B,) alignment loss of each patient; None for every fusion but CMTA.
    """

    slots: torch.Tensor
    slot_mask: torch.Tensor
    gates: dict[str, dict[str, torch.Tensor]]
    lambdas: dict[str, dict[str, torch.Tensor]]
    alignment: torch.Tensor | None = None


def mix(parts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Mix one, two or three projected keys (or values) into one, element by element: eq. (3)-(5).

    The third weight of three, 1 - lambda_1 - lambda_2, can be negative, as in the paper.

    Args:
        parts: one to three tensors of one shape, in the order t, s, m of the paper (labs, ECG, echo).

    Returns:
        the mixture, and the mixing weights, each of the shape of a part: [] for one part, [lambda_2] for two parts,
        [lambda_1, lambda_2] for three parts.
    """
    if len(parts) == 1:
        return parts[0], []
    lambda_2 = torch.sigmoid(parts[0] + parts[1])
    if len(parts) == 2:
        return lambda_2 * parts[0] + (1 - lambda_2) * parts[1], [lambda_2]
    lambda_1 = torch.sigmoid(parts[0] + parts[1] + parts[2])
    mixture = lambda_1 * parts[0] + lambda_2 * parts[1] + (1 - lambda_1 - lambda_2) * parts[2]
    return mixture, [lambda_1, lambda_2]


def own_slot(tokens: torch.Tensor, present: torch.Tensor) -> FusionOutput:
    """Return the slot that [`MedFlexFusion`] fills from one modality alone, without the slots that stay empty.

    Args:
        tokens: (B, N, d) of the modality.
        present: (B,) bool, True for a patient with the modality.
    """
    slot = torch.relu(tokens.masked_fill(~present[:, None, None], 0.0))[:, None]
    return FusionOutput(slot, present[:, None], gates={}, lambdas={})


class MedFlexFusion(nn.Module):
    """Fusion of the paper: every modality queries every subset that it belongs to, and gates weigh the answers."""

    def __init__(self, config: TgmmConfig):
        super().__init__()
        width = config.hidden_size
        self.projection = TgmmProjection(width, config.projection_dim)
        self.gates = nn.ModuleDict(
            {join_names(subset): nn.Linear((len(subset) + 1) * width, width) for subset in SLOTS if len(subset) > 1}
        )

    def forward(self, tokens: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor]) -> FusionOutput:
        """Fuse tokens into slots.

        Args:
            tokens: modality -> (B, N, d). All three modalities need an entry.
            present: modality -> (B,) bool, True for a patient with the modality.
        """
        # The values of an absent modality must not matter, not even if they are NaN.
        tokens = {name: tokens[name].masked_fill(~present[name][:, None, None], 0.0) for name in MODALITIES}
        projected = {name: self.projection(tokens[name]) for name in MODALITIES}
        slots, gates, lambdas = [], {}, {}
        for subset in SLOTS:
            if len(subset) == 1:
                slots.append(tokens[subset[0]])
                continue
            shared, gates[join_names(subset)], lambdas[join_names(subset)] = self._share(subset, tokens, projected)
            slots.append(shared)
        slot_mask = torch.stack([torch.stack([present[name] for name in subset]).all(0) for subset in SLOTS], dim=1)
        # Eq. (8). Slots are stacked as a sequence and not joined along the features, as figures 4 and 8 show them.
        stacked = torch.relu(torch.stack(slots, dim=1)) * slot_mask[:, :, None, None]
        return FusionOutput(stacked, slot_mask, gates, lambdas)

    def _share(
        self,
        subset: tuple[str, ...],
        tokens: Mapping[str, torch.Tensor],
        projected: Mapping[str, tuple[torch.Tensor, ...]],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Compute the slot of one subset, Z_S of eq. (7).

        Args:
            subset: two or three modalities.
            tokens: modality -> (B, N, d).
            projected: modality -> query, key and value, each (B, N, d_p).

        Returns:
            Z_S (B, N, d); modality -> mean gate (B,); name -> mean lambda (B,).
        """
        key, key_lambdas = mix([projected[name][1] for name in subset])
        value, value_lambdas = mix([projected[name][2] for name in subset])
        shared, gates = torch.zeros_like(tokens[subset[0]]), {}
        for name in subset:
            local, _ = self.projection.attend(projected[name][0], key, value)
            gate = torch.sigmoid(
                self.gates[join_names(subset)](torch.cat(_gate_input(subset, name, tokens, local), dim=-1))
            )
            shared = shared + gate * local
            gates[name] = gate.mean((1, 2))
        return shared, gates, _means("key", key_lambdas) | _means("value", value_lambdas)


def _means(name: str, lambdas: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute the mean (B,) of each mixing weight of [`mix`], named as in the paper: a pair has lambda_2 alone."""
    numbers = (1, 2)[-len(lambdas) :]
    return {f"{name}_{number}": weight.mean((1, 2)) for number, weight in zip(numbers, lambdas, strict=True)}


def _gate_input(
    subset: tuple[str, ...], name: str, tokens: Mapping[str, torch.Tensor], local: torch.Tensor
) -> list[torch.Tensor]:
    """List the tensors (B, N, d) that eq. (6) concatenates as the input of a gate.

    These are the tokens of the modalities of `subset`, and `local`, which is Z_i,local, the answer of modality `name`.
    `local` is third of four tensors, or last of three.
    """
    members = [tokens[member] for member in subset]
    if len(subset) == 3:
        return [*members[:2], local, members[2]]
    return [*members, local]
