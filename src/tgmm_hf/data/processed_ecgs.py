"""ECG files -> what the encoder of MEIT reads, once: an array in half precision, on the disk or in memory.

The values are between 0 and 1 (MEIT) or a few standard deviations (ST-MEM). Half precision changes a value between 0
and 1 by at most 0.00025, which is about one microvolt of an ECG with a range of 4 mV.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tgmm_hf.data.file_reading import file_state
from tgmm_hf.data.instructions import Instruction
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import is_refusal
from tgmm_hf.utils.files import read_json, write_json
from tgmm_hf.utils.names import LEADS
from tgmm_hf.utils.output_lock import check_room, only_run

FORMAT = 1
"""Increase it when ECGs are read or checked in another way, so that no old cache is used."""
STEP = 500
"""Number of ECGs after which an unfinished cache notes how far it is."""

ReadEcg = Callable[[int], Any]
"""Function of the number of an ECG. It returns what the feature extractor takes."""


@dataclass(frozen=True)
class ProcessedEcgs:
    """Processed ECGs.

    Attributes:
        values: (ECGs, 12, samples) float16, or another array from the extractor. A row of an ECG that was refused is 0.
        refused: Number of a refused ECG -> reason.
    """

    values: np.ndarray
    refused: dict[int, str]

    def usable(self, numbers: Sequence[int]) -> list[int]:
        """Return the numbers whose ECG was not refused."""
        return [number for number in numbers if number not in self.refused]


def process_ecgs(
    number: int,
    read: ReadEcg,
    extractor: Any,
    *,
    cache: Path | None = None,
    data_hash: str = "",
) -> ProcessedEcgs:
    """Process ECGs, or open the cache in which an earlier call has stored the same ECGs.

    A stopped call goes on where it was. Only one call fills a cache at a time, because a second one would empty it.

    Args:
        number: Number of ECGs.
        read: Reads the ECG of a number.
        extractor: `MeitFeatureExtractor` or `EcgFeatureExtractor`, or an object with `prepare`, `to_dict`,
            `cached_shape` (the shape of what `prepare` returns) and, where it is not float16, `cached_dtype`.
        cache: Directory of the cache. None keeps the ECGs in memory.
        data_hash: Digest of the data, which names the ECGs in the cache.

    Raises:
        TgmmError: if another run of this machine fills the cache now.
    """
    of_one = getattr(extractor, "cached_shape", None) or (len(LEADS), extractor.num_samples)
    shape, dtype = (number, *of_one), getattr(extractor, "cached_dtype", np.float16)
    if cache is None or not number:
        values = np.zeros(shape, dtype)
        return ProcessedEcgs(values, _fill(values, read, extractor, range(number), {}, None))
    name = json_digest({"data": data_hash, "extractor": extractor.to_dict(), "format": FORMAT})[:32]
    file, state = cache / f"{name}.npy", cache / f"{name}.json"
    if _state(file, state)["done"] < number:
        with only_run(file):
            _fill_cache(file, state, (shape, dtype), read, extractor)
    refused = {int(key): reason for key, reason in _state(file, state)["refused"].items()}
    return ProcessedEcgs(np.load(file, mmap_mode="r"), refused)


class RowsOfEcgs:
    """The ECG of each row, where several rows are about one ECG. It is indexed like the array of [`ProcessedEcgs`].

    Args:
        values: (ECGs, 12, samples).
        places: Number of the ECG of each row.
    """

    def __init__(self, values: np.ndarray, places: Sequence[int]) -> None:
        self.values, self.places = values, places

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the ECG (12, samples) of a row."""
        return np.asarray(self.values[self.places[row]])


def process_rows(
    rows: Sequence[Instruction], extractor: Any, *, cache: Path | None = None, data_hash: str = ""
) -> ProcessedEcgs:
    """Process the ECGs of rows as [`process_ecgs`] does. An ECG that several rows are about is processed once.

    Args:
        rows: Rows of an instruction file or a bench file.
        extractor: As in [`process_ecgs`].
        cache: As in [`process_ecgs`].
        data_hash: As in [`process_ecgs`].

    Returns:
        The ECGs, numbered by row.
    """
    paths = list(dict.fromkeys(row.ecg for row in rows))
    ecgs = process_ecgs(len(paths), lambda number: paths[number], extractor, cache=cache, data_hash=data_hash)
    if len(paths) == len(rows):
        return ecgs
    number_of = {path: number for number, path in enumerate(paths)}
    places = [number_of[row.ecg] for row in rows]
    refused = {row: ecgs.refused[number] for row, number in enumerate(places) if number in ecgs.refused}
    return ProcessedEcgs(RowsOfEcgs(ecgs.values, places), refused)  # type: ignore[arg-type] # it is only indexed


def digest_of_ecgs(rows: Sequence[Instruction]) -> str:
    """Compute a digest of the path, size and time of change of each recording.

    Two instruction files about the same recordings, in the same order, share a cache.

    Args:
        rows: The rows whose ECGs are processed.
    """
    suffixes = ("", ".hea", ".dat", ".mat")
    paths = dict.fromkeys(row.ecg for row in rows)
    states = [[path, *(file_state(Path(f"{path}{suffix}")) for suffix in suffixes)] for path in paths]
    return json_digest(states)


def _state(file: Path, state: Path) -> dict[str, Any]:
    """Return how far a cache is: "done", the number of its ECGs, and "refused", number of an ECG -> reason."""
    return read_json(state) if state.is_file() and file.is_file() else {"done": 0, "refused": {}}


def _fill_cache(file: Path, state: Path, form: tuple[tuple[int, ...], Any], read: ReadEcg, extractor: Any) -> None:
    """Process the ECGs that a cache lacks.

    Args:
        file: The array of the cache.
        state: The file beside it that says how far it is.
        form: Shape (ECGs, ...) and type of the array.
        read: Reads an ECG.
        extractor: The feature extractor.
    """
    saved = _state(file, state)
    refused = {int(key): reason for key, reason in saved["refused"].items()}
    values = _open(file, *form, is_new=not saved["done"])

    def note(done: int) -> None:
        values.flush()
        write_json(state, {"done": done, "refused": refused})

    _fill(values, read, extractor, range(saved["done"], form[0][0]), refused, note)


def _open(file: Path, shape: tuple[int, ...], dtype: Any, is_new: bool) -> np.memmap:
    """Open the file of a cache that is not finished. A new one is made, if the disk has room for it."""
    if is_new:
        check_room(file.parent, np.dtype(dtype).itemsize * int(np.prod(shape)))
        file.parent.mkdir(parents=True, exist_ok=True)
        return np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    return np.lib.format.open_memmap(file, mode="r+")


def _fill(
    values: np.ndarray,
    read: ReadEcg,
    extractor: Any,
    numbers: range,
    refused: dict[int, str],
    note: Callable[[int], None] | None,
) -> dict[int, str]:
    """Process the ECGs `numbers` into `values`, in place. Return `refused` with the refused ECGs added.

    `note` is called with the number of finished ECGs now and then, and at the end.
    """
    for number in tqdm(numbers, desc="ECGs", disable=None):
        try:
            values[number] = extractor.prepare(read(number)).values
        except ValueError as error:
            if not is_refusal(error):
                raise
            refused[number] = error.reason  # type: ignore[attr-defined]
        if note is not None and ((number + 1) % STEP == 0 or number + 1 == numbers.stop):
            note(number + 1)
    return refused
