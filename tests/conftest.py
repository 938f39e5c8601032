"""Fixtures shared by all tests, the marker of tests that `make test-fast` leaves out, and the order of the files."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
TESTS = Path(__file__).parent
MEDIUM = frozenset((TESTS / "medium_tests.txt").read_text().splitlines())
LONG_FILES = [
    TESTS / line.split()[1] for line in (TESTS / "long_files.txt").read_text().splitlines() if not line.startswith("#")
]
"""Files that take long, the longest first."""


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as medium what `medium_tests.txt` names, and put the files first that take long.

    So no test needs a marker of its own, and the workers of pytest-xdist end together.
    """
    for item in items:
        names = {getattr(item, "originalname", item.name), *getattr(item, "fixturenames", ())}
        if any(f"{item.path.stem}::{name}" in MEDIUM for name in names):
            item.add_marker(pytest.mark.medium)
    order = {path: place for place, path in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_collection_finish() -> None:
    """Take what the imports made out of the garbage collection, because every training collects more than once."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Small real data and golden arrays that lie beside the checkout in development; absent for a user."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here: real data and golden arrays are not part of the repository")
    return SHARED


@pytest.fixture(scope="module")
def forked_reading() -> Iterator[None]:
    """Let converters read checkpoints in a forked process, because a new interpreter takes seconds to import torch.

    The tests of the reading process itself do without: see security/test_checkpoints.py.
    """
    from fresh_process import FORKING

    from tgmm_hf.hub.convert import loading

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "subprocess", FORKING)
        yield


@pytest.fixture(scope="session")
def reporter_file(tmp_path_factory) -> Path:
    """Instruction file of a tiny cohort for MEIT, see tests/reporter_data.py."""
    from reporter_data import write_reporter_data

    return write_reporter_data(tmp_path_factory.mktemp("reporter_ecgs"))


@pytest.fixture(scope="session")
def trained_reporter(reporter_file: Path, tmp_path_factory) -> tuple[Path, dict]:
    """A MEIT model that was trained on `reporter_file`, and the content of its run.json."""
    from reporter_data import reporter_settings, train

    output = tmp_path_factory.mktemp("trained_reporter") / "model"
    return output, train(reporter_settings(reporter_file, output))
