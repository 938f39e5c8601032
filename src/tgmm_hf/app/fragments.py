"""Parts of the page as HTML. All text of files is escaped by the templates."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from tgmm_hf.reports.pages import render_page
from tgmm_hf.utils.names import MODALITIES, USED_ITEMS

SHOWN_ROWS = 50
"""Number of rows of a table that the page shows."""


def answer_fragment(
    prediction: Mapping[str, Any], questions: Mapping[str, str], report: str = "", title: str = ""
) -> str:
    """Write the answer for one patient.

    Args:
        prediction: As `predict` gives it.
        questions: Task -> its question.
        report: Page of the patient report. It is shown in a frame without scripts and without the page's rights.
        title: Sentence that is shown above the answer.
    """
    answers = {name: answer for name, answer in prediction.items() if name in questions and isinstance(answer, dict)}
    used = ", ".join(
        f"{len(prediction['used'][name])} {USED_ITEMS[name]}" for name in MODALITIES if prediction["used"][name]
    )
    lists = {key: prediction[key] for key in ("refused", "checks", "notes")}
    return plain_braces(
        render_page(
            "app_answer.html",
            answers=answers,
            questions=questions,
            used=used,
            report=report,
            title=title,
            **lists,
        )
    )


def messages_fragment(lines: Sequence[str]) -> str:
    """Write the messages of one modality, "" without messages."""
    return plain_braces(render_page("app_messages.html", lines=lines))


def table_fragment(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a table."""
    return plain_braces(render_page("app_table.html", caption=caption, columns=columns, rows=rows, limit=SHOWN_ROWS))


def similar_fragment(page: str) -> str:
    """Show the page of a search in a frame without scripts and without the page's rights."""
    return plain_braces(render_page("app_similar.html", page=page))


def csv_fragment(caption: str, text: str) -> str:
    """Write the text of a CSV file as a table."""
    columns, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    return table_fragment(caption, columns, rows)


def plain_braces(html: str) -> str:
    """Write `{`, `}` and `$` as character references, so that no text is an expression of the page's own templates."""
    return html.replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;")
