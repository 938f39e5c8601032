"""Fixtures shared by all tests, and the marker of the tests that `make test-fast` leaves out."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
MEDIUM = frozenset((Path(__file__).parent / "medium_tests.txt").read_text().splitlines())


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as medium what `medium_tests.txt` names, so that no test needs a marker of its own."""
    for item in items:
        names = {getattr(item, "originalname", item.name), *getattr(item, "fixturenames", ())}
        if any(f"{item.path.stem}::{name}" in MEDIUM for name in names):
            item.add_marker(pytest.mark.medium)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Small real data and golden arrays that lie beside the checkout in development; absent for a user."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here: real data and golden arrays are not part of the repository")
    return SHARED


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
