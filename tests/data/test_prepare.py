"""Cohort table + files -> prepared shards: content, refusals, resuming, what makes a table unusable."""

import csv
import itertools
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import types
from collections import namedtuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from closeness import assert_close
from cohort_files import FRAMES, SIZE, cohort_rows, write_clip, write_ecg, write_manifest
from datasets import load_dataset
from tiny_models import tiny_tokenizer

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data import engines as engines_module
from tgmm_hf.data import prepare as prepare_module
from tgmm_hf.data import shards as shards_module
from tgmm_hf.data.builder import RecordPreparer, TgmmCohort
from tgmm_hf.data.export import export_parquet
from tgmm_hf.data.manifest import ManifestError, read_manifest
from tgmm_hf.data.prepare import dry_run, load_prepared, prepare
from tgmm_hf.hub.push import NotForTheHubError, push_cohort
from tgmm_hf.processing_tgmm import default_processor
from tgmm_hf.utils.names import VIEWS


@pytest.fixture(scope="module")
def prepared(cohort, processor, tmp_path_factory):
    """Directory of the prepared cohort, its summary beside it."""
    out = tmp_path_factory.mktemp("prepared") / "out"
    return out, prepare(cohort / "cohort.csv", out, processor)


def arrow_bytes(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.arrow"))}


def all_bytes(out):
    """Every file that belongs to the result; the state files hold where the table lies."""
    files = {str(path.relative_to(out)): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items()}


def refused_rows(out):
    with (out / "refused.csv").open() as file:
        return list(csv.DictReader(file))


# -------------------------------------------------------------------------------------------------------------- result


def test_counts_and_files(prepared):
    out, summary = prepared
    assert summary == json.loads((out / "prepare.json").read_text())
    assert summary["counts"]["train"]["records"] == 6
    assert {split: counts["records"] for split, counts in summary["counts"].items()} == {
        "train": 6,
        "validation": 2,
        "test": 2,
    }
    assert sum(counts["labs"] for counts in summary["counts"].values()) == 6
    assert summary["counts"]["train"]["label_hf_diagnosis=1"] == 3
    assert summary["counts"]["train"]["view.A4C"] == summary["counts"]["train"]["echo"]
    assert summary["geometry"] == {"image_size": SIZE, "num_frames": FRAMES}
    assert summary["tasks"] == {"hf_diagnosis": "diagnosis", "hf_risk": "prognosis"}
    assert len(summary["data_hash"]) == 64
    assert refused_rows(out) == [] and summary["refused"] == 0
    assert not list(out.rglob("*tmp*"))


def test_rows_hold_what_the_processor_would_make_of_the_files(prepared, cohort, processor):
    out, _ = prepared
    splits = load_prepared(out)
    assert list(splits) == ["train", "validation", "test"]
    by_id = {str(row["id"]): row for split in splits.values() for row in split}
    assert len(by_id) == 10
    row = by_id["a5"]  # number 5: labs and ECG, no echo
    assert row["clips"].shape == (0, FRAMES, SIZE, SIZE * 3) and list(row["clip_views"]) == []
    assert json.loads(str(row["labs"])) == {
        "NTproBNP": [500.0, "pg/mL"],
        "Creatinine": 1.3,
        "medical history": "hypertension, diabetes",
    }
    harmonised = processor.feature_extractor.harmonise(cohort / "ecg" / "5")
    assert_close(row["ecg"], harmonised.signal.T)
    assert row["ecg"].dtype == np.float32 and row["ecg_mask"].all()
    row = by_id["a4"]  # echo and labs, no ECG
    assert row["ecg"].shape == (0, 12) and not row["ecg_mask"].any()
    assert row["clips"].dtype == np.uint8
    clip = processor.image_processor.prepare_clip(cohort / "echo" / "4_b.dcm")
    assert [VIEWS[index] for index in row["clip_views"]] == ["A4C", "Parasternal_Long"]
    np.testing.assert_array_equal(row["clips"][1].reshape(clip.frames.shape), clip.frames)
    assert list(row["clip_frames"]) == [clip.num_real, clip.num_real]
    assert str(by_id["a3"]["labs"]) == ""


def test_nullable_labels(prepared):
    out, _ = prepared
    train = load_prepared(out)["train"].with_format(None)
    assert train["label_hf_diagnosis"] == [0, 1, 0, 1, 0, 1]
    assert train["event_hf_risk"] == [0, None, 2, None, 0, None]
    assert train["time_hf_risk"][0] == 100.5 and train["time_hf_risk"][1] is None


def test_parquet_and_csv_give_the_same_rows(prepared, cohort, processor, tmp_path):
    records = []
    for row in cohort_rows(10):
        record = {name: (None if value == "" else value) for name, value in row.items()}
        for name in ("echo_paths", "echo_views"):
            record[name] = record[name].split(";") if record[name] else None
        records.append(record)
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "cohort.parquet")
    prepare(tmp_path / "cohort.parquet", tmp_path / "out", processor, root=cohort)
    assert arrow_bytes(tmp_path / "out") == arrow_bytes(prepared[0])


