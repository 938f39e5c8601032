"""Errors with an item and a reason."""


class RecordRefusedError(ValueError):
    """A file or record that cannot be used, with the reason in words.

    Attributes:
        item (`str`): file, record or view the reason is about.
        reason (`str`): what was wrong, the values involved and the remedy.
    """

    def __init__(self, item: str, reason: str):
        # both go to `args`, so that the error survives pickling between worker processes
        super().__init__(str(item), reason)
        self.item = str(item)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.item}: {self.reason}"
