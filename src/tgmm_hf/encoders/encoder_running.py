"""Run encoders on the patients that have a modality, and cut them at the freeze boundary."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

RECORDS = ("hidden_states", "attentions")
"""What an encoder returns beside its tokens, if it is asked to."""


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
