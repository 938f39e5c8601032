"""Predict and explain one patient, and write the report as HTML, JSON or PDF."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from tgmm_hf.configuration_tasks import CANDIDATE_KINDS
from tgmm_hf.data.prediction import Patient, predict
from tgmm_hf.explanation.explain import Explanation, explain
from tgmm_hf.explanation.neighbours import Gallery, nearest
from tgmm_hf.explanation.step_progress import Progress
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.reports.patient_inputs import PatientInputs, read_inputs
from tgmm_hf.reports.patient_report import ReportSettings, report_content, report_html
from tgmm_hf.reports.pdf import print_to_pdf, require_browser
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import write_json, write_text

FIRST_BYTES = {"html": b"<!doctype html>", "json": b"{", "pdf": b"%PDF"}
"""Format -> how a file of it begins."""
TOLERANCE = 1e-3
"""Largest difference between the explained and the shown answer, because batches round differently."""


@dataclass(frozen=True)
class ExplainedPatient:
    """A patient's answer with what the report shows of it.

    Attributes:
        prediction: the answer, from `tgmm_hf.data.prediction.predict`.
        inputs: what the patient has.
        tasks: `config.tasks` of the model.
        explanation: contributions to one of the answers; None if none were wanted.
        neighbours: from `nearest`; None without a gallery.
    """

    prediction: Mapping[str, Any]
    inputs: PatientInputs
    tasks: Mapping[str, Mapping[str, Any]]
    explanation: Explanation | None = None
    neighbours: Sequence[Mapping[str, Any]] | None = None

    def content(self, settings: ReportSettings) -> dict[str, Any]:
        """Return what the report says, as JSON values."""
        content = report_content(self.prediction, self.inputs, self.tasks, self._attributions, settings)
        return content | {"neighbours": shown_neighbours(self.neighbours, settings.identifiers)}

    def page(self, settings: ReportSettings) -> str:
        """Return the report as an HTML page."""
        return report_html(self.content(settings), self.inputs, self._attributions, settings)

    @property
    def _attributions(self) -> Sequence[Any]:
        return () if self.explanation is None else self.explanation.attributions


def explain_patient(
    pipe: TgmmCardiacPipeline,
    patient: Patient,
    tasks: Sequence[str] | None = None,
    contributions: bool = True,
    progress: Progress | None = None,
    gallery: Gallery | None = None,
) -> ExplainedPatient:
    """Predict one patient, and explain the answer.

    Args:
        pipe: from `load_pipeline`.
        patient: from `patient_from_files`.
        tasks: tasks to answer; None answers all but retrieval. The first one is explained, or the model's first
            diagnosis with None.
        contributions: compute contributions. Without them the packages of the extra `explain` are not needed.
        progress: called with the name of the step that runs and the share of the work that is done, 0 to 1.
        gallery: patients among whom the nearest are looked up.

    Raises:
        ValueError: if a task is not known, or a gallery is given and the model has no retrieval task.
        ImportError: if a package of the extra `explain` is needed and not installed.
    """
    settings: Any = pipe.model.config.tasks
    (prediction,) = predict(pipe, [patient], tasks if gallery is None else _with_retrieval(tasks, settings))
    neighbours = None if gallery is None else _neighbours(gallery, prediction)
    processor = cast(TgmmProcessor, pipe.processor)
    if not contributions or not any(prediction["used"].values()):
        return ExplainedPatient(
            prediction, read_inputs(processor, patient, prediction), settings, neighbours=neighbours
        )
    explained = _explained_task(tasks, settings)
    if explained is None:
        prediction["notes"].append("contributions are computed for a diagnosis or a prognosis, and none was asked")
        return ExplainedPatient(
            prediction, read_inputs(processor, patient, prediction), settings, neighbours=neighbours
        )
    explanation = explain(pipe.model, processor, patient, task=explained, progress=progress)
    require_same_answer(prediction, explanation)
    clips = explanation.material.echo
    inputs = read_inputs(processor, patient, prediction, clips=clips)
    return ExplainedPatient(prediction, inputs, settings, explanation, neighbours)


def _explained_task(tasks: Sequence[str] | None, settings: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Name the task whose answer is explained, None if no diagnosis or prognosis is answered.

    It is the first one of `tasks`. Without them it is the model's first diagnosis, or its first prognosis.
    """
    answerable = [name for name in (tasks or settings) if settings[name]["kind"] in CANDIDATE_KINDS]
    if tasks is None:
        answerable.sort(key=lambda name: settings[name]["kind"] != "diagnosis")
    return next(iter(answerable), None)


