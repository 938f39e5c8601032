"""The preprocessing that an encoder declares: build its extractor, and refuse another one.

An encoder with weights of others was trained on inputs that were prepared in one way. Its configuration says in which
way: `preprocessing` holds the name of the extractor's class and its settings. An encoder that declares nothing is
prepared for as ours are (ST-MEM, EchoPrime).
"""

from collections.abc import Mapping
from typing import Any

from ..utils.errors import TgmmError
from .feature_extraction_ecg import EcgFeatureExtractor
from .feature_extraction_ecg_fm import EcgFmFeatureExtractor
from .feature_extraction_hubert import HubertEcgFeatureExtractor
from .image_processing_echo import EchoImageProcessor
from .image_processing_stretched import StretchedEchoImageProcessor
from .processor_fingerprint import changed_settings, plain_settings, processor_fingerprint

CLASS_KEYS = ("feature_extractor_type", "image_processor_type")
"""Keys of settings that name the class of an extractor."""
CLASSES: dict[str, Any] = {
    extractor.__name__: extractor
    for extractor in (
        EcgFeatureExtractor,
        HubertEcgFeatureExtractor,
        EcgFmFeatureExtractor,
        EchoImageProcessor,
        StretchedEchoImageProcessor,
    )
}
"""Name -> class of the extractors that an encoder may declare."""
PARTS = {"feature_extractor": "ecg_config", "image_processor": "echo_config"}
"""Part of a processor -> configuration of the encoder that reads what the part prepares."""


def extractor_class_of(settings: Mapping[str, Any], base: Any) -> Any:
    """Return the class that settings name, if it is `base` or a subclass of `base`; None otherwise."""
    extractor = next((CLASSES[settings[key]] for key in CLASS_KEYS if settings.get(key) in CLASSES), None)
    return extractor if extractor is not None and issubclass(extractor, base) else None


def declared_extractor(encoder: Any) -> Any:
    """Build the extractor that the configuration of an encoder declares; None if it declares none.

    Raises:
        TgmmError: if the configuration names no known class.
    """
    declared = _declared(encoder)
    if declared is None:
        return None
    name, settings = declared
    return CLASSES[name](**settings)


def check_declared(encoder: Any, part: Any) -> None:
    """Refuse an extractor that prepares inputs in another way than an encoder declares.

    Args:
        encoder: configuration of the encoder.
        part: the extractor that prepares its inputs.

    Raises:
        TgmmError: if the class or a setting differs. The message names both values.
    """
    declared = _declared(encoder)
    if declared is None:
        return
    name, settings = declared
    if type(part).__name__ != name:
        problem = f"its weights need {name}, and the processor has {type(part).__name__}"
    elif differing := changed_settings(plain_settings(settings), processor_fingerprint(part)):
        named = "; ".join(f"{key} is {values}" for key, values in differing.items())
        problem = f"{name} is set otherwise than the weights need: {named}"
    else:
        return
    raise TgmmError(
        encoder.model_type,
        f"the inputs of this encoder would be prepared in another way than its weights were trained on: {problem}. "
        "Take the processor of `TgmmProcessor.from_encoders`, or the one that was saved with the model.",
    )


def check_processor(config: Any, processor: Any) -> None:
    """Refuse a processor whose extractors an encoder of the model does not declare, see `check_declared`.

    Args:
        config: configuration of the model.
        processor: its processor.
    """
    for name, encoder_name in PARTS.items():
        encoder, part = getattr(config, encoder_name, None), getattr(processor, name, None)
        if encoder is not None and part is not None:
            check_declared(encoder, part)


def _declared(encoder: Any) -> tuple[str, dict[str, Any]] | None:
    """Return class name and settings of the `preprocessing` of an encoder's configuration; None without.

    Raises:
        TgmmError: if the class is not known.
    """
    settings = getattr(encoder, "preprocessing", None)
    if not settings:
        return None
    name = next((settings[key] for key in CLASS_KEYS if key in settings), None)
    if name not in CLASSES:
        raise TgmmError(
            encoder.model_type,
            f"this encoder declares the preprocessing {name!r}, and this version knows {', '.join(CLASSES)}. Install a "
            "newer version of tgmm-hf.",
        )
    return name, {key: value for key, value in settings.items() if key not in CLASS_KEYS}


__all__ = [
    "CLASSES",
    "CLASS_KEYS",
    "PARTS",
    "check_declared",
    "check_processor",
    "declared_extractor",
    "extractor_class_of",
]
