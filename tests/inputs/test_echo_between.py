"""The sector mask looks at the frames between, and JPEG components are those of Pillow."""

import io

import numpy as np
import pydicom
import pytest
from input_files import as_ycbcr, make_frames, to_jpeg, write_echo_dicom
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGBaseline8Bit, RLELossless

from tgmm_hf.inputs import echo_decoders
from tgmm_hf.inputs.echo_between import brightness_range, indices_between, range_of_array
from tgmm_hf.inputs.echo_brightness import ClipBrightness, shrunk
from tgmm_hf.inputs.echo_reading import clip_from_array, read_echo_clip
from tgmm_hf.inputs.image_processing_echo import sector_of_clip


@pytest.mark.parametrize(
    ("total", "num_frames", "stride", "expected"),
    [(40, 4, 2, [1, 3, 5]), (4, 4, 2, [1, 3]), (40, 3, 4, [2, 6]), (40, 4, 1, []), (2, 16, 2, [1])],
)
def test_frames_between_lie_halfway(total, num_frames, stride, expected):
    assert list(indices_between(total, num_frames, stride)) == expected


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_a_file_and_an_array_look_at_the_same_frames(tmp_path, syntax):
    frames = make_frames()
    path = write_echo_dicom(tmp_path / "a.dcm", frames, *([syntax] if syntax else []))
    expected = range_of_array(frames, 16, 2)
    assert np.array_equal(read_echo_clip(path).between, expected)
    assert np.array_equal(clip_from_array(frames).between, expected)


def test_what_is_lit_between_the_frames_belongs_to_the_sector():
    frames = np.random.default_rng(0).integers(30, 200, (33, 96, 128, 1), dtype=np.uint8).repeat(3, axis=-1)
    frames[::2, :, 80:] = 0
    clip = clip_from_array(frames)
    assert sector_of_clip(clip)[48, 110]
    clip.between = None
    assert not sector_of_clip(clip)[48, 110]


def test_a_damaged_frame_between_is_left_out(tmp_path):
    grey = make_frames()[..., 0]
    jpegs = [to_jpeg(frame, "L") for frame in grey]
    path = write_echo_dicom(tmp_path / "a.dcm", grey, JPEGBaseline8Bit, "MONOCHROME2", jpegs)
    whole = read_echo_clip(path)
    dataset = pydicom.dcmread(path)
    streams = list(generate_frames(dataset.PixelData, number_of_frames=len(grey)))
    streams[3] = streams[3][: len(streams[3]) // 2]
    dataset.PixelData = encapsulate(streams)
    dataset.save_as(path)
    damaged = read_echo_clip(path)
    others = [np.asarray(Image.open(io.BytesIO(jpegs[index]))) for index in indices_between(40, 16, 2) if index != 3]
    assert np.array_equal(damaged.frames, whole.frames)
    assert np.array_equal(damaged.between, brightness_range(others))


@pytest.mark.parametrize("kind", ["no marker", "JFIF", "Adobe RGB", "420", "grey"])
def test_components_are_those_of_pillow(monkeypatch, kind):
    rgb = make_frames()[0]
    buffer = io.BytesIO()
    picture = Image.fromarray(as_ycbcr(rgb[None])[0], mode="YCbCr") if kind != "Adobe RGB" else Image.fromarray(rgb)
    picture = Image.fromarray(rgb[..., 0]) if kind == "grey" else picture
    options = {"keep_rgb": True} if kind == "Adobe RGB" else {"subsampling": 2} if kind == "420" else {}
    picture.save(buffer, "JPEG", quality=90, **options)
    data = buffer.getvalue()
    if kind == "no marker":
        data = data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]
    expected, space = echo_decoders.decode_jpeg(data, rgb.shape[:2])
    decoded = np.empty_like(expected)
    assert echo_decoders._decode_as_stored(data, space, decoded)
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("shape", [(3, 480, 640), (2, 100, 130), (2, 50, 60)])
def test_figures_of_brightness_are_those_of_plain_numpy(shape):
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    clip, step = ClipBrightness(grey), max(1, shape[1] // 96)
    height, width = shape[1] // step, shape[2] // step
    blocks = grey[:, : height * step, : width * step].astype(np.float32).reshape(-1, height, step, width, step)
    assert np.array_equal(shrunk(grey), blocks.mean(axis=(2, 4)))
    assert clip.share(25) == (grey > 24).mean() and clip.share(0, 40) == (grey <= 40).mean()
    moved = (np.abs(grey.astype(int) - grey[0]) >= 2).any(axis=0)
    assert np.array_equal(clip.moved, moved) and np.array_equal(clip.ever_lit, (grey > 8).any(axis=0))
