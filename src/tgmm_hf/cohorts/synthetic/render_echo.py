"""Echo: evidence -> multi-frame clips, one per view, as luma and chroma planes.

A clip is an ultrasound sector with its apex at the top. Every view is a list of ellipses (chambers with or without a
myocardial wall) in units of the frame height. Brightness is log-compressed tissue level plus log-Rayleigh speckle in
polar coordinates around the apex.

Evidence: how far the left ventricle shortens, its size, its wall, the length of the regurgitant jet, the size of the
left atrium. Nuisance: speckle, heart rate, phase, position, angle, gain, the right heart, the text and ECG strip
outside the sector. Every frame is rescaled to one mean and standard deviation inside the sector, so that brightness
holds no evidence. A jet is colour on the same luma.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tgmm_hf.cohorts.synthetic.devices import DEPTH_CM, ECHO_DEVICE, EchoDevice
from tgmm_hf.cohorts.synthetic.evidence import CENTRE, COLOUR_VIEWS, VIEWS_SHOWING, Evidence, sigmoid

CLIP_SECONDS = 1.06
"""32 frames at 30 per second. This is at least one beat at the heart rates drawn, whatever the number of frames."""

PHYSICAL = {
    "shortening": lambda v: 0.42 - 0.36 * sigmoid(v - CENTRE),  # fractional shortening of the cavity's axes
    "lv_size": lambda v: 0.76 + 0.52 * sigmoid(v - CENTRE),  # end-diastolic axes relative to the template
    "wall": lambda v: 0.025 + 0.050 * sigmoid(v - CENTRE),  # wall thickness, frame heights
    "jet": lambda v: 0.02 + 0.24 * sigmoid(v - CENTRE),  # jet length, frame heights
    "la_size": lambda v: 0.72 + 0.62 * sigmoid(v - 1.0),  # axes relative to the template
}
"""Name of a parameter -> function from axis units to physical units, one-to-one."""


@dataclass(frozen=True)
class Chamber:
    """An ellipse that stands for a chamber of the heart. Lengths are in units of the frame height.

    Attributes:
        role: "lv" (left ventricle) contracts, and has the wall and size of the evidence. "la" (left atrium) has the
            size of the evidence. "plain" shows no evidence.
        x: Centre, to the right of the middle of the frame.
        y: Centre, below the top of the frame.
        half_width: Half of the width.
        half_height: Half of the height.
        tilt: Rotation in degrees.
    """

    role: str
    x: float
    y: float
    half_width: float
    half_height: float
    tilt: float = 0.0


@dataclass(frozen=True)
class View:
    """What one view shows.

    Attributes:
        chambers: Chambers in the order of drawing. Later ones cover earlier ones.
        jet: Start and direction of the regurgitant jet: x, y (frame heights), degrees. None in a view without colour.
    """

    chambers: tuple[Chamber, ...]
    jet: tuple[float, float, float] | None = None


FOUR_CHAMBER = (
    Chamber("plain", -0.19, 0.44, 0.075, 0.16, -12),
    Chamber("plain", -0.16, 0.75, 0.085, 0.075),
    Chamber("la", 0.10, 0.77, 0.10, 0.08),
    Chamber("lv", 0.07, 0.39, 0.12, 0.175, 8),
)
LONG_AXIS = (
    Chamber("plain", -0.03, 0.24, 0.20, 0.055, 8),
    Chamber("plain", 0.23, 0.40, 0.085, 0.045, -10),
    Chamber("la", 0.235, 0.62, 0.085, 0.085),
    Chamber("lv", -0.11, 0.52, 0.17, 0.12, 8),
)
VIEW_GEOMETRY = {
    "A2C": View((Chamber("la", 0.02, 0.77, 0.11, 0.08), Chamber("lv", 0.0, 0.39, 0.125, 0.18, 0))),
    "A3C": View(
        (
            Chamber("plain", -0.16, 0.68, 0.045, 0.10, 25),
            Chamber("la", 0.06, 0.77, 0.10, 0.08),
            Chamber("lv", -0.02, 0.39, 0.12, 0.175, -14),
        )
    ),
    "A4C": View(FOUR_CHAMBER),
    "A5C": View((*FOUR_CHAMBER[:3], Chamber("plain", -0.03, 0.70, 0.035, 0.06), FOUR_CHAMBER[3])),
    "Apical_Doppler": View(FOUR_CHAMBER, jet=(0.09, 0.62, 90)),
    "Doppler_Parasternal_Long": View(LONG_AXIS, jet=(0.10, 0.58, 15)),
    "Doppler_Parasternal_Short": View(
        (
            Chamber("plain", -0.17, 0.42, 0.12, 0.10, -30),
            Chamber("plain", 0.0, 0.42, 0.075, 0.075),
            Chamber("la", 0.02, 0.68, 0.13, 0.085),
        ),
        jet=(0.0, 0.55, 80),
    ),
    "Parasternal_Long": View(LONG_AXIS),
    "Parasternal_Short": View((Chamber("plain", -0.24, 0.42, 0.05, 0.15, 15), Chamber("lv", 0.02, 0.5, 0.15, 0.15))),
    "SSN": View((Chamber("plain", 0.0, 0.42, 0.22, 0.07, -20), Chamber("plain", 0.03, 0.64, 0.10, 0.05))),
    "Subcostal": View(
        (
            Chamber("plain", -0.05, 0.30, 0.17, 0.06, 20),
            Chamber("la", -0.21, 0.55, 0.085, 0.085),
            Chamber("lv", 0.09, 0.55, 0.19, 0.11, 24),
        )
    ),
}

APEX, RADIUS = 0.03, 0.86
"""Sector apex and radius in frame heights."""
CAVITY, TISSUE, WALL, JET = 30, 100, 165, 120
"""Log-compressed grey levels before speckle and rescaling."""
DARKEST = 3
"""Smallest grey inside the sector. It is above zero, because readers find the sector by its non-black pixels."""
DARK_GRAIN = 45
"""Largest grey level that speckle takes away. Sums of speckle and grey level are stored with this added, so that they
fit into 8 bits: cavities have at least CAVITY - 45 + 45, walls at most WALL + 35 + 45 = 245."""
POLAR_RADII, POLAR_ANGLES, POLAR_PAD = 150, 150, 64


@dataclass(frozen=True)
class Sector:
    """Pixels of the ultrasound sector for one frame size. Without another shape an array is (height, width).

    The lengths x and y are in frame heights of a sector that is `DEPTH_CM` deep. In a deeper sector the heart is
    smaller.
    """

    x: np.ndarray  # to the right of the centre
    y: np.ndarray  # downwards
    inside: np.ndarray  # bool
    polar: np.ndarray  # offset into the flattened polar speckle
    sample: np.ndarray  # (n,) flat indices inside the sector, for means


@lru_cache(maxsize=2)
def sector(height: int, width: int, device: EchoDevice = ECHO_DEVICE) -> Sector:
    """Compute a device's sector of a frame of this size in pixels. The result is kept for the next call."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    x = (columns - (width - 1) / 2) / height
    y = rows / height
    radius = np.hypot(x, y - APEX)
    angle = np.degrees(np.arctan2(x, y - APEX))
    inside = (radius < RADIUS) & (np.abs(angle) < device.half_angle)
    r = np.clip(radius / RADIUS * POLAR_RADII, 0, POLAR_RADII - 1).astype(np.int32)
    a = np.clip((angle / device.half_angle + 1) / 2 * POLAR_ANGLES, 0, POLAR_ANGLES - 1).astype(np.int32)
    polar = (r * (POLAR_ANGLES + POLAR_PAD) + a).astype(np.intp)  # numpy would convert any other type at each frame
    scale = device.depth / DEPTH_CM
    x, y = x * scale, y * scale + APEX * (1 - scale)  # the heart hangs from the apex of the sector
    return Sector(x, y, inside, polar, np.flatnonzero(inside)[::8])