def test_processes_do_not_change_the_result(prepared, cohort, processor, tmp_path):
    summary = prepare(cohort / "cohort.csv", tmp_path / "out", processor, num_proc=2)
    assert arrow_bytes(tmp_path / "out") == arrow_bytes(prepared[0])
    assert summary == prepared[1]


def test_file_is_not_much_larger_than_its_pixels(prepared):
    _, summary = prepared
    clips = sum(counts["clips"] for counts in summary["counts"].values())
    ecgs = sum(counts["ecg"] for counts in summary["counts"].values())
    content = clips * FRAMES * SIZE * SIZE * 3 + ecgs * 2500 * 12 * 4
    assert content < summary["bytes"] < 1.3 * content + 50_000
    assert summary["bytes"] - 20_000 < summary["estimated_bytes"] < 1.2 * summary["bytes"]


def test_size_is_printed_before_the_first_record_and_no_content_at_all(cohort, processor, tmp_path, monkeypatch, capfd):
    printed = []
    genuine = RecordPreparer.prepare

    def spy(self, row):
        printed.append(capfd.readouterr().out)
        return genuine(self, row)

    monkeypatch.setattr(RecordPreparer, "prepare", spy)
    prepare(cohort / "cohort.csv", tmp_path / "out", processor)
    assert "10 records, at most" in printed[0]
    output = "".join(printed) + "".join(capfd.readouterr())
    assert "dropped" in output
    for secret in ("hypertension", "a5", "p5", "1.3"):
        # as a word of its own: a rate such as "41.37record/s" holds the digits of a value by chance
        assert not re.search(rf"(?<![\w.]){re.escape(secret)}(?![\w.])", output.replace(str(tmp_path), "")), secret


# ---------------------------------------------------------------------------------------------------------- bad records


