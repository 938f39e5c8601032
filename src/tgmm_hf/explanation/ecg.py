"""Which leads and moments of the ECG contributed.

Grad-CAM++ reads ST-MEM's tokens, each one lead for 300 ms, so its map cannot be read finer than that. Of the ResNet it
reads the last feature map, which has times and no leads. Integrated gradients (Sundararajan et al. 2017) give a value
per sample.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tgmm_hf.encoders.configuration_ecg_resnet import EcgResNetConfig
from tgmm_hf.explanation.activations import captured, grad_cam_plus_plus, gradient_x_activation, guided, input_gradients
from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.scoring import PatientScore
from tgmm_hf.inputs.optional_packages import require_package
from tgmm_hf.utils.names import LEADS

try:
    from captum.attr import IntegratedGradients
except ImportError:
    IntegratedGradients = None

STEPS = 32
"""Steps of the integral."""
INTERNAL_BATCH = 8
"""Steps of the integral that run together, which bounds the memory."""
FLAT = "a flat line at the mean of the window; labs and echo stay as they are"


def explain_ecg_tokens(patient: PatientScore, sampling_rate: float, method: str = "grad_cam_plus_plus") -> Attribution:
    """Attribute the score to ST-MEM's tokens: (12 leads, tokens); or to times of the ResNet: (12 leads, samples).

    Args:
        patient: a patient with an ECG.
        sampling_rate: of the model's window, in Hz.
        method: "grad_cam_plus_plus" (not negative) or "gradient_x_activation" (signed).

    Raises:
        ValueError: if the ECG encoder is another one, or the method is unknown.
    """
    maps = {"grad_cam_plus_plus": grad_cam_plus_plus, "gradient_x_activation": gradient_x_activation}
    if method not in maps:
        raise ValueError(f"Unknown method {method!r} for ECG tokens; known are {sorted(maps)}.")
    if patient.model.ecg_encoder.config.model_type == EcgResNetConfig.model_type:
        return _explain_resnet(patient, sampling_rate, method, maps[method])
    encoder = _st_mem(patient)
    inputs = {name: patient.inputs[name] for name in ("ecg_values", "ecg_mask")}
    with input_gradients(patient.model), captured(encoder.layers[-1].layernorm_before) as kept:
        activations_and_gradients = kept.with_gradients(patient.with_inputs("ecg", **inputs)[0])
    # (1, leads * (patches + 2), width) -> patches of all leads, without the separators
    parts = [values.unflatten(1, (len(LEADS), -1))[:, :, 1:-1].flatten(1, 2) for values in activations_and_gradients]
    values = maps[method](*parts)[0].unflatten(0, (len(LEADS), -1)).double().cpu().numpy()
    seconds = encoder.config.patch_size / sampling_rate
    axes = Axis("lead", LEADS), Axis("token", None, seconds, 0.0, "s")
    note = f"one value per lead and {1000 * seconds:g} ms; the map cannot be read finer than that"
    return _attribution(patient, method, values, axes, notes=(note,))


def _explain_resnet(
    patient: PatientScore, sampling_rate: float, method: str, make_map: Callable[..., torch.Tensor]
) -> Attribution:
    """Attribute the score to the times of the ResNet's last feature map, drawn out to samples: (12 leads, samples).

    A convolution mixes the leads, so that all leads have the same values. Arguments as in `explain_ecg_tokens`;
    `make_map` makes a map (1, frames) of activations and gradients (1, frames, channels).
    """
    encoder = patient.model.ecg_encoder
    inputs = {name: patient.inputs[name] for name in ("ecg_values", "ecg_mask")}
    last_stage = encoder.get_submodule(f"layer{len(encoder.config.stage_depths)}")
    with input_gradients(patient.model), captured(last_stage) as kept:
        parts = kept.with_gradients(patient.with_inputs("ecg", **inputs)[0])
    frames = make_map(*(part.transpose(1, 2) for part in parts))
    samples = inputs["ecg_values"].shape[-1]
    drawn_out = torch.nn.functional.interpolate(frames[:, None].double(), samples, mode="linear")[0, 0]
    values = np.tile(drawn_out.cpu().numpy(), (len(LEADS), 1))
    axes = Axis("lead", LEADS), Axis("sample", None, 1 / sampling_rate, 0.0, "s")
    milliseconds = 1000 * samples / frames.shape[1] / sampling_rate
    note = f"the map has times ({milliseconds:.0f} ms apart) and no leads, so that every lead shows the same values"
    return _attribution(patient, method, values, axes, notes=(note,))


def explain_ecg_samples(patient: PatientScore, sampling_rate: float, steps: int = STEPS) -> Attribution:
    """Attribute the score to the samples of the window by integrated gradients: (12 leads, samples).

    Args:
        patient: a patient with an ECG.
        sampling_rate: of the model's window, in Hz.
        steps: steps of the integral.

    Raises:
        ImportError: without the package captum (extra `explain`).
    """
    values, mask = patient.inputs["ecg_values"], patient.inputs["ecg_mask"]
    flat = torch.zeros_like(values)
    shares = integrated_gradients(patient, flat, steps)
    with torch.no_grad():
        baseline_output = float(patient.with_inputs("ecg", ecg_values=flat, ecg_mask=mask)[0])
    attributed = shares[0].double().cpu().numpy()
    axes = Axis("lead", LEADS), Axis("sample", None, 1 / sampling_rate, 0.0, "s")
    ends = {"baseline": FLAT, "baseline_output": baseline_output, "summed": True}
    return _attribution(patient, "integrated_gradients", attributed, axes, **ends)


def explain_ecg_token_path(patient: PatientScore, sampling_rate: float, steps: int = STEPS) -> Attribution:
    """Attribute the score to ST-MEM's tokens by integrated gradients over the embedded patches: (12 leads, tokens).

    ST-MEM standardises every patch. So a patch that is scaled down looks the same until it is nearly flat, and a path
    of scaled samples crosses all of the change in its first step. The embedded patches have a straight path.

    Args:
        patient: a patient with an ECG.
        sampling_rate: of the model's window, in Hz.
        steps: steps of the integral (midpoints).

    Raises:
        ValueError: if the ECG encoder is no ST-MEM.
    """
    encoder = _st_mem(patient)
    values, mask = patient.inputs["ecg_values"], patient.inputs["ecg_mask"]
    layer, flat = encoder.embeddings.projection_norm, torch.zeros_like(values)
    with torch.no_grad(), captured(layer) as start:
        baseline_output = float(patient.with_inputs("ecg", ecg_values=flat, ecg_mask=mask)[0])
    with torch.no_grad(), captured(layer) as end:
        patient.with_inputs("ecg", ecg_values=values, ecg_mask=mask)
    assert start.activations is not None and end.activations is not None  # the encoder has run twice
    way = end.activations.detach() - start.activations.detach()
    total = torch.zeros_like(way)
    for places in ((torch.arange(steps) + 0.5) / steps).split(INTERNAL_BATCH):
        path = start.activations.detach() + places.to(way).view(-1, 1, 1, 1) * way
        rows = {"ecg_values": values.expand(len(places), -1, -1), "ecg_mask": mask.expand(len(places), -1)}
        with input_gradients(patient.model), captured(layer, path) as kept:
            _, gradients = kept.with_gradients(patient.with_inputs("ecg", **rows).sum())
        total += gradients.sum(0, keepdim=True)
    attributed = (total / steps * way).sum(-1)[0].double().cpu().numpy()
    seconds = encoder.config.patch_size / sampling_rate
    axes = Axis("lead", LEADS), Axis("token", None, seconds, 0.0, "s")
    ends = {"baseline": FLAT, "baseline_output": baseline_output, "summed": True}
    return _attribution(patient, "token_integrated_gradients", attributed, axes, **ends)


def explain_ecg_guided(patient: PatientScore, sampling_rate: float) -> Attribution:
    """Attribute the score by guided Grad-CAM++: guided gradients of the samples x the map of the tokens.

    Selvaraju et al. 2017, section 3.2. Arguments as in `explain_ecg_tokens`.

    Raises:
        ValueError: if the ECG encoder is no ST-MEM. The ResNet calls its activations as functions, which cannot be
            guided.
    """
    _st_mem(patient)
    tokens = explain_ecg_tokens(patient, sampling_rate).values
    values = patient.inputs["ecg_values"].detach().clone().requires_grad_()
    with input_gradients(patient.model), guided(patient.model.ecg_encoder):
        score = patient.with_inputs("ecg", ecg_values=values, ecg_mask=patient.inputs["ecg_mask"])[0]
        (gradients,) = torch.autograd.grad(score, values)
    fine = gradients[0].double().cpu().numpy()
    product = fine * np.repeat(np.nan_to_num(tokens), fine.shape[1] // tokens.shape[1], axis=1)
    axes = Axis("lead", LEADS), Axis("sample", None, 1 / sampling_rate, 0.0, "s")
    return _attribution(patient, "guided_grad_cam", product, axes)


def integrated_gradients(patient: PatientScore, flat: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """Compute integrated gradients of the score with captum, from a flat line to the patient's ECG.

    Args:
        patient: a patient with an ECG.
        flat: (1, 12, samples), start of the path.
        steps: steps of the integral.

    Returns:
        (1, 12, samples).
    """
    require_package(IntegratedGradients, "captum", "explaining ECG samples by integrated gradients")
    mask = patient.inputs["ecg_mask"]

    def score(values: torch.Tensor) -> torch.Tensor:
        return patient.with_inputs("ecg", ecg_values=values, ecg_mask=mask.expand(len(values), -1))

    with input_gradients(patient.model):
        method = IntegratedGradients(score, multiply_by_inputs=True)
        options = {"n_steps": steps, "internal_batch_size": INTERNAL_BATCH}
        return method.attribute(patient.inputs["ecg_values"].detach(), flat, **options).detach()


def ecg_methods(model: Any) -> tuple[str, ...]:
    """List the methods that can explain the ECG encoder of a model, the default first."""
    model_type = model.config.ecg_config.model_type
    maps = ("grad_cam_plus_plus", "guided_grad_cam", "gradient_x_activation")
    if model_type == "st_mem":
        return ("token_integrated_gradients", "integrated_gradients", *maps, "occlusion")
    of_samples = ("integrated_gradients", "occlusion")
    return (*of_samples, maps[0], maps[2]) if model_type == EcgResNetConfig.model_type else of_samples


def _st_mem(patient: PatientScore) -> Any:
    """Return the ECG encoder. Raise a ValueError if it is no ST-MEM, because its tokens have no leads and times."""
    encoder = patient.model.ecg_encoder
    if encoder.config.model_type != "st_mem":
        raise ValueError(
            f"Maps of tokens need ST-MEM, the ECG encoder is {encoder.config.model_type}. Ask for one of "
            f"{', '.join(ecg_methods(patient.model))}."
        )
    return encoder


def _attribution(
    patient: PatientScore, method: str, values: np.ndarray, axes: tuple[Axis, ...], **more: Any
) -> Attribution:
    """Make the attribution of an ECG. Leads that cannot be used become NaN."""
    usable = patient.inputs["ecg_mask"][0].cpu().numpy().astype(bool)
    values[~usable] = np.nan
    return patient.attribution("ecg", method, values, axes, **more)
