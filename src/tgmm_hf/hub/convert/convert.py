"""Convert one published checkpoint file into one complete directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

from tgmm_hf.hub.convert.beat import NORM_GAMMAS, beat_prototype
from tgmm_hf.hub.convert.card import model_card
from tgmm_hf.hub.convert.ecg_fm import ecg_fm
from tgmm_hf.hub.convert.echo_jepa import echo_jepa
from tgmm_hf.hub.convert.encoders import Converted, convnext_views, mvit_v2_s, st_mem
from tgmm_hf.hub.convert.hubert_ecg import hubert_ecg
from tgmm_hf.hub.convert.loading import Checkpoint, load_checkpoint
from tgmm_hf.hub.convert.meit import meit_ecg_model
from tgmm_hf.hub.convert.more import more_checkpoint, published_processor
from tgmm_hf.hub.convert.pan_echo import pan_echo
from tgmm_hf.hub.weight_sources import SOURCES
from tgmm_hf.inputs.declared_preprocessing import declared_extractor
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.feature_extraction_meit import MeitFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import ECHOPRIME_MEAN, ECHOPRIME_STD, EchoImageProcessor
from tgmm_hf.pipeline_binding import bind_processor
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import claim_directory, whole_directory
from tgmm_hf.utils.output_lock import check_room, one_run_at_a_time

CONVERTERS = {
    "echoprime-views": convnext_views,
    "meit": meit_ecg_model,
    "more": more_checkpoint,
    "hubert-ecg": hubert_ecg,
    "echojepa": echo_jepa,
    "panecho": pan_echo,
}
"""Kind -> function that makes a model of the tensors, for the kinds that need nothing else."""
KINETICS_CLASSES = 400
KINETICS_MEAN, KINETICS_STD = 0.45 * 255, 0.225 * 255  # torchvision scales pixels to 0-1 first, this package does not


@one_run_at_a_time("destination")
def convert(  # noqa: PLR0913 - one argument for each option of the command
    kind: str,
    checkpoint: str | Path,
    destination: str | Path,
    *,
    accept_license: bool,
    allow_pickle: bool = False,
    keep_head: bool = False,
    norm_gamma: str | None = None,
    tokenizer: str | Path | None = None,
) -> Converted:
    """Convert a published checkpoint into a directory for `from_pretrained`, with processor, code and model card.

    Args:
        kind: A key of `SOURCES`, such as "st-mem" or "echoprime".
        checkpoint: File as its authors publish it, or a fine-tuned checkpoint with the same layout.
        destination: Directory to write. It appears whole or not at all.
        accept_license: Confirms that you have read the terms in `SOURCES[kind]` and keep to them. The terms go into the
            model card.
        allow_pickle: Load a file that needs pickled Python objects, which runs code of its author.
        keep_head: Keep the last linear layer of an echo encoder (`EchoMvitModelWithProjection`).
        norm_gamma: For "beat": whether the layer norms of the file store their "gain" or "gain-minus-one". None decides
            it by the values (`stored_gamma`).
        tokenizer: For "more": directory or Hub repository of the tokenizer of roberta-base, for the processor. None
            writes no processor.

    Returns:
        The model, and the names of the published tensors that it does not use.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        FileExistsError: If the destination exists and is not an empty directory, or holds the current directory.
        TgmmError: If the kind is unknown, the terms were not acknowledged, or the file cannot be loaded.
        ConversionError: If tensors do not fit the model. The message lists all of them.
    """
    if kind not in SOURCES:
        raise TgmmError(kind, f"Unknown kind of checkpoint {kind!r}. Known kinds are {', '.join(SOURCES)}.")
    source = SOURCES[kind]
    if not accept_license:
        raise TgmmError(
            kind,
            f"The weights are under {source.license_name} ({source.license_link}). {source.terms} Acknowledge this "
            "with --accept-license (accept_license=True).",
        )
    if keep_head and kind not in ("echoprime", "kinetics-mvit"):
        raise TgmmError(
            kind, "--keep-head is for echo encoders, because only their last layer is a head. Leave it out."
        )
    if norm_gamma is not None and (kind != "beat" or norm_gamma not in NORM_GAMMAS):
        raise TgmmError(
            kind, f"--norm-gamma is for beat, and is one of {', '.join(NORM_GAMMAS)}; got {norm_gamma!r} for {kind}."
        )
    if tokenizer is not None and kind != "more":
        raise TgmmError(kind, "--tokenizer is for more, because no other kind reads texts. Leave it out.")
    checkpoint, destination = Path(checkpoint), Path(destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise FileExistsError(f"{destination} exists already. Remove it, or name another directory.")
    claim_directory(destination, ())  # An empty directory may still be the current or the home directory.
    if checkpoint.is_file():
        check_room(destination, checkpoint.stat().st_size)
    content = load_checkpoint(checkpoint, allow_pickle)
    is_beat = kind == "beat"
    converted = beat_prototype(content.weights, norm_gamma) if is_beat else _convert(kind, content, keep_head)
    config: Any = converted.model.config
    processor = processor_for(kind, config) if tokenizer is None else published_processor(config, tokenizer)
    if processor is not None:
        bind_processor(converted.model, processor)
    with whole_directory(destination, ()) as building:
        converted.model.save_pretrained(building)
        if processor is not None:
            processor.save_pretrained(building)
        (building / "README.md").write_text(model_card(kind, source, checkpoint, converted), encoding="utf-8")
    return converted


def _convert(kind: str, checkpoint: Checkpoint, keep_head: bool) -> Converted:
    """Build the model of a kind (key of `SOURCES`) from a published checkpoint."""
    weights = checkpoint.weights
    if kind == "st-mem":
        return st_mem(weights, settings=checkpoint.settings)
    if kind == "ecg-fm":
        settings = checkpoint.settings.get("model", {})
        return ecg_fm(weights, settings=settings if isinstance(settings, Mapping) else {})
    if kind in CONVERTERS:
        return CONVERTERS[kind](weights)
    _check_owner(kind, weights)
    return mvit_v2_s(weights, keep_head)


def _check_owner(kind: str, weights: Mapping[str, Any]) -> None:
    """Refuse EchoPrime's weights under the name and licence of the Kinetics weights, and the reverse.

    Both files have the same tensors. Only the width of the head tells them apart.

    Raises:
        TgmmError: If the width of the head belongs to the other kind.
    """
    head = weights.get("head.1.weight")
    width = None if head is None else len(head)
    if kind == "kinetics-mvit" and width not in (None, KINETICS_CLASSES):
        raise TgmmError(
            kind,
            f"the head of this file has {width} outputs, and torchvision's Kinetics-400 weights have "
            f"{KINETICS_CLASSES}. The file is of another model, so its licence is not torchvision's. EchoPrime's "
            "encoder (512 outputs) is converted with `tgmm convert echoprime`.",
        )
    if kind == "echoprime" and width == KINETICS_CLASSES:
        raise TgmmError(
            kind,
            f"the head of this file has {width} outputs, as torchvision's Kinetics-400 weights have, and EchoPrime's "
            "has 512. Convert the file with `tgmm convert kinetics-mvit`.",
        )


def processor_for(kind: str, config: Any) -> Any:
    """Build the processor that prepares inputs as in the training of the published weights.

    Args:
        kind: Kind of checkpoint, a key of `SOURCES`.
        config: Configuration of the converted model.

    Returns:
        An `EcgFeatureExtractor`, a `MeitFeatureExtractor` or an `EchoImageProcessor`. For the view classifier,
        transformers' processor, set to normalise only. The extractor that the configuration declares, if it does. None
        for Beat, which has no processor yet, and for MoRE, whose processor needs a tokenizer.
    """
    if getattr(config, "preprocessing", None):
        return declared_extractor(config)
    if kind in ("beat", "more"):
        return None
    if kind == "st-mem":
        return EcgFeatureExtractor()
    if kind == "meit":
        return MeitFeatureExtractor(num_samples=config.seq_length)
    if kind == "echoprime-views":
        size = {"shortest_edge": config.image_size}
        return ConvNextImageProcessorPil(
            do_resize=False, do_rescale=False, size=size, image_mean=ECHOPRIME_MEAN, image_std=ECHOPRIME_STD
        )
    geometry = {"size": config.image_size, "num_frames": config.num_frames}
    if kind == "kinetics-mvit":
        return EchoImageProcessor(**geometry, image_mean=[KINETICS_MEAN] * 3, image_std=[KINETICS_STD] * 3)
    return EchoImageProcessor(**geometry)
