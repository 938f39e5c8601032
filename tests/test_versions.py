"""The files of versions that make installs fit what pyproject.toml asks for."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_tried_versions_name_every_direct_dependency_within_its_bounds() -> None:
    tried = pinned("tried.txt")
    for requirement in DIRECT:
        assert requirement.specifier.contains(tried[requirement.name]), requirement


def test_lowest_versions_are_the_lower_bounds() -> None:
    command = [sys.executable, ROOT / "scripts" / "freeze_versions.py", "--check"]
    subprocess.run(command, check=True)


def test_make_installs_the_chosen_versions() -> None:
    """Each choice has its own environment, and torch is asked for with the version that the constraints name."""
    for choice, venv, torch in (
        ([], ".venv", f"torch=={pinned('tried.txt')['torch']} "),
        (["LOWEST=1"], ".venv-lowest", f"torch=={pinned('lowest.txt')['torch']} "),
        (["NEWEST=1"], ".venv-newest", "--upgrade torch "),
    ):
        lines = subprocess.run(
            ["make", "--dry-run", "--always-make", "install-dev", *choice],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            # a choice of the `make` around this test would be taken over
            env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "NEWEST", "LOWEST"))},
        ).stdout
        assert re.search(rf"install_torch\.sh {re.escape(venv)}/bin/python +{re.escape(torch)}", lines), lines


LISTING = """\
:env:.cert='/etc/ssl/certs/ca.crt'
:env:.find-links='/opt/wheels'
global.extra-index-url='file:///a/simple file:///b/simple'
global.find-links='/srv/wheels /home/wheels'
install.retries='3'
"""


def test_uv_gets_the_settings_of_pip_and_leaves_those_that_it_lacks_to_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import quick_install

    settings = quick_install.pip_settings(LISTING)
    assert settings["find-links"] == "/opt/wheels"  # the environment goes before a file
    variables = quick_install.uv_variables(settings)
    assert variables["UV_INDEX"] == "https://pypi.org/simple file:///a/simple file:///b/simple"  # the main index first
    mirror = quick_install.uv_variables({**settings, "index-url": "https://mirror.example/simple"})
    assert mirror["UV_INDEX"].startswith("https://mirror.example/simple file:///a/simple")
    assert (variables["UV_FIND_LINKS"], variables["SSL_CERT_FILE"]) == ("/opt/wheels", "/etc/ssl/certs/ca.crt")
    lists = quick_install.uv_variables({"find-links": "/srv/wheels\n/home/wheels"})
    assert lists["UV_FIND_LINKS"] == "/srv/wheels,/home/wheels"
    assert quick_install.uv_variables({}) is not None
    for name in ("proxy", "no-index", "trusted-host"):
        assert quick_install.uv_variables({**settings, name: "1"}) is None
    sys.modules.pop("quick_install")


def licence(package: Distribution) -> str:
    classifiers = [line for line in package.metadata.get_all("Classifier") or [] if line.startswith("License")]
    return " ".join([package.metadata.get("License-Expression") or "", *classifiers])


def default_installation() -> dict[str, str]:
    """Licence of every package that `pip install tgmm-hf` brings on this machine, those behind others too."""
    licences: dict[str, str] = {}
    waiting = [Requirement(line).name for line in PROJECT["dependencies"]]
    while waiting:
        name = waiting.pop()
        if name in licences:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another system
            continue
        licences[name] = licence(package)
        requirements = map(Requirement, package.requires or [])
        waiting += [line.name for line in requirements if not line.marker or line.marker.evaluate({"extra": ""})]
    return licences


def test_default_installation_holds_no_gpl() -> None:
    licences = default_installation()
    assert len(licences) > 50
    assert {name: text for name, text in licences.items() if re.search("GPL|General Public", text)} == {}


def test_the_search_for_gpl_finds_it() -> None:
    package = pytest.importorskip("sksurv") and distribution("scikit-survival")
    assert re.search("GPL|General Public", licence(package))
