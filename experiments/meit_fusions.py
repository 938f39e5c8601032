"""Prefix keys, placeholder tokens and gated cross-attention of MEIT, with equal numbers of weights and of steps.

    tgmm synth meit/cohort --patients 3600 --no-echo --varied-ecg --evidence strong
    tgmm make-instructions meit/cohort --out meit/instructions.jsonl
    python experiments/meit_fusions.py meit/instructions.jsonl --runs meit/runs --out docs/results/meit

Every fusion is trained with every seed by `configs/meit_synthetic.yaml` and scored on the test split, with controls and
noise. Cross-attention adds a block to each layer. So its language model has two layers instead of four, and a narrower
MLP. The numbers of weights then differ by less than two percent. A finished run is not run again. The script writes
fusions.md, fusions.csv and a folder of tables for every run. Last it measures a training step of each fusion: steps.md.
"""

import argparse
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tiny_training import write

from tgmm_hf import MeitForConditionalGeneration, MeitProcessor
from tgmm_hf.data.instructions import Instruction, read_instructions
from tgmm_hf.evaluation.evaluate_reporter import ReporterEvaluationSettings
from tgmm_hf.evaluation.report_controls import MODEL
from tgmm_hf.evaluation.reporter_tables import evaluate_reporter
from tgmm_hf.evaluation.tables import as_csv
from tgmm_hf.training.train_any import read_any_arguments, train_any
from tgmm_hf.utils.files import read_json, whole_file

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "meit_synthetic.yaml"
FUSIONS = {
    "prefix": [],
    "tokens": ["model.overrides.fusion=tokens"],
    "cross_attention": [
        "model.overrides.fusion=cross_attention",
        "model.text_config.num_hidden_layers=2",
        "model.text_config.intermediate_size=320",
    ],
}
"""Fusion -> settings that replace those of the configuration."""
HEADER = ["fusion", "seed", "weights", "steps", "F1", "F1, shuffled ECGs", "F1, nearest", "macro F1"]
STEP_HEADER = ["fusion", "CPU seconds a step", "divided by those of prefix"]
STEP_BATCH, STEP_ROUNDS = 32, 11
"""ECGs of a measured step, and steps of each fusion. The first is not counted."""


def main() -> None:
    """Train and score every fusion with every seed, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="instruction file")
    parser.add_argument("--runs", type=Path, required=True, help="directory of the models and of their evaluations")
    parser.add_argument("--out", type=Path, required=True, help="directory of the tables")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fusions", nargs="+", choices=list(FUSIONS), default=list(FUSIONS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replaces a setting")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # so that seconds a step can be compared
    rows = []
    for seed in range(arguments.seeds):
        for fusion in arguments.fusions:
            rows.append(run(fusion, seed, arguments))
            write("  ".join(rows[-1]))
            save(arguments.out / "fusions.md", as_markdown(HEADER, rows))
            save(arguments.out / "fusions.csv", as_csv(HEADER, rows))
    models = {fusion: arguments.runs / f"{fusion}_0" for fusion in arguments.fusions}
    save(arguments.out / "steps.md", as_markdown(STEP_HEADER, step_rows(models, arguments.data)))


def run(fusion: str, seed: int, arguments: argparse.Namespace) -> list[str]:
    """Train and score one model, unless it is done. Return its row of the table."""
    name = f"{fusion}_{seed}"
    model, scores = arguments.runs / name, arguments.runs / f"{name}_scores"
    settings = [f"output={model}", f"data.file={arguments.data}", f"data.cache={arguments.runs / 'ecgs'}"]
    settings += [f"seed={seed}", *FUSIONS[fusion], *arguments.set]
    record = train_any(read_any_arguments(CONFIG, settings))
    if not (scores / "metrics.json").is_file():
        evaluate_reporter(
            str(model),
            arguments.data,
            scores,
            ReporterEvaluationSettings(
                noise=seed == 0,  # one seed, because it takes eight more passes
                batch_size=32,
                generate_kwargs={"max_new_tokens": 96},
                cache=arguments.runs / "ecgs",
                progress=False,
            ),
        )
    for table in ("findings", "certainty", "text", "statements", *(["noise"] if seed == 0 else [])):
        target = arguments.out / name / f"{table}.csv"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scores / "tables" / f"{table}.csv", target)
    return row_of(fusion, seed, record, read_json(scores / "metrics.json"))


def row_of(fusion: str, seed: int, record: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Write the figures of one run."""
    steps = max(line["step"] for line in record["history"])
    systems = metrics["systems"]
    return [
        fusion,
        str(seed),
        f"{record['parameters']:,}",
        str(steps),
        with_interval(systems[MODEL], "micro_f1"),
        *(with_interval(systems[name], "micro_f1") for name in ("shuffled ECGs", "nearest neighbour")),
        with_interval(systems[MODEL], "macro_f1"),
    ]


def step_rows(models: Mapping[str, Path], data: Path) -> list[list[str]]:
    """Measure forward and backward on one batch. The fusions take turns, so that other work slows all of them alike.

    Args:
        models: Fusion -> saved model.
        data: Instruction file.
    """
    rows = read_instructions(data, "train")[:STEP_BATCH]
    inputs = {name: _batch(path, rows) for name, path in models.items()}
    trained = {name: MeitForConditionalGeneration.from_pretrained(path).train() for name, path in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in trained}
    for _ in range(STEP_ROUNDS):
        for name, model in trained.items():
            before = time.process_time()
            model(**inputs[name]).loss.backward()
            seconds[name].append(time.process_time() - before)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    reference = medians.get("prefix", next(iter(medians.values())))
    return [[name, f"{median:.2f}", f"{median / reference:.2f}"] for name, median in medians.items()]


def _batch(model: Path, rows: Sequence[Instruction]) -> Any:
    """Process ECGs and reports for a model. The fusion "tokens" needs placeholders in the text."""
    processor: Any = MeitProcessor.from_pretrained(model)
    answers, ecgs = [row.report for row in rows], [row.ecg for row in rows]
    return processor(ecg=ecgs, answer=answers, output_labels=True, return_tensors="pt")


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ["---"] * len(header), *rows))


def with_interval(entry: Mapping[str, Any], figure: str) -> str:
    """Write a figure with its interval."""
    interval = entry[f"{figure}_ci"]
    return f"{entry[figure]:.3f}" + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")


def save(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as building:
        building.write_text(text)


if __name__ == "__main__":
    main()
