"""Several models and seeds on the same patients: AUC with intervals, and each model against the others, seed by seed.

    python benchmarks/ptbxl_table.py ptbxl/results --out docs/results/ptbxl.json

Reads ptbxl/results/<model>/<seed>/predictions.parquet, as `tgmm evaluate --out` and benchmarks/ptbxl_resnet.py write
them. Prints the tables of docs/results/ptbxl.md. `sd` is over seeds; the interval is the bootstrap's over patients, of
the mean AUC of the seeds, so that it covers the choice of patients alone. Differences: DeLong's test, one a seed.
"""

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tgmm_hf.evaluation.comparisons import delong_test
from tgmm_hf.evaluation.metrics import UndefinedFigureError, auc, bootstrap_counts, estimate, resampled_auc

SUBSETS = ("labs", "ecg", "labs+ecg")


def read(root: Path, task: str, subset: str) -> dict[str, dict[str, pd.DataFrame]]:
    """Model -> seed -> rows in the order of their ids; the same patients everywhere, or an error."""
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for path in sorted(root.glob("*/*/predictions.parquet")):
        table = pd.read_parquet(path)
        rows = table[(table.task == task) & (table.subset == subset) & table.positive.notna()]
        if len(rows):
            found.setdefault(path.parts[-3], {})[path.parts[-2]] = rows.sort_values("id").reset_index(drop=True)
    everybody = [(rows.id.tolist(), rows.positive.tolist()) for seeds in found.values() for rows in seeds.values()]
    if not everybody or any(rows != everybody[0] for rows in everybody):
        raise ValueError(
            f"{root}: {len(everybody)} runs with {subset}; they have to be there, and of the same patients."
        )
    return found


def figures(seeds: dict[str, pd.DataFrame]) -> dict[str, Any]:
    rows = next(iter(seeds.values()))
    label = rows.positive.to_numpy()
    counts = bootstrap_counts(rows.patient_id, label, 1000, seed=0)
    aucs = {seed: auc(of_seed.probability, label) for seed, of_seed in seeds.items()}
    mean = estimate(
        lambda drawn: np.mean([resampled_auc(s.probability.to_numpy(), label, drawn) for s in seeds.values()], axis=0),
        counts,
    )
    return {
        "n": len(rows),
        "positive": int(label.sum()),
        "auc_of_seed": aucs,
        "sd": float(np.std(list(aucs.values()), ddof=1)) if len(aucs) > 1 else None,
        **mean.entry("auc_mean"),
    }


def differences(first: dict[str, pd.DataFrame], second: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    compared = []
    for seed in first.keys() & second.keys():
        one, other = first[seed], second[seed]
        label, patients = one.positive.to_numpy(), one.patient_id.to_numpy()
        entry: dict[str, Any] = {"seed": seed}
        try:
            test = delong_test(one.probability.to_numpy(), other.probability.to_numpy(), label, patients)
            entry |= {"difference": test.difference, "standard_error": test.standard_error, "p": test.p}
        except UndefinedFigureError as error:
            entry |= {"difference": 0.0, "p": None, "p_missing": str(error)}
        compared.append(entry)
    return sorted(compared, key=lambda entry: entry["seed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="JSON to write; it names no patient")
    parser.add_argument("--task", default="mi_diagnosis")
    arguments = parser.parse_args()
    record: dict[str, Any] = {"task": arguments.task, "auc": {}, "differences": {}}
    print("| model | inputs | AUC, mean of seeds | 95 % interval | sd | seeds |\n|---|---|---|---|---|---|")
    for subset in SUBSETS:
        models = read(arguments.results, arguments.task, subset)
        record["auc"][subset] = {name: figures(seeds) for name, seeds in models.items()}
        for name, entry in record["auc"][subset].items():
            low, high = entry["auc_mean_ci"]
            seeds = ", ".join(f"{value:.3f}" for value in entry["auc_of_seed"].values())
            spread = "" if entry["sd"] is None else f"{entry['sd']:.3f}"
            print(f"| {name} | {subset} | {entry['auc_mean']:.3f} | {low:.3f} to {high:.3f} | {spread} | {seeds} |")
        record["differences"][subset] = {
            f"{first} - {second}": differences(models[first], models[second])
            for first, second in combinations(models, 2)
        }
    print("\n| difference | inputs | seed: AUC, DeLong p |\n|---|---|---|")
    for subset, pairs in record["differences"].items():
        for name, entries in pairs.items():
            shown = (
                f"{e['seed']}: {e['difference']:+.3f}, {'-' if e['p'] is None else format(e['p'], '.3f')}"
                for e in entries
            )
            print(f"| {name} | {subset} | {'; '.join(shown)} |")
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
