"""The reports of MIMIC-CXR: one text file for each study, in a directory or in PhysioNet's ZIP file."""

import zipfile
from pathlib import Path
from types import TracebackType

from tgmm_hf.utils.errors import TgmmError

FOLDERS = ("files", "mimic-cxr-reports/files", "")
"""Where the folders p10 to p19 may stand below the directory."""
LONGEST = 2**20
"""Bytes of a report that are read. The longest reports have some thousand."""


class ReportFiles:
    """Reads the report of a study. Use it in a `with` block.

    Args:
        path: Directory that holds files/p10/..., or mimic-cxr-reports.zip.

    Raises:
        FileNotFoundError: If there is no such directory or file.
        TgmmError: If the file is no ZIP file.
    """

    def __init__(self, path: Path) -> None:
        self._zip: zipfile.ZipFile | None = None
        self._names: frozenset[str] = frozenset()
        self._base = path
        if path.is_file():
            try:
                self._zip = zipfile.ZipFile(path)
            except zipfile.BadZipFile:
                raise TgmmError(path.name, "is no ZIP file. Give the directory of the reports, or the ZIP.") from None
            self._names = frozenset(self._zip.namelist())
            has_folder = {folder: any(name.startswith(f"{folder}/p1") for name in self._names) for folder in FOLDERS}
            self._folder = next((folder for folder in FOLDERS if has_folder[folder]), "")
        elif path.is_dir():
            places = (folder for folder in FOLDERS if any((path / folder).glob("p1[0-9]")))
            self._base = path / next(places, "files")
        else:
            raise FileNotFoundError(f"{path} does not exist. Name the directory of MIMIC-CXR's reports, or their ZIP.")

    def __enter__(self) -> "ReportFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._zip is not None:
            self._zip.close()

    def read(self, subject: int, study: int) -> str | None:
        """Read the report of a study; None if there is none."""
        name = f"p{str(subject)[:2]}/p{subject}/s{study}.txt"
        if self._zip is None:
            try:
                with (self._base / name).open("rb") as file:
                    return file.read(LONGEST).decode("utf-8", errors="replace")
            except (FileNotFoundError, NotADirectoryError):
                return None
        name = f"{self._folder}/{name}" if self._folder else name
        if name not in self._names:
            return None
        with self._zip.open(name) as member:
            return member.read(LONGEST).decode("utf-8", errors="replace")
