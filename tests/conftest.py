"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Small real data and golden arrays that lie beside the checkout in development; absent for a user."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here: real data and golden arrays are not part of the repository")
    return SHARED
