"""Parts of an input that a training step hides: which shape they have, and how many there are."""

import numpy as np
import pytest

from tgmm_hf.data.hidden_parts import REGIONS, hide_pieces, hide_regions


def test_whole_pieces_of_single_leads_are_hidden():
    """A piece of 300 ms of one lead is hidden whole, in other leads at other times."""
    values = np.ones((12, 2250), np.float32)
    hide_pieces(values, 250.0, 0.9, np.random.default_rng(0))
    pieces = values.reshape(12, 30, 75)
    assert np.array_equal(pieces.min(2), pieces.max(2))
    assert not np.array_equal(values[0], values[1])
    assert set(np.unique(values)) == {0.0, 1.0}


def test_the_last_piece_may_be_shorter():
    """1,000 samples at 100 Hz have 33 pieces and one of ten samples."""
    values = np.ones((12, 1000), np.float32)
    hide_pieces(values, 100.0, 0.9, np.random.default_rng(1))
    assert np.array_equal(values[:, 990:].min(1), values[:, 990:].max(1))
    assert 0 < values.mean() < 1


@pytest.mark.parametrize("size", [64, 224, 50])
def test_whole_regions_are_hidden_in_all_frames_and_colours(size):
    """Frames and colours of a clip lose the same regions, also if the size is no multiple of their number."""
    clip = np.ones((4, 3, size, size), np.float32)
    hide_regions(clip, 0.9, np.random.default_rng(0))
    assert (clip == clip[0, 0]).all()
    edges = np.abs(np.diff(clip[0, 0], axis=0)).any(1).sum()
    assert 0 < edges <= REGIONS - 1


@pytest.mark.parametrize("largest", [0.0, 0.3, 0.6])
def test_the_mean_share_is_half_of_the_largest(largest):
    """The share of each input is even between 0 and the largest, so that whole inputs are seen too."""
    generator = np.random.default_rng(2)
    shares = []
    for _ in range(400):
        clip = np.ones((1, 3, 64, 64), np.float32)
        hide_regions(clip, largest, generator)
        shares.append(1 - clip.mean())
    assert np.mean(shares) == pytest.approx(largest / 2, abs=0.02)
    assert max(shares) <= largest + 0.2
