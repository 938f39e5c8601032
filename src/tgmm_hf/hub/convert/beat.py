"""The layout of the public prototype of Beat, Heartcare's ECG tokenizer."""

import re
from collections.abc import Mapping

import torch

from tgmm_hf.families.heartcare.configuration_beat import BeatConfig
from tgmm_hf.families.heartcare.modeling_beat import BeatModel
from tgmm_hf.hub.convert.encoders import Converted
from tgmm_hf.hub.convert.renaming import ConversionError, build, rename, require, take
from tgmm_hf.utils.names import LEADS

GAIN, GAIN_MINUS_ONE = "gain", "gain-minus-one"
NORM_GAMMAS = (GAIN, GAIN_MINUS_ONE)
"""What a stored `gamma` of a layer norm is. It depends on the version of x-transformers that wrote the file."""
HEAD_SIZE = 64
"""Width of an attention head. The file does not tell it, and the prototype has the default of x-transformers."""
TITLE = "Beat prototype"
CODEBOOK = "vq._codebook."
BEAT = (
    (r"^latents$", "query_tokens"),
    (r"^pos_emb\.weight$", "position_embeddings"),
    (r"^sequence_to_tokens\.1\.", "patch_projection."),
    (r"^tokens_to_sequence\.0\.", "reconstruction_head."),
    (r"^(encoder|decoder)\.final_norm\.gamma$", r"\1.norm.weight"),
    (r"^((?:en|de)coder\.layers\.\d+)\.0\.0\.gamma$", r"\1.norm.weight"),
    # attention and MLP are layers of their own in the file: 0, 2, 4, ... and 1, 3, 5, ...
    (
        r"^((?:en|de)coder)\.layers\.(\d+)\.norm\.",
        lambda m: f"{m[1]}.layers.{int(m[2]) // 2}.{('attention', 'mlp')[int(m[2]) % 2]}_norm.",
    ),
    (
        r"^((?:en|de)coder)\.layers\.(\d+)\.1\.",
        lambda m: f"{m[1]}.layers.{int(m[2]) // 2}.{('attention', 'mlp')[int(m[2]) % 2]}.",
    ),
    (r"\.to_q\.", ".query."),
    (r"\.to_k\.", ".key."),
    (r"\.to_v\.", ".value."),
    (r"\.to_out\.", ".output."),
    (r"\.ff\.0\.0\.", ".fc1."),
    (r"\.ff\.2\.", ".fc2."),
    (r"^vq\._codebook\.embed$", "quantizer.codebooks.0.vectors"),
    (r"^vq\._codebook\.embed_avg$", "quantizer.codebooks.0.sums"),
    (r"^vq\._codebook\.cluster_size$", "quantizer.codebooks.0.counts"),
)


def beat_prototype(weights: Mapping[str, torch.Tensor], norm_gamma: str | None = None) -> Converted:
    """Convert a file of the public prototype to [`BeatModel`]. Sizes are read from the shapes.

    The file tells neither the number of leads (12), nor the number of levels (2), nor the width of a head (64).

    Args:
        weights: Published name -> tensor.
        norm_gamma: "gain" or "gain-minus-one"; None decides it by the values, see `stored_gamma`.

    Raises:
        ConversionError: If the tensors are not those of the prototype, or the values of the norms do not decide.
    """
    plain = dict(weights)
    first = "encoder.layers.1.1.ff.0.0.weight"
    needed = ["latents", "mask_tokens", "pos_emb.weight", "sequence_to_tokens.1.weight", "encoder.final_norm.gamma"]
    require(plain, [*needed, first, "encoder.layers.0.1.to_q.weight", f"{CODEBOOK}embed"], TITLE)
    gammas = {name: tensor for name, tensor in plain.items() if name.endswith(".gamma")}
    convention = stored_gamma(gammas) if norm_gamma is None else norm_gamma
    if convention == GAIN_MINUS_ONE:
        plain |= {name: tensor + 1 for name, tensor in gammas.items()}
    config = _config(plain, first)
    dropped = list(take(plain, ["mask_tokens", f"{CODEBOOK}initted"]))
    positions = plain["pos_emb.weight"]
    if len(positions) > config.num_patches:
        dropped.append(f"pos_emb.weight[{config.num_patches}:]")
    plain["pos_emb.weight"] = positions[: config.num_patches]
    for name in [name for name in plain if name.startswith(CODEBOOK)]:
        plain[name] = plain[name].squeeze(0)
    # What later versions of x-transformers or of the quantiser store beyond this stays, and `build` lists it.
    converted = Converted(build(lambda: BeatModel(config), rename(plain, BEAT)), dropped)
    origin = "as the option says" if norm_gamma else "decided by the values"
    action = "1 was added to them, all" if convention == GAIN_MINUS_ONE else "they and all"
    converted.changes.append(
        f"The layer norms of the file hold the {convention.replace('-', ' ')} ({origin}): {action} other numbers are "
        "unchanged."
    )
    return converted


def stored_gamma(gammas: Mapping[str, torch.Tensor]) -> str:
    """Decide by the values whether norms store their gain, which starts at 1, or the gain minus one, from 0.

    A training moves the gains, but seldom by half. So the file stores the gain if the median of every norm lies between
    0.5 and 1.5, and the gain minus one if it lies between -0.5 and 0.5.

    Args:
        gammas: Name -> stored values of a norm.

    Returns:
        "gain" or "gain-minus-one".

    Raises:
        ConversionError: If the norms do not agree.
    """
    medians = [float(tensor.float().median()) for tensor in gammas.values()]
    for convention, center in ((GAIN, 1.0), (GAIN_MINUS_ONE, 0.0)):
        if all(abs(median - center) < 0.5 for median in medians):
            return convention
    raise ConversionError(
        "checkpoint",
        f"The medians of the {len(medians)} layer norms (`gamma`) lie between {min(medians):.2f} and "
        f"{max(medians):.2f}, so the file may store gains (about 1) or gains minus one (about 0). This depends on the "
        f"version of x-transformers that wrote it. Choose with --norm-gamma {GAIN} or --norm-gamma {GAIN_MINUS_ONE}.",
    )


def _config(weights: Mapping[str, torch.Tensor], first_mlp: str) -> BeatConfig:
    """Read the sizes of the prototype from the shapes of its tensors.

    Raises:
        ConversionError: If a patch cannot be divided into 12 leads.
    """
    width, patch_width = weights["sequence_to_tokens.1.weight"].shape
    if patch_width % len(LEADS):
        raise ConversionError(
            "sequence_to_tokens.1.weight",
            f"A patch has {patch_width} values, which cannot be divided into {len(LEADS)} leads.",
        )
    patch_size, num_queries = patch_width // len(LEADS), len(weights["latents"])
    layers = {int(match[1]) for name in weights if (match := re.match(r"encoder\.layers\.(\d+)\.", name))}
    return BeatConfig.prototype(
        seq_length=patch_size * len(weights["mask_tokens"]),
        prediction_length=patch_size * num_queries,
        patch_size=patch_size,
        num_queries=num_queries,
        hidden_size=width,
        num_hidden_layers=len(layers) // 2,
        num_attention_heads=len(weights["encoder.layers.0.1.to_q.weight"]) // HEAD_SIZE,
        attention_head_size=HEAD_SIZE,
        intermediate_size=len(weights[first_mlp]),
        codebook_size=weights[f"{CODEBOOK}embed"].shape[-2],
    )
