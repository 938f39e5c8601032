"""Prepared data: what a row holds, counts, refused inputs, memory."""

import csv
import json
import re
import shutil
from collections import namedtuple
from copy import copy

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from closeness import assert_close
from cohort_files import FRAMES, SIZE, cohort_rows, write_clip, write_ecg, write_table
from prepared_files import arrow_bytes, exit_code, note_peak_memory, refused_rows, start_in_new_process
from tiny_models import tiny_tokenizer

from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.laboratory import Laboratory
from tgmm_hf.data.prepare import load_prepared, prepare
from tgmm_hf.data.shards import check_shards
from tgmm_hf.processing_tgmm import default_processor
from tgmm_hf.training.training_data import read_data
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.names import VIEWS


def test_summary_counts_and_files(prepared):
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


def test_rows_equal_the_output_of_the_processor(prepared, cohort, processor):
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


def test_missing_outcomes_are_null(prepared):
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


def test_size_is_printed_first_and_no_patient_data_is_printed(cohort, processor, tmp_path, monkeypatch, capfd):
    printed = []
    genuine = AdmissionPreparer.prepare

    def spy(self, row):
        printed.append(capfd.readouterr().out)
        return genuine(self, row)

    monkeypatch.setattr(AdmissionPreparer, "prepare", spy)
    prepare(cohort / "cohort.csv", tmp_path / "out", processor, limits=None)  # in this process, for the spy
    assert "10 admissions, at most" in printed[0]
    output = "".join(printed) + "".join(capfd.readouterr())
    assert "dropped" in output
    for secret in ("hypertension", "a5", "p5", "1.3"):
        # as a word of its own: a rate such as "41.37admission/s" holds the digits of a value by chance
        assert not re.search(rf"(?<![\w.]){re.escape(secret)}(?![\w.])", output.replace(str(tmp_path), "")), secret


def test_unusable_inputs_are_listed_and_do_not_stop_the_run(processor, tmp_path):
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
    summary = prepare(write_table(tmp_path / "cohort.csv", rows), tmp_path / "out", processor)
    refused = refused_rows(tmp_path / "out")
    found = {(row["id"], row["item"]) for row in refused}
    assert found == {
        ("a0", "ecg"),
        ("a1", "a1: labs.Creatinine"),
        ("a1", "echo[2]"),
        ("a2", "ecg"),
        ("a3", "ecg"),
        ("a4", "echo[1]"),
        ("a6", "echo[1]"),
        ("a6", "echo[2]"),
        ("a9", "ecg"),
        ("a9", "echo[1]"),
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


def test_refusals_of_a_copied_module_keep_their_reason(processor, tmp_path, monkeypatch):
    """Extractors loaded from a directory come from copies of the modules, and so do the classes of their errors."""
    copied_error = type("InputRefusedError", (ValueError,), {"is_refusal": True})

    def refuse(self, ecg):
        raise copied_error("ecg", "too short")

    monkeypatch.setattr(type(processor.feature_extractor), "harmonise", refuse)
    rows = cohort_rows(1)
    rows[0] |= {"labs.Creatinine": 1, "echo_paths": "", "echo_views": ""}
    prepare(write_table(tmp_path / "cohort.csv", rows), tmp_path / "out", processor, limits=None)
    assert refused_rows(tmp_path / "out") == [{"id": "a0", "item": "ecg", "reason": "too short"}]


def test_a_split_may_lose_all_its_admissions(processor, tmp_path):
    rows = cohort_rows(5)
    for row in rows:
        row |= {"ecg_path": "", "echo_paths": "", "echo_views": "", "labs.Creatinine": 1}
    rows[4] |= {"labs.Creatinine": "", "labs.NT-proBNP": "", "labs.medical history": "", "ecg_path": "nowhere"}
    summary = prepare(write_table(tmp_path / "cohort.csv", rows), tmp_path / "out", processor)
    assert summary["counts"]["test"]["dropped"] == 1
    assert len(load_prepared(tmp_path / "out")["test"]) == 0
    assert len(load_prepared(tmp_path / "out")["train"]) == 3


def test_memory_does_not_grow_with_the_cohort(cohort, tmp_path):
    """The paper's clips, the same files under more names, all in one shard: peak of a process for each number.

    A shard kept in memory would add as much as its file, here 118 MB. Without that the peak still varies: 13 MB once.
    """
    processor = default_processor(TgmmConfig(), tiny_tokenizer())
    peaks, sizes = [], []
    for records in (6, 30):
        rows = [
            {**row, "id": f"{row['id']}-{n}", "split": "train"} for n in range(records // 2) for row in cohort_rows(2)
        ]
        table, out = write_table(cohort / f"{records}.csv", rows), tmp_path / str(records)
        assert exit_code(start_in_new_process(note_peak_memory, tmp_path / "peak", table, out, processor)) == 0
        peaks.append(int((tmp_path / "peak").read_text()))
        sizes.append((out / "train" / "00000.arrow").stat().st_size)
    assert sizes[1] - sizes[0] > 100e6
    assert peaks[1] - peaks[0] < 0.3 * (sizes[1] - sizes[0])


def test_full_disk_is_noticed_before_the_start(cohort, processor, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(OSError, match="only 1000 bytes are free"):
        prepare(cohort / "cohort.csv", tmp_path / "out", processor)
    assert not list((tmp_path / "out").rglob("*.arrow"))


def test_doubts_are_listed_by_code_and_a_strict_run_drops_the_admission(processor, tmp_path):
    rows = cohort_rows(2)
    for row in rows:
        row |= {"labs.Sodium": 140, "labs.Hemoglobin": 8.7, "ecg_path": "", "echo_paths": "", "echo_views": ""}
    rows[1]["labs.Hemoglobin"] = 14
    table = write_table(tmp_path / "cohort.csv", rows)
    summary = prepare(table, tmp_path / "out", processor, limits=None)
    with (tmp_path / "out" / "checks.csv").open(newline="") as file:
        listed = [(row["id"], row["code"], row["item"]) for row in csv.DictReader(file)]
    assert listed == [("a0", "labs_doubtful_unit", "labs.Hemoglobin")]
    assert summary["checks"] == {"labs_doubtful_unit": 1}
    strict = copy(processor)
    strict.default_strictness = "refuse"
    counts = prepare(table, tmp_path / "strict", strict, limits=None)["counts"]
    assert sum(split.get("records", 0) for split in counts.values()) == 1
    declared = prepare(table, tmp_path / "us", strict, limits=None, laboratory=Laboratory("US"))
    assert sum(split.get("records", 0) for split in declared["counts"].values()) == 2


def test_a_shard_that_a_disk_changed_is_refused(prepared, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(prepared[0], data)
    check_shards(data, ["train", "validation", "test"])
    shard = data / "train" / "00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1  # one bit, in the pixels of a clip
    shard.write_bytes(content)
    check_shards(data, ["test"])
    with pytest.raises(TgmmError, match="not what `tgmm prepare` wrote") as caught:
        read_data(str(data))
    assert caught.value.item == "train/00000.arrow"
    state = json.loads((data / "train" / "00000.json").read_text())
    (data / "train" / "00000.json").write_text(json.dumps({key: state[key] for key in state if key != "file"}))
    check_shards(data, ["train"])  # a shard of version 0.1
