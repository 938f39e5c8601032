"""The first part of TGMM: patients' inputs -> encoders -> fusion tokens."""

from typing import Any, Self

import torch
from torch import nn
from transformers import PreTrainedModel

from ..configuration_tgmm import TgmmConfig
from ..layers.cell_inputs import LabCells
from ..layers.encoded_batch import TgmmEncoded
from ..layers.pooling import TgmmAttentionPool
from .branches import Branch, EcgBranch, EchoBranch, count_patients, pool_parts, sort_inputs
from .freezing import last_parts
from .labs_branch import LabsBranch


class EncodesPatients(nn.Module):
    """Mixin of a model that encodes patients: three encoders, three attention poolings, and their branches.

    The model class has the attributes `labs_encoder`, `ecg_encoder`, `echo_encoder`, `labs_pool`, `ecg_pool`,
    `echo_pool` and `view_embeddings`.
    """

    config: TgmmConfig
    labs_encoder: PreTrainedModel
    ecg_encoder: PreTrainedModel
    echo_encoder: PreTrainedModel
    labs_pool: TgmmAttentionPool
    ecg_pool: TgmmAttentionPool
    echo_pool: TgmmAttentionPool
    view_embeddings: nn.Embedding

    trainable_layers: int | None = None
    """Number of layers of each encoder that train, as `freeze_encoders` set it; None if nothing is frozen."""

    @property
    def encoders(self) -> dict[str, PreTrainedModel]:
        """The three encoders by modality."""
        return {"labs": self.labs_encoder, "ecg": self.ecg_encoder, "echo": self.echo_encoder}

    @property
    def branches(self) -> dict[str, Branch]:
        """The three branches by modality. They own no weights."""
        config, layers, dtype = self.config, self.trainable_layers, self.view_embeddings.weight.dtype
        return {
            "labs": LabsBranch(
                self.labs_encoder, config.labs_config, dtype, layers, getattr(self, "labs_numbers", None)
            ),
            "ecg": EcgBranch(self.ecg_encoder, config.ecg_config, dtype, layers),
            "echo": EchoBranch(self.echo_encoder, config.echo_config, self.view_embeddings, layers),
        }

    def encode(
        self, *, output_hidden_states: Any = None, output_attentions: Any = None, **inputs: torch.Tensor | None
    ) -> TgmmEncoded:
        """Run each encoder on the patients (and views) that have something to encode, and pool the tokens.

        Args:
            output_hidden_states: return the encoders' hidden states, too.
            output_attentions: return the encoders' attentions, too.
            inputs: the inputs of `forward`, by name.

        Returns:
            the fusion tokens of all B patients, and which patient has which modality.

        Raises:
            TypeError: on an unknown input.
            ValueError: if no modality is given, or the inputs do not fit together.
        """
        wanted = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        extra = {name: value for name, value in wanted.items() if value}
        given = sort_inputs(inputs)
        batch_size = count_patients(given)
        parts = {name: branch.encode(given[name], **extra) for name, branch in self.branches.items()}
        pools = {"labs": self.labs_pool, "ecg": self.ecg_pool, "echo": self.echo_pool}
        empty = self.view_embeddings.weight.new_zeros(self.config.num_fusion_tokens, self.config.hidden_size)
        return pool_parts(parts, pools, batch_size, empty)

    def get_labs_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **cells: torch.Tensor
    ) -> torch.Tensor:
        """Compute the first token ([CLS]) of the text encoder: (B, D); zeros for a patient without labs.

        Args:
            input_ids: (B, L) token ids.
            attention_mask: (B, L), 1 for a token. None means that there is no padding.
            cells: `cell_ids`, `cell_columns`, `cell_values`, `cell_mask`, for a model that reads lab cells as numbers.
        """
        options = {} if (lab_cells := LabCells.from_arguments(cells)) is None else {"cells": lab_cells}
        return self.branches["labs"].forward(input_ids, attention_mask, **options).scatter(len(input_ids))

    def get_ecg_features(self, ecg_values: torch.Tensor, ecg_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the pooled output of the ECG encoder: (B, D); zeros for a patient without an ECG.

        Args:
            ecg_values: (B, 12, samples), prepared by `EcgFeatureExtractor`.
            ecg_mask: (B, 12), True for a usable lead. None means that all are usable.
        """
        return self.branches["ecg"].forward(ecg_values, ecg_mask).scatter(len(ecg_values))

    def get_echo_features(
        self, pixel_values_videos: torch.Tensor, view_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the mean over a patient's views of the echo encoder's pooled output: (B, D); zeros without an echo.

        Args:
            pixel_values_videos: (B, 11, frames, 3, H, W), prepared by `EchoImageProcessor`.
            view_mask: (B, 11), True for a view that the patient has. None means that all are present.
        """
        return self.branches["echo"].forward(pixel_values_videos, view_mask).scatter(len(pixel_values_videos))

    def freeze_encoders(self, trainable_layers: int | None) -> None:
        """Freeze the encoders up to their last layers, in place (paper, fig. 7: two trained layers are best).

        The embeddings and all layers below the last `trainable_layers` are frozen. They stay in evaluation mode in
        training too, without dropout, so that their activations for a patient never change (see `frozen_features`).
        The final norm trains with the last layers.

        Args:
            trainable_layers: number of layers of each encoder that train. 0 freezes the encoders whole. None unfreezes
                all.

        Raises:
            ValueError: if an encoder has fewer layers.
        """
        for encoder in self.encoders.values():
            encoder.requires_grad_(trainable_layers is None)
            for module in last_parts(encoder, trainable_layers or 0):
                module.requires_grad_(True)
        self.trainable_layers = trainable_layers
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode. Frozen parts stay in evaluation mode."""
        super().train(mode)
        if mode and self.trainable_layers is not None:
            for encoder in self.encoders.values():
                encoder.eval()
                for module in last_parts(encoder, self.trainable_layers):
                    module.train()
        return self

    def frozen_features(self, **inputs: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Compute the activations at the freeze boundary: the `*_frozen` arguments of `forward`.

        Args:
            inputs: the inputs of `forward`, by name. The modalities need not be of the same patients.

        Returns:
            `labs_frozen` (patients with labs, L, D), `ecg_frozen` (patients with an ECG, tokens, D), `echo_frozen`
            (clips, tokens, D). The rows follow the order of the mask. A modality that nobody has is no key.

        Raises:
            ValueError: without `freeze_encoders`, or for an encoder that cannot be cut at the boundary.
        """
        given = sort_inputs(inputs)
        features = {}
        for name, branch in self.branches.items():
            branch.layers_above()
            values = given[name].values
            activations = None if values is None else branch.frozen_features(values, given[name].mask)
            if activations is not None:
                features[f"{name}_frozen"] = activations
        return features
