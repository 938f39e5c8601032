"""The reference pages in docs/ are up to date, and name every command."""

import json
from pathlib import Path

import pytest
from fresh_process import run_fresh

from tgmm_hf.cli.application import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PRINT = (
    "import json, sys, write_reference; json.dump({k: page() for k, page in write_reference.PAGES.items()}, sys.stdout)"
)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """All pages, written by one process."""
    written = run_fresh(PRINT, cwd=ROOT / "scripts")
    assert written.returncode == 0, written.stderr[-3000:]
    return json.loads(written.stdout)


@pytest.mark.parametrize("page", ["cli.md", "settings.md", "lab_columns.md"])
def test_page_is_up_to_date(page: str, pages: dict[str, str]) -> None:
    assert pages[page] == (ROOT / "docs" / page).read_text(), "run python scripts/write_reference.py"


def test_every_command_has_a_section() -> None:
    headings = [line for line in (ROOT / "docs" / "cli.md").read_text().splitlines() if line.startswith("## `tgmm ")]
    assert headings == [f"## `tgmm {command.__name__.replace('_', '-')}`" for command in COMMANDS]
