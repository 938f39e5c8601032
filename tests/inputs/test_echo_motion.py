"""Clips that move as no heart does, copies of a recording, and arrays whose axes are mixed: refused or named."""

import numpy as np
import pydicom
import pytest
from input_files import make_clip, write_clip
from scipy.ndimage import gaussian_filter

from tgmm_hf.inputs.echo_reading import clip_from_array, read_echo_clip
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.utils.errors import InputRefusedError


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """(40, 240, 320, 3) RGB: a moving sector whose speckle is a few pixels wide and stays from frame to frame."""
    rough = make_clip(40, 240, 320, colour=True)
    still = rough[:1].astype(float)
    return gaussian_filter(0.7 * still + 0.3 * rough, (0, 1.2, 1.2, 0)).round().astype(np.uint8)


def codes(frames: np.ndarray) -> list[str]:
    return [note["code"] for note in clip_from_array(frames).notes]


def test_a_good_clip_has_no_code(clip):
    assert codes(clip) == []


def test_frames_in_a_wrong_order_are_named(clip):
    order = np.random.default_rng(1).permutation(len(clip))
    assert codes(clip[order]) == ["frames_out_of_order"]


@pytest.mark.parametrize("kind", ["two moments", "exchanged"])
def test_mixed_fields_are_named(clip, kind):
    mixed = clip.copy()
    if kind == "two moments":
        mixed[:, 1::2] = make_clip(40, 240, 320, seed=5)[:, 1::2]
    else:
        mixed[:, 0::2], mixed[:, 1::2] = clip[:, 1::2], clip[:, 0::2]
    assert "fields_mixed" in codes(mixed)


def strip_that_scrolls() -> np.ndarray:
    wide = gaussian_filter(np.random.default_rng(0).uniform(0, 255, (240, 700)), 1.5)
    wide = np.clip((wide - 128) * 4 + 128, 9, 255).astype(np.uint8)
    return np.stack([np.repeat(wide[:, 5 * index : 5 * index + 320, None], 3, -1) for index in range(40)])


def test_a_strip_that_scrolls_is_named():
    assert codes(strip_that_scrolls()) == ["picture_slides"]


def test_bars_and_text_are_refused():
    bars = np.zeros((40, 240, 320, 3), np.uint8)
    for index, frame in enumerate(bars):
        frame[20:220, 10 + 3 * index : 60 + 3 * index] = 180
        frame[20:200, 200:240] = 90
    study = EchoImageProcessor(size=32).prepare_study({"A4C": bars})
    assert not study.clips and "flat" in study.refused[0]["reason"]


@pytest.mark.parametrize("beside", [True, False])
def test_a_frozen_sector_is_refused_or_named_whatever_else_moves(clip, beside):
    frozen = clip[:1].repeat(40, axis=0)
    place = (slice(10, 60), slice(270, 320)) if beside else (slice(100, 140), slice(140, 180))
    frozen[(slice(None), *place)] = make_clip(40, 240, 320, seed=3)[:, 100:150, 140:190][
        :, : place[0].stop - place[0].start, : place[1].stop - place[1].start
    ]
    study = EchoImageProcessor(size=32).prepare_study({"A4C": frozen})
    if beside:
        assert not study.clips and "do not change" in study.refused[0]["reason"]
    else:
        assert [check["code"] for check in study.checks] == ["mostly_still"]


MIXED = {
    "planes for pixels": lambda x: np.moveaxis(x, -1, 1).reshape(x.shape),
    "planes for rows": lambda x: np.moveaxis(x, 3, 2).reshape(x.shape),
    "planes of the volume": lambda x: np.moveaxis(x, -1, 0).reshape(x.shape),
    "YCbCr": lambda x: np.concatenate([x[..., :1], np.full_like(x[..., 1:], 128)], axis=-1),
    "two frames above each other": lambda x: x.reshape(20, 480, 320, 3),
    "complex": lambda x: x.astype(complex),
    "masked": lambda x: np.ma.masked_less(x, 20),
}


@pytest.mark.parametrize("kind", MIXED)
def test_arrays_of_other_axes_types_or_colours_are_refused(clip, kind):
    study = EchoImageProcessor(size=32).prepare_study({"A4C": MIXED[kind](clip)})
    assert not study.clips and study.refused


def test_a_cut_of_the_same_recording_under_two_views_is_named(clip):
    processor = EchoImageProcessor(size=64)
    other = gaussian_filter(make_clip(40, 240, 320, seed=9)[:, :, ::-1], (0, 1.2, 1.2, 0))
    for later in (1, 4, 5):
        study = processor.prepare_study({"A4C": clip[:34], "A2C": clip[later : 34 + later], "SSN": other})
        assert [check["code"] for check in study.checks] == ["same_clip"]


@pytest.mark.parametrize("kind", ["mirrored", "cropped"])
def test_a_mirrored_or_cropped_copy_under_another_view_is_named(clip, kind):
    changes = {
        "mirrored": lambda frames: np.ascontiguousarray(frames[:, :, ::-1]),
        "cropped": lambda frames: frames[:, 12:-12, 16:-16],
    }
    study = EchoImageProcessor(size=112).prepare_study({"A4C": clip[:34], "A2C": changes[kind](clip[:34])})
    assert "same_clip" in [check["code"] for check in study.checks]


def test_spectral_doppler_in_the_header_is_refused_alone_and_named_beside_a_picture(tmp_path, clip):
    path = write_clip(tmp_path / "a.dcm", clip)

    def read(*formats: int) -> list[str]:
        dataset = pydicom.dcmread(path)
        dataset.Modality, dataset.SequenceOfUltrasoundRegions = "US", []
        for number in formats:
            region = pydicom.Dataset()
            region.RegionSpatialFormat = number
            dataset.SequenceOfUltrasoundRegions.append(region)
        dataset.save_as(path)
        return [note["code"] for note in read_echo_clip(path).notes]

    assert read(1) == [] and read(1, 3) == ["other_traces"]
    for formats in ((3,), (2, 5)):
        with pytest.raises(InputRefusedError, match="no 2-D picture"):
            read(*formats)


def test_brightness_that_overflowed_is_named(clip):
    grey = np.repeat(clip[..., :1], 3, axis=-1).astype(int)
    assert codes(grey.astype(np.uint8)) == []
    assert "pixels_wrapped" in codes((2 * grey % 256).astype(np.uint8))
    assert "pixels_wrapped" not in codes(np.minimum(grey * 6 // 5, 255).astype(np.uint8))
