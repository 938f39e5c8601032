"""The first stage of a MEIT training: the ECG vectors name the statements, and the language model stays as it was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reporter_data import reporter_settings, train
from tiny_reporters import tiny_batch, tiny_reporter

from tgmm_hf.data.ecg_reports import load_reporter
from tgmm_hf.data.instructions import read_instructions
from tgmm_hf.data.processed_ecgs import process_files
from tgmm_hf.training.base_trainer import BaseTrainer
from tgmm_hf.training.reporter_arguments import ReporterRunArguments
from tgmm_hf.training.reporter_data import training_texts
from tgmm_hf.training.reporter_encoder import StatementNaming, train_encoder
from tgmm_hf.training.reporter_model import build_reporter
from tgmm_hf.training.settings_files import parse_dataclass
from tgmm_hf.utils.errors import TgmmError


def arguments(file: Path, output: Path, **optimisation: Any) -> ReporterRunArguments:
    return parse_dataclass(ReporterRunArguments, reporter_settings(file, output, optimisation=optimisation))


def first_stage(run: ReporterRunArguments, rows: list) -> tuple[Any, dict[str, torch.Tensor], dict[str, Any]]:
    """Run the first stage. Return the model, its weights before the stage, and the record."""
    torch.manual_seed(0)
    model, processor = build_reporter(run.model, training_texts(rows))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    ecgs = process_files(len(rows), lambda number: rows[number].ecg, processor.feature_extractor)
    return model, before, train_encoder(model, run, rows, ecgs, is_done=False)


def test_the_vectors_learn_the_statements_and_the_language_model_does_not_move(reporter_file: Path, tmp_path: Path):
    run = arguments(reporter_file, tmp_path / "model", encoder_epochs=20)
    model, before, record = first_stage(run, read_instructions(reporter_file))
    assert record["codes"] == ["AMI", "SR"]
    scores = [line["eval_statements_f1"] for line in record["history"] if "eval_statements_f1" in line]
    # "always sinus rhythm, never or always an infarction" reaches 8 / (8 + 2) and 12 / (12 + 2) of 8 ECGs
    assert len(scores) == 20 and scores[-1] > 24 / 28
    moved = {
        name.split(".")[0]
        for name, weight in model.state_dict().items()
        if weight.is_floating_point() and not torch.equal(weight, before[name])
    }
    assert moved == {"ecg_encoder", "projector"}


def test_a_naming_layer_reads_all_vectors():
    model = tiny_reporter("llama", num_ecg_vectors=2).train()
    naming = StatementNaming(model, 3)
    values = tiny_batch()["input_values"]
    output = naming(values, torch.ones(len(values), 3))
    output["loss"].backward()
    assert output["logits"].shape == (len(values), 3)
    assert all(weight.grad is not None for weight in naming.trained_weights())
    assert bool((naming.naming.weight.grad.abs().sum(0) > 0).all())


def test_a_stopped_second_stage_goes_on_without_the_first(reporter_file: Path, tmp_path: Path, monkeypatch):
    whole = train(reporter_settings(reporter_file, tmp_path / "whole", optimisation={"epochs": 3, "encoder_epochs": 2}))
    assert len([line for line in whole["encoder"]["history"] if "eval_loss" in line]) == 2

    save = BaseTrainer._save_checkpoint

    def stop(self: BaseTrainer, *args: Any) -> None:
        save(self, *args)
        raise KeyboardInterrupt

    settings = reporter_settings(reporter_file, tmp_path / "model", optimisation={"epochs": 3, "encoder_epochs": 2})
    with monkeypatch.context() as patch:
        patch.setattr(BaseTrainer, "_save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            train(settings)
    trained = []
    monkeypatch.setattr(StatementNaming, "forward", lambda *args: trained.append(1))
    record = train(settings)
    assert record["resumed_from"] == "checkpoint-6" and not trained
    assert [line.get("eval_loss") for line in record["encoder"]["history"]] == [
        line.get("eval_loss") for line in whole["encoder"]["history"]
    ]
    ends = [load_reporter(str(tmp_path / name))[0].state_dict() for name in ("whole", "model")]
    for name, weight in ends[0].items():
        torch.testing.assert_close(ends[1][name], weight, rtol=1e-5, atol=1e-6)


def test_rows_without_statements_give_the_findings_of_their_reports(reporter_file: Path, tmp_path: Path):
    rows = [replace(row, statements=None) for row in read_instructions(reporter_file)]
    run = arguments(reporter_file, tmp_path / "model", encoder_epochs=1)
    assert first_stage(run, rows)[2]["codes"] == ["AMI", "SR"]  # a denied infarction counts as absent


def test_a_first_stage_without_a_statement_is_refused(reporter_file: Path, tmp_path: Path):
    rows = [replace(row, statements=()) for row in read_instructions(reporter_file)]
    run = arguments(reporter_file, tmp_path / "model", encoder_epochs=1)
    with pytest.raises(TgmmError, match="encoder_epochs"):
        first_stage(run, rows)
    with pytest.raises(ValueError, match="encoder_epochs must be 0 or more"):
        arguments(reporter_file, tmp_path / "model", encoder_epochs=-1)
