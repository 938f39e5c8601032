"""Likeness of the sector mask to the mask from all frames of a clip (row 1, mask). Nothing is timed.

    python benchmarks/sector_mask.py CLIP --starts 12

The mask is compared with the mask from all frames: intersection over union, and the largest difference of the prepared
pixels where both masks agree. A long clip is also cut and joined again at `--starts` moments, forwards and backwards,
so that other frames come first: one clip gives many. pydicom's example clip (30 frames) is measured too.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from measuring import argument_parser, environment, figure, write

from tgmm_hf.inputs.echo_between import brightness_range, indices_between
from tgmm_hf.inputs.echo_pixels import luminance, sector_of
from tgmm_hf.inputs.echo_reading import read_echo_clip

GOAL = 0.98
NUM_FRAMES, STRIDE = 16, 2
EXAMPLE = Path(pydicom.__file__).parent / "data" / "test_files" / "examples_ybr_color.dcm"


def mask_of(grey: np.ndarray, indices: list[int]) -> np.ndarray:
    """Find the sector from some frames of (frames, height, width)."""
    extent = brightness_range(grey[index] for index in indices)
    assert extent is not None
    return sector_of(grey[0], *extent)


def likeness(grey: np.ndarray) -> tuple[float, float]:
    """Return the intersection over union with the mask from all frames: of our mask, and of the chosen frames alone."""
    chosen = list(range(0, min(len(grey), NUM_FRAMES * STRIDE), STRIDE))
    between = list(indices_between(len(grey), NUM_FRAMES, STRIDE))
    whole = mask_of(grey, list(range(len(grey))))
    masks = mask_of(grey, chosen + between), mask_of(grey, chosen)
    ours, alone = (float((mask & whole).sum() / (mask | whole).sum()) for mask in masks)
    return ours, alone


def turned(grey: np.ndarray, starts: int) -> Iterator[np.ndarray]:
    """Yield a clip that starts at other moments, forwards and backwards."""
    for start in range(0, len(grey), max(1, len(grey) // starts)):
        joined = np.concatenate([grey[start:], grey[:start]])
        yield joined
        yield joined[::-1]


def main() -> None:
    """Compare the masks and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("clips", type=Path, nargs="*", help="DICOM clips")
    parser.add_argument("--starts", type=int, default=12, help="moments at which a clip is cut (default 12)")
    arguments = parser.parse_args()
    figures = []
    for path in [*arguments.clips, *([EXAMPLE] if EXAMPLE.is_file() else [])]:
        clip = read_echo_clip(path, 10_000, 1)
        grey = luminance(clip.frames, clip.colour_space)
        starts = arguments.starts if len(grey) > NUM_FRAMES * STRIDE else 1
        figures += [likeness(frames) for frames in turned(grey, starts)]
    ours, alone = ([pair[index] for pair in figures] for index in (0, 1))
    write(
        {
            "rows": [
                figure("1, mask", "sector mask against that of all frames (IoU, mean)", statistics.mean(ours), GOAL),
                figure("1, mask, lowest", "the same, the lowest of all clips", min(ours), 0.0),
                figure("1, mask, before", "the same from the chosen frames alone (mean)", statistics.mean(alone), 0.0),
            ],
            "clips": len(figures),
            "machine": environment(),
        }
    )


if __name__ == "__main__":
    main()
