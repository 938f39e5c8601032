"""Heartcare on the bench: three stages from scratch for each seed, closed and open questions beside the controls.

    tgmm synth meit/cohort --patients 3600 --no-echo --varied-ecg --evidence strong
    tgmm make-instructions meit/cohort --out meit/instructions.jsonl
    tgmm make-bench meit/cohort --out meit/bench.jsonl --kind closed --kind open --kind report
    tgmm pretrain configs/heartcare_beat.yaml
    python experiments/heartcare_bench.py meit/instructions.jsonl meit/bench.jsonl --beat heartcare/beat \
        --name synthetic --runs heartcare/bench --out docs/results/heartcare

The stages are those of `configs/heartcare_*.yaml`. The language model and the last stage learn from the train split of
the bench, the projectors from the reports. Every seed draws all weights but Beat's anew. The test split of the bench is
scored, or its validation split where there is no test split. The script writes bench_NAME.md. A finished training or
evaluation is not run again.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meit_fusions import as_markdown, save
from tiny_training import write

from tgmm_hf.data.bench_items import CLOSED, OPEN
from tgmm_hf.data.instructions import read_instructions
from tgmm_hf.evaluation.bench_tables import bench_tables, evaluate_bench
from tgmm_hf.evaluation.evaluate_reporter import ReporterEvaluationSettings
from tgmm_hf.evaluation.tables import Table
from tgmm_hf.training.train_any import read_any_arguments, train_any
from tgmm_hf.utils.files import read_json

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LANGUAGE, PROJECTORS, INSTRUCTIONS = (f"heartcare_{stage}.yaml" for stage in ("language", "projectors", "instructions"))
KINDS = (CLOSED, OPEN)
"""Questions whose tables are written."""


def main() -> None:
    """Train and score every seed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("instructions", type=Path, help="instruction file with the reports")
    parser.add_argument("bench", type=Path, help="bench file")
    parser.add_argument("--beat", type=Path, required=True, help="trained Beat")
    parser.add_argument("--name", required=True, help="name of the data in the name of the table")
    parser.add_argument("--runs", type=Path, required=True, help="directory of the models")
    parser.add_argument("--out", type=Path, required=True, help="directory of the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replaces a setting of all stages"
    )
    parser.add_argument(
        "--set-ecg", action="append", default=[], metavar="KEY=VALUE", help="replaces a setting of the stages with ECGs"
    )
    parser.add_argument(
        "--set-projectors", action="append", default=[], metavar="KEY=VALUE", help="replaces a setting of their stage"
    )
    parser.add_argument(
        "--arm", default="", help="end of the names of projectors and model: arms share the language model and the ECGs"
    )
    arguments = parser.parse_args()
    tables: dict[str, Table] = {}
    for seed in arguments.seeds:
        model = train_stages(arguments, seed)
        add_figures(tables, seed, scored(model, arguments))
        parts = [f"## {table.title}\n\n{as_markdown(table.header, table.rows)}" for table in tables.values()]
        save(arguments.out / f"bench_{arguments.name}.md", "\n".join(parts))


def train_stages(arguments: argparse.Namespace, seed: int) -> Path:
    """Train language model, projectors and the last stage of one seed. Return the last model's directory."""
    runs, language = arguments.runs, arguments.runs / f"language_{seed}"
    projectors, last = (runs / f"{stage}_{seed}{arguments.arm}" for stage in ("projectors", "model"))
    cache, bench = f"data.cache={runs / 'ecgs'}", f"data.file={arguments.bench}"
    reports = f"data.file={arguments.instructions}"
    ecg, of_projectors = arguments.set_ecg, [*arguments.set_ecg, *arguments.set_projectors]
    stages = {
        LANGUAGE: [bench, f"model.beat={arguments.beat}", f"output={language}"],
        PROJECTORS: [reports, cache, f"model.checkpoint={language}", f"output={projectors}", *of_projectors],
        INSTRUCTIONS: [bench, cache, f"model.checkpoint={projectors}", f"output={last}", *ecg],
    }
    for config, settings in stages.items():
        record = train_any(read_any_arguments(CONFIGS / config, [*arguments.set, *settings, f"seed={seed}"]))
        write(f"{config} seed {seed}: {record['parameters']:,} weights, {record['history'][-1]}")
    return last


def scored(model: Path, arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Score a model, unless it is scored already. Return its figures."""
    scores = model.with_name(f"{model.name}_scores")
    if not (scores / "metrics.json").is_file():
        splits = {row.split for row in read_instructions(arguments.bench)}
        settings = ReporterEvaluationSettings(
            split="test" if "test" in splits else "validation",
            batch_size=32,
            generate_kwargs={"max_new_tokens": 64},
            cache=arguments.runs / "ecgs",
            progress=False,
        )
        evaluate_bench(str(model), arguments.bench, scores, settings)
    return dict(read_json(scores / "metrics.json"))


def add_figures(tables: dict[str, Table], seed: int, metrics: Mapping[str, Any]) -> None:
    """Add the lines of closed and of open questions of one seed to `tables`, in place."""
    for kind, table in bench_tables(metrics).items():
        if kind in KINDS:
            lines = tables.setdefault(kind, Table(table.title, ["seed", *table.header], [])).rows
            lines.extend([str(seed), *row] for row in table.rows)


if __name__ == "__main__":
    main()
