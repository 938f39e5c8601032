"""The table that MoRE is trained on: X-rays, ECGs and notes of patients.

One row is one X-ray with one ECG and the notes about them, as CSV or Parquet. Each of the three may be empty.

    id           name of the row, unique in the table
    patient_id   name of the patient; all rows of a patient are in one split
    split        "train", "validation" or "test"
    xray         path of the X-ray, relative to the directory of the table
    ecg          path of the recording, relative to the directory of the table
    report       one text about both; or, in its place, the two columns
    xray_report, ecg_report

A file may stand in several rows, such as one X-ray with several ECGs. It is read once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgmm_hf.data.manifest import SPLITS
from tgmm_hf.data.table_files import read_table
from tgmm_hf.inputs.echo_reading import leads_outside
from tgmm_hf.utils.errors import TgmmError

NEEDED = ("id", "patient_id", "split")
FILES = ("xray", "ecg")
NOTES = {"xray_report": "xray", "ecg_report": "ecg"}
"""Column -> name of the note in `MoreProcessor`."""


@dataclass(frozen=True)
class NoteRow:
    """One row of the table.

    Attributes:
        id: Name of the row.
        patient_id: Name of the patient.
        split: "train", "validation" or "test".
        xray: Path of the X-ray that can be opened, None without one.
        ecg: Path of the recording, None without one.
        text: What `MoreProcessor` takes as `text`; None without a note.
    """

    id: str
    patient_id: str
    split: str
    xray: str | None
    ecg: str | None
    text: Any


def read_note_table(path: str | Path, *, allow_outside: bool = False) -> list[NoteRow]:
    """Read the table. The errors quote only cells of the column `split`.

    Args:
        path: The table, .csv or .parquet.
        allow_outside: Accept files outside the directory of the table. Give it for a table of your own only.

    Returns:
        The rows in the order of the table.

    Raises:
        TgmmError: If a column or a cell is missing or wrong, an id stands twice, a patient is in two splits, a row has
            fewer than two of X-ray, ECG and note, or a file lies outside the directory.
    """
    path = Path(path)
    table = read_table(path, what="the table of X-rays, ECGs and notes")
    _check_columns(path.name, table.names)
    rows: list[NoteRow] = []
    ids: set[str] = set()
    splits: dict[str, str] = {}
    for number, cells in enumerate(table.rows, start=1):
        where = f"{path.name}, row {number}"
        row = _row(where, cells, path.parent, allow_outside)
        if row.id in ids:
            raise TgmmError(where, "its id stands in an earlier row too. Keep one of the rows.")
        ids.add(row.id)
        if splits.setdefault(row.patient_id, row.split) != row.split:
            raise TgmmError(
                where, f"its patient is in the splits {splits[row.patient_id]} and {row.split}. Split by patient."
            )
        rows.append(row)
    return rows


def _check_columns(item: str, names: list[str]) -> None:
    """Raise a TgmmError if the table lacks columns, or has two forms of notes."""
    if missing := [name for name in NEEDED if name not in names]:
        raise TgmmError(item, f"lacks the column(s) {', '.join(missing)}.")
    if not set(FILES) & set(names):
        raise TgmmError(item, "has neither a column xray nor a column ecg.")
    has_parts = bool(set(NOTES) & set(names))
    if has_parts == ("report" in names):
        raise TgmmError(item, "needs either the column report, or xray_report and ecg_report.")


def _row(where: str, cells: Mapping[str, Any], directory: Path, allow_outside: bool) -> NoteRow:
    """Check one row. `where` names it in messages."""
    texts = {name: _text(cells.get(name)) for name in (*NEEDED, *FILES, "report", *NOTES)}
    if missing := [name for name in NEEDED if not texts[name]]:
        raise TgmmError(where, f"has no {', '.join(missing)}.")
    if texts["split"] not in SPLITS:
        raise TgmmError(where, f"split must be one of {', '.join(SPLITS)}.")
    files: dict[str, str | None] = dict.fromkeys(FILES)
    for name in FILES:
        if texts[name]:
            file = directory / texts[name]
            if not allow_outside and leads_outside(file, directory):
                raise TgmmError(
                    where, f"the file under {name} lies outside the directory of the table. Write the table above it."
                )
            files[name] = str(file)
    parts = {note: texts[column] for column, note in NOTES.items() if texts[column]}
    text = texts["report"] or parts or None
    if sum(value is not None for value in (*files.values(), text)) < 2:
        raise TgmmError(where, "has fewer than two of X-ray, ECG and note, so there is nothing to compare.")
    return NoteRow(texts["id"], texts["patient_id"], texts["split"], files["xray"], files["ecg"], text)


def _text(cell: Any) -> str:
    """Return a cell as text, "" for an empty one."""
    return "" if cell is None or cell != cell else str(cell).strip()
