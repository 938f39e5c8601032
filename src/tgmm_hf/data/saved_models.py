"""Open saved models so that damaged or hand-edited files give one line, whatever a library raises over them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.errors import TgmmError

LONGEST_REASON = 300
"""Maximum number of characters of a library's message in an error."""


@contextmanager
def damaged_files_in_one_line(model: str) -> Iterator[None]:
    """Turn errors that files of a saved model cause in libraries into a TgmmError.

    A damaged file can raise almost any error: SafetensorError, a failed check of a configuration, KeyError, TypeError.
    Errors of the file system and of missing packages say what is wrong and pass as they are.

    Args:
        model: Directory or Hub repository, for the message.

    Raises:
        TgmmError: In place of any other error.
    """
    try:
        yield
    except (TgmmError, OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        shown = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} ..."
        raise TgmmError(
            model,
            f"the saved model cannot be loaded ({shown}). A file is damaged or incomplete, or was changed by hand. "
            "Copy or download the model again, or restore the file.",
        ) from error


def load_processor(model: str) -> TgmmProcessor:
    """Load the processor of a saved model.

    Args:
        model: Directory or Hub repository.

    Raises:
        TgmmError: If its files cannot be read.
    """
    with damaged_files_in_one_line(model):
        # False, because transformers would otherwise ask on the terminal whether to run foreign code.
        return cast(TgmmProcessor, TgmmProcessor.from_pretrained(model, trust_remote_code=False))
