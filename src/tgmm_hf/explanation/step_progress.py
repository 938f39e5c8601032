"""Tell a caller which step of an explanation runs, and which share of the work is done."""

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, float], None]
"""Called with the name of the step that runs, and the share of all steps that are done (0 to 1)."""


@dataclass
class StepProgress:
    """Count the steps of an explanation. Every step counts alike, although some take longer.

    Attributes:
        tell: called with the name of a step and the share; None for nobody.
        number: of steps in all.
        begun: steps that have begun.
        name: of the step that runs.
    """

    tell: Progress | None
    number: int = 1
    begun: int = 0
    name: str = ""

    def begin(self, name: str) -> None:
        """Begin a step. The step before it is done."""
        self.name = name
        self.begun += 1
        self.within(0.0)

    def within(self, share: float) -> None:
        """Say that a share (0 to 1) of the step that runs is done."""
        if self.tell is not None:
            self.tell(self.name, min((self.begun - 1 + share) / self.number, 1.0))
