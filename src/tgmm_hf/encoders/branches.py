"""Branches: one modality's inputs -> the encoder's tokens of the patients that have the modality.

    forward(values, mask)                  values -> encoder -> `EncodedPart`
    frozen_features(values, mask)          values -> frozen layers of the encoder -> activations
    forward_from_frozen(features, mask)    activations -> trained layers of the encoder -> `EncodedPart`

`forward_from_frozen(frozen_features(values, mask), mask)` equals `forward(values, mask)`. A branch owns no weights. Its
encoder belongs to the model, so that the names of a checkpoint's weights do not depend on branches.

The freeze boundary lies between the frozen layers of an encoder and its trained layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from ..layers.cell_inputs import LabCells
from ..layers.distributed import several_processes
from ..layers.encoded_batch import TgmmEncoded
from ..layers.finite_inputs import refuse_not_finite
from ..layers.input_shapes import check_values
from ..layers.pooling import TgmmAttentionPool
from ..utils.names import CELL_ARGUMENTS, LEADS, MODALITIES
from .configuration_echo_mvit import EchoMvitConfig
from .configuration_st_mem import StMemConfig
from .freezing import check_divisible
from .row_finding import rows_and_mask

ARGUMENTS = {
    "labs": ("input_ids", "attention_mask", "labs_frozen"),
    "ecg": ("ecg_values", "ecg_mask", "ecg_frozen"),
    "echo": ("pixel_values_videos", "view_mask", "echo_frozen"),
}
"""The model's arguments of each modality: values, mask, and frozen features that stand in place of the values."""

EXTRA_OUTPUTS = ("hidden_states", "attentions")
"""What an encoder returns beside its tokens if `output_<name>` asks for it."""


@dataclass
class ModalityInput:
    """The arguments of a call for one modality. All are None if the call gives nothing for it.

    Attributes:
        values: token ids (B, L), ECG (B, 12, T) or clips (B, views, frames, 3, H, W).
        mask: (B, L), (B, 12) or (B, views); True for a token, lead or view that can be used.
        frozen: frozen features in place of `values`, see [`Branch.frozen_features`].
        cells: lab cells beside the token ids, for a labs encoder that reads numbers.
    """

    values: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    frozen: torch.Tensor | None = None
    cells: LabCells | None = None

    @property
    def given(self) -> bool:
        """Whether the call gives values or frozen features."""
        return self.values is not None or self.frozen is not None


def sort_inputs(arguments: Mapping[str, torch.Tensor | None]) -> dict[str, ModalityInput]:
    """Sort the arguments of a call by modality: argument name -> tensor becomes modality -> its arguments.

    Raises:
        TypeError: on an unknown argument, or one that is no tensor.
        ValueError: if only some of `CELL_ARGUMENTS` are given.
    """
    names_of_inputs = [*(name for names in ARGUMENTS.values() for name in names), *CELL_ARGUMENTS]
    if unknown := set(arguments) - set(names_of_inputs):
        raise TypeError(f"TgmmModel takes no {sorted(unknown)}. Patients are given as {', '.join(names_of_inputs)}.")
    for name, value in arguments.items():
        if value is not None and not isinstance(value, torch.Tensor):
            raise TypeError(
                f"{name} is a {type(value).__name__}, expected a tensor of PyTorch: call the processor with "
                'return_tensors="pt".'
            )
    inputs = {
        modality: ModalityInput(arguments.get(values), arguments.get(mask), arguments.get(frozen))
        for modality, (values, mask, frozen) in ARGUMENTS.items()
    }
    inputs["labs"].cells = LabCells.from_arguments(arguments)
    return inputs


