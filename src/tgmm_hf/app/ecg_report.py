"""Uploaded ECG files -> a report in words by a model of MEIT or Heartcare. Nothing is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tgmm_hf.app.answering import READING_LIMITS, EnteredInputs, Progress, patient_of
from tgmm_hf.app.fragments import plain_braces
from tgmm_hf.app.private_files import RequestPlace
from tgmm_hf.data.ecg_reports import reads_pictures, write_report
from tgmm_hf.data.prediction import predict
from tgmm_hf.data.prediction_tables import positioned
from tgmm_hf.explanation.report_sentences import explain_report
from tgmm_hf.families.shared.answering_pipeline import STATEMENT, AnsweringPipeline
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.reports.pages import render_page


@dataclass(frozen=True)
class ReportRequest:
    """The request of a user about one recording.

    Attributes:
        ecg: Files of the recording, in the cache.
        question: The question for the model. "" takes the instruction saved with it.
        sentences: Name what carried each sentence. For a MEIT model.
        control: Also ask the same without the ECG. For a Heartcare model.
    """

    ecg: Sequence[str]
    question: str = ""
    sentences: bool = False
    control: bool = False


def report_on_upload(
    pipe: TgmmCardiacPipeline,
    reporter: AnsweringPipeline,
    request: ReportRequest,
    place: RequestPlace,
    progress: Progress,
) -> dict[str, Any]:
    """Write a report about one uploaded recording.

    A worker process with limits reads the files first, with the processor of `pipe`. The reporter reads them in this
    process only if the worker could.

    Args:
        pipe: The model of the page.
        reporter: The model that writes.
        request: The request. Its files are moved out of the cache, also if the report fails.
        place: Directories of this request.
        progress: Is told what is done now.

    Returns:
        The answer as `write_report` describes it, "sentences" if they are asked for, and "without_ecg", the text of the
        control. Without a usable ECG: "report" is None, and "refused" says why.
    """
    patient, refused = patient_of(EnteredInputs(ecg=request.ecg), place)
    progress(0.1, "Reading the recording")
    (read,) = predict(pipe, [patient], batch_size=1, limits=READING_LIMITS)
    entries = [{"item": error.item, "reason": error.reason} for error in refused]
    entries += [{**entry, "item": positioned(entry["item"], patient)} for entry in read["refused"]]
    if not read["used"]["ecg"]:
        return {"report": None, "refused": entries, "checks": read["checks"], "notes": [], "statement": STATEMENT}
    progress(0.4, "Writing the report")
    has_pictures, question = reads_pictures(reporter), request.question.strip() or None
    answer = write_report(reporter, patient["ecg"], instruction=question)
    if request.control and has_pictures and answer["report"] is not None:
        progress(0.6, "Asking without the ECG")
        answer["without_ecg"] = write_report(reporter, patient["ecg"], instruction=question, shows_ecg=False)["report"]
    if request.sentences and not has_pictures and answer["report"]:
        progress(0.7, "Looking for what carried each sentence")
        claims = explain_report(reporter.model, reporter.processor, patient["ecg"], answer["report"], question)
        answer["sentences"] = [claim.to_dict() for claim in claims]
    return answer


def report_fragment(answer: dict[str, Any]) -> str:
    """Write a report as a part of the page."""
    return plain_braces(render_page("app_ecg_report.html", answer=answer, sentences=answer.get("sentences", [])))
