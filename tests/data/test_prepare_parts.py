"""Parts, engines and the dry run of `tgmm prepare`."""

import shutil
import sys
import time
import types

import pytest
from prepared_files import all_bytes, arrow_bytes, stop

from tgmm_hf.data import engines as engines_module
from tgmm_hf.data import prepare as prepare_module
from tgmm_hf.data import shards as shards_module
from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.prepare import dry_run, load_prepared, prepare
from tgmm_hf.utils.errors import TgmmError


def test_parts_make_the_whole(cohort, processor, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    table, out, whole = cohort / "cohort.csv", tmp_path / "out", tmp_path / "whole"
    prepare(table, whole, processor)
    counts = [prepare(table, out, processor, part=(number, 3))["counts"] for number in (3, 1, 2)]
    assert sum(part.get("train", {"records": 0})["records"] for part in counts) == 6
    assert arrow_bytes(out) == arrow_bytes(whole)
    with pytest.raises(FileNotFoundError, match="has no prepare.json"):
        load_prepared(out)
    monkeypatch.setattr(AdmissionPreparer, "prepare", stop)
    prepare(table, out, processor, limits=None)  # reads no record
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


def test_a_part_without_shards_is_no_error(cohort, processor, tmp_path):
    assert prepare(cohort / "cohort.csv", tmp_path / "out", processor, part=(9, 9)) == {"counts": {}, "refused": 0}


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
    with pytest.raises(TgmmError, match=r"failed: OSError: no space What is done is kept"):
        list(engines_module.run_ray([shards_module.Shard("broken", 0, (), "")], None, tmp_path, 3))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TgmmError, match=r"pip install 'tgmm-hf\[cluster\]'"):
        list(engines_module.run_ray(shards, None, tmp_path, 3))


def test_dry_run_measures_and_writes_nothing(cohort, processor, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare_module, "SHARD_SIZE", 2)
    monkeypatch.setattr(prepare_module, "SAMPLE", 4)
    table, out = cohort / "cohort.csv", tmp_path / "out"
    genuine, tried = AdmissionPreparer.prepare, []

    def slow(self, row):
        tried.append(row.id)
        time.sleep(0.2)
        return genuine(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(AdmissionPreparer, "prepare", slow)
        estimate = dry_run(table, out, processor, num_proc=2)
    assert not out.exists() and len(set(tried)) == 5
    assert estimate["admissions"] == estimate["missing"] == 10 and estimate["tried"] == 4
    assert 0.2 < estimate["seconds_per_admission"] < 2
    assert estimate["seconds"] == pytest.approx(estimate["seconds_per_admission"] * 10 / 2)
    printed = capsys.readouterr().out
    assert "10 admissions, at most" in printed and "on 2 process(es)" in printed and "Measured on 4 of them" in printed
    summary = prepare(table, out, processor)
    assert 0.5 * summary["bytes"] < estimate["likely_bytes"] < 1.5 * summary["bytes"]
    before = all_bytes(out)
    assert dry_run(table, out, processor)["missing"] == 0
    shutil.rmtree(out / "train")
    assert dry_run(table, out, processor)["missing"] == 6
    shutil.rmtree(tmp_path / "out")
    assert dry_run(table, out, processor, part=(5, 5))["admissions"] == 2 and len(before) > 5
