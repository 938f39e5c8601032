"""TGMM: lab tests, 12-lead ECG and echocardiogram in one Hugging Face model.

Importing the package registers its classes with transformers: `AutoModel.from_pretrained` and its relatives then load a
saved model with this package's own code, without `trust_remote_code`.
"""

from importlib.metadata import PackageNotFoundError, version

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
from tgmm_hf.encoders.configuration_st_mem import StMemConfig
from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitModel, EchoMvitModelWithProjection
from tgmm_hf.encoders.modeling_echo_mvit_pretraining import EchoMvitForPreTraining
from tgmm_hf.encoders.modeling_st_mem import StMemModel
from tgmm_hf.encoders.modeling_st_mem_pretraining import StMemForPreTraining
from tgmm_hf.inputs.echo_views import EchoViewClassifier, StoredViewClassifier
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.modeling_tgmm import TgmmForSequenceClassification, TgmmModel, TgmmOutput
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.processing_tgmm import TgmmProcessor, default_processor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS, MODALITIES, VIEWS

try:
    __version__ = version("tgmm-hf")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

RecordRefusedError = InputRefusedError
"""The name of `InputRefusedError` in version 0.1, kept for one release."""

AutoConfig.register("tgmm", TgmmConfig)
AutoConfig.register("st_mem", StMemConfig)
AutoConfig.register("echo_mvit", EchoMvitConfig)
AutoModel.register(TgmmConfig, TgmmModel)
AutoModel.register(StMemConfig, StMemModel)
AutoModel.register(EchoMvitConfig, EchoMvitModel)
AutoModelForPreTraining.register(StMemConfig, StMemForPreTraining)
AutoModelForPreTraining.register(EchoMvitConfig, EchoMvitForPreTraining)
AutoModelForSequenceClassification.register(TgmmConfig, TgmmForSequenceClassification)
# every part of a processor has to be registered, or AutoProcessor asks for trust_remote_code after all
AutoProcessor.register(TgmmConfig, TgmmProcessor)
AutoFeatureExtractor.register(TgmmConfig, EcgFeatureExtractor)
AutoImageProcessor.register(
    TgmmConfig, image_processor_classes={"pil": EchoImageProcessor, "torchvision": EchoImageProcessor}
)
PIPELINE_REGISTRY.register_pipeline("cardiac-analysis", pipeline_class=TgmmCardiacPipeline, pt_model=AutoModel)

__all__ = [
    "LEADS",
    "MODALITIES",
    "VIEWS",
    "EcgFeatureExtractor",
    "EchoImageProcessor",
    "EchoMvitConfig",
    "EchoMvitForPreTraining",
    "EchoMvitModel",
    "EchoMvitModelWithProjection",
    "EchoViewClassifier",
    "InputRefusedError",
    "RecordRefusedError",
    "StMemConfig",
    "StMemForPreTraining",
    "StMemModel",
    "StoredViewClassifier",
    "TgmmCardiacPipeline",
    "TgmmConfig",
    "TgmmForSequenceClassification",
    "TgmmModel",
    "TgmmOutput",
    "TgmmProcessor",
    "default_processor",
]
