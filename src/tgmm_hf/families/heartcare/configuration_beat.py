"""Configuration of Beat, the ECG tokenizer of Heartcare."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ...configuration_tasks import check_choice
from ...utils.hub_code import HubCode

GRADIENTS = ("rotation", "straight_through")
"""How the gradient of the quantised vectors reaches the latents."""


@strict
class BeatConfig(HubCode, PreTrainedConfig):
    """Configuration of [`BeatModel`]. The defaults are the paper's design (Heartcare, arXiv 2506.05831).

    The paper gives the two codebooks, their size, the window and the weights of the losses. The sizes of the
    transformers are those of the public prototype. `BeatConfig.prototype()` gives the whole prototype.

    Args:
        num_leads: number of leads.
        seq_length: number of samples of the window, 4 s at 250 Hz.
        prediction_length: number of samples after the window that are predicted, 1 s at 250 Hz.
        patch_size: number of samples of a patch, which holds all leads.
        num_queries: number of learned query tokens. Each becomes one code of each level. None takes half the number of
            patches, as in the prototype.
        hidden_size: width of the tokens, of the latents and of the codes' vectors.
        num_hidden_layers: number of layers of the encoder, and of the decoder.
        num_attention_heads: number of heads.
        attention_head_size: width of a head.
        intermediate_size: inner width of the MLPs.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of the layer norms.
        initializer_range: standard deviation of the starting positions and query tokens.
        num_levels: number of codes of a query token. The first is the core code. Each next code encodes the remaining
            error.
        codebook_size: number of codes of a codebook.
        shared_codebook: one codebook for all levels, as in the prototype.
        shared_output: the linear layer of the reconstruction predicts too, as in the prototype.
        local_paths: each query token starts with a linear map of neighbouring patches. The decoder's positions start
            with a linear map of their latent (ours). The prototype has no such paths, and a new model then hardly
            learns (docs/decisions/195-start-of-beat.md).
        quantizer_gradient: "rotation" (Fifty et al. 2024) or "straight_through" (van den Oord et al. 2017).
        codebook_decay: decay of the moving averages that move the codebooks in training.
        codebook_eps: Laplace smoothing of the counts of the codes.
        dead_code_threshold: share of an even use. A code that is used less is replaced in training. 0 replaces none.
        reconstruction_weight: weight of the squared error of the reconstruction in the loss.
        prediction_weight: weight of the squared error of the prediction.
        quantization_weight: weight of the squared distance of the latents from their codes.
        weights_fingerprint: see `TgmmConfig`.
        processor_fingerprint: see `TgmmConfig`.
    """

    hub_auto_class = "AutoConfig"
    model_type = "beat"

    num_leads: int = 12
    seq_length: int = 1000
    prediction_length: int = 250
    patch_size: int = 25
    num_queries: int | None = None
    hidden_size: int = 128
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    attention_head_size: int = 64
    intermediate_size: int = 512
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    num_levels: int = 2
    codebook_size: int = 512
    shared_codebook: bool = False
    shared_output: bool = False
    local_paths: bool = True
    quantizer_gradient: str = "rotation"
    codebook_decay: float | int = 0.99
    codebook_eps: float = 1e-5
    dead_code_threshold: float | int = 0.05
    reconstruction_weight: float | int = 1.0
    prediction_weight: float | int = 0.5
    quantization_weight: float | int = 0.25
    weights_fingerprint: dict | None = None
    processor_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        check_choice("quantizer_gradient", self.quantizer_gradient, GRADIENTS)
        for name in ("seq_length", "prediction_length"):
            length = getattr(self, name)
            if length < self.patch_size or length % self.patch_size:
                raise ValueError(
                    f"{name} must be a multiple of patch_size, got {length} and {self.patch_size} samples."
                )
        if self.num_queries is None:
            self.num_queries = max(self.num_patches // 2, 1)
        self._check_queries(self.num_queries)
        if self.num_levels < 1 or self.codebook_size < 1:
            raise ValueError(
                f"num_levels and codebook_size must be at least 1, got {self.num_levels} and {self.codebook_size}."
            )
        if not 0 <= self.codebook_decay < 1 or not 0 <= self.dead_code_threshold < 1:
            raise ValueError(
                "codebook_decay and dead_code_threshold must be at least 0 and below 1, got "
                f"{self.codebook_decay} and {self.dead_code_threshold}."
            )

    def _check_queries(self, num_queries: int) -> None:
        """Raise a ValueError if the query tokens cannot be shared out evenly over the predicted patches."""
        predicted = self.num_predicted_patches
        if num_queries < 1 or num_queries % predicted:
            raise ValueError(
                f"num_queries must be a multiple of the number of predicted patches, {predicted} (prediction_length / "
                f"patch_size), got {num_queries}. Set num_queries or prediction_length."
            )
        if self.local_paths and self.num_patches % num_queries:
            raise ValueError(
                "With local_paths each query token stands for as many patches as the others, so num_queries must "
                f"divide the number of patches, {self.num_patches} (seq_length / patch_size), got {num_queries}. Set "
                "num_queries, or local_paths=False."
            )
        if self.shared_output and num_queries != predicted:
            raise ValueError(
                f"With shared_output each query token predicts one patch, so num_queries must be {predicted} "
                f"(prediction_length / patch_size), got {num_queries}."
            )

    @property
    def num_patches(self) -> int:
        """Number of patches of the window."""
        return self.seq_length // self.patch_size

    @property
    def num_predicted_patches(self) -> int:
        """Number of patches that are predicted."""
        return self.prediction_length // self.patch_size

    @classmethod
    def prototype(cls, **overrides: Any) -> "BeatConfig":
        """Configure the public prototype: a window of 2 s, one codebook of 256 codes, one output layer.

        Args:
            overrides: settings that replace those of the prototype.
        """
        settings: dict[str, Any] = {
            "seq_length": 500,
            "num_queries": 10,
            "codebook_size": 256,
            "shared_codebook": True,
            "shared_output": True,
            "local_paths": False,
            "codebook_decay": 0.8,
            "dead_code_threshold": 0.0,
            "prediction_weight": 1.0,
            "quantization_weight": 0.0,
        }
        return cls(**{**settings, **overrides})


__all__ = ["GRADIENTS", "BeatConfig"]
