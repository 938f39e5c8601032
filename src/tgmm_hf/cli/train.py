"""Commands that train: one model, its encoders beforehand, a search, a grid."""

from pathlib import Path
from typing import Annotated

import typer

from tgmm_hf.cli.options import Settings, require_configuration


def train(
    config: Annotated[Path, typer.Argument(help="YAML file; configs/ holds examples, docs/settings.md every setting.")],
    settings: Settings = None,
) -> None:
    """Train a model from a YAML file, and save it with its processor and code.

    The key `family: meit` trains a model that writes ECG reports, `family: beat` the ECG tokenizer of Heartcare, and
    `family: heartcare` its language model, all from an instruction file. `family: more` trains MoRE from a table of
    X-rays, ECGs and notes. The same command continues a run that was stopped. For several GPUs: accelerate launch
    scripts/train_tgmm.py CONFIG.yaml

    Example: tgmm train configs/demo.yaml --set optimisation.epochs=2
    """
    require_configuration(config)
    from tgmm_hf.training.train_any import read_any_arguments, train_any

    run = read_any_arguments(config, settings or [])
    summary = train_any(run)
    ((metric, value),) = summary["kept_metric"].items()
    typer.echo(f"{run.output}: validation {metric} {value:.4f} at step {summary['kept_step']}; history in run.json")


def pretrain(
    config: Annotated[Path, typer.Argument(help="YAML file; configs/pretrain_tiny.yaml is an example.")],
    settings: Settings = None,
) -> None:
    """Pre-train encoders without labels: masked lab values, masked ECG patches, masked clips.

    The same command continues a run that was stopped. Writes labs/, ecg/ and echo/. Name them in `model.encoders` of a
    training configuration. A file with `family: beat` trains the ECG tokenizer, as `tgmm train` does.

    Example: tgmm pretrain configs/pretrain_tiny.yaml
    """
    require_configuration(config)
    from tgmm_hf.training.pretrain import HARDLY_FELL
    from tgmm_hf.training.pretrain import pretrain as pretrain_encoders
    from tgmm_hf.training.pretraining_arguments import read_pretrain_arguments
    from tgmm_hf.training.settings_files import read_settings

    if read_settings(config, settings or ()).get("family") == "beat":
        train(config, settings)
        return
    arguments = read_pretrain_arguments(config, settings or ())
    for modality, summary in pretrain_encoders(arguments).items():
        losses = [line["eval_loss"] for line in summary["history"] if "eval_loss" in line]
        first_and_last = " -> ".join(f"{loss:.4f}" for loss in dict.fromkeys((losses[0], losses[-1])))
        output = Path(arguments.output) / modality
        typer.echo(f"{output}: validation loss after the first and the last epoch {first_and_last}")
        if len(losses) > 1 and losses[-1] > HARDLY_FELL * losses[0]:
            typer.echo(_slow_loss_warning(modality), err=True)


def _slow_loss_warning(modality: str) -> str:
    """Return a warning, with advice, for a pre-training of the `modality` encoder that hardly lowered the loss."""
    advice = "Train for more epochs, or hide a smaller share of the input."
    if modality == "ecg":
        advice = "Train for more epochs, and with three decoder layers or more (ecg_config.decoder_num_hidden_layers)."
    return (
        f"Warning: the loss of the {modality} encoder hardly fell after its first epoch. Unless the encoder had "
        f"learned by then, its weights are little better than random weights. {advice}"
    )


def search(
    plan: Annotated[
        Path, typer.Argument(help="YAML file with a training configuration, the settings to search, and the trials.")
    ],
) -> None:
    """Try settings of a training and keep the settings with the best validation score. Needs optuna.

    The same command continues a search that was stopped. You may raise `trials` in the plan before that. Writes
    trials.csv, search.json and best.yaml (a configuration for `tgmm train`) to the plan's output.

    Example: tgmm search configs/search_tiny.yaml
    """
    require_configuration(plan)
    from tgmm_hf.experiments.search import search as search_settings

    summary = search_settings(plan)
    best, out = summary["best"], Path(summary["plan"]["output"])
    typer.echo(f"trial {best['trial']} of {len(summary['trials'])}: validation score {best['score']:.4f}")
    for name, value in best["settings"].items():
        typer.echo(f"  {name}: {value}")
    typer.echo(f"{out / 'trials.csv'}, {out / 'best.yaml'}")


def reproduce(
    plan: Annotated[Path, typer.Argument(help="YAML file with table rows, seeds and a training configuration.")],
    workers: Annotated[int, typer.Option(min=1, help="Number of trainings at the same time.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure a few steps of each row, say how long the runs take, and stop.")
    ] = False,
) -> None:
    """Train and evaluate a grid of models and seeds; write the paper's tables 2 to 6 with mean and deviation.

    A finished run is not repeated, a stopped run continues, a failed run stops no other run. Writes tables/*.csv and
    reproduce.json to the plan's output.

    Example: tgmm reproduce configs/reproduce_tiny.yaml --workers 2
    """
    require_configuration(plan)
    from tgmm_hf.experiments.reproduce import reproduce as reproduce_plan

    if dry_run:
        from tgmm_hf.experiments.duration import duration_text, estimate_duration

        typer.echo(duration_text(*estimate_duration(str(plan)), workers))
        return
    summary = reproduce_plan(plan, workers=workers)
    out = Path(summary["plan"]["output"])
    for name in summary["tables"]:
        typer.echo(f"{out / 'tables' / name}.csv")
    failed = [run for run in summary["runs"] if run["status"] == "failed"]
    for run in failed:
        typer.echo(f"{run['row']}, seed {run['seed']}: failed, {run['reason']}", err=True)
    for warning in summary["warnings"]:
        typer.echo(f"Warning: {warning}", err=True)
    number = len(summary["runs"])
    typer.echo(f"{out / 'reproduce.json'}: {number - len(failed)} of {number} runs done")
    if failed:
        raise typer.Exit(1)
