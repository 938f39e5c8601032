"""pytest plugin behind `make durations`: measures all tests and writes two files that `conftest.py` reads.

`medium_tests.txt` names the tests that `make test-fast` leaves out. `long_files.txt` has the seconds of the files that
take long, because these start first.

It measures CPU seconds, child processes included, because wall time depends on what else the machine does. A test
function counts with all its parameters together, a fixture with its longest single set-up.
"""

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

TABLE = Path(__file__).parent / "medium_tests.txt"
MEDIUM_SECONDS = 0.5
HEADER = """\
# Tests and fixtures that take more than half a second of CPU. `make test-fast` leaves out these tests, and all tests of
# a file that use such a fixture. `make durations` writes this file. A name that no longer exists does no harm.
"""
FILES = Path(__file__).parent / "long_files.txt"
LONG_SECONDS = 3
FILES_HEADER = """\
# CPU seconds of the test files that take more than three. Files that take long start first, so that the workers of
# pytest-xdist end together. `make durations` writes this file.
"""
file_seconds: Counter[str] = Counter()
test_seconds: Counter[str] = Counter()
fixture_seconds: Counter[str] = Counter()


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    before = cpu_seconds()
    try:
        return (yield)
    finally:
        file_seconds[item.path.relative_to(TABLE.parent).as_posix()] += cpu_seconds() - before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, object, object]:
    before = cpu_seconds()
    try:
        return (yield)
    finally:
        test_seconds[f"{item.path.stem}::{item.originalname}"] += cpu_seconds() - before


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, object, object]:
    before = cpu_seconds()
    try:
        return (yield)
    finally:
        name = f"{request._pyfuncitem.path.stem}::{request.fixturename}"
        fixture_seconds[name] = max(fixture_seconds[name], cpu_seconds() - before)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the tables unless the run was cut short. A worker of pytest-xdist hands its seconds to the main process."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["seconds"] = (dict(file_seconds), dict(test_seconds), dict(fixture_seconds))
    elif exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        medium = {
            name
            for seconds in (test_seconds, fixture_seconds)
            for name, spent in seconds.items()
            if spent > MEDIUM_SECONDS
        }
        TABLE.write_text(HEADER + "".join(f"{name}\n" for name in sorted(medium)))
        files = [f"{spent:.0f} {name}\n" for name, spent in file_seconds.most_common() if spent > LONG_SECONDS]
        FILES.write_text(FILES_HEADER + "".join(files))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the seconds of a worker of pytest-xdist that has ended."""
    files, tests, fixtures = getattr(node, "workeroutput", {}).get("seconds", ({}, {}, {}))
    file_seconds.update(files)
    test_seconds.update(tests)
    for name, spent in fixtures.items():
        fixture_seconds[name] = max(fixture_seconds[name], spent)
