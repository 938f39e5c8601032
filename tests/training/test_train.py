"""A training run on invented patients: it trains, stops, resumes, saves and refuses."""

import copy
import importlib.util
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from prepared_data import SMALL_ECHO
from safetensors.torch import load_file, save_file
from tiny_models import smallest_model
from typer.testing import CliRunner

from tgmm_hf.cli import app
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.predictions import Predictions, collect_predictions
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.training import train as train_file
from tgmm_hf.training import trained_answers
from tgmm_hf.training.arguments import RunArguments, parse_arguments
from tgmm_hf.training.run_directory import FINISHED, claim_directories, claim_training_directory
from tgmm_hf.training.stored_hazards import FEWEST_EVENTS, store_baseline_hazards
from tgmm_hf.training.train import train
from tgmm_hf.training.trained_answers import TrainedAnswers
from tgmm_hf.training.trainer import TgmmTrainer, trainer_arguments
from tgmm_hf.utils.names import SUBSETS

TASKS = {"hf_diagnosis": None, "hf_risk": {"weight": 0.5}, "retrieval": None}


def settings(prepared_dir: Path, output: Path, **optimisation: Any) -> RunArguments:
    return parse_arguments(
        {
            "output": str(output),
            "data": {"directory": str(prepared_dir)},
            "tasks": TASKS,
            "model": {"overrides": {"echo_config": SMALL_ECHO, "ecg_config": {"num_hidden_layers": 1}}},
            "optimisation": {"epochs": 2, "batch_size": 8, "logging_steps": 1, **optimisation},
        }
    )


@pytest.fixture(scope="module")
def trained(prepared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunArguments, dict[str, Any]]:
    run = settings(prepared_dir, tmp_path_factory.mktemp("run") / "model")
    return run, train(run)


def test_the_run_record_has_data_hash_losses_and_figures(trained: tuple[RunArguments, dict[str, Any]]) -> None:
    run, record = trained
    assert json.loads((Path(run.output) / "run.json").read_text()) == record
    assert record["data_hash"] == "invented"
    assert record["epochs"] == 2
    steps = [line for line in record["history"] if "loss" in line]
    validations = [line for line in record["history"] if "eval_score" in line]
    assert (len(steps), len(validations)) == (6, 2)
    assert {"hf_diagnosis/mc", "hf_risk/cox", "retrieval/labs+ecg", "gate/labs+ecg+echo/labs"} <= set(steps[0])
    assert {"gate_spread/labs+ecg+echo/labs", "attention/hf_diagnosis/labs+echo"} <= set(steps[0])
    assert "eval_hf_diagnosis_without_shared_slots" in validations[0]
    assert {"eval_loss", "eval_hf_diagnosis_auc", "eval_hf_risk_c_index", "eval_retrieval_lrap_3"} <= set(
        validations[0]
    )


def test_saved_directory_loads_and_carries_its_baseline_hazards(trained: tuple[RunArguments, dict[str, Any]]) -> None:
    run, _ = trained
    model = TgmmModel.from_pretrained(run.output)
    processor = TgmmProcessor.from_pretrained(run.output)
    hazards = model.config.tasks["hf_risk"]["baseline_hazards"]
    assert set(hazards) == {"+".join(subset) for subset in SUBSETS}
    for hazard in hazards.values():
        assert hazard["fitted_on"] == "train+validation"
        assert hazard["events"] > 0
        assert hazard["weights"] == model.config.weights_fingerprint["id"]
    sets = model.config.tasks["hf_diagnosis"]["prediction_sets"]
    assert set(sets["subsets"]) == set(hazards) and sets["weights"] == model.config.weights_fingerprint["id"]
    assert model.config.processor_fingerprint["weights"] == sets["weights"]
    # The scores of different subsets are not on one scale.
    assert hazards["labs"]["risk_center"] != hazards["labs+ecg+echo"]["risk_center"]
    assert model.config.tasks["hf_risk"]["weight"] == 0.5
    assert len(processor.tokenizer) == model.config.labs_config.vocab_size
    inputs = processor(labs={"NTproBNP": 5000, "age": 70}, return_tensors="pt")
    assert torch.isfinite(model.eval()(**inputs, task="hf_diagnosis").logits).all()
    for name in ("config.json", "model.safetensors", "processor_config.json", "modeling_tgmm.py", "pipeline_tgmm.py"):
        assert (Path(run.output) / name).is_file(), name


