"""MoRE on synthetic patients: zero-shot findings and retrieval for several seeds, and arms that the paper lacks.

    tgmm synth more/cohort --patients 1500 --no-echo --varied-ecg --evidence strong --xray
    tgmm curate-more --mimic-cxr more/cohort/cxr --mimic-ecg more/cohort/ecg --out more
    python experiments/more_synthetic.py more/notes.csv --runs more/runs --out docs/results/more

Each arm is `configs/more_synthetic.yaml` with other settings. The first arm is trained with every seed, the other
arms with the first seed. The test split is scored as `tgmm evaluate` does it. Shuffled queries and the expectation of a
random order stand beside every figure. The script writes synthetic.md and figures_ARM_SEED.md. A finished training or
evaluation is not run again.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meit_fusions import as_markdown, save
from tiny_training import write

from tgmm_hf.evaluation.evaluate_more import MoreEvaluationSettings
from tgmm_hf.evaluation.more_tables import evaluate_more
from tgmm_hf.evaluation.reporter_tables import shown
from tgmm_hf.training.train_any import read_any_arguments, train_any
from tgmm_hf.utils.files import read_json

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "more_synthetic.yaml"
TOWERS = ("xray_config", "ecg_config")


def drop_key(probability: float, schedule: str) -> list[str]:
    """Write the settings of DropKey for both towers."""
    values = {"drop_key": probability, "drop_key_schedule": schedule}
    return [f"model.overrides.{tower}.{name}={value}" for tower in TOWERS for name, value in values.items()]


ARMS: dict[str, list[str]] = {
    "configuration": [],
    "no DropKey": drop_key(0.0, "constant"),
    "DropKey 0.3": drop_key(0.3, "constant"),
    "DropKey 0.3 down to 0": drop_key(0.3, "linear"),
    "X-ray against ECG too": ["model.overrides.xray_ecg_loss=true"],
}
"""Arm -> settings that replace those of the configuration."""


def main() -> None:
    """Train and score all arms, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="table of `tgmm curate-more`")
    parser.add_argument("--prompts", type=Path, help="JSON file: finding -> prompts, as in `tgmm evaluate`")
    parser.add_argument("--runs", type=Path, required=True, help="directory of the models")
    parser.add_argument("--out", type=Path, required=True, help="directory of the tables")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replaces a setting")
    arguments = parser.parse_args()
    header: list[str] = []
    rows: list[list[str]] = []
    for arm in arguments.arms:
        for seed in arguments.seeds if arm == next(iter(ARMS)) else arguments.seeds[:1]:
            figures = figures_of(scored(arm, seed, arguments))
            header = ["arm", "seed", *figures]
            rows.append([arm, str(seed), *figures.values()])
            write("  ".join(rows[-1]))
            save(arguments.out / "synthetic.md", as_markdown(header, rows))


def scored(arm: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and score one model, unless it is done. Return its figures."""
    name = f"{arm.replace(' ', '_').replace(',', '')}_{seed}"
    model, scores = arguments.runs / name, arguments.runs / f"{name}_scores"
    settings = [
        f"data.file={arguments.data}",
        f"data.cache={arguments.runs / 'inputs'}",
        f"output={model}",
        f"seed={seed}",
    ]
    train_any(read_any_arguments(CONFIG, [*settings, *ARMS[arm], *arguments.set]))
    if not (scores / "metrics.json").is_file():
        evaluate_more(
            str(model), arguments.data, scores, MoreEvaluationSettings(prompts=arguments.prompts, progress=False)
        )
    save(arguments.out / f"figures_{name}.md", (scores / "metrics.md").read_text())
    return dict(read_json(scores / "metrics.json"))


def figures_of(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Write the main figures of a model: title -> figure, that of shuffled queries or of chance behind it."""
    figures = {}
    for direction, entry in metrics["retrieval"].items():
        if "missing" not in entry:
            chance = f"chance {entry['chance']['recall_10']:.3f}"
            figures[f"R@10 {direction}"] = f"{shown(entry['systems']['model'], 'recall_10')}; {chance}"
    for finding, kinds in metrics["zero_shot"].items():
        for kind, entry in kinds.items():
            if "missing" not in entry:
                figures[f"AUROC {finding}, {kind}"] = shown(entry["systems"]["model"], "auc")
    return figures


if __name__ == "__main__":
    main()
