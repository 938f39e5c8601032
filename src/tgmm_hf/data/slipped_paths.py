"""Find the admissions whose ECG or echo is of another patient of the same table: paths that slipped by a row.

Only headers are read: PatientID of DICOM files, and the subject id in the comments of WFDB headers. A table whose
`patient_id` is a pseudonym is not affected, because no header names a pseudonym. Decision 160 gives the reasons and
their limits.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tgmm_hf.data import file_reading
from tgmm_hf.data.confinement import confined_clips, confined_ecg
from tgmm_hf.data.manifest import CohortRow, CohortTable
from tgmm_hf.inputs.input_limits import is_unreadable
from tgmm_hf.inputs.patient_identity import Identity, plain_id, read_identity, read_identity_of_ecg
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.files import read_json

MIN_IDS, SHARE_OF_TABLE = 10, 0.9
"""If at least this many headers have an id, and this share of the ids stands in the table, then headers and table have
one numbering. If another row has slipped, an id that is nobody's in the table is then wrong too."""
MIN_OF_PLACEHOLDER = 3
"""An id in the headers of at least this many patients names nobody: it was written when files were made anonymous."""
MIN_ID_LENGTH = 5
"""Letters and digits of an id. Shorter ids may be numbers of rows, and a header of another numbering may hold them."""
HEADERS_FILE = "headers.json"
"""Name of the file beside the shards that holds the result of the comparison."""
STORED_VERSION = 2
"""Raise this number when the comparison changes, so that a stored result of an earlier version is not used."""
_ADVICE = (
    "so the paths may have slipped by a row: correct the paths or patient_id. If the files have ids of another "
    "numbering, put a letter before every patient_id"
)
_EXCHANGED = (
    "the header of a file names the id of another row of this table: were paths or folders exchanged? If the headers "
    "have ids of another numbering, this is no fault"
)


@dataclass(frozen=True)
class ComparedHeaders:
    """Result of the comparison of headers of files with the rows of a table.

    Attributes:
        slipped: Name of the admission -> reason why it must not be used, without ids and paths.
        unread: Name of the admission -> files that the file system did not give. Their patients are unknown.
        digest: Digest of the table and of the states of its files before the comparison; "" if it was not asked for.
        doubts: Name of the admission -> doubt, of a table without patients. The header of its file names the id of
            another row, which may be an id of another numbering. So the row is used.
    """

    slipped: dict[str, str] = field(default_factory=dict)
    unread: dict[str, set[Path]] = field(default_factory=dict)
    digest: str = ""
    doubts: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """Write how many headers could not be read or name the id of another row, without names."""
        number = sum(map(len, self.unread.values()))
        text = "header(s) cannot be read now, so nothing tells whether the paths of"
        notes = [f"{number} {text} {len(self.unread)} row(s) slipped: run it again later"] if number else []
        return notes + [f"{len(self.doubts)} row(s): {_EXCHANGED}"] * bool(self.doubts)


@dataclass
class _HeaderReader:
    """Reads headers, and tries again while the file system does not give a file.

    Attributes:
        unread: Missing files. After the first missing file the reader waits no more, because the disk may be gone.
    """

    unread: set[Path] = field(default_factory=set)

    def __call__(self, read: Callable[[], Identity | None], file: Path) -> Identity | None:
        """Read the identity in the header of a file. None if the header has none, or the file stays missing."""
        for pause in (*file_reading.WAITS, None):
            try:
                identity = read()
            except InputRefusedError:
                if pause is None or self.unread:
                    break
                time.sleep(pause)
            else:
                return None if identity == Identity() else identity
        self.unread.add(file)
        return None


def slipped_rows(table: CohortTable, rows: Iterable[CohortRow] | None = None) -> dict[str, str]:
    """Return `slipped` of [`compare_headers`]."""
    return compare_headers(table, rows).slipped


def compare_headers(table: CohortTable, rows: Iterable[CohortRow] | None = None) -> ComparedHeaders:
    """Find the rows whose ECG or echo names another patient of the table.

    Args:
        table: The table. Files outside its root, and files that are damaged, are left out.
        rows: Rows of the table to look at. None means all of them.
    """
    patients = {name for row in table.rows for name in _patient_names(row)} - {""}
    rows = table.rows if rows is None else list(rows)
    if is_without_patients := _names_no_patients(table):
        patients = {name for name in patients if len(name) >= MIN_ID_LENGTH}
        if len(patients) < 2:
            return ComparedHeaders()
    progress = tqdm(rows, desc="reading headers", unit="row", file=sys.stderr, disable=None, delay=5)
    reader = _HeaderReader()
    named: list[dict[str, str]] = []
    unread: dict[str, set[Path]] = {}
    for row in progress:
        named.append({})
        for kind, patient_of in (("ECG", _ecg_patient), ("echo", _echo_patient)):
            before = set(reader.unread)
            named[-1][kind] = patient_of(row, table, reader)
            if not named[-1][kind] and (files := reader.unread - before):
                unread.setdefault(row.id, set()).update(files)
    if is_without_patients:
        nobody = {"", *_placeholders(rows, named)}
        doubts = {
            row.id: _EXCHANGED
            for row, names in zip(rows, named, strict=True)
            if any(name in patients - nobody - _patient_names(row) for name in names.values())
        }
        return ComparedHeaders(unread=unread, doubts=doubts)
    return ComparedHeaders(_reasons(rows, named, patients), unread)


