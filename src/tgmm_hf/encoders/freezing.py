"""Cut an encoder into frozen and trained layers, and run the two parts one after the other."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask

OWN_TYPES = {"labs": "bert", "ecg": "st_mem", "echo": "echo_mvit"}
"""Model type that can be cut at any layer, for each modality. An ECG or echo encoder with the methods
`run_lower_layers` and `run_upper_layers` can be cut, too."""


def last_parts(encoder: PreTrainedModel, num_layers: int) -> list[nn.Module]:
    """List the last `num_layers` layers of an encoder, and the modules after its layers (the final norm).

    The list is empty for 0. An encoder that has several lists of modules names the one of its layers by its attribute
    `layers_path`, such as "encoder.layers".

    Raises:
        ValueError: if the encoder has fewer layers, or does not hold them in a `torch.nn.ModuleList`.
    """
    if num_layers == 0:
        return []
    path = getattr(encoder, "layers_path", None)
    holders = encoder.modules() if path is None else [encoder.get_submodule(path.rpartition(".")[0])]
    for module in holders:
        parts = list(module.children())
        for place, layers in enumerate(parts):
            if isinstance(layers, nn.ModuleList):
                if num_layers > len(layers):
                    raise ValueError(
                        f"{type(encoder).__name__} has {len(layers)} layers, cannot leave the last {num_layers} "
                        "trainable. Use None to train the whole encoder."
                    )
                return [*layers[len(layers) - num_layers :], *parts[place + 1 :]]
    raise ValueError(
        f"{type(encoder).__name__} holds its layers in no torch.nn.ModuleList, so its last layers are not known. "
        "Train all of it (trainable_layers: null) or none of it (0)."
    )


def check_divisible(modality: str, encoder: PreTrainedModel, layers_above: int) -> None:
    """Refuse an encoder that cannot be run in two parts, below and above the freeze boundary.

    A text encoder must be of the type in `OWN_TYPES`. Any text encoder will do if no layer lies above the boundary. An
    ECG or echo encoder must have `run_lower_layers`.

    Args:
        modality: "labs", "ecg" or "echo".
        encoder: the encoder of the modality.
        layers_above: number of layers above the boundary.

    Raises:
        ValueError: if the encoder cannot be cut.
    """
    model_type = encoder.config.model_type
    if modality == "labs":
        can_be_cut = layers_above == 0 or model_type == OWN_TYPES["labs"]
        needed = f"A text encoder must be {OWN_TYPES['labs']}, or trainable_layers must be 0"
    else:
        can_be_cut = hasattr(encoder, "run_lower_layers")
        needed = "Its class has no run_lower_layers"
    if not can_be_cut:
        raise ValueError(
            f"The {modality} encoder ({model_type}) cannot be cut below its last {layers_above} layers. {needed}. "
            "Train without the cache."
        )


def text_below_boundary(
    encoder: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, layers_above: int
) -> torch.Tensor:
    """Compute the input (n, L, D) of the last `layers_above` layers of a text encoder.

    Args:
        encoder: the text encoder.
        input_ids: (n, L) token ids.
        attention_mask: (n, L), 1 for a token.
        layers_above: number of layers that are left out. 0 gives the encoder's output.
    """
    output = encoder(
        input_ids=input_ids, attention_mask=attention_mask, return_dict=True, output_hidden_states=layers_above > 0
    )
    return output.hidden_states[-1 - layers_above] if layers_above else output.last_hidden_state


def text_above_boundary(
    encoder: PreTrainedModel, hidden_states: torch.Tensor, attention_mask: torch.Tensor, layers_above: int
) -> torch.Tensor:
    """Run the last `layers_above` layers of a BERT encoder.

    Args:
        encoder: the BERT encoder.
        hidden_states: (n, L, D), the result of `text_below_boundary`.
        attention_mask: (n, L), 1 for a token.
        layers_above: number of layers to run.

    Returns:
        (n, L, D), the encoder's output.
    """
    mask = create_bidirectional_mask(encoder.config, hidden_states, attention_mask)
    for layer in last_parts(encoder, layers_above):
        hidden_states = layer(hidden_states, mask)
    return hidden_states
