"""Parts of an input that a training step hides: pieces of ECG leads, regions of echo clips.

They are hidden as maps by occlusion hide them (`explanation/units.py`): a piece of one lead becomes a flat line, a
region gets the mean colour in all frames. A model that never saw such inputs may react to the look of a hidden part
(`docs/decisions/248-parts-hidden-in-training.md`). Pieces are 300 ms long. There are 8 x 8 regions, as in the small
models; explanations of the paper's size hide 7 x 7.
"""

import numpy as np

PIECE_SECONDS = 0.3
"""Length of a piece of one lead: a patch of ST-MEM."""
REGIONS = 8
"""Rows and columns of regions of a clip."""


def hide_pieces(values: np.ndarray, rate: float, largest_share: float, generator: np.random.Generator) -> None:
    """Hide pieces of an ECG, in place: zero, the mean of the standardised leads.

    Args:
        values: (12, samples) standardised leads.
        rate: samples a second.
        largest_share: the share of hidden pieces is drawn between 0 and this.
        generator: source of the random numbers.
    """
    samples = round(PIECE_SECONDS * rate)
    pieces = -(-values.shape[1] // samples)
    hidden = generator.random((len(values), pieces)) < generator.random() * largest_share
    values[np.repeat(hidden, samples, axis=1)[:, : values.shape[1]]] = 0


def hide_regions(clip: np.ndarray, largest_share: float, generator: np.random.Generator) -> None:
    """Hide regions of a normalised clip in all frames, in place: zero, the mean colour.

    Args:
        clip: (frames, 3, height, width) normalised pixels.
        largest_share: the share of hidden regions is drawn between 0 and this.
        generator: source of the random numbers.
    """
    height, width = clip.shape[2:]
    hidden = generator.random((REGIONS, REGIONS)) < generator.random() * largest_share
    rows, columns = np.arange(height) * REGIONS // height, np.arange(width) * REGIONS // width
    clip[:, :, hidden[np.ix_(rows, columns)]] = 0
