"""`make audit` and `make licences`: a check that did not take place has not passed."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


SAFE = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "c", "version": "1", "skip_reason": "not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "number", "code"),
    [
        ([SAFE], 1, 0),
        ([SAFE, BAD], 2, 1),
        ([BAD, SKIPPED], 2, 1),
        ([SAFE, SKIPPED], 2, 2),
        ([SKIPPED], 1, 2),
        ([SAFE], 2, 2),  # the report lacks a package
        ([], 1, 2),
    ],
)
def test_the_audit_passes_only_if_every_package_was_looked_up(
    packages: list[dict[str, Any]], number: int, code: int, script: Any
) -> None:
    audit = script("audit")
    assert audit.verdict({"dependencies": packages}, number)[0] == code
    assert audit.verdict(None, number)[0] == audit.NOT_CHECKED


def test_no_answer_is_no_report(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    audit = script("audit")
    for outcome in (subprocess.CompletedProcess([], 1, stdout="Traceback", stderr=""), None):

        def answer(*_args: Any, outcome: Any = outcome, **_kwargs: Any) -> Any:
            if outcome is None:
                raise subprocess.TimeoutExpired("pip-audit", 1)
            return outcome

        monkeypatch.setattr(audit.subprocess, "run", answer)
        assert audit.ask("pypi", tmp_path / "requirements.txt") is None


@pytest.mark.parametrize(
    "text", ["GPL-3.0-or-later", "GNU General Public License v2", "AGPL-3.0", "LGPLv3", "UNKNOWN", ""]
)
def test_licences_that_are_refused(text: str, script: Any) -> None:
    licences = script("check_licences")
    assert len(licences.faults({"good": "MIT", "bad": text})) == 1


def test_the_default_installation_passes() -> None:
    pytest.importorskip("piplicenses")
    done = subprocess.run([sys.executable, SCRIPTS / "check_licences.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout and "scikit-survival" not in done.stdout
