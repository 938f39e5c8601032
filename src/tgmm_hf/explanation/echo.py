"""Which views, frames and regions of the echo contributed, and where they lie on the original frames."""

from typing import Any

import cv2
import numpy as np
import torch

from tgmm_hf.encoders.echo_mvit_positions import Grid
from tgmm_hf.encoders.modeling_echo_mvit import block_shapes, pooled_grid
from tgmm_hf.explanation.activations import captured, grad_cam_plus_plus, gradient_x_activation, input_gradients
from tgmm_hf.explanation.attribution import Attribution, Axis
from tgmm_hf.explanation.scoring import PatientScore
from tgmm_hf.inputs.image_processing_echo import CropBox
from tgmm_hf.utils.names import VIEWS

FINE_ROWS = 7
"""A map is read from the last block whose grid has at least this number of rows, as in the paper's size."""


def map_block(config: Any) -> tuple[int, Grid]:
    """Choose the block of an MViT whose output the class-activation map reads.

    The last block is left out, because only its class token is read.

    Returns:
        Index of the block, and the grid (frames, rows, columns) of its output.
    """
    grids = [pooled_grid(shape.grid, shape.query_stride) for shape in block_shapes(config)]
    fine = [index for index, grid in enumerate(grids[:-1]) if grid[1] >= FINE_ROWS]
    index = fine[-1] if fine else 0
    return index, grids[index]


def region_grid(config: Any) -> tuple[int, int]:
    """Choose the regions of a frame that are hidden together: rows and columns.

    They are those of the class-activation map for an MViT. Another encoder gets `FINE_ROWS` rows and columns, or the
    number nearest to it that divides its pictures.
    """
    if config.model_type == "echo_mvit":
        return map_block(config)[1][1:]
    divisors = (number for number in range(1, config.image_size + 1) if config.image_size % number == 0)
    number = min(divisors, key=lambda number: abs(number - FINE_ROWS))
    return number, number


def echo_methods(model: Any) -> tuple[str, ...]:
    """List the methods that can explain the echo encoder of a model, the default first."""
    maps = ("gradient_x_activation", "grad_cam_plus_plus")
    return ("occlusion", *maps) if model.config.echo_config.model_type == "echo_mvit" else ("occlusion",)


def explain_echo_regions(patient: PatientScore, method: str = "grad_cam_plus_plus") -> Attribution:
    """Attribute the score to regions of the clips: (11 views, frames, rows, columns) of an MViT block's grid.

    Args:
        patient: a patient with an echo.
        method: "grad_cam_plus_plus" (not negative) or "gradient_x_activation" (signed).

    Raises:
        ValueError: if the echo encoder is no MViT, or the method is unknown.
    """
    maps = {"grad_cam_plus_plus": grad_cam_plus_plus, "gradient_x_activation": gradient_x_activation}
    if method not in maps:
        raise ValueError(f"Unknown method {method!r} for echo regions; known are {sorted(maps)}.")
    encoder = patient.model.echo_encoder
    if encoder.config.model_type != "echo_mvit":
        raise ValueError(
            f"Class-activation maps need MViT's tokens, the encoder is {encoder.config.model_type}. Ask for occlusion."
        )
    block, grid = map_block(encoder.config)
    inputs = {name: patient.inputs[name] for name in ("pixel_values_videos", "view_mask")}
    with input_gradients(patient.model), captured(encoder.layers[block]) as kept:
        activations, gradients = kept.with_gradients(patient.with_inputs("echo", **inputs)[0])
    clips = maps[method](activations[:, 1:], gradients[:, 1:]).unflatten(1, grid)
    return _attribution(patient, method, _in_slots(patient, clips), notes=_notes(grid))


def on_original_frame(image: np.ndarray, box: CropBox, height: int, width: int) -> np.ndarray:
    """Map one frame's attribution back through zoom and crop onto the original frame.

    Args:
        image: (rows, columns) values of one frame of one view.
        box: the square of the original frame that the model saw, as `material` holds it.
        height: of the original frame, in pixels.
        width: of the original frame, in pixels.

    Returns:
        (height, width) float32, values interpolated linearly. NaN marks pixels that the model did not see.
    """
    frame = np.full((height, width), np.nan, np.float32)
    square = cv2.resize(image.astype(np.float32), (box.side, box.side), interpolation=cv2.INTER_LINEAR)
    frame[box.top : box.top + box.side, box.left : box.left + box.side] = square
    return frame


def _in_slots(patient: PatientScore, clips: torch.Tensor) -> np.ndarray:
    """Put the maps of the clips that are present into the 11 view slots; NaN for an absent view."""
    mask = patient.inputs["view_mask"][0].cpu().numpy().astype(bool)
    values = np.full((len(VIEWS), *clips.shape[1:]), np.nan)
    values[mask] = clips.detach().double().cpu().numpy()
    return values


def _notes(grid: Grid) -> tuple[str, ...]:
    """Say how fine a map is."""
    return (f"a map of {grid[1]} x {grid[2]} regions at {grid[0]} moments; it cannot be read finer than that",)


def echo_axes(patient: PatientScore, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """Return the axes of values (11 views, frames, rows, columns) of a patient's clips."""
    config = patient.model.config.echo_config
    return (
        Axis("view", VIEWS),
        Axis("frame", None, config.num_frames / shape[1]),
        Axis("row", None, config.image_size / shape[2], unit="px"),
        Axis("column", None, config.image_size / shape[3], unit="px"),
    )


def _attribution(patient: PatientScore, method: str, values: np.ndarray, **more: Any) -> Attribution:
    """Make the attribution of an echo from values (11, frames, rows, columns)."""
    return patient.attribution("echo", method, values, echo_axes(patient, values.shape), **more)
