"""Make the README's pictures of the patient report and of the web page, from the model of `make demo`.

    make demo
    .venv/bin/python -m pip install -e '.[app,explain]' playwright
    .venv/bin/python scripts/picture_pages.py demo --out docs/images

Needs a Chromium (Debian: apt-get install chromium). Reads `demo/model` and `demo/patient.html`. All patients are
synthetic.
"""

import argparse
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tgmm_hf.app.private_files import private_files
from tgmm_hf.app.server import running_page
from tgmm_hf.data.prediction import load_pipeline
from tgmm_hf.reports.pdf import require_browser

WIDTH = 1200
REPORT_HEIGHT = 1500
PAGE_HEIGHT = 1100
COLOURS = 64
"""Colours of a picture, because few colours make a small file."""
SECONDS = 1000
"""Milliseconds."""


def main() -> None:
    """Read the command line, and make both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="directory that `make demo` wrote")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="directory of the pictures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        picture_report(chromium, arguments.demo / "patient.html", arguments.out / "patient_report.png")
        picture_app(chromium, arguments.demo / "model", arguments.out / "app.png")


@contextmanager
def browser() -> Iterator[Any]:
    """Run a headless Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=require_browser(), args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


def picture_report(chromium: Any, report: Path, out: Path) -> None:
    """Take a picture of the first screens of a patient report."""
    tab = chromium.new_page(viewport={"width": WIDTH, "height": REPORT_HEIGHT})
    tab.goto(report.resolve().as_uri())
    shoot(tab, out)


def picture_app(chromium: Any, model: Path, out: Path) -> None:
    """Answer for a synthetic patient on the web page, and take a picture of the answer."""
    with tempfile.TemporaryDirectory() as directory, socket.socket() as taken, private_files() as files:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
        taken.close()
        pipe = load_pipeline(str(model))
        with running_page(pipe, files, port=port, examples=Path(directory) / "cohort") as page:
            tab = chromium.new_page(viewport={"width": WIDTH, "height": PAGE_HEIGHT})
            tab.set_default_timeout(300 * SECONDS)
            tab.goto(page.local_url)
            tab.get_by_text("Try a synthetic patient", exact=True).click()
            tab.get_by_role("button", name="Answer for the synthetic patient").click()
            tab.locator(".tgmm-result section").first.wait_for()
            tab.wait_for_timeout(2 * SECONDS)  # until the page has scrolled by itself
            tab.locator(".tgmm-result").first.evaluate("part => window.scrollTo(0, part.offsetTop - 260)")
            tab.wait_for_timeout(SECONDS)
            shoot(tab, out)


def shoot(tab: Any, out: Path) -> None:
    """Take a picture of what a window shows, with few colours."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "picture.png"
        tab.screenshot(path=path)
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(COLOURS).save(Path(directory) / "small.png", optimize=True)
        shutil.copyfile(Path(directory) / "small.png", out)
    sys.stdout.write(f"wrote {out}\n")


if __name__ == "__main__":
    main()
