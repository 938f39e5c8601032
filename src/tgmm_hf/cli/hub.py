"""Commands for published weights: convert them, and publish a model or a synthetic cohort."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tgmm_hf.cli.options import Private, require_path


class Weights(StrEnum):
    """A kind of published checkpoint."""

    st_mem = "st-mem"
    echoprime = "echoprime"
    echoprime_views = "echoprime-views"
    kinetics_mvit = "kinetics-mvit"
    meit = "meit"
    beat = "beat"
    more = "more"
    hubert_ecg = "hubert-ecg"
    echojepa = "echojepa"
    panecho = "panecho"
    ecg_fm = "ecg-fm"


class NormGamma(StrEnum):
    """What the layer norms of a file of Beat's prototype store."""

    gain = "gain"
    gain_minus_one = "gain-minus-one"


def convert(
    kind: Annotated[Weights, typer.Argument(help="Kind of the published weights.")],
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="Checkpoint file (.pth, .pt or .safetensors) as its authors publish it."),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Directory to write; it must not exist.")],
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Confirm that you have read the licence and will keep to it.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load a file that can run code of its author.")
    ] = False,
    keep_head: Annotated[
        bool, typer.Option("--keep-head", help="Keep the last linear layer of an echo encoder (EchoPrime: 512 wide).")
    ] = False,
    norm_gamma: Annotated[
        NormGamma | None,
        typer.Option(
            "--norm-gamma",
            help="beat: what the layer norms of the file store.",
            show_default="decided by the values",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="more: directory or Hub repository of the tokenizer of roberta-base.", show_default="no processor"
        ),
    ] = None,
) -> None:
    """Convert a published encoder checkpoint into a directory for from_pretrained and `TgmmModel.from_encoders`.

    st-mem: ECG encoder, or the full masked autoencoder. echoprime: echo encoder. echoprime-views: view classifier.
    kinetics-mvit: torchvision's MViT_V2_S_Weights. meit: ECG encoder and projector of MEIT (ecg_model.pth). beat: ECG
    tokenizer of Heartcare's public prototype. more: X-ray, ECG and text encoder of MoRE. hubert-ecg and
    ecg-fm: ECG encoders. echojepa and panecho: echo encoders.

    No weights are downloaded. The command shows the terms of the weights, asks you to confirm them, and writes them
    into the model card.

    Example: tgmm convert st-mem st_mem_vit_base_encoder.pth encoders/ecg --accept-license
    """
    from tgmm_hf.hub.weight_sources import SOURCES

    source = SOURCES[kind.value]
    typer.echo(f"{source.title}: {source.license_name}, {source.license_link}\n{source.terms}")
    if not accept_license and not sys.stdin.isatty():
        raise typer.BadParameter("these terms must be acknowledged: add --accept-license")
    if not accept_license and not typer.confirm("Do you acknowledge these terms?"):
        typer.echo("tgmm: The terms were not acknowledged, so nothing was converted.", err=True)
        raise typer.Exit(1)
    from tgmm_hf.hub.convert import convert as convert_weights

    converted = convert_weights(
        kind.value,
        checkpoint,
        destination,
        accept_license=True,
        allow_pickle=allow_pickle,
        keep_head=keep_head,
        norm_gamma=None if norm_gamma is None else norm_gamma.value,
        tokenizer=tokenizer,
    )
    if converted.dropped:
        typer.echo(f"left out: {', '.join(converted.dropped)}")
    typer.echo(f"{destination}: {type(converted.model).__name__}, {converted.model.num_parameters():,} parameters")


def push(
    model: Annotated[Path, typer.Argument(help="Directory of a saved model.")],
    repo: Annotated[str, typer.Argument(help="Hub repository, owner/name. It is created if it does not exist.")],
    private: Private = False,
    revision: Annotated[
        str | None,
        typer.Option(
            help="Branch to push to. It is created if it does not exist.",
            show_default="the default branch of the repository",
        ),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(help="metrics.json of `tgmm evaluate` for the model card.", show_default="a card without figures"),
    ] = None,
    encoder: Annotated[
        list[Path] | None,
        typer.Option(
            help="Directory of a pretrained encoder whose licence binds the model. May be repeated.",
            show_default="the encoders that the model names",
        ),
    ] = None,
    accept_licences: Annotated[
        bool,
        typer.Option("--accept-licences", help="Confirm that the licences of the encoders allow this upload."),
    ] = False,
) -> None:
    """Upload a model to the Hugging Face Hub: code, weights, processor and model card, in one commit.

    A directory that holds any other file is refused. Log in first with `hf auth login`, or set HF_TOKEN.

    Example: tgmm push demo/model owner/tgmm-demo --private --metrics demo/metrics.json
    """
    require_path(model, "directory", "name the directory of a saved model")
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
    typer.echo(f"{commit.commit_url}\nLoad it with revision={commit.oid!r} to get exactly this code and these weights.")


def push_space(
    model: Annotated[str, typer.Argument(help="Model on the Hub, owner/name. The page loads it when it starts.")],
    repo: Annotated[str, typer.Argument(help="Hub Space, owner/name. It is created if it does not exist.")],
    public: Annotated[bool, typer.Option("--public", help="Make the Space public, if it is new.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files, and upload nothing.")] = False,
) -> None:
    """Upload the web page of a model as a Hugging Face Space, private unless --public.

    The Space holds this package and no data. It starts only with a password: set its secret TGMM_APP_PASSWORD.

    Example: tgmm push-space owner/tgmm-demo owner/tgmm-page --dry-run
    """
    from tgmm_hf.hub.push_space import push_space as upload

    result = upload(model, repo, public=public, dry_run=dry_run)
    if isinstance(result, Mapping):
        typer.echo("\n".join(f"{size:>9,}  {name}" for name, size in result.items()))
        typer.echo(f"{len(result)} files; nothing was uploaded.")
    else:
        typer.echo(f"{result.commit_url}\nSet the secret TGMM_APP_PASSWORD of the Space, or the page does not start.")


def push_data(
    cohort: Annotated[Path, typer.Argument(help="Directory of a synthetic cohort.")],
    repo: Annotated[str, typer.Argument(help="Hub data set, owner/name. It is created if it does not exist.")],
    publish: Annotated[
        bool, typer.Option("--publish", help="Confirm that the data may become public; needed.")
    ] = False,
    private: Private = False,
) -> None:
    """Upload a cohort of `tgmm synth` to the Hugging Face Hub. No other cohort can be uploaded.

    Example: tgmm push-data demo/cohort owner/tgmm-synthetic --publish
    """
    if not publish:
        raise typer.BadParameter("this makes data public: add --publish")
    from tgmm_hf.hub.push import push_cohort

    typer.echo(push_cohort(cohort, repo, private=private or None).commit_url)
