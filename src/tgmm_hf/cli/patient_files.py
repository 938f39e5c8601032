"""The files of a patient on the command line: refuse paths that lead nowhere, and name options in place of paths."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer

from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import counted


def require_files(paths: Mapping[str, Path | None]) -> None:
    """Refuse the command line if the path of an option is no file, directory or WFDB recording. None is skipped.

    The message names the option, because a path may name the patient.
    """
    absent = [
        option
        for option, path in paths.items()
        if path is not None and not path.exists() and not path.with_name(f"{path.name}.hea").exists()
    ]
    if absent:
        raise typer.BadParameter(f"there is no file or directory as given by {', '.join(absent)}: check the path")


def refuse_folder(ecg: Path | None) -> None:
    """Refuse --ecg if it is a folder, and say how many recordings the folder holds."""
    if ecg is None or not ecg.is_dir():
        return
    from tgmm_hf.data.patient_folders import scan_folder

    number = len(scan_folder(ecg).recordings)
    raise typer.BadParameter(
        f"--ecg names a folder that holds {counted(number, 'ECG recording')}. Name the recording itself: a DICOM "
        "file, or a WFDB recording without its suffix. For a folder per patient use tgmm make-manifest."
    )


@contextmanager
def options_for_paths(paths: Mapping[str, Path | None]) -> Iterator[None]:
    """Name the option instead of its path in an error about a file of the patient, because a path may name them."""
    try:
        yield
    except TgmmError as error:
        option = next((option for option, path in paths.items() if path is not None and str(path) == error.item), None)
        if option is None:
            raise
        raise TgmmError(option, error.reason) from error
    except OSError as error:
        raise TgmmError(" or ".join(paths), f"a file cannot be read ({type(error).__name__})") from error
