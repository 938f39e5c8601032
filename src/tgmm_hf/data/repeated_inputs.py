"""Find inputs that stand with several patients: one file under two names, or one admission under two ids.

A file that two patients share belongs to one of them at most. Where it stands in two splits, the test split holds
training data. Files are compared by their content: first by size, then by their beginning, then as a whole. So hardly
any file is read whole. Decision 143 gives the reasons.
"""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgmm_hf.data.confinement import confined_clips, confined_ecg
from tgmm_hf.data.file_reading import file_state, files_of_ecg
from tgmm_hf.data.manifest import CohortTable
from tgmm_hf.data.table_files import CohortTableError
from tgmm_hf.utils.digests import file_digest, json_digest
from tgmm_hf.utils.errors import InputRefusedError

MIN_CELLS = 8
"""Two rows with at least this many equal laboratory cells, and no other cell, may be one admission."""
CODE = "file_of_several_patients"
"""Code of the finding in the predictions of a table."""
_HEAD_BYTES = 65_536


@dataclass(frozen=True)
class Use:
    """One input of one row.

    Attributes:
        row: Number of the row, from 1.
        patient: Name of the patient.
        split: Split of the row.
        item: "ecg", "echo[2]" or "labs".
    """

    row: int
    patient: Hashable
    split: str
    item: str


@dataclass(frozen=True)
class RepeatedInput:
    """An input that stands with several patients, with all its uses."""

    uses: tuple[Use, ...]

    @property
    def is_leak(self) -> bool:
        """Whether a file, and not only equal laboratory cells, stands in several splits."""
        return self.kind != "labs" and len({use.split for use in self.uses}) > 1

    @property
    def kind(self) -> str:
        """Modality of the input."""
        return self.uses[0].item.partition("[")[0]

    @property
    def reason(self) -> str:
        """What is wrong, without names and values."""
        splits = " and in several splits" if len({use.split for use in self.uses}) > 1 else ""
        if self.kind == "labs":
            return f"equal laboratory rows stand with several patients{splits}: are they one admission?"
        return f"one {self.kind} file stands with several patients{splits}: it belongs to one of them at most"


def repeated_inputs(table: CohortTable) -> list[RepeatedInput]:
    """Find the ECG files, clips and laboratory rows of a table that stand with several patients.

    Files outside the root, and files that cannot be read, are left out.
    """
    files: list[tuple[Path, Use]] = []
    labs: dict[str, list[Use]] = {}
    for number, row in enumerate(table.rows, start=1):
        paths = []
        if row.ecg_path is not None:
            ecg = confined_ecg(row.ecg_path, table.root, table.allow_outside)
            if not isinstance(ecg, InputRefusedError):
                names = (table.root / name for name in files_of_ecg(table.root, row.ecg_path))
                paths.append((_signal_file(names), "ecg"))
        clips = confined_clips(row.echo_paths, table.root, table.allow_outside)
        paths += [(clip, f"echo[{place}]") for place, clip in enumerate(clips, start=1) if isinstance(clip, Path)]
        files += [(path, Use(number, row.patient_id, row.split, item)) for path, item in paths if path is not None]
        if len(row.labs) >= MIN_CELLS:
            labs.setdefault(json_digest(row.labs), []).append(Use(number, row.patient_id, row.split, "labs"))
    return [*_of_several(_equal_files(files)), *_of_several(labs.values())]


def refuse_leaks(name: str, repeated: Sequence[RepeatedInput]) -> list[str]:
    """Refuse a table of which a file stands with several patients in several splits.

    Args:
        name: File name of the table.
        repeated: What [`repeated_inputs`] found.

    Returns:
        A note for each other kind of repeated input.

    Raises:
        CohortTableError: If a file leads from one split to another.
    """
    leaks = [entry for entry in repeated if entry.is_leak]
    if leaks:
        first = leaks[0]
        rows = ", ".join(str(use.row) for use in first.uses[:5])
        raise CohortTableError(name, f"{first.reason} (row {rows}). There are {len(leaks)} such files.")
    reasons = [entry.reason for entry in repeated]
    return [f"{reasons.count(reason)} x {reason}" for reason in dict.fromkeys(reasons)]


def shared_files(patients: Sequence[Mapping[str, Any]]) -> list[list[dict[str, str]]]:
    """Find the ECG files and clips that stand with several patients of a prediction.

    Args:
        patients: As [`patients_from_table`] returns them, with paths as texts.

    Returns:
        One list of findings per patient, each {"code", "item", "text"}.
    """
    files: list[tuple[Path, Use]] = []
    for number, patient in enumerate(patients, start=1):
        ecg = patient.get("ecg")
        if isinstance(ecg, str):
            names = (Path(name) for name in files_of_ecg(Path(), ecg))
            path = _signal_file(names)
            files += [(path, Use(number, number, "", "ecg"))] if path is not None else []
        echo = patient.get("echo")
        clips = echo if isinstance(echo, list) else []  # a directory belongs to a single patient
        files += [
            (Path(clip), Use(number, number, "", f"echo[{place}]"))
            for place, clip in enumerate(clips, start=1)
            if isinstance(clip, str)
        ]
    checks: list[list[dict[str, str]]] = [[] for _ in patients]
    for entry in _of_several(_equal_files(files)):
        owners = len({use.row for use in entry.uses})
        for use in entry.uses:
            text = f"the same file stands with {owners - 1} other patient(s) of this table: whose is it?"
            checks[use.row - 1].append({"code": CODE, "item": use.item, "text": text})
    return checks


def _of_several(groups: Iterable[Sequence[Use]]) -> list[RepeatedInput]:
    """Keep the groups of uses that name several patients."""
    return [RepeatedInput(tuple(uses)) for uses in groups if len({use.patient for use in uses}) > 1]


def _signal_file(paths: Iterable[Path]) -> Path | None:
    """Choose the file of an ECG that holds its samples; the header of a WFDB recording holds its name."""
    present = [path for path in paths if file_state(path) is not None]
    signals = [path for path in present if path.suffix.lower() != ".hea"]
    return next(iter([*signals, *present]), None)


def _equal_files(files: Sequence[tuple[Path, Use]]) -> Iterator[list[Use]]:
    """Group uses of files by the content of the files; single uses are left out."""
    groups = [list(files)]
    for key in (_size, _head_digest, file_digest):
        groups = [part for group in groups for part in _split(group, key)]
    return ([use for _, use in group] for group in groups)


def _split(files: Sequence[tuple[Path, Use]], key: Callable[[Path], Hashable]) -> list[list[tuple[Path, Use]]]:
    """Group files by a key; files without a second of the same key, and files that cannot be read, are left out."""
    groups: dict[Hashable, list[tuple[Path, Use]]] = {}
    keys: dict[Path, Hashable] = {}
    for path, use in files:
        try:
            value = keys[path] if path in keys else keys.setdefault(path, key(path))
        except (OSError, ValueError):
            continue
        groups.setdefault(value, []).append((path, use))
    return [group for group in groups.values() if len(group) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _head_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_HEAD_BYTES)).digest()
