"""Versions of the libraries that a result depends on."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("tgmm-hf", "torch", "transformers", "datasets", "accelerate", "numpy")
"""Distributions whose version every run notes."""


def package_versions(*further: str) -> dict[str, str]:
    """List the versions of Python, of `PACKAGES` and of `further` distributions.

    A distribution that is not installed has the version "not installed".
    """
    return {"python": platform.python_version()} | {name: _version(name) for name in (*PACKAGES, *further)}


def _version(name: str) -> str:
    """Look up the version of one distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
