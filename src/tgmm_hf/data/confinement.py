"""Keep the files that a cohort table names inside the table's directory.

A table may come from somebody else. Without this rule a row such as `../../other/record` would bring a file that the
user did not mean into the prepared data or a prediction. `--allow-outside` lifts the rule for a table of one's own.
"""

from collections.abc import Iterator
from pathlib import Path

from tgmm_hf.data.manifest import ecg_files
from tgmm_hf.inputs.ecg_wfdb_header import read_header
from tgmm_hf.inputs.echo_reading import leads_outside
from tgmm_hf.inputs.input_limits import is_unreadable
from tgmm_hf.utils.errors import InputRefusedError

REASON = (
    "its path leads out of the directory of the table (by an absolute path, `..` or a link): the file is not read. "
    "Give --root, or add --allow-outside if you trust who wrote the table"
)


def confined_ecg(path: str, root: Path, allow_outside: bool = False) -> Path | InputRefusedError:
    """Return the path of a recording, or a refusal if one of its files lies outside `root`.

    If the file system does not give a header, the place of the files that the header names is unknown. The refusal then
    has the reason of the file system, see `is_unreadable`.

    Args:
        path: As the table writes it. A WFDB recording has further files. The files that its header names are checked
            too.
        root: Directory that relative paths start from.
        allow_outside: Return the path without a check.
    """
    files = (root / file for file in ecg_files(path, root))
    try:
        if allow_outside or not any(leads_outside(named, root) for file in files for named in _named_files(file)):
            return root / path
    except InputRefusedError as error:
        return InputRefusedError("ecg", error.reason)
    return InputRefusedError("ecg", REASON)


def confined_clips(paths: tuple[str, ...], root: Path, allow_outside: bool = False) -> list[Path | InputRefusedError]:
    """Return the path of each clip, or a refusal in its place if the clip lies outside `root`.

    The arguments are those of [`confined_ecg`].
    """
    return [
        InputRefusedError(f"echo[{position}]", REASON)
        if not allow_outside and leads_outside(root / path, root)
        else root / path
        for position, path in enumerate(paths, start=1)
    ]


def _named_files(file: Path, depth: int = 1) -> Iterator[Path]:
    """List a file and, for a WFDB header, the files that it names: signals, and the headers of segments.

    A header that is damaged or missing names no file here. The reader refuses it later with its reason.

    Raises:
        InputRefusedError: If the file system does not give a header.
    """
    yield file
    if file.suffix != ".hea":
        return
    try:
        header = read_header(file)
    except InputRefusedError as error:
        if is_unreadable(error.reason):
            raise
        return
    yield from (signal.file for signal in header.signals)
    if depth:
        for name in {name for name, _ in header.segments if name != "~"}:
            yield from _named_files(file.parent / f"{name}.hea", depth - 1)
