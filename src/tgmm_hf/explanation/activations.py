"""Activations of a layer with their gradients, and the class-activation maps that are made of both."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Captured:
    """Output of a module, kept while a model runs. It is None before the run."""

    activations: torch.Tensor | None = None

    def with_gradients(self, score: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the activations and the gradient of a scalar `score` with respect to them, of the same shape.

        Raises:
            RuntimeError: if the module was not called.
        """
        if self.activations is None:
            raise RuntimeError("the layer whose activations are explained was not run")
        (gradients,) = torch.autograd.grad(score, self.activations)
        return self.activations.detach(), gradients


@contextmanager
def captured(module: nn.Module, replacement: torch.Tensor | None = None) -> Iterator[Captured]:
    """Keep the output of a module's first call in the `with` block, as a leaf of the graph that has a gradient.

    What lies below the module gets no gradient, which saves memory. Later calls pass unchanged, because the word
    embeddings are read for the task's text too.

    Args:
        module: a layer whose output is a tensor.
        replacement: values that stand in place of the output.
    """
    kept = Captured()

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor | None:
        if kept.activations is not None:
            return None
        kept.activations = (output if replacement is None else replacement).detach().requires_grad_()
        return kept.activations

    handle = module.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def input_gradients(model: nn.Module) -> Iterator[None]:
    """Let a model give gradients of its inputs only, during the `with` block, and give them fast.

    The weights need no gradient. `EchoMvitPool` has a gradient for training that is ten times as fast on a CPU. It has
    no other difference between training and evaluation, so its flag is set for the block.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    pools = [module for module in model.modules() if type(module).__name__ == "EchoMvitPool" and not module.training]
    for parameter in weights:
        parameter.requires_grad_(False)
    for module in pools:
        module.training = True
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in weights:
            parameter.requires_grad_()
        for module in pools:
            module.training = False


@contextmanager
def guided(model: nn.Module) -> Iterator[None]:
    """Let only positive gradients pass the activation functions during the `with` block.

    This is guided backpropagation (Springenberg et al. 2015). Its authors have ReLU. Ours: GELU and others are treated
    alike, because their gradient is near zero where ReLU's is zero.
    """
    handles = []

    def clamp(_: nn.Module, gradients: tuple[torch.Tensor, ...], __: object) -> tuple[torch.Tensor, ...]:
        return tuple(gradient.clamp(min=0) for gradient in gradients)

    for module in model.modules():
        if is_activation(module):
            handles.append(module.register_full_backward_hook(clamp))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_activation(module: nn.Module) -> bool:
    """Tell whether a module is an activation function, of torch or of transformers, by its name and missing weights."""
    name = type(module).__name__.lower()
    return any(word in name for word in ("relu", "gelu", "silu")) and not list(module.parameters())


def grad_cam_plus_plus(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    r"""Compute Grad-CAM++ maps (Chattopadhay et al. 2018, equations 10, 11 and 19).

    With \(Y = \exp(S)\), as there, the weights are \(\alpha = g^2 / (2 g^2 + \sum A \, g^3)\) and \(w = \sum \alpha
    \, \mathrm{relu}(g)\), where g is the gradient of the score S. The factor exp(S) is left out, because it scales the
    whole map.

    Args:
        activations: (n, positions, channels).
        gradients: same shape.

    Returns:
        (n, positions), not negative.
    """
    squared = gradients**2
    denominator = 2 * squared + activations.sum(1, keepdim=True) * gradients**3
    alphas = squared / torch.where(denominator.abs() > 1e-12, denominator, torch.ones_like(denominator))
    weights = (alphas * gradients.clamp(min=0)).sum(1, keepdim=True)
    return (weights * activations).sum(-1).clamp(min=0)


def gradient_x_activation(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Compute signed maps: gradient x activation, summed over channels (HiResCAM, Draelos and Carin 2020).

    Args:
        activations: (n, positions, channels).
        gradients: same shape.

    Returns:
        (n, positions).
    """
    return (activations * gradients).sum(-1)
