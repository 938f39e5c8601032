"""Explain one patient with all methods, and measure seconds of CPU time and memory.

    tgmm synth cohort --patients 21 --evidence strong
    python scripts/measure_explanation_cost.py cohort                        # full size, random weights
    python scripts/measure_explanation_cost.py demo/cohort --model demo/model

Takes the first test patient who has all three modalities. Without --model the model has the paper's size (273 million
weights) and random weights, so the contributions mean nothing and only their cost counts. The first step, the answer
itself, is the reference of the others. CPU time counts, because other work on the machine slows the wall time.
"""

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tgmm_hf import TgmmConfig, TgmmModel
from tgmm_hf.data.prediction import load_model, patients_from_table
from tgmm_hf.data.saved_models import load_processor
from tgmm_hf.explanation.explain import METHODS, explain
from tgmm_hf.processing_tgmm import bert_cased_tokenizer, default_processor
from tgmm_hf.utils.names import MODALITIES


def main() -> None:
    """Read the command line, explain the patient, and print the cost of each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path, help="directory of a cohort of `tgmm synth`")
    parser.add_argument("--model", help="directory of a saved model (the paper's size with random weights)")
    parser.add_argument("--views", type=int, help="clips of the patient that are read (all of them)")
    parser.add_argument("--only", choices=MODALITIES, help="modality that is explained (all of them)")
    arguments = parser.parse_args()
    patients = patients_from_table(arguments.cohort / "cohort.parquet", split="test")
    patient = next(one for one in patients if all(one.get(name) for name in ("labs", "ecg", "echo")))
    model, processor = full_size() if arguments.model is None else saved(arguments.model)
    if arguments.views is not None:
        patient = {**patient, "echo": list(patient["echo"])[: arguments.views]}
    if arguments.only is not None:
        names = {"id", arguments.only, *(["views"] if arguments.only == "echo" else [])}
        patient = {name: value for name, value in patient.items() if name in names}
    begins: list[tuple[str, float]] = []

    def note(name: str, share: float) -> None:
        if not begins or begins[-1][0] != name:
            write(f"{name} ... ({memory():.2f} GiB so far)")
            begins.append((name, time.process_time()))

    start = time.process_time()
    explanation = explain(model, processor, patient, methods=METHODS, progress=note)
    end = time.process_time()
    ends = [begin for _, begin in begins[1:]] + [end]
    write(f"{model.num_parameters():,} weights, {torch.get_num_threads()} thread(s)")
    for (name, begin), stop in zip(begins, ends, strict=True):
        write(f"{stop - begin:8.1f} s CPU  {name}")
    write(f"{end - start:8.1f} s CPU  together, {len(explanation.attributions)} attributions")
    write(f"{memory():8.2f} GiB, the most that the process held")


def full_size() -> tuple[Any, Any]:
    """Make a model of the paper's size with random weights, and its processor."""
    tokenizer = bert_cased_tokenizer()
    config = TgmmConfig()
    config.tokenize_tasks(tokenizer)
    torch.manual_seed(0)
    model = TgmmModel(config)
    model.initialise_texts()
    return model.eval(), default_processor(config, tokenizer)


def saved(directory: str) -> tuple[Any, Any]:
    """Load a saved model and its processor."""
    return load_model(directory), load_processor(directory)


def memory() -> float:
    """Return the most memory that the process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def write(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
