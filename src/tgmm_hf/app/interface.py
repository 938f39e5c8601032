"""The programming interface of the page: the same answers for `gradio_client`. docs/app.md has an example."""

from typing import Any

import gradio as gr

from tgmm_hf.app.answering import EnteredInputs, Question, answer_patient, answer_table
from tgmm_hf.app.own_messages import own_messages_only
from tgmm_hf.app.parts import WITH_MODEL, PageContent
from tgmm_hf.utils.errors import TgmmError

UNITS = (None, "US", "SI")


def programming_interface(content: PageContent) -> None:
    """Add the services `/answer`, `/answer_table` and `/about` to the page that is being built."""

    def answer(  # noqa: PLR0913 - one argument per input, named as in a Python call
        labs: dict[str, Any] | None = None,
        labs_file: gr.FileData | None = None,
        ecg: list[gr.FileData] | None = None,
        echo: list[gr.FileData] | None = None,
        views: dict[str, str] | None = None,
        units: str | None = None,
        tasks: list[str] | None = None,
        explain: bool = False,
    ) -> dict[str, Any]:
        """Answer the tasks for one patient. Every input may be absent.

        Args:
            labs: Column -> value or [value, unit].
            labs_file: CSV or JSON file with one lab row.
            ecg: Files of one recording.
            echo: Files of one study, or a ZIP archive.
            views: File name of a clip -> view.
            units: "US" or "SI", the units of numbers without a unit.
            tasks: Names of tasks; all but retrieval tasks when omitted.
            explain: Explain the answer to the first task in the report. It takes longer.

        Returns:
            {"prediction": as docs/app.md describes it, "report": page of the patient report as HTML text}.
        """
        if units not in UNITS:
            raise TgmmError("units", f"they are 'US', 'SI' or null, got {units!r}.")
        cells = {name: tuple(value) if isinstance(value, list) else value for name, value in (labs or {}).items()}
        entered = EnteredInputs(cells, _path(labs_file), _paths(ecg), _paths(echo), views or {}, units)
        question = Question(_asked_tasks(content, tasks), explain)
        with content.files.request() as place:
            answered = answer_patient(content.pipe, entered, question, place)
        return {"prediction": answered.prediction, "report": answered.report}

    def answer_many(
        table: gr.FileData, files: list[gr.FileData] | None = None, tasks: list[str] | None = None
    ) -> dict[str, Any]:
        """Answer the tasks for every patient of a cohort table.

        Args:
            table: Cohort table, CSV or Parquet.
            files: A ZIP archive with the ECG and echo files.
            tasks: Names of tasks; all but retrieval tasks when omitted.

        Returns:
            {"predictions", "refused": texts of the CSV files, "patients", "answered": numbers of patients}.
        """
        with content.files.request() as place:
            answered = answer_table(
                content.pipe, _path(table) or "", _paths(files), Question(_asked_tasks(content, tasks)), place
            )
        return vars(answered)

    def about() -> dict[str, Any]:
        """Describe the model.

        Returns:
            {"facts": what identifies the model, "questions": task -> question, "card": text of the model card}.
        """
        return {"facts": dict(content.facts), "questions": content.questions, "card": content.card}

    gr.api(own_messages_only(answer), api_name="answer", **WITH_MODEL)
    gr.api(own_messages_only(answer_many), api_name="answer_table", **WITH_MODEL)
    gr.api(own_messages_only(about), api_name="about")


def _path(file: Any) -> str | None:
    """Return the path of an uploaded file as the client names it. `take_files` checks it."""
    if file is None:
        return None
    path = file.get("path") if isinstance(file, dict) else getattr(file, "path", None)
    if not isinstance(path, str):
        raise TgmmError("upload", "a file is missing: send files with gradio_client.handle_file.")
    return path


def _paths(files: Any) -> list[str]:
    """Return the paths of uploaded files."""
    return [path for file in files or () if (path := _path(file)) is not None]


def _asked_tasks(content: PageContent, tasks: list[str] | None) -> list[str]:
    """Return the names of the tasks, all but retrieval tasks for None. Refuse an empty list and unknown names."""
    if tasks is None:
        return list(content.questions)
    if not tasks:
        raise TgmmError("tasks", f"the list is empty: name a task, or leave it out. {_names_of(content)}")
    if unknown := [name for name in tasks if name not in content.questions]:
        raise TgmmError("tasks", f"{len(unknown)} of them are unknown. {_names_of(content)}")
    return tasks


def _names_of(content: PageContent) -> str:
    """Name the tasks of the page in a sentence."""
    return f"The tasks are {', '.join(content.questions)}."
