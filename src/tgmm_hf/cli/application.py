"""The application: which commands exist, and how errors reach the user.

Exit codes: 0 done; 1 the work failed, with the reasons printed; 2 the command line was wrong. Set TGMM_DEBUG=1 to see
the traceback of an error that is otherwise printed in one line.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tgmm_hf.cli import (
    bench,
    cohort,
    curate_more,
    curate_ptbxl,
    evaluate,
    explain,
    explain_check,
    hub,
    instructions,
    join_cohorts,
    make_manifest,
    predict,
    public_comparisons,
    report,
    retrieve,
    tokenize_ecg,
    train,
    web_page,
)
from tgmm_hf.cli.library_output import readable_warnings
from tgmm_hf.cli.single_options import SingleOptionsCommand
from tgmm_hf.utils.errors import TgmmError

USER_ERRORS = (TgmmError, OSError)
"""Errors that a user can mend, wherever they come from."""
OWN_ERRORS = (ValueError, TypeError, FloatingPointError, ImportError)
"""Errors that a user can mend if code of this package raises them: a wrong setting, a loss that is not finite, a
missing optional package.

From a library they are bugs.
"""

COMMANDS = (
    cohort.synth,
    cohort.curate,
    curate_ptbxl.curate_ptbxl,
    public_comparisons.curate_lvef,
    curate_more.curate_more,
    cohort.add_meds_labs,
    make_manifest.make_manifest,
    join_cohorts.join_cohorts,
    cohort.check_manifest,
    cohort.prepare,
    cohort.export_parquet,
    instructions.make_instructions,
    bench.make_bench,
    train.train,
    train.pretrain,
    train.search,
    train.reproduce,
    evaluate.evaluate,
    evaluate.simple_models,
    public_comparisons.write_entry,
    predict.predict,
    report.report,
    tokenize_ecg.tokenize_ecg,
    retrieve.index,
    retrieve.retrieve,
    explain.explain,
    explain_check.explain_check,
    web_page.app,
    hub.convert,
    hub.push,
    hub.push_space,
    hub.push_data,
)
"""Commands in the order in which `tgmm --help` lists them: from files to a published model."""

OLD_NAMES = {"baselines": evaluate.baselines}
"""Name in version 0.1 -> command. An old name works for one release, prints a notice and is not listed."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="TGMM: lab tests, 12-lead ECG and echocardiogram in one model. Research software, not a medical device.",
)
for command in COMMANDS:
    app.command(cls=SingleOptionsCommand)(command)
for old_name, old_command in OLD_NAMES.items():
    app.command(old_name, cls=SingleOptionsCommand, hidden=True)(old_command)


def _print_version(wanted: bool) -> None:
    """Print the version and end the command if `wanted`, which is True if `--version` was given."""
    if wanted:
        import tgmm_hf

        typer.echo(f"tgmm {tgmm_hf.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Print a notice if a command was called by an old name. It runs before every command."""
    called = context.invoked_subcommand or ""
    if called in OLD_NAMES:
        new = OLD_NAMES[called].__name__.replace("_", "-")
        typer.echo(f"Notice: tgmm {called} is now tgmm {new}. The old name goes with the next release.", err=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code.

    Args:
        arguments: Words after `tgmm`; None takes those of the process.
    """
    try:
        with readable_warnings():
            app(args=None if arguments is None else list(arguments), prog_name="tgmm")
    except (*USER_ERRORS, *OWN_ERRORS) as error:
        if os.environ.get("TGMM_DEBUG") or not (isinstance(error, USER_ERRORS) or _is_raised_here(error)):
            raise
        typer.echo(f"tgmm: {error}", err=True)
        sys.exit(1)


def _is_raised_here(error: BaseException) -> bool:
    """Tell whether the line that raised an error is a `raise` of this package, and not of a library that it calls."""
    frames = traceback.extract_tb(error.__traceback__)
    package = str(Path(__file__).parents[1])
    return bool(frames) and frames[-1].filename.startswith(package) and (frames[-1].line or "").startswith("raise")
