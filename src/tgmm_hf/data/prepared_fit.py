"""Check that prepared data was prepared in the way that a model's encoders need."""

from collections.abc import Mapping
from typing import Any

from tgmm_hf.inputs.declared_preprocessing import CLASS_KEYS, CLASSES, PARTS, check_processor
from tgmm_hf.inputs.processor_fingerprint import changed_settings, plain_settings, processor_fingerprint
from tgmm_hf.utils.errors import TgmmError


def check_prepared(config: Any, processor: Any, data: Mapping[str, Any]) -> None:
    """Refuse a processor that an encoder does not declare, and data of another extractor than an encoder declares.

    Data without a record of its processor, and encoders that declare nothing, are compared by the class only.

    Args:
        config: configuration of the model.
        processor: processor of the model.
        data: the content of `prepare.json`.

    Raises:
        TgmmError: if the extractor's class differs, or a setting of an extractor that an encoder declares.
    """
    check_processor(config, processor)
    saved = data.get("processor") or {}
    for name, encoder_name in PARTS.items():
        encoder, part = getattr(config, encoder_name, None), getattr(processor, name, None)
        settings = saved.get(name)
        if encoder is None or part is None or not isinstance(settings, Mapping):
            continue
        own, declares = type(part).__name__, bool(getattr(encoder, "preprocessing", None))
        kind = next((settings[key] for key in CLASS_KEYS if settings.get(key)), own)
        # A class of somebody else is his own affair, unless the encoder declares one.
        is_other = kind != own and (declares or {kind, own} <= set(CLASSES))
        problem = f"the data was prepared by {kind}, not {own}" if is_other else ""
        if not problem and declares:
            now = processor_fingerprint(part)
            differing = changed_settings(plain_settings({key: settings[key] for key in now if key in settings}), now)
            problem = "; ".join(f"{key} is {values}" for key, values in differing.items())
        if problem:
            raise TgmmError(
                encoder.model_type,
                f"the prepared data does not fit this encoder: {problem}. Prepare the cohort again with the "
                "configuration of this model: tgmm prepare --config.",
            )


__all__ = ["check_prepared"]
