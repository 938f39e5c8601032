"""Configuration of ECG-FM, a wav2vec 2.0 encoder over the twelve leads."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import Wav2Vec2Config

from ..utils.hub_code import HubCode
from ..utils.names import LEADS

ECG_FM_PREPROCESSING: dict[str, Any] = {
    "feature_extractor_type": "EcgFmFeatureExtractor",
    "sampling_rate": 500,
    "num_samples": 2500,
    "lead_order": list(LEADS),
}
"""How the published weights saw an ECG, see decision 216. The names are arguments of the extractor."""


@strict
class EcgFmConfig(HubCode, Wav2Vec2Config):
    """Configuration of [`EcgFmModel`]. The defaults are the published base size (McKeen et al. 2024).

    The settings of transformers' `Wav2Vec2Config` are defaulted as ECG-FM sets them. Masking and layer drop are off.
    Settings of pre-training, such as those of the codebooks, are not read.

    Args:
        num_leads: number of leads, the input channels of the first convolution.
        seq_length: samples of a lead, 5 s at 500 Hz.
        preprocessing: settings of the extractor that the weights need. `TgmmProcessor` applies them, and refuses an
            extractor with other ones.
        weights_fingerprint: see `TgmmConfig`.
        processor_fingerprint: see `TgmmConfig`.
    """

    hub_auto_class = "AutoConfig"
    model_type = "ecg_fm"
    base_config_key = "ecg_config"

    num_leads: int = 12
    seq_length: int = 2500
    conv_dim: list[int] | tuple[int, ...] = (256, 256, 256, 256)
    conv_kernel: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    conv_stride: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    activation_dropout: float | int = 0.0
    layerdrop: float | int = 0.0
    apply_spec_augment: bool = False
    mask_time_prob: float | int = 0.0
    preprocessing: dict | None = None
    weights_fingerprint: dict | None = None
    processor_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.preprocessing is None:
            self.preprocessing = dict(ECG_FM_PREPROCESSING)
        if self.do_stable_layer_norm:
            raise ValueError("do_stable_layer_norm is true, and ECG-FM has its norms after the layers: set false.")
