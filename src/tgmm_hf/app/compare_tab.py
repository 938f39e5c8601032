"""The tab that answers for two recordings of one patient, side by side."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from tgmm_hf.app.answering import Question, answer_two, differences
from tgmm_hf.app.fragments import answer_fragment, table_fragment
from tgmm_hf.app.own_messages import own_messages_only
from tgmm_hf.app.parts import WITH_MODEL, PageContent, chosen_tasks, file_field, html_part, steps_of, task_picker

HELP = (
    "Two ECG recordings of one patient, such as before and after a treatment. A lab file is optional, and goes into "
    "both answers. A difference is no measure of a change of the disease: it was never tested as one."
)


def compare_tab(content: PageContent) -> None:
    """Build the tab."""
    gr.Markdown(HELP)
    with gr.Row():
        first, second = file_field("First recording"), file_field("Second recording")
    labs_file = file_field("Lab file for both (CSV or JSON), optional", count="single")
    tasks = task_picker(content)
    button = gr.Button("Compare", variant="primary")
    table = html_part(elem_classes="tgmm-result")
    with gr.Row():
        shown = [html_part(min_width=320), html_part(min_width=320)]

    def compare(
        one: Sequence[str] | None,
        two: Sequence[str] | None,
        labs: str | None,
        names: Sequence[str],
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio looks for it
    ) -> list[Any]:
        if not one or not two:
            raise gr.Error("Two recordings are needed: choose a file for each of them.", print_exception=False)
        question = Question(chosen_tasks(names), progress=steps_of(progress))
        with content.files.request() as place:
            answers = answer_two(content.pipe, (one, two), labs, question, place)
        before, after = (answer.prediction for answer in answers)
        rows = [(name, f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}") for name, a, b in differences(before, after)]
        fragments = [
            answer_fragment(answer.prediction, content.questions, answer.report, title)
            for answer, title in zip(answers, ("First recording.", "Second recording."), strict=True)
        ]
        compared = table_fragment("Both recordings", ("figure", "first", "second", "difference"), rows)
        return [compared, *fragments, None, None, None]

    button.click(
        own_messages_only(compare),
        [first, second, labs_file, tasks],
        [table, *shown, first, second, labs_file],
        show_progress_on=table,
        scroll_to_output=True,
        api_visibility="private",
        **WITH_MODEL,
    )
