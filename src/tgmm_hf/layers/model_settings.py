"""The settings of a model's configuration that decide its answers, for the fingerprint that is saved with the weights.

A candidate that was exchanged in `config.json` turns an answer over, and no weight tells. So the values of the
configuration are saved once more beside the fingerprint of the weights, one short text for each.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..utils.short_digests import short_digest

IGNORED = (
    *("transformers_version", "dtype", "torch_dtype", "_name_or_path", "name_or_path", "auto_map", "architectures"),
    *("weights_fingerprint", "processor_fingerprint", "id2label", "label2id", "problem_type", "return_dict"),
    *("output_hidden_states", "output_attentions", "use_cache", "gradient_checkpointing", "chunk_size_feed_forward"),
    *("report_days", "weight", "_attn_implementation", "classification_task"),
)
"""Keys that change no answer."""
FITTED = (
    *("baseline_hazards", "thresholds", "prediction_sets", "set_levels", "validation_answers"),
    *("prediction_intervals", "finding_calibration", "training_values"),
)
"""Keys that hold what was fitted on patients: many numbers, which have one digest together."""
SHORT = 60
"""Letters. A longer value is saved as a digest."""


def model_settings(config: Any) -> dict[str, str]:
    """List the settings of a configuration: path such as "labs_config.hidden_act" -> value as text, or its digest."""
    return dict(_walk(config.to_dict(), ""))


def changed_model_settings(saved: Any, config: Any) -> list[str]:
    """List the settings that have another value than the saved ones.

    Only paths that both have are compared, because another version of transformers may know other keys.

    Args:
        saved: what `model_settings` gave when the model was saved; None for a model without.
        config: the present configuration.
    """
    if not isinstance(saved, Mapping):
        return []
    now = model_settings(config)
    return sorted(path for path, value in saved.items() if path in now and now[path] != value)


def _walk(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every value of nested mappings."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if str(name) in FITTED and inner:
                yield f"{path}.{name}", short_digest(json.dumps(inner, default=str, sort_keys=True))
            elif str(name) not in IGNORED:
                yield from _walk(inner, f"{path}.{name}" if path else str(name))
        return
    text = json.dumps(value, default=str)  # a tuple is a list after loading
    yield path, text if len(text) <= SHORT else short_digest(text)
