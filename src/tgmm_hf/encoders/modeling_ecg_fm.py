"""ECG-FM: transformers' wav2vec 2.0 with twelve leads as input channels (McKeen et al. 2024).

The parts and the names of the weights are those of `Wav2Vec2Model`. Only the first convolution differs, because it has
a channel for each lead.
"""

import torch
from torch import nn
from transformers import Wav2Vec2PreTrainedModel
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Encoder,
    Wav2Vec2FeatureEncoder,
    Wav2Vec2FeatureProjection,
)

from ..layers.weights_fingerprint import BoundWeights
from .configuration_ecg_fm import EcgFmConfig
from .speech_layers import Wav2VecLayers


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


class EcgFmModel(Wav2VecLayers, BoundWeights, Wav2Vec2PreTrainedModel):  # type: ignore[misc] # no speech
    """ECG-FM's encoder: `last_hidden_state` (batch, tokens, hidden), `pooler_output` its mean over the tokens."""

    config: EcgFmConfig

    def __init__(self, config: EcgFmConfig):
        super().__init__(config)
        self.feature_extractor = EcgFmFeatureEncoder(config)
        self.feature_projection = Wav2Vec2FeatureProjection(config)
        self.encoder = Wav2Vec2Encoder(config)
        self.post_init()

    def project(self, ecg_values: torch.Tensor) -> torch.Tensor:
        """Run the convolutions, which have a channel for each lead: ECGs -> (batch, tokens, hidden)."""
        return self.feature_projection(self.feature_extractor(ecg_values).transpose(1, 2))[0]


__all__ = ["EcgFmModel"]
