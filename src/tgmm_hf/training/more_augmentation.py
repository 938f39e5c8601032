"""Random changes of X-rays and ECGs in the training of MoRE, as published where they keep the meaning.

Left out: the horizontal flip of X-rays, because it puts the heart on the other side (decision 181). Changed: the
published code stretches and permutes parts of each lead on its own, which takes the leads apart. Here all leads change
alike.
"""

import cv2
import numpy as np

SMALLEST_AREA = 0.2
"""Smallest share of an X-ray that a random crop shows, as published."""
LARGEST_CHANGE = 0.4
"""Largest change of brightness and contrast, as a factor."""
BLUR_PIXELS = 23
"""Width of the Gaussian filter."""
SEGMENTS = 4
"""Parts of an ECG that are stretched, shrunk or permuted."""
STRETCH = 0.25
"""Share by which a part is stretched or shrunk."""


def check_smallest_area(smallest_area: float) -> None:
    """Raise a ValueError if the setting `data.smallest_area` has a value that it cannot have."""
    if not 0 < smallest_area <= 1:
        raise ValueError(f"data.smallest_area must be above 0 and at most 1, got {smallest_area}.")


def augment_xray(grey: np.ndarray, generator: np.random.Generator, smallest_area: float = SMALLEST_AREA) -> np.ndarray:
    """Crop (80 %), change brightness and contrast (80 %), and blur (50 %).

    Args:
        grey: (size, size) uint8.
        generator: Source of randomness.
        smallest_area: Smallest share of the picture that a crop shows; 1 for no crop.

    Returns:
        (size, size) uint8.
    """
    size = len(grey)
    if smallest_area < 1 and generator.random() < 0.8:
        area, ratio = generator.uniform(smallest_area, 1), np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        height, width = (max(8, min(size, round(size * np.sqrt(area * factor)))) for factor in (1 / ratio, ratio))
        top, left = int(generator.integers(size - height + 1)), int(generator.integers(size - width + 1))
        grey = cv2.resize(grey[top : top + height, left : left + width], (size, size), interpolation=cv2.INTER_LINEAR)
    if generator.random() < 0.8:
        brightness, contrast = generator.uniform(1 - LARGEST_CHANGE, 1 + LARGEST_CHANGE, 2)
        values = grey.astype(np.float32) * brightness
        grey = np.clip((values - values.mean()) * contrast + values.mean(), 0, 255).astype(np.uint8)
    if generator.random() < 0.5:
        grey = cv2.GaussianBlur(grey, (BLUR_PIXELS, BLUR_PIXELS), float(generator.uniform(0.1, 2)))
    return grey


def augment_ecg(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Do one of three: stretch half of the parts in time and shrink the other half, permute the parts, change nothing.

    Args:
        values: (leads, samples).
        generator: Source of randomness.

    Returns:
        The same shape.
    """
    kind = int(generator.integers(3))
    if kind == 0:
        return values
    parts = np.array_split(values, SEGMENTS, axis=1)
    order = generator.permutation(SEGMENTS)
    if kind == 1:
        return np.concatenate([parts[index] for index in order], axis=1)
    stretched = set(order[: SEGMENTS // 2].tolist())
    factors = [1 + STRETCH if index in stretched else 1 - STRETCH for index in range(SEGMENTS)]
    warped = [_resampled(part, round(part.shape[1] * factor)) for part, factor in zip(parts, factors, strict=True)]
    return _resampled(np.concatenate(warped, axis=1), values.shape[1])


def _resampled(values: np.ndarray, samples: int) -> np.ndarray:
    """Interpolate (leads, n) linearly to (leads, `samples`)."""
    places = np.linspace(0, values.shape[1] - 1, samples)
    return np.stack([np.interp(places, np.arange(values.shape[1]), lead) for lead in values]).astype(values.dtype)
