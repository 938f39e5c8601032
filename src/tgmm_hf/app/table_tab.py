"""The tab of many patients: a table and an archive in, tables of predictions and refusals out."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from tgmm_hf.app.answering import MAX_PATIENTS, Question, answer_table
from tgmm_hf.app.fragments import csv_fragment, messages_fragment
from tgmm_hf.app.own_messages import own_messages_only
from tgmm_hf.app.parts import (
    WITH_MODEL,
    PageContent,
    chosen_tasks,
    file_field,
    html_part,
    save_button,
    steps_of,
    task_picker,
)

HELP = (
    "A cohort table (CSV or Parquet) with one row per patient, and a ZIP archive with the ECG and echo files. The "
    f"paths in the table start from the top of the archive. At most {MAX_PATIENTS} patients; for more there is "
    "`tgmm predict --manifest`."
)


def table_tab(content: PageContent) -> None:
    """Build the tab."""
    gr.Markdown(HELP)
    with gr.Row():
        table = file_field("Cohort table (CSV or Parquet)", count="single")
        archive = file_field("ZIP archive with the files, optional")
    tasks = task_picker(content)
    button = gr.Button("Answer for all patients", variant="primary")
    summary = html_part(elem_classes="tgmm-result")
    predictions, refused = gr.Textbox(visible=False), gr.Textbox(visible=False)
    with gr.Row(visible=False) as downloads:
        save_button("Save the predictions (CSV)", predictions, "predictions.csv", "text/csv")
        save_button("Save the refusals (CSV)", refused, "refused.csv", "text/csv")

    def answer_rows(
        path: str | None,
        files: Sequence[str] | None,
        names: Sequence[str],
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio looks for it
    ) -> list[Any]:
        if path is None:
            raise gr.Error("A cohort table is needed: choose a CSV or Parquet file.", print_exception=False)
        progress(0.0, desc="Unpacking the files")
        question = Question(chosen_tasks(names), progress=steps_of(progress))
        with content.files.request() as place:
            answered = answer_table(content.pipe, path, files or (), question, place)
        parts = [
            messages_fragment([f"{answered.answered} of {answered.patients} patients are answered."]),
            csv_fragment("Predictions", answered.predictions),
            csv_fragment("Refused inputs", answered.refused),
        ]
        return ["".join(parts), answered.predictions, answered.refused, gr.Row(visible=True), None, None]

    button.click(
        own_messages_only(answer_rows),
        [table, archive, tasks],
        [summary, predictions, refused, downloads, table, archive],
        show_progress_on=summary,
        scroll_to_output=True,
        api_visibility="private",
        **WITH_MODEL,
    )
