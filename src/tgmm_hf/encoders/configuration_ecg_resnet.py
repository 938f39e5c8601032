"""Configuration of MEIT's ECG encoder, a one-dimensional ResNet-50."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..utils.hub_code import HubCode

EXPANSION = 4
"""A bottleneck block gives four times as many channels as its middle convolution (ResNet, He et al. 2016)."""


@strict
class EcgResNetConfig(HubCode, PreTrainedConfig):
    """Configuration of [`EcgResNetModel`]. The defaults are the published size (MEIT, Wan et al. 2024).

    Args:
        num_leads: number of leads, the input channels.
        seq_length: number of samples, 10 s at 500 Hz.
        embedding_size: channels after the first convolution.
        stage_depths: number of bottleneck blocks of each stage.
        stage_widths: channels of the middle convolution of each stage. The stage gives four times as many.
        batch_norm_eps: epsilon of the batch norms.
        projection_dim: width of the projected vector of [`EcgResNetModelWithProjection`].
        projector_norm: batch norms in the projector. The published projector for GPT-NeoX has none.
        weights_fingerprint: see `TgmmConfig`.
        processor_fingerprint: see `TgmmConfig`.
    """

    hub_auto_class = "AutoConfig"
    model_type = "ecg_resnet"
    base_config_key = "ecg_config"

    num_leads: int = 12
    seq_length: int = 5000
    embedding_size: int = 64
    stage_depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    stage_widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    batch_norm_eps: float = 1e-5
    projection_dim: int = 128
    projector_norm: bool = True
    weights_fingerprint: dict | None = None
    processor_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if not self.stage_widths or len(self.stage_depths) != len(self.stage_widths):
            raise ValueError(
                f"stage_depths and stage_widths must have equally many entries, at least one, got "
                f"{list(self.stage_depths)} and {list(self.stage_widths)}."
            )

    @property
    def hidden_size(self) -> int:
        """Number of channels of the last stage."""
        return EXPANSION * self.stage_widths[-1]

    @property
    def num_frames(self) -> int:
        """Number of time steps after the last stage: each halving rounds up (the first convolution and each stage)."""
        frames = self.seq_length
        for _ in self.stage_widths:
            frames = -(-frames // 2)
        return frames
