"""Directories that hold patients' files while a request runs, and that go away whatever happens.

The directory `tgmm-app-<user>-<random>` in the temporary directory of the system can be read by this user only. It
holds `cache/`, the uploads, each in a directory of random name (Gradio calls it its cache); `requests/`, one directory
per request, removed after the answer; and `lock`, which is held while the page runs. The kernel gives the lock back if
the process is killed, so that the next start can tell which directories nobody uses.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

START = "tgmm-app-"
"""Start of the names of the directories in the temporary directory of the system."""


@dataclass(frozen=True)
class RequestPlace:
    """The directories of one request.

    Attributes:
        cache: Directory of all uploads.
        folder: Directory of this request.
    """

    cache: Path
    folder: Path


class PrivateFiles:
    """The directories of one running page.

    Args:
        root: Directory that holds them. It must be readable by this user only.

    Attributes:
        cache: Directory of uploads.
        requests: Directory of the directories of requests.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = root / "cache"
        self.requests = root / "requests"
        for folder in (self.cache, self.requests):
            folder.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def request(self) -> Iterator[RequestPlace]:
        """Give an empty directory for one request. It is removed after the block, also after an error."""
        folder = self.requests / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        try:
            yield RequestPlace(self.cache, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def give_own_folder(self, path: str) -> str:
        """Move an upload into a directory of its own with a random name, and return the new path.

        Gradio names the directory of an upload by the digest of the content. Two users with the same file would share
        it, and whoever knows a file could tell whether somebody sent it.

        Raises:
            FileNotFoundError: If the file is gone, because another user sent the same file at the same moment.
        """
        folder = self.cache / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        target = folder / Path(path).name
        Path(path).rename(target)
        with suppress(OSError):  # another upload may have put a file there
            Path(path).parent.rmdir()
        return str(target)

    def cached_bytes(self) -> int:
        """Return the size of all files in the cache."""
        total = 0
        for folder, _, files in os.walk(self.cache):
            for name in files:
                with suppress(OSError):  # a file that goes away meanwhile
                    total += (Path(folder) / name).stat().st_size
        return total


@contextmanager
def private_files() -> Iterator[PrivateFiles]:
    """Make the directories of a page, and remove them after the block.

    What a killed page of this user left is removed first.
    """
    remove_left_files()
    root = Path(tempfile.mkdtemp(prefix=f"{START}{_user()}-"))  # mode 0700
    lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield PrivateFiles(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        os.close(lock)


def remove_left_files() -> None:
    """Remove the directories of pages that were killed. A directory whose lock is held belongs to a running page."""
    if fcntl is None:
        return
    for root in Path(tempfile.gettempdir()).glob(f"{START}{_user()}-*"):
        if root.is_symlink() or not root.is_dir() or root.stat().st_uid != os.getuid():
            continue
        try:
            lock = os.open(root / "lock", os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # a page that starts at this moment
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(root, ignore_errors=True)
        except OSError:  # held
            pass
        finally:
            os.close(lock)


def _user() -> str:
    """Return the number of this user as text."""
    return str(os.getuid()) if hasattr(os, "getuid") else "user"
