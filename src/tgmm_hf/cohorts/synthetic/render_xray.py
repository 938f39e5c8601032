"""Chest X-ray: what the picture shows -> grey values, as a JPEG of MIMIC-CXR-JPG has them.

The picture is drawn as a beam sees it: a map of attenuation is summed over chest wall, lungs, vessels, heart, bones,
fluid and metal, scattered, given noise, and turned into grey values. The histogram is equalised, as in MIMIC-CXR-JPG.

What the picture shows (`Shown`) follows from the evidence. Everything else comes from random streams that never see the
cardiac state. The number of random draws does not depend on what is shown, so that two pictures of one patient with
different findings have the same nuisance.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from tgmm_hf.cohorts.synthetic import xray_anatomy as anatomy
from tgmm_hf.cohorts.synthetic.xray_anatomy import ANGLE_Y, GENERATOR, GENERATOR_HALF, HILUM, THORAX, Body

SIDES = (-1, 1)
"""Right and left of the patient."""
MAGNIFICATION = 1.05
"""A heart looks larger by this factor in an AP picture, because it lies farther from the plate."""
KERLEY_LINES = 14
PARTS = ("body", "tissue", "vessels", "oedema", "plate", "bones", "gas", "metal", "film")
"""Parts of a picture, each with its own source of randomness."""
FRACTION = 3
"""Bits behind the point of the coordinates that OpenCV draws with."""


@dataclass(frozen=True)
class Shown:
    """What a frontal X-ray shows, in physical units.

    Attributes:
        ratio: Cardiothoracic ratio of a PA picture.
        atrium: Size of the left atrium, 0 to 1.
        congestion: Congestion of the vessels up to oedema, 0 to 1.
        effusions: Height of the fluid at the right and at the left wall, in half widths of the picture; 0 for none.
        atelectasis: Strength of a plate-like atelectasis at a lung base, 0 for none.
        has_device: A pacemaker lies under the left clavicle.
    """

    ratio: float = 0.46
    atrium: float = 0.3
    congestion: float = 0.15
    effusions: tuple[float, float] = (0.0, 0.0)
    atelectasis: float = 0.0
    has_device: bool = False


class Canvas:
    """Pixels of one picture, and the way from coordinates of the body to pixels.

    Args:
        shape: Height and width in pixels.
        body: The body, for its size and place.
    """

    def __init__(self, shape: tuple[int, int], body: Body):
        self.shape = shape
        self.body = body
        half = shape[1] / 2
        cos, sin = np.cos(body.turn), np.sin(body.turn)
        scale = half * body.scale
        self.matrix = scale * np.array([[cos * body.stretch, -sin], [sin * body.stretch, cos]])
        self.centre = np.array([half * (1 + body.shift[0]), half * (1.0 + body.shift[1])])
        self.unit = scale
        rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
        inverse = np.linalg.inv(self.matrix).astype(np.float32)
        dx, dy = columns - np.float32(self.centre[0]), rows - np.float32(self.centre[1])
        self.x = inverse[0, 0] * dx + inverse[0, 1] * dy
        self.y = inverse[1, 0] * dx + inverse[1, 1] * dy + 1

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Return the pixel (column, row) of points (n, 2) of the body."""
        return (np.asarray(points) - (0, 1)) @ self.matrix.T + self.centre

    def fixed(self, points: np.ndarray) -> np.ndarray:
        """Return the pixel of points (n, 2) of the body as OpenCV draws it: (n, 1, 2) with `FRACTION` bits."""
        return np.round(self.pixels(points) * (1 << FRACTION)).astype(np.int32)[:, None]

    def polygon(self, *outlines: np.ndarray, soft: float = 0.0) -> np.ndarray:
        """Fill contours (n, 2): (height, width) float32, 0 to 1. `soft` blurs the edge, in pixels."""
        mask = np.zeros(self.shape, np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [self.fixed(outline)], 255, cv2.LINE_AA, FRACTION)
        return blur(mask, soft).astype(np.float32) * np.float32(1 / 255)

    def line(self, layer: np.ndarray, points: np.ndarray, width: float, value: float) -> None:
        """Draw a line (n, 2) into a uint8 layer, in place. A line thinner than a pixel becomes fainter instead."""
        pixels = width * self.unit
        strength = value * min(pixels, 1.0) if pixels < 1 else value
        cv2.polylines(layer, [self.fixed(points)], False, float(strength), max(1, round(pixels)), cv2.LINE_AA, FRACTION)

    def disc(self, layer: np.ndarray, place: tuple[float, float], radius: float, value: float, rim: int = -1) -> None:
        """Draw a disc into a uint8 layer, in place; with `rim` a circle of that many pixels."""
        centre = tuple(self.fixed(np.array([place]))[0, 0].tolist())
        cv2.circle(layer, centre, round(radius * self.unit * (1 << FRACTION)), value, rim, cv2.LINE_AA, FRACTION)


def blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a picture with a Gaussian of `sigma` pixels. 0 leaves it as it is."""
    return cv2.GaussianBlur(values, (0, 0), sigma) if sigma > 0 else values


def wide_blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a picture with a wide Gaussian, on an eighth of the pixels because that is faster."""
    small = cv2.resize(values, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    return cv2.resize(blur(small, sigma / 8), values.shape[::-1], interpolation=cv2.INTER_LINEAR)


@dataclass
class Layers:
    """Maps (height, width) float32, 0 to 1, that the beam passes."""

    body: np.ndarray
    lung: np.ndarray
    heart: np.ndarray
    abdomen: np.ndarray
    fluid: np.ndarray


def render_xray(
    shown: Shown, rng: np.random.Generator, is_ap: bool, is_female: bool, shape: tuple[int, int] = (512, 512)
) -> np.ndarray:
    """Draw a frontal chest X-ray.

    Args:
        shown: What the picture shows.
        rng: Source of everything that does not depend on the evidence.
        is_ap: Taken at the bed, from the front. Else from behind.
        is_female: Breast shadows are drawn.
        shape: Height and width in pixels.

    Returns:
        Grey values (height, width) uint8, air dark.
    """
    canvas, streams = make_canvas(rng, is_ap, is_female, shape)
    layers = draw_layers(canvas, shown)
    return develop(draw_attenuation(canvas, layers, shown, streams), layers.body, streams["film"], is_ap)


def make_canvas(
    rng: np.random.Generator, is_ap: bool, is_female: bool, shape: tuple[int, int]
) -> tuple["Canvas", dict[str, np.random.Generator]]:
    """Draw the body, and split the source of randomness into one for each part of the picture.

    So the place of each part can be found again without drawing the picture (`xray_regions`). Arguments as in
    `render_xray`.

    Returns:
        The canvas, and part of `PARTS` -> source of randomness.
    """
    streams = dict(zip(PARTS, rng.spawn(len(PARTS)), strict=True))
    return Canvas(shape, anatomy.draw_body(streams["body"], is_ap, is_female)), streams


def draw_attenuation(
    canvas: "Canvas", layers: "Layers", shown: Shown, streams: dict[str, np.random.Generator]
) -> np.ndarray:
    """Sum up what takes away from the beam: (height, width) float32."""
    seen = layers.lung * (1 - 0.90 * layers.heart) * (1 - 0.965 * layers.abdomen) * (1 - 0.95 * layers.fluid)
    attenuation = soft_tissue(canvas, layers.body, streams["tissue"]) - 0.56 * seen
    middle = np.clip((np.float32(0.86) - np.abs(canvas.x)) * np.float32(3), 0, 1)
    attenuation += middle * (
        0.10 * np.maximum(np.maximum(layers.heart, layers.abdomen), 0.7 * layers.fluid) + 0.02 * layers.abdomen
    )
    attenuation += vessels(canvas, shown, seen, streams["vessels"])
    attenuation += oedema(canvas, shown, seen, streams["oedema"])
    attenuation += plate(canvas, shown, seen, streams["plate"])
    attenuation += bones(canvas, seen, streams["bones"])
    attenuation -= gas(canvas, layers, streams["gas"])
    return attenuation + metal(canvas, shown, streams["metal"])


def apparent_ratio(shown: Shown, is_ap: bool) -> float:
    """Return the cardiothoracic ratio that the picture has."""
    return shown.ratio * (MAGNIFICATION if is_ap else 1.0)


def draw_layers(canvas: Canvas, shown: Shown) -> Layers:
    """Draw the large parts of the picture."""
    body = canvas.body
    lungs = canvas.polygon(*(anatomy.lung_outline(side) for side in SIDES))
    distance = cv2.distanceTransform((lungs > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / np.float32(canvas.unit)
    depth = 1 - (1 - np.minimum(distance / np.float32(0.34), 1)) ** 2
    lens = np.sqrt(depth, dtype=np.float32) * (np.float32(0.80) + np.float32(0.2) * np.minimum(canvas.y, 1.3))
    ratio = apparent_ratio(shown, body.is_ap)
    heart = canvas.polygon(anatomy.heart_outline(body, ratio, shown.atrium), soft=1.6)
    below = np.vstack([anatomy.dome(body, -1)[::-1], anatomy.dome(body, 1), [(0.8, 3.0), (-0.8, 3.0)]])
    abdomen = canvas.polygon(below, soft=1.3)
    fluids = [fluid_outline(height, side) for height, side in zip(shown.effusions, SIDES, strict=True) if height > 0]
    fluid = canvas.polygon(*fluids, soft=3.5) if fluids else np.zeros(canvas.shape, np.float32)
    return Layers(body_mask(canvas), blur(lens, 1.5), heart, abdomen, fluid)


def fluid_outline(height: float, side: int) -> np.ndarray:
    """Return the contour (n, 2) of pleural fluid whose surface climbs towards the wall."""
    x = np.linspace(0.0, 0.80, 40)
    surface = ANGLE_Y + 0.03 - height * (0.34 + 0.66 * np.minimum(x / THORAX, 1.0) ** 2.6)
    line = np.stack([side * x, surface], axis=1)
    return np.vstack([line, [(side * 0.8, 5.0), (0.0, 5.0)]])


def body_mask(canvas: Canvas) -> np.ndarray:
    """Draw neck, shoulders and trunk: (height, width), 0 outside the patient."""
    side = THORAX + canvas.body.fat
    points = [(0.21, -0.3), (0.22, -0.05), (0.29, 0.09), (0.56, 0.15), (0.84, 0.22), (1.08, 0.38), (1.12, 0.62)]
    points += [(side + 0.10, 0.74), (side + 0.01, 1.0), (side + 0.01, 1.4), (side + 0.03, 2.6)]
    right = np.array(points) * (-1, 1)
    outline = np.vstack([anatomy.smooth(np.array(points), closed=False), anatomy.smooth(right, closed=False)[::-1]])
    return canvas.polygon(outline, soft=1.5)


def soft_tissue(canvas: Canvas, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the attenuation of the trunk without lungs, with the breast shadows of a woman."""
    across = np.clip(1 - (canvas.x / np.float32(THORAX + canvas.body.fat + 0.06)) ** 2, 0.08, 1)
    thickness = np.sqrt(across) * np.float32(0.86) + np.float32(0.10) * np.clip(canvas.y - 0.5, 0, 1.2)
    breast_x, breast_y = rng.normal(0.40, 0.03), rng.normal(1.22, 0.05)
    size, volume = rng.uniform(0.28, 0.36), rng.uniform(0.02, 0.085) * canvas.body.is_female
    if volume:
        for side in SIDES:
            outline = breast_outline(side * breast_x, breast_y, size)
            thickness += np.float32(volume) * canvas.polygon(outline, soft=5)
    coarse = rng.standard_normal((6, 6), dtype=np.float32)
    uneven = cv2.resize(coarse, canvas.shape[::-1], interpolation=cv2.INTER_CUBIC)
    tilt = np.float32(rng.normal(0, 0.04))
    return mask * (thickness + np.float32(0.012) * uneven + tilt * canvas.x)


def breast_outline(x: float, y: float, size: float) -> np.ndarray:
    """Return the contour (n, 2) of a breast shadow."""
    turn = np.linspace(0, 2 * np.pi, 60)
    down = np.where(np.sin(turn) > 0, 0.75, 1.5)
    return np.stack([x + size * np.cos(turn), y + size * down * np.sin(turn)], axis=1)


def vessels(canvas: Canvas, shown: Shown, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw hila and vessels. Congestion widens them, most of all in the upper lung, and blurs their edges."""
    thick, thin = np.zeros(canvas.shape, np.uint8), np.zeros(canvas.shape, np.uint8)
    amount = shown.congestion
    for side in SIDES:
        hilum = HILUM[(side + 1) // 2]
        pieces = np.array(anatomy.vessel_tree(rng, side))
        upper = np.clip((hilum[1] + 0.12 - pieces[:, 3]) / 0.25, 0, 1)
        width = pieces[:, 4] * (0.88 - 0.18 * upper + amount * (0.45 + 1.05 * upper)) * canvas.unit
        value = (190 - 90 * pieces[:, 5]) * np.minimum(width, 1)
        ends = canvas.fixed(pieces[:, :4].reshape(-1, 2)).reshape(-1, 2, 2).tolist()
        depths, widths, values = pieces[:, 5].tolist(), np.maximum(np.rint(width), 1).tolist(), value.tolist()
        for (start, end), depth, pixels, grey in zip(ends, depths, widths, values, strict=True):
            cv2.line(thick if depth < 0.35 else thin, start, end, grey, int(pixels), cv2.LINE_AA, FRACTION)
        core = np.stack([hilum + 0.05 * rng.standard_normal(2) * (0.6, 1.2) for _ in range(7)])
        for place in core:
            canvas.disc(thick, tuple(place), (0.026 + 0.022 * rng.random()) * (0.9 + 0.6 * amount), 120)
    near = blur(thick, 1.3 + 2.2 * amount**2).astype(np.float32)
    far = blur(thin, 0.7 + 1.5 * amount**2).astype(np.float32)
    visible = np.float32(0.36) * np.minimum(seen / np.float32(0.75), 1)
    return (near + far) * np.float32(1 / 255) * (visible + np.float32(0.02)) * np.float32(0.62 + 0.3 * amount)


def oedema(canvas: Canvas, shown: Shown, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw interstitial oedema: haze around the hila, a net of fine lines, Kerley B lines, cuffs around bronchi."""
    amount = np.float32(shown.congestion**2)
    fine = rng.standard_normal(canvas.shape, dtype=np.float32)
    net = blur(fine, 1.2) - blur(fine, 3.2)
    net *= np.float32(1 / net.std())
    lungs_texture = np.float32(rng.uniform(0.004, 0.011))
    haze = np.zeros(canvas.shape, np.float32)
    for x, y in HILUM:
        spread = 0.10 * rng.uniform(0.85, 1.2)
        haze += np.exp(-(((canvas.x - x * 1.5) ** 2) + 0.6 * (canvas.y - y - 0.16) ** 2) / np.float32(spread))
    lines = np.zeros(canvas.shape, np.uint8)
    for number in range(KERLEY_LINES):
        side = rng.choice(SIDES)
        y, length = rng.uniform(1.08, 1.50), rng.uniform(0.05, 0.10)
        outer = float(anatomy.wall(y)) - 0.012
        ends = np.array([(side * outer, y), (side * (outer - length), y + rng.normal(0, 0.008))])
        strength = float(np.clip(6 * (shown.congestion - 0.42 - 0.35 * number / KERLEY_LINES), 0, 1))
        canvas.line(lines, ends, 0.0055, 255 * strength)
    for _ in range(6):
        k = int(rng.integers(2))
        place = (HILUM[k][0] + SIDES[k] * rng.uniform(0.03, 0.16), HILUM[k][1] + rng.uniform(-0.10, 0.12))
        strength = float(np.clip(2.2 * (shown.congestion - 0.35), 0, 1))
        canvas.disc(lines, place, rng.uniform(0.014, 0.02), 110 * strength, rim=2)
    share = np.minimum(seen, 1)
    texture = (lungs_texture + np.float32(0.055) * amount * (np.float32(0.35) + haze)) * net
    white = np.float32(0.30) * amount * haze + np.float32(0.10) * amount
    return share * (texture + white) + share * np.float32(0.10) * blur(lines, 0.8).astype(np.float32) / 255


def plate(canvas: Canvas, shown: Shown, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a plate-like atelectasis above one half of the diaphragm."""
    layer = np.zeros(canvas.shape, np.uint8)
    for line, width in plate_lines(canvas.body, rng):
        canvas.line(layer, line, width * (0.8 + 0.25 * shown.atelectasis), 255)
    strength = 0.0 if shown.atelectasis <= 0 else min(0.06 + 0.10 * shown.atelectasis, 0.26)
    return np.float32(strength) * blur(layer, 1.2).astype(np.float32) / 255 * np.minimum(seen + 0.1, 1)


def plate_lines(body: Body, rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Draw where a plate-like atelectasis lies: two lines (n, 2) with their widths."""
    side = rng.choice(SIDES)
    top = 1.41 - body.breath + body.domes[(side + 1) // 2]
    x, y, length = rng.uniform(0.36, 0.44), top - rng.uniform(0.07, 0.16), rng.uniform(0.22, 0.34)
    x += 0.09 * (side > 0)  # beside the heart
    rise, bend = rng.normal(0.0, 0.05), rng.normal(0, 0.012)
    along = np.linspace(-0.5, 0.5, 12)
    line = np.stack([side * (x + length * along), y + rise * along + bend * (1 - 4 * along**2)], axis=1)
    second = line[3:9] + np.array([0.02 * side, rng.uniform(0.035, 0.06)])
    return [(line, 0.020), (second, 0.010)]


def bones(canvas: Canvas, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw ribs, clavicles, shoulder blades and spine, each brighter at its edge."""
    body = canvas.body
    total = np.zeros(canvas.shape, np.float32)
    strength = rng.uniform(0.8, 1.2) * (0.9 if body.is_ap else 1.0)
    through = np.float32(0.30) + np.float32(0.70) * np.minimum(seen * np.float32(1.6), 1)
    through = np.maximum(through, (canvas.y < 0.5) * np.float32(0.75))
    parts: list[tuple[list[np.ndarray], float, float]] = [
        ([anatomy.posterior_rib(body, k, side) for k in range(1, 11) for side in SIDES], 0.050, 0.120),
        ([anatomy.anterior_rib(body, k, side) for k in range(1, 7) for side in SIDES], 0.058, 0.062),
        ([anatomy.clavicle(body, side) for side in SIDES], 0.062, 0.110),
    ]
    for lines, width, attenuation in parts:
        outer, inner = np.zeros(canvas.shape, np.uint8), np.zeros(canvas.shape, np.uint8)
        for line in lines:
            value = 255 * rng.uniform(0.82, 1.0)
            canvas.line(outer, line, width, value)
            canvas.line(inner, line, 0.62 * width, value)
        shell = blur(outer, 1.1).astype(np.float32) - np.float32(0.38) * blur(inner, 1.4).astype(np.float32)
        total += np.float32(attenuation * strength / 255) * shell * through
    for side in SIDES:
        blade = canvas.polygon(anatomy.scapula(body, side), soft=1.5)
        edge = np.clip(blade - blur(blade, 3.0), 0, None)
        total += np.float32(0.030 * strength) * blade + np.float32(0.08 * strength) * edge
        head = canvas.polygon(np.array([side * 0.93, 0.36]) + 0.125 * circle(), soft=6.0)
        total += np.float32(0.07 * strength) * head
    return total + spine(canvas, body, rng)


def circle(number: int = 40) -> np.ndarray:
    """Return a circle (n, 2) of radius 1."""
    turn = np.linspace(0, 2 * np.pi, number, endpoint=False)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def spine(canvas: Canvas, body: Body, rng: np.random.Generator) -> np.ndarray:
    """Draw vertebrae with discs, pedicles and spinous processes."""
    start, bow = rng.uniform(0, anatomy.VERTEBRA), rng.normal(0, 0.012)
    columns = np.flatnonzero((np.abs(canvas.x) < 0.16).any(axis=0))
    box = slice(columns[0], columns[-1] + 1)
    x, y = canvas.x[:, box], canvas.y[:, box]
    centre = np.float32(bow) * np.sin(y * 2) - np.float32(0.5 * body.twist)
    place = np.mod(y - np.float32(start), np.float32(anatomy.VERTEBRA)) / np.float32(anatomy.VERTEBRA)
    away = np.abs(x - centre)
    half = np.float32(0.088) + np.float32(0.008) * np.cos(2 * np.pi * place) + np.float32(0.012) * y / 2
    inside = np.clip((half - away) * np.float32(canvas.unit / 4), 0, 1)
    disc = np.clip(1 - np.abs(place - np.float32(0.06)) / np.float32(0.08), 0, 1)
    pedicle = np.exp(-((away - 0.055) ** 2) / 0.0003 - (place - 0.36) ** 2 / 0.012)
    process = np.exp(-(away**2) / 0.00035 - (place - 0.80) ** 2 / 0.018)
    result = np.zeros(canvas.shape, np.float32)
    result[:, box] = inside * (np.float32(0.040) - np.float32(0.030) * disc + np.float32(0.03) * (pedicle + process))
    return result


def gas(canvas: Canvas, layers: Layers, rng: np.random.Generator) -> np.ndarray:
    """Draw the air in trachea and bronchi, and a bubble in the stomach."""
    body = canvas.body
    layer = np.zeros(canvas.shape, np.uint8)
    for line, width in anatomy.airway():
        canvas.line(layer, line + np.array([0.4 * body.twist, 0]), width, 255)
    air = np.float32(0.10 / 255) * blur(layer, 2.8).astype(np.float32)
    x, width = rng.normal(0.36, 0.04), rng.uniform(0.09, 0.17)
    depth, flat, strength = rng.uniform(0.10, 0.14), rng.uniform(0.45, 0.8), rng.uniform(0.0, 0.30)
    top = 1.41 - body.breath + body.domes[1] + depth
    bubble = canvas.polygon(np.array([x, top]) + width * circle() * (1.0, flat * 0.6), soft=4.0)
    return air + np.float32(strength) * bubble * layers.abdomen


@dataclass(frozen=True)
class Device:
    """A pacemaker: the contour (n, 2) of its generator, a smaller one inside, and its leads (n, 2)."""

    generator: np.ndarray
    inside: np.ndarray
    leads: tuple[np.ndarray, ...]


def place_device(body: Body, ratio: float, rng: np.random.Generator) -> Device:
    """Draw where a pacemaker lies. `ratio` is the cardiothoracic ratio of the picture."""
    chambers, angle = int(rng.integers(1, 3)), rng.normal(0.15, 0.2)
    leads = tuple(anatomy.device_lines(body, ratio, chambers))
    return Device(generator_outline(body, angle), generator_outline(body, angle, 0.62), leads)


def metal(canvas: Canvas, shown: Shown, rng: np.random.Generator) -> np.ndarray:
    """Draw a pacemaker, and the wires of a monitor in many pictures that were taken at the bed."""
    device = place_device(canvas.body, apparent_ratio(shown, canvas.body.is_ap), rng)
    total = np.float32(0.28 / 255) * blur(monitor_wires(canvas, rng), 0.7).astype(np.float32)
    if not shown.has_device:
        return total
    layer = np.zeros(canvas.shape, np.uint8)
    for line in device.leads:
        canvas.line(layer, line, 0.008, 255)
        canvas.line(layer, line[-4:], 0.014, 255)
    total += np.float32(0.34 / 255) * blur(layer, 0.7).astype(np.float32)
    total += np.float32(0.62) * canvas.polygon(device.generator, soft=0.8)
    return total + np.float32(0.25) * canvas.polygon(device.inside, soft=1.0)


def monitor_wires(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Draw three electrodes with their wires: (height, width) uint8; zeros without a monitor."""
    wires = np.zeros(canvas.shape, np.uint8)
    is_monitored = rng.random() < 0.55
    for x, y in ((-0.52, 0.42), (0.52, 0.36), (0.60, 1.28)):
        x, y, *sweep = np.array([x, y, 0, 0, 0]) + (0.05, 0.07, 0.1, 0.1, 0.1) * rng.standard_normal(5)
        if not (canvas.body.is_ap and is_monitored):
            continue
        points = [(x, y), (x + sweep[0], y + 0.25), (0.6 * x + sweep[1], y + 0.55), (0.3 * x + sweep[2], 2.3)]
        canvas.line(wires, smooth_line(points), 0.006, 130)
        canvas.disc(wires, (x, y), 0.026, 110)
        canvas.disc(wires, (x, y), 0.010, 230)
    return wires


def smooth_line(points: list[tuple[float, float]]) -> np.ndarray:
    """Lay an open spline through points."""
    return anatomy.smooth(np.array(points), closed=False)


def generator_outline(body: Body, angle: float, size: float = 1.0) -> np.ndarray:
    """Return the contour (n, 2) of a pacemaker's generator, turned by `angle`: a rounded box."""
    turn = circle(48)
    box = np.sign(turn) * np.abs(turn) ** 0.55 * GENERATOR_HALF * size
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return box @ matrix.T + GENERATOR + np.array([body.twist, 0])


def develop(attenuation: np.ndarray, mask: np.ndarray, rng: np.random.Generator, is_ap: bool) -> np.ndarray:
    """Turn attenuation into grey values: scatter, quantum noise, exposure, equalised histogram, marker."""
    scatter = np.float32(rng.uniform(0.10, 0.20) + 0.08 * is_ap)
    dose = np.float32(rng.uniform(0.006, 0.012) * (1.25 if is_ap else 1.0))
    sharp = float(rng.uniform(0.45, 0.75) + 0.2 * is_ap)
    level = (1 - scatter) * attenuation + scatter * wide_blur(attenuation, 40)
    level = blur(level, sharp)
    noise = rng.standard_normal(level.shape, dtype=np.float32)
    level += dose * (np.float32(0.4) + np.clip(level, 0, 1.2)) * (noise + np.float32(0.6) * blur(noise, 0.8))
    low, high = np.float32(rng.uniform(-0.05, 0.04)), np.float32(rng.uniform(1.10, 1.24))
    shown = np.clip((level - low) / (high - low), 0, 1)
    grey = np.where(mask > 0.02, 12 + 243 * shown, 8 * shown + 4).astype(np.uint8)
    share = rng.uniform(0.35, 0.75)
    equal = cv2.equalizeHist(grey)
    grey = cv2.addWeighted(equal, share, grey, 1 - share, 0)
    return with_marker(grey, rng)


def with_marker(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Print the marker of the left side into the upper corner, and the black bar over what was printed beside it."""
    height, width = grey.shape
    x, y = round(width * rng.uniform(0.90, 0.94)), round(height * rng.uniform(0.06, 0.13))
    size, value = width / 512 * rng.uniform(0.55, 0.75), int(rng.integers(225, 255))
    has_bar, bar = rng.random() < 0.3, rng.uniform(0.0, 1.0, 2)
    cv2.putText(grey, "L", (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, value, 2, cv2.LINE_AA)
    if has_bar:
        left, top = round(width * (0.02 + 0.05 * bar[0])), round(height * (0.02 + 0.04 * bar[1]))
        cv2.rectangle(grey, (left, top), (left + round(0.13 * width), top + round(0.03 * height)), 0, -1)
    return grey
