"""Prediction of a table whose answers are written as they come, so that a stopped run goes on.

While a run works, its answers stand beside the JSON file as JSON lines: predictions.json has
predictions.partial.jsonl. The first line says what the answers rest on. The same command reads the file and goes on
after the last whole answer. When the last patient is answered, the final files are written from it, and it is removed.
So the memory does not grow with the answers. Decision 227 gives the reasons.
"""

import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tgmm_hf.data import prediction as library
from tgmm_hf.data.file_reading import file_state, files_of_ecg
from tgmm_hf.data.prediction_tables import write_tables
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.utils.code_revision import code_revision
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import write_json_list
from tgmm_hf.utils.output_lock import only_run
from tgmm_hf.utils.short_digests import short_digest
from tgmm_hf.utils.watched_worker import Limits

FORMAT = 1
"""Raise this number when the lines change."""
SHOWN_PATIENTS = 20
"""Number of predictions that a `Tally` keeps."""

Prediction = dict[str, Any]


@dataclass
class Tally:
    """Counts over the predictions of a run.

    Attributes:
        first: The first `SHOWN_PATIENTS` predictions.
        patients: Number of predictions.
        answered: Predictions that use any input.
        notes: Number of notes.
        refused: Number of refused items.
        patients_with_refusals: Predictions with a refused item.
        unexpected: Refusals whose reason nobody foresaw.
        unreadable: Refusals because the file system failed or gave no permission.
    """

    first: list[Prediction] = field(default_factory=list)
    patients: int = 0
    answered: int = 0
    notes: int = 0
    refused: int = 0
    patients_with_refusals: int = 0
    unexpected: int = 0
    unreadable: int = 0

    @classmethod
    def count(cls, predictions: Iterable[Prediction]) -> "Tally":
        """Count predictions, one after the other."""
        tally = cls()
        for prediction in predictions:
            if tally.patients < SHOWN_PATIENTS:
                tally.first.append(prediction)
            tally.patients += 1
            tally.answered += library.is_answered(prediction)
            tally.notes += len(prediction["notes"])
            tally.refused += len(prediction["refused"])
            tally.patients_with_refusals += bool(prediction["refused"])
            tally.unexpected += library.count_unexpected([prediction])
            tally.unreadable += library.count_unreadable([prediction])
        return tally


def partial_path(out: Path) -> Path:
    """Name the file of the answers of a run that has not ended: predictions.json -> predictions.partial.jsonl."""
    return out.with_name(f"{out.stem}.partial.jsonl")


class StoredPredictions:
    """Predictions in a file of JSON lines, in the order of the patients. An iteration reads them one by one.

    Args:
        path: The file. It need not exist.
        basis: What the answers rest on, see [`describe_run`].
    """

    def __init__(self, path: Path, basis: Mapping[str, Any]) -> None:
        self.path = path
        self.basis = dict(basis)

    def __iter__(self) -> Iterator[Prediction]:
        """Read the predictions."""
        with self.path.open(encoding="utf-8") as file:
            file.readline()
            for line in file:
                yield json.loads(line)["prediction"]

    def resume(self, patients: Sequence[library.Patient]) -> int:
        """Count the finished patients, and cut off what follows. A new file is started if there is none.

        A patient is not finished if the line is not whole, if a file has changed since, or if a file could not be read.

        Args:
            patients: All patients of the run.

        Returns:
            Number of patients at the start of the table that need not be answered again.

        Raises:
            TgmmError: If the file holds answers that rest on something else.
            FileExistsError: If the file is none of this command.
        """
        if not self.path.exists():
            self.path.write_text(_line({"tgmm predict": FORMAT, **self.basis}), encoding="utf-8")
            return 0
        finished = 0
        with self.path.open("rb") as file:
            first = file.readline()
            self._check_basis(first)
            end = len(first)
            for patient, line in zip(patients, file, strict=False):
                if not _is_finished(line, patient):
                    break
                finished, end = finished + 1, end + len(line)
        os.truncate(self.path, end)
        return finished

    def append(self, predictions: Iterable[tuple[str, Prediction]]) -> None:
        """Write predictions at the end of the file, each as soon as it comes.

        Args:
            predictions: State of the patient's files (`state_of_files`), and the prediction.
        """
        with self.path.open("a", encoding="utf-8") as file:
            for state, prediction in predictions:
                file.write(_line({"files": state, "prediction": prediction}))
                file.flush()

    def _check_basis(self, first: bytes) -> None:
        """Refuse a file whose first line names something else than `basis`."""
        stored = _read_line(first)
        if stored is None or "tgmm predict" not in stored:
            raise FileExistsError(
                f"{self.path}: this file exists, and tgmm predict did not write it. Name another file with --out."
            )
        basis = {"tgmm predict": FORMAT, **self.basis}
        changed = [name for name in basis if stored.get(name) != basis[name]]
        if changed:
            differences = "; ".join(f"{name}: {stored.get(name)} there, {basis[name]} now" for name in changed)
            raise TgmmError(
                str(self.path),
                f"it holds the answers of a run that was stopped, and that run was another one ({differences}). Give "
                "the earlier command to finish it, name another file with --out, or delete this file to start anew.",
            )


