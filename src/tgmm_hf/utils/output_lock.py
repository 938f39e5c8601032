"""One command at a time for one output: a lock, and the checks that must come before long work.

The lock is a POSIX record lock on a hidden file beside the output. The kernel gives it back when the process ends, even
if it is killed. Processes that this one starts do not hold it. The name of the file holds the name of the machine, so
a lock is never waited for on another machine. `docs/decisions/104-locks-of-one-machine.md` gives the reasons.
"""

import inspect
import os
import platform
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from tgmm_hf.utils.errors import TgmmError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_SUFFIX = ".tgmm-lock"
"""End of the name of a lock file. Such a file counts as nobody's: `claim_directory` does not see it."""
LITTLE = 16 * 2**20
"""Bytes that must be free for any result."""

Function = TypeVar("Function", bound=Callable[..., Any])

_held: set[Path] = set()
_held_guard = threading.Lock()


def one_run_at_a_time(argument: str) -> Callable[[Function], Function]:
    """Make a decorator that holds the lock of `only_run` while the function runs.

    Args:
        argument: Name of the argument of the function that is its output.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)

        @wraps(function)
        def locked(*arguments: Any, **options: Any) -> Any:
            with only_run(signature.bind(*arguments, **options).arguments[argument]):
                return function(*arguments, **options)

        return cast(Function, locked)

    return decorate


@contextmanager
def only_run(output: str | Path, part: str = "") -> Iterator[None]:
    """Check that a command can write its output, and lock the output against a second run while the block runs.

    Args:
        output: Directory or file that the command writes. It need not exist. Links are resolved.
        part: Part of the output that this run writes, such as "3-of-8". Runs of different parts may run at once.

    Raises:
        TgmmError: If another run of this machine writes the same output or part.
        OSError: If the output cannot be written, or the disk is full.
    """
    check_writable(output)
    check_room(output, LITTLE)
    target = Path(output).resolve()
    made = _make_folders(target.parent)
    name = f".{target.name}{f'.{part}' if part else ''}.{machine()}{LOCK_SUFFIX}"
    lock = next((folder / name for folder in (target.parent, target) if _is_writable(folder)), None)
    try:
        with _locked(lock, output):
            yield
    finally:
        for folder in made:  # the command may have stopped before it wrote anything
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _locked(lock: Path | None, output: str | Path) -> Iterator[None]:
    """Hold a lock file while the block runs. Nothing is held if there is no place for the file."""
    if lock is None or fcntl is None:
        yield
        return
    with _held_guard:
        file = None if lock in _held else _take(lock)
        if file is None:
            raise TgmmError(
                str(output),
                "another run of this machine writes it now. Wait for its end, stop it, or name another output.",
            )
        _held.add(lock)
    try:
        yield
    finally:
        with _held_guard:
            _held.discard(lock)
            with suppress(OSError):
                lock.unlink()  # before the lock is given back, see `_take`
            os.close(file)


def machine() -> str:
    """Return the name of this machine as a part of a file name."""
    return re.sub(r"[^\w-]", "-", platform.node()) or "this"


def is_lock(path: Path) -> bool:
    """Tell whether a path is a lock file by its name."""
    return path.name.startswith(".") and path.name.endswith(LOCK_SUFFIX)


def refuse_device(path: Path) -> None:
    """Raise a FileExistsError if a path to write is a device or a pipe, such as /dev/stdout."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise FileExistsError(f"{path} is a device or a pipe and no file: name a file to write.")


def check_writable(output: str | Path) -> None:
    """Refuse an output that cannot be written, before the work.

    The folder is tried with a file without a name, because permissions alone do not tell of a read-only disk.

    Raises:
        OSError: If the output, or the folder in which it would be made, cannot be written, or the output is a device.
    """
    refuse_device(Path(output))
    target = Path(output).resolve()
    above = next(path for path in (*target.parents, target) if path.exists())
    if not above.is_dir():
        raise OSError(f"{output} cannot be written, because {above} is a file: name another output.")
    folder = existing_folder(output)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise OSError(
            f"{output} cannot be written ({reason} in {folder}): ask for the permission, or name another output."
        ) from error


def check_room(output: str | Path, needed: int) -> None:
    """Refuse an output whose disk has less than `needed` bytes free, before the work.

    Raises:
        OSError: If there is too little room.
    """
    free = shutil.disk_usage(existing_folder(output)).free
    if needed > free:
        raise OSError(
            f"{output}: {size_text(needed)} may be needed but only {size_text(free)} are free on the disk. Make room, "
            "or name a directory on another disk."
        )


def existing_folder(output: str | Path) -> Path:
    """Return the directory `output` if it exists, else the nearest directory above it that exists."""
    path = Path(output).resolve()
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def size_text(number: float) -> str:
    """Write a number of bytes with its unit."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder with its parents. Return the new folders, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _is_writable(folder: Path) -> bool:
    """Tell whether a file can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _take(lock: Path) -> int | None:
    """Open and lock a file; return its descriptor, or None if another process holds it.

    Whoever ends removes the file while it holds the lock. So a lock counts only if the file still has its name.

    Without locks on a network disk, or with a file of another user, the descriptor holds nothing. The work may go on,
    because a lock must never stand in its way.
    """
    while True:
        try:
            file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError:
            return os.open(os.devnull, os.O_RDONLY)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(file)
            return None
        except OSError:
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), lock.stat()):
                with suppress(OSError):
                    os.fchmod(file, 0o666)  # if this process is killed, another user must be able to open the file
                return file
        os.close(file)
