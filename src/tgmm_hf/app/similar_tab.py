"""The tab that finds the nearest records of an index to an X-ray, an ECG or words."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from tgmm_hf.app.fragments import messages_fragment, similar_fragment
from tgmm_hf.app.own_messages import own_messages_only
from tgmm_hf.app.parts import WITH_MODEL, PageContent, file_field, html_part, save_button, steps_of
from tgmm_hf.app.similar import LARGEST_NUMBER, SearchRequest, search_uploads
from tgmm_hf.utils.errors import InputRefusedError

LONGEST_TEXT = 1000
"""Characters."""
NUMBER = 3
"""Number of results of each kind, if none is chosen."""
KINDS = (("X-rays", "xray"), ("ECGs", "ecg"), ("Notes", "text"))
HELP = (
    "Give a chest X-ray, an ECG recording or words. The page shows the records of the index that lie nearest in the "
    "space of the model, whether they are alike or not. That is no diagnosis."
)


def similar_tab(content: PageContent) -> None:
    """Build the tab. `content.searcher` has the model and the index."""
    searcher = content.searcher
    assert searcher is not None  # the tab is built with a searcher only
    gr.Markdown(HELP)
    words = gr.Textbox(label="Words to search with", placeholder="pleural effusion", max_length=LONGEST_TEXT)
    with gr.Row():
        xray = file_field("X-ray to search with", count="single")
        ecg = file_field("Recording to search with")
    kinds = gr.CheckboxGroup(list(KINDS), value=[value for _, value in KINDS], label="What to find")
    number = gr.Number(NUMBER, minimum=1, maximum=LARGEST_NUMBER, precision=0, label="Number of results of each kind")
    button = gr.Button("Find similar", variant="primary")
    shown, page = html_part(elem_classes="tgmm-result"), gr.Textbox(visible=False)
    with gr.Row(visible=False) as downloads:
        save_button("Save the results (HTML)", page, "nearest.html", "text/html")

    def find(
        text: str | None,
        picture: str | None,
        files: Sequence[str] | None,
        chosen: Sequence[str],
        count: float | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio looks for it
    ) -> list[Any]:
        if not chosen:
            raise gr.Error("Nothing to find is chosen: choose X-rays, ECGs or notes.", print_exception=False)
        allowed = [value for _, value in KINDS if value in chosen]
        request = SearchRequest(
            (text or "")[:LONGEST_TEXT], [picture] if picture else [], list(files or ()), allowed, int(count or NUMBER)
        )
        with content.files.request() as place:
            try:
                hits = search_uploads(searcher, request, place, steps_of(progress))
            except InputRefusedError as error:
                refused = messages_fragment([f"Refused: {error.reason}"])
                return [refused, "", gr.Row(visible=False), None, None]
        return [similar_fragment(hits), hits, gr.Row(visible=True), None, None]

    button.click(
        own_messages_only(find),
        [words, xray, ecg, kinds, number],
        [shown, page, downloads, xray, ecg],
        show_progress_on=shown,
        scroll_to_output=True,
        api_visibility="private",
        **WITH_MODEL,
    )
