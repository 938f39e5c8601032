"""ECG-FM: transformers' wav2vec 2.0 with twelve leads as input channels (McKeen et al. 2024).

The parts and the names of the weights are those of `Wav2Vec2Model`. Only the first convolution differs, because it has
a channel for each lead.
"""

from typing import Any, cast

import torch
from torch import nn
from transformers import Wav2Vec2PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Encoder,
    Wav2Vec2FeatureEncoder,
    Wav2Vec2FeatureProjection,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ..layers.weights_fingerprint import BoundWeights
from .configuration_ecg_fm import EcgFmConfig


class EcgFmFeatureEncoder(Wav2Vec2FeatureEncoder):
    """Convolutions of wav2vec 2.0 whose first one reads all leads."""

    def __init__(self, config: EcgFmConfig):
        super().__init__(config)
        first = self.conv_layers[0]
        first.conv = nn.Conv1d(
            config.num_leads,
            config.conv_dim[0],
            kernel_size=config.conv_kernel[0],
            stride=config.conv_stride[0],
            bias=config.conv_bias,
        )

    def forward(self, ecg_values: torch.Tensor) -> torch.Tensor:
        """Map ECGs (batch, leads, samples) to (batch, channels, tokens)."""
        hidden_states = ecg_values
        for layer in self.conv_layers:
            hidden_states = layer(hidden_states)
        return hidden_states


class EcgFmModel(BoundWeights, Wav2Vec2PreTrainedModel):
    """ECG-FM's encoder: `last_hidden_state` (batch, tokens, hidden), `pooler_output` its mean over the tokens."""

    config: EcgFmConfig
    hub_auto_class = "AutoModel"
    main_input_name = "ecg_values"
    input_modalities = ("time",)  # type: ignore[assignment] # declared a text; tuples are usual
    layers_path = "encoder.layers"

    def __init__(self, config: EcgFmConfig):
        super().__init__(config)
        self.feature_extractor = EcgFmFeatureEncoder(config)
        self.feature_projection = Wav2Vec2FeatureProjection(config)
        self.encoder = Wav2Vec2Encoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the first convolution, in the place of word embeddings."""
        return cast(Any, self.feature_extractor.conv_layers[0]).conv

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the first convolution by `value`, in place."""
        cast(Any, self.feature_extractor.conv_layers[0]).conv = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(self, ecg_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        r"""Encode ECGs.

        ecg_values (`torch.FloatTensor` of shape `(batch_size, num_leads, seq_length)`):
            As `EcgFmFeatureExtractor` makes them: 5 s at 500 Hz, each lead with mean 0 and deviation 1.
        """
        return self.run_upper_layers(self.run_lower_layers(ecg_values, **kwargs), **kwargs)

    def run_lower_layers(
        self, ecg_values: torch.Tensor, num_upper_layers: int = 0, **kwargs: Unpack[TransformersKwargs]
    ) -> torch.Tensor:
        """Run convolutions and all layers but the last `num_upper_layers`: ECGs -> (batch, tokens, hidden).

        Raises:
            ValueError: if the ECGs have another number of leads or samples than the weights were trained on.
        """
        expected = self.config.num_leads, self.config.seq_length
        if ecg_values.ndim != 3 or tuple(ecg_values.shape[1:]) != expected:
            raise ValueError(
                f"ecg_values must be (batch, {expected[0]} leads, {expected[1]} samples), got "
                f"{tuple(ecg_values.shape)}. `EcgFmFeatureExtractor` makes them."
            )
        features = self.feature_extractor(ecg_values).transpose(1, 2)
        hidden_states = self.feature_projection(features)[0]
        encoder = self.encoder
        hidden_states = encoder.layer_norm(hidden_states + encoder.pos_conv_embed(hidden_states))
        hidden_states = encoder.dropout(hidden_states)
        for layer in encoder.layers[: len(encoder.layers) - num_upper_layers]:
            hidden_states = layer(hidden_states, **kwargs)
        return hidden_states

    def run_upper_layers(
        self, hidden_states: torch.Tensor, num_upper_layers: int = 0, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        """Run the last `num_upper_layers` layers on the result of `run_lower_layers`, and average the tokens."""
        layers = self.encoder.layers
        for layer in layers[len(layers) - num_upper_layers :]:
            hidden_states = layer(hidden_states, **kwargs)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=hidden_states.mean(1))


__all__ = ["EcgFmModel"]