def _with_retrieval(tasks: Sequence[str] | None, settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Add the model's retrieval task to the tasks that are answered, because it gives the embeddings."""
    retrieval = [name for name, task in settings.items() if task["kind"] == "retrieval"]
    if not retrieval:
        raise ValueError("A gallery needs a model with a retrieval task, and this model has none. Leave it out.")
    answered = [name for name, task in settings.items() if task["kind"] != "retrieval"] if tasks is None else tasks
    return list(dict.fromkeys([*answered, retrieval[0]]))


def _neighbours(gallery: Gallery, prediction: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Look up the nearest patients by the embeddings of a prediction. The patient itself is left out by its name."""
    answers = [answer for answer in prediction.values() if isinstance(answer, dict) and "embeds" in answer]
    return nearest(gallery, answers[0]["embeds"], identifier=prediction["id"]) if answers else []


def shown_neighbours(neighbours: Sequence[Mapping[str, Any]] | None, identifiers: bool) -> list[dict[str, Any]] | None:
    """Return the neighbours as the report shows them: without their names, unless identifiers are wanted."""
    if neighbours is None:
        return None
    return [{key: value for key, value in neighbour.items() if identifiers or key != "id"} for neighbour in neighbours]


def require_same_answer(prediction: Mapping[str, Any], explanation: Explanation) -> None:
    """Refuse an explanation of another answer than the one that is shown.

    Raises:
        TgmmError: if the two answers to the explained task differ by more than `TOLERANCE`.
    """
    shown, explained = (_numbers(answers[explanation.task]) for answers in (prediction, explanation.prediction))
    if not np.allclose(shown, explained, atol=TOLERANCE):
        raise TgmmError(
            explanation.task,
            f"the explained answer ({explained}) is not the answer that is shown ({shown}), so that the report would "
            "explain another answer. Please report this as an issue.",
        )


def _numbers(answer: Mapping[str, Any]) -> list[float]:
    """Return the probabilities or the risk score of an answer."""
    return list(answer["probabilities"].values()) if "probabilities" in answer else [answer["risk"]]


def claim_report(out: Path, file_format: str) -> None:
    """Refuse to replace a file that is no report in the format. Call it before the work starts.

    Raises:
        FileExistsError: if there is such a file.
    """
    if out.is_dir():
        raise FileExistsError(f"{out} is a directory. Name a file with --out.")
    if out.is_file():
        with out.open("rb") as file:
            start = file.read(len(FIRST_BYTES[file_format]))
        if start and start != FIRST_BYTES[file_format]:
            raise FileExistsError(f"{out}: this file exists and is no {file_format} report. Name another file.")


def require_printer(file_format: str) -> None:
    """Refuse the format "pdf" if no browser is installed that prints. Call it before the work starts."""
    if file_format == "pdf":
        require_browser()


class Report(Protocol):
    """What `write_report` writes."""

    def content(self, settings: ReportSettings, /) -> dict[str, Any]:
        """Return what the report says, as JSON values."""

    def page(self, settings: ReportSettings, /) -> str:
        """Return the report as an HTML page."""


def write_report(explained: Report, out: Path, file_format: str, settings: ReportSettings) -> None:
    """Write the report of a patient, whole or not at all.

    Args:
        explained: from `explain_patient`, or from `more_report.explain_files`.
        out: the file.
        file_format: "html", "json" or "pdf".
        settings: choices of the reader.

    Raises:
        TgmmError: for a PDF, if no browser is installed.
    """
    if file_format == "json":
        write_json(out, explained.content(settings), allow_nan=False)
    elif file_format == "pdf":
        print_to_pdf(explained.page(settings), out)
    else:
        write_text(out, explained.page(settings))
