"""Which places of an X-ray, and which moments and leads of an ECG, made MoRE's score.

    X-ray   maps of the patches: rows x columns (14 x 14 as published), in pixels of the original picture
    ECG     maps over time: one value a token (50 ms). The encoder mixes the leads in its first convolution, so tokens
            have no lead. Integrated gradients over the samples give the map of each lead.

Methods: `attn_lrp` and `gradient_attention` (see `token_relevance`), `token_integrated_gradients` over the embedded
patches, `integrated_gradients` over the samples of an ECG.
"""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch

from tgmm_hf.explanation.activations import input_gradients
from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.more_score import TowerScore
from tgmm_hf.explanation.token_relevance import attention_weights, relevance_rules, rolled_out
from tgmm_hf.inputs.optional_packages import require_package
from tgmm_hf.utils.names import LEADS

try:
    from captum.attr import IntegratedGradients
except ImportError:
    IntegratedGradients = None

STEPS = 32
"""Steps of an integral."""
INTERNAL_BATCH = 8
"""Steps of an integral that run together, which bounds the memory."""
ATTN_LRP, GRADIENT_ATTENTION = "attn_lrp", "gradient_attention"
TOKEN_PATH, SAMPLE_PATH = "token_integrated_gradients", "integrated_gradients"
METHODS = {
    "xray": (ATTN_LRP, GRADIENT_ATTENTION, TOKEN_PATH),
    "ecg_time": (ATTN_LRP, GRADIENT_ATTENTION, TOKEN_PATH),
    "ecg": (SAMPLE_PATH,),
}
"""Modality of an attribution -> its methods. "ecg_time" has one value a moment for all leads, "ecg" one a lead too."""
BASELINES = {"xray": "an even grey picture at the mean of the X-ray", "ecg": "a flat line at the median of each lead"}


def blank_input(kind: str, values: torch.Tensor) -> torch.Tensor:
    """Make the input without content that integrals start from, and that hidden parts get.

    Args:
        kind: "xray" or "ecg".
        values: (1, channels, height, width) or (1, leads, samples), as the processor makes them.
    """
    level = values.mean((1, 2, 3), keepdim=True) if kind == "xray" else values.median(-1, keepdim=True).values
    return level.expand_as(values)


def token_map(score: TowerScore, method: str, steps: int = STEPS) -> tuple[np.ndarray, dict[str, Any]]:
    """Attribute the score to the tokens.

    Args:
        score: what is explained.
        method: one of `METHODS["xray"]`.
        steps: steps of the integral of `TOKEN_PATH`.

    Returns:
        Values (tokens,) without the class token, and further fields of `Attribution`.

    Raises:
        ValueError: if the method is unknown.
        ImportError: without the package captum (extra `explain`), for `TOKEN_PATH`.
    """
    if method not in METHODS["xray"]:
        raise ValueError(f"Unknown method {method!r} for tokens; known are {', '.join(METHODS['xray'])}.")
    with input_gradients(score.model):
        if method == TOKEN_PATH:
            values, more = _token_path(score, steps)
        else:
            values, more = _attn_lrp(score) if method == ATTN_LRP else _gradient_attention(score)
    return values[0].double().cpu().numpy(), more


def _attn_lrp(score: TowerScore) -> tuple[torch.Tensor, dict[str, Any]]:
    """Compute gradient x embedded patch under the rules of AttnLRP: (1, tokens), signed.

    The position embeddings are left out of the patch, because they are no content of the input.
    """
    with torch.no_grad():
        tokens = score.embed(score.values)
    content = tokens - score.encoder.embeddings.position_embeddings.to(tokens)
    tokens.requires_grad_()
    with relevance_rules(score.encoder):
        (gradient,) = torch.autograd.grad(score.of_tokens(tokens).sum(), tokens)
    return (gradient * content).sum(-1)[:, 1:], {}


def _gradient_attention(score: TowerScore) -> tuple[torch.Tensor, dict[str, Any]]:
    """Roll out relu(gradient x attention): (1, tokens), not negative."""
    with torch.no_grad():
        tokens = score.embed(score.values)
    tokens.requires_grad_()  # so that the weights of the first block have a gradient
    with attention_weights(score.encoder) as attentions:
        total = score.of_tokens(tokens).sum()
    gradients = torch.autograd.grad(total, attentions)
    return rolled_out([attention.detach() for attention in attentions], gradients)[:, 1:], {}


