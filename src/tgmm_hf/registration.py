"""Make transformers' Auto classes load the classes of this package, without `trust_remote_code`.

The registration needs transformers and torch, which take seconds to import. `tgmm --help` needs neither. So the
registration waits: it runs at once if transformers is already imported, else as soon as transformers is imported.

One case needs care. `import tgmm_hf.modeling_tgmm` imports transformers while `modeling_tgmm` itself is half imported,
and the registration would import `modeling_tgmm` a second time and fail. So the registration also waits until no module
of this package is half imported. For this, `wrapt` reports the end of the import of every module of this package.

One case is not covered: while one thread imports a module of this package, another thread that already uses the Auto
classes may not find ours yet.
"""

import sys
from pathlib import Path
from types import ModuleType

import wrapt

PACKAGE = "tgmm_hf"

_imported: set[str] = set()
"""Names of the watched modules whose import has ended."""
_registered = False


def register_when_possible() -> None:
    """Register the classes now, or as soon as transformers and every started import of this package are complete."""
    for name in ("transformers", *_module_names()):
        wrapt.register_post_import_hook(_after_import, name)


def _module_names() -> list[str]:
    """List the names of all modules of this package, such as "tgmm_hf.inputs.ecg_reading", not the package itself."""
    root = Path(__file__).parent
    names = []
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        names.append(".".join((PACKAGE, *parts)).removesuffix(".__init__"))
    return [name for name in names if name != PACKAGE]


def _after_import(module: ModuleType) -> None:
    """Note that the import of a module has ended. Register the classes if no import of the package is unfinished."""
    global _registered
    _imported.add(module.__name__)
    if _registered or "transformers" not in _imported:
        return
    if any(name.startswith(f"{PACKAGE}.") and name not in _imported for name in sys.modules):
        return
    _registered = True
    register_classes()


def register_classes() -> None:
    """Register every class of this package with its Auto class, and the pipelines with their tasks."""
    _register_tgmm()
    _register_encoders()
    _register_published_encoders()
    _register_meit()
    _register_heartcare()
    _register_more()


def _register_tgmm() -> None:
    """Register the model, its processor with the parts, and its pipeline.

    `AutoProcessor` asks for `trust_remote_code` if a part is not registered.
    """
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoImageProcessor,
        AutoModel,
        AutoModelForSequenceClassification,
        AutoProcessor,
    )
    from transformers.pipelines import PIPELINE_REGISTRY

    from tgmm_hf.configuration_tgmm import TgmmConfig
    from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
    from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
    from tgmm_hf.modeling_tgmm import TgmmForSequenceClassification, TgmmModel
    from tgmm_hf.pipeline_tgmm import PIPELINE_TASK, TgmmCardiacPipeline
    from tgmm_hf.processing_tgmm import TgmmProcessor

    AutoConfig.register("tgmm", TgmmConfig)
    AutoModel.register(TgmmConfig, TgmmModel)
    AutoModelForSequenceClassification.register(TgmmConfig, TgmmForSequenceClassification)
    AutoProcessor.register(TgmmConfig, TgmmProcessor)
    AutoFeatureExtractor.register(TgmmConfig, EcgFeatureExtractor)
    backends: dict[str, type] = {"pil": EchoImageProcessor, "torchvision": EchoImageProcessor}
    AutoImageProcessor.register(TgmmConfig, image_processor_classes=backends)
    PIPELINE_REGISTRY.register_pipeline(PIPELINE_TASK, pipeline_class=TgmmCardiacPipeline, pt_model=AutoModel)


def _register_encoders() -> None:
    """Register the encoders of this package."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

    from tgmm_hf.encoders.configuration_ecg_resnet import EcgResNetConfig
    from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
    from tgmm_hf.encoders.configuration_lab_cells import LabCellsConfig
    from tgmm_hf.encoders.configuration_st_mem import StMemConfig
    from tgmm_hf.encoders.modeling_ecg_resnet import EcgResNetModel
    from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitModel
    from tgmm_hf.encoders.modeling_echo_mvit_pretraining import EchoMvitForPreTraining
    from tgmm_hf.encoders.modeling_lab_cells import LabCellsModel
    from tgmm_hf.encoders.modeling_st_mem import StMemModel
    from tgmm_hf.encoders.modeling_st_mem_pretraining import StMemForPreTraining
    from tgmm_hf.inputs.feature_extraction_meit import MeitFeatureExtractor

    AutoConfig.register("st_mem", StMemConfig)
    AutoConfig.register("echo_mvit", EchoMvitConfig)
    AutoConfig.register("ecg_resnet", EcgResNetConfig)
    AutoConfig.register("lab_cells", LabCellsConfig)
    AutoModel.register(StMemConfig, StMemModel)
    AutoModel.register(EchoMvitConfig, EchoMvitModel)
    AutoModel.register(EcgResNetConfig, EcgResNetModel)
    AutoModel.register(LabCellsConfig, LabCellsModel)
    AutoModelForPreTraining.register(StMemConfig, StMemForPreTraining)
    AutoModelForPreTraining.register(EchoMvitConfig, EchoMvitForPreTraining)
    AutoFeatureExtractor.register(EcgResNetConfig, MeitFeatureExtractor)


def _register_meit() -> None:
    """Register MEIT, its processor with the parts, and its pipeline."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoProcessor
    from transformers.pipelines import PIPELINE_REGISTRY

    from tgmm_hf.families.meit.configuration_meit import MeitConfig
    from tgmm_hf.families.meit.modeling_meit import MeitForConditionalGeneration
    from tgmm_hf.families.meit.pipeline_meit import MeitReportPipeline
    from tgmm_hf.families.meit.processing_meit import MeitProcessor
    from tgmm_hf.inputs.feature_extraction_meit import MeitFeatureExtractor

    AutoConfig.register("meit", MeitConfig)
    AutoModel.register(MeitConfig, MeitForConditionalGeneration)
    AutoModelForCausalLM.register(MeitConfig, MeitForConditionalGeneration)
    AutoProcessor.register(MeitConfig, MeitProcessor)
    AutoFeatureExtractor.register(MeitConfig, MeitFeatureExtractor)
    PIPELINE_REGISTRY.register_pipeline("ecg-report", pipeline_class=MeitReportPipeline, pt_model=AutoModel)


