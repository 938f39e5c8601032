"""Zero-shot pipelines of MoRE: an X-ray or an ECG, and labels in words -> how near each label lies, as plain dicts.

preprocess     X-rays or ECGs -> model inputs and one report an input
_forward       inputs -> cosines with all prompts
postprocess    cosines -> one dict an input

The prompts are encoded once a call. Notation in shape comments: B inputs, P prompts, p width of the shared space.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModel, ZeroShotAudioClassificationPipeline, ZeroShotImageClassificationPipeline
from transformers.pipelines import PIPELINE_REGISTRY

from ...pipeline_streaming import StreamingPipeline
from ...utils.code_revision import code_revision, without_adapter
from .zero_shot_prompts import OVER_PROMPTS, EncodedPrompts, encode_prompts, label_prompts, label_similarity

ECG_TASK = "zero-shot-ecg-classification"
XRAY_TASK = "zero-shot-xray-classification"
SETTINGS = ("candidate_labels", "hypothesis_template", "over_prompts")
STATEMENT = (
    "Research software, not a medical device. The scores compare the given labels with each other. They are no "
    "probabilities of findings, and one label comes first even where none is right."
)
NOT_MEASURED = "this model stores no evaluation, so nothing is known of how often the first label is right"


class MoreZeroShotPipeline(StreamingPipeline):
    """What the zero-shot pipelines of X-rays and of ECGs share.

    Args (of a call):
        inputs: one input, or a list or generator of inputs. An input is a dict with an X-ray or an ECG as the processor
            takes it, and an "id" if you like; or the file itself.
        candidate_labels: labels, each of which is its own prompt; or label -> prompt or list of prompts.
        hypothesis_template: text with "{}" in the place of the prompt. The default is the prompt alone, as published.
        over_prompts: "max" (published) or "mean" of the cosines with the prompts of a label.
        batch_size: inputs that are encoded together.
        strictness: "note" or "refuse", as `MoreProcessor.__call__` takes it.

    Returns:
        one dict an input (a list for a list, a generator for a generator): `{"id", "labels": [{"label", "score",
        "similarity", "prompt"}], "used": {"xray" or "ecg"}, "refused": [{"item", "reason"}], "checks": [{"code",
        "item", "text"}], "notes": [...], "statement", "hypothesis_template", "over_prompts", "temperature", "sources",
        "model", "model_fingerprint", "processor_fingerprint", "code_revision"}`. The highest score stands first. A
        score is the softmax of the similarities (cosines) divided by the temperature, over the labels of the call. The
        prompt is the nearest one of the label. A refused input has no labels.

    Attributes:
        kind: "xray" or "ecg".
    """

    kind: str

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        base = without_adapter(self.model)
        if not hasattr(base, "text_projection"):
            raise TypeError(f"This pipeline takes a MoreModel, got {type(base).__name__}. Load it with AutoModel.")

    def check_model_type(self, supported_models: Any) -> None:
        """Leave the check to `__init__`, because transformers lists its own models only."""

    def __call__(self, inputs: Any = None, candidate_labels: Any = None, **kwargs: Any) -> Any:
        """Compare each input with the labels. The class describes the arguments.

        Raises:
            TypeError: if labels or prompts are no texts.
            ValueError: if there are no labels, or an argument or a key of an input is unknown or wrong.
        """
        if candidate_labels is not None:
            kwargs["candidate_labels"] = candidate_labels
        if isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes | Mapping):
            inputs = [self._as_input(item) for item in inputs]
        elif isinstance(inputs, Iterator):
            inputs = map(self._as_input, inputs)
        else:
            inputs = self._as_input(inputs)
        return super().__call__(inputs, **kwargs)

    def _as_input(self, item: Any) -> Mapping[str, Any]:
        """Bring an input to the form of a dict. A file, a picture, an array or a recording is put under its key."""
        is_recording = isinstance(item, Mapping) and "signal" in item
        return item if isinstance(item, Mapping) and not is_recording else {self.kind: item}

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Sort the parameters of a call by step, as transformers asks for it."""
        allowed = (*SETTINGS, "strictness")
        if unknown := set(kwargs) - {*allowed, "prompts"}:
            raise ValueError(f"Unknown pipeline parameters {sorted(unknown)}; known are {', '.join(allowed)}.")
        preprocess = {"strictness": kwargs["strictness"]} if "strictness" in kwargs else {}
        return preprocess, {name: kwargs[name] for name in (*SETTINGS, "prompts") if name in kwargs}, {}

    def _stream(self, inputs: Iterable[Any], batch_size: int, kwargs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Encode the prompts, then answer batch by batch."""
        settings = {**self._forward_params, **self._sanitize_parameters(**kwargs)[1]}
        over = settings.get("over_prompts", OVER_PROMPTS[0])
        if over not in OVER_PROMPTS:
            raise ValueError(f"over_prompts must be one of {', '.join(OVER_PROMPTS)}, got {over!r}.")
        template = settings.get("hypothesis_template", "{}")
        by_label = label_prompts(settings.get("candidate_labels"), template)
        self.model.eval()
        with torch.inference_mode():
            prompts = encode_prompts(without_adapter(self.model), self.processor, by_label, self.device)
        yield from super()._stream(inputs, batch_size, {**kwargs, "prompts": prompts})

    def preprocess(self, inputs: Sequence[Mapping[str, Any]], strictness: str | None = None) -> dict[str, Any]:
        """Turn X-rays or ECGs into model inputs.

        Args:
            inputs: as the class describes them.
            strictness: as the class describes it.

        Returns:
            {"ids": value of "id" or None, "inputs": the processor's tensors on the model's device, empty if every input
            is refused, "reports": one report an input, see `MoreProcessor.__call__`}.
        """
        for item in inputs:
            if unknown := set(item) - {"id", self.kind}:
                raise ValueError(f"Unknown keys {sorted(map(str, unknown))} of an input; known are id, {self.kind}.")
            if item.get(self.kind) is None:
                raise ValueError(f"{self.one_input}, got none: there is nothing to compare with the labels.")
        processor: Any = self.processor
        features, reports = processor(
            **{self.kind: [item[self.kind] for item in inputs]},
            strictness=strictness,
            on_refusal="report",
            return_report=True,
            return_tensors="pt",
        )
        return {"ids": [item.get("id") for item in inputs], "inputs": features.to(self.device), "reports": reports}

    def _forward(self, batch: dict[str, Any], prompts: EncodedPrompts | None = None, **settings: Any) -> dict[str, Any]:
        """Compare a batch with the prompts.

        Args:
            batch: what `preprocess` returns.
            prompts: the encoded prompts.
            settings: the settings of the call.

        Returns:
            The batch with "cosines" (B, P), "present" (B,) bool, "prompts" and "settings".
        """
        assert prompts is not None  # `_stream` encodes them
        rows = len(batch["ids"])
        cosines, present = torch.zeros(rows, len(prompts.vectors)), torch.zeros(rows, dtype=torch.bool)
        if batch["inputs"]:
            output = without_adapter(self.model)(**batch["inputs"])
            cosines = (output[f"{self.kind}_embeds"] @ prompts.vectors.T).cpu()
            present = batch["inputs"][f"{self.kind}_mask"].cpu()
        return {**batch, "cosines": cosines, "present": present, "prompts": prompts, "settings": settings}

    def postprocess(self, batch: dict[str, Any], **_: Any) -> list[dict[str, Any]]:
        """Turn what `_forward` returns into a list of one JSON-able dict per input. The class lists the keys."""
        base, prompts = without_adapter(self.model), batch["prompts"]
        binding = self.binding_check(self.model, self.processor)
        common = {"statement": STATEMENT, "hypothesis_template": batch["settings"].get("hypothesis_template", "{}")}
        common["over_prompts"] = batch["settings"].get("over_prompts", OVER_PROMPTS[0])
        common["temperature"] = float(base.temperature)
        common |= {"sources": base.config.encoder_sources or {}, "model": base.name_or_path}
        common |= {"model_fingerprint": binding.model, "processor_fingerprint": binding.processor}
        common["code_revision"] = code_revision(self.model, self.processor)
        results = []
        for row, (identifier, report) in enumerate(zip(batch["ids"], batch["reports"], strict=True)):
            labels, notes = [], list(report["notes"])
            if batch["present"][row]:
                labels = _labels(batch["cosines"][row], prompts, common["over_prompts"], common["temperature"])
                notes += [*prompts.notes, NOT_MEASURED]
            else:
                notes.append("the input cannot be used: no labels")
            checks = [*report["checks"], *binding.checks]
            result = {"id": identifier, "labels": labels, "used": {self.kind: report["used"][self.kind]}}
            result |= {"refused": report["refused"], "checks": checks, "notes": [*notes, *binding.notes]}
            results.append({**result, **common})
        return results


class MoreEcgPipeline(MoreZeroShotPipeline, ZeroShotAudioClassificationPipeline):  # type: ignore[misc] # other arguments
    """Compares each ECG, given as `{"ecg": ...}` or as a file, with labels in words.

    Arguments and answer: see `MoreZeroShotPipeline`.
    """

    kind = "ecg"
    one_input = 'An input is a dict like {"ecg": "recording"}'


class MoreXrayPipeline(MoreZeroShotPipeline, ZeroShotImageClassificationPipeline):  # type: ignore[misc] # as above
    """Compares each chest X-ray, given as `{"xray": ...}`, as a file, picture or array, with labels in words.

    Arguments and answer: see `MoreZeroShotPipeline`.
    """

    kind = "xray"
    one_input = 'An input is a dict like {"xray": "picture"}'


PIPELINES: dict[str, type[MoreZeroShotPipeline]] = {ECG_TASK: MoreEcgPipeline, XRAY_TASK: MoreXrayPipeline}
"""Name of a task -> class of its pipeline."""


def _labels(cosines: torch.Tensor, prompts: EncodedPrompts, over: str, temperature: float) -> list[dict[str, Any]]:
    """Write the labels of one input, the highest score first. `cosines` is (P,)."""
    similarity = label_similarity(cosines[None], prompts.label_of, over)[0]
    scores = (similarity / temperature).softmax(0).tolist()
    nearest = label_similarity(cosines[None], prompts.label_of, "max")[0]
    entries = []
    for number, label in enumerate(prompts.labels):
        places = (prompts.label_of == number).nonzero()[:, 0].tolist()
        place = next(place for place in places if cosines[place] == nearest[number])
        entries.append(
            {
                "label": label,
                "score": scores[number],
                "similarity": float(similarity[number]),
                "prompt": prompts.texts[place],
            }
        )
    return sorted(entries, key=lambda entry: -entry["score"])


# A copy beside a saved model makes the tasks known, as `import tgmm_hf` does.
if not __name__.startswith("tgmm_hf."):
    for _task, _pipeline in PIPELINES.items():
        if _task not in PIPELINE_REGISTRY.get_supported_tasks():
            PIPELINE_REGISTRY.register_pipeline(_task, pipeline_class=_pipeline, pt_model=AutoModel)

__all__ = ["ECG_TASK", "PIPELINES", "XRAY_TASK", "MoreEcgPipeline", "MoreXrayPipeline", "MoreZeroShotPipeline"]
