"""Find anomalous ECG and echo files, each with a reason. The paper excluded 10 ECGs and 4 echos as "anomalous".

The limits of the amplitude are the same as in the feature extractor, so that `tgmm prepare` takes every file that
passes the checks here.
"""

import logging
import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from tqdm import tqdm

from tgmm_hf.cohorts.mimic.rules import CurateRules
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_signal import FLAT_MV, IMPLAUSIBLE_MV, TINY_MV
from tgmm_hf.inputs.echo_reading import count_echo_frames, read_echo_clip
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.child_process import end_with_parent
from tgmm_hf.utils.errors import InputRefusedError

ECG_SECONDS, TOLERANCE_SECONDS = 10.0, 0.1
MIN_LEADS = 6

ECG_REASONS = (
    *("ECG unreadable", "ECG of wrong duration", "ECG flat", "ECG of implausible amplitude"),
    "ECG without heartbeat, or its leads contradict each other",
)
NO_CLIP = "no usable echo clip"


def check_stays(
    database: duckdb.DuckDBPyConnection, rules: CurateRules, sources: Mapping[str, Path | None], workers: int
) -> pd.DataFrame:
    """Check the files of the stays that would be included.

    Args:
        database: The database after the steps that find candidates and their laboratory cells.
        rules: Rules of the cohort.
        sources: Name of each source -> its directory, None if it was not given.
        workers: Number of worker processes.

    Returns:
        One row per anomaly. Columns: id (hadm_id of the stay), item (the file), reason, and stay: True if the whole
        stay is excluded, False if only one clip is.
    """
    stays = database.execute(
        "SELECT hadm_id, ecg_path, echo_study_id FROM candidates WHERE hadm_id IN (SELECT hadm_id FROM lab_cells) "
        "AND NOT coalesce(hours_apart > getvariable('max_hours_apart'), FALSE) ORDER BY hadm_id"
    ).df()
    rows: list[dict[str, Any]] = []
    if (ecg_directory := sources["mimic_ecg"]) is not None:
        rows += _anomalous_ecgs(stays, ecg_directory, workers)
    if (echo_directory := sources["mimic_echo"]) is not None:
        excluded = {row["id"] for row in rows}
        clips = _checked_clips(database, stays, echo_directory, rules, workers)
        for clip in clips[clips.reason.notna()].itertuples():
            rows.append({"id": clip.hadm_id, "item": clip.dicom_filepath, "reason": clip.reason, "stay": False})
        without_clip = clips.groupby("hadm_id").reason.apply(lambda reasons: reasons.notna().all())
        for hadm_id in without_clip[without_clip].index.difference(sorted(excluded)):
            rows.append({"id": hadm_id, "item": "echo study", "reason": NO_CLIP, "stay": True})
    return pd.concat([no_anomalies(), pd.DataFrame(rows)]) if rows else no_anomalies()


def no_anomalies() -> pd.DataFrame:
    """Return an empty table with the columns of `check_stays`."""
    kinds = {"id": "Int64", "item": "string", "reason": "string", "stay": "bool"}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})


def check_ecg(path: str | Path) -> str | None:
    """Read a recording. Return a reason of `ECG_REASONS` why it is anomalous, or None.

    The span of a lead is its largest minus its smallest value. A recording is flat if fewer than six leads have a span
    of at least 0.01 mV. Its amplitude is implausible if half of the leads depart more than 20 mV from their median, or
    if no lead has a span of at least 0.05 mV. A recording with fewer than six leads counts as unreadable. Last come the
    checks that `tgmm prepare` makes too (`ecg_checks.py`).
    """
    try:
        recording = read_ecg(path)
    except (InputRefusedError, OSError):
        return "ECG unreadable"
    if abs(recording.signal.shape[1] / recording.sampling_rate - ECG_SECONDS) > TOLERANCE_SECONDS:
        return "ECG of wrong duration"
    leads = recording.signal[~np.isnan(recording.signal).all(axis=1)]
    if len(leads) < MIN_LEADS:
        return "ECG unreadable"
    spans = np.nanmax(leads, axis=1) - np.nanmin(leads, axis=1)
    if (spans >= FLAT_MV).sum() < MIN_LEADS:
        return "ECG flat"
    peaks = np.nanmax(np.abs(leads - np.nanmedian(leads, axis=1, keepdims=True)), axis=1)
    if np.median(peaks) > IMPLAUSIBLE_MV or spans.max() < TINY_MV:
        return "ECG of implausible amplitude"
    try:
        EcgFeatureExtractor().harmonise(recording)
    except InputRefusedError:
        return ECG_REASONS[-1]
    return None


def check_clip(path: str | Path, min_frames: int) -> str | None:
    """Read a clip, and decode the frames that the model would see. Return a reason why it is anomalous, or None.

    Args:
        path: DICOM file.
        min_frames: A clip with fewer frames is too short.

    Returns:
        "no file", "single frame", "too short", "corrupt" or None.
    """
    if not Path(path).is_file():
        return "no file"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of pydicom name the file, and the file names the patient
            frames = count_echo_frames(path)
            if frames < min_frames:
                return "too short"
            read_echo_clip(path)
    except InputRefusedError as error:
        return "single frame" if "single-frame still" in error.reason else "corrupt"
    except OSError:
        return "corrupt"
    return None


def _anomalous_ecgs(stays: pd.DataFrame, directory: Path, workers: int) -> list[dict[str, Any]]:
    reasons = _run(check_ecg, [directory / path for path in stays.ecg_path], workers, "ECGs")
    return [
        {"id": stay.hadm_id, "item": stay.ecg_path, "reason": reason, "stay": True}
        for stay, reason in zip(stays.itertuples(), reasons, strict=True)
        if reason is not None
    ]


def _checked_clips(
    database: duckdb.DuckDBPyConnection, stays: pd.DataFrame, directory: Path, rules: CurateRules, workers: int
) -> pd.DataFrame:
    """Check every clip of the stays.

    Args:
        database: The database with the tables echo_records and candidates.
        stays: Table with the column hadm_id.
        directory: Directory of MIMIC-IV-ECHO.
        rules: Rules of the cohort.
        workers: Number of worker processes.

    Returns:
        One row per clip: hadm_id, dicom_filepath, and reason, which is missing if the clip can be used.
    """
    clips = database.execute(
        "SELECT c.hadm_id, r.dicom_filepath FROM echo_records AS r JOIN candidates AS c ON r.study_id = "
        "c.echo_study_id ORDER BY c.hadm_id, r.dicom_filepath"
    ).df()
    clips = clips[clips.hadm_id.isin(stays.hadm_id)]
    check = partial(check_clip, min_frames=rules.min_clip_frames)
    clips["reason"] = list(_run(check, [directory / path for path in clips.dicom_filepath], workers, "clips"))
    return clips


def _run(check: Callable[[Path], str | None], paths: Iterable[Path], workers: int, unit: str) -> Iterator[str | None]:
    """Run a check on every path in `workers` processes. Yield its results in the order of `paths`.

    `unit` is the word for the items in the progress bar.
    """
    paths = list(paths)
    progress = partial(tqdm, total=len(paths), desc="curate", unit=f" {unit}")
    _quiet()
    if workers <= 1:
        yield from progress(map(check, paths))
        return
    # Not "fork", because threads of DuckDB and PyTorch do not survive it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
        yield from progress(pool.map(check, paths, chunksize=8))


def _start_worker() -> None:
    end_with_parent()
    _quiet()


def _quiet() -> None:
    """Silence the log of pydicom, because it prints the paths of damaged files, and a path may name a patient."""
    logging.getLogger("pydicom").setLevel(logging.ERROR)
