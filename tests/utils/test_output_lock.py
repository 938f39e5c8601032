"""Two runs on one output, outputs that cannot be written, and disks without room."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from tgmm_hf.utils import output_lock
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import claim_directory
from tgmm_hf.utils.output_lock import check_room, check_writable, one_run_at_a_time, only_run

HOLD = """
import sys, time
from tgmm_hf.utils.output_lock import only_run
with only_run(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(output: Path) -> subprocess.Popen:
    """Start another process that holds the lock of an output."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_run_is_refused_and_nothing_is_left(tmp_path):
    out = tmp_path / "out"
    link = tmp_path / "link"
    link.symlink_to(out)
    with only_run(out):
        assert len(names(tmp_path)) == 2
        for again in (out, link, str(out) + "/"):
            with pytest.raises(TgmmError, match="another run"), only_run(again):
                pass
        with only_run(tmp_path / "other"), only_run(out, "1-of-2"), only_run(out, "2-of-2"):
            pass
    assert names(tmp_path) == ["link"]
    with only_run(out):
        pass


def test_the_lock_of_a_killed_process_blocks_nobody(tmp_path):
    out = tmp_path / "out"
    process = hold(out)
    with pytest.raises(TgmmError, match="another run"), only_run(out):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(names(tmp_path)) == 1  # the file stays, the lock does not
    claim_directory(tmp_path, ())  # and it is nobody's file
    with only_run(out):
        pass
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_was_started_by_the_run_does_not_hold_the_lock(tmp_path):
    process = None
    try:
        with only_run(tmp_path / "out"):
            process = os.fork()
            if not process:
                signal.pause()
                os._exit(0)
        other = hold(tmp_path / "out")
        other.kill()
        other.wait()
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_a_run_that_fails_leaves_no_folders(tmp_path):
    with pytest.raises(ZeroDivisionError), only_run(tmp_path / "a" / "b" / "out"):
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_another_machine_is_not_waited_for(tmp_path, monkeypatch):
    with only_run(tmp_path / "out"):
        monkeypatch.setattr(output_lock, "machine", lambda: "another")
        with only_run(tmp_path / "out"):
            pass


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "out")
    (tmp_path / "out").mkdir()

    def denied(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)  # the tests may run as root
    with pytest.raises(OSError, match="permission denied in .*ask for the permission"), only_run(tmp_path / "out"):
        raise AssertionError


def test_a_folder_without_permission_beside_the_output_is_no_fault(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    genuine = tempfile.TemporaryFile

    def denied(dir):
        if Path(dir) == tmp_path:
            raise PermissionError(13, "Permission denied")
        return genuine(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    with only_run(out):
        assert len(names(out)) == 1
        with pytest.raises(TgmmError, match="another run"), only_run(out):
            pass
    assert names(out) == []


def test_a_disk_without_room_is_refused(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(OSError, match="2 KiB may be needed but only 1000 bytes are free"):
        check_room(tmp_path / "out", 2048)
    with pytest.raises(OSError, match="only 1000 bytes"), only_run(tmp_path / "out"):
        raise AssertionError


def test_the_decorator_finds_the_output_by_name(tmp_path):
    @one_run_at_a_time("out")
    def command(data, out, *, size=1):
        return names(tmp_path)

    for held in (command(1, tmp_path / "x"), command(data=1, out=tmp_path / "x", size=2)):
        assert len(held) == 1 and held[0].startswith(".x.")


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_refused_before_the_work(device):
    with pytest.raises(FileExistsError, match="device"):
        check_writable(device)
