"""Runs that were interrupted, killed or repeated, and runs beside each other, end in the same bytes."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from cohort_files import cohort_rows, write_ecg, write_table
from prepared_files import (
    all_bytes,
    arrow_bytes,
    exit_code,
    prepare_on_machine,
    prepare_until,
    start_in_new_process,
    stop,
)

from tgmm_hf.data import prepare as prepare_module
from tgmm_hf.data import shards as shards_module
from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.prepare import load_prepared, prepare
from tgmm_hf.utils import output_lock


def test_an_interrupted_run_goes_on(prepared, cohort, processor, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    whole = tmp_path / "whole"
    prepare(cohort / "cohort.csv", whole, processor)
    seen = []
    genuine = AdmissionPreparer.prepare

    def stop_at_fourth(self, row):
        seen.append(row.id)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return genuine(self, row)

    out = tmp_path / "out"
    monkeypatch.setattr(AdmissionPreparer, "prepare", stop_at_fourth)
    with pytest.raises(KeyboardInterrupt):
        prepare(cohort / "cohort.csv", out, processor, limits=None)  # in this process, for the spy
    with pytest.raises(FileNotFoundError, match="again, if it was interrupted"):
        load_prepared(out)
    seen.clear()
    monkeypatch.setattr(AdmissionPreparer, "prepare", lambda self, row: (seen.append(row.id), genuine(self, row))[1])
    prepare(cohort / "cohort.csv", out, processor, limits=None)
    assert len(seen) == 8  # the first shard of two was there, the half-written one was not taken
    assert arrow_bytes(out) == arrow_bytes(whole)
    assert not list(out.rglob("*tmp*"))
    seen.clear()
    capsys.readouterr()
    prepare(cohort / "cohort.csv", out, processor, limits=None)
    assert seen == [] and "nothing to do" in capsys.readouterr().out


KILLED = """
import sys
from transformers import AutoProcessor
from tgmm_hf.data import prepare
prepare.SHARD_SIZE = 1
if __name__ == "__main__":
    processor = AutoProcessor.from_pretrained(sys.argv[3], trust_remote_code=True)
    prepare.prepare(sys.argv[1], sys.argv[2], processor, num_proc=2)
