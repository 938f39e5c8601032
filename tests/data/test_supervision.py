"""`tgmm prepare` with files that make a reader fail, hang, die or grow, and with files that are away for a moment."""

import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest
from cohort_files import cohort_rows, small_config, small_processor, write_ecg, write_table
from planted_readers import PlantedExtractor
from prepared_files import all_bytes, arrow_bytes, refused_rows, start_in_new_process

from tgmm_hf.data import engines as engines_module
from tgmm_hf.data import file_reading
from tgmm_hf.data import prepare as prepare_module
from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.prepare import load_prepared, prepare
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.watched_worker import Limits

PATIENT = Limits(seconds=60)


@pytest.fixture(scope="module")
def planted():
    """Processor whose ECG reader fails at recordings of certain names."""
    processor = small_processor(small_config())
    processor.feature_extractor = PlantedExtractor()
    return processor


def table_of(folder, names):
    """Write a table with one admission for each ECG name, all with labs; and the recordings."""
    rows = cohort_rows(len(names))
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        row |= {"ecg_path": f"ecg/{name}", "echo_paths": "", "echo_views": "", "labs.Creatinine": 1, "split": "train"}
        write_ecg(folder / "ecg" / name, number)
    return write_table(folder / "cohort.csv", rows)


def ecg_lengths(out):
    """Read id -> number of samples of the ECG."""
    return {str(row["id"]): len(row["ecg"]) for row in load_prepared(out)["train"]}


def test_no_recording_stops_the_cohort(planted, tmp_path):
    """Every kind of exception and death: refused with its reason, the other inputs of all admissions stay."""
    faults = ["recursion", "memory", "notimplemented", "system", "exit", "kill"]
    table = table_of(tmp_path, ["0", *(f"{fault}-1" for fault in faults), "2"])
    summary = prepare(table, tmp_path / "out", planted, limits=PATIENT)
    refused = refused_rows(tmp_path / "out")
    assert {row["item"] for row in refused} == {"ecg"} and len(refused) == len(faults)
    reasons = {faults[int(row["id"][1:]) - 1]: row["reason"] for row in refused}
    assert not any("a value of the file" in reason for reason in reasons.values())
    assert reasons["notimplemented"].startswith("unexpected: NotImplementedError")
    for fault, words in (("system", "exit code 0"), ("exit", "exit code 3"), ("kill", "SIGKILL")):
        assert reasons[fault].startswith("unexpected: ") and words in reasons[fault]
    assert summary["refused"] == 6 and summary["unexpected"] == 4 and summary["counts"]["train"]["dropped"] == 0
    lengths = ecg_lengths(tmp_path / "out")
    assert {name for name, length in lengths.items() if length} == {"a0", "a7"} and len(lengths) == 8
    before = all_bytes(tmp_path / "out")
    prepare(table, tmp_path / "out", planted, limits=PATIENT)  # remembered: nothing is read again
    assert all_bytes(tmp_path / "out") == before


def test_a_worker_that_somebody_killed_costs_nothing(planted, tmp_path):
    table = table_of(tmp_path, ["0", "kill-1", "2"])
    (tmp_path / "ecg" / "kill-1.once").touch()
    assert prepare(table, tmp_path / "out", planted, limits=PATIENT)["refused"] == 0
    assert all(ecg_lengths(tmp_path / "out").values())


def test_a_limit_stops_a_recording_and_a_higher_limit_tries_it_again(planted, tmp_path):
    table = table_of(tmp_path, ["0", "hang-1", "2"])
    summary = prepare(table, tmp_path / "out", planted, limits=Limits(seconds=4))
    (refused,) = refused_rows(tmp_path / "out")
    assert refused["item"] == "ecg" and "limit of 4 s" in refused["reason"]
    assert summary["stopped"] == 1 and not summary["unexpected"]
    (tmp_path / "ecg" / "hang-1.mended").touch()
    assert prepare(table, tmp_path / "out", planted, limits=Limits(seconds=4))["refused"] == 1
    assert prepare(table, tmp_path / "out", planted, limits=PATIENT)["refused"] == 0
    prepare(table, tmp_path / "whole", planted, limits=None)
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "whole")


