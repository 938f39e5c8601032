"""Make clips that show the wrong thing out of good ones, for `measure_echo_checks.py`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from echo_file_faults import FRAMES, Fault, region, write, ycbcr
from pydicom.uid import JPEGBaseline8Bit
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates, maximum_filter

from tgmm_hf.inputs.echo_brightness import GLIMMER, ClipBrightness


def content_faults() -> Iterator[Fault]:
    """Yield clips that show nothing, or the wrong thing."""
    noise = np.random.default_rng(0)
    yield Fault("black", lambda p, f: write(p, np.zeros_like(f)))
    yield Fault("white", lambda p, f: write(p, np.full_like(f, 255)))
    yield Fault("one grey", lambda p, f: write(p, np.full_like(f, 90)))
    yield Fault("gain nearly zero (brightness / 16)", lambda p, f: write(p, f // 16))
    yield Fault("only a corner with text", lambda p, f: write(p, corner(f)))
    yield Fault("frozen", lambda p, f: write(p, np.repeat(f[:1], len(f), axis=0)))
    yield Fault("frozen, the lowest rows run", lambda p, f: write(p, strip(f)))
    yield Fault(
        "half of the frames frozen",
        lambda p, f: write(p, np.concatenate([f[:1].repeat(len(f) // 2, 0), f[len(f) // 2 :]])),
    )
    yield Fault("white noise", lambda p, f: write(p, noise.integers(0, 256, f.shape, dtype=np.uint8)))
    yield Fault("pixels shuffled", lambda p, f: write(p, shuffled(f)))
    yield Fault("1 x 1 pixels", lambda p, f: write(p, np.ascontiguousarray(f[:, :1, :1])))
    for name, make in sector_patterns().items():
        yield Fault(f"{name}, inside the sector", lambda p, f, m=make: write(p, in_sector(f, m)))
    for name, make in drawn_pictures().items():
        yield Fault(name, lambda p, f, m=make: write(p, whole_picture(f, m)))
    yield Fault("frozen sector beside something that moves", lambda p, f: write(p, beside(f)))
    yield Fault("header names spectral Doppler only", lambda p, f: write(p, f, SequenceOfUltrasoundRegions=[region(3)]))
    for modality in ("MR", "CT", "OT", "XA"):
        yield Fault(f"modality {modality}", lambda p, f, m=modality: write(p, f, Modality=m))
    yield Fault("mirrored", lambda p, f: write(p, np.ascontiguousarray(f[:, :, ::-1])), is_known_gap=True)
    yield Fault("red and blue exchanged", lambda p, f: write(p, np.ascontiguousarray(f[..., ::-1])), is_known_gap=True)
    yield Fault("brightness inverted", lambda p, f: write(p, 255 - f))
    for factor in (2, 3):
        yield Fault(
            f"brightness x {factor}",
            lambda p, f, m=factor: write(p, np.minimum(f.astype(int) * m, 255).astype("u1")),
            is_known_gap=factor == 2,  # a high gain looks alike
        )
    yield Fault("brightness + 80", lambda p, f: write(p, np.minimum(f.astype(int) + 80, 255).astype("u1")))
    yield Fault(
        "thresholded", lambda p, f: write(p, np.where(f.max(-1, keepdims=True) > 60, 255, 0).repeat(3, -1).astype("u1"))
    )


def shape_faults() -> Iterator[Fault]:
    """Yield pictures that are turned, cut, small, double or joined."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "upside down": lambda f: f[:, ::-1],
        "turned by 90 degrees to the left": lambda f: np.rot90(f, 1, (1, 2)),
        "turned by 90 degrees to the right": lambda f: np.rot90(f, -1, (1, 2)),
        "left half dark": lambda f: f * (np.arange(f.shape[2]) >= f.shape[2] // 2)[:, None],
        "right half dark": lambda f: f * (np.arange(f.shape[2]) < f.shape[2] // 2)[:, None],
        "right half cut off": lambda f: f[:, :, : f.shape[2] // 4 * 2],
        "upper half dark": lambda f: f * (np.arange(f.shape[1]) >= f.shape[1] // 2)[:, None, None],
        "lower half dark": lambda f: f * (np.arange(f.shape[1]) < f.shape[1] // 2)[:, None, None],
        "a third of the size, in a corner": in_corner,
    }
    for name, change in changes.items():
        is_gap = name == "lower half dark"  # the upper half of a sector is a sector
        yield Fault(name, lambda p, f, m=change: write(p, np.ascontiguousarray(m(f))), is_known_gap=is_gap)
    for name, join in joins().items():
        yield Fault(name, WithEarlierClip(join), is_known_gap="cut after" not in name)
    yield Fault("two views beside each other", WithEarlierClip(lambda one, two: np.concatenate([one, two], axis=2)))
    for name, lay in screens().items():
        yield Fault(name, WithEarlierClip(lay))
    yield Fault(
        "two views, one after the other", WithEarlierClip(lambda one, two: np.concatenate([one[:16], two[16:]]))
    )


Join = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Makes one clip of two that are equally large."""


def joins() -> dict[str, Join]:
    """List ways to join two clips."""
    joined: dict[str, Join] = {
        f"two views, cut after {first} of {FRAMES} frames": lambda one, two, n=first: np.concatenate([one[:n], two[n:]])
        for first in (8, 12, 20, 24)
    }
    joined["two views in turn, frame by frame"] = lambda one, two: in_turn(one, two, 1)
    joined["two views in turn, in blocks of 4 frames"] = lambda one, two: in_turn(one, two, 4)
    joined["left half of one clip, right half of another"] = lambda one, two: np.concatenate(
        [one[:, :, : one.shape[2] // 2], two[:, :, one.shape[2] // 2 :]], axis=2
    )
    joined["two views, the mean of both"] = lambda one, two: ((one.astype(int) + two) // 2).astype(np.uint8)
    return joined


def screens() -> dict[str, Join]:
    """List screens that show two pictures, as a scanner compares them: each is made smaller, in a black frame."""

    def half(frames: np.ndarray) -> np.ndarray:
        return frames[:, ::2, ::2]

    def with_margins(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        joined = np.concatenate([half(one), half(two)], axis=2)
        rows = one.shape[1] - joined.shape[1]
        return np.pad(joined, ((0, 0), (rows // 2, rows - rows // 2), (0, 0), (0, 0)))

    return {
        "compare screen, two views": with_margins,
        "compare screen, one clip twice": lambda one, two: with_margins(one, one),
        "compare screen, the second picture frozen": lambda one, two: with_margins(one, two[:1].repeat(len(two), 0)),
        "two views above each other": lambda one, two: np.pad(
            np.concatenate([half(one), half(two)], axis=1),
            ((0, 0), (0, 0), (one.shape[2] // 4, one.shape[2] // 4), (0, 0)),
        ),
        "a small second view at one side": lambda one, two: np.concatenate(
            [one, np.pad(half(two), ((0, 0), (0, one.shape[1] - half(two).shape[1]), (0, 0), (0, 0)))], axis=2
        ),
    }


def in_turn(one: np.ndarray, two: np.ndarray, size: int) -> np.ndarray:
    """Take blocks of `size` frames from two clips in turn."""
    is_other = (np.arange(len(one)) // size % 2 == 1)[:, None, None, None]
    return np.where(is_other, two, one)


def still_faults() -> Iterator[Fault]:
    """Yield still pictures that seem to move."""
    changes: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "grows brighter": lambda picture, index: picture * (0.7 + 0.009 * index),
        "waves in brightness": lambda picture, index: picture * (0.8 + 0.2 * np.sin(index / 3)),
        "zooms": lambda picture, index: placed(picture, 1 + 0.003 * index, 0, 0),
        "zooms in and out": lambda picture, index: placed(picture, 1 + 0.04 * np.sin(index / 4), 0, 0),
        "pans": lambda picture, index: placed(picture, 1, 0.3 * index, 0.2 * index),
        "waves like a flag": waved,
        "has other noise in each frame": lambda picture, index: (
            picture + np.random.default_rng(index).normal(0, 3, (*picture.shape[:2], 1))
        ),
    }
    for name, change in changes.items():
        is_gap = "flag" in name  # tissue bends too
        yield Fault(
            f"a still picture that {name}", lambda p, f, m=change: write(p, of_still(f, m)), is_known_gap=is_gap
        )


def of_still(frames: np.ndarray, change: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """Change the first frame in each frame; `change` gets it as float, and the number of the frame."""
    made = [change(0.8 * frames[0].astype(float), index) for index in range(len(frames))]
    return np.clip(np.round(made), 0, 255).astype(np.uint8)


def placed(picture: np.ndarray, scale: float, down: float, right: float) -> np.ndarray:
    """Scale a picture (height, width, 3) about its middle and move it by pixels."""
    middle = (np.array(picture.shape[:2]) - 1) / 2
    shift = middle - middle / scale - np.array([down, right]) / scale
    planes = [affine_transform(plane, [1 / scale] * 2, offset=shift, order=1) for plane in np.moveaxis(picture, -1, 0)]
    return np.stack(planes, axis=-1)


def waved(picture: np.ndarray, index: int) -> np.ndarray:
    """Move the rows of a picture (height, width, 3) to the sides by a wave that runs downwards."""
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(float)
    moved = columns + picture.shape[1] / 100 * np.sin(2 * np.pi * (2 * rows / picture.shape[0] - index / 16))
    planes = [map_coordinates(plane, [rows, moved], order=1) for plane in np.moveaxis(picture, -1, 0)]
    return np.stack(planes, axis=-1)


def harmless_changes() -> Iterator[Fault]:
    """Yield clips that a hospital may export: beside the picture lie bars or a panel. Black bars are the reference."""
    changes: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "bars at the left and right": lambda f, value: with_bars(f, f.shape[2] // 6, 0, value),
        "bars above and below": lambda f, value: with_bars(f, 0, f.shape[1] // 6, value),
        "bars on all sides": lambda f, value: with_bars(f, f.shape[2] // 8, f.shape[1] // 8, value),
        "a panel at one side": lambda f, value: with_bars(f, f.shape[2] // 3, 0, value)[:, :, f.shape[2] // 3 :],
        "a panel with text at one side": lambda f, value: with_text(
            with_bars(f, f.shape[2] // 3, 0, value)[:, :, f.shape[2] // 3 :]
        ),
    }
    for name, change in changes.items():
        for value, colour in ((30, "dark grey"), (90, "grey"), (255, "white")):
            yield Fault(
                f"{name}, {colour}", lambda p, f, m=change, v=value: write(p, m(f, v)), same_as=with_black(change)
            )
        yield Fault(
            f"{name}, grey, JPEG",
            lambda p, f, m=change: write(p, ycbcr(m(f, 90)), "YBR_FULL", JPEGBaseline8Bit),
            same_as=with_black(change, JPEGBaseline8Bit),
        )


def with_black(change: Callable[[np.ndarray, int], np.ndarray], syntax: str = "") -> Callable[[Path, np.ndarray], None]:
    """Return a function that writes a clip with black bars in the same places, as JPEG if `syntax` is given."""
    if syntax:
        return lambda path, frames: write(path, ycbcr(change(frames, 0)), "YBR_FULL", syntax)
    return lambda path, frames: write(path, change(frames, 0))


def with_bars(frames: np.ndarray, sides: int, ends: int, value: int) -> np.ndarray:
    """Add bars of a grey value at the sides, and above and below, that many pixels wide."""
    margins = ((0, 0), (ends, ends), (sides, sides), (0, 0))
    return np.pad(frames, margins, constant_values=value)


def with_text(frames: np.ndarray) -> np.ndarray:
    """Write lines that look like text at the right edge."""
    out, rows = frames.copy(), np.arange(frames.shape[1])
    width = frames.shape[2] // 5
    letters = np.random.default_rng(0).random((frames.shape[1], width)) < 0.25
    out[:, :, -width:][:, letters & (rows % 16 < 6)[:, None]] = 230
    return out


def in_corner(frames: np.ndarray) -> np.ndarray:
    """Shrink the picture to a third, in the upper right corner of a black frame."""
    out, small = np.zeros_like(frames), frames[:, ::3, ::3]
    out[:, : small.shape[1], -small.shape[2] :] = small
    return out


class WithEarlierClip:
    """Writes a clip together with the clip before it, or with its mirror image where the sizes differ."""

    def __init__(self, join: Callable[[np.ndarray, np.ndarray], np.ndarray]):
        self.join = join
        self.earlier = np.zeros(0)

    def __call__(self, path: Path, frames: np.ndarray) -> None:
        """Write the joined clip to a path."""
        other = self.earlier if self.earlier.shape == frames.shape else np.roll(frames[:, :, ::-1], 9, axis=1)
        self.earlier = frames
        write(path, np.ascontiguousarray(self.join(frames, other)))


Pattern = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""Draws a frame from its number, its rows and its columns (height, width)."""


def sector_patterns() -> dict[str, Pattern]:
    """List drawn patterns and noise that are no ultrasound."""
    random_numbers = np.random.default_rng(0)
    return {
        "white noise": lambda index, rows, columns: random_numbers.integers(0, 256, rows.shape),
        "blurred noise": lambda index, rows, columns: (
            120 + 300 * gaussian_filter(random_numbers.normal(size=rows.shape), 2)
        ),
        "noise that stands still": lambda index, rows, columns: (
            np.random.default_rng(1).integers(20, 220, rows.shape) + 4 * (index % 3)
        ),
        "a ramp that moves": lambda index, rows, columns: (columns + 6 * index) % 256,
        "waves that move": lambda index, rows, columns: 128 + 80 * np.sin(columns / 15 + index / 3),
    }


def drawn_pictures() -> dict[str, Pattern]:
    """List pictures of something else than a heart that fill the frame."""
    noise = np.random.default_rng(2)
    strip = np.abs(gaussian_filter(noise.normal(size=(500, 1500)), (2, 1)))
    spots = gaussian_filter(noise.normal(size=(40, 400, 400)), (3, 6, 6))

    def doppler(index: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        shifted = columns + 3 * index
        envelope = 0.15 + 0.7 * np.abs(np.sin(shifted / 30))
        height = rows.shape[0]
        return np.where(rows > height * (1 - envelope), 60 + 700 * strip[rows % 500, shifted % 1500], 2)

    def slices(index: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        height, width = rows.shape
        inside = ((rows - height / 2) / (0.42 * height)) ** 2 + ((columns - width / 2) / (0.42 * width)) ** 2 < 1
        organs = 110 + 40 * np.tanh(200 * spots[index % 40, rows % 400, columns % 400])
        return np.where(inside, organs + noise.normal(0, 8, rows.shape), 0)

    def letters(index: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.where(((rows // 4 + index) % 5 < 2) & (((columns + 3 * index) // 3 % 7) % 3 == 0), 255, 0)

    return {
        "bars that move": lambda index, rows, columns: 60 + 120 * ((columns + 5 * index) // 24 % 2),
        "text that moves": letters,
        "spectral Doppler that scrolls": doppler,
        "slices of a body, as in CT": slices,
    }


def whole_picture(frames: np.ndarray, make: Pattern) -> np.ndarray:
    """Draw a picture over whole frames."""
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]]
    grey = np.stack([np.clip(make(index, rows, columns), 0, 255) for index in range(len(frames))]).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def beside(frames: np.ndarray) -> np.ndarray:
    """Freeze the picture, with a disc of noise that pulsates in the right quarter."""
    out = frames[:1].repeat(len(frames), axis=0)
    height, width = frames.shape[1:3]
    rows, columns = np.mgrid[:height, :width]
    random_numbers = np.random.default_rng(0)
    for index, frame in enumerate(out):
        size = 0.09 * height * (1.3 + np.sin(index / 3))
        disc = np.hypot(rows - height / 5, columns - 0.88 * width) < size
        frame[disc] = random_numbers.integers(60, 200, (int(disc.sum()), 1))
    return out


def order_faults() -> Iterator[Fault]:
    """Yield clips whose frames or rows are mixed."""
    mixed, places = np.random.default_rng(0).permutation(FRAMES), np.arange(FRAMES)
    yield Fault("frames shuffled", lambda p, f: write(p, f[mixed[mixed < len(f)]]))
    orders = {
        "blocks of 4 frames shuffled": 4 * np.random.default_rng(1).permutation(FRAMES // 4)[places // 4] + places % 4,
        "blocks of 8 frames in another order": np.array([2, 0, 3, 1])[places // 8] * 8 + places % 8,
        "first the even, then the odd frames": np.concatenate([places[::2], places[1::2]]),
        "frames exchanged in pairs": places + 1 - 2 * (places % 2),
        "backwards": places[::-1],
        "second half first": np.roll(places, FRAMES // 2),
    }
    for name, order in orders.items():
        # A rare rhythm looks alike, and every second frame is read (decision 230).
        yield Fault(name, lambda p, f, o=order: write(p, f[o[o < len(f)]]), is_known_gap=True)
    yield Fault("fields of two moments", lambda p, f: write(p, fields(f, 6)))
    yield Fault("even and odd rows exchanged", lambda p, f: write(p, fields(f, 0)))
    yield Fault("RGB by row declared as by pixel", lambda p, f: write(p, f, PixelData=np.moveaxis(f, 3, 2).tobytes()))


def fields(frames: np.ndarray, later: int) -> np.ndarray:
    """Take the odd rows of a later frame; 0 exchanges even and odd rows."""
    out, height = frames.copy(), frames.shape[1] // 2 * 2
    if later:
        out[:, 1::2] = np.roll(frames, -later, axis=0)[:, 1::2]
    else:
        out[:, 0:height:2], out[:, 1:height:2] = frames[:, 1:height:2], frames[:, 0:height:2]
    return out


def in_sector(frames: np.ndarray, make: Pattern) -> np.ndarray:
    """Replace the sector, up to its rim, by a pattern."""
    grey = frames.max(axis=-1)
    area = maximum_filter(ClipBrightness(grey).thick_area, 21) & (grey > GLIMMER).any(axis=0)
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]]
    out = frames.copy()
    for index, frame in enumerate(out):
        frame[area] = np.clip(make(index, rows, columns), 0, 255).astype(np.uint8)[area][:, None]
    return out


def corner(frames: np.ndarray) -> np.ndarray:
    """Blacken all but a corner."""
    out = np.zeros_like(frames)
    out[:, 2:8, 2:10] = 200
    return out


def strip(frames: np.ndarray) -> np.ndarray:
    """Freeze all but the lowest rows, with a trace that runs there."""
    out, rows = frames[:1].repeat(len(frames), axis=0), max(4, frames.shape[1] // 12)
    out[:, -rows:] = 0
    for index in range(len(out)):
        columns = np.arange(frames.shape[2])
        out[index, -1 - (rows // 2 * (1 + np.sin((columns + 3 * index) / 6))).astype(int) % rows, columns] = (0, 255, 0)
    return out


def shuffled(frames: np.ndarray) -> np.ndarray:
    """Exchange pixels at random, in each frame alike."""
    order = np.random.default_rng(0).permutation(frames.shape[1] * frames.shape[2])
    return frames.reshape(len(frames), -1, 3)[:, order].reshape(frames.shape)
