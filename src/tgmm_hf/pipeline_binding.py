"""Check that a model's weights and its processor are those that were saved together.

`tgmm train` and `save_pretrained` write fingerprints into the configuration. The pipeline and `tgmm evaluate` compare
them with the model and the processor that they have. A contradiction is an entry of `checks`. A model without
fingerprints, such as one of version 0.1, gives a note at most.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers.utils import logging

from .inputs.processor_fingerprint import changed_settings, processor_fingerprint
from .layers.model_settings import changed_model_settings
from .layers.weights_fingerprint import (
    adapter_digest,
    bind_weights,
    changed_parts,
    is_fingerprint,
    parts_not_finite,
    weights_fingerprint,
)
from .utils.code_revision import without_adapter
from .utils.errors import TgmmError
from .utils.short_digests import short_digest

logger = logging.get_logger(__name__)

WEIGHTS_CHANGED = "model_weights_changed"
SETTINGS_CHANGED = "model_settings_changed"
MISMATCH = "model_processor_mismatch"
OTHER_FORMAT = (
    "model: its weights are in another number format than in training. Thresholds, prediction sets and intervals were "
    "fitted in that of the training; their coverage in this one was not measured"
)


@dataclass
class Binding:
    """The result of a check.

    Attributes:
        model: fingerprint of the weights, "sha256:..."; with "+adapter:..." under an adapter of PEFT; None if the
            weights cannot be read.
        processor: fingerprint of the processor.
        weights: ids of weights that the present weights stand for. Empty if they are not those of the configuration.
        checks: contradictions, [{"code", "item", "text"}].
        notes: further sentences.
    """

    model: str | None
    processor: str
    weights: tuple[str, ...] = ()
    checks: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fits(self, fitted: Mapping[str, Any]) -> bool:
        """Tell whether something that was fitted on a model's outputs still belongs to the weights.

        `fitted` names its weights under "weights". Without this key, as in version 0.1, the answer is True.
        """
        return "weights" not in fitted or fitted["weights"] in self.weights

    def refuse(self) -> None:
        """Raise a TgmmError if there is a contradiction."""
        if self.checks:
            check = self.checks[0]
            raise TgmmError(check["item"], f"{check['text']} This run is strict, so that nothing is predicted.")


class BindingCheck:
    """Check of one model with one processor that computes again only what has changed since the last call.

    Attributes:
        chosen: names of settings that the caller chose anew, such as "image_processor.view_threshold". A difference in
            them is a note.
    """

    def __init__(self, chosen: Collection[str] = ()):
        self.chosen = set(chosen)
        self._weights: tuple[Any, Any] = (None, None)
        self._warned = False

    def __call__(self, model: Any, processor: Any) -> Binding:
        """Check a model and a processor. A contradiction is logged once.

        Raises:
            TgmmError: if a weight is infinite or not a number, because no answer can rest on it.
        """
        base = without_adapter(model)
        versions = tuple((id(value), _version(value)) for value in [*base.parameters(), *base.buffers()])
        if self._weights[0] != versions:
            now = weights_fingerprint(base)
            if now is not None and (damaged := parts_not_finite(now)):
                raise TgmmError(
                    "model",
                    f"the weights of {', '.join(damaged)} hold values that are not finite: a file is damaged, or the "
                    "training diverged. Restore the files of the model, or train it again.",
                )
            adapter = adapter_digest(base)
            saved = getattr(base.config, "weights_fingerprint", None)
            comparable = saved is not None and is_fingerprint(saved) and now is not None
            changed = changed_parts(base, saved, now) if comparable else []  # type: ignore[arg-type]
            self._weights = versions, (now, adapter, changed)
        now, adapter, changed = self._weights[1]
        binding = _compare(base, now, adapter, changed, processor_fingerprint(processor), self.chosen)
        if binding.checks and not self._warned:
            self._warned = True
            logger.warning(" ".join(check["text"] for check in binding.checks))
        return binding


def bind_processor(model: Any, processor: Any) -> None:
    """Write the fingerprints of a model's weights and of its processor into the configuration, in place.

    Args:
        model: a model of this package.
        processor: the processor that is saved with the model.
    """
    bind_weights(model)
    weights = (getattr(model.config, "weights_fingerprint", None) or {}).get("id")
    model.config.processor_fingerprint = {"settings": processor_fingerprint(processor), "weights": weights}


def weights_id(model: Any) -> str | None:
    """Bind a model's weights to its configuration and return their id, for what is fitted on their outputs."""
    bind_weights(model)
    return (model.config.weights_fingerprint or {}).get("id")