def count_patients(inputs: Mapping[str, ModalityInput]) -> int:
    """Count the patients of a call, and check that all its arguments have the same number of patients.

    Raises:
        ValueError: if no modality is given, if one modality comes as values and as frozen features, if frozen features
            come without their mask, or if the arguments are of different numbers of patients.
    """
    if not any(part.given for part in inputs.values()):
        raise ValueError("No modality given: pass input_ids, ecg_values or pixel_values_videos.")
    sizes: dict[str, int] = {}
    for modality, (value_name, mask_name, frozen_name) in ARGUMENTS.items():
        part = inputs[modality]
        if part.frozen is not None and (part.values is not None or part.mask is None):
            raise ValueError(f"{frozen_name} stands in place of {value_name} and needs {mask_name}.")
        sizes |= {name: len(x) for name, x in ((value_name, part.values), (mask_name, part.mask)) if x is not None}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"The inputs are of different numbers of patients: {sizes}.")
    return next(iter(sizes.values()))


@dataclass
class EncodedPart:
    """One modality of a batch, encoded for the patients that have the modality.

    Attributes:
        rows: (n,) indices of these n patients in the batch.
        summary: (n, D) one vector a patient.
        tokens: (n, L, D).
        token_mask: (n, L) bool, True for a token that can be used.
        extra: name from `EXTRA_OUTPUTS` -> one tensor a layer, if the call asked for the output.
    """

    rows: torch.Tensor
    summary: torch.Tensor
    tokens: torch.Tensor
    token_mask: torch.Tensor
    extra: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)

    @classmethod
    def empty(cls, rows: torch.Tensor, width: int) -> "EncodedPart":
        """Build the part of a batch in which no patient has the modality.

        Args:
            rows: (0,) an empty index, on the device of the batch.
            width: D.
        """
        nothing = torch.zeros(0, width, device=rows.device)
        return cls(rows, nothing, nothing[:, None], torch.zeros(0, 1, dtype=torch.bool, device=rows.device))

    def scatter(self, batch_size: int) -> torch.Tensor:
        """Put the summaries into the rows of their patients: (`batch_size`, D), zeros for all other patients."""
        return self.summary.new_zeros(batch_size, self.summary.shape[-1]).index_copy(0, self.rows, self.summary)


