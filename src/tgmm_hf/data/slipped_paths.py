"""Find the admissions whose ECG or echo is of another patient of the same table: paths that slipped by a row.

Only headers are read: PatientID of DICOM files, and the subject id in the comments of WFDB headers. A table whose
`patient_id` is a pseudonym is not affected, because no header names a pseudonym. Decision 160 gives the reasons and
their limits.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from tgmm_hf.data.confinement import confined_clips, confined_ecg
from tgmm_hf.data.manifest import CohortRow, CohortTable
from tgmm_hf.inputs.patient_identity import Identity, identity_of, identity_of_ecg, plain_id

MIN_IDS, SHARE_OF_TABLE = 10, 0.9
"""If at least this many headers have an id, and this share of the ids stands in the table, then headers and table have
one numbering. If another row has slipped, an id that is nobody's in the table is then wrong too."""
MIN_OF_PLACEHOLDER = 3
"""An id in the headers of at least this many patients names nobody: it was written when files were made anonymous."""
_ADVICE = (
    "so the paths may have slipped by a row: correct the paths or patient_id. If the files have ids of another "
    "numbering, put a letter before every patient_id"
)


def slipped_rows(table: CohortTable, rows: Iterable[CohortRow] | None = None) -> dict[str, str]:
    """Find the rows whose ECG or echo names another patient of the table.

    Args:
        table: The table. Files outside its root, and files that cannot be read, are left out.
        rows: Rows of the table to look at. None means all of them.

    Returns:
        Name of the admission -> reason why it must not be used, without ids and paths.
    """
    if all(row.patient_id == row.id for row in table.rows):  # the table has no column patient_id
        return {}
    patients = {name for row in table.rows for name in _patient_names(row)} - {""}
    rows = table.rows if rows is None else list(rows)
    progress = tqdm(rows, desc="reading headers", unit="row", file=sys.stderr, disable=None, delay=5)
    named = [{"ECG": _ecg_patient(row, table), "echo": _echo_patient(row, table)} for row in progress]
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


def _ecg_patient(row: CohortRow, table: CohortTable) -> str:
    """Read the patient id in the header of a row's ECG; "" if there is none."""
    if row.ecg_path is None:
        return ""
    identity = identity_of_ecg(confined_ecg(row.ecg_path, table.root, table.allow_outside))
    return "" if identity is None else identity.patient


def _echo_patient(row: CohortRow, table: CohortTable) -> str:
    """Read the patient id in the header of the first clip that has one; "" if none has.

    One clip is enough, because a study whose files name two patients is refused.
    """
    clips = confined_clips(row.echo_paths, table.root, table.allow_outside)
    identities = (identity_of(clip) for clip in clips if isinstance(clip, Path))
    return next((one.patient for one in identities if one is not None and one != Identity()), "")
