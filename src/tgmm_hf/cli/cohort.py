"""The `tgmm` command: every subcommand is a few lines over a package of the library.

Exit codes: 0 done; 1 the work failed, with the reasons printed; 2 the command line was wrong. Set TGMM_DEBUG=1 to see
the traceback behind an error.
"""

import csv
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tgmm_hf.processing_tgmm import BERT_CASED_SIZE
from tgmm_hf.utils.files import whole_file

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="TGMM: lab tests, 12-lead ECG and echocardiogram in one model. Research software, not a medical device.",
)


class Size(StrEnum):
    """Which model's clip geometry: `tiny` 64 px, `paper` 224 px."""

    tiny = "tiny"
    paper = "paper"


class Evidence(StrEnum):
    """How much the synthetic modalities say of the disease."""

    default = "default"
    strong = "strong"


class Engine(StrEnum):
    """Who prepares records: processes of this machine, or a Ray cluster."""

    local = "local"
    ray = "ray"


class Split(StrEnum):
    """A split of the cohort."""

    train = "train"
    validation = "validation"
    test = "test"


class Weights(StrEnum):
    """A kind of published checkpoint."""

    st_mem = "st-mem"
    echoprime = "echoprime"
    echoprime_views = "echoprime-views"
    kinetics_mvit = "kinetics-mvit"


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Directory to write.")],
    patients: Annotated[int, typer.Option(min=7, help="Number of patients.")] = 1524,
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.")] = 0,
    evidence: Annotated[
        Evidence, typer.Option(help="strong: Bayes AUC >= 0.98, for demonstrations.")
    ] = Evidence.default,
    frames: Annotated[int, typer.Option(min=2, help="Frames of an echo clip.")] = 32,
    height: Annotated[int, typer.Option(min=96, help="Height of an echo clip; smaller is faster.")] = 240,
    width: Annotated[int, typer.Option(min=96, help="Width of an echo clip.")] = 320,
    all_test: Annotated[bool, typer.Option("--all-test", help="Put every patient into the test split.")] = False,
    labs_only: Annotated[
        bool, typer.Option("--labs-only", help="No ECG, no echo: many lab texts fast, to pre-train on.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Write a synthetic tri-modal cohort in MIMIC's file formats.

    Writes the MIMIC-IV, MIMIC-IV-ECG and MIMIC-IV-ECHO layouts, cohort.parquet (for `tgmm prepare`), views.csv,
    truth.parquet and bayes.json (the best figures any model can reach). Synthetic figures are no clinical evidence.

    Example: tgmm synth demo/cohort --patients 441 --seed 0 --evidence strong
    """
    from tgmm_hf.cohorts.synthetic.cohort import write_cohort

    table = write_cohort(
        out,
        patients,
        seed,
        evidence.value,
        workers=workers,
        frames=frames,
        height=height,
        width=width,
        all_test=all_test,
        labs_only=labs_only,
    )
    best = json.loads((out / "bayes.json").read_text())
    typer.echo(f"{patients} patients: {table}; a perfect model's figures on very many such: {out / 'bayes.json'}")
    for name, figures in best["population"]["hf_diagnosis"].items():
        typer.echo(f"  {name:<14} diagnosis AUC {figures['auc']:.3f}")


@app.command()
def curate(
    mimic_iv: Annotated[Path, typer.Option(help="MIMIC-IV (2.2 to 3.1): the directory that holds hosp/.")],
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    mimic_ecg: Annotated[Path | None, typer.Option(help="MIMIC-IV-ECG; without it stays need no ECG.")] = None,
    mimic_echo: Annotated[Path | None, typer.Option(help="MIMIC-IV-ECHO; without it stays need no echo.")] = None,
    rules: Annotated[Path | None, typer.Option(help="YAML file of rules; docs/data.md lists them.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="rule=value, over those of the file. Repeatable.")
    ] = None,
    views: Annotated[Path | None, typer.Option(help="CSV with columns dicom_filepath and view.")] = None,
    splits: Annotated[Path | None, typer.Option(help="Split file to take; default: OUT/splits.csv if there.")] = None,
    check_files: Annotated[bool, typer.Option("--check-files", help="Read the files; exclude anomalous ones.")] = False,
    root: Annotated[Path | None, typer.Option(help="Where the table's paths start; default: OUT.")] = None,
    memory: Annotated[str, typer.Option(help="Memory limit of the database; the rest goes to disk.")] = "2GB",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the database; default: all cores.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the file checks.")] = os.cpu_count() or 1,
) -> None:
    """Build the cohort of MIMIC-IV, MIMIC-IV-ECG and MIMIC-IV-ECHO as PhysioNet ships them.

    Writes cohort.parquet (for `tgmm prepare`), flow.json and flow.svg (every exclusion), table1.csv, splits.csv (kept
    by later runs), curate.sql and curate.json.

    Example: tgmm curate --mimic-iv mimiciv/3.1 --mimic-ecg mimic-iv-ecg/1.0 --mimic-echo mimic-iv-echo/0.1 --out cohort
    """
    from tgmm_hf.cohorts.mimic.cohort import curate as curate_cohort
    from tgmm_hf.cohorts.mimic.cohort import summary_text
    from tgmm_hf.cohorts.mimic.rules import read_rules

    record = curate_cohort(
        mimic_iv,
        out,
        mimic_ecg=mimic_ecg,
        mimic_echo=mimic_echo,
        rules=read_rules(rules, settings or []),
        views=views,
        splits=splits,
        check_files=check_files,
        root=root,
        memory=memory,
        threads=threads,
        workers=workers,
    )
    typer.echo(summary_text(out, record))
    typer.echo(f"{out / 'cohort.parquet'}, {out / 'flow.svg'}, {out / 'table1.csv'}")


@app.command()
def curate_ptbxl(
    directory: Annotated[
        Path, typer.Argument(help="PTB-XL as shipped, or arrays of it (.npz) with their label table.")
    ],
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    likelihood: Annotated[float, typer.Option(min=0, max=100, help="Statements below it (percent) do not count.")] = 0,
    both: Annotated[str, typer.Option(help="Records with MI and NORM: drop, or mi.")] = "drop",
    sampling_rate: Annotated[int, typer.Option(help="500 or 100 Hz, of the shipped records.")] = 500,
    validation_fold: Annotated[int, typer.Option(help="Official fold for validation.")] = 9,
    test_fold: Annotated[int, typer.Option(help="Official fold for the test.")] = 10,
    all_test: Annotated[
        bool, typer.Option("--all-test", help="Put every record into the test split, whatever its fold.")
    ] = False,
    all_records: Annotated[
        bool, typer.Option("--all-records", help="Keep records of neither kind, unlabelled: for tgmm pretrain.")
    ] = False,
) -> None:
    """Build the infarction task of PTB-XL: MI without NORM against NORM without MI, official folds.

    Age, sex, height and weight are the labs. Prints how many records each other selection rule would give.

    Example: tgmm curate-ptbxl ptb-xl/1.0.3 --out ptbxl/cohort
    """
    from tgmm_hf.cohorts.ptbxl import curate_ptbxl as curate_records

    record = curate_records(
        directory,
        out,
        likelihood=likelihood,
        both=both,
        sampling_rate=sampling_rate,
        validation_fold=validation_fold,
        test_fold=test_fold,
        all_test=all_test,
        all_records=all_records,
    )
    for row in record["selections"]:
        typer.echo("  ".join(f"{name} {value}" for name, value in row.items()))
    for split, counts in record["counts"].items():
        typer.echo(f"{split:<11} " + ", ".join(f"{name} {number}" for name, number in counts.items()))
    typer.echo(f"{out / 'cohort.parquet'}; prepare it with --config configs/ptbxl_mi.yaml")


@app.command()
def add_meds_labs(
    table: Annotated[Path, typer.Argument(help="Cohort table (.parquet or .csv) with id, patient_id, index_time.")],
    events: Annotated[Path, typer.Argument(help="Directory of a MEDS data set.")],
    codes: Annotated[Path, typer.Option(help="CSV: code, lab_column, unit (empty: the canonical one).")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    hours: Annotated[int, typer.Option(min=1, help="How long before the index time an event may lie.")] = 24,
) -> None:
    """Fill laboratory columns of a cohort table from events in MEDS format: the last number up to the index time.

    Example: tgmm add-meds-labs cohort.csv meds/ --codes codes.csv --out cohort/cohort.parquet
    """
    from tgmm_hf.cohorts.meds import add_meds_labs as add_labs

    counts = add_labs(table, events, codes, out, hours=hours)
    for count in counts:
        lost = f", {count['without_number']} without a number" if count["without_number"] else ""
        typer.echo(f"{count['lab_column']}: {count['rows']} rows ({count['results']} events{lost})")
    typer.echo(f"{out}; check it with tgmm check-manifest")
    if not any(count["rows"] for count in counts):
        raise ValueError(
            "No event of a listed code lies in any row's window: check codes, index times and patient ids."
        )


@app.command()
def check_manifest(
    table: Annotated[Path, typer.Argument(help="Cohort table (.parquet or .csv), or a directory with cohort.parquet.")],
    root: Annotated[Path | None, typer.Option(help="Where the table's paths start; default: beside the table.")] = None,
    config: Annotated[Path | None, typer.Option(help="Take the tasks from this training configuration (YAML).")] = None,
    for_prediction: Annotated[
        bool, typer.Option("--for-prediction", help="For `tgmm predict`: no split, patient or outcome is needed.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the report to this JSON file.")] = None,
) -> None:
    """Check a table of your own before `tgmm prepare` or `predict`: columns, splits, labels, laboratory cells, files.

    Example: tgmm check-manifest cohort.csv
    """
    from tgmm_hf.data.check_manifest import check_manifest as check_table
    from tgmm_hf.data.check_manifest import report_text

    path = table / "cohort.parquet" if table.is_dir() else table
    tasks = None if config is None else _processor_and_tasks_of_run(config)[1]
    report = check_table(path, root=root, tasks=tasks, for_prediction=for_prediction)
    if out is not None:
        _write_json(out, report)
    typer.echo(report_text(report))
    if report["missing_files"]["number"]:
        raise typer.Exit(1)


@app.command()
def prepare(
    cohort: Annotated[
        Path, typer.Argument(help="Cohort table (.parquet or .csv), or a directory with cohort.parquet.")
    ],
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    size: Annotated[Size, typer.Option(help="Clip geometry: tiny (64 px) or paper (224 px).")] = Size.tiny,
    model: Annotated[str | None, typer.Option(help="Take geometry and tasks from this saved model instead.")] = None,
    config: Annotated[Path | None, typer.Option(help="Take them from this training configuration (YAML).")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the table's paths start; default: beside the table.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: all cores (of the cluster).")] = None,
    engine: Annotated[
        Engine, typer.Option(help="ray: tasks on a Ray cluster; needs the extra cluster.")
    ] = Engine.local,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only part I of N, for job arrays; a last run without it finishes."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate size and time; write nothing.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a result of other data or settings.")] = False,
) -> None:
    """Turn a cohort table and its files into a model-ready data set.

    What cannot be read is left out and listed with its reason in refused.csv; prepare.json has the counts. A stopped
    run goes on where it was.

    Example: tgmm prepare demo/cohort --out demo/data
    """
    from tgmm_hf.data import prepare as preparing

    part = preparing.WHOLE if shard is None else _part(shard)
    if model is not None and config is not None:
        raise typer.BadParameter("--model and --config both say what to prepare for: give one")
    processor, tasks = _processor_and_tasks(size, model) if config is None else _processor_and_tasks_of_run(config)
    table = cohort / "cohort.parquet" if cohort.is_dir() else cohort
    same: Any = {"num_proc": workers, "part": part, "root": root, "tasks": tasks, "overwrite": overwrite}
    if dry_run:
        preparing.dry_run(table, out, processor, **same)
        return
    summary = preparing.prepare(table, out, processor, engine=engine.value, **same)
    if shard is None and not any(counts["records"] for counts in summary["counts"].values()):
        raise ValueError(f"No record of {table} could be used: the reasons are in {out / 'refused.csv'}.")


@app.command()
def export_parquet(
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    out: Annotated[Path, typer.Argument(help="Directory to write; nothing is uploaded.")],
) -> None:
    """Write a prepared data set as Parquet files, which `datasets` streams. They hold the patients' data.

    Example: tgmm export-parquet demo/data demo/parquet
    """
    from tgmm_hf.data.export import export_parquet as export

    files = export(data, out)
    typer.echo(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 2**20:.0f} MiB: {out}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/ for examples.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, replaces a setting of the file. Repeatable.")
    ] = None,
) -> None:
    """Train a model as a YAML file says, and save it with its processor and code.

    The same command continues a run that was stopped. For several GPUs:
    accelerate launch scripts/train_tgmm.py CONFIG.yaml

    Example: tgmm train configs/demo.yaml --set optimisation.epochs=2
    """
    from tgmm_hf.training.arguments import read_arguments

    run = read_arguments(config, settings or [])
    from tgmm_hf.training.train import train as train_model

    record = train_model(run)
    ((metric, value),) = record["kept_metric"].items()
    typer.echo(f"{run.output}: validation {metric} {value:.4f} at step {record['kept_step']}; history in run.json")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Directory or Hub repository of a saved model.")],
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    split: Annotated[Split, typer.Option(help="Which patients.")] = Split.test,
    bayes: Annotated[
        Path | None, typer.Option(help="Synthetic cohort (its bayes.json): adds the best reachable figures.")
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Prepared data whose validation split chooses thresholds; DATA itself if left out."),
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Threshold that reaches it; Youden's index if left out.")
    ] = None,
    temperature: Annotated[
        bool, typer.Option("--temperature", help="Scale probabilities by a temperature from validation.")
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also score worse inputs: 15 more runs over the data.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    bootstrap: Annotated[int, typer.Option(min=100, help="Bootstrap resamples.")] = 1000,
    batch_size: Annotated[int, typer.Option(min=1, help="Patients per batch.")] = 16,
) -> None:
    """Measure a model for all seven modality combinations, every figure with its interval.

    Writes metrics.json, metrics.txt, predictions.parquet, figures, tables and report.html. Thresholds, temperatures and
    the cut between risk groups are chosen on validation patients, never on those that are scored.

    Example: tgmm evaluate demo/model demo/data --bayes demo/cohort --out demo
    """
    from tgmm_hf.evaluation.evaluate import evaluate as evaluate_model

    _check_model(model)
    evaluate_model(
        model,
        data,
        out,
        split=split.value,
        bayes=bayes,
        validation=validation,
        sensitivity=sensitivity,
        temperature=temperature,
        worse_inputs=robustness,
        seed=seed,
        bootstrap=bootstrap,
        batch_size=batch_size,
    )
    typer.echo((out / "metrics.txt").read_text())
    typer.echo(f"{out / 'metrics.json'}, {out / 'report.html'}")


@app.command()
def baselines(
    data: Annotated[Path, typer.Argument(help="Prepared data set with the splits train, validation and test.")],
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    model: Annotated[
        str | None,
        typer.Option(help="Directory or Hub repository of a saved model: adds linear probes and late fusion."),
    ] = None,
    lvef: Annotated[
        Path | None,
        typer.Option(help="Cohort of `tgmm curate`, or a table with id and lvef (percent): adds LVEF alone."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    bootstrap: Annotated[int, typer.Option(min=100, help="Bootstrap resamples.")] = 1000,
) -> None:
    """Measure simple models on the same patients: logistic regression, boosting and Cox on labs, NT-proBNP alone.

    And what was measured alone, without any value; with --model, linear probes of its encoders and late fusion. Writes
    baselines.json, baselines.csv and predictions.parquet. Needs the extra `baselines`.

    Example: tgmm baselines demo/data --out demo/baselines --model demo/model
    """
    try:
        from tgmm_hf.evaluation.simple_models import evaluate_baselines, table_rows
    except ImportError as error:
        raise ImportError(f"tgmm baselines needs pip install 'tgmm-hf[baselines]' ({error}).") from error

    if model is not None:
        _check_model(model)
    if lvef is not None and lvef.is_dir():
        lvef = lvef / "cohort.parquet"
    record = evaluate_baselines(data, out, model=model, lvef=lvef, seed=seed, bootstrap=bootstrap)
    header, rows = table_rows(record)
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    for line in [header, *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for warning in record["warnings"]:
        typer.echo(warning)
    typer.echo(f"{out / 'baselines.json'}")


@app.command()
def pretrain(
    config: Annotated[Path, typer.Argument(help="YAML file; configs/pretrain_tiny.yaml is an example.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, over those of the file. Repeatable.")
    ] = None,
) -> None:
    """Pre-train encoders on records without labels: masked values, masked ECG patches, masked clips.

    The same command goes on after a stop. Writes labs/, ecg/ and echo/, which `model.encoders` of a training
    configuration names.

    Example: tgmm pretrain configs/pretrain_tiny.yaml
    """
    from tgmm_hf.training.pretrain import HARDLY_FELL, read_pretrain_arguments
    from tgmm_hf.training.pretrain import pretrain as pretrain_encoders

    arguments = read_pretrain_arguments(config, settings or ())
    for modality, record in pretrain_encoders(arguments).items():
        losses = [line["eval_loss"] for line in record["history"] if "eval_loss" in line]
        fell = " -> ".join(f"{loss:.4f}" for loss in dict.fromkeys((losses[0], losses[-1])))
        typer.echo(f"{Path(arguments.output) / modality}: validation loss after the first and the last epoch {fell}")
        if len(losses) > 1 and losses[-1] > HARDLY_FELL * losses[0]:
            advice = "Train it for longer, or hide less."
            if modality == "ecg":
                advice = (
                    "Train it for longer, and with three decoder layers or more (ecg_config.decoder_num_hidden_layers)."
                )
            typer.echo(
                f"Warning: the {modality} encoder's loss hardly fell after its first epoch: unless it had learned by "
                f"then, its weights are little better than random ones. {advice}",
                err=True,
            )


@app.command()
def search(
    plan: Annotated[Path, typer.Argument(help="YAML file: training configuration, settings to search, trials.")],
) -> None:
    """Try settings of a training and keep those with the best validation score; needs the extra `optuna`.

    A search that was stopped goes on, with more trials too. Writes trials.csv, search.json and best.yaml, a
    configuration for `tgmm train`, to the plan's output.

    Example: tgmm search configs/search_tiny.yaml
    """
    from tgmm_hf.experiments.search import search as search_settings

    record = search_settings(plan)
    best, out = record["best"], Path(record["plan"]["output"])
    typer.echo(f"trial {best['trial']} of {len(record['trials'])}: validation score {best['score']:.4f}")
    for name, value in best["settings"].items():
        typer.echo(f"  {name}: {value}")
    typer.echo(f"{out / 'trials.csv'}, {out / 'best.yaml'}")


@app.command()
def reproduce(
    plan: Annotated[Path, typer.Argument(help="YAML file: rows of the tables, seeds, training configuration.")],
    workers: Annotated[int, typer.Option(min=1, help="Trainings at once.")] = 1,
) -> None:
    """Train and evaluate a grid of models and seeds; write the paper's tables 2 to 6 with mean and deviation.

    A finished run is not run again, a stopped one goes on, a failed one stops no other. Writes tables/*.csv and
    reproduce.json to the plan's output.

    Example: tgmm reproduce configs/reproduce_tiny.yaml --workers 2
    """
    from tgmm_hf.experiments.reproduce import reproduce as reproduce_plan

    if not plan.is_file():
        raise typer.BadParameter(f"there is no plan {plan}")
    record = reproduce_plan(plan, workers=workers)
    out = Path(record["plan"]["output"])
    for name in record["tables"]:
        typer.echo(f"{out / 'tables' / name}.csv")
    failed = [run for run in record["runs"] if run["status"] == "failed"]
    for run in failed:
        typer.echo(f"{run['row']}, seed {run['seed']}: failed, {run['reason']}", err=True)
    for warning in record["warnings"]:
        typer.echo(f"Warning: {warning}", err=True)
    typer.echo(f"{out / 'reproduce.json'}: {len(record['runs']) - len(failed)} of {len(record['runs'])} runs done")
    if failed:
        raise typer.Exit(1)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Directory or Hub repository of a saved model.")],
    labs: Annotated[
        Path | None, typer.Option(help='JSON file, {"Creatinine": 1.4, "BNP": [880, "pg/mL"], ...}.')
    ] = None,
    ecg: Annotated[Path | None, typer.Option(help="WFDB record or DICOM waveform.")] = None,
    echo: Annotated[Path | None, typer.Option(help="Directory of an echo study, or one DICOM file.")] = None,
    views: Annotated[
        Path | None, typer.Option(help="CSV with the view of each echo file (columns dicom_filepath, view).")
    ] = None,
    view_classifier: Annotated[
        str | None,
        typer.Option(help="Names clips that --views does not: directory of `tgmm convert echoprime-views`."),
    ] = None,
    view_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out clips whose likeliest view is less probable.")
    ] = None,
    identifier: Annotated[str | None, typer.Option("--id", help="Name of this patient in the output.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Cohort table (.parquet or .csv) instead of --labs, --ecg, --echo.")
    ] = None,
    split: Annotated[Split | None, typer.Option(help="Only these patients of the table.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many patients of the table.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Task of the model; all if left out. Repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("prediction.json"),
    batch_size: Annotated[int, typer.Option(min=1, help="Patients per batch.")] = 8,
) -> None:
    """Predict one patient, or every patient of a table.

    Any of the three modalities may be missing. The JSON says what was used and what was refused, and why.

    Example: tgmm predict demo/model --labs row.json --ecg p1/s1/1 --echo study/ --views views.csv --out prediction.json
    """
    from tqdm import tqdm

    one = {"labs": labs, "ecg": ecg, "echo": echo}
    if manifest is None and (split is not None or limit is not None):
        raise typer.BadParameter("--split and --limit choose patients of a --manifest")
    if manifest is not None and (views is not None or identifier is not None):
        raise typer.BadParameter("--views and --id are for one patient; a manifest has columns for them")
    if (manifest is None) == all(path is None for path in one.values()):
        raise typer.BadParameter("give --manifest, or at least one of --labs, --ecg and --echo (not both)")
    _check_model(model)
    if absent := [str(path) for path in (labs, ecg, echo, views, manifest) if path is not None and not _is_there(path)]:
        raise typer.BadParameter(f"there is no {', no '.join(absent)}")
    if manifest is None:
        patients = [_patient(identifier, labs, ecg, echo, views)]
    else:
        patients = _patients(manifest, None if split is None else split.value)[:limit]
    if not patients:
        raise ValueError(f"{manifest} has no patient{f' in the split {split.value}' if split else ''}.")
    pipe = _pipeline(model, view_classifier, view_threshold)
    answers = pipe(iter(patients), tasks=task, batch_size=batch_size)
    predictions = list(tqdm(answers, total=len(patients), unit="patient", disable=len(patients) == 1))
    _write_json(out, predictions if manifest is not None else predictions[0])
    _print_predictions(predictions)
    unanswered = sum(not any(prediction["used"].values()) for prediction in predictions)
    typer.echo(f"{len(predictions) - unanswered} of {len(predictions)} patients predicted: {out}")
    typer.echo("Research software, not a medical device.")
    if unanswered == len(predictions):
        raise typer.Exit(1)


@app.command("convert")
def convert_weights(
    kind: Annotated[Weights, typer.Argument(help="Whose weights they are.")],
    checkpoint: Annotated[Path, typer.Argument(metavar="SRC", help="The .pth or .pt file of their authors.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Directory to write.")],
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="I have read the licence of the weights and keep to it.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load a file that can run code of its author.")
    ] = False,
    keep_head: Annotated[
        bool, typer.Option("--keep-head", help="Echo encoders: keep the last linear layer (EchoPrime: 512-d).")
    ] = False,
) -> None:
    """Turn a published encoder checkpoint into a directory for from_pretrained, and `TgmmModel.from_encoders`.

    st-mem: ECG encoder, or the full masked autoencoder. echoprime: echo encoder. echoprime-views: view classifier.
    kinetics-mvit: torchvision's MViT_V2_S_Weights. Nothing is downloaded. The terms of the weights are shown, have to
    be acknowledged, and go into the model card.

    Example: tgmm convert st-mem st_mem_vit_base_encoder.pth encoders/ecg --accept-license
    """
    from tgmm_hf.hub.convert import SOURCES, convert

    source = SOURCES[kind.value]
    typer.echo(f"{source.title}: {source.license_name}, {source.license_link}\n{source.terms}")
    if not accept_license and not sys.stdin.isatty():
        raise typer.BadParameter("these terms have to be acknowledged: add --accept-license")
    if not accept_license and not typer.confirm("Do you acknowledge these terms?"):
        raise ValueError("The terms were not acknowledged: nothing was converted.")
    converted = convert(
        kind.value, checkpoint, destination, accept_license=True, allow_pickle=allow_pickle, keep_head=keep_head
    )
    if converted.dropped:
        typer.echo(f"left out: {', '.join(converted.dropped)}")
    typer.echo(f"{destination}: {type(converted.model).__name__}, {converted.model.num_parameters():,} parameters")


@app.command()
def push(
    model: Annotated[Path, typer.Argument(help="Directory of a saved model.")],
    repo: Annotated[str, typer.Argument(help="Hub repository, owner/name; made if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to push to; made if it does not exist.")] = None,
    metrics: Annotated[Path | None, typer.Option(help="metrics.json of `tgmm evaluate`, for the model card.")] = None,
    encoder: Annotated[
        list[Path] | None, typer.Option(help="Directory of a pretrained encoder whose licence binds it. Repeatable.")
    ] = None,
    accept_licences: Annotated[
        bool, typer.Option("--accept-licences", help="The encoders' terms were read and allow this upload.")
    ] = False,
) -> None:
    """Upload a model to the Hugging Face Hub: code, weights, processor and model card, in one commit.

    A directory that holds anything else is refused. Log in first with `hf auth login`, or set HF_TOKEN.

    Example: tgmm push demo/model owner/tgmm-demo --private --metrics demo/metrics.json
    """
    from tgmm_hf.hub.push import push_model

    commit = push_model(
        model,
        repo,
        private=private or None,
        revision=revision,
        metrics=metrics,
        encoders=encoder or [],
        accept_licences=accept_licences,
    )
    typer.echo(f"{commit.commit_url}\nload it with revision={commit.oid!r} to have just this code and these weights")


@app.command()
def push_data(
    cohort: Annotated[Path, typer.Argument(help="Directory of a synthetic cohort.")],
    repo: Annotated[str, typer.Argument(help="Hub data set, owner/name; made if it does not exist.")],
    publish: Annotated[bool, typer.Option("--publish", help="Say that you mean it; needed.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Upload a cohort of `tgmm synth` to the Hugging Face Hub. No other cohort can be uploaded.

    Example: tgmm push-data demo/cohort owner/tgmm-synthetic --publish
    """
    from tgmm_hf.hub.push import push_cohort

    if not publish:
        raise typer.BadParameter("this makes data public: add --publish")
    typer.echo(push_cohort(cohort, repo, private=private or None).commit_url)


def _is_there(path: Path) -> bool:
    """Whether a file, directory or WFDB record (named without its suffix) exists."""
    return path.exists() or path.with_name(f"{path.name}.hea").exists()


def _patient(
    identifier: str | None, labs: Path | None, ecg: Path | None, echo: Path | None, views: Path | None
) -> dict[str, Any]:
    """One patient as the pipeline takes it, from the files of the command line."""
    patient: dict[str, Any] = {"id": identifier}
    if labs is not None:
        patient["labs"] = _read_labs(labs)
    if ecg is not None:
        patient["ecg"] = str(ecg)
    if echo is not None:
        patient["echo"] = str(echo) if echo.is_dir() else [str(echo)]
        patient["views"] = None if views is None else _read_views(views)
    return patient


def _patients(table: Path, split: str | None) -> list[dict[str, Any]]:
    """The patients of a cohort table as the pipeline takes them."""
    from tgmm_hf.data.manifest import read_manifest

    manifest = read_manifest(table, for_prediction=True)
    return [
        {
            "id": row.id,
            "labs": row.labs or None,
            "ecg": None if row.ecg_path is None else str(manifest.root / row.ecg_path),
            "echo": [str(manifest.root / path) for path in row.echo_paths] or None,
            "views": {
                path: view for path, view in zip(row.echo_paths, row.echo_views, strict=True) if view is not None
            },
        }
        for row in manifest.rows
        if split is None or row.split == split
    ]


def _read_labs(path: Path) -> dict[str, Any]:
    """A laboratory row; [value, unit] stands for a value with its unit."""
    try:
        row = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path} must hold one object of column names and values, got {type(row).__name__}.")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def _read_views(path: Path) -> dict[str, str]:
    """File name -> view, from a CSV with the columns dicom_filepath and view."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := {"dicom_filepath", "view"} - set(reader.fieldnames or []):
            raise ValueError(f"{path} lacks the column(s) {', '.join(sorted(missing))}; it has {reader.fieldnames}.")
        return {row["dicom_filepath"]: row["view"] for row in reader}


def _pipeline(model: str, view_classifier: str | None, view_threshold: float | None) -> Any:
    """The model's pipeline; clips of unknown view go to this classifier, or to the one saved with the model."""
    from tgmm_hf import StoredViewClassifier, TgmmCardiacPipeline, TgmmProcessor
    from tgmm_hf.evaluation.predictions import load_trained

    processor = TgmmProcessor.from_pretrained(model)
    if view_classifier is not None:
        _check_model(view_classifier)
        processor.default_view_classifier = StoredViewClassifier(view_classifier)
    if view_threshold is not None:
        processor.image_processor.view_threshold = view_threshold
    return TgmmCardiacPipeline(model=load_trained(model), processor=processor)


def _print_predictions(predictions: Sequence[Mapping[str, Any]], shown: int = 20) -> None:
    """Answers of the first patients, and what was refused."""
    for prediction in predictions[:shown]:
        typer.echo(f"patient {prediction['id'] or '-'}: used {_used(prediction['used'])}")
        for name, answer in prediction.items():
            if isinstance(answer, dict) and "probabilities" in answer:
                typer.echo(f"  {name}: " + ", ".join(f"{c} {p:.3f}" for c, p in answer["probabilities"].items()))
            if isinstance(answer, dict) and "risk_by_day" in answer:
                by_day = ", ".join(f"by day {day} {p:.3f}" for day, p in answer["risk_by_day"].items())
                typer.echo(f"  {name}: {by_day or 'no baseline stored'} (score {answer['risk']:.3f})")
    if len(predictions) > shown:
        typer.echo(f"... and {len(predictions) - shown} more in the file")
    notes = [note for prediction in predictions for note in prediction["notes"]]
    if notes and len(predictions) > 1:
        typer.echo(f"{_counted(len(notes), 'note')} (units converted, columns unknown, ...) in the file")
    elif notes:
        typer.echo("\n".join(["notes:", *(f"  {note}" for note in notes)]))
    refused = [(prediction["id"] or "-", entry) for prediction in predictions for entry in prediction["refused"]]
    if not refused:
        return
    if len(predictions) > 1:
        # Reasons state values; of one patient they are what the user asked for, of a table they do not belong in a log.
        patients = len({identifier for identifier, _ in refused})
        typer.echo(
            f"refused: {_counted(len(refused), 'item')} of {_counted(patients, 'patient')}; the reasons are in the file"
        )
        return
    typer.echo(f"refused: {_counted(len(refused), 'item')}")
    for _, entry in refused:
        typer.echo(f"  {entry['item']}  {entry['reason']}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _check_model(model: str) -> None:
    """Say at once that a directory does not exist, instead of asking the Hub for it."""
    if Path(model).is_dir():
        return
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model) or Path(model).parent.is_dir():
        raise FileNotFoundError(
            f"There is no directory {model} (a Hub repository would read owner/name, with no directory owner here)."
        )
    typer.echo(f"There is no directory {model} here: asking the Hugging Face Hub for it.", err=True)


def _used(used: Mapping[str, Sequence[str]]) -> str:
    """How much of each modality an answer rests on; no values."""
    words = {"labs": "lab cells", "ecg": "ECG leads", "echo": "echo views"}
    return ", ".join(f"{len(items)} {words[name]}" for name, items in used.items() if items) or "nothing"


def _part(text: str) -> tuple[int, int]:
    """ "3/8" -> (3, 8)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise typer.BadParameter(f"--shard {text}: write I/N with I from 1 to N, such as 1/8 for the first of eight")
    return int(match[1]), int(match[2])


def _processor_and_tasks(size: Size, model: str | None) -> tuple[Any, dict[str, Any]]:
    """Processor with the clip geometry to prepare for, and the tasks that the table's labels belong to."""
    from tgmm_hf import TgmmConfig, TgmmProcessor, default_processor

    if model is not None:
        config = TgmmConfig.from_pretrained(model)
        return TgmmProcessor.from_pretrained(model), config.tasks or {}
    # the tokenizer is not used for preparing; any that fits will do
    config = TgmmConfig() if size is Size.paper else TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE})
    return default_processor(config), config.tasks or {}


def _processor_and_tasks_of_run(path: Path) -> tuple[Any, dict[str, Any]]:
    """The same for the model that a training configuration will build."""
    from tgmm_hf import default_processor
    from tgmm_hf.training.arguments import read_arguments
    from tgmm_hf.training.train import new_config

    run = read_arguments(path)
    if run.model.checkpoint is not None:
        processor, tasks = _processor_and_tasks(Size.tiny, run.model.checkpoint)
        changed = {name: {**tasks.get(name, {}), **(task or {})} for name, task in run.tasks.items()}
        return processor, {**tasks, **changed}
    settings: Any = new_config(run.model, run.tasks)
    settings.labs_config.vocab_size = BERT_CASED_SIZE  # as above
    return default_processor(settings, encoders=run.model.encoders), settings.tasks


def _write_json(path: Path, content: Any) -> None:
    with whole_file(path) as building:
        building.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error that a user can mend is one line, not a traceback."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="tgmm")
    except (ValueError, ArithmeticError, ImportError, OSError, RuntimeError) as error:
        if os.environ.get("TGMM_DEBUG"):
            raise
        print(f"tgmm: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