def _token_path(score: TowerScore, steps: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """Integrate the gradients over embedded tokens, from those of a blank input: (1, tokens), signed."""
    with torch.no_grad():
        start, end = score.embed(blank_input(score.kind, score.values)), score.embed(score.values)
    shares, more = _integrated(score, score.of_tokens, start, end, steps)
    return shares.sum(-1)[:, 1:], more


def _integrated(
    score: TowerScore, of: Any, start: torch.Tensor, end: torch.Tensor, steps: int
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Compute integrated gradients with captum.

    Args:
        score: what is explained.
        of: function from inputs (B, ...) to scores (B,).
        start: (1, ...) start of the path.
        end: (1, ...).
        steps: steps of the integral.

    Returns:
        Shares (1, ...), and further fields of `Attribution` with the error of their sum.
    """
    require_package(IntegratedGradients, "captum", "explaining by integrated gradients")
    method = IntegratedGradients(of, multiply_by_inputs=True)
    shares = method.attribute(end, start, n_steps=steps, internal_batch_size=INTERNAL_BATCH).detach()
    with torch.no_grad():
        baseline_output = float(of(start)[0])
    error = abs(float(shares.sum()) - (score.output - baseline_output))
    more = {"unit": score.question.unit, "baseline": BASELINES[score.kind], "baseline_output": baseline_output}
    return shares, more | {"completeness_error": error}


def explain_xray(score: TowerScore, method: str, shape: tuple[int, int], steps: int = STEPS) -> Attribution:
    """Attribute the score of an X-ray to its patches: (rows, columns).

    Args:
        score: of an X-ray.
        method: one of `METHODS["xray"]`.
        shape: height and width of the original picture in pixels.
        steps: as in `token_map`.
    """
    values, more = token_map(score, method, steps)
    rows, columns = (size // score.encoder.embeddings.patch_size for size in score.values.shape[-2:])
    axes = Axis("row", None, shape[0] / rows, 0.0, "px"), Axis("column", None, shape[1] / columns, 0.0, "px")
    return score.attribution(method, values.reshape(rows, columns), axes, **more)


def explain_ecg_time(score: TowerScore, method: str, rate: float, steps: int = STEPS) -> Attribution:
    """Attribute the score of an ECG to the moments of its window, for all leads together: (tokens,).

    Args:
        score: of an ECG.
        method: one of `METHODS["ecg_time"]`.
        rate: sampling rate of the window, in Hz.
        steps: as in `token_map`.
    """
    values, more = token_map(score, method, steps)
    kernel = score.encoder.config.stem_kernel
    step = kernel / rate
    start = (kernel - 1) / 2 * step  # a token reads `kernel` frames, its place is the one in the middle
    axes = (Axis("token", None, step, start, "s"),)
    note = (
        f"one value per {1000 * step:g} ms for all leads together; each reads {1000 * kernel * step:g} ms, so the map "
        "cannot be read finer than that"
    )
    return score.attribution(method, values, axes, modality="ecg_time", notes=(note,), **more)


def explain_ecg_leads(
    score: TowerScore, rate: float, leads: list[str] | None = None, steps: int = STEPS
) -> Attribution:
    """Attribute the score of an ECG to its samples by integrated gradients: (12 leads, samples).

    Args:
        score: of an ECG.
        rate: sampling rate of the window, in Hz.
        leads: order of the leads in the model's input; None for the order of the package.
        steps: steps of the integral.

    Raises:
        ImportError: without the package captum (extra `explain`).
    """
    with input_gradients(score.model):
        shares, more = _integrated(score, score.compute, blank_input("ecg", score.values), score.values, steps)
    order = [(leads or list(LEADS)).index(lead) for lead in LEADS]
    axes = Axis("lead", LEADS), Axis("sample", None, 1 / rate, 0.0, "s")
    return score.attribution(SAMPLE_PATH, shares[0].double().cpu().numpy()[order], axes, **more)


def on_original_picture(attribution: Attribution, shape: tuple[int, int]) -> np.ndarray:
    """Spread the map of an X-ray over the pixels of the original picture: (rows, columns) -> (height, width).

    The model's picture is the whole original, resized, so the map covers all of it. Between the centres of two patches
    the values are interpolated linearly.
    """
    values = attribution.values.astype(np.float32)
    return cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def on_leads(attribution: Attribution) -> Attribution:
    """Repeat a map over time for all leads: (tokens,) -> (12 leads, tokens), for drawings."""
    values = np.repeat(attribution.values[None], len(LEADS), axis=0)
    return replace(attribution, values=values, axes=(Axis("lead", LEADS), *attribution.axes))
