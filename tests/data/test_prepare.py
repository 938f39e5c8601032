"""Cohort table + files -> prepared shards: content, refusals, resuming, what makes a table unusable."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cohort_files import FRAMES, SIZE, cohort_rows, write_clip, write_ecg, write_manifest

from tgmm_hf.configuration_tgmm import VIEWS
from tgmm_hf.data import prepare as prepare_module
from tgmm_hf.data.builder import RecordPreparer, TgmmCohort
from tgmm_hf.data.manifest import ManifestError, read_manifest
from tgmm_hf.data.prepare import load_prepared, prepare


@pytest.fixture(scope="module")
def prepared(cohort, processor, tmp_path_factory):
    """Directory of the prepared cohort, its summary beside it."""
    out = tmp_path_factory.mktemp("prepared") / "out"
    return out, prepare(cohort / "cohort.csv", out, processor)


def arrow_bytes(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.arrow"))}


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
    np.testing.assert_array_equal(row["ecg"], harmonised.signal.T)
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
    copied_error = type("RecordRefusedError", (ValueError,), {})

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
prepare.prepare(sys.argv[1], sys.argv[2], AutoProcessor.from_pretrained(sys.argv[3], trust_remote_code=True))
"""


def test_killed_process_resumes_to_the_same_bytes(cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 1)
    out = tmp_path / "out"
    processor.save_pretrained(tmp_path / "processor")
    arguments = [cohort / "cohort.csv", out, tmp_path / "processor"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 240
    while not list(out.glob("train/*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    first = next(iter(out.glob("train/*.json")), None)
    assert first is not None, errors.decode()[-2000:]
    assert not (out / "prepare.json").exists()
    written = first.stat().st_mtime_ns
    prepare(cohort / "cohort.csv", out, processor)
    assert first.stat().st_mtime_ns == written
    prepare(cohort / "cohort.csv", tmp_path / "whole", processor)
    assert arrow_bytes(out) == arrow_bytes(tmp_path / "whole")
    assert not list(out.rglob("*tmp*"))


def test_other_data_is_not_overwritten_unasked(cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    rows, out = cohort_rows(10), tmp_path / "out"
    table = write_manifest(tmp_path / "cohort.csv", rows)
    first = prepare(table, out, processor, root=cohort)
    rows = rows[:7]
    rows[1]["label.hf_diagnosis"] = 0
    write_manifest(table, rows)
    with pytest.raises(FileExistsError, match="overwrite"):
        prepare(table, out, processor, root=cohort)
    assert len(load_prepared(out)["train"]) == 6
    second = prepare(table, out, processor, root=cohort, overwrite=True)
    assert second["data_hash"] != first["data_hash"]
    train = load_prepared(out)["train"].with_format(None)
    assert train["id"] == ["a0", "a1", "a2", "a5", "a6"]  # the surplus shard of the longer table is gone
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
