"""Files of ECGs or X-rays -> what an encoder reads, once: an array on the disk or in memory.

ECGs are stored in half precision. Their values are between 0 and 1 (MEIT) or a few standard deviations (ST-MEM). Half
precision changes a value between 0 and 1 by at most 0.00025, which is about one microvolt of an ECG with a range of
4 mV.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from tgmm_hf.data.file_reading import file_state
from tgmm_hf.data.instructions import Instruction
from tgmm_hf.data.watched_files import ProcessedFile, process_watched, result_of
from tgmm_hf.inputs.input_limits import is_unreadable
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json, write_json
from tgmm_hf.utils.names import LEADS
from tgmm_hf.utils.output_lock import check_room, only_run

FORMAT = 1
"""Increase it when files are read or checked in another way, so that no old cache is used."""
STEP = 500
"""Number of files after which an unfinished cache notes how far it is."""

ReadFile = Callable[[int], Any]
"""Function of the number of a file. It returns what the extractor takes: a path, or what was read from it."""


class Extractor(Protocol):
    """Makes the array of one file.

    It also has `cached_shape`, the shape of this array, or `num_samples` for 12 leads; and `cached_dtype` if the type
    is not float16.
    """

    def prepare(self, file: Any, /) -> Any:
        """Return an object whose `values` is the array. Raise a refusal for a file that cannot be used."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, which name the cache."""


@dataclass(frozen=True)
class ProcessedArrays:
    """The arrays of files.

    Attributes:
        values: (files, ...): (ECGs, 12, samples) float16, or another array from the extractor. The row of a file that
            was refused is 0.
        refused: Number of a refused file -> reason.
    """

    values: np.ndarray
    refused: dict[int, str]

    def usable(self, numbers: Sequence[int]) -> list[int]:
        """Return the numbers whose file was not refused."""
        return [number for number in numbers if number not in self.refused]


def process_files(
    number: int,
    read: ReadFile,
    extractor: Extractor,
    *,
    cache: Path | None = None,
    data_hash: str = "",
    workers: int = 0,
) -> ProcessedArrays:
    """Process files, or open the cache in which an earlier call has stored the same files.

    A stopped call goes on where it was. Only one call fills a cache at a time, because a second one would empty it.

    Args:
        number: Number of files.
        read: Gives the file of a number.
        extractor: A feature extractor of ECGs, or another [`Extractor`].
        cache: Directory of the cache. None keeps the arrays in memory.
        data_hash: Digest of the data, which names the files in the cache.
        workers: Number of worker processes. They are watched: a file that takes too long, too much memory or kills its
            process is refused. 0 processes the files in this process.

    Raises:
        TgmmError: if another run of this machine fills the cache now, or files could not be read now. All others are in
            the cache then, and the next call reads the rest.
    """
    given: Any = extractor
    of_one = getattr(given, "cached_shape", None) or (len(LEADS), given.num_samples)
    shape, dtype = (number, *of_one), getattr(extractor, "cached_dtype", np.float16)

    def process(numbers: Sequence[int]) -> Iterator[ProcessedFile]:
        if workers:
            return process_watched(numbers, read, extractor, workers)
        return (result_of(partial(_values_of, extractor, read, one)) for one in numbers)

    if cache is None or not number:
        filled, values = _Filled(), np.zeros(shape, dtype)
        _fill(values, filled, process, lambda: None)
        return ProcessedArrays(values, filled.refused)
    name = json_digest({"data": data_hash, "extractor": extractor.to_dict(), "format": FORMAT})[:32]
    file, state = cache / f"{name}.npy", cache / f"{name}.json"
    if _Filled.saved(file, state).missing(number):
        with only_run(file):
            _fill_cache(file, state, (shape, dtype), process)
    return ProcessedArrays(np.load(file, mmap_mode="r"), _Filled.saved(file, state).refused)