def test_bad_records_are_listed_and_never_stop_the_run(processor, tmp_path):
    rows = cohort_rows(10)
    for number, row in enumerate(rows):
        if row["ecg_path"]:
            write_ecg(tmp_path / row["ecg_path"], number, seconds=5 if number == 0 else 10)
        for path in filter(None, row["echo_paths"].split(";")):
            write_clip(tmp_path / path, number, frames=1 if number == 1 and path.endswith("_b.dcm") else 10)
    rows[1]["labs.Creatinine"] = 1400
    (tmp_path / "ecg" / "2.hea").write_text("damaged")
    rows[3]["ecg_path"] = "ecg/nowhere"
    (tmp_path / "echo" / "4_a.dcm").write_bytes(b"damaged")
    (tmp_path / "echo" / "6_a.dcm").unlink()
    (tmp_path / "echo" / "6_b.dcm").write_bytes(b"")
    rows[9] |= {"ecg_path": "ecg/nowhere", "echo_paths": "echo/nowhere.dcm", "echo_views": "A4C"}
    summary = prepare(write_manifest(tmp_path / "cohort.csv", rows), tmp_path / "out", processor)
    refused = refused_rows(tmp_path / "out")
    found = {(row["id"], row["item"]) for row in refused}
    assert found == {
        ("a0", "ecg/0"),
        ("a1", "a1: labs.Creatinine"),
        ("a1", "echo/1_b.dcm"),
        ("a2", "ecg/2"),
        ("a3", "ecg/nowhere"),
        ("a4", "echo/4_a.dcm"),
        ("a6", "echo/6_a.dcm"),
        ("a6", "echo/6_b.dcm"),
        ("a9", "ecg/nowhere"),
        ("a9", "echo/nowhere.dcm"),
        ("a9", "a9"),
    }
    assert all(row["reason"] for row in refused) and summary["refused"] == len(refused)
    assert "1400" in next(row["reason"] for row in refused if row["item"].endswith("Creatinine"))
    assert summary["counts"]["test"] | {"records": 1, "dropped": 1} == summary["counts"]["test"]
    by_id = {str(row["id"]): row for split in load_prepared(tmp_path / "out").values() for row in split}
    assert set(by_id) == {f"a{number}" for number in range(9)}
    assert "Creatinine" not in str(by_id["a1"]["labs"]) and len(by_id["a1"]["clips"]) == 1
    assert len(by_id["a0"]["ecg"]) == 0 and len(by_id["a0"]["clips"]) == 2
    assert len(by_id["a6"]["clips"]) == 0 and len(by_id["a6"]["ecg"]) > 0


def test_refusals_of_a_copied_module_read_the_same(processor, tmp_path, monkeypatch):
    """Extractors loaded from a directory come from copies of the modules, and so do the classes of their errors."""
    copied_error = type("InputRefusedError", (ValueError,), {})

    def refuse(self, ecg):
        raise copied_error("ecg", "too short")

    monkeypatch.setattr(type(processor.feature_extractor), "harmonise", refuse)
    rows = cohort_rows(1)
    rows[0] |= {"labs.Creatinine": 1, "echo_paths": "", "echo_views": ""}
    prepare(write_manifest(tmp_path / "cohort.csv", rows), tmp_path / "out", processor)
    assert refused_rows(tmp_path / "out") == [{"id": "a0", "item": "ecg/0", "reason": "too short"}]


def test_a_split_may_lose_all_its_records(processor, tmp_path):
    rows = cohort_rows(5)
    for row in rows:
        row |= {"ecg_path": "", "echo_paths": "", "echo_views": "", "labs.Creatinine": 1}
    rows[4] |= {"labs.Creatinine": "", "labs.NT-proBNP": "", "labs.medical history": "", "ecg_path": "nowhere"}
    summary = prepare(write_manifest(tmp_path / "cohort.csv", rows), tmp_path / "out", processor)
    assert summary["counts"]["test"]["dropped"] == 1
    assert len(load_prepared(tmp_path / "out")["test"]) == 0
    assert len(load_prepared(tmp_path / "out")["train"]) == 3


# -------------------------------------------------------------------------------------------------------------- resume


