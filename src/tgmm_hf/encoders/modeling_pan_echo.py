"""PanEcho: a ConvNeXt reads each frame, a transformer reads the frames of a clip (Holste et al. 2025).

Both parts are of transformers: the stages of `ConvNextModel`, and the layers of BERT, whose order of norms PanEcho's
layers have.
"""

import math
from typing import Any, cast

import torch
from torch import nn
from transformers import ConvNextConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention
from transformers.models.convnext.modeling_convnext import ConvNextEmbeddings, ConvNextLayer, ConvNextStage
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ..layers.input_shapes import check_clip_size
from ..layers.weights_fingerprint import BoundWeights
from .configuration_pan_echo import PanEchoConfig


def frame_positions(num_frames: int, width: int) -> torch.Tensor:
    """Compute the fixed positions of frames (num_frames, width): sines on even places, cosines on odd places."""
    place = torch.arange(num_frames)[:, None]
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(place * frequency), torch.cos(place * frequency)], dim=2).flatten(1)


class PanEchoFrames(nn.Module):
    """ConvNeXt of single frames, in the parts of transformers' `ConvNextModel`.

    `ConvNextModel` itself refuses every kind of attention but one, because it has none, and so would a model around it.
    """

    def __init__(self, config: ConvNextConfig):
        super().__init__()
        widths = list(config.hidden_sizes or ())
        self.embeddings = ConvNextEmbeddings(config)
        self.stages = nn.ModuleList(
            ConvNextStage(config, before, width, stride=2 if stage else 1, depth=depth)
            for stage, (before, width, depth) in enumerate(
                zip([widths[0], *widths], widths, config.depths or (), strict=False)
            )
        )
        self.layernorm = nn.LayerNorm(widths[-1], eps=config.layer_norm_eps)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Map frames (n, 3, height, width) to features (n, width of the last stage)."""
        features = self.embeddings(frames)
        for stage in self.stages:
            features = stage(features)
        return self.layernorm(features.mean((-2, -1)))


class PanEchoModel(BoundWeights, PreTrainedModel):
    """PanEcho without its task heads: `last_hidden_state` (batch, frames, hidden), `pooler_output` their mean."""

    config: PanEchoConfig
    base_model_prefix = "pan_echo"
    hub_auto_class = "AutoModel"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)  # type: ignore[assignment] # declared a list; tuples are usual
    supports_gradient_checkpointing = True
    layers_path = "layers"
    _no_split_modules = ["BertLayer", "ConvNextLayer"]  # noqa: RUF012 - read by transformers
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": BertLayer, "attentions": BertSelfAttention}  # noqa: RUF012

    def __init__(self, config: PanEchoConfig):
        super().__init__(config)
        self.frames = PanEchoFrames(config.frame_config())
        self.layers = nn.ModuleList([BertLayer(config) for _ in range(config.num_hidden_layers)])
        self.gradient_checkpointing = False
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the starting weights of a module. transformers calls this for every module."""
        super()._init_weights(module)
        if isinstance(module, ConvNextLayer) and module.layer_scale_parameter is not None:
            init.constant_(module.layer_scale_parameter, self.config.frame_config().layer_scale_init_value)

    def get_input_embeddings(self) -> nn.Module:
        """Return the convolution that embeds the patches of a frame."""
        return self.frames.embeddings.patch_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the convolution that embeds the patches of a frame by `value`, in place."""
        cast(Any, self.frames.embeddings).patch_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self, pixel_values_videos: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        r"""Encode clips.

        pixel_values_videos (`torch.FloatTensor` of shape `(batch_size, num_frames, 3, height, width)`):
            One clip a row, as `StretchedEchoImageProcessor` makes them.
        """
        hidden_states = self.run_lower_layers(pixel_values_videos, num_upper_layers=1, **kwargs)
        return self.run_upper_layers(hidden_states, num_upper_layers=1, **kwargs)

    def run_lower_layers(
        self, pixel_values_videos: torch.Tensor, num_upper_layers: int = 0, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """Run the ConvNeXt and all layers but the last `num_upper_layers`: clips -> (batch, frames, hidden).

        Without an upper layer the mean over the frames is taken too, so that the result is one token of a clip.

        Raises:
            ValueError: if the clips have another size than the configuration says.
        """
        check_clip_size(pixel_values_videos, self.config.num_frames, self.config.image_size)
        clips, frames = pixel_values_videos.shape[:2]
        embedded = self.frames(pixel_values_videos.flatten(0, 1)).unflatten(0, (clips, frames))
        positions = frame_positions(frames, self.config.hidden_size)
        hidden_states = embedded + positions.to(embedded.device, embedded.dtype)
        for layer in self.layers[: len(self.layers) - num_upper_layers]:
            hidden_states = layer(hidden_states, **kwargs)
        return hidden_states if num_upper_layers else hidden_states.mean(1, keepdim=True)

    def run_upper_layers(
        self, hidden_states: torch.Tensor, num_upper_layers: int = 0, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        """Run the last `num_upper_layers` layers on the result of `run_lower_layers`, and average the frames."""
        for layer in self.layers[len(self.layers) - num_upper_layers :]:
            hidden_states = layer(hidden_states, **kwargs)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=hidden_states.mean(1))


__all__ = ["PanEchoModel", "frame_positions"]