@dataclass(frozen=True)
class FirstEpoch:
    """A training of one epoch, which a test continues in the same directory.

    Attributes:
        output: Directory of its model.
        logging: Its setting "logging".
        answered: Number of rows and tasks of every prediction whose answers are stored.
        events: Copies of the events for TensorBoard.
    """

    output: Path
    logging: str
    answered: list[tuple[int, list[str]]]
    events: list[Path]


@pytest.fixture(scope="module")
def first_epoch(prepared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> FirstEpoch:
    answered: list[tuple[int, list[str]]] = []

    def counting(model: TgmmModel, rows: Any, *rest: Any, tasks: list[str], **options: Any) -> Predictions:
        answered.append((len(rows), tasks))
        return collect_predictions(model, rows, *rest, tasks=tasks, **options)

    root = tmp_path_factory.mktemp("first_epoch")
    logging = "tensorboard" if importlib.util.find_spec("tensorboard") else "none"
    run = settings(prepared_dir, root / "model", epochs=1, logging=logging)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained_answers, "collect_predictions", counting)
        train(run)
    events = [Path(shutil.copy(path, root)) for path in run.training_directory.rglob("events.out.tfevents.*")]
    return FirstEpoch(root / "model", logging, answered, events)


def test_each_split_is_answered_once_for_all_that_is_stored(prepared_dir: Path, first_epoch: FirstEpoch) -> None:
    splits = load_prepared(prepared_dir)
    assert first_epoch.answered == [
        (len(splits["validation"]), ["hf_diagnosis", "hf_risk"]),
        (len(splits["train"]), ["hf_risk"]),
    ]


def test_training_scores_enter_the_baseline_hazards_only_where_validation_events_are_few() -> None:
    """The model is overfitted: its scores separate training patients well and validation patients hardly."""
    generator = np.random.default_rng(0)

    def scores(subset: str, n: int, slope: float, events: int) -> pd.DataFrame:
        risk = generator.normal(size=n)
        time = generator.exponential(np.exp(-slope * risk)) * 300 + 1
        event = np.zeros(n)
        event[np.argsort(time)[:events]] = 1
        columns = {"row": range(n), "risk": risk, "time": time, "event": event}
        return pd.DataFrame({**columns, "task": "hf_risk", "subset": subset})

    def predictions(*tables: pd.DataFrame) -> Predictions:
        return Predictions(pd.concat(tables), {}, {}, np.array([]), np.array([]))

    model = smallest_model()
    answers = TrainedAnswers(model, None, ["hf_risk"], {}, cast(Any, None), 8)
    answers.__dict__["validation"] = predictions(
        scores("labs", 400, 0.3, 200),
        scores("ecg", 40, 0.3, FEWEST_EVENTS - 1),
        scores("ecg+echo", 40, 0.3, FEWEST_EVENTS),
    )
    answers.__dict__["training"] = predictions(
        scores("labs", 400, 3.0, 200), scores("ecg", 400, 3.0, 200), scores("ecg+echo", 40, 3.0, 20)
    )
    store_baseline_hazards(answers)
    hazards = model.config.tasks["hf_risk"]["baseline_hazards"]
    assert {subset: (hazard["fitted_on"], hazard["n"]) for subset, hazard in hazards.items()} == {
        "labs": ("validation", 400),
        "ecg": ("train+validation", 440),
        "ecg+echo": ("validation", 40),
    }
    assert hazards["labs"]["event_slope"] == pytest.approx(0.3, abs=0.2)
    assert hazards["ecg"]["event_slope"] > 1


def test_a_resumed_run_has_the_losses_of_one_that_was_not_stopped(
    prepared_dir: Path, first_epoch: FirstEpoch, trained: tuple[RunArguments, dict[str, Any]]
) -> None:
    """It is trained for one epoch, then continued with `epochs: 2`."""
    _, whole = trained
    resumed = train(settings(prepared_dir, first_epoch.output, logging=first_epoch.logging))
    losses = [line["loss"] for line in whole["history"] if "loss" in line]
    assert [line["loss"] for line in resumed["history"] if "loss" in line] == pytest.approx(losses, rel=1e-5)
    assert resumed["resumed_from"] == "checkpoint-3"
    times = [line["seconds"] for line in resumed["history"]]
    assert times == sorted(times) and resumed["seconds"] == times[-1]


