"""Codes of a cohort: equal to those of single ECGs, whole after a stop, and nothing lost in silence."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from command_line import run as run_command

from tgmm_hf import BeatConfig, BeatFeatureExtractor, BeatModel
from tgmm_hf.data import ecg_codes
from tgmm_hf.data.ecg_codes import ecgs_of, is_instruction_file, load_beat, tokenize_ecgs
from tgmm_hf.data.instructions import read_instructions, write_instruction_rows
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.errors import TgmmError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    network = BeatModel(BeatConfig(seq_length=500, num_hidden_layers=1, codebook_size=64)).eval()
    directory = tmp_path_factory.mktemp("beat") / "model"
    save_repository(network, BeatFeatureExtractor(num_samples=500), directory)
    return str(directory)


@pytest.fixture(scope="module")
def few(reporter_file: Path) -> Path:
    """An instruction file with six ECGs of `reporter_file`."""
    rows = list(read_instructions(reporter_file))[20:26]
    path = reporter_file.parent / "few.jsonl"
    write_instruction_rows([replace(row, ecg=f"{row.id}/record") for row in rows], path, ".jsonl")
    return path


def table_of(out: Path) -> list[dict]:
    return pq.read_table(out / "codes.parquet").to_pylist()


def test_codes_are_those_of_each_ecg_alone_and_give_the_window_again(model: str, few: Path, tmp_path: Path):
    record = tokenize_ecgs(model, few, tmp_path / "codes")
    rows, table = list(read_instructions(few)), table_of(tmp_path / "codes")
    assert record["ecgs"] == len(rows) == 6 and record["windows"] == len(table) == 18 and record["refused"] == 0
    network, extractor = load_beat(model)
    one = rows[5]
    windows = extractor(one.ecg, return_tensors="pt")["input_values"][0]
    entries = [entry for entry in table if entry["id"] == one.id]
    assert [entry["window"] for entry in entries] == [0, 1, 2] and [entry["start"] for entry in entries] == [2, 4, 6]
    codes = torch.tensor([entry["codes"] for entry in entries])
    assert torch.equal(codes, network.encode(windows)) and entries[0]["split"] == one.split
    with torch.no_grad():
        torch.testing.assert_close(network.decode(codes), network(windows).reconstruction)
    usage = network.code_usage(torch.tensor([entry["codes"] for entry in table]))
    assert record["codes_used"] == pytest.approx(usage.tolist())


def test_a_stopped_run_goes_on_and_gives_the_same_table(model: str, few: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(ecg_codes, "PART", 2)
    tokenize_ecgs(model, few, tmp_path / "whole")
    single, calls = ecg_codes._tokenized, []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return single(*arguments)

    monkeypatch.setattr(ecg_codes, "_tokenized", stop)
    with pytest.raises(KeyboardInterrupt):
        tokenize_ecgs(model, few, tmp_path / "stopped")
    tokenize_ecgs(model, few, tmp_path / "stopped")
    assert len(calls) == 4 + 4  # the first part is not made again
    assert table_of(tmp_path / "stopped") == table_of(tmp_path / "whole")
    assert not (tmp_path / "stopped" / "parts").exists()
    tokenize_ecgs(model, few, tmp_path / "stopped")
    assert len(calls) == 4 + 4


def test_refused_ecgs_are_listed_and_the_others_go_on(model: str, reporter_file: Path, tmp_path: Path):
    rows = [
        {"id": "good", "ecg_path": "train0/record"},
        {"id": "missing", "ecg_path": "nowhere/record"},
        {"id": "outside", "ecg_path": "../record"},
        {"id": "none", "ecg_path": None},
    ]
    table = reporter_file.parent / "cohort.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    record = tokenize_ecgs(model, table, tmp_path / "codes")
    assert {entry["id"] for entry in table_of(tmp_path / "codes")} == {"good"}
    refused = pd.read_csv(tmp_path / "codes" / "refused.csv")
    assert list(refused["id"]) == ["missing", "outside"] and "--allow-outside" in refused["reason"][1]
    assert (record["ecgs"], record["refused"]) == (1, 2)


def test_both_kinds_of_instruction_file_and_repeated_recordings(reporter_file: Path, tmp_path: Path):
    rows = list(read_instructions(reporter_file))
    assert [ecg.id for ecg in ecgs_of(reporter_file)] == [row.id for row in rows]
    parquet = reporter_file.parent / "again.parquet"
    write_instruction_rows(rows, parquet, ".parquet")
    assert is_instruction_file(parquet) and len(ecgs_of(parquet)) == 40
    pd.DataFrame({"id": ["a"], "ecg_path": ["train0/record"]}).to_parquet(tmp_path / "cohort.parquet")
    assert not is_instruction_file(tmp_path / "cohort.parquet")
    pd.DataFrame({"id": ["a"], "labs.Sodium": [140]}).to_csv(tmp_path / "empty.csv", index=False)
    with pytest.raises(TgmmError, match="names no ECG"):
        ecgs_of(tmp_path / "empty.csv")


def test_other_models_other_windows_and_other_settings_are_refused(model: str, reporter_file: Path, tmp_path: Path):
    (tmp_path / "reporter").mkdir()
    (tmp_path / "reporter" / "config.json").write_text('{"model_type": "meit"}')
    with pytest.raises(TgmmError, match="it is a meit model"):
        load_beat(str(tmp_path / "reporter"))
    network, _ = load_beat(model)
    network.save_pretrained(tmp_path / "other")
    BeatFeatureExtractor(num_samples=1000).save_pretrained(tmp_path / "other")
    with pytest.raises(TgmmError, match="windows of 1000 samples, and the model takes 500"):
        load_beat(str(tmp_path / "other"))
    table = reporter_file.parent / "small.csv"
    pd.DataFrame({"id": ["a"], "ecg_path": ["train0/record"]}).to_csv(table, index=False)
    tokenize_ecgs(model, table, tmp_path / "codes")
    with pytest.raises(TgmmError, match="codes of another run"):
        tokenize_ecgs(model, reporter_file, tmp_path / "codes")


def test_the_command(model: str, few: Path, tmp_path: Path):
    assert run_command("tokenize-ecg", model, few, "--out", tmp_path / "codes") == 0
    assert json.loads((tmp_path / "codes" / "tokenize.json").read_text())["windows"] == 18
