"""PTB-XL as arrays: .npz files with ecg_id and signal (recordings, samples, 12), written as WFDB recordings.

Such arrays are often z-scored. So they are written in "NU" (normalised units), which the ECG reader takes as such.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import wfdb

from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import LEADS

ARRAY_SECONDS = 10


def find_arrays(directory: Path) -> tuple[list[Path], list[Path]]:
    """Find the files of arrays and the tables of labels beside them.

    Raises:
        FileNotFoundError: If either is missing.
    """
    arrays = sorted(directory.glob("*.npz"))
    labels = sorted(set(directory.glob("*.csv")) - {directory / "scp_statements.csv"})
    if not arrays or not labels:
        raise FileNotFoundError(
            f"{directory} holds neither ptbxl_database.csv nor an .npz of arrays and a CSV of labels beside "
            f"scp_statements.csv (found {len(arrays)} and {len(labels)})."
        )
    return arrays, labels


def write_recordings(paths: list[Path], wanted: list[int], out: Path) -> None:
    """Write arrays as WFDB recordings, one by one. Recordings that exist stay.

    Args:
        paths: .npz files.
        wanted: ecg_id of the recordings to write.
        out: Directory of the recordings.

    Raises:
        TgmmError: If a wanted recording is in none of the files, or a file cannot be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    left = {int(number) for number in wanted}
    for path in paths:
        signals = _read_arrays(path)
        rate = next(iter(signals.values())).shape[0] / ARRAY_SECONDS
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            for name, values in _missing_recordings(sorted(left & signals.keys()), signals, out):
                wfdb.wrsamp(name, rate, ["NU"] * 12, list(LEADS), values, fmt=["16"] * 12, write_dir=scratch)
                for suffix in (".dat", ".hea"):  # the header last, because it vouches for the recording
                    shutil.move(Path(scratch) / f"{name}{suffix}", out / f"{name}{suffix}")
        left -= signals.keys()
    if left:
        names = ", ".join(path.name for path in paths)
        raise TgmmError(
            names, f"no signal of {len(left)} labelled recordings, for example of {min(left)}: add the file with them."
        )


def _read_arrays(path: Path) -> dict[int, np.ndarray]:
    """Read one file as ecg_id -> signal (samples, 12)."""
    with np.load(path) as content:
        if missing := {"ecg_id", "signal"} - set(content.files):
            raise TgmmError(path.name, f"lacks {', '.join(sorted(missing))}; it has {', '.join(content.files)}.")
        identifiers, signal = content["ecg_id"], content["signal"]
    if signal.ndim != 3 or signal.shape[2] != len(LEADS) or not len(identifiers) == len(signal) > 0:
        raise TgmmError(
            path.name,
            f"signal has the shape {signal.shape} for {len(identifiers)} ecg_id, expected "
            f"(recordings, samples, {len(LEADS)}).",
        )
    _check_lead_order(signal, path.name)
    return {int(number): values for number, values in zip(identifiers, signal, strict=True)}


def _missing_recordings(
    wanted: list[int], signals: dict[int, np.ndarray], out: Path
) -> Iterator[tuple[str, np.ndarray]]:
    for number in wanted:
        name = f"{number:05d}"
        if not (out / f"{name}.hea").is_file():
            yield name, signals[number].astype(np.float64)


def _check_lead_order(signal: np.ndarray, item: str) -> None:
    """Refuse arrays that are not in the lead order of `LEADS`, which is PTB-XL's. The arrays name no leads.

    Einthoven's law shows the order: the limb leads are weighted sums of I and II, and filtering and scaling each lead
    keep the signs of the weights. The signs are III -+, aVR --, aVL +-, aVF -+. So III and aVF cannot be told apart,
    but each of them can be told from the others.
    """
    signs = {"III": (-1, 1), "aVR": (-1, -1), "aVL": (1, -1), "aVF": (-1, 1)}
    for lead, expected in signs.items():
        weights = []
        for recording in signal[:50].astype(np.float64):
            weight, *_ = np.linalg.lstsq(recording[:, :2], recording[:, LEADS.index(lead)], rcond=None)
            weights.append(np.sign(weight))
        if tuple(np.sign(np.sum(weights, axis=0))) != expected:
            raise TgmmError(
                item,
                f"channel {LEADS.index(lead) + 1} does not follow from I and II as {lead} does: reorder the leads to "
                f"{', '.join(LEADS)}.",
            )
