"""What several processes of one training tell each other beside tensors."""

from types import TracebackType

from accelerate import PartialState
from accelerate.utils import gather_object


class Together:
    """A block that every process enters; what one fails at, all fail at, where the others would wait for it forever.

    Each process leaves the block after all have come to its end.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not isinstance(error, Exception):
            return  # interrupted: so are the others
        said = gather_object([None if error is None else f"{type(error).__name__}: {error}"])
        failed = [index for index, failure in enumerate(said) if failure is not None]
        if failed and error is None:
            raise RuntimeError(
                f"Process {failed[0]} failed, so process {PartialState().process_index} stops: {said[failed[0]]}"
            )
