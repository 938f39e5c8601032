"""Look up known vulnerabilities of the installed packages with pip-audit. `make audit` runs this.

Exit codes: 0 every package was looked up and none has a known vulnerability; 1 a package has one; 2 the check did not
take place, wholly or for some packages, because no advisory service answered. A check that did not take place has not
passed.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from freeze_versions import installed_versions

SERVICES = ("pypi", "osv")
"""Advisory services, in the order in which they are asked."""
PASSED, VULNERABLE, NOT_CHECKED = 0, 1, 2
SECONDS = 900


def ask(service: str, requirements: Path) -> dict[str, Any] | None:
    """Ask one advisory service about all pinned packages.

    Args:
        service: Name of the service, as pip-audit writes it.
        requirements: File with one "name==version" a line.

    Returns:
        pip-audit's report, or None if the service did not answer.
    """
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--vulnerability-service",
        service,
        "--requirement",
        str(requirements),
    ]
    command += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        report: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return report


def verdict(report: dict[str, Any] | None, number: int) -> tuple[int, list[str]]:
    """Judge a report of pip-audit.

    Args:
        report: The report; None if no service answered.
        number: Number of packages that were asked about.

    Returns:
        The exit code, and lines for the user.
    """
    if report is None:
        return NOT_CHECKED, ["no advisory service answered"]
    packages = report.get("dependencies", [])
    skipped = sorted(package["name"] for package in packages if "skip_reason" in package)
    found = [
        f"{package['name']} {package['version']}: {entry['id']}, fixed in {', '.join(entry['fix_versions']) or 'none'}"
        for package in packages
        for entry in package.get("vulns", [])
    ]
    looked_up = sum("vulns" in package for package in packages)
    lines = [f"{looked_up} of {number} packages were looked up, {len(found)} known vulnerabilities", *found]
    if found:
        return VULNERABLE, lines
    if looked_up < number:
        shown = ", ".join(skipped[:10]) + (", ..." if len(skipped) > 10 else "")
        return NOT_CHECKED, [*lines, f"not looked up: {shown or 'packages that the report lacks'}"]
    return PASSED, lines


def main() -> None:
    """Ask the services until one knows every package, print the result and exit with its code."""
    versions = installed_versions()
    outcomes: list[tuple[int, list[str]]] = []
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
        for service in SERVICES:
            code, lines = verdict(ask(service, requirements), len(versions))
            outcomes.append((code, [f"{service}: {line}" for line in lines]))
            if code != NOT_CHECKED:
                break
    lines = [line for _, said in outcomes for line in said]
    code = outcomes[-1][0]
    if code == NOT_CHECKED:
        lines += [
            "The audit did NOT take place, at least not for all packages, so it has not passed. Run it where pypi.org "
            "or osv.dev can be reached."
        ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
