"""The encoders of TGMM: what each has to offer, and how it is built, loaded and run.

Ours are ST-MEM (ECG) and MViT-v2 (echo); any other `AutoModel` may take their place that returns `last_hidden_state`
and whose config declares the size of its input, see `DECLARED`.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from torch import nn
from transformers import MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from .configuration_tgmm import LEADS, encoder_config
from .modeling_echo_mvit import EchoMvitModel
from .modeling_st_mem import StMemModel

ENCODERS: dict[str, Any] = {"st_mem": StMemModel, "echo_mvit": EchoMvitModel}
"""Encoder classes that travel with a saved model; any other model type goes through `AutoModel`."""

RECORDS = ("hidden_states", "attentions")
"""What an encoder returns beside its tokens, if it is asked to."""

DECLARED = {
    "labs": ("hidden_size", "vocab_size", "max_position_embeddings"),
    "ecg": ("hidden_size", "num_leads", "seq_length"),
    "echo": ("hidden_size", "image_size", "num_frames"),
}
"""What the config of each modality's encoder has to declare."""


def build_encoder(config: Any) -> PreTrainedModel:
    """The encoder of a sub-config with random weights: one of ours, or any `AutoModel` without an unused pooler."""
    if config.model_type in ENCODERS:
        return ENCODERS[config.model_type]._from_config(config)
    return AutoModel.from_config(config, **_without_pooler(config))


def load_encoder(modality: str, source: str | Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A pretrained encoder, its weights in memory once.

    Args:
        modality: "labs", "ecg" or "echo".
        source: directory or Hub repository: of `tgmm convert`, or of any model that meets the contract of `DECLARED`.
        dtype: of its parameters.

    Raises:
        ValueError: if its config does not declare its input, it takes other than 12 leads, or weights are missing.
    """
    config = encoder_config(source)
    check_encoder(modality, config)
    encoder, loading = ENCODERS.get(config.model_type, AutoModel).from_pretrained(
        source, config=config, dtype=dtype, output_loading_info=True, **_without_pooler(config)
    )
    if missing := sorted(loading["missing_keys"]):
        raise ValueError(
            f"{source} lacks {len(missing)} weights of {type(encoder).__name__}, among them "
            f"{', '.join(missing[:3])}: they would be random."
        )
    if modality == "labs":
        _check_words(encoder)
    encoder.config.name_or_path = _name(source)
    return encoder


def _check_words(encoder: PreTrainedModel) -> None:
    """Guidance reads the text encoder's word embeddings as vectors of its width; those of ALBERT are narrower."""
    width, wanted = encoder.get_input_embeddings().weight.shape[1], encoder.config.hidden_size
    if width != wanted:
        raise ValueError(
            f"A {encoder.config.model_type} model cannot be the labs encoder: its word embeddings are {width} wide, "
            f"its hidden states {wanted}. Take one with equal widths (BERT, RoBERTa, ModernBERT, MiniLM)."
        )


def check_encoder(modality: str, config: Any) -> None:
    """Refuse an encoder whose config does not say what input it takes.

    Raises:
        ValueError: on a missing declaration, or a number of leads that the processor does not make.
    """
    if absent := [name for name in DECLARED[modality] if not isinstance(getattr(config, name, None), int)]:
        raise ValueError(
            f"A {config.model_type} model cannot be the {modality} encoder: its config has to declare "
            f"{', '.join(DECLARED[modality])} as whole numbers, and lacks {', '.join(absent)}."
        )
    if modality == "ecg" and config.num_leads != len(LEADS):
        raise ValueError(f"The ECG encoder takes {config.num_leads} leads, the processor makes {len(LEADS)}.")


def run_encoder(
    encoder: PreTrainedModel, values: torch.Tensor, dtype: torch.dtype, **arguments: Any
) -> BaseModelOutputWithPooling:
    """Output of an ECG or echo encoder with tokens (n, L, D) and summary (n, D) in `dtype`.

    The input goes to the encoder's `main_input_name`. The summary, `pooler_output`, is the mean of the tokens where the
    encoder has none.
    """
    output = encoder(**{encoder.main_input_name: values.to(encoder.dtype)}, return_dict=True, **arguments)
    tokens, pooled = output.last_hidden_state.to(dtype), output.get("pooler_output")
    return BaseModelOutputWithPooling(
        last_hidden_state=tokens,
        pooler_output=tokens.mean(1) if pooled is None else pooled.to(dtype),
        hidden_states=output.get("hidden_states"),
        attentions=output.get("attentions"),
    )


@dataclass
class EncodedPart:
    """One modality of a batch, only the `rows` (n,) that have it: summary (n, D), tokens (n, L, D), token_mask (n,
    L), and the encoder's `RECORDS` where it returned them."""

    rows: torch.Tensor
    summary: torch.Tensor
    tokens: torch.Tensor
    token_mask: torch.Tensor
    records: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)

    @classmethod
    def empty(cls, rows: torch.Tensor, width: int) -> "EncodedPart":
        nothing = torch.zeros(0, width, device=rows.device)
        return cls(rows, nothing, nothing[:, None], torch.zeros(0, 1, dtype=torch.bool, device=rows.device))

    def scatter(self, batch_size: int) -> torch.Tensor:
        """Summaries at their places in the batch: (B, D), zeros elsewhere."""
        return self.summary.new_zeros(batch_size, self.summary.shape[-1]).index_copy(0, self.rows, self.summary)


def recorded(encoded: ModelOutput) -> dict[str, tuple[torch.Tensor, ...]]:
    """Hidden states and attentions of an encoder's output, those that it has."""
    return {name: encoded[name] for name in RECORDS if encoded.get(name) is not None}


