"""The tab that writes a report about an ECG, or answers a question about it."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from tgmm_hf.app.ecg_report import ReportRequest, report_fragment, report_on_upload
from tgmm_hf.app.own_messages import own_messages_only
from tgmm_hf.app.parts import WITH_MODEL, PageContent, file_field, html_part, steps_of
from tgmm_hf.data.ecg_reports import reads_pictures

LONGEST_QUESTION = 1000
"""Characters."""
HELP = (
    "A language model describes one ECG recording in words. Such a text is fluent also where it is wrong. Compare each "
    "sentence with the recording."
)


def report_tab(content: PageContent) -> None:
    """Build the tab. `content.reporter` is the model."""
    reporter = content.reporter
    assert reporter is not None  # the tab is built with a reporter only
    has_pictures = reads_pictures(reporter)
    gr.Markdown(HELP)
    ecg = file_field("Recording to report on")
    question = gr.Textbox(
        label="Ask about this ECG",
        placeholder=str(reporter.processor.instruction),  # type: ignore[union-attr]
        info="Without a question the model writes what it was trained to write.",
        max_length=LONGEST_QUESTION,
    )
    sentences = gr.Checkbox(
        False, label="Name what carried each sentence", info="It takes longer.", visible=not has_pictures
    )
    control = gr.Checkbox(
        False, label="Also ask without the ECG", info="It shows what the model writes anyway.", visible=has_pictures
    )
    button = gr.Button("Report", variant="primary")
    shown = html_part(elem_classes="tgmm-result")

    def write(
        files: Sequence[str] | None,
        asked: str | None,
        with_sentences: bool,
        with_control: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio looks for it
    ) -> list[Any]:
        if not files:
            raise gr.Error("A recording is needed: choose its file or files.", print_exception=False)
        request = ReportRequest(files, (asked or "")[:LONGEST_QUESTION], with_sentences, with_control)
        with content.files.request() as place:
            answer = report_on_upload(content.pipe, reporter, request, place, steps_of(progress))
        return [report_fragment(answer), None]

    button.click(
        own_messages_only(write),
        [ecg, question, sentences, control],
        [shown, ecg],
        show_progress_on=shown,
        scroll_to_output=True,
        api_visibility="private",
        **WITH_MODEL,
    )
