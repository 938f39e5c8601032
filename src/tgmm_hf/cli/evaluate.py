"""Commands that measure: a saved model, and simple models on the same patients."""

from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from tgmm_hf.cli.options import (
    AllowOutside,
    BatchSize,
    Bootstrap,
    Dtype,
    Model,
    NumberFormat,
    Out,
    Seed,
    Split,
    announce_hub,
    table_of,
)
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES

TextEncoder = Annotated[
    Path | None,
    typer.Option(help="MEIT: directory of a text encoder for BERTScore, such as MiniLM.", show_default="no BERTScore"),
]
Wordnet = Annotated[
    Path | None,
    typer.Option(help="MEIT: directory of WordNet's files for METEOR.", show_default="where NLTK keeps its data"),
]
LONGEST_REPORT = 128
"""Tokens of the longest report, if none is given."""
TrainingData = Annotated[
    Path | None,
    typer.Option(help="MEIT: instruction file whose train split gives two of the controls.", show_default="DATA"),
]
MaxNewTokens = Annotated[
    int | None, typer.Option(min=1, help="MEIT: longest report, in tokens.", show_default=str(LONGEST_REPORT))
]
Beams = Annotated[
    int | None,
    typer.Option(min=1, help="MEIT: number of beams. 1 takes the most probable next token.", show_default="1"),
]
EcgCache = Annotated[
    Path | None,
    typer.Option(
        help="MEIT: directory of processed ECGs, which several evaluations share. It holds patient data.",
        show_default="kept in memory",
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        help="MoRE: JSON file of prompts, and texts against them, for the columns label_FINDING. See docs/more.md.",
        show_default="the names of the findings",
    ),
]
BENCH_OPTIONS = {"bert_model", "wordnet", "max_new_tokens", "beams", "cache"}
"""Options of `evaluate` for a bench file, beside the options of every model."""
MEIT_OPTIONS = BENCH_OPTIONS | {"training_data", "robustness"}
"""Options of `evaluate` for a MEIT model and an instruction file."""
MORE_OPTIONS = {"prompts", "allow_outside"}
"""Options of `evaluate` for a MoRE model."""
TGMM_OPTIONS = {"task", "bayes", "validation", "sensitivity", "temperature", "explain", "dtype", "robustness"}
"""Options of `evaluate` for a TGMM model."""


@dataclass(frozen=True)
class _Evaluation:
    """The arguments of `evaluate`.

    Attributes:
        model: Directory or Hub repository of the saved model.
        data: Path of the data.
        out: Directory to write.
        split: Name of the scored split.
        seed: Seed of the bootstrap.
        bootstrap: Number of resamples.
        batch_size: Patients in a batch.
        given: Option that only some models take -> its value, if it was given.
    """

    model: str
    data: Path
    out: Path
    split: str
    seed: int
    bootstrap: int
    batch_size: int
    given: dict[str, Any]

    def refuse_all_but(self, allowed: set[str], subject: str) -> None:
        """Refuse the given options that are not for `subject`, such as "a TGMM model"."""
        names = [f"--{name.replace('_', '-')}" for name in self.given if name not in allowed]
        if names:
            raise typer.BadParameter(f"{', '.join(names)}: not for {subject}")


