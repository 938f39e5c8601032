"""Configuration of EchoJEPA, a V-JEPA 2 encoder for echo clips."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import VJEPA2Config

from ..utils.hub_code import HubCode
from ..utils.imagenet import IMAGENET_MEAN, IMAGENET_STD

ECHO_JEPA_PREPROCESSING: dict[str, Any] = {
    "image_processor_type": "StretchedEchoImageProcessor",
    "size": 224,
    "resize_size": 256,
    "num_frames": 16,
    "frame_stride": 2,
    "channel_order": "RGB",
    "image_mean": list(reversed(IMAGENET_MEAN)),
    "image_std": list(reversed(IMAGENET_STD)),
    "mask_sector": False,
}
"""How the published probes saw a clip, see decision 214. The names are arguments of the image processor; means and
deviations are per channel B, G, R on the 0-255 scale."""


@strict
class EchoJepaConfig(HubCode, VJEPA2Config):
    """Configuration of [`EchoJepaModel`]. The defaults are EchoJEPA-L (Munim et al. 2026): ViT-L, 16 frames of 224 px.

    The settings of transformers' `VJEPA2Config` that begin with `pred_`, and `num_pooler_layers`, are not read.

    Args:
        crop_size: height and width of a frame, in pixels. `image_size` is another name for it.
        frames_per_clip: number of frames. `num_frames` is another name for it.
        preprocessing: settings of the image processor that the weights need. `TgmmProcessor` applies them, and refuses
            an image processor with other ones.
        weights_fingerprint: see `TgmmConfig`.
        processor_fingerprint: see `TgmmConfig`.
    """

    hub_auto_class = "AutoConfig"
    model_type = "echo_jepa"
    base_config_key = "echo_config"
    attribute_map = {"image_size": "crop_size", "num_frames": "frames_per_clip"}  # noqa: RUF012 - of transformers

    crop_size: int = 224
    frames_per_clip: int = 16
    preprocessing: dict | None = None
    weights_fingerprint: dict | None = None
    processor_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.preprocessing is None:
            geometry = {
                "size": self.crop_size,
                "resize_size": self.crop_size * 8 // 7,
                "num_frames": self.frames_per_clip,
            }
            self.preprocessing = {**ECHO_JEPA_PREPROCESSING, **geometry}