def describe_run(
    pipe: TgmmCardiacPipeline, patients: Iterable[library.Patient], tasks: Sequence[str] | None
) -> dict[str, Any]:
    """Describe what the answers of a run rest on: model, code, settings and patients.

    The batch size and the limits of the reading are left out, because a run that was stopped for want of memory must go
    on with others.
    """
    model, processor = pipe.model, pipe.processor
    binding = pipe.binding_check(model, processor)
    rows = sha256()
    for patient in patients:
        rows.update(json_digest(patient).encode())
    return {
        "model": binding.model,
        "configuration": short_digest(json.loads(model.config.to_json_string(use_diff=False))),
        "processor": binding.processor,
        "code": code_revision(model, processor),
        "dtype": _number_format(model),
        "tasks": None if tasks is None else list(tasks),
        "strictness": getattr(processor, "default_strictness", "note"),
        "patients": f"sha256:{rows.hexdigest()[:16]}",
    }


def predict_table(
    pipe: TgmmCardiacPipeline,
    patients: Sequence[library.Patient],
    out: Path,
    *,
    tasks: Sequence[str] | None = None,
    batch_size: int = 8,
    limits: Limits | None = None,
) -> tuple[Tally, list[Path]]:
    """Predict the patients of a table, and write the answers. A run that was stopped goes on.

    Args:
        pipe: From `load_pipeline`.
        patients: From `patients_from_table`.
        out: JSON file to write: a list of predictions. The tables of `write_tables` stand beside it.
        tasks: Names of tasks of the model; None answers all but retrieval tasks.
        batch_size: Number of patients that are encoded together.
        limits: Limits of the reading of one patient, see `predict`.

    Returns:
        Counts over the predictions, and the files that were written.

    Raises:
        TgmmError: If another run writes the same file, or a stopped run rests on something else.
    """
    with only_run(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        stored = StoredPredictions(partial_path(out), describe_run(pipe, patients, tasks))
        finished = stored.resume(patients)
        if finished:
            sys.stderr.write(f"{finished} of {len(patients)} patients are answered already ({stored.path}).\n")
        states: deque[str] = deque()
        answers = library.predict(pipe, _noting(patients[finished:], states), tasks, batch_size, limits)
        complete = library.with_shared_files(answers, patients, finished)
        progress = tqdm(complete, total=len(patients), initial=finished, unit="patient", disable=len(patients) == 1)
        stored.append((states.popleft(), prediction) for prediction in progress)
        write_json_list(out, stored, allow_nan=False)
        written = [out, *write_tables(out, stored, patients)]
        tally = Tally.count(stored)
        stored.path.unlink()
    return tally, written


def state_of_files(patient: Mapping[str, Any]) -> str:
    """Write a digest of the sizes and times of change of a patient's files."""
    ecg, echo = patient.get("ecg"), patient.get("echo")
    names = files_of_ecg(Path(), ecg) if isinstance(ecg, str) else []
    clips = [clip for clip in echo if isinstance(clip, str)] if isinstance(echo, list) else []
    return short_digest([file_state(Path(name)) for name in (*names, *clips)])


def _number_format(model: Any) -> str:
    """Name the number format of a model's weights."""
    is_quantised = any(hasattr(module, "_packed_params") for module in model.modules())
    return "int8" if is_quantised else str(model.dtype).removeprefix("torch.")


def _noting(patients: Iterable[library.Patient], states: deque[str]) -> Iterator[library.Patient]:
    """Yield patients. Put the state of their files into `states` before they are read."""
    for patient in patients:
        states.append(state_of_files(patient))
        yield patient


def _is_finished(line: bytes, patient: library.Patient) -> bool:
    """Tell whether a line holds a whole prediction of the files as they are now."""
    content = _read_line(line)
    if content is None or not isinstance(content.get("prediction"), dict):
        return False
    return content.get("files") == state_of_files(patient) and not library.count_unreadable([content["prediction"]])


def _read_line(line: bytes) -> dict[str, Any] | None:
    """Read a line; None if it is not whole, because the run was killed while it wrote."""
    try:
        content = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, allow_nan=False) + "\n"