def test_a_recording_that_fills_the_memory_is_stopped(planted, tmp_path):
    table = table_of(tmp_path, ["0", "grow-1"])
    prepare(table, tmp_path / "out", planted, limits=Limits(seconds=120, memory=300 * 2**20))
    (refused,) = refused_rows(tmp_path / "out")
    assert refused["item"] == "ecg" and "memory" in refused["reason"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_huge_declared_sizes_are_refused(processor, tmp_path):
    table = table_of(tmp_path, ["0", "pipe", "huge", "long"])
    (tmp_path / "ecg" / "pipe.dat").unlink()
    os.mkfifo(tmp_path / "ecg" / "pipe.dat")
    header = (tmp_path / "ecg" / "huge.hea").read_text().splitlines()
    (tmp_path / "ecg" / "huge.hea").write_text("\n".join(["huge 12 500 1000000000000", *header[1:]]))
    text = table.read_text().replace("ecg/long", "ecg/" + 5000 * "x")
    table.write_text(text)
    summary = prepare(table, tmp_path / "out", processor, limits=PATIENT)
    assert [row["id"] for row in refused_rows(tmp_path / "out")] == ["a1", "a2", "a3"] and not summary["unexpected"]


def test_engines_and_processes_leave_out_the_same(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 1)
    table = table_of(tmp_path, ["0", "exit-1", "2", "notimplemented-3"])
    prepare(table, tmp_path / "one", planted, limits=PATIENT)
    prepare(table, tmp_path / "two", planted, limits=PATIENT, num_proc=2)

    def task_by_task(shards, preparer, out, num_proc, limits):
        for shard in shards:
            engines_module._write_shard_in(shard, preparer, out, Path.cwd(), limits)
            yield shard

    monkeypatch.setitem(prepare_module.ENGINES, "ray", task_by_task)
    prepare(table, tmp_path / "ray", planted, limits=PATIENT, engine="ray")
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "two") == all_bytes(tmp_path / "ray")


# ---- the file system


def failing_once(monkeypatch, number, error):
    """Let the ECG reader fail this number of times, in this process."""
    genuine, calls = EcgFeatureExtractor.harmonise, []

    def harmonise(self, ecg):
        calls.append(ecg)
        if len(calls) <= number:
            raise error
        return genuine(self, ecg)

    monkeypatch.setattr(EcgFeatureExtractor, "harmonise", harmonise)
    return calls


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "x"), PermissionError(errno.EACCES, "x"), OSError(errno.ESTALE, "x")]
)
def test_an_error_of_the_disk_is_tried_again(processor, tmp_path, monkeypatch, error):
    monkeypatch.setattr(file_reading, "WAITS", (0.01, 0.01))
    table = table_of(tmp_path, ["0", "1"])
    calls = failing_once(monkeypatch, 2, error)
    assert prepare(table, tmp_path / "out", processor, limits=None)["refused"] == 0
    assert len(calls) == 4 and all(ecg_lengths(tmp_path / "out").values())


def test_an_error_of_the_disk_is_never_final(processor, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 1)
    monkeypatch.setattr(file_reading, "WAITS", (0.01, 0.01))
    table, out = table_of(tmp_path, ["0", "1", "2"]), tmp_path / "out"
    with monkeypatch.context() as patch:
        failing_once(patch, 3, OSError(errno.EIO, "x"))
        with pytest.raises(TgmmError, match=r"1 file\(s\).*1 shard\(s\).*run the same command again"):
            prepare(table, out, processor, limits=None)
    assert not (out / "prepare.json").exists() and len(list(out.glob("train/*.json"))) == 2
    assert prepare(table, out, processor, limits=None)["refused"] == 0
    prepare(table, tmp_path / "whole", processor, limits=None)
    assert all_bytes(out) == all_bytes(tmp_path / "whole")


def test_a_file_that_cannot_be_opened_is_not_refused(processor, tmp_path, monkeypatch):
    """A reader that hides the error of the disk behind another reason."""
    monkeypatch.setattr(file_reading, "WAITS", (0.01,))
    table, out = table_of(tmp_path, ["0"]), tmp_path / "out"
    genuine = type(tmp_path).open

    def denied(self, *arguments, **options):
        if self.suffix == ".dat":
            raise PermissionError(errno.EACCES, "Permission denied")
        return genuine(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "open", denied)  # the tests may run as root
        failing_once(patch, 99, ValueError("damaged"))
        with pytest.raises(TgmmError, match=r"1 file\(s\)"):
            prepare(table, out, processor, limits=None)
    assert prepare(table, out, processor, limits=None)["refused"] == 0


def test_a_file_that_is_away_for_a_moment_is_read(processor, tmp_path, monkeypatch):
    table = table_of(tmp_path, ["0", "1"])
    signal_file, away = tmp_path / "ecg" / "1.dat", tmp_path / "away"
    genuine = AdmissionPreparer._ecg

    def hide_and_bring_back(self, row, *lists):
        if row.id == "a1":
            signal_file.rename(away)
            threading.Timer(0.3, lambda: away.rename(signal_file)).start()
        return genuine(self, row, *lists)

    monkeypatch.setattr(AdmissionPreparer, "_ecg", hide_and_bring_back)
    assert prepare(table, tmp_path / "out", processor, limits=None)["refused"] == 0


