"""A search over settings: it is seeded, resumes after a kill, reports failing settings and writes the best ones."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from closeness import assert_close
from prepared_data import SMALL_ECHO

from tgmm_hf.cli import main
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.experiments import search as search_module
from tgmm_hf.experiments.search import search
from tgmm_hf.experiments.search_plan import read_search
from tgmm_hf.training.arguments import read_arguments
from tgmm_hf.training.saving import save_repository
from tgmm_hf.training.starting_model import build
from tgmm_hf.training.train import train
from tgmm_hf.training.trainer import TgmmTrainer

SETTINGS = {
    "optimisation.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "optimisation.batch_size": {"choices": [8, 12]},
    "model.overrides.feature_dropout": {"low": 0.0, "high": 0.5},
    "tasks.hf_risk.weight": {"low": 0.1, "high": 1.0},
}


class Killed(BaseException):
    """An exception that nothing catches."""


def write_plan(directory: Path, data: Path, **changes: Any) -> Path:
    base = {
        "output": "unused",
        "data": {"directory": str(data)},
        "tasks": {"hf_diagnosis": None, "hf_risk": None},
        "model": {"overrides": {"echo_config": SMALL_ECHO, "ecg_config": {"num_hidden_layers": 1}}},
        "optimisation": {"epochs": 2, "optimizer": "adamw"},
    }
    directory.mkdir(exist_ok=True)
    (directory / "base.yaml").write_text(yaml.safe_dump(base))
    plan = {"output": str(directory / "out"), "base": "base.yaml", "trials": 2, "settings": SETTINGS}
    path = directory / "plan.yaml"
    path.write_text(yaml.safe_dump({**plan, **changes}))
    return path


def trials(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**trial, "seconds": None} for trial in record["trials"]]


@pytest.fixture(scope="module")
def done(prepared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return plan and results of a search that was not stopped."""
    plan = write_plan(tmp_path_factory.mktemp("search"), prepared_dir)
    return plan, search(plan)


@pytest.mark.slow
def test_training_the_best_configuration_gives_the_score_of_its_trial(done: tuple[Path, dict[str, Any]]) -> None:
    plan, record = done
    out = plan.parent / "out"
    assert json.loads((out / "search.json").read_text()) == record
    first, second = record["trials"]
    assert set(first["settings"]) == set(SETTINGS) and first["settings"] != second["settings"]
    assert record["best"]["score"] == max(first["score"], second["score"])
    rows = list(csv.DictReader((out / "trials.csv").open()))
    assert [float(row["score"]) for row in rows] == [first["score"], second["score"]]
    assert float(rows[1]["optimisation.learning_rate"]) == second["settings"]["optimisation.learning_rate"]
    assert list((out / "trials").iterdir()) == []  # no checkpoint stays

    run = read_arguments(out / "best.yaml")
    settings = record["best"]["settings"]
    assert run.optimisation.learning_rate == settings["optimisation.learning_rate"]
    assert run.model.overrides["feature_dropout"] == settings["model.overrides.feature_dropout"]
    assert run.output == str(out / "best")
    trained = train(run)
    kept = next(line for line in trained["history"] if line.get("eval_score") == trained["kept_metric"]["score"])
    # the search uses the task weights of the base, 1 and 1, not those of the trial
    assert_close((kept["eval_hf_diagnosis_score"] + kept["eval_hf_risk_score"]) / 2, record["best"]["score"])


