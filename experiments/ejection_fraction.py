r"""Ejection fraction of a synthetic cohort: mean absolute error of a trained model, of the optimum and of the control.

    python experiments/ejection_fraction.py RUNS --encoder-epochs 6 --epochs 5 --second-epochs 20 \
        --learning-rate 1e-3 --set model.overrides.feature_dropout=0 --seeds 0 1 2

RUNS is a directory for cohort, prepared data, models and evaluations. What is there is not made again.

Plan. One cohort (seed 0) with small clips, split 5:1:1 by patient. For each seed a tiny model with random weights is
trained on the regression alone, from all three modalities, with the schedule of `configs/measures.yaml`. The echo
encoder is the small convolutional one (`--echo-encoder pan_echo`), the learning rate is 2e-3. On clips of other
patients this learned more from the same training than the small MViT or 1e-3 (`clip_encoders.py`).

With --encoder-epochs the echo encoder is first trained alone: it reads the measured fraction of a training patient
from each clip, with one linear layer that is thrown away. The model starts from this encoder and trains it further. All
clips of the train split lie in memory then, 2 GB for 1,524 patients. With --second-epochs the trained model is trained
further with all encoders frozen, on all views of each patient, from a cache of the frozen features.

The model is scored on the test split. The optimum is the median of the measured value given the evidence of the same
patients (bayes.json), the control gives everybody the median of the training patients. Goal: at most 1.10 times the
optimum's error with all three modalities, for every seed. The script says for each seed whether it is met.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from clip_encoders import train_encoder
from tiny_training import Recipe, write

from tgmm_hf.cli import app
from tgmm_hf.configuration_measured_tasks import INTERVALS_KEY
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.training.arguments import parse_arguments
from tgmm_hf.training.starting_model import build
from tgmm_hf.utils.files import read_json

TASK = "ejection_fraction"
CONFIG = Path(__file__).parents[1] / "configs" / "measures.yaml"
GOAL = 1.10
"""Largest error that meets the goal, in errors of the optimum."""
CLIPS = ["--frames", "32", "--height", "112", "--width", "150"]
SHOWN = ("echo", "labs+ecg+echo")
"""Subsets of modalities that are printed: the one that shows the fraction, and all."""


def main() -> None:
    """Make the cohort, train every seed and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="directory for everything that is made")
    parser.add_argument("--patients", type=int, default=1524, help="patients of the cohort (default 1524)")
    parser.add_argument("--epochs", type=int, default=14, help="passes over the train split (default 14); 0 for none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the trainings")
    parser.add_argument(
        "--echo-encoder", choices=["pan_echo", "echo_mvit"], default="pan_echo", help="echo encoder (default pan_echo)"
    )
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="largest learning rate (default 2e-3)")
    parser.add_argument("--encoder-epochs", type=int, default=0, help="passes of the echo encoder alone (default 0)")
    parser.add_argument("--second-epochs", type=int, default=0, help="passes with frozen encoders (default 0)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replaces a setting of `train`")
    parser.add_argument("--loss", choices=["huber", "gaussian_nll"], default="huber", help="loss (default huber)")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw and read files (default 1)")
    arguments = parser.parse_args()
    cohort, data, workers = arguments.runs / "cohort", arguments.runs / "data", ["--workers", str(arguments.workers)]
    if not (cohort / "cohort.parquet").is_file():
        run("synth", cohort, "--patients", arguments.patients, "--measures", *CLIPS, *workers)
    if not (data / "prepare.json").is_file():
        run("prepare", cohort, "--out", data, "--config", CONFIG, *workers)
    for seed in arguments.seeds:
        first = f"first{arguments.encoder_epochs}_" if arguments.encoder_epochs else ""
        name = f"{first}{arguments.echo_encoder}_{arguments.loss}_{arguments.learning_rate:g}_{arguments.epochs}_{seed}"
        config = configuration(data, arguments.runs / name, arguments)
        config |= {"seed": seed}
        if arguments.encoder_epochs:
            encoder = arguments.runs / f"encoder_{arguments.echo_encoder}_{arguments.encoder_epochs}_{seed}"
            train_first(data, encoder, seed, arguments)
            config["model"] |= {"overrides": {}, "encoders": {"echo": str(encoder)}}
        if not arguments.epochs:
            continue
        file = arguments.runs / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        run("train", file, *(word for setting in arguments.set for word in ("--set", setting)))
        if arguments.second_epochs:
            config, name = second_stage(config, arguments), f"{name}_second{arguments.second_epochs}"
            file = arguments.runs / f"{name}.yaml"
            file.write_text(yaml.safe_dump(config, sort_keys=False))
            run("train", file)
        out = arguments.runs / f"evaluation_{name}"
        run("evaluate", config["output"], data, "--bayes", cohort, "--out", out)
        report(seed, read_json(out / "metrics.json")[TASK])


