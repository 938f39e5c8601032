"""The tutorial notebook runs from its first cell to its last, and is committed without outputs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
CELLS = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def test_the_notebook_holds_no_outputs() -> None:
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert code and all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def test_pages_that_the_notebook_links_to_exist() -> None:
    text = "".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert targets and all((DOCS / target).exists() for target in targets)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    script = tmp_path / "tutorial.py"
    script.write_text("\n\n".join(CODE), encoding="utf-8")
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # the notebook works in a temporary directory
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    (figure,) = tmp_path.glob("tgmm-tutorial-*/tutorial.png")
    assert figure.stat().st_size > 0
    assert "140" in run.stdout.splitlines()[-1], "the impossible potassium is refused with its value"
