"""`pipeline("ecg-question")`: an ECG, its picture or both, and a question -> an answer in words, as JSON-able Python.

answering_pipeline.py describes the steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from ..shared.answering_pipeline import AnsweringPipeline

QUESTION_TASK = "ecg-question"


class HeartcarePipeline(AnsweringPipeline):
    """Answers a question about each ECG, given as `{"ecg": ..., "question": ...}`.

    The ECG is given as the processor takes it. Its picture is drawn by the processor, unless `"image"` gives a picture
    of your own. `"image"` alone, without an ECG, is possible. Without `"question"` the processor's instruction is
    asked. `"id"` comes back in the answer. What cannot be used is refused with its reason, and no answer is written.

    Args (of a call):
        inputs: one input, or a list or generator of inputs.
        batch_size: inputs that are answered together.
        strictness: "note" or "refuse", as `HeartcareProcessor.__call__` takes it.
        streams: how an ECG enters the model, as `HeartcareProcessor.__call__` takes it. () answers without the ECG, as
            a control.
        generate_kwargs: settings of `generate`. The default is greedy, at most 128 tokens.

    Returns:
        one dict an input (a list for a list, a generator for a generator): `{"id", "answer": text or None, "complete":
        whether the model ended the answer by itself, "question", "used": {"ecg": [leads], "image": "drawn", "given" or
        "no"}, "refused": [{"item", "reason"}], "checks": [{"code", "item", "text"}], "notes": [...], "statement",
        "generation": settings, "fusion": "tokens", "sources": {"text", "beat" or "vision": where the part comes from},
        "model", "model_fingerprint", "processor_fingerprint", "code_revision"}`.
    """

    one_input = 'An input is a dict like {"ecg": "recording", "question": "..."} or {"image": "picture"}'
    input_keys = ("id", "ecg", "image", "question")
    question_key, answer_key = "question", "answer"
    processor_options = ("streams",)

    def sources_of(self, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what the processor reads beside the text: argument -> one value for each input."""
        return {name: [item.get(name) for item in inputs] for name in ("ecg", "image")}


# A copy beside a saved model makes the task known, as `import tgmm_hf` does.
if not __name__.startswith("tgmm_hf.") and QUESTION_TASK not in PIPELINE_REGISTRY.get_supported_tasks():
    PIPELINE_REGISTRY.register_pipeline(QUESTION_TASK, pipeline_class=HeartcarePipeline, pt_model=AutoModel)

__all__ = ["QUESTION_TASK", "HeartcarePipeline"]
