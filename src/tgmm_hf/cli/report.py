"""The command that writes a report about an ECG."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tgmm_hf.cli.laboratory import Strictness, StrictnessChoice
from tgmm_hf.cli.options import Model, announce_hub
from tgmm_hf.cli.patient_files import refuse_folder, require_files
from tgmm_hf.cli.predict import Identifier, OutFile
from tgmm_hf.utils.names import counted

EcgToReport = Annotated[
    Path | None,
    typer.Option(help="ECG file: WFDB recording, DICOM waveform, export or CSV.", show_default="none, with --picture"),
]
Picture = Annotated[
    Path | None,
    typer.Option(
        help="Your own picture of the ECG, for a Heartcare model: PNG, JPEG, TIFF, BMP or WEBP.",
        show_default="drawn from --ecg",
    ),
]
Instruction = Annotated[
    str | None, typer.Option(help="What the model is asked.", show_default="the instruction saved with the model")
]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest report, in tokens.")]
Beams = Annotated[int, typer.Option(min=1, help="Number of beams of the search. 1 takes the most probable next token.")]
Sentences = Annotated[
    bool,
    typer.Option("--sentences", help="Name the leads and moments that carried each sentence, if a check holds."),
]


def report(
    model: Model,
    ecg: EcgToReport = None,
    picture: Picture = None,
    instruction: Instruction = None,
    max_new_tokens: MaxNewTokens = 128,
    beams: Beams = 1,
    strictness: StrictnessChoice = Strictness.note,
    sentences: Sentences = False,
    identifier: Identifier = None,
    out: OutFile = Path("ecg_report.json"),
) -> None:
    """Write a report about an ECG in words, or answer a question about it, with a MEIT or Heartcare model.

    The report is printed. The JSON file also says what it rests on, what was refused, and why. An ECG that cannot be
    used gets no report. A Heartcare model reads the signal and a picture, which is drawn from the signal or yours.

    Example: tgmm report meit_model --ecg p1/s1/1 --out ecg_report.json
    """
    announce_hub(model)
    if ecg is None and picture is None:
        raise typer.BadParameter("there is nothing to report on: give --ecg, or --picture for a Heartcare model")
    require_files({"--ecg": ecg, "--picture": picture})
    refuse_folder(ecg)

    from tgmm_hf.data.ecg_reports import MEIT, load_report_pipeline, saved_kind, write_report
    from tgmm_hf.utils.files import write_json
    from tgmm_hf.utils.output_lock import check_writable

    check_writable(out)
    if sentences and (kind := saved_kind(model)) != MEIT:
        raise typer.BadParameter(f"--sentences: only the report of a meit model is explained, and this is a {kind} one")
    pipe = load_report_pipeline(model, strictness.value)
    answer = write_report(
        pipe,
        ecg,
        picture=picture,
        identifier=identifier,
        instruction=instruction,
        max_new_tokens=max_new_tokens,
        num_beams=beams,
    )
    if sentences and answer["report"]:
        from tgmm_hf.explanation.report_sentences import explain_report

        claims = explain_report(pipe.model, pipe.processor, str(ecg), answer["report"], instruction)
        answer["sentences"] = [claim.to_dict() for claim in claims]
    write_json(out, answer, allow_nan=False)
    _print_report(answer)
    if answer["report"] is None:
        typer.echo(f"There is no report, because the ECG cannot be used. The reasons are in {out} too.")
        raise typer.Exit(1)
    typer.echo(f"Report: {out}")
    typer.echo(answer["statement"])


def _print_report(answer: Mapping[str, Any]) -> None:
    """Print a report, what it rests on, its notes, doubts and refusals."""
    name = "the patient" if answer["id"] is None else f"patient {answer['id']}"
    typer.echo(f"{name}: used {' and '.join(_used_parts(answer['used'])) or 'nothing'}")
    if answer["report"] is not None:
        typer.echo(f"\n{answer['report']}\n")
        sources = ", ".join(f"{part} {source['source']}" for part, source in answer["sources"].items())
        streams, model = " and ".join(answer["streams"]), answer["model"]
        typer.echo(f"It rests on the {streams} of this ECG, the model {model}" + (f" ({sources})" if sources else ""))
        typer.echo(f"and the instruction: {answer['instruction']}")
    for title, lines in (
        (
            "sentences, with the share of the difference that the ECG makes",
            [_sentence_line(entry) for entry in answer.get("sentences", [])],
        ),
        ("notes", answer["notes"]),
        ("in doubt", [f"{check['item']}  {check['text']}" for check in answer["checks"]]),
        ("refused", [f"{entry['item']}  {entry['reason']}" for entry in answer["refused"]]),
    ):
        if lines:
            typer.echo("\n".join([f"{title}:", *(f"  {line}" for line in lines)]))


def _used_parts(used: Mapping[str, Any]) -> list[str]:
    """Say what of an ECG was used."""
    picture = {"drawn": ["a picture drawn from them"], "given": ["the given picture"]}.get(used.get("image", "no"), [])
    return ([counted(len(used["ecg"]), "ECG lead")] if used["ecg"] else []) + picture


def _sentence_line(entry: Mapping[str, Any]) -> str:
    """Write one line about a sentence: the parts of the ECG that carried it, or why none is named."""
    parts = [
        f"{part['lead']} {part['seconds'][0]:.2f} to {part['seconds'][1]:.2f} s ({100 * part['share']:.0f} %)"
        for part in entry["carried_by"]
    ]
    return f"{entry['sentence']!r}  {', '.join(parts) if parts else entry['doubt']}"
