"""`tgmm make-manifest`: propose a cohort table from a folder per patient and a table of lab rows.

Nothing is guessed. A patient with two ECG recordings or two echo studies gets no ECG or no echo, and is named.
"""

import difflib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.data.lab_tables import read_lab_table
from tgmm_hf.data.patient_folders import FolderContent, Recording, scan_folder
from tgmm_hf.data.prediction import read_views
from tgmm_hf.data.table_files import DEFAULT_FORMAT, TableFormat
from tgmm_hf.data.table_ids import spreadsheet_id
from tgmm_hf.inputs.echo_view_names import views_of_files
from tgmm_hf.inputs.patient_identity import different_patients, identity_of_ecg
from tgmm_hf.utils.csv_files import csv_text
from tgmm_hf.utils.errors import InputRefusedError, TgmmError
from tgmm_hf.utils.files import whole_file

SHOWN = 10
"""Maximum number of patients that the report names for each finding."""
CHOICES = ("none", "first", "last")
"""Which of several ECG recordings to take: none, or the first or last by the time of recording."""


@dataclass
class Proposal:
    """A proposed cohort table.

    Attributes:
        columns: Names of the columns, in order.
        rows: Column -> cell. echo_paths and echo_views are lists.
        root: Directory that the paths in the table start from.
        ambiguous: Finding -> ids of the patients that have no ECG or no echo for this reason.
        unused: What else the folders hold -> number of files.
        notes: What was ignored or assumed, and ids that may belong together.
        counts: Numbers of patients with labs, ECG and echo.
    """

    columns: list[str]
    rows: list[dict[str, Any]]
    root: Path
    ambiguous: dict[str, list[str]] = field(default_factory=dict)
    unused: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Number of patients with labs, with an ECG and with echo clips."""
        labs = [name for name in self.columns if name.startswith("labs.")]
        return {
            "labs": sum(any(str(row.get(name, "") or "").strip() for name in labs) for row in self.rows),
            "ecg": sum(bool(row.get("ecg_path")) for row in self.rows),
            "echo": sum(bool(row.get("echo_paths")) for row in self.rows),
        }


def propose(
    folder: Path,
    out: Path,
    *,
    labs: Path | None = None,
    views: Path | None = None,
    ecg_choice: str = "none",
    table_format: TableFormat = DEFAULT_FORMAT,
) -> Proposal:
    """Propose the cohort table of a folder that holds one folder per patient.

    The name of a patient's folder is the patient's id.

    Args:
        folder: The folder of folders.
        out: The table that will be written. The paths start from its directory if `folder` lies in it, else from
            `folder`.
        labs: Table with the column `id` and one row per patient.
        views: CSV file with the view of each clip.
        ecg_choice: One of `CHOICES`.
        table_format: Encoding and decimal sign of `labs` and `views`.

    Raises:
        TgmmError: If there is no folder per patient, or a table cannot be used.
    """
    names = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise TgmmError(str(folder), "it holds no folder. make-manifest needs one folder per patient, named by the id.")
    lab_columns, lab_rows, notes = ([], {}, []) if labs is None else read_lab_table(labs, table_format)
    view_names = {} if views is None else read_views(views, table_format)
    parent = out.resolve().parent
    root = parent if folder.resolve().is_relative_to(parent) else folder.resolve()
    proposal = Proposal(["id", *lab_columns], [], root, notes=[f"lab table: {note}" for note in notes])
    for path in names:
        if path.is_symlink():
            proposal.unused["link to a folder, which is not followed"] += 1
            continue
        content = scan_folder(path)
        proposal.unused.update(content.unused)
        row = {"id": path.name, **lab_rows.get(path.name, {})}
        row |= _ecg_cell(path.name, content, ecg_choice, proposal)
        row |= _echo_cells(path.name, content, view_names, proposal)
        proposal.rows.append(row)
    loose = sum(path.is_file() and not path.name.startswith(".") for path in folder.iterdir())
    if loose:
        proposal.unused["file beside the folders of the patients"] += loose
    _add_lab_only(proposal, lab_rows, labs is not None)
    filled = [name for name in ("ecg_path", "echo_paths", "echo_views") if any(name in row for row in proposal.rows)]
    proposal.columns += [name for name in filled if name not in proposal.columns]
    return proposal


def _ecg_cell(patient: str, content: FolderContent, choice: str, proposal: Proposal) -> dict[str, Any]:
    """Choose the ECG of a patient: {"ecg_path": path}, or {} with an entry in `proposal.ambiguous`."""
    recordings = content.recordings
    if not recordings:
        return {}
    chosen: Recording | None = recordings[0] if len(recordings) == 1 else None
    if len(recordings) > 1:
        chosen = None if choice == "none" else _by_time(recordings, last=choice == "last")
        reason = "no ECG, because the folder holds several recordings"
        if chosen is None and choice != "none":
            reason += " and their times do not decide"
        if different_patients(identity_of_ecg(recording.path) for recording in recordings):
            chosen, reason = None, "no ECG, because the headers of the recordings name different patients"
        if chosen is not None:
            reason = f"the {choice} of several ECG recordings was taken"
        proposal.ambiguous.setdefault(reason, []).append(patient)
    if chosen is None:
        return {}
    path = chosen.path.with_suffix("") if chosen.path.suffix.lower() == ".hea" else chosen.path
    return {"ecg_path": _relative(path, proposal.root)}


def _by_time(recordings: Sequence[Recording], last: bool) -> Recording | None:
    """Return the first or last recording; None if a time is missing, or two are equal."""
    times = [recording.time for recording in recordings]
    if any(time is None for time in times) or len(set(times)) < len(times):
        return None
    ordered = sorted(recordings, key=lambda recording: str(recording.time))
    return ordered[-1] if last else ordered[0]


def _echo_cells(
    patient: str, content: FolderContent, view_names: Mapping[str, str], proposal: Proposal
) -> dict[str, Any]:
    """Give the clips of a patient: echo_paths and, with view names, echo_views; {} if there are several studies."""
    if not content.clips:
        return {}
    if len(content.studies) > 1:
        reason = "no echo, because the folder holds several studies"
        proposal.ambiguous.setdefault(reason, []).append(patient)
        return {}
    paths = [clip.path for clip in content.clips]
    cells: dict[str, Any] = {"echo_paths": [_relative(path, proposal.root) for path in paths]}
    if any(";" in path for path in cells["echo_paths"]):
        proposal.ambiguous.setdefault("no echo, because a file name holds a semicolon: rename it", []).append(patient)
        return {}
    if view_names:
        view_of = views_of_files(paths, view_names)
        views = [view_of[path] for path in paths]
        cells["echo_views"] = [view if isinstance(view, str) else "" for view in views]
        for reason in dict.fromkeys(view.reason for view in views if isinstance(view, InputRefusedError)):
            proposal.ambiguous.setdefault(f"no view of some clips, because {reason}", []).append(patient)
    return cells


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path.absolute(), root)).as_posix()


def _add_lab_only(proposal: Proposal, lab_rows: Mapping[str, Mapping[str, Any]], with_labs: bool) -> None:
    """Add the patients that have a lab row and no folder, and note ids that are alike but not equal."""
    folders = {row["id"] for row in proposal.rows}
    without_folder = [name for name in lab_rows if name not in folders]
    without_labs = sorted(folders - set(lab_rows)) if with_labs else []
    proposal.rows += [{"id": name, **lab_rows[name]} for name in without_folder]
    if without_labs:
        proposal.notes.append(f"{len(without_labs)} folder(s) have no lab row: {_few(without_labs)}")
    if without_folder:
        proposal.notes.append(
            f"{len(without_folder)} lab row(s) have no folder and became patients of their own: {_few(without_folder)}"
        )
    by_key = {spreadsheet_id(name): name for name in without_labs}
    for name in without_folder:
        close = by_key.get(spreadsheet_id(name)) or next(
            iter(difflib.get_close_matches(name, without_labs, 1, 0.9)), None
        )
        if close is not None:
            proposal.notes.append(
                f"the lab row {name} and the folder {close} may be one patient. They were not joined, because the ids "
                "differ. Rename one of them if they are."
            )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def write_proposal(proposal: Proposal, out: Path) -> None:
    """Write the table to `out`, .csv or .parquet, whole or not at all."""
    with whole_file(out) as building:
        if out.suffix.lower() == ".parquet":
            pq.write_table(_as_arrow(proposal), building)
            return
        rows = [
            {name: ";".join(cell) if isinstance(cell, list) else cell for name, cell in row.items()}
            for row in proposal.rows
        ]
        building.write_text(csv_text(proposal.columns, rows), encoding="utf-8")


def _as_arrow(proposal: Proposal) -> pa.Table:
    """Build the Parquet table. Lists stay lists, and every other cell is text."""
    columns = {}
    for name in proposal.columns:
        cells = [row.get(name) for row in proposal.rows]
        if name in ("echo_paths", "echo_views"):
            lists = [[item or None for item in cell] if isinstance(cell, list) else None for cell in cells]
            columns[name] = pa.array(lists, pa.list_(pa.string()))
        else:
            columns[name] = pa.array([None if cell in (None, "") else str(cell) for cell in cells], pa.string())
    return pa.table(columns)


def proposal_text(proposal: Proposal) -> str:
    """Write what was found as text for the terminal: ids, kinds and numbers, no names of files."""
    counts = ", ".join(f"{number} {name}" for name, number in proposal.counts.items())
    lines = [f"{len(proposal.rows)} patients: {counts}"]
    lines += _named("look at these patients:", proposal.ambiguous.items())
    if proposal.unused:
        lines.append("not used:")
        lines += [f"  {number} x {kind}" for kind, number in proposal.unused.most_common()]
    if proposal.counts["echo"] and "echo_views" not in proposal.columns:
        lines.append(
            "note: the clips have no view. predict uses them only if the model has a view classifier, or with --views"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in proposal.notes)])


def _named(title: str, findings: Iterable[tuple[str, list[str]]]) -> list[str]:
    lines = [f"  {len(names)} x {finding}: {_few(names)}" for finding, names in findings]
    return [title, *lines] if lines else []
