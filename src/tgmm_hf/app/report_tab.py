"""The tab that writes a report about an ECG with a MEIT model."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from tgmm_hf.app.ecg_report import report_fragment, report_on_upload
from tgmm_hf.app.own_messages import own_messages_only
from tgmm_hf.app.parts import WITH_MODEL, PageContent, file_field, html_part

HELP = (
    "A language model describes one ECG recording in words. Such a text is fluent also where it is wrong. Compare each "
    "sentence with the recording."
)


def report_tab(content: PageContent) -> None:
    """Build the tab. `content.reporter` is the model."""
    gr.Markdown(HELP)
    ecg = file_field("Recording to report on")
    sentences = gr.Checkbox(False, label="Name what carried each sentence", info="It takes longer.")
    button = gr.Button("Report", variant="primary")
    shown = html_part(elem_classes="tgmm-result")

    def write(
        files: Sequence[str] | None,
        wanted: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio looks for it
    ) -> list[Any]:
        if not files:
            raise gr.Error("A recording is needed: choose its file or files.", print_exception=False)
        assert content.reporter is not None  # the tab is built with a reporter only
        with content.files.request() as place:
            answer = report_on_upload(
                content.pipe, content.reporter, files, wanted, place, lambda share, text: progress(share, desc=text)
            )
        return [report_fragment(answer), None]

    button.click(
        own_messages_only(write),
        [ecg, sentences],
        [shown, ecg],
        show_progress_on=shown,
        scroll_to_output=True,
        api_visibility="private",
        **WITH_MODEL,
    )
