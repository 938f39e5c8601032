"""EchoJEPA: the encoder of transformers' V-JEPA 2, without its predictor (Munim et al. 2026).

The names of the weights are those of `VJEPA2Model`. This class gives one vector a clip, and runs in two parts, so that
frozen features can be cached.
"""

from typing import Any, cast

import torch
from torch import nn
from transformers import VJEPA2PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2Encoder
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ..layers.input_shapes import check_clip_size
from ..layers.weights_fingerprint import BoundWeights
from .configuration_echo_jepa import EchoJepaConfig


class EchoJepaModel(BoundWeights, VJEPA2PreTrainedModel):
    """EchoJEPA's encoder: `last_hidden_state` (batch, tokens, hidden), `pooler_output` its mean over the tokens.

    The published work reads the tokens with an attentive probe that is trained for each task. The mean is ours.
    """

    config: EchoJepaConfig
    hub_auto_class = "AutoModel"
    input_modalities = ("video",)  # type: ignore[assignment] # declared a text; tuples are usual
    layers_path = "encoder.layer"

    def __init__(self, config: EchoJepaConfig):
        super().__init__(config)
        self.encoder = VJEPA2Encoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the convolution that embeds patches."""
        return self.encoder.embeddings.patch_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the convolution that embeds patches by `value`, in place."""
        cast(Any, self.encoder.embeddings).patch_embeddings = value

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
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
        """Run the embedding and all layers but the last `num_upper_layers`: clips -> (batch, tokens, hidden).

        Without an upper layer the last norm and the mean over the tokens are run too, so that the result is one token
        of a clip in place of 1,568.

        Raises:
            ValueError: if the clips have another size than the configuration says.
        """
        check_clip_size(pixel_values_videos, self.config.frames_per_clip, self.config.crop_size)
        hidden_states = self.encoder.embeddings(pixel_values_videos)
        for layer in self.encoder.layer[: len(self.encoder.layer) - num_upper_layers]:
            hidden_states = layer(hidden_states, None, **kwargs)[0]
        if num_upper_layers:
            return hidden_states
        return self.encoder.layernorm(hidden_states).mean(1, keepdim=True)

    def run_upper_layers(
        self, hidden_states: torch.Tensor, num_upper_layers: int = 0, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        """Run the last `num_upper_layers` layers and the final norm on the result of `run_lower_layers`."""
        if num_upper_layers:
            for layer in self.encoder.layer[len(self.encoder.layer) - num_upper_layers :]:
                hidden_states = layer(hidden_states, None, **kwargs)[0]
            hidden_states = self.encoder.layernorm(hidden_states)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=hidden_states.mean(1))


__all__ = ["EchoJepaModel"]