def evaluate(
    model: Model,
    data: Annotated[
        Path,
        typer.Argument(
            help="Prepared data set, written by `tgmm prepare`; for MEIT an instruction or bench file; for Heartcare "
            "and Beat a bench file; for MoRE a table of X-rays, ECGs and notes."
        ),
    ],
    out: Out,
    split: Annotated[Split, typer.Option(help="Split whose patients are scored.")] = Split.test,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="Task of the model to score. May be repeated.",
            show_default="all tasks that the last training trained and that have labels",
        ),
    ] = None,
    bayes: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the synthetic cohort; adds the best figures that any model can reach.",
            show_default="not added",
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Prepared data whose validation split chooses the thresholds.", show_default="DATA"),
    ] = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, help="Choose the threshold that reaches this sensitivity.", show_default="Youden's index"
        ),
    ] = None,
    temperature: Annotated[
        bool, typer.Option("--temperature", help="Scale the probabilities by a temperature chosen on validation.")
    ] = False,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Also score degraded inputs; takes 15 more passes over the data (MEIT: 8)."),
    ] = False,
    explain: Annotated[
        int,
        typer.Option(
            min=0, help="Explain this many patients, drawn at random, and average over groups. 0 explains nobody."
        ),
    ] = 0,
    bert_model: TextEncoder = None,
    wordnet: Wordnet = None,
    training_data: TrainingData = None,
    max_new_tokens: MaxNewTokens = None,
    beams: Beams = None,
    cache: EcgCache = None,
    prompts: Prompts = None,
    allow_outside: AllowOutside = False,
    seed: Seed = 0,
    bootstrap: Bootstrap = BOOTSTRAP_RESAMPLES,
    batch_size: BatchSize = 16,
    dtype: Dtype = NumberFormat.float32,
) -> None:
    """Measure a model, every figure with its interval.

    TGMM: for all seven subsets of modalities. Writes metrics.json, metrics.txt, predictions.parquet, figures, tables
    and report.html. Thresholds, temperatures and the cut between risk groups are chosen on validation patients, never
    on the scored patients.

    MEIT: text metrics and findings of the reports, beside four controls without the right ECG. Writes metrics.json,
    metrics.txt, metrics.md, report.html, tables and reports.parquet. For another data set, give its instruction file.

    MoRE: retrieval between X-rays, ECGs and notes in all directions, and zero-shot findings where the table has columns
    label_FINDING. A model that was trained for findings: AUROC and average precision from X-ray and ECG, and from each
    alone. Writes metrics.json, metrics.txt, metrics.md, refused.csv and tables.

    A file of `tgmm make-bench`: closed and open questions, reports and signals, as far as the model answers them, by
    category and beside controls. Writes metrics.json, metrics.txt, metrics.md, tables and answers.parquet.

    Example: tgmm evaluate demo/model demo/data --bayes demo/cohort --out demo
    """
    announce_hub(model)
    from tgmm_hf.data.ecg_reports import HEARTCARE, MEIT, saved_kind
    from tgmm_hf.data.instructions import holds_questions

    given = _given_options(
        task=task,
        bayes=bayes,
        validation=validation,
        sensitivity=sensitivity,
        temperature=temperature,
        explain=explain,
        dtype=None if dtype == NumberFormat.float32 else dtype.value,
        robustness=robustness,
        bert_model=bert_model,
        wordnet=wordnet,
        training_data=training_data,
        max_new_tokens=max_new_tokens,
        beams=beams,
        cache=cache,
        prompts=prompts,
        allow_outside=allow_outside,
    )
    evaluation = _Evaluation(model, data, out, split.value, seed, bootstrap, batch_size, given)
    kind = saved_kind(model)
    if kind == "more":
        _evaluate_more(evaluation)
    elif holds_questions(data):
        _evaluate_in_words(evaluation, is_bench=True)
    elif kind == MEIT:
        _evaluate_in_words(evaluation, is_bench=False)
    elif kind in (HEARTCARE, "beat"):
        raise typer.BadParameter(f"a {kind} model is scored on a file of questions: `tgmm make-bench` writes one")
    else:
        _evaluate_tgmm(evaluation)


def _given_options(**options: Any) -> dict[str, Any]:
    """Return the options that were given. An option that was not given is None, False, 0 or empty."""
    return {name: value for name, value in options.items() if value}


def _evaluate_more(evaluation: _Evaluation) -> None:
    """Evaluate a MoRE model on a table of X-rays, ECGs and notes."""
    from tgmm_hf.data.note_index import names_findings
    from tgmm_hf.evaluation.evaluate_more import MoreEvaluationSettings
    from tgmm_hf.evaluation.more_outputs import evaluate_more

    evaluation.refuse_all_but(MORE_OPTIONS, "a MoRE model")
    given = evaluation.given
    if "prompts" in given and names_findings(evaluation.model):
        raise typer.BadParameter("--prompts: not for a MoRE model that was trained for findings")
    settings = MoreEvaluationSettings(
        split=evaluation.split,
        prompts=given.get("prompts"),
        seed=evaluation.seed,
        bootstrap=evaluation.bootstrap,
        batch_size=evaluation.batch_size,
        allow_outside=given.get("allow_outside", False),
    )
    evaluate_more(evaluation.model, evaluation.data, evaluation.out, settings)
    typer.echo((evaluation.out / "metrics.txt").read_text(encoding="utf-8"))
    typer.echo(f"{evaluation.out / 'metrics.json'}")


