"""Write files and directories whole or not at all, and refuse to replace directories that hold other files.

A command may replace a directory only if the directory holds nothing but files that the same command writes. The names
of the files decide. A hidden marker file is not used, because directories of earlier versions have none, and because a
marker says nothing about files that a user added later.
"""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any
from uuid import uuid4

from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.output_lock import is_lock, refuse_device

SHOWN = 3
"""Maximum number of foreign entries that an error message names."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the path of a temporary file that replaces `path` if the `with` block ends without an error.

    Write the content to the given path. The temporary file lies in the same directory. It replaces `path` only after
    its content is on the disk, so that a power cut leaves no empty file. After an error it is removed, and `path` is as
    before. Missing directories are made.

    Raises:
        FileExistsError: if `path` is a device or a pipe, such as /dev/stdout, because it would be replaced by a file.
    """
    refuse_device(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A process id is not unique enough, because several containers or machines may fill one cache.
    building = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        yield building
        with building.open("rb+") as file:
            os.fsync(file.fileno())
        building.replace(path)
    finally:
        building.unlink(missing_ok=True)


def remove_unfinished(directory: Path) -> None:
    """Remove temporary files of [`whole_file`] that a killed run left in a directory.

    Call it only while no other run writes there.
    """
    for path in directory.glob(".*-*"):
        if re.fullmatch(r"\..+-[0-9a-f]{32}", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def read_json(path: str | Path, quote: Callable[[str], str] = repr) -> Any:
    """Read a JSON file, with or without a byte order mark.

    Args:
        path: The file.
        quote: Function that writes a key for the error message. A file about a patient needs one that hides names.

    Raises:
        TgmmError: If the file is not valid JSON, or an object holds a key twice: one of the values would be lost.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if repeated := sorted(name for name, count in Counter(name for name, _ in pairs).items() if count > 1):
            raise TgmmError(
                str(path), f"{', '.join(map(quote, repeated))} occurs twice in one object. Keep one of them."
            )
        return dict(pairs)

    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except TgmmError:
        raise
    except RecursionError as error:
        raise TgmmError(str(path), "this file is nested too deeply. Write it anew, or restore it.") from error
    except ValueError as error:  # also text that is no UTF-8, and an integer of thousands of digits
        raise TgmmError(str(path), f"this file is not valid JSON: {error}. Write it anew, or restore it.") from error


def json_text(content: Any, allow_nan: bool = False) -> str:
    """Write a value as indented JSON text.

    Args:
        content: Any value that JSON can hold.
        allow_nan: Whether NaN and infinity may be written, which only Python reads back.
    """
    return json.dumps(content, indent=1, allow_nan=allow_nan) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with whole_file(path) as building:
        building.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, allow_nan: bool = True) -> None:
    """Write a value as indented JSON, whole or not at all.

    Args:
        path: File to write. Missing directories are made.
        content: Any value that JSON can hold.
        allow_nan: Whether NaN and infinity may be written, which only Python reads back.
    """
    write_text(path, json_text(content, allow_nan))


def write_json_list(path: Path, items: Iterable[Any], allow_nan: bool = True) -> None:
    """Write values as `write_json` writes a list of them, without holding all of them in memory.

    Args:
        path: File to write. Missing directories are made.
        items: Values that JSON can hold, one after the other.
        allow_nan: Whether NaN and infinity may be written, which only Python reads back.
    """
    with whole_file(path) as building, building.open("w", encoding="utf-8") as file:
        before = "["
        for item in items:
            file.write(f"{before}\n{indent(json.dumps(item, indent=1, allow_nan=allow_nan), ' ')}")
            before = ","
        file.write("\n]\n" if before == "," else "[]\n")


def claim_directory(directory: str | Path, may_hold: Collection[str], keep: Collection[str | Path] = ()) -> None:
    """Refuse a directory that must not be replaced. Call it before the work starts.

    Args:
        directory: The directory that a command wants to replace. It need not exist.
        may_hold: What the command itself writes, as regular expressions of paths relative to `directory`, with `/`
            between folders. An expression that ends with `/` stands for a folder with everything in it.
        keep: Files and directories that must survive, such as the prepared data that the command reads.

    Raises:
        FileExistsError: If `directory` is a file; if it is or contains the home directory, the current directory or
            an entry of `keep`; or if it holds an entry that `may_hold` does not name. Links count as such entries.
    """
    resolved = Path(directory).resolve()
    for path in (Path.home(), Path.cwd(), *keep):
        if Path(path).resolve().is_relative_to(resolved):
            raise FileExistsError(
                f"{directory} cannot be the output, because it would be replaced as a whole and {path} lies in it. "
                "Name a new directory."
            )
    if not resolved.exists():
        return
    if not resolved.is_dir():
        raise FileExistsError(f"{directory} is a file, the output must be a directory. Name a new directory.")
    if foreign := foreign_entries(resolved, may_hold):
        names = ", ".join(foreign[:SHOWN]) + (", ..." if len(foreign) > SHOWN else "")
        raise FileExistsError(
            f"{directory} holds {len(foreign)} {'entry' if len(foreign) == 1 else 'entries'} that this command does "
            f"not write and would delete: {names}. Name another directory, or move these files elsewhere."
        )


def foreign_entries(directory: Path, may_hold: Collection[str]) -> list[str]:
    """List the entries of a directory that `may_hold` does not name, sorted, as in [`claim_directory`].

    A folder in which nothing is named is one entry, written with "/" at its end.
    """
    return [entry for path in sorted(directory.iterdir()) for entry in _foreign(path, path.name, may_hold)]


def _foreign(path: Path, name: str, may_hold: Collection[str]) -> list[str]:
    """List the entries at or below `path` that `may_hold` does not name.

    `name` is the path relative to the directory of `foreign_entries`, with "/" between folders.
    """
    if is_lock(path):
        return []
    if path.is_symlink() or not path.is_dir():
        is_written = not path.is_symlink() and any(re.fullmatch(pattern, name) for pattern in may_hold)
        return [] if is_written else [name]
    folder = f"{name}/"
    depth = folder.count("/")
    if any(re.fullmatch(pattern, folder) for pattern in may_hold):
        return []
    if any(
        pattern.count("/") >= depth and re.fullmatch("/".join(pattern.split("/")[:depth]), name) for pattern in may_hold
    ):
        return [entry for inner in sorted(path.iterdir()) for entry in _foreign(inner, folder + inner.name, may_hold)]
    return [folder]


@contextmanager
def whole_directory(
    directory: str | Path, may_hold: Collection[str], keep: Collection[str | Path] = ()
) -> Iterator[Path]:
    """Give an empty temporary directory that replaces `directory` if the `with` block ends without an error.

    Write all files into the given directory. After an error `directory` is as before. `directory` is checked as in
    [`claim_directory`] twice, at the start and before it is replaced, because a file may be added to it while the block
    runs. If `directory` is a link to a directory, the link stays and its target is replaced.

    Args:
        directory: The directory to write. Missing parents are made.
        may_hold: As in [`claim_directory`].
        keep: As in [`claim_directory`].

    Raises:
        FileExistsError: If `directory` must not be replaced.
    """
    claim_directory(directory, may_hold, keep)
    target = Path(directory).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        building = Path(scratch) / "new"
        building.mkdir()
        yield building
        claim_directory(directory, may_hold, keep)
        if target.exists():
            target.rename(Path(scratch) / "old")
        building.rename(target)
