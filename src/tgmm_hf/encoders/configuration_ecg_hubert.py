"""Configuration of HuBERT-ECG, a HuBERT that reads the twelve leads as one sequence."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import HubertConfig

from ..utils.hub_code import HubCode
from ..utils.names import LEADS

HUBERT_ECG_PREPROCESSING: dict[str, Any] = {
    "feature_extractor_type": "HubertEcgFeatureExtractor",
    "sampling_rate": 500,
    "num_samples": 2500,
    "highpass": 0.05,
    "lowpass": 47.0,
    "filter_seconds": 0.3,
    "decimation": 5,
    "lead_order": list(LEADS),
}
"""How the published weights saw an ECG, see decision 213. The names are arguments of the extractor."""


@strict
class EcgHubertConfig(HubCode, HubertConfig):
    """Configuration of [`EcgHubertModel`]. The defaults are the published base size (Coppola et al. 2024).

    The settings of transformers' `HubertConfig` are defaulted as HuBERT-ECG sets them for 100 Hz. Masking and layer
    drop are off, because the published fine-tuning turns them off too.

    Args:
        num_leads: number of leads.
        seq_length: samples of a lead that the model reads, 5 s at 100 Hz. The leads follow one another, so that the
            sequence has `num_leads * seq_length` samples.
        preprocessing: settings of the extractor that the weights need. `TgmmProcessor` applies them, and refuses an
            extractor with other ones.
        weights_fingerprint: see `TgmmConfig`.
        processor_fingerprint: see `TgmmConfig`.
    """

    hub_auto_class = "AutoConfig"
    model_type = "ecg_hubert"
    base_config_key = "ecg_config"

    num_leads: int = 12
    seq_length: int = 500
    conv_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 512)
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 2, 2)
    conv_stride: list[int] | tuple[int, ...] = (4, 2, 2, 2, 2)
    layerdrop: float | int = 0.0
    apply_spec_augment: bool = False
    mask_time_prob: float | int = 0.0
    preprocessing: dict | None = None
    weights_fingerprint: dict | None = None
    processor_fingerprint: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.preprocessing is None:
            self.preprocessing = dict(HUBERT_ECG_PREPROCESSING)
        if self.do_stable_layer_norm:
            raise ValueError("do_stable_layer_norm is true, and HuBERT-ECG has its norms after the layers: set false.")
