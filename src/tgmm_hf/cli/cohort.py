"""Commands that make a cohort table, check it, and turn it into a prepared data set."""

import json
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tgmm_hf.cli import preparation
from tgmm_hf.cli.laboratory import ColumnMap, Strictness, StrictnessChoice, Units, laboratory
from tgmm_hf.cli.options import (
    MAX_ROWS,
    AllowOutside,
    CohortTable,
    Decimal,
    Encoding,
    MaxRows,
    MemoryLimit,
    Out,
    PreparedData,
    Root,
    TimeLimit,
    format_of,
    limits_of,
    require_path,
    table_of,
)


class Size(StrEnum):
    """Size of the model that a data set is prepared for."""

    tiny = "tiny"
    paper = "paper"


class Evidence(StrEnum):
    """How clearly the synthetic inputs show the disease: the names of the strengths of `tgmm synth`."""

    default = "default"
    strong = "strong"
    interacting = "interacting"
    sign = "sign"
    xor = "xor"


class Centre(StrEnum):
    """Invented hospitals with devices, laboratory and patients of their own: the names of `CENTRES`."""

    university = "university"
    district = "district"
    clinic = "clinic"
    emergency = "emergency"


class Engine(StrEnum):
    """Where patients are prepared: in processes of this machine, or on a Ray cluster."""

    local = "local"
    ray = "ray"


CORES = os.cpu_count() or 1
Workers = Annotated[int, typer.Option(min=1, help="Number of worker processes.", show_default="all cores")]


