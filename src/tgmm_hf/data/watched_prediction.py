"""Prediction of many patients whose files are read in watched worker processes.

A worker process reads one patient after the other and returns arrays. This process holds the model, joins the arrays
of several patients to a batch and answers. Meanwhile the worker processes read the next patients. A patient at whose
files a process dies or reaches a limit loses this modality only: the modalities are left out one by one until the rest
can be read.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from tgmm_hf.data.file_reading import WAITS, reason_of
from tgmm_hf.inputs.input_limits import is_unreadable, names_missing_file
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.utils.names import MODALITIES
from tgmm_hf.utils.watched_worker import Limits, Say, WatchedWorker, WorkerStoppedError

Patient = Mapping[str, Any]
Features = dict[str, np.ndarray]
"""The inputs of the model for one patient: name -> array with one row."""

Read = tuple[Features, dict[str, Any]]
"""What the reading of one patient gives: the inputs of the model, and a report."""

READERS = min(4, os.cpu_count() or 1)
"""Number of worker processes. Reading takes longer than the answers of a small model. More than four would wait."""

WITHOUT = ((), ("echo",), ("ecg",), ("ecg", "echo"), ("labs",), ("labs", "echo"), ("labs", "ecg"), MODALITIES)
"""Modalities that are left out, in the order of the tries."""


def predict_watched(
    pipe: TgmmCardiacPipeline, patients: Iterable[Patient], tasks: Sequence[str] | None, batch_size: int, limits: Limits
) -> Iterator[dict[str, Any]]:
    """Answer the tasks for patients, as `pipe` does.

    Args:
        pipe: Pipeline of a saved model.
        patients: Patients as the pipeline takes them.
        tasks: Names of tasks of the model; None answers all but retrieval tasks.
        batch_size: Number of patients that are encoded together.
        limits: Limits of the reading of one patient.

    Yields:
        One prediction per patient, in order.
    """
    options = dict(pipe._preprocess_params)
    strict = (options.get("strictness") or getattr(pipe.processor, "default_strictness", "note")) == "refuse"
    choices = ((), MODALITIES) if strict else WITHOUT  # a strict prediction leaves out all or none
    pad = {"input_ids": int(pipe.processor.tokenizer.pad_token_id or 0)}  # type: ignore[union-attr]
    workers = [WatchedWorker(_Reader(pipe.processor), limits) for _ in range(READERS)]
    free: SimpleQueue[WatchedWorker] = SimpleQueue()
    for worker in reversed(workers):
        free.put(worker)

    def read(patient: Patient) -> Read:
        worker = free.get()  # there are as many threads as worker processes
        try:
            return _read_watched(worker, patient, options, choices)
        finally:
            free.put(worker)

    def preprocess(batch: Sequence[tuple[Patient, Future[Read]]], **_: Any) -> dict[str, Any]:
        done = [future.result() for _, future in batch]
        features = join_features([one for one, _ in done], pad)
        return {
            "ids": [patient.get("id") for patient, _ in batch],
            "inputs": {name: torch.from_numpy(values).to(pipe.device) for name, values in features.items()},
            "reports": [report for _, report in done],
        }

    watched = copy(pipe)  # everything but the reading stays the pipeline's
    watched.preprocess = cast(Any, preprocess)  # type: ignore[method-assign]
    threads = ThreadPoolExecutor(READERS)
    try:
        started = _started(patients, lambda patient: threads.submit(read, patient), READERS + batch_size)
        yield from watched(started, tasks=tasks, batch_size=batch_size)
    finally:
        for worker in workers:
            worker.close()
        threads.shutdown(cancel_futures=True)


def _started(
    patients: Iterable[Patient], start: Callable[[Patient], Future[Read]], ahead: int
) -> Iterator[tuple[Patient, Future[Read]]]:
    """Start to read patients before they are asked for.

    Args:
        patients: The patients.
        start: Function that starts the reading of one patient.
        ahead: Number of patients that are read ahead. It limits the memory, whatever the number of patients.

    Yields:
        Each patient and its reading, in order.
    """
    waiting: deque[tuple[Patient, Future[Read]]] = deque()
    for patient in patients:
        waiting.append((patient, start(patient)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def join_features(patients: Sequence[Features], pad: Mapping[str, int]) -> Features:
    """Join the inputs of single patients to the inputs of a batch, as the processor makes them.

    Args:
        patients: One entry per patient. A modality that the patient lacks has no keys.
        pad: Name of an input -> value of the padding; 0 for other inputs.

    Returns:
        Name -> array with one row per patient. The rows of a patient without the modality hold the padding only.
    """
    joined: Features = {}
    for name in dict.fromkeys(name for features in patients for name in features):
        present = [features[name] for features in patients if name in features]
        shape = tuple(max(sizes) for sizes in zip(*(values.shape[1:] for values in present), strict=True))
        joined[name] = np.full((len(patients), *shape), pad.get(name, 0), present[0].dtype)
        for row, features in enumerate(patients):
            if name in features:
                values = features[name][0]
                joined[name][row][tuple(slice(size) for size in values.shape)] = values
    return joined


@dataclass(frozen=True)
class _Reader:
    """Function of a worker process: one patient -> inputs of the model and a report."""

    processor: Any

    def __call__(self, say: Say, patient: Patient, options: Mapping[str, Any]) -> Read:
        say("patient")
        for number, pause in enumerate((*WAITS, None)):
            outcome = self._read(patient, options)
            reasons = _reasons(outcome)
            may_help = any(map(is_unreadable, reasons)) or (number == 0 and any(map(names_missing_file, reasons)))
            if pause is None or not may_help:
                break
            time.sleep(pause)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _read(self, patient: Patient, options: Mapping[str, Any]) -> Read | Exception:
        """Read a patient once. Return the inputs and the report, or the exception."""
        # The pipeline's own step, without its model, so that both ways of reading stay the same.
        pipe: Any = SimpleNamespace(processor=self.processor, device="cpu")
        try:
            ready = TgmmCardiacPipeline.preprocess(pipe, [patient], **options)
        except Exception as error:
            return error
        (report,) = ready["reports"]
        return {name: values.numpy() for name, values in ready["inputs"].items()}, report


def _reasons(outcome: Read | Exception) -> list[str]:
    """List the reasons of the refusals in what `_Reader._read` returned."""
    if isinstance(outcome, Exception):
        return [reason_of(outcome)]
    return [entry["reason"] for entry in outcome[1]["refused"]]


def _read_watched(
    worker: WatchedWorker, patient: Patient, options: Mapping[str, Any], choices: Sequence[tuple[str, ...]]
) -> Read:
    """Read a patient. Leave out as few modalities as possible if the reading fails.

    Args:
        worker: The worker process.
        patient: The patient.
        options: Options of the pipeline's step.
        choices: Modalities that are left out, in the order of the tries.
    """
    given = [name for name in MODALITIES if patient.get(name) is not None]
    reasons: list[str] = []
    tried: set[tuple[str, ...]] = set()
    for modalities in choices:
        without = tuple(name for name in given if name in modalities)
        if without in tried:
            continue
        tried.add(without)
        kept = {key: value for key, value in patient.items() if key not in without}
        outcome = _try(worker, kept, options)
        if isinstance(outcome, str):
            reasons.append(outcome)
            continue
        features, report = outcome
        report["refused"] += [{"item": name, "reason": reasons[0]} for name in without]
        return features, report
    raise RuntimeError("a patient without any file could not be read")  # the last try reads nothing


def _try(worker: WatchedWorker, patient: Patient, options: Mapping[str, Any]) -> Read | str:
    """Read a patient, a second time if the process died. Return the reason if this fails."""
    for is_last in (False, True):
        try:
            return worker.run(patient, options)
        except WorkerStoppedError as error:
            if is_last or not error.died:
                return error.reason
        except ImportError:
            raise
        except Exception as error:
            if getattr(error, "is_tgmm_error", False):  # the user can mend it
                raise
            return reason_of(error)
    raise AssertionError("unreachable")
