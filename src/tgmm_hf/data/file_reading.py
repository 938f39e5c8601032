"""Reading of one patient's files: what a supervisor must know about it, and a new try after an error of the disk.

A refusal is remembered in the prepared data. An error of the file system must not be remembered, because the file
itself may be good. So a refused input is read again if its files are away, have changed, or cannot be opened. If this
does not help, `Reading.not_read` names the files, and the shard is not finished.
"""

import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tgmm_hf.data.manifest import CohortRow, ecg_files
from tgmm_hf.inputs.ecg_wfdb_header import read_header
from tgmm_hf.inputs.input_limits import is_unreadable, names_missing_file, refusal_of
from tgmm_hf.utils.errors import is_refusal
from tgmm_hf.utils.watched_worker import Step

Refusal = dict[str, str]
"""{"item", "reason"}: an input that is not used, and why."""
FileState = tuple[int, int] | None
"""Size of a file in bytes and its time of change in nanoseconds. None if the file does not exist."""
Value = TypeVar("Value")

WAITS = (0.1, 0.5, 1.5)
"""Seconds before the second, third and fourth try to read a file that the file system does not give."""


def _say_nothing(step: Step) -> None:
    """Take the place of a supervisor where there is none."""


@dataclass
class Reading:
    """What happened while the files of some admissions were read, and what the supervisor said before.

    Attributes:
        planned: File -> its state when the shard was planned.
        stopped: (id of the admission, modality) -> reason, for inputs at which a worker process was stopped before.
        say: Tells the supervisor which step starts; None between two steps.
        not_read: Files that the file system did not give, or that changed. Their admissions are not done.
    """

    planned: Mapping[Path, FileState] = field(default_factory=dict)
    stopped: Mapping[Step, str] = field(default_factory=dict)
    say: Callable[[Step], None] = _say_nothing
    not_read: set[Path] = field(default_factory=set)

    def read(
        self,
        step: tuple[str, str],
        files: Sequence[Path],
        item: str,
        read: Callable[[], tuple[Value, list[Refusal]]],
    ) -> tuple[Value | None, list[Refusal]]:
        """Read one input of an admission. Try again while its files are away or cannot be read.

        Args:
            step: Id of the admission and modality.
            files: The files of the input.
            item: Name of the input in a refusal.
            read: Function that reads the input and returns it with its refusals. Whatever it raises becomes a refusal.

        Returns:
            What `read` returned the last time, and its refusals. The value is None if the input cannot be used.

        Raises:
            ImportError: If a package is missing, because the file is not to blame.
        """
        if step in self.stopped:
            return None, [{"item": item, "reason": self.stopped[step]}]
        self.say(step)
        for number, pause in enumerate((*WAITS, None)):
            value, refused = _without_exception(read, item)
            away = self._not_given(files, refused)
            # A missing file may be back already when its state is read, so one more try follows at once.
            may_help = bool(away) or (number == 0 and any(names_missing_file(entry["reason"]) for entry in refused))
            if not may_help or pause is None or self.not_read:  # after that the shard is not done: no more waiting
                break
            if away:
                time.sleep(pause)
        self.not_read |= set(away)
        self.say(None)
        return value, refused

    def note_changes(self) -> None:
        """Add to `not_read` the files that are not as they were planned."""
        self.not_read |= {path for path, state in self.planned.items() if file_state(path) != state}

    def _not_given(self, files: Sequence[Path], refused: list[Refusal]) -> list[Path]:
        """List the files of a refused input that have changed or cannot be opened. Empty without a refusal."""
        if not refused:
            return []
        away = [path for path in files if self._has_changed(path) or not _can_be_opened(path)]
        if not away and any(is_unreadable(entry["reason"]) for entry in refused):
            return list(files[:1])
        return away

    def _has_changed(self, path: Path) -> bool:
        return path in self.planned and file_state(path) != self.planned[path]


def file_state(path: Path) -> FileState:
    """Return the size of a file in bytes and its time of change in nanoseconds; None if it does not exist.

    If a file is replaced by another file of the same name, the values differ and the file is read again.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return None
    return status.st_size, status.st_mtime_ns


def files_of_ecg(root: Path, ecg_path: str | None) -> list[str]:
    """List the files that an ECG may consist of, relative to `root`; also the signal files that its header names.

    `Path()` as `root` stands for no root: the paths may be absolute.
    """
    if ecg_path is None:
        return []
    files = ecg_files(ecg_path, root)
    if len(files) == 1:
        return files
    try:
        header = read_header(root / files[0])
    except Exception:  # reading the recording gives the reason
        return files
    # a signal file outside the root is not read, so that it has no state
    signals = [signal.file for signal in header.signals]
    if root != Path():  # no absolute path is relative to it
        signals = [file.relative_to(root) for file in signals if file.is_relative_to(root)]
    named = [file.as_posix() for file in signals]
    folder = Path(files[0]).parent
    suffixes = (".hea", ".dat", ".mat")
    named += [(folder / f"{name}{suffix}").as_posix() for name, _ in header.segments for suffix in suffixes]
    return list(dict.fromkeys([*files, *named]))


def files_of_row(root: Path, row: CohortRow) -> list[str]:
    """List the files of an admission, relative to `root`."""
    return [*files_of_ecg(root, row.ecg_path), *row.echo_paths]


def _without_exception(
    read: Callable[[], tuple[Value, list[Refusal]]], item: str
) -> tuple[Value | None, list[Refusal]]:
    """Call `read`. Turn whatever it raises into a refusal, except a missing package."""
    try:
        return read()
    except ImportError:
        raise
    except Exception as error:
        return None, [{"item": item, "reason": reason_of(error)}]


def reason_of(error: Exception) -> str:
    """Write the reason of a refusal for any exception, without text of the file."""
    return str(error.args[1]) if is_refusal(error) else refusal_of(error, "").reason  # args: item, reason


def _can_be_opened(path: Path) -> bool:
    """Tell whether the file system gives the first byte of a file. A file that does not exist counts as given.

    Anything but a regular file counts as given too, because a pipe would block, and waiting makes no file of it.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                file.read(1)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        return not is_unreadable(refusal_of(error, path).reason)
    except ValueError:  # a zero byte in the path
        return True
    return True
