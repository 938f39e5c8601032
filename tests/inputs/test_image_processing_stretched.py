"""Frames for encoders that were trained on whole frames, stretched to a square, against the steps written out."""

import cv2
import numpy as np
import pytest
from input_files import make_clip, write_clip

from tgmm_hf import EchoJepaConfig, PanEchoConfig, StretchedEchoImageProcessor
from tgmm_hf.inputs.declared_preprocessing import declared_extractor

CLIP = make_clip(frames=40, height=120, width=180, seed=3, colour=True)
GREY = np.repeat(CLIP.max(axis=-1, keepdims=True), 3, axis=-1)
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def published(clip: np.ndarray, frames: list[int], order: str) -> np.ndarray:
    """Stretch, crop, scale to 0-1 and normalise (frames, height, width, 3) RGB -> (frames, 3, 224, 224).

    The constants are given to the channels as they come, in either order.
    """
    result = []
    for index in frames:
        frame = clip[index] if order == "RGB" else clip[index][..., ::-1]
        square = cv2.resize(np.ascontiguousarray(frame), (256, 256), interpolation=cv2.INTER_AREA)[16:240, 16:240]
        result.append(((square / 255 - MEAN) / DEVIATION).transpose(2, 0, 1))
    return np.stack(result)


@pytest.mark.parametrize(
    ("config", "frames", "order"),
    [(EchoJepaConfig(), list(range(0, 32, 2)), "RGB"), (PanEchoConfig(), list(range(16)), "BGR")],
    ids=["EchoJEPA", "PanEcho"],
)
def test_values_are_those_of_the_published_steps(config, frames, order):
    processor = declared_extractor(config)
    assert isinstance(processor, StretchedEchoImageProcessor)
    features = processor({"A4C": CLIP})
    slot = int(np.flatnonzero(features["view_mask"][0])[0])
    values = features["pixel_values_videos"][0, slot]
    expected = published(CLIP, frames, order)
    assert values.shape == expected.shape == (16, 3, 224, 224)
    # colours go through OpenCV's YUV, which rounds to whole numbers and cuts off strong colours
    assert np.abs(values - expected).mean() < 0.01
    assert np.abs(values - expected[:, ::-1]).mean() > 0.05  # the other order is not the same
    grey = processor({"A4C": GREY})["pixel_values_videos"][0, slot]
    np.testing.assert_allclose(grey, published(GREY, frames, order), atol=0.05)


def test_a_short_clip_repeats_its_last_frame():
    processor = StretchedEchoImageProcessor(size=32, resize_size=36, num_frames=8, frame_stride=2)
    prepared = processor.prepare_clip(CLIP[:6])
    assert prepared.num_real == 3 and prepared.frames.shape == (8, 32, 32, 3)
    assert all((prepared.frames[index] == prepared.frames[2]).all() for index in range(3, 8))
    values = processor({"A4C": CLIP[:6]})["pixel_values_videos"][0]
    slot = int(np.flatnonzero(np.abs(values).sum((1, 2, 3, 4)))[0])
    assert np.array_equal(values[slot, 7], values[slot, 2]) and np.abs(values[slot, 7]).max() > 0


def test_the_sector_is_masked_only_where_it_is_asked_for():
    text = CLIP[:, :12]
    assert text.max() > 0
    for mask_sector in (False, True):
        squares = StretchedEchoImageProcessor(mask_sector=mask_sector).masked_squares(CLIP)
        assert squares[0].shape == (120, 180, 3)
        assert (np.stack(squares)[:, :12].max() == 0) == mask_sector
    # a picture for a report never shows the text, which may name the patient
    assert StretchedEchoImageProcessor().masked_frames(CLIP)[:, :20].max() == 0


def test_a_view_classifier_sees_what_echoprime_s_was_trained_on(tmp_path):
    from tgmm_hf import EchoImageProcessor

    write_clip(tmp_path / "clip.dcm", CLIP)
    seen = []

    def classifier(frames):
        seen.append(np.asarray(frames))
        return np.eye(11)[[2] * len(frames)]

    ours = EchoImageProcessor(size=48, num_frames=4)
    other = StretchedEchoImageProcessor(
        size=48, resize_size=54, num_frames=4, image_mean=ours.image_mean, image_std=ours.image_std
    )
    for processor in (ours, other):
        study = processor.prepare_study(tmp_path, view_classifier=classifier)
        assert len(study.clips) == 1
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-5)


def test_settings_are_saved_and_checked(tmp_path):
    processor = StretchedEchoImageProcessor(size=32, resize_size=40, num_frames=4, channel_order="BGR", frame_stride=3)
    processor.save_pretrained(tmp_path)
    again = StretchedEchoImageProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict() and again.zoom == processor.zoom == pytest.approx(0.1)
    with pytest.raises(ValueError, match="resize_size is 20, smaller than size 32"):
        StretchedEchoImageProcessor(size=32, resize_size=20)
    with pytest.raises(ValueError, match="channel_order is 'GRB'"):
        StretchedEchoImageProcessor(channel_order="GRB")
    with pytest.raises(ValueError, match="expected uint8"):
        processor.normalise(np.zeros((4, 32, 32, 3)))
