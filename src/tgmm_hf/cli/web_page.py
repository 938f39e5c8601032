"""The commands that show a model as a web page."""

from pathlib import Path
from typing import Annotated

import typer

from tgmm_hf.cli.laboratory import Strictness, StrictnessChoice
from tgmm_hf.cli.options import Model, announce_hub
from tgmm_hf.cli.predict import ViewClassifier

Host = Annotated[
    str,
    typer.Option(help="Address to listen on. Any other than this machine's own address needs a password."),
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="File whose first line is the password of the page, readable by you only. The name of the user is tgmm.",
        show_default="the variable TGMM_APP_PASSWORD, or no password",
    ),
]
Examples = Annotated[
    Path | None,
    typer.Option(
        help="Directory of the synthetic patients. They are made at the first start, as by `tgmm synth`.",
        show_default="tgmm-hf/app-examples in your cache",
    ),
]
ReportModel = Annotated[
    str | None,
    typer.Option(
        help="Directory or Hub repository of a MEIT or Heartcare model; adds a tab that reports on an ECG.",
        show_default="no such tab",
    ),
]
SearchModel = Annotated[
    str | None,
    typer.Option(
        help="Directory or Hub repository of a MoRE model; adds a tab that finds similar records. With --search-index.",
        show_default="MODEL, if --search-index is given",
    ),
]
SearchIndex = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="Directory that `tgmm index` wrote. Users of the page see its pictures and notes.",
        show_default="no such tab",
    ),
]


def app(
    model: Model,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    password_file: PasswordFile = None,
    examples: Examples = None,
    report_model: ReportModel = None,
    search_model: SearchModel = None,
    search_index: SearchIndex = None,
    no_examples: Annotated[bool, typer.Option("--no-examples", help="Offer no synthetic patients.")] = False,
    view_classifier: ViewClassifier = None,
    strictness: StrictnessChoice = Strictness.note,
) -> None:
    """Show a model as a web page: files of a patient in, the answer and its report out.

    Uploads are deleted after the answer. Only this machine reaches the page, unless --host says otherwise. Needs the
    extra app.

    A MoRE model with --search-index alone makes a page that finds similar records.

    Example: tgmm app demo/model
    Example: tgmm app more_model --search-index notes_index
    """
    if search_model is not None and search_index is None:
        raise typer.BadParameter("--search-model needs --search-index")
    if no_examples and examples is not None:
        raise typer.BadParameter("--examples names synthetic patients, and --no-examples offers none: leave one out")
    if search_index is not None and search_model in (None, model) and (examples is not None or view_classifier):
        raise typer.BadParameter(
            "--examples and --view-classifier are for a page with patients, not for a search alone"
        )
    announce_hub(model)
    from tgmm_hf.app.examples import default_directory
    from tgmm_hf.app.server import check_host, read_password, serve

    password = read_password(password_file)
    check_host(host, password)

    directory = None if no_examples else examples or default_directory()
    typer.echo(f"http://{host}:{port} is open in a moment. Stop it with Ctrl-C.")
    typer.echo("Research software, not a medical device.")
    serve(
        model,
        host=host,
        port=port,
        password=password,
        examples=directory,
        report_model=report_model,
        search=None if search_index is None else (search_model or model, search_index),
        view_classifier=view_classifier,
        strictness=strictness.value,
    )
