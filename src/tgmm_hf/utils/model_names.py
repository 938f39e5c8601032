"""Names of saved models: a directory on this machine, or a repository of the Hugging Face Hub."""

import re
from pathlib import Path


def is_local_model(model: str) -> bool:
    """Tell whether a model lies in a directory on this machine. If not, it is a repository of the Hub.

    Raises:
        FileNotFoundError: If the name can be neither, so that nobody asks the Hub for a mistyped directory.
    """
    if Path(model).is_dir():
        return True
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model) and not Path(model).parent.is_dir():
        return False
    raise FileNotFoundError(
        f"There is no directory {model}. Check the path. A Hub repository is written owner/name, and the current "
        "directory must hold no directory named owner."
    )
