"""A grid of runs: finished runs stay, failed runs are reported, and the tables match the figures of the runs."""

import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from closeness import assert_close
from prepared_data import SMALL_ECHO
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.configuration_tgmm import TgmmConfig
from tgmm_hf.evaluation.comparisons import delong_test
from tgmm_hf.evaluation.metrics import ALL_AGREE
from tgmm_hf.evaluation.predictions import Predictions
from tgmm_hf.evaluation.summary import compute_metrics
from tgmm_hf.experiments import reproduce as module
from tgmm_hf.experiments.grid_plan import read_plan
from tgmm_hf.experiments.reproduce import reproduce
from tgmm_hf.reports.figures import differences_figure
from tgmm_hf.utils.names import MODALITIES, SUBSET_NAMES

TASKS = {"hf_diagnosis": {"kind": "diagnosis"}, "hf_risk": {"kind": "prognosis"}, "retrieval": {"kind": "retrieval"}}
ROWS: dict[str, dict[str, Any] | None] = {
    "TGMM": None,
    "Mean-Cat": {"model.overrides.fusion": "concat"},
    "linear": {"model.overrides.guidance": "none", "model.overrides.response": "linear"},
    "broken": {"model.overrides.fusion": "cmta"},
}
DEFAULT = {"fusion": "medflex", "guidance": "human+learned", "response": "decoder"}

STUB = """
import shutil, sys
from pathlib import Path
directory = Path(sys.argv[1]).parent
with (Path({log!r})).open("a") as log:
    log.write(f"{{directory.parent.name}}/{{directory.name}}\\n")
source = Path({results!r}) / directory.parent.name / directory.name
if not source.is_dir():
    sys.exit("ValueError: there is nothing to be learned")
shutil.copytree(source, directory / "evaluation")
"""


def invented_results(directory: Path, row: str, seed: int) -> None:
    """Write an evaluation of 60 patients by an invented model. The noise of its scores depends on the row."""
    patients = np.random.default_rng(0)
    n, noise = 60, 1.0 if row == "TGMM" else 2.0
    label, time, event = patients.random(n) < 0.5, patients.exponential(500, n) + 1, patients.random(n) < 0.6
    generator = np.random.default_rng([seed, len(row)])
    ids = np.array([f"p{i}" for i in range(n)])
    pieces = []
    for subset in SUBSET_NAMES:
        score = label + noise * generator.normal(size=n)
        common = {"row": np.arange(n), "id": ids, "patient_id": ids, "subset": subset}
        probability, nothing = 1 / (1 + np.exp(-score)), np.full(n, np.nan)
        answers = {"probability": probability, "predicted": (probability > 0.5).astype(int)}
        outcome = {"risk": nothing, "label": label * 1.0, "positive": label * 1.0, "time": nothing, "event": nothing}
        pieces.append(pd.DataFrame({**common, "task": "hf_diagnosis", **answers, **outcome}))
        outcome = {"risk": -np.log(time) + noise * generator.normal(size=n), "label": nothing, "positive": nothing}
        pieces.append(
            pd.DataFrame({**common, "task": "hf_risk", **answers, **outcome, "time": time, "event": event * 1})
        )
    embeds = {name: generator.normal(size=(n, 4)).astype(np.float32) for name in ("labs", "ecg", "echo")}
    everyone = {name: np.ones(n, bool) for name in embeds}
    predictions = Predictions(pd.concat(pieces, ignore_index=True), embeds, everyone, ids, ids)
    changed = {key.rsplit(".", 1)[1]: value for key, value in (ROWS[row] or {}).items()}
    about = {"components": {**DEFAULT, **changed}, "training": None, "weights": "sha256:0", "code_revision": "0"}
    directory.mkdir(parents=True)
    predictions.table.to_parquet(directory / "predictions.parquet", index=False)
    (directory / "metrics.json").write_text(json.dumps(about | compute_metrics(predictions, TASKS, replicates=20)))