def test_interrupted_run_goes_on(prepared, cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    whole = tmp_path / "whole"
    prepare(cohort / "cohort.csv", whole, processor)
    seen = []
    genuine = RecordPreparer.prepare

    def stop_at_fourth(self, row):
        seen.append(row.id)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return genuine(self, row)

    out = tmp_path / "out"
    monkeypatch.setattr(RecordPreparer, "prepare", stop_at_fourth)
    with pytest.raises(KeyboardInterrupt):
        prepare(cohort / "cohort.csv", out, processor)
    with pytest.raises(FileNotFoundError, match="again, if it was interrupted"):
        load_prepared(out)
    seen.clear()
    monkeypatch.setattr(RecordPreparer, "prepare", lambda self, row: (seen.append(row.id), genuine(self, row))[1])
    prepare(cohort / "cohort.csv", out, processor)
    assert len(seen) == 8  # the first shard of two was there, the half-written one was not taken
    assert arrow_bytes(out) == arrow_bytes(whole)
    assert not list(out.rglob("*tmp*"))
    seen.clear()
    prepare(cohort / "cohort.csv", out, processor)
    assert seen == []


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


def prepare_until(step, table, out, processor):
    """`prepare` in this process, which is killed just before the given step: opening, renaming or removing a file."""
    steps = 0

    def kill_at_step(event, arguments):
        nonlocal steps
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(str(out.parent)):
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

    prepare_module.SHARD_SIZE = 2
    sys.addaudithook(kill_at_step)
    prepare(table, out, processor)


@pytest.fixture(scope="module")
def start_apart():
    """Starts a function in a new process that has none of the threads of this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([engines_module.__name__])

    def start(function, *arguments):
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    return start


def exit_code(process):
    process.join(120)
    return process.exitcode


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_step_is_finished_by_the_next(processor, tmp_path, monkeypatch, start_apart, stride):
    """Kills the process before its first, second, ... access to a file (or every fifth), and runs again: nothing is
    lost, done twice or left over."""
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    rows = cohort_rows(4)
    for row in rows:
        row |= {"ecg_path": "", "echo_paths": "", "echo_views": "", "labs.Creatinine": 1}
    write_ecg(tmp_path / "ecg" / "0", 0)
    rows[0] |= {"ecg_path": "ecg/0"}
    rows[1] |= {"ecg_path": "ecg/nowhere"}
    table = write_manifest(tmp_path / "cohort.csv", rows)
    whole = tmp_path / "whole" / "out"
    prepare(table, whole, processor)
    written = []
    genuine = shards_module.write_rows
    monkeypatch.setattr(shards_module, "write_rows", lambda *a: (written.append(a[0]), genuine(*a))[1])
    for step in itertools.count(1, stride):
        out = tmp_path / str(step) / "out"
        out.parent.mkdir()
        code = exit_code(start_apart(prepare_until, step, table, out, processor))
        assert code in (0, -signal.SIGKILL)
        done = {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")}
        written.clear()
        if code:
            assert not (out / "prepare.json").exists()
            prepare(table, out, processor)
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


# ----------------------------------------------------------------------------------------- parts, engines, dry run


def test_parts_make_the_whole(cohort, processor, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    table, out, whole = cohort / "cohort.csv", tmp_path / "out", tmp_path / "whole"
    prepare(table, whole, processor)
    counts = [prepare(table, out, processor, part=(number, 3))["counts"] for number in (3, 1, 2)]
    assert sum(part.get("train", {"records": 0})["records"] for part in counts) == 6
    assert arrow_bytes(out) == arrow_bytes(whole)
    with pytest.raises(FileNotFoundError, match="has no prepare.json"):
        load_prepared(out)
    monkeypatch.setattr(RecordPreparer, "prepare", stop)
    prepare(table, out, processor)  # reads no record
    assert all_bytes(out) == all_bytes(whole)
    assert "part 3 of 3" in capsys.readouterr().out
    for number in (0, 4):
        with pytest.raises(ValueError, match=f"no part {number} of 3"):
            prepare(table, out, processor, part=(number, 3))


def test_a_last_run_finishes_what_parts_left_out(cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    table, out, whole = cohort / "cohort.csv", tmp_path / "out", tmp_path / "whole"
    prepare(table, out, processor, part=(1, 3))
    prepare(table, out, processor)
    prepare(table, whole, processor)
    assert all_bytes(out) == all_bytes(whole)


def test_a_part_of_nothing_is_no_error(cohort, processor, tmp_path):
    assert prepare(cohort / "cohort.csv", tmp_path / "out", processor, part=(9, 9)) == {"counts": {}, "refused": 0}


def test_two_runs_at_once_end_in_the_same_bytes(prepared, cohort, processor, tmp_path, monkeypatch):
    """A second run that starts, works and finishes inside the first, while that holds a half-written shard."""
    out, genuine, nested = tmp_path / "out", RecordPreparer.prepare, []

    def run_another_at_the_fourth_record(self, row):
        nested.append(row.id)
        if len(nested) == 4:
            prepare(cohort / "cohort.csv", out, processor)
        return genuine(self, row)

    monkeypatch.setattr(RecordPreparer, "prepare", run_another_at_the_fourth_record)
    summary = prepare(cohort / "cohort.csv", out, processor)
    assert len(nested) > 10 and summary == prepared[1]
    assert all_bytes(out) == all_bytes(prepared[0])


def test_runs_that_start_together_end_in_the_same_bytes(cohort, processor, tmp_path, monkeypatch, start_apart):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    out = tmp_path / "out"
    processes = [start_apart(prepare_until, None, cohort / "cohort.csv", out, processor) for _ in range(3)]
    assert [exit_code(process) for process in processes] == [0, 0, 0]
    prepare(cohort / "cohort.csv", tmp_path / "whole", processor)
    assert all_bytes(out) == all_bytes(tmp_path / "whole")


@pytest.mark.slow
def test_ray_writes_the_same_shards(cohort, processor, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    prepare(cohort / "cohort.csv", tmp_path / "whole", processor)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address)
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2
        monkeypatch.chdir(tmp_path)
        prepare(cohort / "cohort.csv", "out", processor, engine="ray", num_proc=None)
        assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "whole")
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_ray_hands_out_a_bounded_number_of_tasks_and_says_what_failed(tmp_path, monkeypatch):
    """With a stand-in for Ray, so that it runs where Ray is not installed."""
    handed_out, most = [], []

    class FakeRay(types.ModuleType):
        class exceptions:
            class RayError(Exception):
                pass

        @staticmethod
        def wait(running):
            most.append(len(running))
            return running[-1:], running[:-1]

        @staticmethod
        def get(task):
            if task.split == "broken":
                raise FakeRay.exceptions.RayError("a trace\nOSError: no space")

    FakeRay.is_initialized, FakeRay.put = staticmethod(lambda: True), staticmethod(lambda value: value)
    FakeRay.remote = staticmethod(
        lambda function: types.SimpleNamespace(remote=lambda shard, *a: handed_out.append(shard) or shard)
    )
    monkeypatch.setitem(sys.modules, "ray", FakeRay("ray"))
    shards = [shards_module.Shard("train", index, (), "") for index in range(7)]
    assert set(engines_module.run_ray(shards, None, tmp_path, 3)) == set(handed_out) == set(shards)
    assert max(most) == 3
    with pytest.raises(RuntimeError, match=r"failed: OSError: no space What is done is kept"):
        list(engines_module.run_ray([shards_module.Shard("broken", 0, (), "")], None, tmp_path, 3))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match=r"pip install 'tgmm-hf\[cluster\]'"):
        list(engines_module.run_ray(shards, None, tmp_path, 3))


def test_dry_run_measures_and_writes_nothing(cohort, processor, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    monkeypatch.setattr(prepare_module, "SAMPLE", 4)
    table, out = cohort / "cohort.csv", tmp_path / "out"
    genuine, tried = RecordPreparer.prepare, []

    def slow(self, row):
        tried.append(row.id)
        time.sleep(0.2)
        return genuine(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(RecordPreparer, "prepare", slow)
        estimate = dry_run(table, out, processor, num_proc=2)
    assert not out.exists() and len(set(tried)) == 5
    assert estimate["records"] == estimate["missing"] == 10 and estimate["tried"] == 4
    assert 0.2 < estimate["seconds_per_record"] < 2
    assert estimate["seconds"] == pytest.approx(estimate["seconds_per_record"] * 10 / 2)
    printed = capsys.readouterr().out
    assert "10 records, at most" in printed and "on 2 process(es)" in printed and "Measured on 4 of them" in printed
    summary = prepare(table, out, processor)
    assert 0.5 * summary["bytes"] < estimate["likely_bytes"] < 1.5 * summary["bytes"]
    before = all_bytes(out)
    assert dry_run(table, out, processor)["missing"] == 0
    shutil.rmtree(out / "train")
    assert dry_run(table, out, processor)["missing"] == 6
    shutil.rmtree(tmp_path / "out")
    assert dry_run(table, out, processor, part=(5, 5))["records"] == 2 and len(before) > 5


# -------------------------------------------------------------------------------------------------------------- memory


def note_peak_memory(file, *arguments):
    prepare(*arguments)
    file.write_text(str(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def test_memory_does_not_grow_with_the_cohort(cohort, tmp_path, start_apart):
    """The paper's clips, the same files under more names, all in one shard: peak of a process for each number."""
    processor = default_processor(TgmmConfig(), tiny_tokenizer())
    peaks, sizes = [], []
    for records in (6, 30):
        rows = [
            {**row, "id": f"{row['id']}-{n}", "split": "train"} for n in range(records // 2) for row in cohort_rows(2)
        ]
        table, out = write_manifest(cohort / f"{records}.csv", rows), tmp_path / str(records)
        assert exit_code(start_apart(note_peak_memory, tmp_path / "peak", table, out, processor)) == 0
        peaks.append(int((tmp_path / "peak").read_text()))
        sizes.append((out / "train" / "00000.arrow").stat().st_size)
    assert sizes[1] - sizes[0] > 100e6
    assert peaks[1] - peaks[0] < 0.1 * (sizes[1] - sizes[0])


# ------------------------------------------------------------------------------------------------------------- parquet


def test_parquet_files_stream_the_same_rows(cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 4)
    monkeypatch.setattr(shards_module, "WRITE_BYTES", FRAMES * SIZE**2 * 3 * len(VIEWS))  # a row group a record
    data, out = tmp_path / "data", tmp_path / "parquet"
    rows = cohort_rows(10)
    rows[9] |= {"labs.Creatinine": "", "labs.NT-proBNP": "", "labs.medical history": ""}
    rows[9] |= {"ecg_path": "nowhere", "echo_paths": "", "echo_views": ""}  # of two test patients one is left
    table = write_manifest(tmp_path / "cohort.csv", rows)
    with pytest.raises(FileNotFoundError, match="has no prepare.json"):
        export_parquet(data, out)
    prepare(table, data, processor, root=cohort)
    files = export_parquet(data, out)
    assert [path.name for path in files] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "validation-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
    ]
    assert pq.ParquetFile(files[0]).num_row_groups == 4
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for split, expected in load_prepared(data).items():
        streamed = load_dataset("parquet", data_files={split: str(out / f"{split}-*.parquet")}, streaming=True)[split]
        assert streamed.features == expected.features
        streamed = list(streamed.with_format("numpy"))
        assert len(streamed) == len(expected)
        for found, row in zip(streamed, expected, strict=True):
            assert set(found) == set(row)
            for name, value in row.items():
                np.testing.assert_array_equal(found[name], value, err_msg=name)
    with pytest.raises(NotForTheHubError):
        push_cohort(out, "owner/name")


def test_an_export_goes_on_and_keeps_no_other_data(cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 4)
    data, out = tmp_path / "data", tmp_path / "parquet"
    prepare(cohort / "cohort.csv", data, processor)
    files = export_parquet(data, out)
    before = {path: path.stat().st_mtime_ns for path in files}
    files[1].unlink()
    (out / "train-00001-of-00002.tmp-1").write_text("half")
    assert export_parquet(data, out) == files
    assert {path for path in files if path.stat().st_mtime_ns != before[path]} == {files[1]}
    assert sorted(out.iterdir()) == sorted(files)
    rows = cohort_rows(10)
    rows[0]["label.hf_diagnosis"] = 1
    prepare(write_manifest(tmp_path / "cohort.csv", rows), data, processor, root=cohort, overwrite=True)
    export_parquet(data, out)
    assert {path for path in files[2:] if path.stat().st_mtime_ns != before[path]} == set()
    assert pq.read_table(files[0])["label_hf_diagnosis"].to_pylist()[0] == 1
    prepare(cohort / "cohort.csv", tmp_path / "more", processor, overwrite=True)
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 3)
    prepare(cohort / "cohort.csv", tmp_path / "more", processor)
    (out / "train-00002-of-00003.parquet").write_bytes(files[0].read_bytes())
    with pytest.raises(FileExistsError, match=r"another export \(train-00002-of-00003.parquet"):
        export_parquet(data, out)


