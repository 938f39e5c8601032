"""Write the installed versions to `constraints/tried.txt`, and the lowest allowed ones to `constraints/lowest.txt`.

    make freeze NEWEST=1          # after `make test NEWEST=1` has passed
    python scripts/freeze_versions.py --check     # exit 1 if lowest.txt does not fit pyproject.toml

`tried.txt` holds what `pip freeze` lists, without this package. It leaves out the CUDA packages, because torch itself
names their exact versions and the CPU build of torch does not need them. It leaves out build labels ("2.14.1+cpu"),
because pip accepts every build of a version for `==2.14.1`. `lowest.txt` is made from the bounds in `pyproject.toml`.
"""

import argparse
import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints"
LEFT_OUT = re.compile(r"^(tgmm-hf|pip|setuptools|wheel|triton|nvidia-.*|cuda-.*)$")
LOWER_BOUND = re.compile(r"^(?P<name>[\w.-]+)(>=|==)(?P<version>[\w.]+)$")
TRIED_HEADER = """\
# Versions that the tests passed with, on Python {python}. `make` uses them; `make freeze NEWEST=1` writes this file.
"""
LOWEST_HEADER = """\
# Lower bounds of pyproject.toml: what `make test LOWEST=1` installs. scripts/freeze_versions.py writes this file.
"""


def normalised(name: str) -> str:
    """Return a package name as pip compares it: lower case, with hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_versions() -> dict[str, str]:
    """Return the versions of this environment without build labels, sorted by name."""
    versions = {normalised(d.metadata["Name"]): d.version.split("+")[0] for d in distributions()}
    return {name: versions[name] for name in sorted(versions) if not LEFT_OUT.match(name)}


def lower_bounds() -> dict[str, str]:
    """Return the lowest version that `pyproject.toml` allows of each direct dependency, test tools included.

    Raises:
        ValueError: A requirement has no lower bound.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = {}
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        match = LOWER_BOUND.match(requirement)
        if match is None:
            raise ValueError(f"{requirement!r} in pyproject.toml has no lower bound: write it as 'name>=version'.")
        bounds[normalised(match["name"])] = match["version"]
    return bounds


def as_text(header: str, versions: dict[str, str]) -> str:
    """Return the text of a constraints file."""
    return header + "".join(f"{name}=={version}\n" for name, version in versions.items())


def main() -> None:
    """Write both files, or with `--check` compare `lowest.txt` with `pyproject.toml`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if lowest.txt is out of date")
    parser.add_argument("--only-lowest", action="store_true", help="write lowest.txt, leave tried.txt as it is")
    arguments = parser.parse_args()
    lowest = as_text(LOWEST_HEADER, lower_bounds())
    path = CONSTRAINTS / "lowest.txt"
    if arguments.check:
        if path.read_text() != lowest:
            sys.exit(f"{path} does not fit pyproject.toml: run python {Path(__file__).name} --only-lowest")
        return
    path.write_text(lowest)
    if not arguments.only_lowest:
        python = ".".join(map(str, sys.version_info[:2]))
        (CONSTRAINTS / "tried.txt").write_text(as_text(TRIED_HEADER.format(python=python), installed_versions()))


if __name__ == "__main__":
    main()
