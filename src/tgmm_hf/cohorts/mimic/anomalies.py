"""Files that cannot carry evidence, each with a reason: the paper dropped 10 ECGs and 4 echos as "anomalous".

ECG: unreadable, wrong duration, flat, implausible amplitude. Echo clip: single frame, too short, corrupt. The limits of
amplitude are those of the feature extractor, so what passes here passes `tgmm prepare`.
"""

import logging
import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_signal import FLAT_MV, IMPLAUSIBLE_MV, TINY_MV
from tgmm_hf.inputs.echo_reading import count_echo_frames, read_echo_clip
from tgmm_hf.utils.child_process import end_with_parent
from tgmm_hf.utils.errors import InputRefusedError

ECG_SECONDS, TOLERANCE_SECONDS = 10.0, 0.1
MIN_LEADS = 6

ECG_REASONS = ("ECG unreadable", "ECG of wrong duration", "ECG flat", "ECG of implausible amplitude")
ECHO_REASONS = ("no file", "single frame", "too short", "corrupt")


def check_ecg(path: str | Path) -> str | None:
    """Which of `ECG_REASONS` speaks against a record, or None.

    A record is flat when fewer than six leads span 0.01 mV, of implausible amplitude when its typical lead departs more
    than 20 mV from its median, or its largest spans less than 0.05 mV.
    """
    try:
        record = read_ecg(path)
    except (InputRefusedError, OSError):
        return "ECG unreadable"
    if abs(record.signal.shape[1] / record.sampling_rate - ECG_SECONDS) > TOLERANCE_SECONDS:
        return "ECG of wrong duration"
    leads = record.signal[~np.isnan(record.signal).all(axis=1)]
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
    """Which of `ECHO_REASONS` speaks against a clip, or None; decodes the frames that the model would see."""
    if not Path(path).is_file():
        return "no file"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings name the file, which names the patient
            frames = count_echo_frames(path)
            if frames < min_frames:
                return "too short"
            read_echo_clip(path)
    except InputRefusedError as error:
        return "single frame" if "single-frame still" in error.reason else "corrupt"
    except OSError:
        return "corrupt"
    return None


def check_ecgs(paths: Iterable[Path], workers: int) -> Iterator[str | None]:
    """`check_ecg` of every path, in order."""
    return _run(check_ecg, list(paths), workers, "ECGs")


def check_clips(paths: Iterable[Path], min_frames: int, workers: int) -> Iterator[str | None]:
    """`check_clip` of every path, in order."""
    return _run(partial(check_clip, min_frames=min_frames), list(paths), workers, "clips")


def _run(check: Callable[[Path], str | None], paths: list[Path], workers: int, unit: str) -> Iterator[str | None]:
    progress = partial(tqdm, total=len(paths), desc="curate", unit=f" {unit}")
    _quiet()
    if workers <= 1:
        yield from progress(map(check, paths))
        return
    # not "fork": the threads of DuckDB and PyTorch do not survive it
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
        yield from progress(pool.map(check, paths, chunksize=8))


def _start_worker() -> None:
    end_with_parent()
    _quiet()


def _quiet() -> None:
    """pydicom logs damaged files by their paths; here they are counted instead."""
    logging.getLogger("pydicom").setLevel(logging.ERROR)
