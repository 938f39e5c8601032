"""Configuration of PanEcho, a ConvNeXt for frames and a transformer over the frames of an echo clip."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import ConvNextConfig, PreTrainedConfig

from ..utils.hub_code import HubCode
from ..utils.imagenet import IMAGENET_MEAN, IMAGENET_STD

PAN_ECHO_PREPROCESSING: dict[str, Any] = {
    "image_processor_type": "StretchedEchoImageProcessor",
    "size": 224,
    "resize_size": 256,
    "num_frames": 16,
    "frame_stride": 1,
    "channel_order": "BGR",
    "image_mean": list(IMAGENET_MEAN),
    "image_std": list(IMAGENET_STD),
    "mask_sector": False,
}
"""How the published weights saw a clip, see decision 215. The names are arguments of the image processor. The published
code gave ImageNet's means for R, G, B to the channels B, G, R."""


@strict
class PanEchoConfig(HubCode, PreTrainedConfig):
    """Configuration of [`PanEchoModel`]. The defaults are the published size (Holste et al. 2025).

    Args:
        image_size: height and width of a frame, in pixels.
        num_frames: number of frames of a clip.
        frame_depths: number of blocks of each stage of the ConvNeXt.
        frame_widths: channels of each stage. The last one is `hidden_size`.
        hidden_size: width of the transformer over frames.
        num_hidden_layers: its number of layers.
        num_attention_heads: its number of attention heads.
        intermediate_size: width of its feed-forward layers.
        hidden_act: its activation.
        hidden_dropout_prob: its dropout.
        attention_probs_dropout_prob: its dropout on attention.
        layer_norm_eps: epsilon of its norms.
        initializer_range: standard deviation of new weights.
        chunk_size_feed_forward: as in transformers' BERT, whose layers it has.
        preprocessing: settings of the image processor that the weights need. `TgmmProcessor` applies them, and refuses
            an image processor with other ones.
        weights_fingerprint: see `TgmmConfig`.
        processor_fingerprint: see `TgmmConfig`.
    """

    hub_auto_class = "AutoConfig"
    model_type = "pan_echo"
    base_config_key = "echo_config"

    image_size: int = 224
    num_frames: int = 16
    frame_depths: list[int] | tuple[int, ...] = (3, 3, 9, 3)
    frame_widths: list[int] | tuple[int, ...] = (96, 192, 384, 768)
    hidden_size: int = 768
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    intermediate_size: int = 768
    hidden_act: str = "relu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    chunk_size_feed_forward: int = 0
    is_decoder: bool = False
    add_cross_attention: bool = False
    preprocessing: dict | None = None
    weights_fingerprint: dict | None = None
    processor_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.frame_widths[-1] != self.hidden_size or len(self.frame_widths) != len(self.frame_depths):
            raise ValueError(
                f"frame_widths must end in hidden_size, and have one entry for each of frame_depths: got "
                f"{list(self.frame_widths)}, {self.hidden_size} and {list(self.frame_depths)}."
            )
        if self.preprocessing is None:
            geometry = {"size": self.image_size, "resize_size": self.image_size * 8 // 7, "num_frames": self.num_frames}
            self.preprocessing = {**PAN_ECHO_PREPROCESSING, **geometry}

    def frame_config(self) -> ConvNextConfig:
        """Return the configuration of the ConvNeXt that reads frames. Its norms are torchvision's."""
        return ConvNextConfig(
            num_stages=len(self.frame_depths),
            depths=list(self.frame_depths),
            hidden_sizes=list(self.frame_widths),
            layer_norm_eps=1e-6,
            image_size=self.image_size,
        )
