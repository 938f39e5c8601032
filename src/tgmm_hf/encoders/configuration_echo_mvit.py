"""Configuration of the MViT-v2 encoder for echo clips."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..utils.hub_code import HubCode


@strict
class EchoMvitConfig(HubCode, PreTrainedConfig):
    """MViT-v2 for one echo clip (Li et al. 2022); the defaults are MViT-v2-S, the size of EchoPrime's video encoder.

    Stage ``s`` has ``stage_depths[s]`` blocks of width ``stage_widths[s]``. Every stage after the first halves height
    and width of the token grid. In the first stage, keys and values are pooled by the factor ``kv_stride`` in height
    and width. Each later stage halves this factor. ``patch_kernel``, ``patch_stride`` and ``patch_padding`` are
    (frames, rows, columns). Only `EchoMvitModelWithProjection` reads ``projection_dim``, the width of its head
    (EchoPrime: 512). Only `EchoMvitForPreTraining` reads ``mask_ratio``.
    """

    hub_auto_class = "AutoConfig"
    model_type = "echo_mvit"
    base_config_key = "echo_config"
    attribute_map = {"num_attention_heads": "stage_heads"}  # noqa: RUF012 - transformers reads this class attribute

    image_size: int = 224
    num_frames: int = 16
    num_channels: int = 3
    patch_kernel: list[int] | tuple[int, ...] = (3, 7, 7)
    patch_stride: list[int] | tuple[int, ...] = (2, 4, 4)
    patch_padding: list[int] | tuple[int, ...] = (1, 3, 3)
    stage_depths: list[int] | tuple[int, ...] = (1, 2, 11, 2)
    stage_widths: list[int] | tuple[int, ...] = (96, 192, 384, 768)
    stage_heads: list[int] | tuple[int, ...] = (1, 2, 4, 8)
    kv_stride: int = 8
    hidden_size: int = 768
    mlp_ratio: int = 4
    hidden_act: str = "gelu"
    drop_path_rate: float | int = 0.2
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    projection_dim: int = 512
    mask_ratio: float | int = 0.6

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        lengths = {len(self.stage_depths), len(self.stage_widths), len(self.stage_heads)}
        if len(lengths) != 1:
            raise ValueError(
                f"stage_depths, stage_widths and stage_heads must be equally long, got {len(self.stage_depths)}, "
                f"{len(self.stage_widths)} and {len(self.stage_heads)}."
            )
        if self.hidden_size != self.stage_widths[-1]:
            raise ValueError(
                f"hidden_size is the width of the last stage: got {self.hidden_size}, stage_widths ends in "
                f"{self.stage_widths[-1]}."
            )
        for width, heads in zip(self.stage_widths, self.stage_heads, strict=True):
            if width % heads:
                raise ValueError(f"A stage's width must be a multiple of its heads, got {width} and {heads}.")

    @property
    def num_hidden_layers(self) -> int:
        """Number of blocks of all stages together."""
        return sum(self.stage_depths)
