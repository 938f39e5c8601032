"""ECG and echo files that hold no evidence, each with a reason. The paper dropped 10 ECGs and 4 echos as "anomalous".

The amplitude limits are those of the feature extractor, so a file that passes here passes `tgmm prepare`.
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
from tgmm_hf.utils.child_process import end_with_parent
from tgmm_hf.utils.errors import InputRefusedError

ECG_SECONDS, TOLERANCE_SECONDS = 10.0, 0.1
MIN_LEADS = 6

ECG_REASONS = ("ECG unreadable", "ECG of wrong duration", "ECG flat", "ECG of implausible amplitude")
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
        One row per anomaly: id (hadm_id), item, reason, stay (True if the stay is excluded, False for a single clip).
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
    """Make the table of `check_stays` without rows."""
    kinds = {"id": "Int64", "item": "string", "reason": "string", "stay": "bool"}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})


def check_ecg(path: str | Path) -> str | None:
    """Give the reason from `ECG_REASONS` against a recording, or None.

    A recording is flat if fewer than six leads span 0.01 mV. Its amplitude is implausible if the typical lead departs
    more than 20 mV from its median, or if the largest lead spans less than 0.05 mV.
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
    return None


def check_clip(path: str | Path, min_frames: int) -> str | None:
    """Give the reason against a clip, or None. The frames that the model would see are decoded.

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
    """Check every clip of the stays: hadm_id, dicom_filepath, reason (missing if the clip is usable)."""
    clips = database.execute(
        "SELECT c.hadm_id, r.dicom_filepath FROM echo_records AS r JOIN candidates AS c ON r.study_id = "
        "c.echo_study_id ORDER BY c.hadm_id, r.dicom_filepath"
    ).df()
    clips = clips[clips.hadm_id.isin(stays.hadm_id)]
    check = partial(check_clip, min_frames=rules.min_clip_frames)
    clips["reason"] = list(_run(check, [directory / path for path in clips.dicom_filepath], workers, "clips"))
    return clips


def _run(check: Callable[[Path], str | None], paths: Iterable[Path], workers: int, unit: str) -> Iterator[str | None]:
    """Run a check on every path, in order."""
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
    """Silence the log of pydicom, because it names damaged files by their paths. They are counted instead."""
    logging.getLogger("pydicom").setLevel(logging.ERROR)
