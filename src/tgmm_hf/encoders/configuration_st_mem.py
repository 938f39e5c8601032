"""Configuration of the ST-MEM encoder for 12-lead ECGs."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..utils.hub_code import HubCode


@strict
class StMemConfig(HubCode, PreTrainedConfig):
    """ST-MEM's ViT for 12-lead ECGs (Na et al. 2024). The defaults are its base size, patches of 75 samples (300 ms).

    `patch_norms=False` (ours, for new weights only) leaves out the two layer norms around the projection of a patch.
    With these norms, as published, a patch between two beats is as loud as a QRS complex.

    Only `StMemForPreTraining` reads the `decoder_*` sizes, `mask_ratio` and `norm_pix_loss` (targets standardised patch
    by patch). A head of the decoder is as wide as a head of the encoder. `decoder_norm_eps` is the epsilon of the
    decoder's last norm only, as published.
    """

    hub_auto_class = "AutoConfig"
    model_type = "st_mem"
    base_config_key = "ecg_config"

    num_leads: int = 12
    seq_length: int = 2250
    patch_size: int = 75
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    attention_head_size: int = 64
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    layer_norm_eps: float = 1e-5
    patch_norms: bool = True
    initializer_range: float = 0.02
    decoder_hidden_size: int = 256
    decoder_num_hidden_layers: int = 4
    decoder_num_attention_heads: int = 4
    decoder_intermediate_size: int = 1024
    decoder_norm_eps: float = 1e-6
    mask_ratio: float | int = 0.75
    norm_pix_loss: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.seq_length % self.patch_size:
            raise ValueError(
                f"seq_length must be a multiple of patch_size, got {self.seq_length} and {self.patch_size}: "
                f"use seq_length={self.seq_length // self.patch_size * self.patch_size}."
            )

    @property
    def num_patches(self) -> int:
        """Number of patches of one lead."""
        return self.seq_length // self.patch_size