def labs_rows(
    input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Patients with lab text, their mask (n, L), and the order that brings their text to the left end.

    Text padded on the left moves there: an encoder's positions are absolute, its summary token first.
    """
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    rows = mask.bool().any(1).nonzero()[:, 0]
    order = mask[rows].bool().argsort(dim=1, descending=True, stable=True)
    return rows, mask[rows].gather(1, order), order


def rows_and_mask(values: torch.Tensor | None, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Patients with any usable lead or view, and the mask (B, leads or views); all usable without one."""
    if mask is None:
        assert values is not None  # `batch_size_of` asks for one of them
        mask = torch.ones(values.shape[:2], device=values.device)
    mask = mask.bool()
    return mask.any(1).nonzero()[:, 0], mask


def batch_size_of(
    values: Mapping[str, torch.Tensor | None],
    masks: Mapping[str, torch.Tensor | None],
    trunks: Mapping[str, torch.Tensor | None],
) -> int:
    """Number of patients, the same in every input that is given; the three mappings are in the order of `MODALITIES`.

    Raises:
        ValueError: if no modality is given, one twice, the inputs differ, or a trunk came without its mask.
    """
    sizes = {name: len(x) for name, x in (*values.items(), *masks.items()) if x is not None}
    if all(x is None for x in (*values.values(), *trunks.values())):
        raise ValueError("No modality given: pass input_ids, ecg_values or pixel_values_videos.")
    for value, mask, trunk in zip(values, masks, trunks, strict=True):
        if trunks[trunk] is not None and (values[value] is not None or masks[mask] is None):
            raise ValueError(f"{trunk} stands in place of {value} and needs {mask}.")
    if len(set(sizes.values())) != 1:
        raise ValueError(f"The inputs are of different numbers of patients: {sizes}.")
    ecg = values["ecg_values"]
    if ecg is not None and ecg.ndim != 3:
        raise ValueError(
            f"ecg_values must be (patients, leads, samples), got {tuple(ecg.shape)}: the windows of crop='three' are "
            "averaged by the pipeline."
        )
    return next(iter(sizes.values()))


def last_parts(encoder: PreTrainedModel, num_layers: int) -> list[nn.Module]:
    """The last `num_layers` layers of an encoder and the modules that come after them (its final norm); none for 0.

    Raises:
        ValueError: if the encoder has fewer layers, or does not hold them in a `torch.nn.ModuleList`.
    """
    if num_layers == 0:
        return []
    for module in encoder.modules():
        children = list(module.children())
        for place, child in enumerate(children):
            if isinstance(child, nn.ModuleList):
                if num_layers > len(child):
                    raise ValueError(
                        f"{type(encoder).__name__} has {len(child)} layers, cannot leave the last {num_layers} "
                        "trainable: use None to train the whole encoder."
                    )
                return [*child[len(child) - num_layers :], *children[place + 1 :]]
    raise ValueError(
        f"{type(encoder).__name__} holds its layers in no torch.nn.ModuleList, so that its last ones cannot be told: "
        "train all of it (trainable_layers: null) or none (0)."
    )


def check_divisible(modality: str, encoder: PreTrainedModel, layers_above: int) -> None:
    """Refuse an encoder that cannot be run in two parts, below and above the freeze boundary.

    Raises:
        ValueError: if it is neither BERT, ST-MEM nor MViT-v2, nor a text encoder with no layer above the boundary.
    """
    kind, own = encoder.config.model_type, {"labs": "bert", "ecg": "st_mem", "echo": "echo_mvit"}[modality]
    if kind == own or (modality == "labs" and layers_above == 0):
        return
    raise ValueError(
        f"The {modality} encoder ({kind}) cannot be cut below its last {layers_above} layers: only {own} can"
        f"{', or any text encoder with trainable_layers: 0' if modality == 'labs' else ''}. Train without the cache."
    )


def text_trunk(
    encoder: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, layers_above: int
) -> torch.Tensor:
    """What a text encoder's last `layers_above` layers read: (n, L, D)."""
    output = encoder(
        input_ids=input_ids, attention_mask=attention_mask, return_dict=True, output_hidden_states=layers_above > 0
    )
    return output.hidden_states[-1 - layers_above] if layers_above else output.last_hidden_state


def text_head(
    encoder: PreTrainedModel, hidden_states: torch.Tensor, attention_mask: torch.Tensor, layers_above: int
) -> torch.Tensor:
    """The last `layers_above` layers of a BERT on what `text_trunk` gave: its last hidden state (n, L, D)."""
    mask = create_bidirectional_mask(encoder.config, hidden_states, attention_mask)
    for layer in last_parts(encoder, layers_above):
        hidden_states = layer(hidden_states, mask)
    return hidden_states


def describe_sources(sources: Mapping[str, str | Path]) -> dict[str, dict[str, str | None]]:
    """Modality -> name and licence of where its encoder is from; no local paths, which may name people."""
    return {name: {"source": _name(source), **read_licence(source)} for name, source in sources.items()}


def _name(source: str | Path) -> str:
    return Path(source).resolve().name if Path(source).is_dir() else str(source)


def read_licence(source: str | Path) -> dict[str, str | None]:
    """`license`, `license_name` and `license_link` as the model card of a directory declares them, None where it does
    not."""
    card = Path(source) / "README.md"
    metadata = ModelCard.load(card).data.to_dict() if card.is_file() else {}
    return {name: metadata.get(name) for name in ("license", "license_name", "license_link")}


def _without_pooler(config: PreTrainedConfig) -> dict[str, bool]:
    """BERT and its kin have a pooling layer that TGMM does not use; one that never trains would stop DDP."""
    model_class = MODEL_MAPPING.get(type(config), None)
    takes_it = model_class is not None and "add_pooling_layer" in inspect.signature(model_class).parameters
    return {"add_pooling_layer": False} if takes_it else {}