def test_files_that_change_or_vanish_meanwhile_leave_their_shards_undone(processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 1)
    monkeypatch.setattr(file_reading, "WAITS", (0.01,))
    table, out = table_of(tmp_path, ["0", "1", "2", "3"]), tmp_path / "out"
    genuine = AdmissionPreparer._ecg

    def meddle(self, row, *lists):
        result = genuine(self, row, *lists)
        if row.id == "a1":
            write_ecg(tmp_path / "ecg" / "1", 77, seconds=11)
        if row.id == "a2":
            (tmp_path / "ecg" / "2.dat").rename(tmp_path / "away")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(AdmissionPreparer, "_ecg", meddle)
        with pytest.raises(TgmmError, match=r"3 file\(s\).*2 shard\(s\)"):  # header and signal, signal
            prepare(table, out, processor, limits=None)
    assert sorted(path.name for path in out.glob("train/*.json")) == ["00000.json", "00003.json"]
    (tmp_path / "away").rename(tmp_path / "ecg" / "2.dat")
    assert prepare(table, out, processor, limits=None)["refused"] == 0
    prepare(table, tmp_path / "whole", processor, limits=None)
    assert arrow_bytes(out) == arrow_bytes(tmp_path / "whole")


@pytest.mark.parametrize("name", ["0", "other"])
def test_a_missing_file_is_read_when_it_comes_back(processor, tmp_path, name, capsys):
    """Also a signal file of another name, which only the header tells."""
    table, out = table_of(tmp_path, ["0", "1"]), tmp_path / "out"
    signal_file, header = tmp_path / "ecg" / f"{name}.dat", tmp_path / "ecg" / "0.hea"
    (tmp_path / "ecg" / "0.dat").rename(signal_file)
    header.write_text(header.read_text().replace("0.dat", signal_file.name))
    away = signal_file.rename(tmp_path / "away")
    started = time.monotonic()
    assert prepare(table, out, processor, limits=None)["refused"] == 1
    assert time.monotonic() - started < 1.5  # nobody waits for a file that was not there at the start
    away.rename(signal_file)
    assert prepare(table, out, processor, limits=None)["refused"] == 0
    header.rename(tmp_path / "away")
    summary = prepare(table, tmp_path / "second", processor, limits=None)
    assert summary["refused"] == summary["missing_files"] == 1
    assert "run the same command again" in capsys.readouterr().out


# ---- two runs


def prepare_slowly(table, out, processor, part):
    """Prepare in this process, which sleeps at the first row."""
    prepare_module.SHARD_SIZE = 1
    AdmissionPreparer.prepare = lambda self, row: time.sleep(600)
    prepare(table, out, processor, part=part, limits=None)


def test_a_second_run_of_the_same_part_is_refused(processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 1)
    table, out = table_of(tmp_path, ["0", "1"]), tmp_path / "out"
    running = start_in_new_process(prepare_slowly, table, out, processor, (1, 2))
    try:
        while not list(out.glob("train/.*")):
            assert running.is_alive()
            time.sleep(0.05)
        prepare(table, out, processor, part=(2, 2), limits=None)
        with pytest.raises(TgmmError, match="another run of this machine"):
            prepare(table, out, processor, part=(1, 2), limits=None)
    finally:
        running.kill()
        running.join()
    prepare(table, out, processor, part=(1, 2), limits=None)
    prepare(table, out, processor, limits=None)
    assert not [path.name for path in tmp_path.iterdir() if "lock" in path.name]


def test_a_worker_without_a_supervisor_is_never_kept(planted, tmp_path, monkeypatch):
    """An error of the run itself ends all worker processes, and keeps what is done."""
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 1)
    table = table_of(tmp_path, ["0", "1", "2"])
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "train" / "00001.arrow").mkdir()  # cannot be replaced
    monkeypatch.setattr(
        prepare_module, "claim_output", lambda *_: False
    )  # it would refuse the directory before the work
    with pytest.raises(OSError):
        prepare(table, tmp_path / "out", planted, limits=PATIENT)
    assert (tmp_path / "out" / "train" / "00000.json").exists()


def test_a_row_that_cannot_be_stored_is_dropped(processor, tmp_path, monkeypatch):
    table = table_of(tmp_path, ["0", "1"])
    genuine = AdmissionPreparer.prepare

    def damaged(self, row):
        admission = genuine(self, row)
        admission.example["label_hf_diagnosis"] = "no number" if row.id == "a1" else 1
        return admission

    monkeypatch.setattr(AdmissionPreparer, "prepare", damaged)
    prepare(table, tmp_path / "out", processor, limits=None)
    (refused,) = refused_rows(tmp_path / "out")
    assert refused["item"] == "a1" and "unexpected: " in refused["reason"]


def test_the_state_of_a_good_shard_tells_of_no_limit(processor, tmp_path):
    prepare(table_of(tmp_path, ["0"]), tmp_path / "out", processor, limits=PATIENT)
    assert "stopped_by" not in json.loads((tmp_path / "out" / "train" / "00000.json").read_text())
