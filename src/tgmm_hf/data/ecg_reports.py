"""An ECG file -> a report in words by a saved model of MEIT or Heartcare. The command line uses these functions."""

from pathlib import Path
from typing import Any, NamedTuple, cast

from transformers import PreTrainedConfig

from tgmm_hf.data.saved_models import damaged_files_in_one_line, load_whole_model
from tgmm_hf.families.heartcare.configuration_heartcare import HeartcareConfig
from tgmm_hf.families.heartcare.modeling_heartcare import HeartcareForConditionalGeneration
from tgmm_hf.families.heartcare.pipeline_heartcare import HeartcarePipeline
from tgmm_hf.families.heartcare.processing_heartcare import HeartcareProcessor
from tgmm_hf.families.meit.configuration_meit import MeitConfig
from tgmm_hf.families.meit.modeling_meit import MeitForConditionalGeneration
from tgmm_hf.families.meit.pipeline_meit import MeitReportPipeline
from tgmm_hf.families.meit.processing_meit import MeitProcessor
from tgmm_hf.families.shared.answering_pipeline import AnsweringPipeline
from tgmm_hf.utils.errors import TgmmError

SIGNAL, PICTURE = "signal", "picture"
"""Streams: the ways in which an ECG can enter a model."""


class _Family(NamedTuple):
    """The classes of a family whose models write reports."""

    model: Any
    processor: Any
    pipeline: type[AnsweringPipeline]


MEIT, HEARTCARE = MeitConfig.model_type, HeartcareConfig.model_type
REPORTERS = {
    MEIT: _Family(MeitForConditionalGeneration, MeitProcessor, MeitReportPipeline),
    HEARTCARE: _Family(HeartcareForConditionalGeneration, HeartcareProcessor, HeartcarePipeline),
}
"""Kind of a saved model (`model_type`) -> its classes, of every kind that writes reports."""


def saved_kind(model: str) -> str | None:
    """Read the kind (`model_type`) of a saved model, None if its configuration names none."""
    with damaged_files_in_one_line(model):
        saved, _ = PreTrainedConfig.get_config_dict(model)
    return saved.get("model_type")


def load_reporter(model: str, kind: str | None = None) -> tuple[Any, Any]:
    """Load a saved model that writes reports, with its processor.

    Args:
        model: Directory or Hub repository.
        kind: Kind that it must be, a key of `REPORTERS`. None takes every kind that writes reports.

    Raises:
        TgmmError: If the saved model is of another kind, damaged or incomplete.
    """
    family = _family_of(model, kind)
    with damaged_files_in_one_line(model):
        # False, because transformers would otherwise ask on the terminal whether to run foreign code.
        processor = family.processor.from_pretrained(model, trust_remote_code=False)
    return load_whole_model(family.model, model), processor


def _family_of(model: str, kind: str | None) -> _Family:
    """Return the classes of a saved model, as `load_reporter` describes it."""
    saved = saved_kind(model)
    if kind is not None and saved != kind:
        raise TgmmError(model, f"it is a {saved or 'nameless'} model, and a {kind} model is needed here.")
    if saved not in REPORTERS:
        raise TgmmError(
            model,
            f"it is a {saved or 'nameless'} model, and only {' and '.join(REPORTERS)} models write reports. A tgmm "
            "model answers its tasks with `tgmm predict`.",
        )
    return REPORTERS[saved]


def load_report_pipeline(model: str, strictness: str = "note", kind: str | None = None) -> AnsweringPipeline:
    """Load a saved model that writes reports, with its processor, as a pipeline.

    Args:
        model: Directory or Hub repository.
        strictness: "note", or "refuse" to refuse an ECG with doubtful data, see [`MeitProcessor`].
        kind: As in [`load_reporter`].

    Raises:
        TgmmError: If the saved model is of another kind, damaged or incomplete.
    """
    loaded, processor = load_reporter(model, kind)
    processor.default_strictness = strictness
    return REPORTERS[loaded.config.model_type].pipeline(model=loaded, processor=processor)


def reads_pictures(pipe: AnsweringPipeline) -> bool:
    """Tell whether the model of a pipeline reads pictures, and can be asked without an ECG."""
    return "image" in pipe.input_keys


def write_report(  # noqa: PLR0913 - one argument per option of the command
    pipe: AnsweringPipeline,
    ecg: str | Path | None,
    *,
    picture: str | Path | None = None,
    identifier: str | None = None,
    instruction: str | None = None,
    max_new_tokens: int = 128,
    num_beams: int = 1,
    shows_ecg: bool = True,
) -> dict[str, Any]:
    """Report on one ECG.

    Args:
        pipe: From [`load_report_pipeline`].
        ecg: ECG file in a format that `read_ecg` reads. A WFDB recording may be named without its suffix. None if
            there is a picture only.
        picture: Your own picture of the ECG, for a model that reads pictures. It replaces the drawn one.
        identifier: Name of the patient in the answer.
        instruction: What the model is asked. None takes the processor's instruction.
        max_new_tokens: Longest report, in tokens.
        num_beams: Number of beams. 1 is greedy.
        shows_ecg: False asks the same without the ECG, as a control. Only for a model that reads pictures.

    Returns:
        The answer as the pipeline describes it. Its text is under "report" and its question under "instruction" for
        every family. "streams" names the streams that the answer rests on.

    Raises:
        TgmmError: If the model reads no pictures and gets one, or the instruction holds a placeholder of the model.
    """
    placeholders = [token for token, _ in cast(Any, pipe.processor).placeholders.values() if token]
    if held := [token for token in placeholders if token in (instruction or "")]:
        raise TgmmError(
            "instruction", f"it holds {held[0]!r}, which stands for an ECG or a picture in the model's text. Remove it."
        )
    if picture is not None and not reads_pictures(pipe):
        raise TgmmError(
            "picture", f"a {pipe.model.config.model_type} model reads no picture. A {HEARTCARE} model reads one."
        )
    model_input = {"id": identifier, "ecg": None if ecg is None else str(ecg), pipe.question_key: instruction}
    if picture is not None:
        model_input["image"] = str(picture)
    generate_kwargs = {"max_new_tokens": max_new_tokens, "num_beams": num_beams}
    options: dict[str, Any] = {} if shows_ecg else {"streams": ()}
    answer = cast(dict[str, Any], pipe(model_input, generate_kwargs=generate_kwargs, **options))
    names = {pipe.answer_key: "report", pipe.question_key: "instruction"}
    return {names.get(key, key): value for key, value in answer.items()} | {"streams": streams_used(answer["used"])}


def streams_used(used: dict[str, Any]) -> list[str]:
    """Name the streams of an answer, from "used" of a pipeline."""
    picture = used.get("image", "no")
    # "ecg" names the leads of a picture that was drawn alone, too. `write_report` draws none without the signal.
    return [SIGNAL] * bool(used["ecg"]) + [PICTURE] * (picture != "no")
