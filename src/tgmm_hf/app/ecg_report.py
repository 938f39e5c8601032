"""Uploaded ECG files -> a report in words by a MEIT model. Nothing is kept."""

from collections.abc import Sequence
from typing import Any, cast

from tgmm_hf.app.answering import READING_LIMITS, Given, Progress, patient_of
from tgmm_hf.app.fragments import plain_braces
from tgmm_hf.app.private_files import RequestPlace
from tgmm_hf.data.prediction import predict
from tgmm_hf.data.prediction_tables import positioned
from tgmm_hf.explanation.report_sentences import explain_report
from tgmm_hf.families.meit.pipeline_meit import MeitReportPipeline
from tgmm_hf.families.shared.answering_pipeline import STATEMENT
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.reports.pages import render_page


def report_on_upload(
    pipe: TgmmCardiacPipeline,
    reporter: MeitReportPipeline,
    ecg: Sequence[str],
    sentences: bool,
    place: RequestPlace,
    progress: Progress,
) -> dict[str, Any]:
    """Write a report about one uploaded recording.

    A worker process with limits reads the files first, with the processor of `pipe`. The reporter reads them in this
    process only if the worker could.

    Args:
        pipe: The model of the page.
        reporter: The MEIT model.
        ecg: Files of the recording, in the cache. They are moved out of it, also if the report fails.
        sentences: Name what carried each sentence.
        place: Directories of this request.
        progress: Is told what is done now.

    Returns:
        The answer as [`MeitReportPipeline`] describes it, and "sentences" if they were wanted. Without a usable ECG:
        "report" is None, and "refused" says why.
    """
    patient, refused = patient_of(Given(ecg=ecg), place)
    progress(0.1, "Reading the recording")
    (read,) = predict(pipe, [patient], batch_size=1, limits=READING_LIMITS)
    entries = [{"item": error.item, "reason": error.reason} for error in refused]
    entries += [{**entry, "item": positioned(entry["item"], patient)} for entry in read["refused"]]
    if not read["used"]["ecg"]:
        return {"report": None, "refused": entries, "checks": read["checks"], "notes": [], "statement": STATEMENT}
    progress(0.4, "Writing the report")
    answer = cast(dict[str, Any], reporter({"ecg": patient["ecg"]}))
    if sentences and answer["report"]:
        progress(0.7, "Looking for what carried each sentence")
        claims = explain_report(reporter.model, reporter.processor, patient["ecg"], answer["report"])
        answer["sentences"] = [claim.to_dict() for claim in claims]
    return answer


def report_fragment(answer: dict[str, Any]) -> str:
    """Write a report as a part of the page."""
    return plain_braces(render_page("app_ecg_report.html", answer=answer, sentences=answer.get("sentences", [])))
