"""MEIT's ECG encoder: a one-dimensional ResNet-50 over the twelve leads (Wan et al. 2024, "MEIT", section 3.2).

The names of the weights are those of the published training code (`conv1`, `bn1`, `layer1.0.conv1`, ...), because a
published `ecg_model.pth` should load without a table of names.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, can_return_tuple

from ..layers.ecg_projector import EcgProjector, init_as_torch
from ..layers.weights_fingerprint import BoundWeights
from .configuration_ecg_resnet import EXPANSION, EcgResNetConfig


class EcgResNetBlock(nn.Module):
    """Bottleneck block: 1-tap, 3-tap and 1-tap convolution, each with a batch norm, added to the input.

    Args:
        in_channels: channels of the input.
        width: channels of the middle convolution.
        stride: of the 3-tap convolution.
        eps: epsilon of the batch norms.
    """

    def __init__(self, in_channels: int, width: int, stride: int, eps: float):
        super().__init__()
        out_channels = EXPANSION * width
        self.conv1 = nn.Conv1d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm1d(width, eps=eps)
        self.conv2 = nn.Conv1d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(width, eps=eps)
        self.conv3 = nn.Conv1d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm1d(out_channels, eps=eps)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv1d(in_channels, out_channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm1d(out_channels, eps=eps))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, frames) to (batch, 4 * width, frames / stride, rounded up)."""
        inner = torch.relu(self.bn1(self.conv1(hidden_states)))
        inner = torch.relu(self.bn2(self.conv2(inner)))
        return torch.relu(self.bn3(self.conv3(inner)) + self.shortcut(hidden_states))


class EcgResNetPreTrainedModel(BoundWeights, PreTrainedModel):
    """Base of the ECG ResNet: initial weights, and saving with the code."""

    config: EcgResNetConfig
    base_model_prefix = "ecg_resnet"
    main_input_name = "input_values"
    input_modalities = ("time",)  # type: ignore[assignment] # declared a list; tuples are usual
    supports_gradient_checkpointing = False
    _supports_sdpa = True  # it has no attention, and a model around it may have
    _no_split_modules = ["EcgResNetBlock"]  # noqa: RUF012 - read by transformers

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module as PyTorch does. transformers calls this for every module."""
        if isinstance(module, nn.Linear | nn.Conv1d):
            init_as_torch(module)
        else:
            super()._init_weights(module)

    def hub_classes(self) -> dict[str, type]:
        """Map the name of the Auto class to the encoder, which it loads from the saved directory."""
        return {"AutoModel": type(self) if isinstance(self, EcgResNetModel) else EcgResNetModel}


class EcgResNetModel(EcgResNetPreTrainedModel):
    """One-dimensional ResNet-50 without max-pooling and without a classification layer."""

    def __init__(self, config: EcgResNetConfig):
        super().__init__(config)
        eps = config.batch_norm_eps
        self.conv1 = nn.Conv1d(config.num_leads, config.embedding_size, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm1d(config.embedding_size, eps=eps)
        channels = config.embedding_size
        for stage, (depth, width) in enumerate(zip(config.stage_depths, config.stage_widths, strict=True), start=1):
            blocks = nn.Sequential()
            for block in range(depth):
                blocks.append(EcgResNetBlock(channels, width, 2 if stage > 1 and block == 0 else 1, eps))
                channels = EXPANSION * width
            self.add_module(f"layer{stage}", blocks)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the first convolution, in the place of word embeddings."""
        return self.conv1

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the first convolution by `value`, in place."""
        self.conv1 = value  # type: ignore[assignment]

    @can_return_tuple
    def forward(
        self, input_values: torch.Tensor, output_hidden_states: bool | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        r"""Encode ECGs.

        input_values (`torch.FloatTensor` of shape `(batch_size, 12, 5000)`):
            The output of `MeitFeatureExtractor`: 500 Hz, one minimum and one maximum over all leads.
        output_hidden_states (`bool`, *optional*):
            Also return the result of the first convolution and of each stage, each (batch_size, frames, channels).

        Returns `last_hidden_state` (batch_size, num_frames, hidden_size) and `pooler_output` (batch_size, hidden_size),
        the mean over time.
        """
        if input_values.ndim != 3 or input_values.shape[1] != self.config.num_leads:
            raise ValueError(
                f"input_values must be (batch, {self.config.num_leads} leads, samples), got "
                f"{tuple(input_values.shape)}. `MeitFeatureExtractor` makes them."
            )
        hidden_states = torch.relu(self.bn1(self.conv1(input_values)))
        states = [hidden_states]
        for stage in range(1, len(self.config.stage_depths) + 1):
            states.append(self.get_submodule(f"layer{stage}")(states[-1]))
        by_frame = [state.transpose(1, 2) for state in states]
        with_hidden_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutputWithPooling(
            last_hidden_state=by_frame[-1],
            pooler_output=by_frame[-1].mean(1),
            hidden_states=tuple(by_frame) if with_hidden_states else None,
        )


@dataclass
class EcgResNetProjectionOutput(ModelOutput):
    """Output of [`EcgResNetModelWithProjection`].

    Attributes:
        ecg_embeds: (batch, projection_dim), of length one.
        last_hidden_state: (batch, num_frames, hidden_size).
        hidden_states: see [`EcgResNetModel`].
    """

    ecg_embeds: torch.FloatTensor | None = None
    last_hidden_state: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None


class EcgResNetModelWithProjection(EcgResNetPreTrainedModel):
    """The encoder with MEIT's projector: what a published `ecg_model.pth` holds."""

    def __init__(self, config: EcgResNetConfig):
        super().__init__(config)
        self.ecg_resnet = EcgResNetModel(config)
        self.projector = EcgProjector(
            config.hidden_size, config.projection_dim, config.projector_norm, config.batch_norm_eps
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the first convolution of the encoder."""
        return self.ecg_resnet.conv1

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the first convolution of the encoder by `value`, in place."""
        self.ecg_resnet.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self, input_values: torch.Tensor, output_hidden_states: bool | None = None, **_: Any
    ) -> EcgResNetProjectionOutput:
        r"""Encode and project ECGs.

        input_values (`torch.FloatTensor` of shape `(batch_size, 12, 5000)`):
            As [`EcgResNetModel`] takes them.
        output_hidden_states (`bool`, *optional*):
            As in [`EcgResNetModel`].
        """
        encoded = self.ecg_resnet(input_values, output_hidden_states=output_hidden_states, return_dict=True)
        embeds = self.projector(encoded.pooler_output[:, None])[:, 0]
        return EcgResNetProjectionOutput(embeds, encoded.last_hidden_state, encoded.hidden_states)


__all__ = ["EcgResNetModel", "EcgResNetModelWithProjection", "EcgResNetPreTrainedModel"]