def _compare(
    base: Any, now: Any, adapter: str | None, changed: list[str], settings: dict[str, Any], chosen: set[str]
) -> Binding:
    """Compare fingerprints and settings with those of the configuration.

    Args:
        base: the model, without the wrapper of PEFT.
        now: fingerprint of its weights; None if they cannot be read.
        adapter: digest of its adapters, None without.
        changed: parts whose weights are not those of the configuration.
        settings: settings of the processor.
        chosen: settings that the caller chose anew.
    """
    saved = getattr(base.config, "weights_fingerprint", None)
    saved = saved if is_fingerprint(saved) else None
    name = None if now is None else now["id"] if saved is None or changed else saved["id"]
    if now is None and saved is not None:
        name = f"{saved['id']} (not compared)"
    binding = Binding(f"{name}+adapter:{adapter}" if adapter else name, short_digest(settings))
    if saved is None:
        if getattr(base, "name_or_path", ""):
            binding.notes.append(
                "model: it was saved without a fingerprint, so that nothing can tell whether its weights and its "
                "processor belong together"
            )
        return binding
    if differing := changed_model_settings(saved.get("settings"), base.config):
        text = (
            f"The configuration is not the one that was saved with the weights: {', '.join(differing[:5])} changed. "
            "Restore config.json, or save the model again with save_pretrained if the change is meant."
        )
        binding.checks.append({"code": SETTINGS_CHANGED, "item": "model", "text": text})
    if changed:
        binding.checks.append(_weights_check(changed))
    elif adapter is None:
        binding.weights = (saved["id"], *saved.get("cast_of", []))
    if now is None:
        binding.notes.append(
            "model: its weights are quantised or not in memory, so that they could not be compared with those that "
            "were saved. Thresholds, prediction sets and intervals were fitted before, and their coverage now was not "
            "measured"
        )
    elif (now["id"] != saved["id"] and not changed) or saved.get("cast_of"):
        binding.notes.append(OTHER_FORMAT)
    _compare_settings(binding, getattr(base.config, "processor_fingerprint", None), settings, chosen, saved)
    return binding


def _weights_check(changed: list[str]) -> dict[str, str]:
    """Write the entry of `checks` for parts whose weights have changed."""
    text = (
        f"The weights of {', '.join(changed)} have changed since this configuration was saved: a file was "
        "changed or mixed up, or the model was trained since and not saved. Save the model again with save_pretrained, "
        "or restore its files."
    )
    return {"code": WEIGHTS_CHANGED, "item": "model", "text": text}


def _compare_settings(
    binding: Binding, saved: Any, settings: dict[str, Any], chosen: set[str], weights: Mapping[str, Any]
) -> None:
    """Add what differs between the settings of a processor and the saved ones to a binding, in place.

    Args:
        binding: where checks and notes are added.
        saved: the configuration's `processor_fingerprint`.
        settings: settings of the processor.
        chosen: settings that the caller chose anew.
        weights: the configuration's `weights_fingerprint`.
    """
    if not (isinstance(saved, Mapping) and isinstance(saved.get("settings"), Mapping)):
        binding.notes.append(
            "model: it was saved without a fingerprint of its processor, so that nothing can tell whether both belong "
            "together"
        )
        return
    differing = changed_settings(saved["settings"], settings)
    for name in sorted(chosen & set(differing)):
        binding.notes.append(f"processor: {name} was chosen anew: {differing.pop(name)}")
    if not differing:
        return
    named = "; ".join(f"{name} is {values}" for name, values in differing.items())
    if saved.get("weights") in (weights["id"], *weights.get("cast_of", [])):
        text = (
            f"The processor is not the one that was saved with the model: {named}. Load the processor from the "
            "directory of the model, or restore its files."
        )
        binding.checks.append({"code": MISMATCH, "item": "processor", "text": text})
    else:
        binding.notes.append(
            f"processor: it differs from the one that was saved before the model was trained further: {named}"
        )


def _version(value: Any) -> int:
    """Return the counter of changes of a tensor; 0 for a tensor of `torch.inference_mode`, which has none."""
    return 0 if value.is_inference() else value._version


__all__ = ["Binding", "BindingCheck", "bind_processor", "weights_id"]