@dataclass(frozen=True)
class Clip:
    """The clip of one view: planes of YCbCr 4:2:2 for F frames, and the numbers of the DICOM header."""

    luma: np.ndarray  # (F, H, W) uint8
    blue: np.ndarray  # (F, H, W // 2) uint8 chroma, 128 = none
    red: np.ndarray
    frame_time: float  # ms
    heart_rate: float  # beats per minute


def render_clip(  # noqa: PLR0913 - what is shown, and how the file is made
    table: Evidence,
    view: str,
    rng: np.random.Generator,
    frames: int = 32,
    height: int = 240,
    width: int = 320,
    device: EchoDevice = ECHO_DEVICE,
) -> Clip:
    """Render the clip of one view of one patient.

    Args:
        table: Evidence of the patient, one row.
        view: One of `VIEWS`.
        rng: Source of everything that does not depend on the evidence: speckle, heart rate, position, brightness, text.
        frames: Number of frames.
        height: Height in pixels.
        width: Width in pixels, even.
        device: The echocardiograph: sector and brightness. Frames, height and width are those of its clips.

    Returns:
        Planes of YCbCr 4:2:2 with the time of a frame (ms) and the heart rate.
    """
    physical = {
        name: float(PHYSICAL[name](value))
        for name, value in table.parameters_of("echo").items()
        if view in VIEWS_SHOWING[name]
    }
    area = sector(height, width, device)
    speckle = polar_speckle(rng)
    heart_rate = rng.uniform(60, 95)
    phase = (rng.random() + np.arange(frames) / frames * CLIP_SECONDS * heart_rate / 60) % 1.0
    scene = Scene(area, view, physical, contraction(phase), rng)
    target_mean, target_spread = rng.uniform(*device.brightness), rng.uniform(*device.contrast)
    overlay = burned_in(height, width, heart_rate, rng)
    luma = np.empty((frames, height, width), np.uint8)
    blue = np.full((frames, height, width // 2), 128, np.uint8)
    red = np.full((frames, height, width // 2), 128, np.uint8)
    for f in range(frames):
        level, jet = scene.frame(f)
        start = int(rng.integers(POLAR_PAD * (POLAR_ANGLES + POLAR_PAD)))
        np.add(level, speckle[start:].take(area.polar, mode="clip"), out=luma[f])
        if jet is not None:
            colour(blue[f], red[f], jet, area, rng)
    finish(luma, area, overlay, target_mean, target_spread)
    return Clip(luma, blue, red, 1000 * CLIP_SECONDS / frames, heart_rate)


def contraction(phase: np.ndarray) -> np.ndarray:
    """Return how far the ventricle is contracted, 0 (filled) to 1, at phases 0 to 1 of the beat.

    Systole is the first 45 % of the beat.
    """
    return np.where(phase < 0.45, np.sin(np.pi * phase / 0.45) ** 2, 0.0)


def polar_speckle(rng: np.random.Generator) -> np.ndarray:
    """Draw log-Rayleigh speckle in polar coordinates, flattened: uint8, DARK_GRAIN more than the grey levels.

    The grey levels have a mean of about 0 and are at least -DARK_GRAIN.

    Neighbours along the radius and along the arc are correlated. `POLAR_PAD` more rows and columns than the sector
    needs let each frame start at another offset.
    """
    shape = (POLAR_RADII + POLAR_PAD + 1, POLAR_ANGLES + POLAR_PAD)
    parts = rng.standard_normal((2, *shape), dtype=np.float32)
    parts = parts + np.roll(parts, 1, axis=1)
    parts = parts + np.roll(parts, 1, axis=2) + np.roll(parts, 2, axis=2)
    power = (parts**2).sum(axis=0) / (2 * 6)
    grain = np.clip(11 * (np.log(power + 1e-3) + 0.58), -DARK_GRAIN, 35).astype(np.int16)
    return (grain + DARK_GRAIN).astype(np.uint8).ravel()


class Scene:
    """The chambers of one clip on its pixel grid; `frame` gives the grey levels of one frame.

    Args:
        area: Sector of the frame size.
        view: One of `VIEWS`.
        physical: Parameter -> value in physical units, for the parameters that the view shows.
        systole: Contraction in each frame (F,), from 0 (filled) to 1.
        rng: Source of position, angle and texture.
    """

    def __init__(
        self, area: Sector, view: str, physical: dict[str, float], systole: np.ndarray, rng: np.random.Generator
    ):
        self.physical = physical
        self.systole = systole
        angle = np.deg2rad(rng.normal(0, 3))
        shift_x, shift_y = rng.normal(0, 0.012, 2)
        middle = 0.45
        dx, dy = area.x - shift_x, area.y - shift_y - middle
        self.x = dx * np.cos(angle) + dy * np.sin(angle)  # coordinates of the heart
        self.y = dy * np.cos(angle) - dx * np.sin(angle) + middle
        base = np.full(area.x.shape, TISSUE, np.int16)
        base += np.int16(rng.uniform(-14, 14)) * np.sin(9 * self.x + rng.uniform(0, 6)).round().astype(np.int16)
        self.base = base.astype(np.uint8)
        self.geometry = VIEW_GEOMETRY[view]
        self.chambers = [self.place(c, rng) for c in self.geometry.chambers]
        self.tables = [self.level_tables(chamber, wall) for chamber, _, _, wall in self.chambers]
        self.jet = self.place_jet(rng) if view in COLOUR_VIEWS else None

    def place(
        self, chamber: Chamber, rng: np.random.Generator
    ) -> tuple[Chamber, tuple[slice, slice], np.ndarray, float]:
        """Place a chamber on the pixel grid.

        Returns:
            The chamber; the box of pixels around it; for each pixel of the box its elliptical radius times 64 (uint8,
            64 is the edge of the filled cavity); and the wall thickness relative to the size of the cavity.
        """
        scale = {"lv": self.physical.get("lv_size", 1.0), "la": self.physical.get("la_size", 1.0)}.get(
            chamber.role, rng.uniform(0.9, 1.05)
        )
        tilt = np.deg2rad(chamber.tilt)
        half = np.array([chamber.half_width, chamber.half_height]) * scale
        wall = self.physical["wall"] if chamber.role == "lv" else 0.012
        reach = float(half.max() + wall + 0.03)
        near = (np.abs(self.x - chamber.x) < reach) & (np.abs(self.y - chamber.y) < reach)
        box = bounding_box(near)
        dx, dy = self.x[box] - chamber.x, self.y[box] - chamber.y
        u = (dx * np.cos(tilt) + dy * np.sin(tilt)) / half[0]
        v = (dy * np.cos(tilt) - dx * np.sin(tilt)) / half[1]
        radius = np.clip(np.hypot(u, v) * 64, 0, 255).astype(np.uint8)
        return chamber, box, radius, wall / float(np.sqrt(half[0] * half[1]))

    def place_jet(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
        """Place the jet on the pixel grid.

        Returns:
            The coordinate of every pixel along the jet, in frame heights; and the pixels (H, W) bool of an endless jet.
            None without a jet.
        """
        if self.geometry.jet is None or "jet" not in self.physical:
            return None
        x, y, direction = self.geometry.jet
        angle = np.deg2rad(direction + rng.normal(0, 4))
        dx, dy = self.x - x, self.y - y
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        return along, (along > 0) & (np.abs(across) < 0.018 + 0.28 * along)

    def frame(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw the frame `number`.

        Returns:
            Grey levels (H, W) uint8, and the pixels of the jet (H, W) bool. The pixels are None if the patient has no
            jet, or while the contraction is below 0.15.
        """
        level = self.base.copy()
        for (_, box, radius, _), (levels, ends) in zip(self.chambers, self.tables, strict=True):
            np.copyto(level[box], cv2.LUT(radius, levels[number]), where=radius < ends[number])
        systole = self.systole[number]
        if self.jet is None or systole < 0.15:
            return level, None
        jet = self.jet_pixels(self.jet, systole)
        np.maximum(level, JET, out=level, where=jet)
        return level, jet

    def level_tables(self, chamber: Chamber, wall: float) -> tuple[np.ndarray, np.ndarray]:
        """Compute the grey level of a chamber for each elliptical radius times 64, in each frame.

        Args:
            chamber: The chamber.
            wall: Wall thickness relative to the cavity.

        Returns:
            The grey levels, (F, 256) uint8; and the first radius times 64 outside the chamber, (F,).
        """
        radius, systole = np.arange(256) / 64, self.systole[:, None]
        if chamber.role == "lv":
            shrink = 1 - self.physical["shortening"] * systole
            outer = 1 + wall - 0.5 * (1 - shrink)
        else:
            shrink = 1 - 0.04 * systole
            outer = shrink + wall
        edge = np.clip((radius - shrink) / 0.08 + 0.5, 0, 1)
        level = CAVITY + (WALL - CAVITY) * edge
        return level.astype(np.int16).astype(np.uint8), np.count_nonzero(radius < outer, axis=1)

    def jet_pixels(self, jet: tuple[np.ndarray, np.ndarray], systole: float) -> np.ndarray:
        """Return the pixels of the jet (H, W) bool: a plume that widens away from the valve.

        It is longest at the largest contraction. `jet` comes from `place_jet`, `systole` is the contraction, 0 to 1.
        """
        along, endless = jet
        length = self.physical["jet"] * np.sqrt(systole)
        return endless & (along < length)


def bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of the smallest box around the True pixels. An empty mask gives an empty box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def finish(luma: np.ndarray, area: Sector, overlay: np.ndarray, mean: float, spread: float) -> None:
    """Finish the luma of the frames of a clip, in place.

    Args:
        luma: (F, H, W) uint8, grey levels and speckle with DARK_GRAIN added. Inside the sector they are rescaled to a
            mean and a standard deviation.
        area: Sector of the frame size.
        overlay: (H, W) uint8, the pixels outside the sector.
        mean: Wanted mean inside the sector.
        spread: Wanted standard deviation inside the sector.
    """
    # `take` gives rows that lie together in memory. Sums over other rows would round differently.
    samples = luma.reshape(len(luma), -1).take(area.sample, axis=1).astype(np.float32) - np.float32(DARK_GRAIN)
    gains, offsets = rescaling(samples, mean, spread)
    levels = np.arange(-DARK_GRAIN, 256 - DARK_GRAIN, dtype=np.int16)
    tables = np.clip(levels * gains + offsets, DARKEST, 255).astype(np.uint8)
    outside = ~area.inside
    for frame, table in zip(luma, tables, strict=True):
        cv2.LUT(frame, table, dst=frame)
        np.copyto(frame, overlay, where=outside)


def rescaling(inside: np.ndarray, mean: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Find gain and offset so that `inside` * gain + offset has a given mean and spread after clipping at DARKEST.

    Clipping changes mean and spread, more so with large dark cavities. The steps are repeated, because otherwise the
    brightness of a frame would tell the size of the cavities.

    Args:
        inside: (F, n) float32, grey levels inside the sector of each frame.
        mean: Wanted mean.
        spread: Wanted standard deviation.

    Returns:
        Gain and offset of each frame, (F, 1) float32.
    """
    gain, offset = np.ones((len(inside), 1), np.float32), np.zeros((len(inside), 1), np.float32)
    for _ in range(6):
        shown = np.clip(inside * gain + offset, DARKEST, 255)
        middle = shown.mean(axis=1, keepdims=True)
        ratio = np.float32(spread) / np.std(shown, axis=1, keepdims=True, mean=middle)
        gain, offset = gain * ratio, (offset - middle) * ratio + np.float32(mean)
    return gain, offset


def colour(blue: np.ndarray, red: np.ndarray, jet: np.ndarray, area: Sector, rng: np.random.Generator) -> None:
    """Paint the pixels of a jet into the chroma planes of one frame, in place, as a mosaic of two colours.

    `blue` and `red` are (H, W // 2), `jet` is (H, W) bool. Pixels outside the sector `area` stay grey.
    """
    pixels = (jet & area.inside)[:, ::2][:, : red.shape[1]]
    towards = rng.random(pixels.shape) < 0.7  # mosaic of aliased colours
    red[pixels] = np.where(towards, 205, 100)[pixels]
    blue[pixels] = np.where(towards, 95, 205)[pixels]


@lru_cache(maxsize=4)
def font(height: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Load the default font of Pillow, about a twentieth of `height` pixels high."""
    return ImageFont.load_default(size=max(7, height // 20))


def burned_in(height: int, width: int, heart_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Draw what an echo machine prints outside the sector: text in the corners, an ECG strip at the bottom.

    `height` and `width` are the size of the frame in pixels, `heart_rate` is in beats per minute.

    Returns:
        (H, W) uint8, 0 where nothing is printed.
    """
    image = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(image)
    lines = ("SYNTHETIC", f"{rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}", f"FR {rng.integers(28, 60)}Hz")
    for k, line in enumerate(lines):
        pen.text((0.02 * width, (0.02 + 0.06 * k) * height), line, fill=190, font=font(height))
    pen.text((0.80 * width, 0.02 * height), f"HR {heart_rate:.0f}", fill=190, font=font(height))
    time = np.linspace(0, CLIP_SECONDS * 2, width)
    beat = (time * heart_rate / 60 + rng.random()) % 1.0
    trace = np.exp(-0.5 * ((beat - 0.3) / 0.012) ** 2) + 0.25 * np.exp(-0.5 * ((beat - 0.55) / 0.05) ** 2)
    rows = height * (0.975 - 0.06 * trace)
    pen.line(list(zip(range(width), rows.tolist(), strict=True)), fill=150, width=1)
    return np.asarray(image)
