"""TGMM: lab tests, 12-lead ECG and echocardiogram in one Hugging Face model.

Importing the package makes transformers' Auto classes load saved models with this package's code, without
`trust_remote_code`. The order of the two imports does not matter.

A public name is imported when it is first used (PEP 562), because torch and transformers take seconds to import.
"""

import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tgmm_hf.registration import register_when_possible

if TYPE_CHECKING:
    from tgmm_hf.configuration_tgmm import TgmmConfig
    from tgmm_hf.encoders.configuration_ecg_fm import EcgFmConfig
    from tgmm_hf.encoders.configuration_ecg_hubert import EcgHubertConfig
    from tgmm_hf.encoders.configuration_ecg_resnet import EcgResNetConfig
    from tgmm_hf.encoders.configuration_echo_jepa import EchoJepaConfig
    from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
    from tgmm_hf.encoders.configuration_lab_cells import LabCellsConfig
    from tgmm_hf.encoders.configuration_pan_echo import PanEchoConfig
    from tgmm_hf.encoders.configuration_st_mem import StMemConfig
    from tgmm_hf.encoders.modeling_ecg_fm import EcgFmModel
    from tgmm_hf.encoders.modeling_ecg_hubert import EcgHubertModel
    from tgmm_hf.encoders.modeling_ecg_resnet import EcgResNetModel, EcgResNetModelWithProjection
    from tgmm_hf.encoders.modeling_echo_jepa import EchoJepaModel
    from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitModel, EchoMvitModelWithProjection
    from tgmm_hf.encoders.modeling_echo_mvit_pretraining import EchoMvitForPreTraining
    from tgmm_hf.encoders.modeling_lab_cells import LabCellsModel
    from tgmm_hf.encoders.modeling_pan_echo import PanEchoModel
    from tgmm_hf.encoders.modeling_st_mem import StMemModel
    from tgmm_hf.encoders.modeling_st_mem_pretraining import StMemForPreTraining
    from tgmm_hf.families.heartcare.configuration_beat import BeatConfig
    from tgmm_hf.families.heartcare.configuration_heartcare import HeartcareConfig
    from tgmm_hf.families.heartcare.modeling_beat import BeatModel
    from tgmm_hf.families.heartcare.modeling_heartcare import HeartcareForConditionalGeneration
    from tgmm_hf.families.heartcare.pipeline_heartcare import HeartcarePipeline
    from tgmm_hf.families.heartcare.processing_heartcare import HeartcareProcessor, add_ecg_tokens
    from tgmm_hf.families.meit.configuration_meit import MeitConfig
    from tgmm_hf.families.meit.modeling_meit import MeitForConditionalGeneration
    from tgmm_hf.families.meit.pipeline_meit import MeitReportPipeline
    from tgmm_hf.families.meit.processing_meit import MeitProcessor
    from tgmm_hf.families.more.configuration_more import MoreConfig
    from tgmm_hf.families.more.modeling_more import MoreModel
    from tgmm_hf.families.more.modeling_more_classification import MoreForClassification
    from tgmm_hf.families.more.pipeline_more import MoreEcgPipeline, MoreXrayPipeline
    from tgmm_hf.families.more.processing_more import MoreProcessor
    from tgmm_hf.inputs.echo_views import EchoViewClassifier, StoredViewClassifier
    from tgmm_hf.inputs.feature_extraction_beat import BeatFeatureExtractor
    from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
    from tgmm_hf.inputs.feature_extraction_ecg_fm import EcgFmFeatureExtractor
    from tgmm_hf.inputs.feature_extraction_hubert import HubertEcgFeatureExtractor
    from tgmm_hf.inputs.feature_extraction_meit import MeitFeatureExtractor
    from tgmm_hf.inputs.feature_extraction_more import MoreFeatureExtractor
    from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
    from tgmm_hf.inputs.image_processing_stretched import StretchedEchoImageProcessor
    from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor
    from tgmm_hf.modeling_tgmm import TgmmForSequenceClassification, TgmmModel, TgmmOutput
    from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
    from tgmm_hf.processing_tgmm import TgmmProcessor, default_processor
    from tgmm_hf.utils.errors import InputRefusedError, TgmmError
    from tgmm_hf.utils.names import LEADS, MODALITIES, VIEWS

