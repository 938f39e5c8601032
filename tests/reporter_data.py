"""A tiny cohort for MEIT: heartbeats as WFDB files, half of them with inverted chest leads, and an instruction file."""

from pathlib import Path
from typing import Any

from heart_signal import make_heart
from input_files import write_wfdb

from tgmm_hf.data.instructions import Instruction, Statement, new_messages, write_instruction_rows
from tgmm_hf.training.reporter_arguments import ReporterRunArguments
from tgmm_hf.training.settings_files import parse_dataclass
from tgmm_hf.training.train_reporter import train_reporter
from tgmm_hf.utils.names import LEADS

TEXTS = {True: "sinus rhythm. anterior mi.", False: "sinus rhythm. no anterior mi."}
SPLITS = {"train": 24, "validation": 8, "test": 8}


def write_reporter_data(directory: Path) -> Path:
    """Write ECGs and `instructions.jsonl`. The chest leads of every second ECG are inverted, and its report says so."""
    rows = []
    for split, number in SPLITS.items():
        for index in range(number):
            inverted = bool(index % 2)
            name = f"{split}{index}"
            signal = make_heart(5000, 500, len(rows))
            signal[6:] *= -1 if inverted else 1
            (directory / name).mkdir(parents=True)
            write_wfdb(directory / name, signal, list(LEADS))
            codes = ("SR", "AMI") if inverted else ("SR",)
            messages = new_messages("describe it", TEXTS[inverted])
            statements = tuple(Statement(code) for code in codes)
            rows.append(
                Instruction(name, "synthetic", f"p{len(rows)}", split, f"{name}/record", messages, statements, "en")
            )
    write_instruction_rows(rows, directory / "instructions.jsonl", ".jsonl")
    return directory / "instructions.jsonl"


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """Train by settings; return the content of run.json."""
    return train_reporter(parse_dataclass(ReporterRunArguments, settings))


def reporter_settings(file: Path, output: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training that takes seconds. `sections` replace single settings.

    Trainings on one file share their processed ECGs, because reading them takes longer than an epoch.
    """
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128}
    ecg = {"seq_length": 1000, "embedding_size": 8, "stage_depths": [1, 1], "stage_widths": [8, 16]}
    settings: dict[str, Any] = {
        "output": str(output),
        "data": {"file": str(file), "cache": str(file.parent / "processed")},
        "model": {"text_config": text, "vocab_size": 340, "overrides": {"ecg_config": ecg}, "lora": None},
        "optimisation": {
            "epochs": 30,  # at 10, the answers to some ECGs depend on the rounding of the machine
            "batch_size": 4,
            "accumulation_steps": 1,
            "learning_rate": 1e-2,
            "ecg_learning_rate": 3e-2,
            "max_grad_norm": 1.0,
        },
    }
    return {
        name: {**value, **sections.get(name, {})} if isinstance(value, dict) else value
        for name, value in settings.items()
    }
