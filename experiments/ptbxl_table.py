"""Several models and seeds on the same patients: AUC with intervals, and the models compared seed by seed.

    python experiments/ptbxl_table.py ptbxl/results --out docs/results/ptbxl.json

Reads ptbxl/results/<model>/<seed>/predictions.parquet, which `tgmm evaluate --out` and experiments/ptbxl_resnet.py
write. Prints the tables of docs/results/ptbxl.md. `sd` is the deviation over seeds. The interval is a bootstrap over
patients of the mean AUC of the seeds, so it covers only the choice of patients. Differences have one DeLong test per
seed.
"""

import argparse
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tiny_training import write

from tgmm_hf.evaluation.comparisons import delong_test
from tgmm_hf.evaluation.metrics import UndefinedFigureError, auc, bootstrap_counts, estimate, resampled_auc
from tgmm_hf.utils.files import write_json

SUBSETS = ("labs", "ecg", "labs+ecg")


def read(root: Path, task: str, subset: str) -> dict[str, dict[str, pd.DataFrame]]:
    """Read the predictions of one subset: model -> seed -> rows in the order of their ids.

    Raises:
        ValueError: If there are no predictions, or they are of different patients.
    """
    by_model: dict[str, dict[str, pd.DataFrame]] = {}
    for path in sorted(root.glob("*/*/predictions.parquet")):
        table = pd.read_parquet(path)
        rows = table[(table.task == task) & (table.subset == subset) & table.positive.notna()]
        if len(rows):
            by_model.setdefault(path.parts[-3], {})[path.parts[-2]] = rows.sort_values("id").reset_index(drop=True)
    patients = [(rows.id.tolist(), rows.positive.tolist()) for seeds in by_model.values() for rows in seeds.values()]
    if not patients or any(rows != patients[0] for rows in patients):
        raise ValueError(
            f"{root} has {len(patients)} runs with {subset}. There must be at least one, and all must score the same "
            "patients."
        )
    return by_model


def figures(seeds: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Compute the AUC of each seed, and the mean AUC with its interval."""
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
    """Compare two models with DeLong's test, for each seed that both have."""
    compared = []
    for seed in first.keys() & second.keys():
        ours, theirs = first[seed], second[seed]
        label, patients = ours.positive.to_numpy(), ours.patient_id.to_numpy()
        entry: dict[str, Any] = {"seed": seed}
        try:
            test = delong_test(ours.probability.to_numpy(), theirs.probability.to_numpy(), label, patients)
            entry |= {"difference": test.difference, "standard_error": test.standard_error, "p": test.p}
        except UndefinedFigureError as error:
            entry |= {"difference": 0.0, "p": None, "p_missing": str(error)}
        compared.append(entry)
    return sorted(compared, key=lambda entry: entry["seed"])


def main() -> None:
    """Compute all figures, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="directory with MODEL/SEED/predictions.parquet")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write; it names no patient")
    parser.add_argument("--task", default="mi_diagnosis", help="name of the task")
    arguments = parser.parse_args()
    content: dict[str, Any] = {"task": arguments.task, "auc": {}, "differences": {}}
    for subset in SUBSETS:
        models = read(arguments.results, arguments.task, subset)
        content["auc"][subset] = {name: figures(seeds) for name, seeds in models.items()}
        content["differences"][subset] = {
            f"{first} - {second}": differences(models[first], models[second])
            for first, second in combinations(models, 2)
        }
    write_auc_table(content["auc"])
    write_difference_table(content["differences"])
    write_json(arguments.out, content)


def write_auc_table(by_subset: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Print the AUC of each model and subset as a Markdown table."""
    write("| model | inputs | AUC, mean of seeds | 95 % interval | sd | seeds |\n|---|---|---|---|---|---|")
    for subset, by_model in by_subset.items():
        for name, entry in by_model.items():
            low, high = entry["auc_mean_ci"]
            seeds = ", ".join(f"{value:.3f}" for value in entry["auc_of_seed"].values())
            spread = "" if entry["sd"] is None else f"{entry['sd']:.3f}"
            write(f"| {name} | {subset} | {entry['auc_mean']:.3f} | {low:.3f} to {high:.3f} | {spread} | {seeds} |")


def write_difference_table(by_subset: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """Print the differences between models as a Markdown table."""
    write("\n| difference | inputs | seed: AUC, DeLong p |\n|---|---|---|")
    for subset, pairs in by_subset.items():
        for name, entries in pairs.items():
            cells = [
                f"{e['seed']}: {e['difference']:+.3f}, {'-' if e['p'] is None else format(e['p'], '.3f')}"
                for e in entries
            ]
            write(f"| {name} | {subset} | {'; '.join(cells)} |")


if __name__ == "__main__":
    main()
