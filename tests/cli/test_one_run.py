"""Every command that writes long work refuses an output that another run writes, and an output without room."""

import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from tgmm_hf.cohorts.mimic.cohort import curate
from tgmm_hf.cohorts.ptbxl import curate_ptbxl
from tgmm_hf.cohorts.synthetic.cohort import write_cohort
from tgmm_hf.data.export import export_parquet
from tgmm_hf.data.prepare import prepare
from tgmm_hf.evaluation.simple_model_evaluation import evaluate_simple_models
from tgmm_hf.experiments import reproduce as reproduce_module
from tgmm_hf.explanation.check import check_explanations
from tgmm_hf.hub.convert import convert
from tgmm_hf.reports.evaluation_report import evaluate_with_report
from tgmm_hf.training.pretrain import pretrain
from tgmm_hf.training.train import train
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.output_lock import only_run

NOWHERE = Path("nowhere")


def reproduce(out):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce_module, "read_plan", lambda path: (SimpleNamespace(output=str(out)), []))
        reproduce_module.reproduce(NOWHERE)


def search(out):
    pytest.importorskip("optuna")
    from tgmm_hf.experiments import search as search_module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "read_search", lambda path: SimpleNamespace(out=out))
        search_module.search(NOWHERE)


COMMANDS = {
    "synth": lambda out: write_cohort(out, 7),
    "curate": lambda out: curate(NOWHERE, out),
    "curate-ptbxl": lambda out: curate_ptbxl(NOWHERE, out),
    "prepare": lambda out: prepare(NOWHERE, out, None),
    "export-parquet": lambda out: export_parquet(NOWHERE, out),
    "train": lambda out: train(SimpleNamespace(output=str(out))),
    "pretrain": lambda out: pretrain(SimpleNamespace(output=str(out), directories={})),
    "search": search,
    "reproduce": reproduce,
    "evaluate": lambda out: evaluate_with_report(None, NOWHERE, out),
    "explain-check": lambda out: check_explanations("none", NOWHERE, NOWHERE, out),
    "simple-models": lambda out: evaluate_simple_models(NOWHERE, out),
    "convert": lambda out: convert("st-mem", NOWHERE, out, accept_license=True),
}
every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


@every_command
def test_a_second_run_is_refused(tmp_path, command):
    out = tmp_path / "new" / "out"
    with only_run(out), pytest.raises(TgmmError, match="another run of this machine"):
        command(out)
    assert not list(tmp_path.iterdir())


@every_command
def test_a_full_disk_is_seen_before_the_work(tmp_path, command, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(OSError, match="only 1000 bytes are free"):
        command(tmp_path / "out")
    assert not list(tmp_path.iterdir())


@every_command
def test_an_output_below_a_file_is_refused(tmp_path, command):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="is a file"):
        command(tmp_path / "file" / "out")