def test_a_run_with_other_settings_is_not_continued(
    prepared_dir: Path, tmp_path: Path, trained: tuple[RunArguments, dict[str, Any]]
) -> None:
    run, _ = trained
    assert (run.training_directory / FINISHED).is_file()
    stopped = settings(prepared_dir, tmp_path / "model", batch_size=4)
    shutil.copytree(run.training_directory, stopped.training_directory)
    record = json.loads((stopped.training_directory / "settings.json").read_text())
    record["run"]["output"] = stopped.output
    (stopped.training_directory / "settings.json").write_text(json.dumps(record))
    (stopped.training_directory / FINISHED).unlink()
    with pytest.raises(ValueError, match="optimisation.batch_size was 8, now 4"):
        train(stopped)
    (stopped.training_directory / FINISHED).touch()
    with pytest.raises(ValueError, match="holds a finished run of other settings: run.optimisation.batch_size was 8"):
        train(stopped)


@pytest.mark.slow
def test_a_finished_model_is_neither_trained_again_nor_replaced_without_resume_never(
    prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = settings(prepared_dir, tmp_path / "model", epochs=1, schedule="cosine")
    record = train(run)
    assert record["resumed_from"] is None and record["seconds"] > 0
    before = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(TgmmTrainer, "train", None)
        assert train(run) == record
    with pytest.raises(ValueError, match="finished run of other settings: run.optimisation.epochs was 1, now 2"):
        train(settings(prepared_dir, tmp_path / "model", epochs=2, schedule="cosine"))
    shutil.rmtree(run.training_directory)
    with pytest.raises(ValueError, match="holds a trained model, but .* is gone"):
        train(run)
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == before
    anew = parse_arguments({**run.to_dict(), "resume": "never", "seed": 1})
    assert train(anew)["seed"] == 1
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns > before


@pytest.mark.parametrize("foreign", ["thesis.tex", "evaluate.py", "view_classifier/notes.txt", "results/metrics.json"])
def test_a_saved_model_is_replaced_only_if_there_are_no_other_files(
    trained: tuple[RunArguments, dict[str, Any]], prepared_dir: Path, tmp_path: Path, foreign: str
) -> None:
    run, _ = trained
    output = tmp_path / "model"
    shutil.copytree(run.output, output)
    (output / "README.md").write_text("---\nlicense: other\n---\n")
    (output / "view_classifier").mkdir()
    (output / "view_classifier" / "config.json").write_text("{}")
    (output / "labs_of_version_0.py").write_text("")  # no code of the model imports it, so it belongs to a user
    anew = parse_arguments({**run.to_dict(), "output": str(output), "resume": "never"})
    with pytest.raises(FileExistsError, match=r"holds 1 entry .*labs_of_version_0\.py"):
        claim_directories(anew)
    (output / "labs_of_version_0.py").unlink()
    claim_directories(anew)
    (output / foreign).parent.mkdir(exist_ok=True)
    (output / foreign).write_text("somebody's own")
    with pytest.raises(FileExistsError, match=rf"holds 1 entry .*{foreign.split('/')[0]}"):
        claim_directories(anew)


def test_train_refuses_a_directory_with_other_files_before_any_work(
    prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the files have names as in a saved model, and in a training directory with `resume: never`."""
    monkeypatch.setattr(train_file, "read_data", None)
    monkeypatch.setattr(train_file, "trainer_arguments", None)
    output = tmp_path / "project"
    output.mkdir()
    for name in ("config.json", "README.md", "run.json", "LICENSE"):
        (output / name).write_text("{}")
    config = output / "train.yaml"
    config.write_text(json.dumps(settings(prepared_dir, output).to_dict()))
    result = CliRunner().invoke(app, ["train", str(config)])
    assert isinstance(result.exception, FileExistsError) and "holds 5 entries" in str(result.exception)
    assert "train.yaml" not in str(result.exception)  # three of five are named
    assert len(list(output.iterdir())) == 5
    for above in (prepared_dir, prepared_dir.parent, Path("/"), Path.home(), Path.cwd(), Path.cwd().parent):
        with pytest.raises(FileExistsError, match="would be replaced as a whole"):
            train(settings(prepared_dir, above))
    run = settings(prepared_dir, tmp_path / "model")
    run.training_directory.mkdir()
    (run.training_directory / "settings.json").write_text("{}")
    (run.training_directory / "notes.txt").write_text("somebody's own")
    with pytest.raises(FileExistsError, match=r"model-training holds 1 entry .*notes\.txt"):
        train(parse_arguments({**run.to_dict(), "resume": "never"}))
    assert (run.training_directory / "notes.txt").is_file()


def test_a_stopped_run_is_not_continued_if_the_weights_it_starts_from_have_changed(
    prepared_dir: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    save_file({"weight": torch.zeros(3)}, checkpoint / "model.safetensors")
    run = settings(prepared_dir, tmp_path / "model").to_dict()
    run = parse_arguments({**run, "model": {"checkpoint": str(checkpoint)}})
    claim_training_directory(run, "invented")
    claim_training_directory(run, "invented")
    save_file({"weight": torch.ones(3)}, checkpoint / "model.safetensors")
    with pytest.raises(ValueError, match=r"weights\.\S+ was 'sha256:\w+', now 'sha256:\w+'"):
        claim_training_directory(run, "invented")


@pytest.mark.slow
def test_a_stopped_cosine_run_keeps_its_number_of_epochs(prepared_dir: Path, tmp_path: Path) -> None:
    """With another number of epochs, the finished epochs would have had other learning rates."""
    cosine = {"schedule": "cosine", "epochs": 1}
    stopped = settings(prepared_dir, tmp_path / "model", **cosine)
    train(stopped)
    (stopped.training_directory / FINISHED).unlink()
    with pytest.raises(ValueError, match="optimisation.epochs was 1, now 2"):
        train(settings(prepared_dir, tmp_path / "model", **{**cosine, "epochs": 2}))


def test_patients_are_listed_beside_the_model_and_not_in_it(trained: tuple[RunArguments, dict[str, Any]]) -> None:
    run, _ = trained
    seen = json.loads((run.training_directory / "patients.json").read_text())["patients"]
    assert len(seen) == 24 + 16
    assert {patient.rstrip("0123456789") for patient in seen} == {"train", "validation"}
    assert not (Path(run.output) / "patients.json").exists()


def test_wrong_model_settings_are_named(prepared_dir: Path, tmp_path: Path) -> None:
    for overrides, message in (
        ({"hidden_sise": 64}, "model.overrides.hidden_sise"),
        ({"hidden_size": "x"}, "int, got"),
    ):
        run = settings(prepared_dir, tmp_path / "model")
        run.model.overrides.update(overrides)
        with pytest.raises(ValueError, match=message):
            train(run)


def test_data_of_another_geometry_is_refused(prepared_dir: Path, tmp_path: Path) -> None:
    run = settings(prepared_dir, tmp_path / "model")
    run.model.overrides["echo_config"] = {**SMALL_ECHO, "image_size": 64}
    with pytest.raises(ValueError, match="prepared with .*32.* but the model takes .*64"):
        train(run)


def test_accumulated_steps_do_not_multiply_the_loss(
    prepared_dir: Path, tmp_path: Path, trained: tuple[RunArguments, dict[str, Any]]
) -> None:
    """The Trainer would multiply it if it assumed that the model divides by `num_items_in_batch`."""
    _, whole = trained
    accumulated = train(settings(prepared_dir, tmp_path / "model", epochs=1, batch_size=4, accumulation_steps=2))
    first, expected = (next(line["loss"] for line in r["history"] if "loss" in line) for r in (accumulated, whole))
    assert 0.6 < first / expected < 1.6


def test_training_the_last_layers_alone_needs_a_checkpoint(
    prepared_dir: Path, tmp_path: Path, trained: tuple[RunArguments, dict[str, Any]]
) -> None:
    run = {**settings(prepared_dir, tmp_path / "model", epochs=1).to_dict(), "tasks": {"hf_diagnosis": None}}
    with pytest.raises(ValueError, match="random weights"):
        train(parse_arguments({**run, "model": {**run["model"], "trainable_layers": 1}}))
    record = train(parse_arguments({**run, "model": {"checkpoint": trained[0].output, "trainable_layers": 1}}))
    assert 0 < record["trainable_parameters"] < record["parameters"]


def test_fine_tuning_starts_from_a_checkpoint(
    prepared_dir: Path, tmp_path: Path, trained: tuple[RunArguments, dict[str, Any]]
) -> None:
    run, _ = trained
    tuned = parse_arguments(
        {
            "output": str(tmp_path / "tuned"),
            "data": {"directory": str(prepared_dir)},
            "tasks": {"hf_diagnosis": {"weight": 2.0}},
            "model": {"checkpoint": run.output},
            "optimisation": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-9},
        }
    )
    train(tuned)
    before, after = TgmmModel.from_pretrained(run.output), TgmmModel.from_pretrained(tuned.output)
    assert after.config.tasks["hf_diagnosis"]["weight"] == 2.0
    assert set(after.config.tasks) == set(before.config.tasks)
    # the risk scores of hf_risk have changed with the shared layers, so the old baseline hazards would be wrong
    assert (
        before.config.tasks["hf_risk"]["baseline_hazards"] and "baseline_hazards" not in after.config.tasks["hf_risk"]
    )
    assert torch.allclose(before.fusion.projection.query.weight, after.fusion.projection.query.weight, atol=1e-6)


def test_a_checkpoint_with_weights_of_another_version_is_not_fine_tuned(
    prepared_dir: Path, tmp_path: Path, trained: tuple[RunArguments, dict[str, Any]]
) -> None:
    """transformers would drop these weights and only log it."""
    shutil.copytree(trained[0].output, tmp_path / "old")
    (weights,) = (tmp_path / "old").glob("*.safetensors")
    tensors = load_file(weights)
    save_file({**tensors, "ecg_pool.memory_norm.bias": torch.zeros(64)}, weights, metadata={"format": "pt"})
    base = {**trained[0].to_dict(), "output": str(tmp_path / "tuned"), "model": {"checkpoint": str(tmp_path / "old")}}
    with pytest.raises(ValueError, match=r"does not know \(ecg_pool\.memory_norm\.bias\)"):
        train(parse_arguments(base))


def test_adapters_are_trained_instead_of_layers_and_merged(
    prepared_dir: Path, tmp_path: Path, trained: tuple[RunArguments, dict[str, Any]]
) -> None:
    pytest.importorskip("peft", reason="peft is not installed: pip install peft")
    run = settings(prepared_dir, tmp_path / "model", epochs=1, accumulation_steps=2, batch_size=4).to_dict()
    run["tasks"] = {"hf_diagnosis": None}
    with pytest.raises(ValueError, match=r"model\.lora is set.* no model\.checkpoint"):
        train(parse_arguments({**run, "model": {**run["model"], "lora": {"rank": 2}}}))
    record = train(parse_arguments({**run, "model": {"checkpoint": trained[0].output, "lora": {"rank": 2}}}))
    assert record["trainable_parameters"] < 0.8 * trained[1]["trainable_parameters"]
    before, after = (TgmmModel.from_pretrained(path).state_dict() for path in (trained[0].output, tmp_path / "model"))
    assert before.keys() == after.keys()  # an ordinary model again
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in moved} >= {
        "labs_encoder",
        "ecg_encoder",
        "echo_encoder",
        "fusion",
        "response",
    }
    encoders = {name for name in moved if "_encoder." in name}
    assert all(re.search(r"\.(query|key|value|qkv|output)\.weight$", name) for name in encoders), encoders


def test_tensorboard_gets_the_logged_figures(first_epoch: FirstEpoch) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (events,) = first_epoch.events
    reader = event_accumulator.EventAccumulator(str(events)).Reload()
    assert {"train/loss", "train/hf_diagnosis/mc", "eval/score"} <= set(reader.Tags()["scalars"])
    assert b"train0" not in events.read_bytes()  # no patient's id


def test_settings_reach_the_trainer(prepared_dir: Path, tmp_path: Path) -> None:
    run = settings(prepared_dir, tmp_path / "model", precision="bfloat16", accumulation_steps=3, torch_compile=True)
    arguments = trainer_arguments(run, use_cpu=True)
    assert (arguments.bf16, arguments.fp16, arguments.gradient_accumulation_steps) == (True, False, 3)
    assert arguments.torch_compile and arguments.report_to == []
    with pytest.raises(ValueError, match="float16, which needs a GPU"):
        train(settings(prepared_dir, tmp_path / "model", precision="float16"))


def test_a_copy_with_the_gathered_weights_stands_for_a_sharded_model(
    prepared_dir: Path, tmp_path: Path, trained: tuple[RunArguments, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FSDP and DeepSpeed need this. Gathering the weights cannot be tested without GPUs."""
    make = TgmmTrainer.__init__

    def sharded(self: TgmmTrainer, **kwargs: Any) -> None:
        make(self, **kwargs)
        self._whole, self._sharded = copy.deepcopy(self.model), True

    monkeypatch.setattr(TgmmTrainer, "__init__", sharded)
    run = settings(prepared_dir, tmp_path / "model", epochs=1)
    record = train(run)
    assert record["kept_metric"]["score"] == pytest.approx(
        next(line["eval_score"] for line in trained[1]["history"] if "eval_score" in line), abs=1e-6
    )
    saved = torch.load(run.training_directory / "checkpoint-3" / "optimizer.pt")
    assert saved["state"] and (tmp_path / "model" / "model.safetensors").is_file()
