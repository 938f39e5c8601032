"""Parts that several tabs of the page share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import gradio as gr

from tgmm_hf.app.answering import PatientAnswer, Progress
from tgmm_hf.app.fragments import answer_fragment
from tgmm_hf.app.private_files import PrivateFiles
from tgmm_hf.app.similar import Searcher
from tgmm_hf.data.prediction import Patient
from tgmm_hf.explanation.explain import CAPTUM_METHOD, default_methods
from tgmm_hf.families.shared.answering_pipeline import AnsweringPipeline
from tgmm_hf.utils.files import json_text

KEEP_SECONDS = 900
"""Age at which an upload that nobody asked an answer for is deleted."""
WITH_MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
"""Settings of events that use the model, because two answers at once would need twice the memory."""
SAVE = """(text) => {
  if (!text) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "%s"}));
  link.download = "%s";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}"""
"""JavaScript that saves a text of the page as a file. The server is not asked, so it keeps no file."""


@dataclass(frozen=True)
class PageContent:
    """What a page shows.

    Attributes:
        pipe: The model; None for a page that only finds similar records.
        files: Directories of the uploads and requests.
        card: Text of the model card.
        facts: Name -> value, of what identifies the model: revision and fingerprints.
        examples: Name of a synthetic patient -> the patient.
        reporter: Model that writes reports about ECGs; None for a page without that tab.
        searcher: Model and index of the search for similar records; None for a page without that tab.
    """

    pipe: Any  # TgmmCardiacPipeline; the tabs that use it are built only if there is one
    files: PrivateFiles
    card: str
    facts: Mapping[str, str]
    examples: Mapping[str, Patient] = field(default_factory=dict)
    reporter: AnsweringPipeline | None = None
    searcher: Searcher | None = None

    @property
    def questions(self) -> dict[str, str]:
        """Task -> its question, of the tasks that the page answers."""
        tasks: Mapping[str, Any] = self.pipe.model.config.tasks or {}
        return {name: task["question"] for name, task in tasks.items() if task["kind"] != "retrieval"}


@dataclass(frozen=True)
class ResultParts:
    """Components that show an answer.

    Attributes:
        shown: The answer as HTML.
        json: The answer as JSON text. It is not shown.
        report: The report as HTML text. It is not shown.
        downloads: Row of buttons, visible with an answer.
    """

    shown: gr.HTML
    json: gr.Textbox
    report: gr.Textbox
    downloads: gr.Row

    @property
    def outputs(self) -> list[Any]:
        """The components in the order of [`result_values`]."""
        return [self.shown, self.json, self.report, self.downloads]


def file_field(label: str, count: str = "multiple") -> gr.File:
    """Build a field for files.

    Args:
        label: Name of the field.
        count: "single", "multiple" or "directory".
    """
    return gr.File(label=label, file_count=count, height=140)


def task_picker(content: PageContent) -> gr.CheckboxGroup:
    """Build the choice of tasks."""
    choices = [(f"{name}: {question}", name) for name, question in content.questions.items()]
    return gr.CheckboxGroup(choices, value=list(content.questions), label="Questions to answer")


def chosen_tasks(names: Sequence[str]) -> list[str]:
    """Return the chosen tasks. Refuse an empty choice, because nothing would be asked."""
    if not names:
        raise gr.Error("No question is chosen: choose one below the inputs.", print_exception=False)
    return list(names)


def steps_of(progress: gr.Progress) -> Progress:
    """Return a function that shows a share of the work and the name of the step on Gradio's bar of progress."""
    return lambda share, text: progress(share, desc=text)


def explain_choice(model: Any) -> gr.Checkbox:
    """Build the choice whether the answer is explained. It is hidden if that needs captum and captum is missing.

    Args:
        model: the model of the page.
    """
    needs_captum = CAPTUM_METHOD in default_methods(model)["ecg"]
    possible = not needs_captum or find_spec("captum") is not None
    return gr.Checkbox(
        possible,
        label="Explain the answer to the first chosen question",
        info="It takes longer.",
        visible=possible,
    )


def html_part(**options: Any) -> gr.HTML:
    """Build a part of the page that holds HTML, without scripts."""
    return gr.HTML(js_on_load=None, padding=False, **options)


def save_button(label: str, text: gr.Textbox, name: str, kind: str) -> gr.Button:
    """Build a button that saves the text of a component as a file.

    Args:
        label: Text of the button.
        text: Component that holds the text.
        name: Name of the file.
        kind: Its media type.
    """
    button = gr.Button(label)
    button.click(None, text, None, js=SAVE % (kind, name), api_visibility="private")
    return button


def result_parts() -> ResultParts:
    """Build the parts that show an answer, with buttons that save it."""
    shown = html_part(elem_classes="tgmm-result")
    text, report = gr.Textbox(visible=False), gr.Textbox(visible=False)
    with gr.Row(visible=False) as downloads:
        save_button("Save the report (HTML)", report, "report.html", "text/html")
        save_button("Save the answer (JSON)", text, "answer.json", "application/json")
    return ResultParts(shown, text, report, downloads)


def result_values(content: PageContent, answered: PatientAnswer, title: str = "") -> list[Any]:
    """Return the values of [`ResultParts`] for an answer.

    Args:
        content: What the page shows.
        answered: The answer.
        title: Sentence that is shown above the answer.
    """
    shown = answer_fragment(answered.prediction, content.questions, answered.report, title)
    return [shown, json_text(answered.prediction), answered.report, gr.Row(visible=True)]
