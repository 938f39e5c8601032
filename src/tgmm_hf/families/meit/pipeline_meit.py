"""`pipeline("ecg-report")`: an ECG -> a report in words and what it rests on, as JSON-able Python."""

from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from ..shared.answering_pipeline import AnsweringPipeline

PIPELINE_TASK = "ecg-report"


class MeitReportPipeline(AnsweringPipeline):
    """Writes a report about each ECG, given as `{"ecg": ...}`.

    The ECG is given as the processor takes it. `"instruction"` replaces the processor's instruction. `"id"` comes back
    in the answer. An ECG that cannot be used is refused with its reason, and no report is written.

    Args (of a call):
        inputs: one ECG, or a list or generator of ECGs.
        batch_size: ECGs that are reported together.
        strictness: "note" or "refuse", as `MeitProcessor.__call__` takes it.
        generate_kwargs: settings of `generate`. The default is greedy, at most `MAX_NEW_TOKENS` tokens.

    Returns:
        one dict an ECG (a list for a list, a generator for a generator): `{"id", "report": text or None, "complete":
        whether the model ended the report by itself, "instruction", "used": {"ecg": [leads]}, "refused": [{"item",
        "reason"}], "checks": [{"code", "item", "text"}], "notes": [...], "statement", "generation": settings, "fusion",
        "sources": {"text" or "ecg": where the part comes from}, "model", "model_fingerprint", "processor_fingerprint",
        "code_revision"}`.
    """

    one_input = 'An input is a dict like {"ecg": "recording"}'
    input_keys = ("id", "ecg", "instruction")
    question_key, answer_key = "instruction", "report"


# A copy beside a saved model makes the task known, as `import tgmm_hf` does. Then
# `pipeline("ecg-report", model=object)` works for a model that was loaded with `trust_remote_code`.
if not __name__.startswith("tgmm_hf.") and PIPELINE_TASK not in PIPELINE_REGISTRY.get_supported_tasks():
    PIPELINE_REGISTRY.register_pipeline(PIPELINE_TASK, pipeline_class=MeitReportPipeline, pt_model=AutoModel)

__all__ = ["PIPELINE_TASK", "MeitReportPipeline"]