def stored_or_compared(table: CohortTable, directory: str | Path) -> ComparedHeaders:
    """Return what an earlier run stored about the same table and the same files, or compare the headers.

    Args:
        table: The table.
        directory: Directory of the prepared data. It need not exist.
    """
    if _names_no_patients(table):
        return ComparedHeaders()
    digest = _digest_of_files(table)
    try:
        stored = read_json(Path(directory) / HEADERS_FILE)
        if stored["digest"] == digest:
            return ComparedHeaders({str(name): str(reason) for name, reason in stored["slipped"].items()}, {}, digest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, damaged, or of another version
        pass
    return replace(compare_headers(table), digest=digest)


def stored_text(headers: ComparedHeaders) -> str | None:
    """Write what `stored_or_compared` reads. None if headers could not be read, because a later run must try again."""
    if headers.unread or not headers.digest:
        return None
    return json.dumps({"digest": headers.digest, "slipped": headers.slipped}) + "\n"


def _digest_of_files(table: CohortTable) -> str:
    """Compute a digest of a table and of the size and time of change of each file whose header may be read."""
    states = []
    for row in table.rows:
        path = row.ecg_path
        ecg = [] if path is None else [path, f"{path}.hea", str(Path(path).with_suffix(".hea"))]
        states.append([file_reading.file_state(table.root / name) for name in (*ecg, *row.echo_paths)])
    content = {"table": table.digest(), "root": str(table.root.resolve()), "outside": table.allow_outside}
    return json_digest(content | {"version": STORED_VERSION, "files": states})


def _names_no_patients(table: CohortTable) -> bool:
    """Tell whether the table has no column patient_id. Then the id stands for it."""
    return all(row.patient_id == row.id for row in table.rows)


def _reasons(rows: list[CohortRow], named: list[dict[str, str]], patients: set[str]) -> dict[str, str]:
    """Write why rows must not be used: name of the admission -> reason.

    Args:
        rows: Rows of the table.
        named: For each row, "ECG" and "echo" -> patient id in the header, "" without one.
        patients: Ids of the patients of the whole table.
    """
    nobody = {"", *_placeholders(rows, named)}
    ids = [name for names in named for name in names.values() if name not in nobody]
    is_one_numbering = len(ids) >= MIN_IDS and sum(name in patients for name in ids) >= SHARE_OF_TABLE * len(ids)
    wrong_ids = [
        {kind: name for kind, name in names.items() if name not in nobody and name not in _patient_names(row)}
        for row, names in zip(rows, named, strict=True)
    ]
    has_slipped = any(name in patients for wrong in wrong_ids for name in wrong.values())
    reasons = {}
    for row, wrong in zip(rows, wrong_ids, strict=True):
        of_table = [kind for kind, name in wrong.items() if name in patients]
        if of_table:
            kinds = " and of its ".join(of_table)
            reasons[row.id] = f"the header of its {kinds} names another patient of this table, {_ADVICE}"
        elif wrong and is_one_numbering and has_slipped:
            kinds = " and of its ".join(wrong)
            reasons[row.id] = (
                f"the header of its {kinds} names a patient who is not in this table, although most headers name "
                f"patients of the table, {_ADVICE}"
            )
    return reasons


def _placeholders(rows: Iterable[CohortRow], named: Iterable[dict[str, str]]) -> set[str]:
    """Find the ids that name nobody: each stands in the headers of at least MIN_OF_PLACEHOLDER patients."""
    patients: dict[str, set[str]] = {}
    for row, names in zip(rows, named, strict=True):
        for name in names.values():
            patients.setdefault(name, set()).add(row.patient_id)
    return {name for name, owners in patients.items() if len(owners) >= MIN_OF_PLACEHOLDER}


def _patient_names(row: CohortRow) -> set[str]:
    """Write the patient of a row as headers may write it. A column with empty cells may have become "10000032.0"."""
    name = plain_id(row.patient_id)
    return {name, name.removesuffix(".0")}


def _ecg_patient(row: CohortRow, table: CohortTable, reader: _HeaderReader) -> str:
    """Read the patient id in the header of a row's ECG; "" if there is none."""
    if row.ecg_path is None:
        return ""
    read = partial(ecg_identity, row.ecg_path, table.root, table.allow_outside)
    identity = reader(read, table.root / row.ecg_path)
    return "" if identity is None else identity.patient


def ecg_identity(path: str, root: Path, allow_outside: bool = False) -> Identity | None:
    """Read the identity in the header of a recording. None for a recording outside `root`.

    For the arguments see `confined_ecg`.

    Raises:
        InputRefusedError: If the file system does not give the header.
    """
    file = confined_ecg(path, root, allow_outside)
    if isinstance(file, InputRefusedError) and is_unreadable(file.reason):
        raise file
    return read_identity_of_ecg(file)


def _echo_patient(row: CohortRow, table: CohortTable, reader: _HeaderReader) -> str:
    """Read the patient id in the header of the first clip that has one; "" if none has.

    One clip is enough, because a study whose files name two patients is refused.
    """
    clips = confined_clips(row.echo_paths, table.root, table.allow_outside)
    identities = (reader(partial(read_identity, clip), clip) for clip in clips if isinstance(clip, Path))
    return next((identity.patient for identity in identities if identity is not None), "")