def write_plan(directory: Path, **changes: Any) -> Path:
    data = directory / "data"
    data.mkdir(exist_ok=True)
    (data / "prepare.json").write_text(json.dumps({"data_hash": "invented"}))
    base = {"output": "unused", "data": {"directory": str(data)}, "tasks": {"hf_diagnosis": None}}
    (directory / "base.yaml").write_text(yaml.safe_dump(base))
    plan = {"output": str(directory / "out"), "base": "base.yaml", "rows": ROWS, "seeds": [0, 1], "bootstrap": 100}
    path = directory / "plan.yaml"
    path.write_text(yaml.safe_dump({**plan, **changes}, sort_keys=False))
    return path


@pytest.fixture
def stubbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a directory in which a run copies its invented evaluation and writes down its name."""
    for row in ("TGMM", "Mean-Cat", "linear"):
        for seed in (0, 1):
            invented_results(tmp_path / "results" / row / f"seed{seed}", row, seed)
    stub = STUB.format(log=str(tmp_path / "ran.txt"), results=str(tmp_path / "results"))
    monkeypatch.setattr(module, "run_command", lambda spec: [sys.executable, "-c", stub, str(spec)])
    return tmp_path


def ran(directory: Path) -> list[str]:
    """List the runs that were started since the last call."""
    lines = sorted((directory / "ran.txt").read_text().splitlines()) if (directory / "ran.txt").is_file() else []
    (directory / "ran.txt").unlink(missing_ok=True)
    return lines


def test_finished_runs_stay_and_failed_ones_stop_no_other(stubbed: Path) -> None:
    plan = write_plan(stubbed)
    record = reproduce(plan, workers=2, progress=False)
    assert len(ran(stubbed)) == 8
    failed = [run for run in record["runs"] if run["status"] == "failed"]
    assert [(run["row"], run["seed"], run["reason"]) for run in failed] == [
        ("broken", seed, "ValueError: there is nothing to be learned") for seed in (0, 1)
    ]
    again = reproduce(plan, progress=False)
    assert ran(stubbed) == ["broken/seed0", "broken/seed1"]
    assert_close(again["figures"], record["figures"])
    # other data, or other settings: run anew
    reproduce(write_plan(stubbed, rows={"TGMM": None}, seeds=[0]), progress=False)
    assert ran(stubbed) == []
    (stubbed / "out/runs/TGMM/seed0/evaluation/metrics.json").unlink()
    (stubbed / "out/runs/TGMM/seed0/evaluation").rename(stubbed / "old")
    reproduce(write_plan(stubbed, rows={"TGMM": None}, seeds=[0]), progress=False)
    assert ran(stubbed) == ["TGMM/seed0"]
    json.loads((stubbed / "out/reproduce.json").read_text())


def test_a_stopped_run_keeps_its_checkpoints_and_one_of_other_settings_does_not(stubbed: Path) -> None:
    rows: dict[str, Any] = {"TGMM": None, "broken": ROWS["broken"]}
    reproduce(write_plan(stubbed, rows=rows, seeds=[0]), progress=False)
    checkpoint = stubbed / "out/runs/broken/seed0/model-training/checkpoint-1"
    checkpoint.mkdir(parents=True)
    reproduce(write_plan(stubbed, rows=rows, seeds=[0]), progress=False)
    assert checkpoint.is_dir()
    changed = {"optimisation.epochs": 3}
    reproduce(write_plan(stubbed, rows=rows, seeds=[0], overrides=changed), progress=False)
    assert not checkpoint.exists()


def test_the_directory_of_a_run_with_other_files_is_not_discarded(stubbed: Path) -> None:
    reproduce(write_plan(stubbed), progress=False)
    notes = stubbed / "out/runs/TGMM/seed0/notes.txt"
    notes.write_text("somebody's own")
    ran(stubbed)
    with pytest.raises(FileExistsError, match=r"seed0 holds 1 entry .*notes\.txt"):
        reproduce(write_plan(stubbed, bootstrap=99), progress=False)
    assert notes.is_file() and ran(stubbed) == []


def test_tables_are_means_and_deviations_of_the_runs(stubbed: Path) -> None:
    reproduce(write_plan(stubbed), progress=False)
    tables = {path.stem: pd.read_csv(path) for path in (stubbed / "out/tables").iterdir()}
    assert set(tables) == {"table2", "table3", "table5", "table6", "differences", "combinations"}
    drawn = (stubbed / "out/figures/differences_hf_diagnosis.svg").read_text()
    assert "Mean-Cat" in drawn and "TGMM minus the row" in drawn
    values = [
        json.loads((stubbed / f"results/Mean-Cat/seed{seed}/metrics.json").read_text())["hf_diagnosis"]["ecg"]["auc"]
        for seed in (0, 1)
    ]
    row = tables["table2"].query("Model == 'Mean-Cat' and Metric == 'AUC'").iloc[0]
    assert row["ECG"] == f"{statistics.fmean(values):.3f} ± {abs(values[0] - values[1]) / 2**0.5:.3f}"
    assert list(tables["table2"]["Model"].unique()) == ["TGMM", "Mean-Cat", "linear"]
    # table 5: the same guidance and response; table 6: the same fusion
    assert list(tables["table5"]["Model"].unique()) == ["TGMM", "Mean-Cat"]
    assert list(tables["table6"]["Model"].unique()) == ["TGMM", "linear"]
    assert list(tables["table6"].query("Model == 'linear'")["Linear"].unique()) == ["✓"]
    assert "labs->ecg" in tables["table3"] and "LRAP of 3" in set(tables["table3"]["Metric"])


def test_differences_are_paired_means_over_seeds(stubbed: Path) -> None:
    record = reproduce(write_plan(stubbed), progress=False)
    entries = {(e["task"], e["subset"], e["row"]): e for e in record["differences"]}
    assert len(entries) == 2 * len(SUBSET_NAMES) * 2
    entry = entries["hf_diagnosis", "labs+ecg", "Mean-Cat"]
    tables = {
        (row, seed): pd.read_parquet(stubbed / "results" / row / f"seed{seed}" / "predictions.parquet").query(
            "task == 'hf_diagnosis' and subset == 'labs+ecg'"
        )
        for row in ("TGMM", "Mean-Cat")
        for seed in (0, 1)
    }
    aucs = {key: roc_auc_score(rows["label"], rows["probability"]) for key, rows in tables.items()}
    by_hand = sum(aucs["TGMM", seed] - aucs["Mean-Cat", seed] for seed in (0, 1)) / 2
    assert entry["difference"] == pytest.approx(by_hand, abs=1e-9)
    assert entry["difference_ci"][0] < entry["difference"] < entry["difference_ci"][1]
    first = [tables[row, 0] for row in ("TGMM", "Mean-Cat")]
    scores = [rows["probability"].to_numpy() for rows in first]
    p = delong_test(*scores, first[0]["positive"].to_numpy(), first[0]["patient_id"]).p
    assert entry["delong_p"] == pytest.approx(p)
    assert entry["delong_p"] <= entry["delong_p_holm"] <= 1
    assert "delong_p" not in entries["hf_risk", "labs", "linear"]


def test_subsets_are_compared_within_the_first_row(stubbed: Path) -> None:
    record = reproduce(write_plan(stubbed), progress=False)
    entries = {(e["task"], e["subset"]): e for e in record["combinations"]}
    assert set(entries) == {(task, subset) for task in ("hf_diagnosis", "hf_risk") for subset in SUBSET_NAMES[:-1]}
    metrics = [
        json.loads((stubbed / f"results/TGMM/seed{seed}/metrics.json").read_text())["hf_risk"] for seed in (0, 1)
    ]
    by_hand = statistics.fmean(each[SUBSET_NAMES[-1]]["c_index"] - each["ecg"]["c_index"] for each in metrics)
    assert entries["hf_risk", "ecg"]["difference"] == pytest.approx(by_hand, abs=1e-9)


def test_the_distance_to_the_optimum_is_paired_too(stubbed: Path) -> None:
    table = pd.read_parquet(stubbed / "results/TGMM/seed0/predictions.parquet").query("task == 'hf_diagnosis'")
    truth = pd.DataFrame({"id": table["id"].unique()})
    best = table.drop_duplicates("id").set_index("id")["label"].reindex(truth["id"]).to_numpy()
    for subset in SUBSET_NAMES:
        truth[f"posterior.{subset}"], truth[f"risk.{subset}"] = best, 0.5
    truth.to_parquet(stubbed / "truth.parquet")
    (stubbed / "bayes.json").write_text("{}")
    record = reproduce(write_plan(stubbed, bayes=str(stubbed / "bayes.json")), progress=False)
    entry = next(
        e for e in record["differences"] if (e["row"], e["task"], e["subset"]) == ("optimum", "hf_diagnosis", "echo")
    )
    aucs = [
        json.loads((stubbed / f"results/TGMM/seed{seed}/metrics.json").read_text())["hf_diagnosis"]["echo"]["auc"]
        for seed in (0, 1)
    ]
    assert entry["difference"] == pytest.approx(statistics.fmean(aucs) - 1, abs=1e-9)
    assert "delong_p" not in entry


def test_a_small_grid_is_warned_about_and_names_cases_and_seeds(stubbed: Path) -> None:
    shutil.rmtree(stubbed / "results/Mean-Cat/seed0")  # that run fails
    printed = CliRunner().invoke(app, ["reproduce", str(write_plan(stubbed))])
    record = json.loads((stubbed / "out/reproduce.json").read_text())
    assert printed.exit_code == 1 and all(f"Warning: {warning}" in printed.output for warning in record["warnings"])
    table = pd.read_parquet(stubbed / "results/TGMM/seed0/predictions.parquet").query("subset == 'labs'")
    positives, events = int(table["positive"].sum()), int((table["event"] == 1).sum())
    assert [warning.split(".")[0] for warning in record["warnings"]] == [
        f"hf_diagnosis: n = 60, {min(positives, 60 - positives)} patients in the smaller class",
        f"hf_risk: n = 60, {events} events",
    ]
    aucs = {
        (row, seed): json.loads(path.read_text())["hf_diagnosis"]["labs"]["auc"]
        for row in ("TGMM", "Mean-Cat", "linear")
        for seed in (0, 1)
        if (path := stubbed / f"results/{row}/seed{seed}/metrics.json").is_file()
    }
    entries = {(e["task"], e["subset"], e["row"]): e for e in record["differences"]}
    differences = pd.read_csv(stubbed / "out/tables/differences.csv", dtype=str).set_index("TGMM minus")
    rows = differences.query("Task == 'hf_diagnosis' and Modalities == 'Lab'")
    for row, seeds in (("Mean-Cat", [1]), ("linear", [0, 1])):
        by_hand = [aucs["TGMM", seed] - aucs[row, seed] for seed in seeds]
        entry = entries["hf_diagnosis", "labs", row]
        assert entry["by_seed"] == pytest.approx(by_hand, abs=1e-9) and entry["positives"] == positives
        cells = rows.loc[row, ["n", "positives or events", "seeds", "by seed"]].tolist()
        shown = [", ".join(texts) for texts in ([str(s) for s in seeds], [f"{value:+.3f}" for value in by_hand])]
        assert cells == ["60", str(positives), *shown]
    assert set(differences.query("Task == 'hf_risk'")["positives or events"]) == {str(events)}
    combinations = pd.read_csv(stubbed / "out/tables/combinations.csv", dtype=str)
    assert set(combinations["seeds"]) == {"0, 1"} and combinations["by seed"].str.count(",").eq(1).all()


def test_a_difference_without_interval_is_a_hollow_mark_with_the_reason() -> None:
    certain = {"row": "Mean-Cat", "difference": -0.1, "difference_ci": [-0.2, 0.0]}
    uncertain = {"row": "linear", "difference": 0.0, "difference_ci": None, "difference_missing": ALL_AGREE}
    axes = differences_figure([certain, uncertain], "auc", "TGMM", "dx").axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "Mean-Cat",
        "linear\n(no interval: resamples agree)",
    ]
    marks = [line.get_fillstyle() for line in axes.lines if line.get_marker() == "o"]
    assert marks == ["full", "none"] and axes.get_xlabel().endswith("95 % interval (patients)")
    assert "interval" not in differences_figure([uncertain], "auc", "TGMM", "dx").axes[0].get_xlabel()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": {}}, "Unknown settings: row"),
        ({"rows": {}}, "at least one"),
        ({"seeds": [0, 0]}, "different whole numbers"),
        ({"rows": {"../up": None}}, "name of its directory"),
        ({"rows": {"a": {"model.sise": "tiny"}}}, "model.sise"),
        ({"rows": {"a": {"model.overrides.fusion": "mean"}}}, "fusion must be one of"),
        ({"test": "nowhere"}, "no prepared data in nowhere"),
        ({"bayes": "nowhere"}, "There is no nowhere: .* synthetic cohort"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_runs(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_plan(write_plan(tmp_path, **changes))


def test_a_run_is_the_base_with_the_settings_of_plan_and_row(tmp_path: Path) -> None:
    _, runs = read_plan(write_plan(tmp_path, overrides={"optimisation.epochs": 3}))
    assert [(run.row, run.seed) for run in runs] == [(row, seed) for seed in (0, 1) for row in ROWS]
    settings = next(run for run in runs if (run.row, run.seed) == ("Mean-Cat", 1)).spec["run"]
    assert settings["model"]["overrides"] == {"fusion": "concat"}
    assert (settings["seed"], settings["optimisation"]["epochs"]) == (1, 3)
    assert settings["output"] == str(tmp_path / "out/runs/Mean-Cat/seed1/model")
    assert len({run.fingerprint for run in runs}) == len(runs)


def test_committed_plans_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in ("demo/data", "grid/data", "grid/test/data", "learn/data", "learn/test_data"):
        (tmp_path / data).mkdir(parents=True)
        (tmp_path / data / "prepare.json").write_text(json.dumps({"data_hash": "invented"}))
    tiny = TgmmConfig.tiny()
    for modality in MODALITIES:
        getattr(tiny, f"{modality}_config").save_pretrained(tmp_path / "grid/encoders" / modality)
    for cohort in ("demo/cohort", "grid/test/cohort", "learn/test_cohort"):
        (tmp_path / cohort).mkdir(parents=True)
        (tmp_path / cohort / "bayes.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    plans = sorted((Path(__file__).resolve().parents[2] / "configs").glob("reproduce*.yaml"))
    for path in plans:
        plan, runs = read_plan(path)
        assert len(runs) == len(plan.rows) * len(plan.seeds)
    assert plans


@pytest.mark.slow
def test_a_grid_of_two_fusions_and_two_seeds(prepared_dir: Path, tmp_path: Path) -> None:
    plan = write_plan(
        tmp_path,
        rows={"TGMM": None, "Mean-Cat": {"model.overrides.fusion": "concat"}},
        overrides={
            "data.directory": str(prepared_dir),
            "tasks": {"hf_diagnosis": None, "hf_risk": None, "retrieval": None},
            "model.overrides.echo_config": SMALL_ECHO,
            "model.overrides.ecg_config": {"num_hidden_layers": 1},
            "optimisation.epochs": 1,
        },
    )
    record = reproduce(plan, progress=False)
    assert [run["status"] for run in record["runs"]] == ["done"] * 4, record["runs"]
    assert {run["components"]["fusion"] for run in record["runs"]} == {"medflex", "concat"}
    assert len({run["weights"] for run in record["runs"]}) == 4
    table = pd.read_csv(tmp_path / "out/tables/table2.csv")
    assert list(table["Model"]) == ["TGMM", "Mean-Cat"] * 3
    assert reproduce(plan, progress=False)["runs"] == record["runs"]  # also the seconds, because nothing ran again
