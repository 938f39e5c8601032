"""Check that prepared data was prepared in the way that a model's encoders need."""

from collections.abc import Mapping
from typing import Any

from tgmm_hf.inputs.declared_preprocessing import CLASS_KEYS, CLASSES, PARTS, check_processor
from tgmm_hf.inputs.processor_fingerprint import plain_settings, processor_fingerprint
from tgmm_hf.utils.errors import TgmmError


def check_prepared(config: Any, processor: Any, data: Mapping[str, Any]) -> None:
    """Refuse data that was prepared for other tasks or encoders, and a processor that an encoder does not declare.

    A regression needs the unit that its values were prepared in. An extractor's settings are compared with those of
    `prepare.json`. A setting that is not in `prepare.json` is not compared, because an earlier version of this package
    may not have known it.

    Args:
        config: configuration of the model.
        processor: processor of the model.
        data: the content of `prepare.json`.

    Raises:
        TgmmError: if the class or a setting of an extractor differs, or the unit of a regression.
    """
    check_processor(config, processor)
    for name, unit in (data.get("units") or {}).items():
        task = config.tasks.get(name, {})
        if task.get("kind") == "regression" and task["unit"] != unit:
            raise TgmmError(
                name,
                f"its values were prepared in {unit}, and the model has {task['unit']}. Correct the task, or prepare "
                "the cohort again with the configuration of this model: tgmm prepare --config.",
            )
    saved = data.get("processor") or {}
    for name, encoder_name in PARTS.items():
        encoder, part = getattr(config, encoder_name, None), getattr(processor, name, None)
        settings = saved.get(name)
        if encoder is None or part is None or not isinstance(settings, Mapping):
            continue
        class_name = type(part).__name__
        kind = next((settings[key] for key in CLASS_KEYS if settings.get(key)), class_name)
        # A class from outside this package is not judged, unless the encoder declares one.
        if not getattr(encoder, "preprocessing", None) and not {kind, class_name} <= set(CLASSES):
            continue
        if kind != class_name:
            problem = f"the data was prepared by {kind}, not {class_name}"
        else:
            prepared, needed = plain_settings(settings), processor_fingerprint(part)
            problem = "; ".join(
                f"{key} of the data is {prepared[key]}, and the model needs {value}"
                for key, value in needed.items()
                if key in prepared and prepared[key] != value
            )
        if problem:
            raise TgmmError(
                encoder.model_type,
                f"the prepared data does not fit this encoder: {problem}. Prepare the cohort again with the "
                "configuration of this model: tgmm prepare --config.",
            )


__all__ = ["check_prepared"]
