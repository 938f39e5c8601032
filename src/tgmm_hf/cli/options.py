"""Options that several commands share, so that they have one meaning and one text."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tgmm_hf.cli.library_output import no_loading_bars


class Split(StrEnum):
    """A split of the cohort."""

    train = "train"
    validation = "validation"
    test = "test"


class NumberFormat(StrEnum):
    """Number format of a model's weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


Out = Annotated[Path, typer.Option(help="Directory to write.")]
Model = Annotated[str, typer.Argument(help="Directory or Hub repository of a saved model.")]
PreparedData = Annotated[Path, typer.Argument(help="Prepared data set, written by `tgmm prepare`.")]
CohortTable = Annotated[
    Path, typer.Argument(help="Cohort table (.parquet or .csv), or a directory that holds cohort.parquet.")
]
Root = Annotated[
    Path | None,
    typer.Option(help="Directory from which the paths in the table start.", show_default="the directory of the table"),
]
AllowOutside = Annotated[
    bool,
    typer.Option(
        "--allow-outside",
        help="Read files outside the directory of the table (or --root) too. Use it only for a table of your own.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the bootstrap. The same seed gives the same intervals.")]
Bootstrap = Annotated[int, typer.Option(min=100, help="Number of bootstrap resamples for the intervals.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Number of patients in a batch. It changes only speed and memory.")]
Dtype = Annotated[
    NumberFormat,
    typer.Option(
        help="Number format of the weights. bfloat16 and int8 (linear layers, CPU only) change the answers a little; "
        "which one is fast depends on the processor."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace one setting of the file, such as optimisation.epochs=2. May be repeated.",
        show_default="the settings of the file",
    ),
]
TimeLimit = Annotated[
    float,
    typer.Option(min=1, help="Seconds after which reading one patient's ECG or echo study is stopped and refused."),
]
MemoryLimit = Annotated[
    float,
    typer.Option(
        min=0.1, help="GiB of memory at which reading one patient's ECG or echo study is stopped and refused."
    ),
]
Private = Annotated[bool, typer.Option("--private", help="Make the repository private, if it is new.")]


Encoding = Annotated[
    str | None,
    typer.Option(
        help="Encoding of a CSV file, such as cp1252 (Excel in Western Europe).",
        show_default="UTF-8, or what the first bytes of the file say",
    ),
]
Decimal = Annotated[str, typer.Option(metavar=". or ,", help="Decimal sign of the numbers in a CSV file.")]
MaxRows = Annotated[
    int, typer.Option(min=1, help="Refuse a table with more rows, before the rows are read into memory.")
]
MAX_ROWS = 2_000_000
"""The default of `MaxRows`. It is repeated here, because this module imports no library."""


def format_of(encoding: str | None, decimal: str, max_rows: int = MAX_ROWS) -> Any:
    """Make the `TableFormat` of the options of a command. Refuse an unknown encoding or decimal sign."""
    from tgmm_hf.data.table_files import TableFormat
    from tgmm_hf.utils.errors import TgmmError

    try:
        return TableFormat(encoding, decimal, max_rows)
    except TgmmError as error:
        raise typer.BadParameter(f"{error.item}: {error.reason}") from None


def limits_of(time_limit: float, memory_limit: float) -> Any:
    """Return the `Limits` of the options `--time-limit` (seconds) and `--memory-limit` (GiB)."""
    from tgmm_hf.utils.watched_worker import Limits

    return Limits(time_limit, int(memory_limit * 2**30))


def table_of(cohort: Path) -> Path:
    """Return `cohort`/cohort.parquet if `cohort` is a directory; else `cohort` itself, which is a table."""
    return cohort / "cohort.parquet" if cohort.is_dir() else cohort


def require_path(path: Path, kind: str, advice: str = "check the path") -> None:
    """Refuse a path that names nothing. Call it before the library is imported, because the imports take seconds.

    Args:
        path: File or directory that the command needs.
        kind: What the path stands for, such as "cohort table".
        advice: What to do.

    Raises:
        FileNotFoundError: If nothing is there.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no {kind} {path}: {advice}.")


def require_configuration(path: Path) -> None:
    """Refuse a YAML file that is not there. See [`require_path`]."""
    require_path(path, "configuration", "see configs/ for examples")


def refuse_given(context: typer.Context, names: Iterable[str], reason: str) -> None:
    """Refuse a command line that gives an option which would have no effect.

    Args:
        context: the command line.
        names: names of the parameters.
        reason: why the option cannot be given, such as "not with --xray".

    Raises:
        typer.BadParameter: if one of them is given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(parameter for parameter in context.command.params if parameter.name == name)
            raise typer.BadParameter(f"{option.opts[0]}: {reason}")


def announce_hub(model: str) -> None:
    """Check the name of a model. Print a line if the model will be loaded from the Hub.

    Raises:
        FileNotFoundError: If the name is neither a directory nor the name of a Hub repository.
    """
    from tgmm_hf.utils.model_names import is_local_model

    if is_local_model(model):
        no_loading_bars()
    else:
        typer.echo(f"There is no directory {model} here. Asking the Hugging Face Hub for it.", err=True)
