"""Where a finding was drawn in a synthetic chest X-ray: masks, boxes, and how much each pixel changes with it.

Coordinates are pixels of the JPEG file. The X-ray encoder of MoRE reads the whole picture, resized, so a share of the
width or height is the same there.
"""

from dataclasses import dataclass, replace

import numpy as np

from tgmm_hf.cohorts.synthetic import xray_anatomy as anatomy
from tgmm_hf.cohorts.synthetic.evidence import stream
from tgmm_hf.cohorts.synthetic.patients import Settings, patient_labs
from tgmm_hf.cohorts.synthetic.render_xray import (
    SIDES,
    Canvas,
    Layers,
    Shown,
    apparent_ratio,
    draw_attenuation,
    draw_layers,
    make_canvas,
    place_device,
    plate_lines,
)
from tgmm_hf.cohorts.synthetic.xray_evidence import (
    READINGS,
    XRAY_PICTURE,
    XrayEvidence,
    draw_patient_xray,
    drawn,
    index_of,
    shown_of,
)

SHIFT = 0.5
"""Shift of a number in both directions, in units of the axis, as in `planted.py`."""
SHAPES = {True: (512, 512), False: (544, 512)}
"""AP or not -> height and width of a frontal picture."""
FINDING_OF_REGION = {
    "heart": "Cardiomegaly",
    "right_lung": "Edema",
    "left_lung": "Edema",
    "right_costophrenic_angle": "Pleural Effusion",
    "left_costophrenic_angle": "Pleural Effusion",
    "plate": "Atelectasis",
    "device": "Support Devices",
}
"""Region -> label of CheXpert. A picture without a plate or a device does not have that region."""
NUMBERS_OF_FINDING = {
    "Cardiomegaly": ("heart_size",),
    "Edema": ("congestion",),
    "Pleural Effusion": ("effusion_right", "effusion_left"),
    "Atelectasis": ("atelectasis",),
}


@dataclass(frozen=True)
class Region:
    """A part of a picture that may show a finding.

    Attributes:
        name: Key of `FINDING_OF_REGION`.
        finding: Label of CheXpert.
        is_drawn: The finding was drawn here strongly enough that a reader without error reports it.
        box: First column, first row, last column + 1, last row + 1, in pixels.
    """

    name: str
    finding: str
    is_drawn: bool
    box: tuple[int, int, int, int]


def region_masks(settings: Settings, index: int, study: int = 0) -> dict[str, np.ndarray]:
    """Draw the regions of the frontal X-ray of a patient: name -> (height, width) bool.

    Args:
        settings: Settings of the cohort.
        index: Number of the patient.
        study: Number of the study, 0 for the one beside the ECG.
    """
    shown, canvas, layers, streams = _scene(settings, index, study)
    lungs = {side: canvas.polygon(anatomy.lung_outline(side)) > 0.5 for side in SIDES}
    above = layers.abdomen < 0.5
    heart = (layers.heart > 0.5) & above & (canvas.y > 0.78)
    masks = {"heart": heart}
    for side, name in zip(SIDES, ("right", "left"), strict=True):
        air = lungs[side] & above & (layers.heart < 0.5)
        fluid = air & (layers.fluid > 0.5)
        outer = air & (canvas.y > 1.38) & (side * canvas.x > 0.5)
        masks[f"{name}_lung"] = air & ~fluid
        masks[f"{name}_costophrenic_angle"] = fluid if fluid.any() else outer
    if shown.atelectasis > 0:
        masks["plate"] = _drawn_lines(canvas, plate_lines(canvas.body, streams["plate"])) & above
    if shown.has_device:
        device = place_device(canvas.body, apparent_ratio(shown, canvas.body.is_ap), streams["metal"])
        masks["device"] = _drawn_lines(canvas, [(line, 0.02) for line in device.leads])
        masks["device"] |= canvas.polygon(device.generator) > 0.5
    return {name: mask for name, mask in masks.items() if mask.any()}


def xray_regions(settings: Settings, index: int, study: int = 0) -> list[Region]:
    """List the regions of the frontal X-ray of a patient with their boxes. Arguments as in [`region_masks`]."""
    table = draw_patient_xray(settings.seed, index, settings.evidence, study)
    regions = []
    for name, mask in region_masks(settings, index, study).items():
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        regions.append(Region(name, FINDING_OF_REGION[name], is_drawn(table, name), box))
    return regions


def is_drawn(table: XrayEvidence, region: str) -> bool:
    """Tell whether the first patient of `table` has the finding of a region, as a reader without error reports it."""
    if region == "device":
        return bool(table.device[0])
    name = {"heart": "heart_size", "plate": "atelectasis"}.get(region, "congestion")
    if region.endswith("angle"):
        name = f"effusion_{region.split('_')[0]}"
    (mild,) = (reading.edges[1] for reading in READINGS if reading.parameter == name)
    return bool(drawn(table.value(name), name)[0] >= mild)


def xray_evidence(settings: Settings, index: int, finding: str, study: int = 0) -> np.ndarray:
    """Compute how much each pixel changes with a finding: (height, width), attenuation before scatter and noise.

    The picture is drawn with the numbers of the finding half a unit lower and half a unit higher, with the same
    nuisance. For "Support Devices" it is drawn without and with a device.

    Args:
        settings: Settings of the cohort.
        index: Number of the patient.
        finding: Value of `FINDING_OF_REGION`.
        study: Number of the study.
    """
    table = draw_patient_xray(settings.seed, index, settings.evidence, study)
    if finding == "Support Devices":
        low, high = (replace(shown_of(table), has_device=has_device) for has_device in (False, True))
    else:
        low, high = (shown_of(_shifted(table, finding, shift)) for shift in (-SHIFT, SHIFT))
    return np.abs(_attenuation(settings, index, study, high) - _attenuation(settings, index, study, low))


def picture_source(settings: Settings, index: int, study: int) -> np.random.Generator:
    """Return the random generator of the frontal picture of a study."""
    return stream(settings.seed, index, XRAY_PICTURE + study)


def _scene(
    settings: Settings, index: int, study: int, shown: Shown | None = None
) -> tuple[Shown, Canvas, Layers, dict[str, np.random.Generator]]:
    """Draw body and large parts of a picture again. `shown` replaces what the picture shows."""
    table = draw_patient_xray(settings.seed, index, settings.evidence, study)
    is_ap, is_female = bool(table.is_ap[0]), patient_labs(settings, index).gender == "F"
    shown = shown or shown_of(table)
    canvas, streams = make_canvas(picture_source(settings, index, study), is_ap, is_female, SHAPES[is_ap])
    return shown, canvas, draw_layers(canvas, shown), streams


def _attenuation(settings: Settings, index: int, study: int, shown: Shown) -> np.ndarray:
    """Draw the attenuation of a picture again, with other findings."""
    shown, canvas, layers, streams = _scene(settings, index, study, shown)
    return draw_attenuation(canvas, layers, shown, streams)


def _shifted(table: XrayEvidence, finding: str, shift: float) -> XrayEvidence:
    """Copy the evidence, with the numbers of a finding moved by `shift`."""
    values = table.values.copy()
    for name in NUMBERS_OF_FINDING[finding]:
        values[:, index_of(name)] += shift
    return replace(table, values=values)


def _drawn_lines(canvas: Canvas, lines: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Draw lines (n, 2) with their widths: (height, width) bool."""
    layer = np.zeros(canvas.shape, np.uint8)
    for line, width in lines:
        canvas.line(layer, line, max(width, 0.02), 255)
    return layer > 127
