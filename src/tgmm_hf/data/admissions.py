"""One row of a cohort table -> one prepared row. `tgmm prepare` and the `datasets` builder both use this module.

A prepared row holds the result of every step that comes before training draws at random: the ECG in millivolts at 250
Hz before a window is cut, the clips as uint8 at the size of the model (only the views that are present), and the parsed
laboratory row.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Array2D, Array4D, Features, List, Value

from tgmm_hf.data.confinement import confined_clips, confined_ecg
from tgmm_hf.data.file_reading import Reading, Refusal, files_of_ecg
from tgmm_hf.data.lab_rows import store_labs
from tgmm_hf.data.laboratory import Laboratory
from tgmm_hf.data.manifest import CohortRow, CohortTable, Tasks, read_cohort_table
from tgmm_hf.data.slipped_paths import ComparedHeaders, compare_headers, ecg_identity, stored_or_compared
from tgmm_hf.data.table_files import DEFAULT_FORMAT, TableFormat
from tgmm_hf.inputs.ecg_signal import HarmonisedEcg
from tgmm_hf.inputs.echo_study import StudyClips
from tgmm_hf.inputs.echo_views import StoredViewClassifier
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.inputs.input_limits import is_unreadable
from tgmm_hf.inputs.lab_text import LabsText, age_of, gender_of
from tgmm_hf.inputs.patient_identity import (
    DIFFERENT_IDS,
    Identity,
    labs_conflicts,
    patient_conflict,
    read_identity,
)
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS, VIEWS

OUTCOME_TYPES = {
    "diagnosis": {"label": "int64"},
    "prognosis": {"time": "float32", "event": "int64"},
    "regression": {"value": "float32"},
    "multilabel": {"findings": "string"},
}
"""Kind of a task -> beginning of the names of its columns in prepared rows -> their type. Findings are JSON: finding ->
0 or 1, because a configuration may list them in another order."""


@dataclass(frozen=True)
class PreparedAdmission:
    """The result of preparing one admission.

    Attributes:
        id: Name of the admission.
        example: Prepared row, with the columns of `AdmissionPreparer.features`. None if no modality can be used.
        refused: Inputs that are not used, each with a reason.
        checks: Findings that make an input doubtful, each {"code", "item", "text"}.
    """

    id: str
    example: dict[str, Any] | None
    refused: list[Refusal]
    checks: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class AdmissionPreparer:
    """Turns rows of a cohort table into prepared rows. Use `prepare(row)`.

    Inputs that cannot be used are listed in `refused` of the result. They raise no error. The object holds settings and
    no weights, so it can be sent to worker processes.

    Attributes:
        feature_extractor: Reads an ECG.
        image_processor: Reads a study.
        root: Directory that relative paths start from.
        tasks: Task name -> kind, for the tasks with columns in the table.
        view_classifier: Names the view of clips for which the table gives none.
        allow_outside: Read files outside `root` too.
        strictness: "note", or "refuse" to drop an admission that has a refused input or a finding.
        reading: Notes what happens while files are read, for the supervisor of a shard.
        slipped: Name of an admission that must not be used -> reason, see `compare_headers`.
        unread: Name of an admission -> files whose headers could not be compared. This run does not finish its shard.
    """

    feature_extractor: EcgFeatureExtractor
    image_processor: EchoImageProcessor
    root: Path
    tasks: dict[str, str] = field(default_factory=dict)
    view_classifier: StoredViewClassifier | None = None
    allow_outside: bool = False
    strictness: str = "note"
    reading: Reading = field(default_factory=Reading)
    slipped: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, set[Path]] = field(default_factory=dict)

    @property
    def features(self) -> Features:
        """Columns of the prepared rows with their types. The first axis of `ecg` or `clips` is 0 if it is absent."""
        size, frames = self.image_processor.size, self.image_processor.num_frames
        columns: dict[str, Any] = {
            "id": Value("string"),
            "patient_id": Value("string"),
            "labs": Value("string"),  # see lab_rows.py; "" if absent
            "ecg": Array2D((None, len(LEADS)), "float32"),  # (samples at 250 Hz, leads), mV, before the window is cut
            "ecg_mask": List(Value("bool")),  # usable leads
            # (present views, F, H, W x BGR). The last axis is not (W, 3), because Arrow spends four bytes on every
            # innermost list. That would more than double the file.
            "clips": Array4D((None, frames, size, size * 3), "uint8"),
            "clip_views": List(Value("int32")),  # index into VIEWS, one per clip
            "clip_frames": List(Value("int32")),  # real frames of each clip; the frames after them are padding
        }
        for task, kind in self.tasks.items():
            columns |= {f"{name}_{task}": Value(dtype) for name, dtype in OUTCOME_TYPES[kind].items()}
        return Features(columns)

    def prepare(self, row: CohortRow) -> PreparedAdmission:
        """Read and process the files that a row of the cohort table names.

        An input that cannot be used raises no error. It is listed in `refused` of the result.
        """
        if row.id in self.slipped:
            dropped = {"item": row.id, "reason": f"dropped: {self.slipped[row.id]}"}
            return PreparedAdmission(row.id, None, [dropped])
        refused: list[Refusal] = []
        checks: list[dict[str, str]] = []
        before = len(self.reading.not_read)
        example = {
            "id": row.id,
            "patient_id": row.patient_id,
            "labs": (labs := self._labs(row, refused, checks))[0],
            **self._ecg(row, refused, checks),
            **self._echo(row, refused, checks),
        }
        reason = self._two_patients(row, labs[1], checks)
        if len(self.reading.not_read) == before:  # the files themselves could be read, or were counted
            self.reading.not_read |= self.unread.get(row.id, set())
        if reason is not None:
            refused.append({"item": row.id, "reason": f"dropped: {reason}"})
            return PreparedAdmission(row.id, None, refused, checks)
        example |= _outcomes(row, self.tasks)
        if not (example["labs"] or len(example["ecg"]) or len(example["clips"])):
            refused.append({"item": row.id, "reason": "dropped: no laboratory cell, ECG or clip can be used"})
            return PreparedAdmission(row.id, None, refused, checks)
        if self.strictness == "refuse" and (refused or checks):
            reason = "dropped: the strictness is 'refuse', and an input was refused or is in doubt"
            return PreparedAdmission(row.id, None, [*refused, {"item": row.id, "reason": reason}], checks)
        return PreparedAdmission(row.id, example, refused, checks)

    def prepare_all(self, rows: Iterable[CohortRow]) -> Iterator[PreparedAdmission]:
        """Prepare admissions one after the other, in order, each when it is asked for."""
        return map(self.prepare, rows)

    def _two_patients(
        self, row: CohortRow, person: tuple[str | None, float | None], checks: list[dict[str, str]]
    ) -> str | None:
        """Say that the headers of the ECG and the echo name two patients; add a finding if that is not certain.

        Args:
            row: Row of the cohort table.
            person: Gender and age of the laboratory row; None for what it does not have. They are compared too.
            checks: Findings are added here.
        """
        where = (self.root, self.allow_outside)
        ecg = None
        if row.ecg_path is not None:
            ecg = self._identity(partial(ecg_identity, row.ecg_path, *where), self.root / row.ecg_path)
        clips = confined_clips(row.echo_paths, *where)
        identities = (self._identity(partial(read_identity, clip), clip) for clip in clips if isinstance(clip, Path))
        echo = next((identity for identity in identities if identity not in (None, Identity())), None)
        checks += labs_conflicts(*person, {"ECG": ecg, "echo": echo})
        conflict = patient_conflict(ecg, echo)
        if conflict is not None and not conflict[1]:
            checks.append({"code": DIFFERENT_IDS, "item": "patient", "text": conflict[0]})
        return conflict[0] if conflict is not None and conflict[1] else None

    def _identity(self, read: Callable[[], Identity | None], file: Path) -> Identity | None:
        """Read whom the header of a file names. If the file system fails, the shard is not done."""
        try:
            return read()
        except InputRefusedError:
            if not self.reading.not_read:  # its reader may have counted it
                self.reading.not_read.add(file)
            return None

    def _labs(
        self, row: CohortRow, refused: list[Refusal], checks: list[dict[str, str]]
    ) -> tuple[str, tuple[str | None, float | None]]:
        """Read the laboratory row. Return its stored text, and the gender and the age in it."""

        def read() -> tuple[tuple[str, list[dict[str, str]], tuple[str | None, float | None]], list[Refusal]]:
            labs = LabsText.from_row(row.labs, from_table=True)
            entries = [{"item": f"{row.id}: {entry['item']}", "reason": entry["reason"]} for entry in labs.refused]
            return (store_labs(labs), labs.checks, (gender_of(labs.cells), age_of(labs.cells))), entries

        labs, entries = self.reading.read((row.id, "labs"), (), f"{row.id}: labs", read)
        refused += entries
        if labs is None:
            return "", (None, None)
        text, findings, person = labs
        checks += findings
        return text, person

    def _ecg(self, row: CohortRow, refused: list[Refusal], checks: list[dict[str, str]]) -> dict[str, Any]:
        signal, mask = np.zeros((0, len(LEADS)), np.float32), np.zeros(len(LEADS), bool)
        if row.ecg_path is not None:
            where = (row.ecg_path, self.root, self.allow_outside)

            def read() -> tuple[HarmonisedEcg, list[Refusal]]:
                path = confined_ecg(*where)
                if isinstance(path, InputRefusedError):
                    raise path
                return self.feature_extractor.harmonise(path), []

            # A file outside the root is not touched, not even to see whether it is there.
            path = confined_ecg(*where)
            is_outside = isinstance(path, InputRefusedError) and not is_unreadable(path.reason)
            names = [] if is_outside else files_of_ecg(self.root, row.ecg_path)
            ecg, entries = self.reading.read((row.id, "ecg"), [self.root / name for name in names], "ecg", read)
            refused += entries
            if ecg is not None:
                signal, mask = ecg.signal.T, ecg.mask
                checks += ecg.checks
        return {"ecg": np.ascontiguousarray(signal, np.float32), "ecg_mask": mask.tolist()}

    def _echo(self, row: CohortRow, refused: list[Refusal], checks: list[dict[str, str]]) -> dict[str, Any]:
        size, frames = self.image_processor.size, self.image_processor.num_frames
        stacked, indices, counts = np.zeros((0, frames, size, size * 3), np.uint8), [], []
        if row.echo_paths:
            clips = confined_clips(row.echo_paths, self.root, self.allow_outside)
            files = [clip for clip in clips if isinstance(clip, Path)]

            def read() -> tuple[StudyClips, list[Refusal]]:
                study = self.image_processor.prepare_study(
                    clips, views=_views_by_path(row), view_classifier=self.view_classifier
                )
                return study, study.by_position(study.refused)

            study, entries = self.reading.read((row.id, "echo"), files, "echo", read)
            refused += entries
            checks += [] if study is None else study.by_position(study.checks)
            views = [] if study is None else [view for view in VIEWS if view in study.clips]
            if study is not None and views:
                stacked = np.stack([study.clips[view].reshape(frames, size, size * 3) for view in views])
                indices = [VIEWS.index(view) for view in views]
                counts = [int(study.frame_counts[view]) for view in views]
        return {"clips": stacked, "clip_views": indices, "clip_frames": counts}


@dataclass(frozen=True)
class CohortSource:
    """A cohort table with the preparer of its rows.

    Attributes:
        table: The checked table.
        preparer: Prepares each of its rows.
        headers: What the headers of its files say.
    """

    table: CohortTable
    preparer: AdmissionPreparer
    headers: ComparedHeaders = field(default_factory=ComparedHeaders)

    @classmethod
    def open(  # noqa: PLR0913 - the arguments of `read_cohort_table`
        cls,
        manifest: str | Path,
        processor: TgmmProcessor,
        root: str | Path | None = None,
        tasks: Tasks | None = None,
        laboratory: Laboratory | None = None,
        table_format: TableFormat = DEFAULT_FORMAT,
        allow_outside: bool = False,
        stored_in: str | Path | None = None,
    ) -> "CohortSource":
        """Read a cohort table and the headers of its files, and make the preparer of its rows.

        Args:
            manifest: Cohort table, Parquet or CSV.
            processor: Gives the ECG settings, the size of the clips and the view classifier.
            root: Directory that relative paths start from. None means the directory of the table.
            tasks: Tasks of the model. None means the tasks of the paper.
            allow_outside: Read files outside the root too.
            laboratory: Units and names of the laboratory columns.
            table_format: Encoding, decimal sign and largest size of the file.
            stored_in: Directory of the prepared data, where an earlier run or another part may have stored what the
                headers say. None reads the headers.

        Raises:
            CohortTableError: If the table cannot be used.
        """
        table = read_cohort_table(
            manifest,
            root=root,
            tasks=tasks,
            laboratory=laboratory,
            table_format=table_format,
            allow_outside=allow_outside,
        )
        headers = compare_headers(table) if stored_in is None else stored_or_compared(table, stored_in)
        preparer = replace(make_preparer(table, processor), slipped=headers.slipped, unread=headers.unread)
        return cls(table, preparer, headers)

    def slipped(self, rows: Sequence[CohortRow]) -> dict[str, list[str]]:
        """Return the entry of a digest for rows that are not used because of other rows; empty if there are none."""
        names = [row.id for row in rows if row.id in self.preparer.slipped]
        return {"slipped": names} if names else {}


def _outcomes(row: CohortRow, tasks: Mapping[str, str]) -> dict[str, Any]:
    """Return the outcomes of a row as prepared columns, None where not known. `tasks` is task -> kind."""
    columns: dict[str, Any] = {}
    for task, kind in tasks.items():
        outcomes: dict[str, Mapping[str, Any]] = {
            "label": row.labels,
            "time": row.times,
            "event": row.events,
            "value": row.values,
        }
        findings = row.findings.get(task)
        outcomes["findings"] = {} if findings is None else {task: json.dumps(findings)}
        columns |= {f"{name}_{task}": outcomes[name].get(task) for name in OUTCOME_TYPES[kind]}
    return columns


def make_preparer(table: CohortTable, processor: TgmmProcessor) -> AdmissionPreparer:
    """Make the preparer for the rows of `table`, with the extractors and the view classifier of `processor`."""
    return AdmissionPreparer(
        processor.feature_extractor,
        processor.image_processor,
        table.root,
        table.tasks,
        processor.default_view_classifier,
        table.allow_outside,
        processor.default_strictness,
    )


def _views_by_path(row: CohortRow) -> dict[str, str]:
    """Return path -> view, for the clips of a row whose view the table gives."""
    pairs = zip(row.echo_paths, row.echo_views, strict=True)
    return {Path(path).as_posix(): view for path, view in pairs if view is not None}