def configuration(data: Path, output: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a training on the regression alone."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    config["tasks"] = {TASK: config["tasks"][TASK] | {"loss": arguments.loss}}
    config["model"]["overrides"] = {"echo_config": {"model_type": arguments.echo_encoder}}
    config["optimisation"] |= {"epochs": arguments.epochs, "learning_rate": arguments.learning_rate}
    config["data"]["directory"] = str(data)
    return config | {"output": str(output)}


def second_stage(config: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a training that starts from the model of `config`, with all encoders frozen."""
    data = {"cache": {"directory": f"{config['output']}_features", "variants": 2}, "max_views": None}
    return {
        **config,
        "output": f"{config['output']}_second{arguments.second_epochs}",
        "data": config["data"] | data,
        "model": {"checkpoint": config["output"], "trainable_layers": 0},
        "optimisation": config["optimisation"] | {"epochs": arguments.second_epochs},
    }


def train_first(data: Path, out: Path, seed: int, arguments: argparse.Namespace) -> None:
    """Train the echo encoder alone on the measured fraction of each clip of the train split, unless it is there."""
    if out.is_dir():
        return
    rows = load_prepared(data)["train"]
    processor = build(parse_arguments(configuration(data, out, arguments)), load_prepared(data))[1]
    clips, fractions = [], []
    for row in rows.select_columns(["clips", f"value_{TASK}"]):
        if len(row["clips"]) and not np.isnan(row[f"value_{TASK}"]):
            clips.append(np.asarray(row["clips"], np.uint8))
            fractions += [float(row[f"value_{TASK}"])] * len(clips[-1])
    images = processor.image_processor
    encoder, _ = train_encoder(
        arguments.echo_encoder,
        Recipe(learning_rate=2e-3),
        seed,
        arguments.encoder_epochs,
        np.concatenate(clips),
        np.array(fractions),
        lambda part: torch.from_numpy(images.normalise(part.reshape(*part.shape[:3], images.size, 3))),
    )
    encoder.save_pretrained(out)


def run(*command: Any) -> None:
    """Run a command of `tgmm` in this process."""
    write(f"$ tgmm {' '.join(map(str, command))}")
    app([str(part) for part in command], standalone_mode=False)


def report(seed: int, entries: dict[str, Any]) -> None:
    """Print the errors of one seed beside optimum and control."""
    for subset in SHOWN:
        entry = entries[subset]
        interval = "no interval" if entry["mae_ci"] is None else "{:.2f} to {:.2f}".format(*entry["mae_ci"])
        ratio = entry["mae"] / entry["bayes_mae"]
        goal = f"; goal {GOAL:.2f}: {'met' if ratio <= GOAL else 'missed'}" if subset == SHOWN[-1] else ""
        coverage = entry.get(INTERVALS_KEY, {}).get("0.9", {}).get("coverage")
        limits = f"{entry['limit_low']:.1f} to {entry['limit_high']:.1f}"
        write(
            f"seed {seed}, {subset}, n = {entry['n']}: MAE {entry['mae']:.2f} ({interval}), optimum "
            f"{entry['bayes_mae']:.2f}, ratio {ratio:.2f}{goal}; training median {entry['mae_of_median']:.2f}, "
            f"training mean {entry['mae_of_mean']:.2f}; R2 {entry['r2']:.2f}; bias {entry['bias']:+.2f} ({limits}); "
            f"coverage at 90 % {'not known' if coverage is None else f'{coverage:.2f}'}"
        )


if __name__ == "__main__":
    main()