def synth(
    out: Annotated[Path, typer.Argument(help="Directory to write.")],
    patients: Annotated[int, typer.Option(min=7, help="Number of patients.")] = 1524,
    seed: Annotated[int, typer.Option(help="Seed of the generator. The same seed writes the same bytes.")] = 0,
    evidence: Annotated[
        Evidence,
        typer.Option(
            help="How the inputs show the disease. strong: best reachable AUC >= 0.98, for demos. interacting: "
            "modalities change each other's meaning: a labs axis and an ECG axis (sign), ECG and echo (xor), or both."
        ),
    ] = Evidence.default,
    frames: Annotated[int, typer.Option(min=2, help="Number of frames of an echo clip.")] = 32,
    height: Annotated[int, typer.Option(min=96, help="Height of an echo clip in pixels; smaller is faster.")] = 240,
    width: Annotated[int, typer.Option(min=96, help="Width of an echo clip in pixels.")] = 320,
    all_test: Annotated[bool, typer.Option("--all-test", help="Put every patient into the test split.")] = False,
    labs_only: Annotated[
        bool, typer.Option("--labs-only", help="Write no ECG and no echo; gives many lab texts fast, for pre-training.")
    ] = False,
    no_echo: Annotated[bool, typer.Option("--no-echo", help="Write no echo; gives many ECGs fast.")] = False,
    varied_ecg: Annotated[
        bool,
        typer.Option("--varied-ecg", help="Vary rate, PR interval, axis, voltage and ST segment of the ECGs widely."),
    ] = False,
    xray: Annotated[
        bool,
        typer.Option("--xray", help="Write chest X-rays with reports too, in MIMIC-CXR-JPG's layout."),
    ] = False,
    measures: Annotated[
        bool,
        typer.Option("--measures", help="Add a measured ejection fraction and several findings to the tables."),
    ] = False,
    centre: Annotated[
        Centre | None,
        typer.Option(
            help="Invented hospital with its devices, lab units, tests, views and patients; docs/synthetic.md has the "
            "table.",
            show_default="no centre",
        ),
    ] = None,
    workers: Workers = CORES,
) -> None:
    """Write a synthetic tri-modal cohort in MIMIC's file formats.

    Writes the MIMIC-IV, MIMIC-IV-ECG and MIMIC-IV-ECHO layouts, cohort.parquet (for `tgmm prepare`), views.csv,
    truth.parquet and bayes.json (the best figures any model can reach). ecg/ecg_statements.csv holds what each ECG
    shows, and ecg/machine_measurements.csv the machine's report. --xray adds cxr/ (MIMIC-CXR-JPG), truth/ and
    xray_bayes.json. --measures adds outcomes for the tasks of configs/measures.yaml. Synthetic figures are no clinical
    evidence.

    Example: tgmm synth demo/cohort --patients 427 --seed 0 --evidence strong
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
        no_echo=no_echo,
        varied_ecg=varied_ecg,
        xray=xray,
        measures=measures,
        centre="" if centre is None else centre.value,
    )
    optimum = json.loads((out / "bayes.json").read_text(encoding="utf-8"))["population"]["hf_diagnosis"]
    typer.echo(f"{patients} patients: {table}; the best figures any model can reach: {out / 'bayes.json'}")
    for name, figures in optimum.items():
        late = figures.get("late_fusion_auc")
        beside = "" if late is None else f" (best late fusion {late:.3f})"
        typer.echo(f"  {name:<14} diagnosis AUC {figures['auc']:.3f}{beside}")


MimicEcg = Annotated[
    Path | None, typer.Option(help="Directory of MIMIC-IV-ECG.", show_default="admissions need no ECG")
]
MimicEcho = Annotated[
    Path | None, typer.Option(help="Directory of MIMIC-IV-ECHO.", show_default="admissions need no echo")
]
Rules = Annotated[
    Path | None,
    typer.Option(help="YAML file of rules; docs/mimic.md lists them.", show_default="the rules of the paper"),
]
RuleSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="RULE=VALUE",
        help="Replace one rule of the file. May be repeated.",
        show_default="the rules of the file",
    ),
]
ViewsTable = Annotated[
    Path | None,
    typer.Option(help="CSV file with the columns dicom_filepath and view.", show_default="clips have no view"),
]
Splits = Annotated[
    Path | None,
    typer.Option(help="File with the split of each patient.", show_default="OUT/splits.csv, or new splits"),
]


def curate(
    mimic_iv: Annotated[Path, typer.Option(help="Directory of MIMIC-IV (2.2 to 3.1) that holds hosp/.")],
    out: Out,
    mimic_ecg: MimicEcg = None,
    mimic_echo: MimicEcho = None,
    rules: Rules = None,
    settings: RuleSettings = None,
    views: ViewsTable = None,
    splits: Splits = None,
    check_files: Annotated[
        bool, typer.Option("--check-files", help="Read the ECG and echo files; exclude anomalous files.")
    ] = False,
    root: Annotated[
        Path | None, typer.Option(help="Directory from which the paths in the table start.", show_default="OUT")
    ] = None,
    memory: Annotated[
        str, typer.Option(help="Memory limit of the database; it moves to disk what does not fit.")
    ] = "2GB",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of threads of the database.", show_default="all cores")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of worker processes for --check-files.", show_default="all cores")
    ] = CORES,
) -> None:
    """Build the cohort of MIMIC-IV, MIMIC-IV-ECG and MIMIC-IV-ECHO as PhysioNet ships them.

    Writes cohort.parquet (for `tgmm prepare`), flow.json and flow.svg (every exclusion), table1.csv, splits.csv (kept
    by later runs), curate.sql and curate.json.

    Example: tgmm curate --mimic-iv mimiciv/3.1 --mimic-ecg mimic-iv-ecg/1.0 --mimic-echo mimic-iv-echo/0.1 --out cohort
    """
    from tgmm_hf.cohorts.mimic.cohort import curate as curate_cohort
    from tgmm_hf.cohorts.mimic.cohort import summary_text
    from tgmm_hf.cohorts.mimic.rules import read_rules
    from tgmm_hf.inputs.echo_reading import leads_outside

    summary = curate_cohort(
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
    typer.echo(summary_text(out, summary))
    typer.echo(f"{out / 'cohort.parquet'}, {out / 'flow.svg'}, {out / 'table1.csv'}")
    if any(leads_outside(directory, root or out) for directory in (mimic_ecg, mimic_echo) if directory is not None):
        typer.echo("prepare it with --allow-outside, because the ECG and echo files lie outside its directory")


def add_meds_labs(
    table: Annotated[
        Path, typer.Argument(help="Cohort table (.parquet or .csv) with the columns id, patient_id and index_time.")
    ],
    events: Annotated[Path, typer.Argument(help="Directory of a MEDS data set.")],
    codes: Annotated[
        Path, typer.Option(help="CSV file with the columns code, lab_column, unit (empty: the canonical unit).")
    ],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    hours: Annotated[int, typer.Option(min=1, help="Maximum age of an event at the index time, in hours.")] = 24,
) -> None:
    """Fill lab columns of a cohort table from events in MEDS format: the last number up to the index time.

    Example: tgmm add-meds-labs cohort.csv meds/ --codes codes.csv --out cohort/cohort.parquet
    """
    from tgmm_hf.cohorts.meds import add_meds_labs as add_labs
    from tgmm_hf.utils.errors import TgmmError

    counts = add_labs(table, events, codes, out, hours=hours)
    for count in counts:
        lost = f", {count['without_number']} without a number" if count["without_number"] else ""
        typer.echo(f"{count['lab_column']}: {count['rows']} rows ({count['results']} events{lost})")
        if count["contradicting"]:
            typer.echo(
                f"tgmm: {count['lab_column']}: {count['contradicting']} row(s) have several different numbers at one "
                "time, and one of them was taken. Which is right?",
                err=True,
            )
    typer.echo(f"{out}; check it with tgmm check-manifest")
    if not any(count["rows"] for count in counts):
        raise TgmmError(
            str(events), "no event of a listed code lies in any row's window. Check codes, index times and patient ids."
        )


def check_manifest(
    table: CohortTable,
    root: Root = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Training configuration (YAML) that names the tasks.", show_default="the default tasks"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Saved model that the table is for: its tasks, its lab columns.", show_default="no model"),
    ] = None,
    for_prediction: Annotated[
        bool, typer.Option("--for-prediction", help="Check for `tgmm predict`: no split, patient or outcome is needed.")
    ] = False,
    units: Units = None,
    columns: ColumnMap = None,
    read_files: Annotated[
        bool, typer.Option("--read-files", help="Open every ECG and echo file, and name what would be refused.")
    ] = False,
    allow_outside: AllowOutside = False,
    out: Annotated[
        Path | None, typer.Option(help="JSON file to write the report to.", show_default="printed only")
    ] = None,
    encoding: Encoding = None,
    decimal: Decimal = ".",
    max_rows: MaxRows = MAX_ROWS,
) -> None:
    """Check your own cohort table before `tgmm prepare` or `predict`: columns, splits, labels, lab cells, files.

    Names every fault in one run. The exit code is 1 if there is a fault.

    Example: tgmm check-manifest cohort.csv --read-files
    """
    if model is not None and config is not None:
        raise typer.BadParameter("--model and --config both say what the table is for: give one")
    require_path(table, "cohort table")
    table_format = format_of(encoding, decimal, max_rows)
    from tgmm_hf.data.check_manifest import CheckSettings, has_faults, report_text
    from tgmm_hf.data.check_manifest import check_manifest as check_table
    from tgmm_hf.utils.files import write_json

    processor, tasks = None, None
    if config is not None:
        tasks = preparation.for_run(config)[1]
    elif model is not None:
        processor, tasks = preparation.for_model(model)
    rules = laboratory(units, columns)
    settings = CheckSettings(
        root, tasks, for_prediction, processor, read_files, rules, table_format, allow_outside=allow_outside
    )
    report = check_table(table_of(table), settings)
    if out is not None:
        write_json(out, report, allow_nan=False)
    typer.echo(report_text(report))
    if has_faults(report):
        raise typer.Exit(1)


RunConfig = Annotated[
    Path | None,
    typer.Option(
        help="Prepare for the model of this training configuration (YAML).", show_default="a new model of --size"
    ),
]
EngineChoice = Annotated[
    Engine, typer.Option(help="local: processes of this machine. ray: tasks on a Ray cluster; needs ray.")
]
Part = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Prepare only part I of N, for job arrays. A last run without this option completes the data set.",
        show_default="all parts",
    ),
]


def prepare(
    cohort: CohortTable,
    out: Out,
    size: Annotated[
        Size, typer.Option(help="Size of the model to prepare for: tiny (64-pixel clips) or paper (224-pixel clips).")
    ] = Size.tiny,
    model: Annotated[
        str | None, typer.Option(help="Prepare for this saved model instead.", show_default="a new model of --size")
    ] = None,
    config: RunConfig = None,
    root: Root = None,
    units: Units = None,
    columns: ColumnMap = None,
    strictness: StrictnessChoice = Strictness.note,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of worker processes.", show_default="all cores of the machine or cluster"),
    ] = None,
    engine: EngineChoice = Engine.local,
    shard: Part = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate size and time; write nothing.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a data set of another cohort or other settings.")] = False,
    encoding: Encoding = None,
    decimal: Decimal = ".",
    max_rows: MaxRows = MAX_ROWS,
    allow_outside: AllowOutside = False,
    time_limit: TimeLimit = 300,
    memory_limit: MemoryLimit = 4,
) -> None:
    """Turn a cohort table and its files into a model-ready data set.

    A file or laboratory value that cannot be used is left out. An admission with no usable input is dropped.
    refused.csv lists each with the reason. prepare.json has the counts. The
    same command continues a run that was stopped. A file that the disk does not give is no refusal: the command fails
    at its end, and the next run reads the file again.

    Example: tgmm prepare demo/cohort --out demo/data
    """
    part = None if shard is None else _part(shard)
    if model is not None and config is not None:
        raise typer.BadParameter("--model and --config both say what to prepare for: give one")
    require_path(cohort, "cohort table")
    from tgmm_hf.data import prepare as preparing
    from tgmm_hf.utils.errors import TgmmError

    if config is not None:
        processor, tasks = preparation.for_run(config)
    elif model is not None:
        processor, tasks = preparation.for_model(model)
    else:
        processor, tasks = preparation.for_size(size.value)
    processor.default_strictness = strictness.value
    table = table_of(cohort)
    options: Any = {"num_proc": workers, "part": part or preparing.WHOLE, "root": root, "tasks": tasks}
    options["allow_outside"] = allow_outside
    options["laboratory"] = laboratory(units, columns)
    options["table_format"] = format_of(encoding, decimal, max_rows)
    if dry_run:
        preparing.dry_run(table, out, processor, **options, overwrite=overwrite)
        return
    options |= {"engine": engine.value, "limits": limits_of(time_limit, memory_limit)}
    summary = preparing.prepare(table, out, processor, **options, overwrite=overwrite)
    if shard is None and not any(counts["records"] for counts in summary["counts"].values()):
        raise TgmmError(str(table), f"no row could be used. The reasons are in {out / 'refused.csv'}.")


def _part(text: str) -> tuple[int, int]:
    """Read a part of a job array: "3/8" -> (3, 8). Refuse a text of another form, or a number out of range."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise typer.BadParameter(f"--shard {text}: write I/N with I from 1 to N, such as 1/8 for the first of eight")
    return int(match[1]), int(match[2])


def export_parquet(
    data: PreparedData,
    out: Annotated[Path, typer.Argument(help="Directory to write; nothing is uploaded.")],
) -> None:
    """Write a prepared data set as Parquet files, which `datasets` can stream. The files hold the patients' data.

    Example: tgmm export-parquet demo/data demo/parquet
    """
    from tgmm_hf.data.export import export_parquet as export

    files = export(data, out)
    typer.echo(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 2**20:.0f} MiB: {out}")
