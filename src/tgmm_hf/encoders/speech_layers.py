"""What HuBERT-ECG and ECG-FM share: the layers of wav2vec 2.0 over an ECG, run whole or in two parts."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs


class Wav2VecLayers:
    """Mixin of an ECG encoder with `feature_extractor` (convolutions), `feature_projection` and `encoder`.

    Its method `project` runs the convolutions and their projection: ECGs (batch, leads, samples) -> (batch, tokens,
    hidden). The two parts let frozen features be cached.
    """

    config: Any
    feature_extractor: Any
    encoder: Any
    project: Callable[[torch.Tensor], torch.Tensor]
    hub_auto_class = "AutoModel"
    main_input_name = "ecg_values"
    input_modalities = ("time",)
    layers_path = "encoder.layers"

    def get_input_embeddings(self) -> nn.Module:
        """Return the first convolution, in the place of word embeddings."""
        return cast(nn.Module, self.feature_extractor.conv_layers[0].conv)

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the first convolution by `value`, in place."""
        self.feature_extractor.conv_layers[0].conv = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(self, ecg_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        r"""Encode ECGs.

        ecg_values (`torch.FloatTensor` of shape `(batch_size, num_leads, seq_length)`):
            As the extractor makes them that `config.preprocessing` names.
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
                f"{tuple(ecg_values.shape)}. `{self.config.preprocessing['feature_extractor_type']}` makes them."
            )
        hidden_states = self.project(ecg_values)
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


__all__ = ["Wav2VecLayers"]
