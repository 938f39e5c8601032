"""The commands that search X-rays, ECGs and notes with a MoRE model."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tgmm_hf.cli.options import AllowOutside, Model, Out, announce_hub

NoteTable = Annotated[
    Path, typer.Argument(help="Table of X-rays, ECGs and notes (.csv or .parquet), see docs/more.md.")
]
Index = Annotated[Path, typer.Argument(help="Directory that `tgmm index` wrote.")]


class VectorKind(StrEnum):
    """What is found."""

    xray = "xray"
    ecg = "ecg"
    text = "text"


def index(model: Model, table: NoteTable, out: Out, allow_outside: AllowOutside = False) -> None:
    """Encode the X-rays, ECGs and notes of a table with a MoRE model, for `tgmm retrieve`.

    Writes index.parquet, refused.csv and index.json. They hold ids of patients. The same command continues a run that
    was stopped.

    Example: tgmm index more_model notes.csv --out notes_index
    """
    announce_hub(model)
    from tgmm_hf.data.note_index import REFUSED, make_index

    record = make_index(model, table, out, allow_outside=allow_outside)
    numbers = ", ".join(f"{number} {kind}" for kind, number in record["vectors"].items())
    typer.echo(f"{out}: {numbers}; {record['refused']} refused ({out / REFUSED})")


def retrieve(
    model: Model,
    index: Index,
    text: Annotated[str | None, typer.Option(help="Words to search with.", show_default="none")] = None,
    xray: Annotated[str | None, typer.Option(help="X-ray file to search with.", show_default="none")] = None,
    ecg: Annotated[str | None, typer.Option(help="Recording to search with.", show_default="none")] = None,
    find: Annotated[VectorKind | None, typer.Option(help="What to find.", show_default="all kinds")] = None,
    number: Annotated[int, typer.Option(min=1, help="Number of results of each kind.")] = 5,
    pictures: Annotated[
        Path | None,
        typer.Option(help="HTML page to write, with the pictures of the results.", show_default="no page"),
    ] = None,
) -> None:
    """Find the X-rays, ECGs and notes of an index that are nearest to a text, an X-ray or an ECG.

    Prints the cosine, the kind, the id and the patient of each result. Give one of --text, --xray and --ecg.

    Example: tgmm retrieve more_model notes_index --text "pleural effusion" --find xray --pictures page.html
    """
    query = {name: value for name, value in (("text", text), ("xray", xray), ("ecg", ecg)) if value}
    if len(query) != 1:
        raise typer.BadParameter("give one of --text, --xray and --ecg")
    announce_hub(model)
    from tgmm_hf.data.note_index import KINDS, load_more, search
    from tgmm_hf.reports.patient_file import claim_report
    from tgmm_hf.utils.output_lock import check_writable

    if pictures is not None:
        claim_report(pictures, "html")
        check_writable(pictures)
    kinds = list(KINDS) if find is None else [find.value]
    loaded, processor = load_more(model)
    matches = search(loaded, processor, index, query, kinds, number)
    if pictures is not None:
        _write_page(pictures, processor, query, matches)
    for match in matches:
        typer.echo(f"{match.similarity:6.3f}  {match.kind:4}  {match.id}  {match.patient_id}")
    typer.echo("Near in the space of the model is no diagnosis. Research only, not a medical device.")


def _write_page(path: Path, processor: Any, query: dict[str, str], matches: list[Any]) -> None:
    """Write the page of a search, whole or not at all. Arguments as in `hits_page`."""
    from tgmm_hf.reports.more_hits import hits_page
    from tgmm_hf.utils.files import write_text

    write_text(path, hits_page(processor, query, matches))
