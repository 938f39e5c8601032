"""Take the files that a browser sent, and unpack archives. What could harm is refused before anything is written.

A file that was sent lies in the cache of Gradio. It is moved out of the cache at once, into a directory that only the
present request knows. The directory is removed after the answer.
"""

import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from tgmm_hf.inputs.input_limits import MIB, refusal_of, refusing
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.output_lock import size_text


@dataclass(frozen=True)
class UploadLimits:
    """Largest sizes of what one request may send.

    Attributes:
        max_files: Number of files, or of entries of an archive.
        max_unpacked_bytes: Size of all files, archives unpacked.
        max_ratio: Unpacked size of an entry over its size in the archive. Deflate reaches 1,032. Frames without any
            content are the only medical data that come near it.
        max_table_bytes: Size of a lab row or of a table of patients.
    """

    max_files: int = 5000
    max_unpacked_bytes: int = 2048 * MIB
    max_ratio: float = 200.0
    max_table_bytes: int = 20 * MIB


LIMITS = UploadLimits()
"""Limits that hold where a caller gives none."""

FIRST_ARCHIVE = "archive-1"
"""Directory into which the first archive of a request is unpacked."""
DAMAGED = "it is damaged, or no ZIP archive: make it anew."
DIRECTORY_BYTES_PER_ENTRY = 512
"""Mean size of an entry in the directory of an archive from which the directory is refused. 46 bytes and the name."""
_END = b"PK\x05\x06"
_END_BYTES = 22
_END64_PLACE = b"PK\x06\x07"
_COMMENT_BYTES = 65535
_DRIVE = re.compile(r"^[A-Za-z]:")
_SMALL_ENTRY = MIB
"""Bytes. The ratio of a smaller entry does not matter."""
_CHUNK = MIB


def take_files(paths: Sequence[str | Path], cache: Path, folder: Path, limits: UploadLimits = LIMITS) -> list[Path]:
    """Move uploaded files out of the cache into the directory of a request. Archives are unpacked there.

    Args:
        paths: Files as the browser or the client named them. A stranger may have written these paths.
        cache: Directory in which Gradio stores uploads. A path outside of it is refused.
        folder: Directory of the request. It is made. Files of the same name go into numbered directories.
        limits: Largest sizes.

    Returns:
        The files, in the order of `paths`. An archive is replaced by its entries.

    Raises:
        InputRefusedError: If a path is no uploaded file, or an archive is refused. Nothing is unpacked then.
    """
    if len(paths) > limits.max_files:
        raise InputRefusedError(
            "upload", f"it has {len(paths):,} files, the limit is {limits.max_files:,}: send fewer files."
        )
    folder.mkdir(parents=True, exist_ok=True)
    taken = [_move(Path(path), cache, folder) for path in paths]
    files: list[Path] = []
    left = limits
    for path in taken:
        new = [path] if path.suffix.lower() != ".zip" else unpack(path, _free_name(folder, "archive"), left)
        files += new
        size = left.max_unpacked_bytes - sum(file.stat().st_size for file in new)
        left = replace(left, max_files=left.max_files - len(new), max_unpacked_bytes=size)
        if left.max_files < 0 or size < 0:
            raise InputRefusedError("upload", _too_large(limits))
        if new != [path]:
            path.unlink()
    return files


def refuse_large_table(path: Path, limits: UploadLimits = LIMITS) -> None:
    """Refuse a lab row or a table that is too large, because it is read into memory as a whole."""
    if (size := path.stat().st_size) > limits.max_table_bytes:
        raise InputRefusedError(
            "table",
            f"it has {size_text(size)}, the limit is {size_text(limits.max_table_bytes)}: send a smaller table.",
        )


def _move(path: Path, cache: Path, folder: Path) -> Path:
    """Move one uploaded file into `folder`. Refuse a path that is no file below the cache."""
    try:
        real = path.resolve(strict=True)
        is_upload = real.is_relative_to(cache.resolve()) and real.is_file()
    except (OSError, ValueError, RuntimeError):
        is_upload = False
    if not is_upload:
        raise InputRefusedError(
            "upload", "the file is no longer here, because uploads are deleted after a while: choose the file again."
        )
    name = PurePosixPath(path.name.replace("\\", "/")).name
    target = folder / name
    if target.exists():
        target = _free_name(folder, "files") / name
        target.parent.mkdir()
    shutil.move(real, target)
    return target


def _free_name(folder: Path, stem: str) -> Path:
    """Return a path `folder`/`stem`-<number> that does not exist."""
    number = 1
    while (path := folder / f"{stem}-{number}").exists():
        number += 1
    return path


