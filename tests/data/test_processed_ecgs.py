"""The cache of processed ECGs: read once, in half precision, and a stopped reading goes on where it was."""

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from heart_signal import make_heart

from tgmm_hf import LEADS, MeitFeatureExtractor
from tgmm_hf.data import processed_ecgs
from tgmm_hf.data.instructions import Instruction, new_messages
from tgmm_hf.data.processed_ecgs import process_files, process_rows
from tgmm_hf.data.watched_files import process_watched
from tgmm_hf.inputs.input_limits import refusal_of
from tgmm_hf.utils.errors import InputRefusedError, TgmmError
from tgmm_hf.utils.watched_worker import Limits

EXTRACTOR = MeitFeatureExtractor(sampling_rate=100, num_samples=1000)


def read(number: int) -> dict:
    if number == 2:
        raise InputRefusedError("ecg", "it cannot be used")
    return {"signal": make_heart(5000, 500, number), "sampling_rate": 500, "lead_names": list(LEADS)}


def test_values_are_those_of_the_extractor_and_a_refusal_is_kept(tmp_path: Path):
    for cache in (None, tmp_path):
        ecgs = process_files(5, read, EXTRACTOR, cache=cache, data_hash="a")
        assert ecgs.refused == {2: "it cannot be used"} and ecgs.usable(range(5)) == [0, 1, 3, 4]
        assert ecgs.values.dtype == np.float16 and ecgs.values.shape == (5, 12, 1000)
        for number in (0, 4):
            exact = EXTRACTOR.prepare(read(number)).values
            assert np.abs(ecgs.values[number].astype(np.float32) - exact).max() <= 0.00025
    assert not ecgs.values[2].any()


def test_a_stopped_reading_goes_on_and_a_finished_one_reads_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(processed_ecgs, "STEP", 2)
    numbers = []

    def stopping(number: int) -> dict:
        numbers.append(number)
        if len(numbers) == 4:
            raise KeyboardInterrupt
        return read(number)

    with pytest.raises(KeyboardInterrupt):
        process_files(5, stopping, EXTRACTOR, cache=tmp_path, data_hash="a")
    ecgs = process_files(5, stopping, EXTRACTOR, cache=tmp_path, data_hash="a")
    assert numbers == [0, 1, 2, 3, 2, 3, 4]
    np.testing.assert_array_equal(ecgs.values, process_files(5, read, EXTRACTOR).values)
    process_files(5, stopping, EXTRACTOR, cache=tmp_path, data_hash="a")
    assert len(numbers) == 7
    process_files(5, stopping, MeitFeatureExtractor(), cache=tmp_path, data_hash="a")  # another window is read anew
    assert len(numbers) == 12


def test_only_one_call_fills_a_cache(tmp_path: Path):
    """A second call would begin at the first ECG and leave zeros in the array of the first call."""

    def second_call(number: int) -> dict:
        with pytest.raises(TgmmError, match="another run"):
            process_files(5, read, EXTRACTOR, cache=tmp_path, data_hash="a")
        return read(number)

    process_files(5, second_call, EXTRACTOR, cache=tmp_path, data_hash="a")
    np.testing.assert_array_equal(
        process_files(5, second_call, EXTRACTOR, cache=tmp_path, data_hash="a").values,
        process_files(5, read, EXTRACTOR).values,
    )


def test_an_ecg_of_several_rows_is_read_once(tmp_path: Path, monkeypatch):
    """A bench file asks several questions about one ECG."""
    paths = [f"ecg{number}" for number in (0, 1, 0, 2, 1, 0)]
    rows = [Instruction(str(n), "synthetic", "p", "test", path, new_messages("a", "b")) for n, path in enumerate(paths)]
    asked = []

    class Counting:
        num_samples = EXTRACTOR.num_samples

        def to_dict(self) -> dict:
            return EXTRACTOR.to_dict()

        def prepare(self, path: str) -> Any:
            asked.append(path)
            return EXTRACTOR.prepare(read(int(path[3:])))

    for cache in (None, tmp_path):
        asked.clear()
        ecgs = process_rows(rows, Counting(), cache=cache, data_hash="a")
        assert asked == ["ecg0", "ecg1", "ecg2"]
        assert ecgs.refused == {3: "it cannot be used"} and ecgs.usable(range(6)) == [0, 1, 2, 4, 5]
        np.testing.assert_array_equal(ecgs.values[5], ecgs.values[0])
        assert not np.array_equal(ecgs.values[4], ecgs.values[0])


def test_a_file_that_cannot_be_read_now_is_tried_again(tmp_path: Path):
    numbers, failing = [], {1, 3}

    def reading(number: int) -> dict:
        numbers.append(number)
        if number in failing:
            raise refusal_of(OSError(errno.EIO, "disk"), "ecg")
        return read(number)

    for cache in (None, tmp_path):
        with pytest.raises(TgmmError, match=r"2 file\(s\): could not be read"):
            process_files(5, reading, EXTRACTOR, cache=cache, data_hash="a")
    failing.clear(), numbers.clear()
    ecgs = process_files(5, reading, EXTRACTOR, cache=tmp_path, data_hash="a")
    assert numbers == [1, 3] and ecgs.refused == {2: "it cannot be used"}
    np.testing.assert_array_equal(ecgs.values, process_files(5, read, EXTRACTOR).values)


class DeadlyExtractor:
    """Gives the number of a file as its array. The process of file 1 dies, file 3 takes too long, 5 is damaged."""

    cached_shape = (1,)

    def prepare(self, number: int) -> SimpleNamespace:
        if number == 1:
            os._exit(7)
        if number == 3:
            time.sleep(600)
        if number == 4:
            raise InputRefusedError("ecg", "it cannot be used")
        if number == 5:
            raise KeyError("name of a patient")
        return SimpleNamespace(values=np.full(1, number + 0.5))

    def to_dict(self) -> dict:
        return {}


def test_worker_processes_give_the_same_values_in_the_same_order(tmp_path: Path):
    one, two = (process_files(6, read, EXTRACTOR, cache=tmp_path, data_hash=str(n), workers=n) for n in (0, 2))
    assert one.refused == two.refused == {2: "it cannot be used"}
    np.testing.assert_array_equal(one.values, two.values)


def test_a_file_that_kills_or_blocks_its_process_is_refused_and_the_others_are_read():
    results = list(process_watched(range(7), int, DeadlyExtractor(), 2, Limits(seconds=1)))
    assert [None if result.values is None else float(result.values[0]) for result in results] == [
        *(0.5, None, 2.5),
        *(None, None, None, 6.5),
    ]
    assert "exit code 7" in results[1].reason and "limit of 1 s" in results[3].reason
    assert [result.reason for result in results[4:6]] == [
        "it cannot be used",
        "unexpected: KeyError while the file was read",
    ]
