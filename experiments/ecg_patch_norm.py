"""Does the norm of ST-MEM's patches make the model read tokens of the ECG that hold no evidence?

    tgmm synth patch_norm/cohort --patients 600 --no-echo --evidence strong
    python experiments/ecg_patch_norm.py patch_norm/cohort --runs patch_norm/runs --out docs/results/explanation

ST-MEM brings every patch of 300 ms to mean 0 and deviation 1, and its projection once more. A patch between two beats
is then as loud as a QRS complex. One arm trains the published model, the other one a model without these two norms.
Both read the ECG alone. `tgmm explain-check` then measures how much the score changes when the tokens with planted
evidence are hidden, divided by the change when as many other tokens are hidden, and where the maps point. The script
writes ecg_patch_norm.md. A finished training or check is not run again.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from meit_fusions import as_markdown, save
from tiny_training import write

from tgmm_hf.cli.preparation import for_run
from tgmm_hf.data.prepare import prepare
from tgmm_hf.explanation.check import check_explanations
from tgmm_hf.training.train_any import read_any_arguments, train_any

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"
ARMS = {"published": True, "without norms": False}
"""Arm -> `patch_norms` of the ECG encoder."""
METHOD = "token_integrated_gradients"
HEADER = ["patches", "seed", "AUC, validation", "effect of tokens with evidence / of others", "pointing", "chance"]
HEADER += ["deletion gain"]


def main() -> None:
    """Train and check both arms with every seed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path, help="cohort of `tgmm synth --no-echo`")
    parser.add_argument("--runs", type=Path, required=True, help="directory of the models and of their checks")
    parser.add_argument("--out", type=Path, required=True, help="directory of the table")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--patients", type=int, default=24)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = ecg_only_data(arguments.cohort, arguments.runs)
    rows = []
    for seed in range(arguments.seeds):
        for arm in ARMS:
            rows.append(run(arm, seed, data, arguments))
            write("  ".join(rows[-1]))
            save(arguments.out / "ecg_patch_norm.md", as_markdown(HEADER, rows))


def ecg_only_data(cohort: Path, runs: Path) -> Path:
    """Prepare the cohort without its laboratory cells. Return the directory of the prepared data."""
    data, table = runs / "data", runs / "ecg_only.parquet"
    if not (data / "prepare.json").is_file():
        runs.mkdir(parents=True, exist_ok=True)
        rows = pd.read_parquet(cohort / "cohort.parquet")
        rows.drop(columns=[name for name in rows.columns if name.startswith("labs.")]).to_parquet(table)
        processor, tasks = for_run(CONFIG)
        prepare(table, data, processor, root=cohort, tasks=tasks, num_proc=1)
    return data


def run(arm: str, seed: int, data: Path, arguments: argparse.Namespace) -> list[str]:
    """Train and check one model, unless it is done. Return its row of the table."""
    name = f"{arm.replace(' ', '_')}_{seed}"
    model = arguments.runs / name
    settings = [f"output={model}", f"data.directory={data}", f"seed={seed}", "tasks={hf_diagnosis: {}}"]
    settings += [f"optimisation.epochs={arguments.epochs}", f"model.overrides.ecg_config.patch_norms={ARMS[arm]}"]
    record = train_any(read_any_arguments(CONFIG, settings))
    summary = check_explanations(
        str(model), data, arguments.cohort, arguments.runs / f"{name}_check", patients=arguments.patients
    )
    figures = summary["modalities"]["ecg"][METHOD]
    auc = [line["eval_hf_diagnosis_score"] for line in record["history"] if "eval_hf_diagnosis_score" in line][-1]
    return [
        arm,
        str(seed),
        f"{auc:.3f}",
        with_interval(summary["evidence_effect"]["ecg"], "ratio"),
        with_interval(figures["pointing"]),
        f"{figures['chance']['mean']:.2f}",
        with_interval(figures["deletion_gain"]),
    ]


def with_interval(entry: dict[str, Any], figure: str = "mean") -> str:
    """Write a figure with its interval."""
    low, high = entry["ci"]
    return f"{entry[figure]:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
