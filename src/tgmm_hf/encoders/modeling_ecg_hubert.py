"""HuBERT-ECG: transformers' HuBERT over the twelve leads, one after the other (Coppola et al. 2024).

The parts and the names of the weights are those of `HubertModel`. This class takes an ECG of several leads, and runs in
two parts, so that frozen features can be cached.
"""

import torch
from transformers import HubertModel

from ..layers.weights_fingerprint import BoundWeights
from .configuration_ecg_hubert import EcgHubertConfig
from .speech_layers import Wav2VecLayers


class EcgHubertModel(Wav2VecLayers, BoundWeights, HubertModel):  # type: ignore[misc] # the input is not speech
    """HuBERT-ECG's encoder: `last_hidden_state` (batch, tokens, hidden), `pooler_output` its mean over the tokens."""

    config: EcgHubertConfig

    def project(self, ecg_values: torch.Tensor) -> torch.Tensor:
        """Run the convolutions over the leads, one after the other: ECGs -> (batch, tokens, hidden)."""
        return self.feature_projection(self.feature_extractor(ecg_values.flatten(1)).transpose(1, 2))


__all__ = ["EcgHubertModel"]
