"""How long a grid takes: from finished runs, or measured on a few steps; nothing is written."""

import json
from pathlib import Path

import yaml
from command_line import run
from prepared_data import SMALL_ECHO

from tgmm_hf.experiments.duration import duration_text, estimate_duration, spell
from tgmm_hf.experiments.grid_plan import read_plan


def write_plan(directory: Path, data: Path) -> Path:
    base = {
        "output": "unused",
        "data": {"directory": str(data), "max_views": 1},
        "tasks": {"hf_diagnosis": None},
        "model": {"size": "tiny", "overrides": {"echo_config": SMALL_ECHO, "ecg_config": {"num_hidden_layers": 1}}},
        "optimisation": {"epochs": 2, "batch_size": 8},
    }
    (directory / "base.yaml").write_text(yaml.safe_dump(base))
    rows = {"TGMM": None, "Mean-Cat": {"model.overrides.fusion": "concat"}}
    plan = {"output": str(directory / "out"), "base": "base.yaml", "rows": rows, "seeds": [0, 1]}
    (directory / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    return directory / "plan.yaml"


def test_a_dry_run_measures_rows_without_a_finished_run_and_writes_nothing(prepared_dir, tmp_path, capsys):
    path = write_plan(tmp_path, prepared_dir)
    first = read_plan(path)[1][0]
    (first.directory / "evaluation").mkdir(parents=True)
    (first.directory / "evaluation" / "metrics.json").write_text("{}")
    (first.directory / "done.json").write_text(json.dumps({"fingerprint": first.fingerprint, "seconds": 120.0}))
    before = sorted(tmp_path.rglob("*"))
    assert run("reproduce", path, "--dry-run", "--workers", 2) == 0
    output = capsys.readouterr().out
    assert "TGMM: 1 runs of 2 min" in output and "3 runs to do, 1 done" in output and "With 2 runs" in output
    (tgmm, rival), done = estimate_duration(str(path))
    assert (tgmm.runs, tgmm.seconds, done) == (1, 120.0, 1)
    assert rival.runs == 2 and 0 < rival.seconds < 600 and rival.source == "measured steps"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_finished_grid_needs_no_time():
    assert "nothing to train" in duration_text([], 4, 1)
    assert [spell(seconds) for seconds in (45, 720, 12_240)] == ["45 s", "12 min", "3.4 h"]
