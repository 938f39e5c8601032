"""`tgmm export-parquet`: the same rows as Parquet, and exports that go on."""

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from cohort_files import FRAMES, SIZE, cohort_rows, write_table
from datasets import load_dataset

from tgmm_hf.data import prepare as prepare_module
from tgmm_hf.data import shards as shards_module
from tgmm_hf.data.export import export_parquet
from tgmm_hf.data.prepare import load_prepared, prepare
from tgmm_hf.hub.push import NotForTheHubError, push_cohort
from tgmm_hf.utils.names import VIEWS


def test_parquet_files_stream_the_same_rows(cohort, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 4)
    monkeypatch.setattr(shards_module, "WRITE_BYTES", FRAMES * SIZE**2 * 3 * len(VIEWS))  # a row group a record
    data, out = tmp_path / "data", tmp_path / "parquet"
    rows = cohort_rows(10)
    rows[9] |= {"labs.Creatinine": "", "labs.NT-proBNP": "", "labs.medical history": ""}
    rows[9] |= {"ecg_path": "nowhere", "echo_paths": "", "echo_views": ""}  # of two test patients one is left
    table = write_table(tmp_path / "cohort.csv", rows)
    with pytest.raises(FileNotFoundError, match="has no prepare.json"):
        export_parquet(data, out)
    prepare(table, data, processor, root=cohort, limits=None)  # in this process, which has other settings
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
    prepare(write_table(tmp_path / "cohort.csv", rows), data, processor, root=cohort, overwrite=True)
    export_parquet(data, out)
    assert {path for path in files[2:] if path.stat().st_mtime_ns != before[path]} == set()
    assert pq.read_table(files[0])["label_hf_diagnosis"].to_pylist()[0] == 1
    prepare(cohort / "cohort.csv", tmp_path / "more", processor, overwrite=True)
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 3)
    prepare(cohort / "cohort.csv", tmp_path / "more", processor)
    (out / "train-00002-of-00003.parquet").write_bytes(files[0].read_bytes())
    with pytest.raises(FileExistsError, match=r"another export \(train-00002-of-00003.parquet"):
        export_parquet(data, out)
