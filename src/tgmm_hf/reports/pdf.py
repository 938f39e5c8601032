"""Print a page to PDF with a browser that is installed. No browser is a dependency of the package."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import whole_file

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
"""Programs that print without a window. The first one on the path is taken."""
TIME_LIMIT = 120
"""Seconds."""
NO_BROWSER = (
    "no browser that prints to PDF is on the path (looked for " + ", ".join(BROWSERS) + "). Write the report as "
    "HTML with --format html, open it in a browser, and print it at 100 %"
)


def require_browser() -> str:
    """Return the path of the first program of `BROWSERS` that is installed.

    Raises:
        TgmmError: if none is installed.
    """
    for name in BROWSERS:
        if (path := shutil.which(name)) is not None:
            return path
    raise TgmmError("PDF", NO_BROWSER)


def print_to_pdf(page: str, out: Path) -> None:
    """Print an HTML page to a PDF file, whole or not at all.

    The page and the browser's profile lie in a temporary directory that is removed, because both hold the patient.

    Args:
        page: the HTML text.
        out: the PDF file.

    Raises:
        TgmmError: if no browser is installed, or it writes no PDF in `TIME_LIMIT` seconds.
    """
    browser = require_browser()
    with tempfile.TemporaryDirectory() as directory, whole_file(out) as building:
        source, printed = Path(directory) / "page.html", Path(directory) / "page.pdf"
        source.write_text(page, encoding="utf-8")
        words = [browser, "--headless", "--disable-gpu", "--no-pdf-header-footer", "--disable-background-networking"]
        words += ["--no-first-run", f"--user-data-dir={directory}/profile", f"--print-to-pdf={printed}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # the browser's sandbox does not run as root
            words.append("--no-sandbox")
        try:
            subprocess.run([*words, source.as_uri()], capture_output=True, timeout=TIME_LIMIT, check=False)
        except subprocess.TimeoutExpired:
            raise TgmmError("PDF", f"{browser} did not finish in {TIME_LIMIT} s. Print the HTML by hand.") from None
        if not printed.is_file() or not printed.read_bytes().startswith(b"%PDF"):
            raise TgmmError("PDF", f"{browser} wrote no PDF. Write the report with --format html, and print it.")
        building.write_bytes(printed.read_bytes())
