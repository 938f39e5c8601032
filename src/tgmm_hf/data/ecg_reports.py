"""An ECG file -> a report in words by a saved MEIT model. The command line uses these functions."""

from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedConfig

from tgmm_hf.data.saved_models import damaged_files_in_one_line, load_whole_model
from tgmm_hf.families.meit.configuration_meit import MeitConfig
from tgmm_hf.families.meit.modeling_meit import MeitForConditionalGeneration
from tgmm_hf.families.meit.pipeline_meit import MeitReportPipeline
from tgmm_hf.families.meit.processing_meit import MeitProcessor
from tgmm_hf.utils.errors import TgmmError


def load_reporter(model: str) -> tuple[MeitForConditionalGeneration, MeitProcessor]:
    """Load a saved MEIT model with its processor.

    Args:
        model: Directory or Hub repository.

    Raises:
        TgmmError: If the saved model is of another kind, damaged or incomplete.
    """
    kind = saved_kind(model)
    if kind != MeitConfig.model_type:
        raise TgmmError(
            model,
            f"it is a {kind or 'nameless'} model, and only a {MeitConfig.model_type} model writes reports. A tgmm "
            "model answers its tasks with `tgmm predict`.",
        )
    with damaged_files_in_one_line(model):
        # False, because transformers would otherwise ask on the terminal whether to run foreign code.
        processor = MeitProcessor.from_pretrained(model, trust_remote_code=False)
    return load_whole_model(MeitForConditionalGeneration, model), processor


def saved_kind(model: str) -> str | None:
    """Read the kind (`model_type`) of a saved model, None if its configuration names none."""
    with damaged_files_in_one_line(model):
        saved, _ = PreTrainedConfig.get_config_dict(model)
    return saved.get("model_type")


def load_report_pipeline(model: str, strictness: str = "note") -> MeitReportPipeline:
    """Load a saved MEIT model with its processor as a pipeline.

    Args:
        model: Directory or Hub repository.
        strictness: "note", or "refuse" to refuse an ECG with doubtful data, see [`MeitProcessor`].

    Raises:
        TgmmError: If the saved model is of another kind, damaged or incomplete.
    """
    loaded, processor = load_reporter(model)
    processor.default_strictness = strictness
    return MeitReportPipeline(model=loaded, processor=processor)


def write_report(
    pipe: MeitReportPipeline,
    ecg: Path,
    *,
    identifier: str | None = None,
    instruction: str | None = None,
    max_new_tokens: int = 128,
    num_beams: int = 1,
) -> dict[str, Any]:
    """Report on one ECG file.

    Args:
        pipe: From [`load_report_pipeline`].
        ecg: ECG file in a format that `read_ecg` reads. A WFDB recording may be named without its suffix.
        identifier: Name of the patient in the answer.
        instruction: What the model is asked. None takes the processor's instruction.
        max_new_tokens: Longest report, in tokens.
        num_beams: Number of beams. 1 is greedy.

    Returns:
        The answer, as [`MeitReportPipeline`] describes it.
    """
    one = {"id": identifier, "ecg": str(ecg), "instruction": instruction}
    generate_kwargs = {"max_new_tokens": max_new_tokens, "num_beams": num_beams}
    return cast(dict[str, Any], pipe(one, generate_kwargs=generate_kwargs))