_MODULE_OF = {
    "BeatConfig": "families.heartcare.configuration_beat",
    "BeatFeatureExtractor": "inputs.feature_extraction_beat",
    "BeatModel": "families.heartcare.modeling_beat",
    "EcgFeatureExtractor": "inputs.feature_extraction_ecg",
    "EcgFmConfig": "encoders.configuration_ecg_fm",
    "EcgFmFeatureExtractor": "inputs.feature_extraction_ecg_fm",
    "EcgFmModel": "encoders.modeling_ecg_fm",
    "EcgHubertConfig": "encoders.configuration_ecg_hubert",
    "EcgHubertModel": "encoders.modeling_ecg_hubert",
    "EcgResNetConfig": "encoders.configuration_ecg_resnet",
    "EcgResNetModel": "encoders.modeling_ecg_resnet",
    "EcgResNetModelWithProjection": "encoders.modeling_ecg_resnet",
    "EchoImageProcessor": "inputs.image_processing_echo",
    "EchoJepaConfig": "encoders.configuration_echo_jepa",
    "EchoJepaModel": "encoders.modeling_echo_jepa",
    "EchoMvitConfig": "encoders.configuration_echo_mvit",
    "EchoMvitForPreTraining": "encoders.modeling_echo_mvit_pretraining",
    "EchoMvitModel": "encoders.modeling_echo_mvit",
    "EchoMvitModelWithProjection": "encoders.modeling_echo_mvit",
    "EchoViewClassifier": "inputs.echo_views",
    "HeartcareConfig": "families.heartcare.configuration_heartcare",
    "HeartcareForConditionalGeneration": "families.heartcare.modeling_heartcare",
    "HeartcarePipeline": "families.heartcare.pipeline_heartcare",
    "HeartcareProcessor": "families.heartcare.processing_heartcare",
    "HubertEcgFeatureExtractor": "inputs.feature_extraction_hubert",
    "InputRefusedError": "utils.errors",
    "LEADS": "utils.names",
    "LabCellsConfig": "encoders.configuration_lab_cells",
    "LabCellsModel": "encoders.modeling_lab_cells",
    "MODALITIES": "utils.names",
    "MeitConfig": "families.meit.configuration_meit",
    "MeitFeatureExtractor": "inputs.feature_extraction_meit",
    "MeitForConditionalGeneration": "families.meit.modeling_meit",
    "MeitProcessor": "families.meit.processing_meit",
    "MeitReportPipeline": "families.meit.pipeline_meit",
    "MoreConfig": "families.more.configuration_more",
    "MoreEcgPipeline": "families.more.pipeline_more",
    "MoreFeatureExtractor": "inputs.feature_extraction_more",
    "MoreForClassification": "families.more.modeling_more_classification",
    "MoreImageProcessor": "inputs.image_processing_xray",
    "MoreModel": "families.more.modeling_more",
    "MoreProcessor": "families.more.processing_more",
    "MoreXrayPipeline": "families.more.pipeline_more",
    "PanEchoConfig": "encoders.configuration_pan_echo",
    "PanEchoModel": "encoders.modeling_pan_echo",
    "StMemConfig": "encoders.configuration_st_mem",
    "StMemForPreTraining": "encoders.modeling_st_mem_pretraining",
    "StMemModel": "encoders.modeling_st_mem",
    "StoredViewClassifier": "inputs.echo_views",
    "StretchedEchoImageProcessor": "inputs.image_processing_stretched",
    "TgmmCardiacPipeline": "pipeline_tgmm",
    "TgmmConfig": "configuration_tgmm",
    "TgmmError": "utils.errors",
    "TgmmForSequenceClassification": "modeling_tgmm",
    "TgmmModel": "modeling_tgmm",
    "TgmmOutput": "modeling_tgmm",
    "TgmmProcessor": "processing_tgmm",
    "VIEWS": "utils.names",
    "add_ecg_tokens": "families.heartcare.processing_heartcare",
    "default_processor": "processing_tgmm",
}
"""Public name -> module that defines it."""

_RENAMED = {"RecordRefusedError": "InputRefusedError"}
"""Public name of version 0.1 -> name now. The old names stay for one release."""

__all__ = [
    "LEADS",
    "MODALITIES",
    "VIEWS",
    "BeatConfig",
    "BeatFeatureExtractor",
    "BeatModel",
    "EcgFeatureExtractor",
    "EcgFmConfig",
    "EcgFmFeatureExtractor",
    "EcgFmModel",
    "EcgHubertConfig",
    "EcgHubertModel",
    "EcgResNetConfig",
    "EcgResNetModel",
    "EcgResNetModelWithProjection",
    "EchoImageProcessor",
    "EchoJepaConfig",
    "EchoJepaModel",
    "EchoMvitConfig",
    "EchoMvitForPreTraining",
    "EchoMvitModel",
    "EchoMvitModelWithProjection",
    "EchoViewClassifier",
    "HeartcareConfig",
    "HeartcareForConditionalGeneration",
    "HeartcarePipeline",
    "HeartcareProcessor",
    "HubertEcgFeatureExtractor",
    "InputRefusedError",
    "LabCellsConfig",
    "LabCellsModel",
    "MeitConfig",
    "MeitFeatureExtractor",
    "MeitForConditionalGeneration",
    "MeitProcessor",
    "MeitReportPipeline",
    "MoreConfig",
    "MoreEcgPipeline",
    "MoreFeatureExtractor",
    "MoreForClassification",
    "MoreImageProcessor",
    "MoreModel",
    "MoreProcessor",
    "MoreXrayPipeline",
    "PanEchoConfig",
    "PanEchoModel",
    "StMemConfig",
    "StMemForPreTraining",
    "StMemModel",
    "StoredViewClassifier",
    "StretchedEchoImageProcessor",
    "TgmmCardiacPipeline",
    "TgmmConfig",
    "TgmmError",
    "TgmmForSequenceClassification",
    "TgmmModel",
    "TgmmOutput",
    "TgmmProcessor",
    "add_ecg_tokens",
    "default_processor",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "__version__":
        value: Any = _version()
    elif name in _RENAMED:
        new = _RENAMED[name]
        warnings.warn(f"tgmm_hf.{name} is now tgmm_hf.{new}. The old name goes with the next release.", stacklevel=2)
        value = __getattr__(new)
    elif name in _MODULE_OF:
        value = getattr(import_module(f"tgmm_hf.{_MODULE_OF[name]}"), name)
    elif not name.startswith("_") and find_spec(f"tgmm_hf.{name}") is not None:
        value = import_module(f"tgmm_hf.{name}")
    else:
        raise AttributeError(f"module 'tgmm_hf' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names too, imported or not."""
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    """Read the version of the installed package; "0+unknown" in a source tree that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tgmm-hf")
    except PackageNotFoundError:
        return "0+unknown"


register_when_possible()