"""


@pytest.mark.slow
def test_killed_process_leaves_no_worker_and_resumes_to_the_same_bytes(cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 1)
    out = tmp_path / "out"
    processor.save_pretrained(tmp_path / "processor")
    (tmp_path / "killed.py").write_text(KILLED)
    arguments = [tmp_path / "killed.py", cohort / "cohort.csv", out, tmp_path / "processor"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 240
    while not list(out.glob("train/*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=60)  # returns when the last process that inherited the pipe has ended
    first = next(iter(out.glob("train/*.json")), None)
    assert first is not None, errors.decode()[-2000:]
    assert not (out / "prepare.json").exists()
    written = first.stat().st_mtime_ns
    prepare(cohort / "cohort.csv", out, processor)
    assert first.stat().st_mtime_ns == written
    prepare(cohort / "cohort.csv", tmp_path / "whole", processor)
    assert all_bytes(out) == all_bytes(tmp_path / "whole")


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_step_is_finished_by_the_next(processor, tmp_path, monkeypatch, stride):
    """Kills the process before its first, second, ... access to a file (or every fifth), and runs again: nothing is
    lost, done twice or left over."""
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    rows = cohort_rows(4)
    for row in rows:
        row |= {"ecg_path": "", "echo_paths": "", "echo_views": "", "labs.Creatinine": 1}
    write_ecg(tmp_path / "ecg" / "0", 0)
    rows[0] |= {"ecg_path": "ecg/0"}
    rows[1] |= {"ecg_path": "ecg/nowhere"}
    table = write_table(tmp_path / "cohort.csv", rows)
    whole = tmp_path / "whole" / "out"
    prepare(table, whole, processor)
    written = []
    genuine = shards_module.write_rows
    monkeypatch.setattr(shards_module, "write_rows", lambda *a: (written.append(a[0]), genuine(*a))[1])
    for step in itertools.count(1, stride):
        out = tmp_path / str(step) / "out"
        out.parent.mkdir()
        code = exit_code(start_in_new_process(prepare_until, step, table, out, processor))
        assert code in (0, -signal.SIGKILL)
        done = {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")}
        written.clear()
        if not (out / "prepare.json").exists():  # if it exists, the killed run had written everything
            prepare(table, out, processor, limits=None)
        assert len(written) == (3 - len(done) if code else 0)
        assert all(path.stat().st_mtime_ns == time for path, time in done.items())
        assert all_bytes(out) == all_bytes(whole), f"killed before step {step}"
        if not code:
            break
    assert step > 20


def test_files_cut_short_by_a_failing_machine_are_written_again(prepared, cohort, processor, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(prepared[0], out)
    (out / "train" / "00000.json").write_text("")
    rows = (out / "test" / "00000.arrow").read_bytes()
    (out / "test" / "00000.arrow").write_bytes(rows[:-100])
    (out / "prepare.json").write_text("{")
    prepare(cohort / "cohort.csv", out, processor)
    assert all_bytes(out) == all_bytes(prepared[0])


def test_two_runs_at_once_end_in_the_same_bytes(prepared, cohort, processor, tmp_path, monkeypatch):
    """A second run, of another machine, that starts, works and finishes inside the first, while that holds a
    half-written shard."""
    out, genuine, nested = tmp_path / "out", AdmissionPreparer.prepare, []

    def run_another_at_the_fourth_record(self, row):
        nested.append(row.id)
        if len(nested) == 4:
            monkeypatch.setattr(output_lock, "machine", lambda: "another-machine")
            prepare(cohort / "cohort.csv", out, processor, limits=None)
        return genuine(self, row)

    monkeypatch.setattr(AdmissionPreparer, "prepare", run_another_at_the_fourth_record)
    summary = prepare(cohort / "cohort.csv", out, processor, limits=None)
    assert len(nested) > 10 and summary == prepared[1]
    assert all_bytes(out) == all_bytes(prepared[0])


def test_runs_of_several_machines_that_start_together_end_in_the_same_bytes(cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    out = tmp_path / "out"
    processes = [
        start_in_new_process(prepare_on_machine, name, cohort / "cohort.csv", out, processor) for name in "abc"
    ]
    assert [exit_code(process) for process in processes] == [0, 0, 0]
    prepare(cohort / "cohort.csv", tmp_path / "whole", processor)
    assert all_bytes(out) == all_bytes(tmp_path / "whole")


def test_other_data_is_not_overwritten_unasked(cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    rows, out = cohort_rows(10), tmp_path / "out"
    table = write_table(tmp_path / "cohort.csv", rows)
    first = prepare(table, out, processor, root=cohort)
    rows = rows[:7]
    rows[1]["label.hf_diagnosis"] = 0
    write_table(table, rows)
    (out / "train" / "00007.json").write_text('{"note": "somebody\'s own"}')
    with pytest.raises(FileExistsError, match="overwrite"):
        prepare(table, out, processor, root=cohort)
    assert len(load_prepared(out)["train"]) == 6
    second = prepare(table, out, processor, root=cohort, overwrite=True)
    assert second["data_hash"] != first["data_hash"]
    train = load_prepared(out)["train"].with_format(None)
    assert train["id"] == ["a0", "a1", "a2", "a5", "a6"]  # the surplus shard of the longer table is gone
    assert sorted(path.name for path in (out / "train").glob("*.json"))[-2:] == ["00002.json", "00007.json"]
    assert train["label_hf_diagnosis"][1] == 0


def test_a_file_replaced_under_its_name_is_read_again(processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    rows = cohort_rows(5)
    for number in (0, 2, 3, 4):
        write_ecg(tmp_path / "ecg" / str(number), number)
    for row in rows:
        row["echo_paths"] = row["echo_views"] = ""
        row["labs.Creatinine"] = 1
    table, out = write_table(tmp_path / "cohort.csv", rows), tmp_path / "out"
    first = prepare(table, out, processor)
    assert prepare(table, out, processor)["data_hash"] == first["data_hash"]
    other_shard = (out / "train" / "00001.arrow").stat().st_mtime_ns
    write_ecg(tmp_path / "ecg" / "0", 77)
    second = prepare(table, out, processor)
    assert second["data_hash"] != first["data_hash"]
    assert (out / "train" / "00001.arrow").stat().st_mtime_ns == other_shard
    write_ecg(tmp_path / "ecg" / "0", 78)
    monkeypatch.setattr(prepare_module, "_run", stop)  # as if killed before the shard was rewritten
    with pytest.raises(KeyboardInterrupt):
        prepare(table, out, processor)
    with pytest.raises(FileNotFoundError, match="run `tgmm prepare`"):
        load_prepared(out)
