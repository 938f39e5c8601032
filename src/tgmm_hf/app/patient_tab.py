"""The tab of one patient: labs, ECG and echo in, the answer out."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import gradio as gr

from tgmm_hf.app.answering import EnteredInputs, Question, answer_patient, answer_read_patient, form_cell
from tgmm_hf.app.fragments import messages_fragment
from tgmm_hf.app.lab_form import FIRST_COLUMNS, field_of, form_columns
from tgmm_hf.app.own_messages import own_messages_only
from tgmm_hf.app.parts import (
    KEEP_SECONDS,
    WITH_MODEL,
    PageContent,
    chosen_tasks,
    explain_choice,
    file_field,
    html_part,
    result_parts,
    result_values,
    steps_of,
    task_picker,
)
from tgmm_hf.utils.names import MODALITIES, VIEWS

UNITS = {"not known": None, "US conventional units": "US", "SI units": "SI"}
"""Choice of the form -> units of numbers without a unit."""
NO_VIEW = "not chosen"
MAX_PICKERS = 40
"""Largest number of clips whose views can be chosen one by one. More clips come with a table of views."""
ECG_HELP = (
    "One recording: a DICOM, XML, SCP, EDF or CSV file, or a WFDB header (.hea) with its signal file (.dat). A ZIP "
    "archive with them works too."
)
ECHO_HELP = (
    "The clips of one study: DICOM or video files, a ZIP archive, or a folder. A file `views.csv` with the columns "
    "`dicom_filepath` and `view` names the views. Without a name the model's view classifier is asked, if it has one."
)
LABS_HELP = (
    "Leave empty what is not known. A unit may follow the number, such as `88 umol/L`. Instead of the form you can "
    "send a file with one row (CSV or JSON)."
)


def patient_tab(content: PageContent) -> None:
    """Build the tab with the three kinds of input of one patient, and the answer."""
    example, example_button = _example_choice(content)
    views = gr.State({}, time_to_live=KEEP_SECONDS)
    columns = form_columns(content.pipe.processor)
    with gr.Tabs():
        with gr.Tab("Labs"):
            labs_file, units, boxes = _lab_fields(columns)
            labs_message = html_part()
        with gr.Tab("ECG"):
            gr.Markdown(ECG_HELP)
            ecg = file_field("ECG file or files")
            ecg_message = html_part()
        with gr.Tab("Echo"):
            echo, folder = _echo_fields(views)
            echo_message = html_part()
    tasks = task_picker(content)
    explain = explain_choice(content.pipe.model)
    button = gr.Button("Answer", variant="primary")
    result = result_parts()

    def answer_form(*values: Any, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008 - Gradio looks for it
        lab_file, ecg_files, echo_files, echo_folder, unit, chosen, names, wanted, *texts = values
        named = zip((column.name for column in columns), texts, strict=True)
        entered = EnteredInputs(
            labs={name: form_cell(name, text) for name, text in named if text and text.strip()},
            labs_file=lab_file,
            ecg=ecg_files or (),
            echo=[*(echo_files or ()), *(echo_folder or ())],
            views=chosen or {},
            units=UNITS[unit],
        )
        with content.files.request() as place:
            answered = answer_patient(
                content.pipe, entered, Question(chosen_tasks(names), wanted, steps_of(progress)), place
            )
        messages = [messages_fragment(answered.messages[name]) for name in MODALITIES]
        return [*result_values(content, answered), *messages, None, None, None, None, {}]

    def answer_example(
        name: str,
        names: Sequence[str],
        wanted: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio looks for it
    ) -> list[Any]:
        question = Question(chosen_tasks(names), wanted, steps_of(progress))
        answered = answer_read_patient(content.pipe, dict(content.examples[name]), question)
        return result_values(content, answered, f"{name}. Nobody real.")

    files = [labs_file, ecg, echo, folder]
    button.click(
        own_messages_only(answer_form),
        [*files, units, views, tasks, explain, *boxes],
        [*result.outputs, labs_message, ecg_message, echo_message, *files, views],
        show_progress_on=result.shown,
        scroll_to_output=True,
        api_visibility="private",
        **WITH_MODEL,
    )
    if example is not None and example_button is not None:
        example_button.click(
            own_messages_only(answer_example),
            [example, tasks, explain],
            result.outputs,
            show_progress_on=result.shown,
            scroll_to_output=True,
            api_visibility="private",
            **WITH_MODEL,
        )


def _example_choice(content: PageContent) -> tuple[gr.Dropdown | None, gr.Button | None]:
    """Build the choice of a synthetic patient. Return None twice if there is none."""
    if not content.examples:
        return None, None
    names = list(content.examples)
    with gr.Accordion("Try a synthetic patient", open=False):
        choice = gr.Dropdown(names, value=names[0], label="Synthetic patient", info="Made by a generator. Nobody real.")
        return choice, gr.Button("Answer for the synthetic patient")


def _lab_fields(columns: Sequence[Any]) -> tuple[gr.File, gr.Radio, list[Any]]:
    """Build the fields of the laboratory values: a file, the units, and one field per column."""
    gr.Markdown(LABS_HELP)
    labs_file = file_field("Lab file (CSV or JSON)", count="single")
    units = gr.Radio(
        list(UNITS),
        value="not known",
        label="Numbers without a unit are in",
        info="A number that fits two units is not used if this is not known.",
    )
    with gr.Row():
        boxes = [field_of(column) for column in columns[:FIRST_COLUMNS]]
    if further := columns[FIRST_COLUMNS:]:
        with gr.Accordion(f"{len(further)} more tests", open=False), gr.Row():
            boxes += [field_of(column) for column in further]
    return labs_file, units, boxes


def _echo_fields(views: gr.State) -> tuple[gr.File, gr.File]:
    """Build the fields of the echo files, and a choice of the view for each clip that was sent."""
    gr.Markdown(ECHO_HELP)
    echo = file_field("Echo files or ZIP archive")
    folder = file_field("Echo folder", count="directory")

    @gr.render(inputs=[echo, folder], triggers=[echo.change, folder.change])
    def pickers(files: list[str] | None, more: list[str] | None) -> None:
        names = [PurePosixPath(path).name for path in (*(files or ()), *(more or ()))]
        clips = [name for name in names if not name.lower().endswith((".zip", ".csv"))]
        if not 0 < len(clips) <= MAX_PICKERS:
            return
        with gr.Row():
            for name in clips:
                picker = gr.Dropdown(
                    [NO_VIEW, *VIEWS], value=NO_VIEW, label=f"View of {name}", min_width=240, interactive=True
                )
                picker.change(_remember(name), [picker, views], views, api_visibility="private", show_progress="hidden")

    return echo, folder


def _remember(name: str) -> Any:
    """Make the function that keeps the chosen view of a clip until the answer."""

    def remember(view: str, views: Mapping[str, str]) -> dict[str, str]:
        other_clips = {clip: its_view for clip, its_view in views.items() if clip != name}
        return other_clips if view == NO_VIEW else {**other_clips, name: view}

    return own_messages_only(remember)
