"""List the licences of the packages that `pip install tgmm-hf` brings, and exit 1 at GPL, AGPL or an unknown one.

`make licences` runs this. The licences come from pip-licenses. LGPL counts as GPL here, because decision 004 keeps the
default installation free of both.
"""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from freeze_versions import ROOT, normalised
from packaging.requirements import Requirement

FORBIDDEN = re.compile(r"GPL|General Public|SSPL|Commons Clause", re.IGNORECASE)
UNKNOWN = re.compile(r"^\s*(unknown|)\s*$", re.IGNORECASE)

REVIEWED: dict[str, str] = {
    # holds no files: it names NVIDIA's own packages for the CUDA build of torch, https://pypi.org/project/cuda-toolkit
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
}
"""Package whose metadata names no licence -> licence, as read from its source. Add the address of the source."""


def default_installation() -> list[str]:
    """List the packages that the default installation brings on this machine, those behind others too, sorted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names: set[str] = set()
    waiting = [Requirement(line).name for line in project["dependencies"]]
    while waiting:
        name = normalised(waiting.pop())
        if name in names:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another system
            continue
        names.add(name)
        requirements = map(Requirement, package.requires or [])
        waiting += [line.name for line in requirements if not line.marker or line.marker.evaluate({"extra": ""})]
    return sorted(names)


def licences() -> dict[str, tuple[str, str]]:
    """Ask pip-licenses: normalised package name -> (version, licence)."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--with-system"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {normalised(row["Name"]): (row["Version"], row["License"]) for row in json.loads(done.stdout)}


def faults(found: dict[str, str]) -> list[str]:
    """List what is wrong with licences (package -> licence): one line for each package that must not be there."""
    lines = [
        f"{name}: {text!r} is not allowed in the default installation"
        for name, text in found.items()
        if FORBIDDEN.search(text)
    ]
    lines += [
        f"{name}: no licence is known. Read its source and add it to REVIEWED in {Path(__file__).name}"
        for name, text in found.items()
        if UNKNOWN.match(text)
    ]
    return lines


def main() -> None:
    """Print the table of licences; exit 1 if one is not allowed or not known."""
    known = licences()
    found = {}
    for name in default_installation():
        version, text = known.get(name, ("?", ""))
        found[name] = REVIEWED.get(name, text) if UNKNOWN.match(text) else text
        sys.stdout.write(f"{name:<28}{version:<16}{found[name]}\n")
    wrong = faults(found)
    sys.stdout.write(f"{len(found)} packages in the default installation, {len(wrong)} not allowed or not known\n")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
