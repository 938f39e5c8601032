"""Uploads leave the cache, and a hostile archive is refused before anything is written."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgmm_hf.app.uploads import FIRST_ARCHIVE, UploadLimits, take_files, unpack
from tgmm_hf.utils.errors import InputRefusedError

SMALL = UploadLimits(max_files=4, max_unpacked_bytes=5 << 20, max_ratio=50)


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def link() -> bytes:
    entry = zipfile.ZipInfo("record.dat")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    return zipped((entry, b"/etc/passwd"))


def encrypted() -> bytes:
    content = bytearray(zipped(("a.dcm", b"x")))
    content[6] |= 1  # the flag of the entry, in the entry and in the directory
    content[content.find(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def lying() -> bytes:
    """An entry that is larger than the directory says."""
    content = bytearray(zipped(("a.dcm", b"x" * 1000), method=zipfile.ZIP_STORED))
    place = content.find(b"PK\x01\x02")
    struct.pack_into("<II", content, place + 20, 1000, 10)
    return bytes(content)


def zip64() -> bytes:
    content = zipped(("a.dcm", b"x"))
    end = content.rfind(b"PK\x05\x06")
    return content[:end] + b"PK\x06\x07" + bytes(16) + content[end:]


def many_in_the_directory() -> bytes:
    """A directory that says of itself that it is huge."""
    content = bytearray(zipped(("a.dcm", b"x")))
    struct.pack_into("<I", content, content.rfind(b"PK\x05\x06") + 12, 1 << 31)
    return bytes(content)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "leads out": lambda: zipped(("../../outside.dcm", b"x")),
    "leads out within": lambda: zipped(("a/../../outside.dcm", b"x")),
    "absolute": lambda: zipped(("/tmp/outside.dcm", b"x")),
    "drive": lambda: zipped(("C:/outside.dcm", b"x")),
    "backslash": lambda: zipped(("..\\outside.dcm", b"x")),
    "link": link,
    "encrypted": encrypted,
    "bomb": lambda: zipped(("a.dcm", bytes(4 << 20))),
    "too large": lambda: zipped(*((f"{i}.dcm", bytes(2 << 20)) for i in range(3)), method=zipfile.ZIP_STORED),
    "too many": lambda: zipped(*((f"{i}.dcm", b"x") for i in range(5))),
    "twice": lambda: zipped(("a.dcm", b"x"), ("A.dcm", b"y")),
    "control": lambda: zipped(("a\nb.dcm", b"x")),
    "long": lambda: zipped(("a" * 300, b"x")),
    "empty": zipped,
    "lying": lying,
    "zip64": zip64,
    "directory": many_in_the_directory,
    "no archive": lambda: b"PK\x03\x04 and nothing more",
    "cut": lambda: zipped(("a.dcm", b"x" * 1000))[:40],
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(tmp_path: Path, make: Callable[[], bytes]) -> None:
    archive, folder = tmp_path / "in" / "a.zip", tmp_path / "in" / "out"
    archive.parent.mkdir()
    archive.write_bytes(make())
    with pytest.raises(InputRefusedError) as refused:
        unpack(archive, folder, SMALL)
    assert refused.value.item == "archive" and "outside" not in refused.value.reason
    assert {path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents} == {archive}
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 10


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_an_archive_with_a_changed_byte_is_unpacked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    content = bytearray(zipped(("study/a.dcm", b"abc" * 20), ("study/b.dcm", b"x")))
    content[place % len(content)] = value
    (folder / "a.zip").write_bytes(content)
    try:
        files = unpack(folder / "a.zip", folder / "out", SMALL)
    except InputRefusedError:
        return
    assert all(path.is_relative_to(folder / "out") for path in files)


def test_a_plain_archive_is_unpacked_without_what_macos_adds(tmp_path: Path) -> None:
    content = zipped(("study/a.dcm", b"one"), ("study/", b""), ("b.zip", zipped(("c", b"d"))), ("__MACOSX/._a", b"x"))
    (tmp_path / "a.zip").write_bytes(content)
    files = unpack(tmp_path / "a.zip", tmp_path / "out", SMALL)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in files] == ["b.zip", "study/a.dcm"]
    assert (tmp_path / "out" / "study" / "a.dcm").read_bytes() == b"one"


def cached(cache: Path, name: str, content: bytes) -> Path:
    path = cache / f"upload-{len(list(cache.iterdir()))}" / name
    path.parent.mkdir()
    path.write_bytes(content)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def test_files_leave_the_cache(cache: Path, tmp_path: Path) -> None:
    sent = [cached(cache, "a.dcm", b"1"), cached(cache, "a.dcm", b"2"), cached(cache, "b.ZIP", zipped(("c.dcm", b"3")))]
    files = take_files(sent, cache, tmp_path / "request")
    assert [path.read_bytes() for path in files] == [b"1", b"2", b"3"]
    assert files[2].parent == tmp_path / "request" / FIRST_ARCHIVE
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert not list((tmp_path / "request").glob("*.ZIP"))


def test_only_uploads_are_taken(cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.dcm"
    other.write_bytes(b"x")
    (cache / "link.dcm").symlink_to(other)
    for path in (other, cache / "link.dcm", cache / ".." / "other.dcm", cache / "gone.dcm", cache, "a\0b", ""):
        with pytest.raises(InputRefusedError):
            take_files([path], cache, tmp_path / "request")
    assert other.read_bytes() == b"x"


def test_several_archives_share_one_limit(cache: Path, tmp_path: Path) -> None:
    sent = [cached(cache, "a.zip", zipped((f"{i}.dcm", bytes(3 << 20)), method=zipfile.ZIP_STORED)) for i in range(2)]
    with pytest.raises(InputRefusedError):
        take_files(sent, cache, tmp_path / "request", SMALL)
    with pytest.raises(InputRefusedError):
        take_files([cached(cache, "b.dcm", b"x") for _ in range(5)], cache, tmp_path / "request", SMALL)