def _evaluate_in_words(evaluation: _Evaluation, *, is_bench: bool) -> None:
    """Evaluate a model on a bench file, or a MEIT model on an instruction file."""
    from tgmm_hf.evaluation.evaluate_reporter import ReporterEvaluationSettings
    from tgmm_hf.evaluation.text_metrics import TextResources
    from tgmm_hf.reports.bench_report import evaluate_bench_with_page
    from tgmm_hf.reports.reporter_report import evaluate_reporter_with_page

    if is_bench:
        evaluation.refuse_all_but(BENCH_OPTIONS, "a bench file")
        evaluate_with_page = evaluate_bench_with_page
    else:
        evaluation.refuse_all_but(MEIT_OPTIONS, "a MEIT model")
        evaluate_with_page = evaluate_reporter_with_page
    given = evaluation.given
    settings = ReporterEvaluationSettings(
        split=evaluation.split,
        training_data=given.get("training_data"),
        resources=TextResources(given.get("bert_model"), given.get("wordnet")),
        noise=given.get("robustness", False),
        generate_kwargs={
            "max_new_tokens": given.get("max_new_tokens", LONGEST_REPORT),
            "num_beams": given.get("beams", 1),
        },
        seed=evaluation.seed,
        bootstrap=evaluation.bootstrap,
        batch_size=evaluation.batch_size,
        cache=given.get("cache"),
    )
    evaluate_with_page(evaluation.model, evaluation.data, evaluation.out, settings)
    _print_results(evaluation.out)


def _evaluate_tgmm(evaluation: _Evaluation) -> None:
    """Evaluate a TGMM model on prepared data."""
    from tgmm_hf.reports.evaluation_report import evaluate_with_report

    evaluation.refuse_all_but(TGMM_OPTIONS, "a TGMM model")
    given = evaluation.given
    evaluate_with_report(
        evaluation.model,
        evaluation.data,
        evaluation.out,
        split=evaluation.split,
        tasks=given.get("task"),
        bayes=given.get("bayes"),
        validation=given.get("validation"),
        sensitivity=given.get("sensitivity"),
        temperature=given.get("temperature", False),
        worse_inputs=given.get("robustness", False),
        explained=given.get("explain", 0),
        seed=evaluation.seed,
        bootstrap=evaluation.bootstrap,
        batch_size=evaluation.batch_size,
        dtype=given.get("dtype", NumberFormat.float32.value),
    )
    _print_results(evaluation.out)


def _print_results(out: Path) -> None:
    """Print the figures of an evaluation, and the paths of its files."""
    typer.echo((out / "metrics.txt").read_text(encoding="utf-8"))
    typer.echo(f"{out / 'metrics.json'}, {out / 'report.html'}")


def simple_models(
    data: Annotated[Path, typer.Argument(help="Prepared data set with the splits train, validation and test.")],
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(
            help="Directory or Hub repository of a saved model; adds linear probes of its encoders and late fusion.",
            show_default="not added",
        ),
    ] = None,
    lvef: Annotated[
        Path | None,
        typer.Option(
            help="Cohort of `tgmm curate`, or a table with the columns id and lvef (percent); adds LVEF alone.",
            show_default="not added",
        ),
    ] = None,
    seed: Seed = 0,
    bootstrap: Bootstrap = BOOTSTRAP_RESAMPLES,
) -> None:
    """Measure simple models on the same patients: logistic regression, boosting and Cox on labs, NT-proBNP alone.

    Also measures how much the presence of the inputs alone tells, without any value. Writes simple_models.json,
    simple_models.csv and predictions.parquet.

    Example: tgmm simple-models demo/data --out demo/simple_models --model demo/model
    """
    if model is not None:
        announce_hub(model)
    from tgmm_hf.evaluation.simple_model_evaluation import evaluate_simple_models, table_rows

    summary = evaluate_simple_models(
        data, out, model=model, lvef=None if lvef is None else table_of(lvef), seed=seed, bootstrap=bootstrap
    )
    _print_table(*table_rows(summary))
    for warning in summary["warnings"]:
        typer.echo(warning)
    typer.echo(f"{out / 'simple_models.json'}")


@wraps(simple_models)
def baselines(**options: Any) -> None:
    """Run `simple_models` under its name in version 0.1, and add the names of its files in that version."""
    from tgmm_hf.evaluation.simple_model_evaluation import add_old_names

    simple_models(**options)
    add_old_names(options["out"])


def _print_table(header: list[str], rows: list[Any]) -> None:
    """Print a table of texts with aligned columns. Every row has as many cells as `header`."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
