"""Clips that are turned, cut, small, double, oval, too bright, thresholded or joined: refused or named."""

import numpy as np
import pytest
from input_files import make_clip
from scipy.ndimage import gaussian_filter

from tgmm_hf.inputs.echo_brightness import ClipBrightness
from tgmm_hf.inputs.echo_reading import clip_from_array, list_echo_files, read_echo_clip
from tgmm_hf.inputs.echo_shape import convex_hull, outline
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor

HEIGHT, WIDTH = 240, 320


def sector(seed: int = 0) -> np.ndarray:
    """(40, 240, 320, 3) RGB: a moving sector whose speckle is a few pixels wide and stays from frame to frame."""
    rough = make_clip(40, HEIGHT, WIDTH, seed=seed)
    smooth = gaussian_filter(0.7 * rough[:1].astype(float) + 0.3 * rough, (0, 1.2, 1.2, 0))
    return smooth.round().astype(np.uint8)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return sector()


def codes(frames: np.ndarray) -> set[str]:
    return {note["code"] for note in clip_from_array(np.ascontiguousarray(frames)).notes}


def dark(frames: np.ndarray, columns: slice) -> np.ndarray:
    out = frames.copy()
    out[:, :, columns] = 0
    return out


TURNED = {
    "upside down": lambda x: x[:, ::-1],
    "to the left": lambda x: np.rot90(x, 1, (1, 2)),
    "to the right": lambda x: np.rot90(x, -1, (1, 2)),
    "left half dark": lambda x: dark(x, slice(0, WIDTH // 2)),
    "right half dark": lambda x: dark(x, slice(WIDTH // 2, None)),
    "left half only": lambda x: x[:, :, : WIDTH // 2],
}


def test_a_good_clip_has_no_code(clip):
    assert not codes(clip)


@pytest.mark.parametrize("kind", TURNED)
def test_a_sector_that_is_turned_or_cut_is_named(clip, kind):
    assert "sector_turned" in codes(TURNED[kind](clip))


def panel(frames: np.ndarray, value: int, text: bool = False) -> np.ndarray:
    """Put the clip between two bars of a grey value; with text on the right one."""
    wide = np.pad(frames, ((0, 0), (0, 0), (60, 60), (0, 0)), constant_values=value)
    letters = np.random.default_rng(0).random((HEIGHT, 40)) < 0.3
    if text:
        wide[:, :, -50:-10][:, letters & (np.arange(HEIGHT) % 16 < 6)[:, None]] = 230
    return wide


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("value", [30, 90, 255])
def test_grey_bars_beside_the_picture_are_no_fault_and_the_model_does_not_see_them(clip, value, text):
    processor, bars, black = EchoImageProcessor(size=64), panel(clip, value, text), panel(clip, 0)
    assert not codes(bars)
    study, reference = (processor.prepare_study({"A4C": frames}) for frames in (bars, black))
    assert not study.checks and not study.refused
    assert np.array_equal(study.clips["A4C"], reference.clips["A4C"])


def test_a_frozen_picture_between_bars_and_a_mere_drawing_are_refused(clip):
    frozen = panel(clip[:1].repeat(40, axis=0), 90, text=True)
    drawing = np.full_like(clip, 90)
    drawing[:, 50:150, 60:200] = 160
    drawing[:, 100:104, 100:104, :] = np.arange(40, dtype=np.uint8)[:, None, None, None]
    for frames in (frozen, drawing):
        assert not EchoImageProcessor(size=64).prepare_study({"A4C": frames}).clips


def test_a_small_picture_is_named(clip):
    frames = np.zeros_like(clip)
    frames[:, : HEIGHT // 3, -(WIDTH // 3 + 1) :] = clip[:, ::3, ::3]
    assert "picture_small" in codes(frames)


@pytest.mark.parametrize("is_squeezed", [False, True])
def test_two_views_beside_each_other_are_named(clip, is_squeezed):
    frames = np.concatenate([clip, sector(5)], axis=2)
    assert "two_pictures" in codes(frames[:, :, ::2] if is_squeezed else frames)


SCREENS = {
    "above each other": (lambda one, two: in_frame((one, 0, 20), (two, 120, 140)), "two_pictures"),
    "a small one beside": (
        lambda one, two: np.concatenate([one, in_frame((two, 60, 0))[:, :, :160]], axis=2),
        "two_pictures",
    ),
    "second one frozen": (
        lambda one, two: in_frame((one, 60, 0), (two[:1].repeat(len(two), 0), 60, 160)),
        "mostly_still",
    ),
}


def in_frame(*pictures: tuple[np.ndarray, int, int]) -> np.ndarray:
    """Put pictures of half the size, each with its first row and column, into one black frame."""
    out = np.zeros((len(pictures[0][0]), HEIGHT, WIDTH, 3), np.uint8)
    for frames, row, column in pictures:
        out[:, row : row + HEIGHT // 2, column : column + WIDTH // 2] = frames[:, ::2, ::2]
    return out


@pytest.mark.parametrize("kind", SCREENS)
def test_a_screen_with_a_second_picture_is_named(clip, kind):
    screen, code = SCREENS[kind]
    assert code in codes(screen(clip, sector(1)))


def test_a_small_shadowed_sector_is_a_picture_for_the_checks(clip):
    """The square that tells a sector from letters was as large for a frame of 80 rows as for one of 480."""
    striped = clip[:, ::3, ::3].max(axis=-1) * (np.arange(WIDTH // 3 + 1) // 14 % 2 == 0)
    assert ClipBrightness(striped).thick_parts
    letters = np.zeros_like(striped)
    letters[:, 3:7, 10:60], letters[:, 20:24, 10:60] = 200, 200
    assert not ClipBrightness(letters).thick_parts


def test_slices_of_a_body_are_named(clip):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    body = np.hypot((rows - 120) / 100, (columns - 160) / 130) < 1
    generator = np.random.default_rng(0)
    organs = gaussian_filter(generator.normal(size=(40, HEIGHT, WIDTH)), (2, 5, 5))
    grey = 110 + 600 * organs + generator.normal(0, 8, organs.shape)
    slices = np.where(body, np.clip(grey, 0, 255), 0).astype(np.uint8)
    assert "picture_oval" in codes(np.repeat(slices[..., None], 3, axis=-1))


@pytest.mark.parametrize("change", ["gain", "offset", "inverted"])
def test_a_picture_that_is_too_bright_is_named(clip, change):
    values = np.repeat(clip[:, :220, :, :1] // 3, 3, axis=-1).astype(int)  # grey, without the coloured strip
    assert not codes(values.astype(np.uint8))
    bright = {"gain": 6 * values, "offset": values + 100, "inverted": 255 - values}[change]
    assert "picture_bright" in codes(np.clip(bright, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("top", [255, 200])
def test_thresholded_pixels_are_refused(clip, top):
    frames = np.where(clip > 110, top, 0).astype(np.uint8)
    study = EchoImageProcessor(size=32).prepare_study({"A4C": frames})
    assert not study.clips and "thresholded" in study.refused[0]["reason"]


def test_a_dark_clip_is_not_called_thresholded(clip):
    study = EchoImageProcessor(size=32).prepare_study({"A4C": (clip * (45 / 255)).astype(np.uint8)})
    assert not any("thresholded" in entry["reason"] for entry in study.refused)


def test_a_black_first_frame_is_no_second_view(clip):
    frames = clip.copy()
    frames[0] = 0
    assert "clip_cut" not in codes(frames)


@pytest.mark.parametrize("first", [8, 16, 22])
def test_two_views_one_after_the_other_are_named(clip, first):
    other = clip[:, :, ::-1].copy()
    other[:, 60:100, 120:200] //= 4
    assert "clip_cut" in codes(np.concatenate([clip[:first], other[first:]]))


@pytest.mark.parametrize("places", [[20], [20, 22], [14]])
def test_frames_of_another_view_inside_a_clip_are_named(clip, places):
    frames = clip.copy()
    frames[places] = clip[places, :, ::-1]
    frames[places, 60:100, 120:200] //= 4
    assert "clip_cut" in codes(frames)


def test_a_bright_flash_of_one_frame_is_no_other_view(clip):
    frames = clip.copy()
    frames[20] = np.minimum(frames[20].astype(int) * 5 // 4, 255)
    assert "clip_cut" not in codes(frames)


def test_figures_of_an_outline():
    rows, columns = np.mgrid[:90, :120]
    triangle = (rows >= 10) & (rows < 80) & (np.abs(columns - 60) <= (rows - 10) * 0.7)
    shape = outline(convex_hull(triangle))
    assert shape.down == pytest.approx(1 / 6, abs=0.01) and shape.right == pytest.approx(0, abs=0.01)
    assert shape.height == pytest.approx(70 / 90) and shape.oval < 0.75
    ellipse = np.hypot((rows - 45) / 40, (columns - 60) / 50) < 1
    assert outline(ellipse).oval > 0.97
    assert (convex_hull(ellipse & (columns < 70)) == (ellipse & (columns < 70))).mean() > 0.99


def test_the_real_clip_has_no_code_and_is_named_when_turned(shared_dir):
    paths = list_echo_files(shared_dir / "data" / "echo_dicom")
    assert paths
    for path in paths:
        read = read_echo_clip(path, 16, 2)
        assert not read.notes
        grey = np.repeat(read.frames[..., :1], 3, axis=-1)
        assert "sector_turned" in codes(grey.repeat(2, axis=0)[:, ::-1])
