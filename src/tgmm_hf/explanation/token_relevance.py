"""Relevance of the tokens of a vision transformer: AttnLRP, and gradient x attention rolled out over the blocks.

AttnLRP (Achtibat et al. 2024, arXiv 2402.05602) shares out the score layer by layer, down to the embedded patches. Its
rules can be written as gradient x input of a model whose backward pass is changed. `relevance_rules` changes it. The
result is signed. Biases, the class token and the positions take a share of the score too, so there is no sum.

Gradient x attention (Chefer et al. 2021, arXiv 2103.15679) averages relu(gradient x attention) over the heads of each
block, adds the identity for the residual path, and multiplies the blocks. The published MoRE takes the relevance of the
attention in place of the attention itself. The result is not negative.

Notation in shape comments: B samples, H heads, T tokens (class token first), d width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tgmm_hf.explanation.activations import is_activation

QUERY_KEY_SHARE, VALUE_SHARE = 0.25, 0.5
"""Factors of the gradients at queries and keys, and at values.

A product of two matrices gives half of its relevance to each factor (Achtibat et al. 2024, section 3.3.1). Queries and
keys share the half that the attention weights get.
"""
SMALLEST = 1e-6
"""Activations nearer to zero have the slope 0.5 in place of output / input, because both are near zero there."""


@contextmanager
def relevance_rules(encoder: nn.Module) -> Iterator[None]:
    """Change the backward pass of an encoder so that gradient x input is AttnLRP, during the `with` block.

    The forward pass gives the same values. Softmax, linear layers, convolutions, sums and batch norms in evaluation
    mode need no change.

    Args:
        encoder: a model with transformers' `ViTAttention` and `nn.LayerNorm`, in evaluation mode.
    """
    handles = []
    for module in encoder.modules():
        if isinstance(module, nn.LayerNorm):
            handles.append(module.register_forward_hook(_fixed_scale))
        elif is_activation(module):
            handles.append(module.register_forward_hook(_fixed_slope))
        elif hasattr(module, "q_proj") and hasattr(module, "k_proj") and hasattr(module, "v_proj"):
            for name, share in (("q_proj", QUERY_KEY_SHARE), ("k_proj", QUERY_KEY_SHARE), ("v_proj", VALUE_SHARE)):
                handles.append(getattr(module, name).register_forward_hook(_scaled_gradient(share)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _fixed_scale(norm: nn.Module, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> torch.Tensor:
    """Compute a layer norm whose standard deviation is a constant for the gradient."""
    layer: Any = norm
    centred = inputs[0] - inputs[0].mean(-1, keepdim=True)
    scale = (centred.pow(2).mean(-1, keepdim=True) + layer.eps).rsqrt().detach()
    output = centred * scale
    if layer.weight is not None:
        output = output * layer.weight
    return output if layer.bias is None else output + layer.bias


def _fixed_slope(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    """Compute an activation function as input x constant, so that all relevance passes."""
    values = inputs[0]
    is_small = values.abs() < SMALLEST
    slope = torch.where(is_small, 0.5, output / values.masked_fill(is_small, 1.0)).detach()
    return values * slope + (output - values * slope).detach()


def _scaled_gradient(share: float) -> Callable[..., torch.Tensor]:
    """Make a hook that multiplies the gradient by `share` and leaves the values as they are."""

    def scale(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        return output * share + (output * (1 - share)).detach()

    return scale


@contextmanager
def attention_weights(encoder: Any) -> Iterator[list[torch.Tensor]]:
    """Keep the attention weights (B, H, T, T) of all blocks of an encoder, during the `with` block.

    Only the plain implementation of attention computes them, so it is chosen for the block.

    Args:
        encoder: `MoreXrayModel` or `MoreEcgModel`.
    """
    kept: list[torch.Tensor] = []
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")
    handles = [
        block.attention.register_forward_hook(lambda _, __, output: kept.append(output[1])) for block in encoder.layers
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
        encoder.set_attn_implementation(before)


def rolled_out(attentions: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Roll out gradient x attention over the blocks.

    Args:
        attentions: attention weights (B, H, T, T) of each block, the first block first.
        gradients: gradient of the score with respect to them.

    Returns:
        (B, T), not negative: the row of the class token of the product of (A + I), without the identity of the class
        token itself. A is the mean over the heads of relu(gradient x attention).
    """
    tokens = attentions[0].shape[-1]
    identity = torch.eye(tokens, dtype=attentions[0].dtype, device=attentions[0].device)
    product = identity.expand(len(attentions[0]), -1, -1)
    for attention, gradient in zip(attentions, gradients, strict=True):
        product = product + (attention * gradient).clamp(min=0).mean(1) @ product
    return product[:, 0] - identity[0]
