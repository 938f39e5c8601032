"""Errors that a user can mend. The command line prints them in one line; any other exception is a bug."""

from typing import Any


class TgmmError(ValueError):
    """An error about one item, with the reason in words.

    Attributes:
        item (`str`): The file, recording, view, cell or setting that the reason is about.
        reason (`str`): What is wrong, the values that contradict each other, and what to do.
    """

    is_tgmm_error = True
    """Marks the class. Do not ask `isinstance`, because code from a saved model may hold another copy of the class."""

    def __init__(self, item: str, reason: str):
        # Both values go to `args`, so that the error survives pickling between worker processes.
        super().__init__(str(item), reason)
        self.item = str(item)
        self.reason = reason

    def __str__(self) -> str:
        """Join item and reason to one line."""
        return f"{self.item}: {self.reason}"


class InputRefusedError(TgmmError):
    """An input that cannot be used: a file, a recording, a clip or a laboratory cell."""

    is_refusal = True


def is_refusal(error: BaseException) -> Any:
    """Tell whether an error is an `InputRefusedError`, of this or any other copy of this module."""
    return getattr(error, "is_refusal", False)