class Branch(ABC):
    """One modality's encoder, run on the patients that have the modality.

    Args:
        encoder: the model's encoder of this modality.
        config: the encoder's configuration.
        dtype: dtype of the encoded part. The encoder may have another dtype.
        trainable_layers: number of trained layers above the freeze boundary; None if nothing is frozen.
    """

    modality: str

    def __init__(
        self, encoder: PreTrainedModel, config: Any, dtype: torch.dtype, trainable_layers: int | None = None
    ) -> None:
        self.encoder: Any = encoder
        self.config = config
        self.dtype = dtype
        self.trainable_layers = trainable_layers

    def encode(self, given: ModalityInput, **extra: Any) -> EncodedPart | None:
        """Encode the arguments of a call, from values or from frozen features.

        Args:
            given: the arguments of the call for this modality.
            extra: `output_hidden_states=True`, `output_attentions=True`, or nothing.

        Returns:
            the encoded part; None if the call gives nothing for the modality.

        Raises:
            ValueError: if `extra` is asked of frozen features, because the frozen layers are not run.
        """
        if given.frozen is None:
            if given.cells is not None:
                extra = {**extra, "cells": given.cells}
            return None if given.values is None else self.forward(given.values, given.mask, **extra)
        if extra:
            names = ", ".join(extra)
            raise ValueError(f"Frozen layers are not run: {names} cannot be had with {self.modality}_frozen.")
        assert given.mask is not None  # `count_patients` refuses frozen features without their mask
        return self.forward_from_frozen(given.frozen, given.mask)

    @abstractmethod
    def forward(self, values: torch.Tensor, mask: torch.Tensor | None, **extra: Any) -> EncodedPart:
        """Encode values under a mask, see [`ModalityInput`]. `extra` goes to the encoder, see `encode`."""

    @abstractmethod
    def frozen_features(self, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | None:
        """Compute the activations at the freeze boundary.

        Returns:
            (n, tokens, D): a row for each True patient (echo: for each True view) of the mask, in the mask's order.
            None if no patient has the modality.
        """

    @abstractmethod
    def forward_from_frozen(self, features: torch.Tensor, mask: torch.Tensor) -> EncodedPart:
        """Run the trained layers on `features`, the result of `frozen_features` for the same mask."""

    def layers_above(self) -> int:
        """Return the number of trained layers.

        Raises:
            ValueError: if nothing is frozen, or the encoder cannot be cut below its trained layers.
        """
        if self.trainable_layers is None:
            raise ValueError("Nothing is frozen, so there are no frozen features: call freeze_encoders(n) first.")
        check_divisible(self.modality, self.encoder, self.trainable_layers)
        return self.trainable_layers

    def checked(self, features: torch.Tensor, number: int) -> torch.Tensor:
        """Return frozen features in the encoder's dtype. Raise a ValueError if they do not have `number` rows."""
        if len(features) != number:
            raise ValueError(f"{self.modality}_frozen has {len(features)} rows, its mask says {number}.")
        return features.to(self.encoder.dtype)

    def empty(self, rows: torch.Tensor) -> EncodedPart:
        """Build the part of a batch in which no patient has the modality; `rows` is an empty index."""
        return EncodedPart.empty(rows, self.config.hidden_size)


class EcgBranch(Branch):
    """ECG: samples (B, 12, T) -> the ECG encoder's tokens; the summary is its pooled output."""

    modality = "ecg"

    @property
    def takes_lead_mask(self) -> bool:
        """Whether the encoder takes a lead mask (ST-MEM). All other encoders see an absent lead as zeros."""
        return self.config.model_type == StMemConfig.model_type

    def forward(self, values: torch.Tensor, mask: torch.Tensor | None, **extra: Any) -> EncodedPart:
        """Encode samples (B, 12, T) with lead mask (B, 12), True for a usable lead. Without a mask all are usable."""
        rows, lead_mask = self._checked_rows(values, mask)
        if not len(rows):
            return self.empty(rows)
        lead_mask = lead_mask[rows]
        # NaN under the mask would survive a multiplication by zero. An absent lead is flat.
        samples = values[rows].masked_fill(~lead_mask[..., None], 0.0)
        options = {**extra, "ecg_mask": lead_mask} if self.takes_lead_mask else extra
        return self._part(rows, lead_mask, run_encoder(self.encoder, samples, self.dtype, **options))

    def frozen_features(self, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | None:
        """Compute the activations at the freeze boundary: (patients with an ECG, tokens, D); None if nobody has one."""
        above = self.layers_above()
        rows, lead_mask = self._checked_rows(values, mask)
        if not len(rows):
            return None
        samples = values[rows].to(self.encoder.dtype)
        if self.takes_lead_mask:
            return self.encoder.run_lower_layers(samples, lead_mask[rows], above)
        samples = samples.masked_fill(~lead_mask[rows][..., None], 0.0)
        return self.encoder.run_lower_layers(samples, above)

    def forward_from_frozen(self, features: torch.Tensor, mask: torch.Tensor) -> EncodedPart:
        """Run the trained layers on activations (patients with an ECG, tokens, D) with lead mask (B, 12)."""
        above = self.layers_above()
        rows, lead_mask = rows_and_mask(None, mask)
        if not len(rows):
            return self.empty(rows)
        states = self.checked(features, len(rows))
        if self.takes_lead_mask:
            encoded = self.encoder.run_upper_layers(states, lead_mask[rows], above)
        else:
            encoded = self.encoder.run_upper_layers(states, above)
        return self._part(rows, lead_mask[rows], encoded)

    def _checked_rows(self, values: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Check an ECG and its mask; see `rows_and_mask` for the result."""
        leads = getattr(self.config, "num_leads", len(LEADS))
        check_values(values, mask, "ecg_values", leads, "patients, leads, samples")
        rows, lead_mask = rows_and_mask(values, mask)
        refuse_not_finite(values, lead_mask, "ecg_values")
        return rows, lead_mask

    def _part(self, rows: torch.Tensor, lead_mask: torch.Tensor, encoded: BaseModelOutputWithPooling) -> EncodedPart:
        assert encoded.last_hidden_state is not None and encoded.pooler_output is not None  # `run_encoder` fills them
        hidden = encoded.last_hidden_state.to(self.dtype)
        token_mask = lead_mask.new_ones(hidden.shape[:2])
        if self.takes_lead_mask:
            token_mask = lead_mask.repeat_interleave(hidden.shape[1] // lead_mask.shape[1], dim=1)
        return EncodedPart(rows, encoded.pooler_output.to(self.dtype), hidden, token_mask, extra_outputs(encoded))


class EchoBranch(Branch):
    """Echo: clips (B, views, frames, 3, H, W) -> one token a view; the summary is the mean over the patient's views.

    A view's token is the pooled output of its clip plus a learned embedding of the view.
    """

    modality = "echo"

    def __init__(
        self,
        encoder: PreTrainedModel,
        config: Any,
        view_embeddings: nn.Embedding,
        trainable_layers: int | None = None,
    ) -> None:
        super().__init__(encoder, config, view_embeddings.weight.dtype, trainable_layers)
        self.view_embeddings = view_embeddings

    def forward(self, values: torch.Tensor, mask: torch.Tensor | None, **extra: Any) -> EncodedPart:
        """Encode clips (B, views, frames, 3, H, W) with view mask (B, views), True for a view that is present."""
        rows, view_mask = self._checked_rows(values, mask)
        if not len(rows):
            return self.empty(rows)
        return self._part(rows, view_mask, self._run(values[view_mask], **extra))

    def encode_clips(self, clips: torch.Tensor) -> torch.Tensor:
        """Encode clips (k, frames, 3, H, W) of any view: (k, D), without the embedding of a view."""
        features = self._run(clips).pooler_output
        assert features is not None  # `run_encoder` fills it
        return features.to(self.dtype)

    def _run(self, clips: torch.Tensor, **extra: Any) -> BaseModelOutputWithPooling:
        """Run the encoder on clips; our MViT computes no more than the class token, unless more is asked for."""
        options = extra or self._class_token_only
        return run_encoder(self.encoder, clips, self.dtype, **options)

    @property
    def _class_token_only(self) -> dict[str, bool]:
        """The option that lets our MViT compute the class token alone; {} for another encoder."""
        return {"class_token_only": True} if self.config.model_type == EchoMvitConfig.model_type else {}

    def frozen_features(self, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | None:
        """Compute the activations at the freeze boundary: (clips, tokens, D); None if nobody has an echo.

        If no layer above the boundary is trained, `tokens` is 1, the class token.
        """
        above = self.layers_above()
        rows, view_mask = self._checked_rows(values, mask)
        if not len(rows):
            return None
        tokens = self.encoder.run_lower_layers(values[view_mask].to(self.encoder.dtype), above)
        # With no trained layer above, only the class token is read: one token of 393.
        return tokens if above or not self._class_token_only else tokens[:, :1]

    def forward_from_frozen(self, features: torch.Tensor, mask: torch.Tensor) -> EncodedPart:
        """Run the trained layers on activations (clips, tokens, D) with view mask (B, views)."""
        above = self.layers_above()
        rows, view_mask = rows_and_mask(None, mask)
        if not len(rows):
            return self.empty(rows)
        states = self.checked(features, int(view_mask.sum()))
        encoded = self.encoder.run_upper_layers(states, above, **self._class_token_only)
        return self._part(rows, view_mask, encoded)

    def _checked_rows(self, values: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Check clips and their mask; see `rows_and_mask` for the result."""
        views = self.view_embeddings.num_embeddings
        check_values(values, mask, "pixel_values_videos", views, "patients, views, frames, channels, height, width")
        rows, view_mask = rows_and_mask(values, mask)
        refuse_not_finite(values, view_mask, "pixel_values_videos")
        return rows, view_mask

    def _part(self, rows: torch.Tensor, view_mask: torch.Tensor, encoded: BaseModelOutputWithPooling) -> EncodedPart:
        assert encoded.pooler_output is not None  # `run_encoder` fills it
        features = encoded.pooler_output.to(self.dtype)
        patient, view = view_mask.nonzero(as_tuple=True)
        views = features.new_zeros(*view_mask.shape, features.shape[-1]).index_put((patient, view), features)
        tokens = views.index_put((patient, view), features + self.view_embeddings(view).to(features.dtype))[rows]
        summary = views[rows].sum(1) / view_mask[rows].sum(1, keepdim=True)
        return EncodedPart(rows, summary, tokens, view_mask[rows], extra_outputs(encoded))


def run_encoder(
    encoder: PreTrainedModel, values: torch.Tensor, dtype: torch.dtype, **arguments: Any
) -> BaseModelOutputWithPooling:
    """Run an ECG or echo encoder.

    Args:
        encoder: the encoder.
        values: (n, ...) the encoder's main input.
        dtype: dtype of the result.
        arguments: further arguments of the encoder.

    Returns:
        `last_hidden_state`, the tokens (n, L, D), and `pooler_output`, the summary (n, D). If the encoder gives no
        `pooler_output`, the summary is the mean of the tokens.
    """
    output = encoder(**{encoder.main_input_name: values.to(encoder.dtype)}, return_dict=True, **arguments)
    tokens, pooled = output.last_hidden_state.to(dtype), output.get("pooler_output")
    return BaseModelOutputWithPooling(
        last_hidden_state=tokens,
        pooler_output=tokens.mean(1) if pooled is None else pooled.to(dtype),
        hidden_states=output.get("hidden_states"),
        attentions=output.get("attentions"),
    )


def pool_parts(
    parts: Mapping[str, EncodedPart | None],
    pools: Mapping[str, TgmmAttentionPool],
    batch_size: int,
    empty: torch.Tensor,
) -> TgmmEncoded:
    """Pool the encoded parts into fusion tokens, and put the tokens into the rows of their patients.

    Args:
        parts: modality -> part; None if the call gave nothing for the modality.
        pools: modality -> its attention pooling.
        batch_size: number of patients B.
        empty: (N, d) zeros, the fusion tokens of a patient without the modality.
    """
    device = next(part.rows.device for part in parts.values() if part is not None)
    # In training over several processes every process runs every pooling, because the running statistics and the
    # gradients of one process wait for those of the other processes.
    always = several_processes() and any(pool.training for pool in pools.values())
    tokens, present = {}, {}
    for name in MODALITIES:
        part = parts[name]
        present[name] = torch.zeros(batch_size, dtype=torch.bool, device=device)
        tokens[name] = empty.new_zeros(batch_size, *empty.shape, device=device)
        if part is None and always:
            part = EncodedPart.empty(present[name].nonzero()[:, 0], pools[name].encoder_width)
        if part is not None and (len(part.rows) or always):
            pooled = pools[name](part.summary, part.tokens, part.token_mask)
            tokens[name] = tokens[name].to(pooled.dtype).index_copy(0, part.rows, pooled)
            present[name][part.rows] = True
    extra = {
        output: {name: part.extra[output] for name, part in parts.items() if part and output in part.extra}
        for output in EXTRA_OUTPUTS
    }
    return TgmmEncoded(tokens, present, **extra)


def extra_outputs(encoded: ModelOutput) -> dict[str, tuple[torch.Tensor, ...]]:
    """Collect from an encoder's output what it has of `EXTRA_OUTPUTS`: name -> one tensor a layer."""
    return {name: encoded[name] for name in EXTRA_OUTPUTS if encoded.get(name) is not None}
