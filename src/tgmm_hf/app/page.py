"""The page: its tabs, its look, and what it says about itself."""

from typing import Any

import gradio as gr

from tgmm_hf.app.compare_tab import compare_tab
from tgmm_hf.app.fragments import table_fragment
from tgmm_hf.app.interface import programming_interface
from tgmm_hf.app.parts import KEEP_SECONDS, PageContent, html_part
from tgmm_hf.app.patient_tab import patient_tab
from tgmm_hf.app.report_tab import report_tab
from tgmm_hf.app.similar_tab import similar_tab
from tgmm_hf.app.table_tab import table_tab

NOTICE = "Research software, not a medical device. Do not base a decision about a patient on it."
KEEP = (
    f"Files are deleted after the answer, and an upload without an answer after {KEEP_SECONDS // 60} minutes. Answers "
    "go to your browser only and are not stored."
)
SWEEP_SECONDS = 60
"""Time between two looks for old uploads."""
WAITING = 10
"""Largest number of requests that wait. A further request is refused with a message to try again."""
FONTS = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
MONOSPACED = ("ui-monospace", "Consolas", "monospace")
READABLE = {
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "block_title_text_color": "*neutral_800",
    "block_title_text_color_dark": "*neutral_100",
    "block_label_text_color": "*neutral_700",
    "block_label_text_color_dark": "*neutral_200",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_dark": "*primary_700",
    "input_border_color": "*neutral_500",
    "input_border_color_dark": "*neutral_400",
}
"""Colours with more contrast than those of the theme, which are too pale for small text (WCAG 2.2, 1.4.3)."""
CSS = """
.tgmm { color: var(--body-text-color); }
.tgmm table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.tgmm caption { text-align: left; padding: 0.2rem 0; }
.tgmm th, .tgmm td { padding: 0.25rem 0.6rem; text-align: left; border: 0;
  border-bottom: 1px solid var(--border-color-primary); }
.tgmm table, .tgmm tr { border: 0; }
.tgmm h2 { margin: 0.6rem 0 0.2rem; font-size: 1.05rem; font-weight: 600; }
.tgmm ul { margin: 0.2rem 0 0.6rem; padding-left: 1.3rem; list-style: disc; }
.tgmm li { overflow-wrap: anywhere; }
.tgmm-notice, .tgmm-messages { border-left: 4px solid #b45309; padding: 0.4rem 0.8rem;
  background: var(--background-fill-secondary); }
.tgmm-cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: 0.8rem;
  margin: 0.8rem 0; }
.tgmm-card { background: var(--background-fill-secondary); border-radius: 6px; padding: 0.2rem 1rem 0.7rem; }
.tgmm-wide { overflow-x: auto; }
.tgmm-wide td, .tgmm-wide th { white-space: nowrap; }
.prose .token { color: inherit !important; }
.upload-container .or { color: inherit !important; }
button[role="tab"].selected { color: var(--primary-700) !important; }
.dark button[role="tab"].selected { color: var(--primary-300) !important; }
.tgmm-report { width: 100%; height: 85vh; border: 1px solid var(--border-color-primary); background: white; }
"""


SCRIPT = """
() => {
  const name = () => document.querySelectorAll("button.upload-container").forEach((button) => {
    const field = button.closest(".block")?.querySelector("label")?.innerText.trim();
    const label = `${field}: ${button.innerText.replace(/\\s+/g, " ").trim()}`;
    if (field && button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
  });
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
  name();
}
"""
"""Names each upload button by its field. Gradio gives all of them one name, so a screen reader could not tell them."""


def build_page(content: PageContent) -> gr.Blocks:
    """Build the page. Nothing is started. A page without `content.pipe` has no tasks, so it has fewer tabs."""
    has_tasks = content.pipe is not None
    with gr.Blocks(title="TGMM", analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEEP_SECONDS)) as page:
        gr.Markdown("# TGMM: labs, ECG and echo" if has_tasks else "# MoRE: chest X-ray, ECG and notes")
        html_part(value=f'<div class="tgmm tgmm-notice"><p><strong>{NOTICE}</strong></p><p>{KEEP}</p></div>')
        with gr.Tabs():
            if has_tasks:
                with gr.Tab("Patient"):
                    patient_tab(content)
                with gr.Tab("Compare"):
                    compare_tab(content)
            if content.reporter is not None:
                with gr.Tab("ECG report"):
                    report_tab(content)
            if content.searcher is not None:
                with gr.Tab("Find similar"):
                    similar_tab(content)
            if has_tasks:
                with gr.Tab("Table"):
                    table_tab(content)
            with gr.Tab("Model"):
                _about(content)
        if has_tasks:
            programming_interface(content)
    return page.queue(max_size=WAITING, default_concurrency_limit=4, api_open=False)


def page_look() -> dict[str, Any]:
    """Return the settings of the page's look. The fonts are the system's, so that none is loaded from elsewhere."""
    theme = gr.themes.Default(font=FONTS, font_mono=MONOSPACED, primary_hue="blue").set(**READABLE)
    return {"theme": theme, "css": CSS, "js": SCRIPT}


def _about(content: PageContent) -> None:
    """Build the tab with the model card and what identifies the model."""
    html_part(value=table_fragment("This model", ("what", "value"), list(content.facts.items())))
    gr.Markdown(content.card)
