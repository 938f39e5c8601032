"""Directories of patients' files go away, whatever happens to the page."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tgmm_hf.app.private_files import private_files

KEEP = """
import sys, time
from tgmm_hf.app.private_files import private_files
with private_files() as files:
    (files.cache / "patient.dcm").write_bytes(b"x")
    print(files.root, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_the_directory_of_a_request_goes_away_after_an_error() -> None:
    with private_files() as files:
        with pytest.raises(KeyError), files.request() as place:
            (place.folder / "a.dcm").write_bytes(b"x")
            raise KeyError
        assert not list(files.requests.iterdir())
        assert files.root.stat().st_mode & 0o077 == 0
    assert not files.root.exists()


def test_what_a_killed_page_left_is_removed_and_what_a_running_page_holds_stays() -> None:
    pages = [subprocess.Popen([sys.executable, "-c", KEEP], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        killed, running = (Path(page.stdout.readline().strip()) for page in pages)
        pages[0].send_signal(signal.SIGKILL)
        pages[0].wait()
        assert killed.is_dir()
        with private_files():
            assert not killed.exists()
            assert (running / "cache" / "patient.dcm").is_file()
    finally:
        for page in pages:
            page.kill()
            page.wait()
            page.stdout.close()


def test_two_uploads_of_one_file_have_directories_of_their_own() -> None:
    with private_files() as files:
        paths = []
        for _ in range(2):
            (files.cache / "digest").mkdir()
            (files.cache / "digest" / "labs.csv").write_bytes(b"x")
            paths.append(Path(files.give_own_folder(str(files.cache / "digest" / "labs.csv"))))
        assert paths[0].parent != paths[1].parent and all(path.name == "labs.csv" for path in paths)
        assert files.cached_bytes() == 2
        assert not (files.cache / "digest").exists()
        with pytest.raises(FileNotFoundError):
            files.give_own_folder(str(files.cache / "digest" / "labs.csv"))
        assert time.time() - paths[0].stat().st_ctime < 60  # the age counts from the upload