def _register_published_encoders() -> None:
    """Register the encoders whose weights others have published, and the extractors that they declare."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoImageProcessor, AutoModel

    from tgmm_hf.encoders.configuration_ecg_fm import EcgFmConfig
    from tgmm_hf.encoders.configuration_ecg_hubert import EcgHubertConfig
    from tgmm_hf.encoders.configuration_echo_jepa import EchoJepaConfig
    from tgmm_hf.encoders.configuration_pan_echo import PanEchoConfig
    from tgmm_hf.encoders.modeling_ecg_fm import EcgFmModel
    from tgmm_hf.encoders.modeling_ecg_hubert import EcgHubertModel
    from tgmm_hf.encoders.modeling_echo_jepa import EchoJepaModel
    from tgmm_hf.encoders.modeling_pan_echo import PanEchoModel
    from tgmm_hf.inputs.feature_extraction_ecg_fm import EcgFmFeatureExtractor
    from tgmm_hf.inputs.feature_extraction_hubert import HubertEcgFeatureExtractor
    from tgmm_hf.inputs.image_processing_stretched import StretchedEchoImageProcessor

    AutoConfig.register("ecg_hubert", EcgHubertConfig)
    AutoConfig.register("ecg_fm", EcgFmConfig)
    AutoConfig.register("echo_jepa", EchoJepaConfig)
    AutoConfig.register("pan_echo", PanEchoConfig)
    AutoModel.register(EcgHubertConfig, EcgHubertModel)
    AutoModel.register(EcgFmConfig, EcgFmModel)
    AutoModel.register(EchoJepaConfig, EchoJepaModel)
    AutoModel.register(PanEchoConfig, PanEchoModel)
    AutoFeatureExtractor.register(EcgHubertConfig, HubertEcgFeatureExtractor)
    AutoFeatureExtractor.register(EcgFmConfig, EcgFmFeatureExtractor)
    backends: dict[str, type] = {"pil": StretchedEchoImageProcessor, "torchvision": StretchedEchoImageProcessor}
    AutoImageProcessor.register(EchoJepaConfig, image_processor_classes=backends)
    AutoImageProcessor.register(PanEchoConfig, image_processor_classes=backends)


def _register_heartcare() -> None:
    """Register Beat and Heartcare, their processors and the pipeline that answers questions."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoProcessor
    from transformers.pipelines import PIPELINE_REGISTRY

    from tgmm_hf.families.heartcare.configuration_beat import BeatConfig
    from tgmm_hf.families.heartcare.configuration_heartcare import HeartcareConfig
    from tgmm_hf.families.heartcare.modeling_beat import BeatModel
    from tgmm_hf.families.heartcare.modeling_heartcare import HeartcareForConditionalGeneration
    from tgmm_hf.families.heartcare.pipeline_heartcare import HeartcarePipeline
    from tgmm_hf.families.heartcare.processing_heartcare import HeartcareProcessor
    from tgmm_hf.inputs.feature_extraction_beat import BeatFeatureExtractor

    AutoConfig.register("beat", BeatConfig)
    AutoConfig.register("heartcare", HeartcareConfig)
    AutoModel.register(BeatConfig, BeatModel)
    AutoModel.register(HeartcareConfig, HeartcareForConditionalGeneration)
    AutoModelForCausalLM.register(HeartcareConfig, HeartcareForConditionalGeneration)
    AutoFeatureExtractor.register(BeatConfig, BeatFeatureExtractor)
    AutoFeatureExtractor.register(HeartcareConfig, BeatFeatureExtractor)
    AutoProcessor.register(HeartcareConfig, HeartcareProcessor)
    PIPELINE_REGISTRY.register_pipeline("ecg-question", pipeline_class=HeartcarePipeline, pt_model=AutoModel)


def _register_more() -> None:
    """Register MoRE, its processor with its parts, and the zero-shot pipelines."""
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoImageProcessor,
        AutoModel,
        AutoModelForImageClassification,
        AutoProcessor,
    )
    from transformers.pipelines import PIPELINE_REGISTRY

    from tgmm_hf.families.more.configuration_more import MoreConfig
    from tgmm_hf.families.more.modeling_more import MoreModel
    from tgmm_hf.families.more.modeling_more_classification import MoreForClassification
    from tgmm_hf.families.more.pipeline_more import PIPELINES
    from tgmm_hf.families.more.processing_more import MoreProcessor
    from tgmm_hf.inputs.feature_extraction_more import MoreFeatureExtractor
    from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor

    AutoConfig.register("more", MoreConfig)
    AutoModel.register(MoreConfig, MoreModel)
    AutoModelForImageClassification.register(MoreConfig, MoreForClassification)
    AutoProcessor.register(MoreConfig, MoreProcessor)
    AutoFeatureExtractor.register(MoreConfig, MoreFeatureExtractor)
    backends: dict[str, type] = {"pil": MoreImageProcessor, "torchvision": MoreImageProcessor}
    AutoImageProcessor.register(MoreConfig, image_processor_classes=backends)
    for task, pipeline in PIPELINES.items():
        PIPELINE_REGISTRY.register_pipeline(task, pipeline_class=pipeline, pt_model=AutoModel)