@pytest.mark.parametrize("evaluation", [2, 3])
@pytest.mark.slow
def test_a_killed_search_continues_with_the_same_trials(
    evaluation: int,
    done: tuple[Path, dict[str, Any]],
    prepared_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluate, begin = TgmmTrainer.evaluate, TgmmTrainer.train
    evaluated: list[int] = []
    checkpoints: list[str | None] = []

    def killing(self: TgmmTrainer, *args: Any, **kwargs: Any) -> dict[str, float]:
        evaluated.append(self.state.global_step)
        if len(evaluated) == evaluation:
            raise Killed
        return evaluate(self, *args, **kwargs)

    def watched(self: TgmmTrainer, checkpoint: str | None, trial: Any) -> Any:
        checkpoints.append(checkpoint and Path(checkpoint).name)
        return begin(self, checkpoint, trial)

    monkeypatch.setattr(TgmmTrainer, "evaluate", killing)
    monkeypatch.setattr(TgmmTrainer, "train", watched)
    plan = write_plan(tmp_path, prepared_dir)
    with pytest.raises(Killed):
        search(plan)
    record = search(plan)
    assert_close(trials(record), trials(done[1]))
    if evaluation == 2:
        assert checkpoints == [None, f"checkpoint-{evaluated[0]}", None]
    else:
        assert checkpoints == [None, None, None]


def test_more_trials_continue_a_search_and_other_settings_are_refused(
    done: tuple[Path, dict[str, Any]], prepared_dir: Path
) -> None:
    plan, record = done
    assert trials(search(plan)) == trials(record)
    directory = plan.parent
    with pytest.raises(ValueError, match=r"a search of other settings: seed was 0, now 1. Give another output"):
        search(write_plan(directory, prepared_dir, seed=1))
    narrower = {**SETTINGS, "optimisation.batch_size": {"choices": [8]}}
    with pytest.raises(ValueError, match=r"settings.optimisation.batch_size.choices was \[8, 12\], now \[8\]"):
        search(write_plan(directory, prepared_dir, settings=narrower))


def test_a_search_of_version_0_1_is_recognised(prepared_dir: Path, tmp_path: Path) -> None:
    """It names the settings of the study otherwise."""
    plan = read_search(write_plan(tmp_path, prepared_dir))
    new, old = optuna.create_study(), optuna.create_study()
    search_module._claim(new, plan, "hash")
    old.set_user_attr("told", new.user_attrs["settings"])
    search_module._claim(old, plan, "hash")
    other = optuna.create_study()
    other.set_user_attr("told", new.user_attrs["settings"] | {"seed": 1})
    with pytest.raises(ValueError, match="seed was 1, now 0"):
        search_module._claim(other, plan, "hash")


@pytest.mark.slow
def test_each_number_of_frozen_layers_has_its_own_cache(prepared_dir: Path, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, prepared_dir)
    start = read_arguments(tmp_path / "base.yaml")
    save_repository(*build(start, load_prepared(prepared_dir)), tmp_path / "start")
    overrides = {
        "model": {"checkpoint": str(tmp_path / "start"), "trainable_layers": 0},
        "data.cache": {"directory": str(tmp_path / "cache")},
        "optimisation.epochs": 1,
    }
    settings = {"model.trainable_layers": {"choices": [0, 1]}, "tasks.hf_risk.weight": {"low": 0.1, "high": 1.0}}
    plan = write_plan(tmp_path, prepared_dir, overrides=overrides, settings=settings, trials=4)
    record = search(plan)
    assert all(trial["failed"] is None for trial in record["trials"])
    tried = {trial["settings"]["model.trainable_layers"] for trial in record["trials"]}
    keys = [json.loads(path.read_text()) for path in (tmp_path / "cache").glob("*/key.json")]
    assert {key["trainable_layers"] for key in keys} == tried | {0} == {0, 1}
    assert train(read_arguments(tmp_path / "out" / "best.yaml"))["kept_metric"]["score"] > 0


@pytest.mark.slow
def test_settings_that_fail_end_their_trial_and_not_the_search(
    prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warm-up needs the cosine schedule. A high learning rate gives a loss that is not finite."""
    settings = {
        "optimisation.schedule": {"choices": ["plateau", "cosine"]},
        "optimisation.warmup_fraction": {"choices": [0.0, 0.5]},
        "optimisation.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    compute_loss, diverging = TgmmTrainer.compute_loss, 3e-3

    def spoiled(self: TgmmTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.args.learning_rate > diverging:
            raise FloatingPointError("The loss is nan")
        return compute_loss(self, *args, **kwargs)

    monkeypatch.setattr(TgmmTrainer, "compute_loss", spoiled)
    overrides = {"optimisation.epochs": 1, "optimisation.batch_size": 24, "optimisation.schedule": "cosine"}
    plan = write_plan(tmp_path, prepared_dir, settings=settings, trials=6, overrides=overrides)
    record = search(plan)
    assert len(record["trials"]) == 6
    for trial in record["trials"]:
        if [trial["settings"][f"optimisation.{name}"] for name in ("schedule", "warmup_fraction")] == ["plateau", 0.5]:
            assert trial["failed"].startswith(
                "ValueError: optimisation.warmup_fraction is 0.5, but the plateau schedule"
            )
        elif trial["settings"]["optimisation.learning_rate"] > diverging:
            assert trial["failed"] == "FloatingPointError: The loss is nan"
        else:
            assert trial["failed"] is None and 0 < trial["score"] <= 1
    assert {None, "ValueError", "FloatingPointError"} == {
        trial["failed"] and trial["failed"].split(":")[0] for trial in record["trials"]
    }

    always = write_plan(
        tmp_path / "always",
        prepared_dir,
        overrides=overrides,
        settings={"optimisation.learning_rate": {"low": 0.1, "high": 0.2}},
    )
    with pytest.raises(ValueError, match="None of 2 trials .*FloatingPointError: The loss is nan"):
        search(always)


def test_an_unreadable_file_ends_the_search_and_not_the_trial(
    prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: TgmmTrainer, *args: Any, **kwargs: Any) -> Any:
        raise OSError("the cache cannot be read")

    overrides = {"optimisation.epochs": 1, "optimisation.batch_size": 24}
    settings = {"optimisation.learning_rate": {"low": 1e-4, "high": 1e-3}}
    plan = write_plan(tmp_path, prepared_dir, settings=settings, trials=1, overrides=overrides)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="the cache cannot be read"):
        patched.setattr(TgmmTrainer, "compute_loss", broken)
        search(plan)
    (trial,) = search(plan)["trials"]
    assert trial["failed"] is None and trial["score"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"setting": {}}, "Unknown settings: setting"),
        ({"settings": {}}, "at least one of settings"),
        ({"settings": {"optimisation.learning_rat": {"low": 0.1, "high": 0.2}}}, "learning_rat cannot be searched"),
        ({"settings": {"optimisation.precision": {"choices": ["float32"]}}}, "precision cannot be searched"),
        ({"settings": {"data.directory": {"choices": ["a", "b"]}}}, "data.directory cannot be searched"),
        ({"settings": {"model.sise": {"choices": ["tiny"]}}}, "Unknown settings: model.sise"),
        ({"settings": {"model.overrides.fusio": {"choices": ["concat"]}}}, "Unknown settings: model.overrides.fusio"),
        ({"settings": {"model.overrides.fusion": {"choices": ["concat", "mean"]}}}, "fusion must be one of"),
        ({"settings": {"tasks.hf_diagnoses.weight": {"low": 0, "high": 1}}}, "trains no such task, but hf_diagnosis"),
        ({"settings": {"tasks.hf_risk.wait": {"low": 0.1, "high": 1.0}}}, r"unknown keys \['wait'\]"),
        ({"settings": {"optimisation.batch_size": {"low": 0, "high": 8}}}, "batch_size must be above 0"),
        ({"settings": {"optimisation.epochs": {"low": 1, "high": 2.5}}}, "epochs must be of type int"),
        ({"settings": {"optimisation.learning_rate": {"low": "1e-4", "high": 1}}}, "'1e-4' is no number .* 1.0e-4"),
        ({"settings": {"optimisation.learning_rate": {"low": 0.0, "high": 1.0, "log": True}}}, "low > 0 with log"),
        ({"settings": {"optimisation.learning_rate": {"low": 0.1}}}, "needs low and high, or choices"),
        ({"settings": {"optimisation.learning_rate": {"choices": [[0.1]]}}}, "choices must be numbers, text"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused_before_the_first_trial(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_search(write_plan(tmp_path, tmp_path, **changes))


def test_whole_numbers_are_tried_for_settings_that_are_whole(tmp_path: Path) -> None:
    settings = {
        "optimisation.epochs": {"low": 2, "high": 30},
        "optimisation.weight_decay": {"low": 0, "high": 1},  # a decimal number, although its ends are whole
        "model.overrides.num_fusion_tokens": {"low": 1, "high": 4},
    }
    plan = read_search(write_plan(tmp_path, tmp_path, settings=settings))
    drawn = [plan.suggest(trial) for trial in (optuna.create_study().ask() for _ in range(3))]
    for settings in drawn:
        assert isinstance(settings["optimisation.epochs"], int) and 2 <= settings["optimisation.epochs"] <= 30
        assert 0 < settings["optimisation.weight_decay"] < 1
        assert isinstance(settings["model.overrides.num_fusion_tokens"], int)


def test_without_the_extra_an_error_says_what_to_install(
    prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit) as caught:
        main(["search", str(write_plan(tmp_path, prepared_dir))])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "tgmm: tgmm search needs optuna: pip install 'tgmm-hf[optuna]'.\n"


def test_committed_plans_are_valid() -> None:
    plans = sorted((Path(__file__).resolve().parents[2] / "configs").glob("search*.yaml"))
    assert plans and all(read_search(path).plan.trials for path in plans)


@pytest.mark.slow
def test_the_presets_of_the_fusion_are_each_trained_once_and_compared(prepared_dir: Path, tmp_path: Path) -> None:
    spaces = {"model.overrides.fusion_preset": {"choices": ["additive", "interacting"]}}
    plan = write_plan(tmp_path, prepared_dir, settings=spaces, every_choice=True, seed=3)
    record = search(plan)
    tried = {trial["settings"]["model.overrides.fusion_preset"]: trial["score"] for trial in record["trials"]}
    assert set(tried) == {"additive", "interacting"} and None not in tried.values()
    best = read_arguments(tmp_path / "out" / "best.yaml").model.overrides["fusion_preset"]
    assert tried[best] == max(tried.values())


def test_every_choice_needs_choices_and_no_more_trials_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has low and high"):
        read_search(write_plan(tmp_path, tmp_path, every_choice=True))
    spaces = {"optimisation.batch_size": {"choices": [8, 12]}, "optimisation.schedule": {"choices": ["cosine"]}}
    with pytest.raises(ValueError, match="2 combinations"):
        read_search(write_plan(tmp_path, tmp_path, settings=spaces, every_choice=True, trials=3))
