"""Limits on what one input file may cost. A file is checked against them before its content is decoded."""

import errno
import logging
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.errors import InputRefusedError

MIB = 1 << 20
"""Bytes of one mebibyte."""

_LOGGERS = ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils")
"""Loggers of pydicom that write while a file is read."""

# Error number of the file system -> reason of the refusal.
_REASONS = {
    errno.ENOENT: "no such file: check the path",
    errno.ENOTDIR: "no such file: check the path",
    errno.EISDIR: "a directory, not a file: check the path",
    errno.EACCES: "no permission to read the file: ask its owner for access",
    errno.EPERM: "no permission to read the file: ask its owner for access",
    errno.ENAMETOOLONG: "the path is longer than the system allows: check the path",
    errno.ELOOP: "the path is a circle of links: check the path",
}


_CANNOT_NOW = "cannot be read now"
_DENIED = _REASONS[errno.EACCES]


@dataclass(frozen=True)
class InputLimits:
    """Largest sizes that a file may have or declare.

    Attributes:
        max_file_bytes: size of the file on disk. A file is read into memory as a whole.
        max_inflated_bytes: size of a deflated DICOM data set after it was inflated.
        max_frame_pixels: rows x columns of one frame. A frame of 2,048 x 2,048 passes; echo machines write at most
            1,920 x 1,080.
        max_xray_pixels: rows x columns of an X-ray. The largest detectors give about 18 million.
        max_clip_bytes: rows x columns x samples x frames of a clip, as its header declares them.
    """

    max_file_bytes: int = 1024 * MIB
    max_inflated_bytes: int = 512 * MIB
    max_frame_pixels: int = 4 * MIB
    max_xray_pixels: int = 64 * MIB
    max_clip_bytes: int = 4096 * MIB


LIMITS = InputLimits()
"""Limits that hold where a caller gives none."""


def check_file(path: Path, limits: InputLimits = LIMITS) -> None:
    """Refuse a path that is no regular file, or a file that is too large.

    A named pipe or a device would block the reader for ever, so it is never opened.

    Args:
        path: the file.
        limits: `max_file_bytes` is the largest size.

    Raises:
        InputRefusedError: if the path does not exist, may not be read, is no regular file, or the file is too large.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise refusal_of(error, path) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputRefusedError(str(path), _REASONS[errno.EISDIR])
    if not stat.S_ISREG(status.st_mode):
        raise InputRefusedError(str(path), "not a regular file but a pipe, a socket or a device: it is not opened")
    if status.st_size > limits.max_file_bytes:
        raise InputRefusedError(
            str(path),
            f"the file has {status.st_size / MIB:,.0f} MiB, the limit is {limits.max_file_bytes / MIB:,.0f} MiB: raise "
            "max_file_bytes of the input limits if the file is right",
        )


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence warnings and pydicom's log, because their lines quote values of the file, and a value may name someone.

    What a library warns of is checked by the readers themselves.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


class refusing:
    """Context in which whatever a reader raises becomes a refusal: `with refusing(path): ...`.

    Warnings and log lines of the libraries are silent inside, see `quiet_libraries`.

    A missing package (`ImportError`) stays one, because the file is not to blame. The name is lower case, as that of
    `contextlib.suppress`.

    Args:
        item: the file, for the message.
        refusal: function from an exception and `item` to the refusal; `refusal_of` by default.
    """

    def __init__(
        self, item: Path | str, refusal: Callable[[Exception, Path | str], InputRefusedError] | None = None
    ) -> None:
        self.item = item
        self.refusal = refusal or refusal_of
        self.quiet = quiet_libraries()

    def __enter__(self) -> None:
        """Start the context."""
        self.quiet.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Raise the refusal, with the exception as its cause. `ImportError` and interrupts pass as they are."""
        self.quiet.__exit__(None, None, None)
        if isinstance(error, Exception) and not isinstance(error, (ImportError, InputRefusedError)):
            raise self.refusal(error, self.item) from error


def refusal_of(error: Exception, item: Path | str) -> InputRefusedError:
    """Turn any exception of a reader into a refusal. The text of the exception is left out.

    A library's message may quote a value of the file, and a value may name the patient. So the reason names the kind of
    the exception. The exception itself stays reachable as the cause.

    Args:
        error: what a reader raised. A refusal is returned as it is.
        item: the file, for the message.

    Returns:
        The error to raise. Its reason starts with "unexpected: " where nobody foresaw the exception, and with
        "cannot be read now" where the file system failed, so that a supervisor may try again.
    """
    if isinstance(error, InputRefusedError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        name = errno.errorcode.get(error.errno, str(error.errno))
        return InputRefusedError(
            str(item), _REASONS.get(error.errno, f"{_CANNOT_NOW} (I/O error {name}): try again later")
        )
    if isinstance(error, MemoryError):
        return InputRefusedError(str(item), "reading it asks for more memory than there is: the file is not used")
    if isinstance(error, RecursionError):
        return InputRefusedError(str(item), "its parts are nested too deeply: the file is damaged or hostile")
    return InputRefusedError(str(item), f"unexpected: {type(error).__name__} while the file was read")


def is_unreadable(reason: str) -> bool:
    """Tell whether the reason of a refusal is that the file system failed or gave no permission.

    Such a refusal is not final, because the file itself may be good.
    """
    return _CANNOT_NOW in reason or _DENIED in reason


def names_missing_file(reason: str) -> bool:
    """Tell whether the reason of a refusal is that a file does not exist."""
    return _REASONS[errno.ENOENT] in reason