def test_other_data_is_not_overwritten_unasked(cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    rows, out = cohort_rows(10), tmp_path / "out"
    table = write_manifest(tmp_path / "cohort.csv", rows)
    first = prepare(table, out, processor, root=cohort)
    rows = rows[:7]
    rows[1]["label.hf_diagnosis"] = 0
    write_manifest(table, rows)
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


def stop(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_file_replaced_under_its_name_is_read_again(processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    rows = cohort_rows(5)
    for number in (0, 2, 3, 4):
        write_ecg(tmp_path / "ecg" / str(number), number)
    for row in rows:
        row["echo_paths"] = row["echo_views"] = ""
        row["labs.Creatinine"] = 1
    table, out = write_manifest(tmp_path / "cohort.csv", rows), tmp_path / "out"
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


def test_full_disk_is_noticed_before_the_start(cohort, processor, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(OSError, match="only 1000 bytes are free"):
        prepare(cohort / "cohort.csv", tmp_path / "out", processor)
    assert not list((tmp_path / "out").rglob("*.arrow"))


# --------------------------------------------------------------------------------------------------------------- table


def change(**changes):
    def apply(rows):
        for row in rows:
            for name, value in changes.items():
                row[name.replace("__", ".")] = value

    return apply


def remove(name):
    def apply(rows):
        for row in rows:
            row.pop(name)

    return apply


def one(number, **changes):
    return lambda rows: rows[number].update({name.replace("__", "."): value for name, value in changes.items()})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("patient_id"), r"missing column\(s\) patient_id"),
        (remove("split"), r"missing column\(s\) split"),
        (remove("event.hf_risk"), "both columns time.hf_risk and event.hf_risk"),
        (one(2, id="a1"), r"1 id\(s\) occur more than once: a1"),
        (one(3, patient_id="p0"), r"more than one split: p0"),
        (one(2, id=" "), "row 3: id is empty"),
        (one(2, split="dev"), "'dev'; it must be one of train, validation, test"),
        (one(2, label__hf_diagnosis=2), "label.hf_diagnosis is 2; allowed are 0, 1"),
        (one(2, label__hf_diagnosis=0.5), "label.hf_diagnosis is 0.5"),
        (one(2, label__hf_diagnosis="yes"), "'yes', not a number"),
        (one(2, label__hf_diagnosis="inf"), "not a finite number"),
        (one(0, event__hf_risk=3), "event.hf_risk is 3; allowed are 0, 1, 2"),
        (one(0, time__hf_risk=-1), "-1.0 days"),
        (one(0, time__hf_risk=""), "give both or neither"),
        (one(0, echo_views="A4C"), "1 entries for 2 echo_paths"),
        (one(0, echo_views="A4C;PLAX"), r"unknown view\(s\) PLAX"),
        (one(0, echo_paths="a.dcm;", echo_views=";"), "empty path"),
        (change(label__stroke=1), "names no task"),
        (change(label__hf_risk=1), "is for a diagnosis but task 'hf_risk' is a prognosis"),
        (change(unit__zinc="mg"), "no column labs.zinc"),
    ],
)
def test_unusable_tables_are_refused(tmp_path, spoil, message):
    rows = cohort_rows(5)
    spoil(rows)
    with pytest.raises(ManifestError, match=message):
        read_manifest(write_manifest(tmp_path / "cohort.csv", rows))


def test_unusable_files(tmp_path):
    with pytest.raises(ManifestError, match="does not exist"):
        read_manifest(tmp_path / "nowhere.csv")
    table = tmp_path / "cohort.csv"
    table.write_text("id,patient_id,split\na,p,train\n")
    with pytest.raises(ManifestError, match="no data"):
        read_manifest(table)
    table.write_text("id,patient_id,split,ecg_path\n")
    with pytest.raises(ManifestError, match="no rows"):
        read_manifest(table)
    table.write_text("id,patient_id,split,ecg_path\na,p,train\n")
    with pytest.raises(ManifestError, match=r"row\(s\) 1"):
        read_manifest(table)
    table.write_text("id,id,patient_id,split,ecg_path\na,a,p,train,e\n")
    with pytest.raises(ManifestError, match=r"column\(s\) id occur twice"):
        read_manifest(table)
    with pytest.raises(ManifestError, match=r"not \.xlsx"):
        (tmp_path / "cohort.xlsx").write_text("")
        read_manifest(tmp_path / "cohort.xlsx")


def test_own_tasks_and_other_columns(tmp_path):
    rows = cohort_rows(5)
    change(label__rhythm=2, hadm_id=5)(rows)
    tasks = {
        "rhythm": {"kind": "diagnosis", "candidates": ["sinus", "fibrillation", "paced"]},
        "hf_diagnosis": {"kind": "diagnosis", "candidates": ["no", "yes"]},
        "hf_risk": {"kind": "prognosis", "candidates": ["low", "high"]},
    }
    manifest = read_manifest(write_manifest(tmp_path / "cohort.csv", rows), tasks=tasks)
    assert manifest.tasks == {"rhythm": "diagnosis", "hf_diagnosis": "diagnosis", "hf_risk": "prognosis"}
    assert manifest.rows[0].labels == {"rhythm": 2, "hf_diagnosis": 0}
    assert manifest.ignored_columns == ["hadm_id"]


def test_a_table_to_predict_needs_ids_and_data_only(tmp_path):
    table = tmp_path / "cohort.csv"
    table.write_text("id,labs.Creatinine,label.some_task\na,1.1,7\nb,1.2,\n")
    with pytest.raises(ManifestError, match=r"missing column\(s\) patient_id, split"):
        read_manifest(table)
    manifest = read_manifest(table, for_prediction=True)
    assert [(row.id, row.patient_id, row.split, row.labels) for row in manifest.rows] == [
        ("a", "a", "test", {}),
        ("b", "b", "test", {}),
    ]


def test_digest_follows_content_and_order(tmp_path):
    rows = cohort_rows(5)
    digest = read_manifest(write_manifest(tmp_path / "a.csv", rows)).digest()
    assert read_manifest(write_manifest(tmp_path / "b.csv", rows)).digest() == digest
    rows[1]["labs.Creatinine"] = 7
    assert read_manifest(write_manifest(tmp_path / "c.csv", rows)).digest() != digest


def test_absolute_paths_and_bom(cohort, tmp_path):
    rows = cohort_rows(2)
    rows[0]["ecg_path"] = str(cohort / "ecg" / "0")
    table = write_manifest(tmp_path / "cohort.csv", rows)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    manifest = read_manifest(table)
    assert manifest.root / manifest.rows[0].ecg_path == cohort / "ecg" / "0"


# ------------------------------------------------------------------------------------------------------------- builder


def test_builder_streams_and_writes_parquet(prepared, cohort, processor, tmp_path):
    builder = TgmmCohort(manifest=cohort / "cohort.csv", processor=processor, cache_dir=str(tmp_path / "cache"))
    stored = load_prepared(prepared[0])["train"].with_format(None)
    streamed = list(builder.as_streaming_dataset(split="train"))
    assert [row["id"] for row in streamed] == stored["id"]
    assert [row["labs"] for row in streamed] == stored["labs"]
    builder.download_and_prepare(str(tmp_path / "parquet"), file_format="parquet")
    table = pq.read_table(next((tmp_path / "parquet").glob("*train*.parquet")))
    assert table.column("id").to_pylist() == stored["id"]
    assert table.column("clips").to_pylist() == stored["clips"]
    with pytest.raises(ValueError, match="manifest="):
        TgmmCohort(cache_dir=str(tmp_path / "cache"))
