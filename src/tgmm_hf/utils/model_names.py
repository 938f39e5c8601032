"""Names of saved models: a directory on this machine, or a repository of the Hugging Face Hub."""

import re
from pathlib import Path


def shown_model_name(model: str) -> str:
    """Return the name of a model for a report: a Hub repository as it is, a directory without the path before it.

    A path may name a hospital or a patient.
    """
    return Path(model).name if Path(model).is_dir() else model


def is_local_model(model: str) -> bool:
    """Tell whether `model` is a directory on this machine (True) or the name of a Hub repository (False).

    Raises:
        FileNotFoundError: If it is neither, or looks like a mistyped directory.
    """
    if Path(model).is_dir():
        return True
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model) and not Path(model).parent.is_dir():
        return False
    raise FileNotFoundError(
        f"There is no directory {model}. Check the path. A Hub repository is written owner/name, and the current "
        "directory must hold no directory named owner."
    )