class RowsOfEcgs:
    """The ECG of each row, where several rows are about one ECG. It is indexed like the array of [`ProcessedArrays`].

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
    rows: Sequence[Instruction],
    extractor: Extractor,
    *,
    cache: Path | None = None,
    data_hash: str = "",
    workers: int = 0,
) -> ProcessedArrays:
    """Process the ECGs of rows as [`process_files`] does. An ECG that several rows are about is processed once.

    Args:
        rows: Rows of an instruction file or a bench file.
        extractor: As in [`process_files`].
        cache: As in [`process_files`].
        data_hash: As in [`process_files`].
        workers: As in [`process_files`].

    Returns:
        The ECGs, numbered by row.
    """
    paths = list(dict.fromkeys(row.ecg for row in rows))
    ecgs = process_files(
        len(paths), lambda number: paths[number], extractor, cache=cache, data_hash=data_hash, workers=workers
    )
    if len(paths) == len(rows):
        return ecgs
    number_of = {path: number for number, path in enumerate(paths)}
    places = [number_of[row.ecg] for row in rows]
    refused = {row: ecgs.refused[number] for row, number in enumerate(places) if number in ecgs.refused}
    return ProcessedArrays(RowsOfEcgs(ecgs.values, places), refused)  # type: ignore[arg-type] # it is only indexed


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


@dataclass
class _Filled:
    """How far a cache is.

    Attributes:
        done: All files below this number were tried.
        refused: Number of a refused file -> reason.
        unreadable: Numbers of files that could not be read. They may be good, so that the next call tries them again.
    """

    done: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    unreadable: set[int] = field(default_factory=set)

    @classmethod
    def saved(cls, file: Path, state: Path) -> "_Filled":
        """Read the state of a cache; that of an empty one if there is none."""
        if not (state.is_file() and file.is_file()):
            return cls()
        saved = read_json(state)
        refused = {int(key): reason for key, reason in saved["refused"].items()}
        return cls(saved["done"], refused, set(saved.get("unreadable", ())))

    def missing(self, number: int) -> list[int]:
        """List the files of `number` that have to be processed."""
        return [*sorted(self.unreadable), *range(self.done, number)]

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {"done": self.done, "refused": self.refused, "unreadable": sorted(self.unreadable)}


def _values_of(extractor: Extractor, read: ReadFile, number: int) -> np.ndarray:
    """Process the file of a number in this process."""
    values: np.ndarray = extractor.prepare(read(number)).values
    return values


def _fill_cache(
    file: Path,
    state: Path,
    form: tuple[tuple[int, ...], Any],
    process: Callable[[Sequence[int]], Iterator[ProcessedFile]],
) -> None:
    """Process the files that a cache lacks.

    Args:
        file: The array of the cache.
        state: The file beside it that says how far it is.
        form: Shape (files, ...) and type of the array.
        process: Gives the results of the files of some numbers, in order.
    """
    filled = _Filled.saved(file, state)
    values = _open(file, *form, is_new=not filled.done)

    def note() -> None:
        values.flush()
        write_json(state, filled.to_dict())

    _fill(values, filled, process, note)


def _open(file: Path, shape: tuple[int, ...], dtype: Any, is_new: bool) -> np.memmap:
    """Open the file of a cache that is not finished. A new one is made, if the disk has room for it."""
    if is_new:
        check_room(file.parent, np.dtype(dtype).itemsize * int(np.prod(shape)))
        file.parent.mkdir(parents=True, exist_ok=True)
        return np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    return np.lib.format.open_memmap(file, mode="r+")


def _fill(
    values: np.ndarray,
    filled: _Filled,
    process: Callable[[Sequence[int]], Iterator[ProcessedFile]],
    note: Callable[[], None],
) -> None:
    """Process the files that are missing into `values`, in place, and count them in `filled`.

    `note` is called now and then, and at the end.
    """
    numbers = filled.missing(len(values))
    results = zip(tqdm(numbers, desc="files", disable=None), process(numbers), strict=True)
    for count, (number, result) in enumerate(results, 1):
        filled.unreadable.discard(number)
        if result.values is not None:
            values[number] = result.values
        elif is_unreadable(str(result.reason)):
            filled.unreadable.add(number)
        else:
            filled.refused[number] = str(result.reason)
        filled.done = max(filled.done, number + 1)
        if count % STEP == 0 or count == len(numbers):
            note()
    if filled.unreadable:
        raise TgmmError(
            f"{len(filled.unreadable)} file(s)",
            "could not be read: check the disk and the permissions, then run the same command again. What is done is "
            "kept.",
        )