def unpack(archive: Path, folder: Path, limits: UploadLimits = LIMITS) -> list[Path]:
    """Unpack a ZIP archive into a new directory, after all of its entries were checked.

    An archive inside the archive stays packed. Directories and hidden files of macOS (`__MACOSX`) are left out.

    Args:
        archive: The archive.
        folder: Directory to make.
        limits: Largest number and size of the entries.

    Returns:
        The files, sorted by their names in the archive.

    Raises:
        InputRefusedError: If the archive is damaged, encrypted, too large when unpacked, or compressed more than
            medical data can be; or if an entry is a link, has an absolute name, or a name that leads out of the
            directory.
    """
    _check_directory(archive, limits)
    with refusing("archive", _damaged), zipfile.ZipFile(archive) as opened:
        entries = [entry for entry in opened.infolist() if not _is_left_out(entry)]
        _check_entries(entries, limits)
        folder.mkdir(parents=True)
        return [_extract(opened, entry, folder) for entry in sorted(entries, key=lambda entry: entry.filename)]


def _damaged(error: Exception, item: Path | str) -> InputRefusedError:
    """Turn what the library raises into a refusal. Its message may hold the name of an entry, so it is left out."""
    if isinstance(error, OSError):
        return refusal_of(error, item)
    return InputRefusedError(str(item), DAMAGED)


def _check_directory(archive: Path, limits: UploadLimits) -> None:
    """Refuse an archive whose directory is too large, because the library reads the directory into memory at once."""
    with archive.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _COMMENT_BYTES - _END_BYTES))
        tail = file.read()
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_BYTES:
        raise InputRefusedError("archive", DAMAGED)
    if _END64_PLACE in tail[:place]:
        raise InputRefusedError(
            "archive", "it is a ZIP64 archive, which is for more than 65,535 files or 4 GiB: make a smaller archive."
        )
    number, directory = struct.unpack_from("<HI", tail, place + 10)
    if number > limits.max_files or directory > limits.max_files * DIRECTORY_BYTES_PER_ENTRY:
        raise InputRefusedError("archive", _too_many(number, limits))


def _check_entries(entries: Sequence[zipfile.ZipInfo], limits: UploadLimits) -> None:
    """Refuse an archive because of what its directory says about the entries."""
    if not entries:
        raise InputRefusedError("archive", "it holds no file: choose another archive.")
    if len(entries) > limits.max_files:
        raise InputRefusedError("archive", _too_many(len(entries), limits))
    for number, entry in enumerate(entries, start=1):
        if reason := _fault(entry, limits):
            raise InputRefusedError("archive", f"its entry {number} {reason}")
    if sum(entry.file_size for entry in entries) > limits.max_unpacked_bytes:
        raise InputRefusedError("archive", _too_large(limits))
    if len({entry.filename.casefold() for entry in entries}) < len(entries):
        raise InputRefusedError("archive", "two of its entries have the same name: make it anew.")


def _fault(entry: zipfile.ZipInfo, limits: UploadLimits) -> str:
    """Say in the second half of a sentence what is wrong with an entry; "" if nothing is."""
    name = entry.filename
    if entry.flag_bits & 0x41:  # bit 0: encrypted; bit 6: strong encryption
        return "is encrypted: make the archive without a password."
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device, not a file: put the file itself into the archive."
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        return "has an absolute name: make the archive inside the folder of the files."
    if ".." in re.split(r"[/\\]", name) or "\\" in name:
        return "has a name that leads out of the archive: make the archive inside the folder of the files."
    if any(ord(letter) < 32 for letter in name) or any(len(part.encode()) > 255 for part in name.split("/")):
        return "has a name that cannot be a file here: rename the file."
    if entry.file_size > _SMALL_ENTRY and entry.file_size > limits.max_ratio * max(entry.compress_size, 1):
        return (
            f"would grow from {size_text(entry.compress_size)} to {size_text(entry.file_size)}, more than "
            f"{limits.max_ratio:.0f} times: send the file without compression."
        )
    return ""


def _is_left_out(entry: zipfile.ZipInfo) -> bool:
    """Tell whether an entry is a directory, or one of the files that macOS adds."""
    return entry.is_dir() or entry.filename.startswith("__MACOSX/")


def _extract(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> Path:
    """Write one checked entry below `folder`. Not more than the directory of the archive says is written."""
    target = folder.joinpath(*PurePosixPath(entry.filename).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with opened.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise InputRefusedError("archive", "an entry is larger than the archive says: make it anew.")
            file.write(chunk)
    return target


def _too_many(number: int, limits: UploadLimits) -> str:
    return f"it has {number:,} entries or very long names, the limit is {limits.max_files:,} files: send fewer files."


def _too_large(limits: UploadLimits) -> str:
    return (
        f"its files have more than {size_text(limits.max_unpacked_bytes)} when unpacked, or are more than "
        f"{limits.max_files:,}: send fewer files."
    )
