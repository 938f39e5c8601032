"""The picture of an ECG that a model reads: millimetres, gaps, looks of a photograph, and a user's own picture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from heart_signal import make_heart
from PIL import Image
from scipy.ndimage import affine_transform

from tgmm_hf.inputs.ecg_picture import PIXELS_PER_MM, SheetColours, draw_ecg_picture
from tgmm_hf.inputs.ecg_sheet import LAYOUTS, LEFT, TOP, EcgTraces
from tgmm_hf.inputs.picture_looks import PictureLook, draw_look, photograph
from tgmm_hf.inputs.picture_reading import read_picture
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

WHITE = SheetColours(paper=(255, 255, 255), small=(255, 255, 255), large=(255, 255, 255), ink=(0, 0, 0))
PLAIN = PictureLook(WHITE)


def step_recording(rate: float = 500.0) -> EcgTraces:
    """A step of 1 mV in every lead from 1 s to 2.2 s; the median is zero."""
    signal = np.zeros((12, int(10 * rate)))
    signal[:, int(rate) : int(2.2 * rate)] = 1.0
    return EcgTraces(signal, rate)


def ink_rows(picture: np.ndarray, millimetre: float, below: float, above: float) -> np.ndarray:
    """The rows (mm) of the dark pixels in one column, between two heights (mm)."""
    column = picture[:, round(millimetre * PIXELS_PER_MM), 0] < 128
    rows = (np.flatnonzero(column) + 0.5) / PIXELS_PER_MM
    return rows[(rows > above) & (rows < below)]


@pytest.mark.parametrize("rate", [100.0, 250.0, 500.0, 1000.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_second_is_25_mm_and_a_millivolt_is_10_mm(layout: str, rate: float):
    picture = draw_ecg_picture(step_recording(rate), layout, WHITE)
    height = LAYOUTS[layout].row_height
    baseline = TOP + 0.5 * height
    for second, expected in ((0.5, 0.0), (0.96, 0.0), (1.04, 10.0), (2.16, 10.0), (2.24, 0.0)):
        rows = ink_rows(picture, LEFT + second * 25, baseline + 3, baseline - 12)
        assert baseline - rows.mean() == pytest.approx(expected, abs=0.3), second
    pulse = ink_rows(picture, 4.5, baseline + 3, baseline - 12)
    assert baseline - pulse.mean() == pytest.approx(10.0, abs=0.3)
    unscaled = draw_ecg_picture(step_recording(rate), layout, WHITE, with_pulse=False)
    assert not len(ink_rows(unscaled, 4.5, baseline + 3, baseline - 12))


def test_every_lead_is_drawn_in_its_place_and_a_gap_is_empty():
    rows, height = LAYOUTS["12x1"]
    traces = step_recording()
    empty = draw_ecg_picture(replace(traces, signal=np.full_like(traces.signal, np.nan)), "12x1", WHITE)
    for row, (lead,) in enumerate(rows):
        signal = np.full_like(traces.signal, np.nan)
        signal[LEADS.index(lead), :2000] = 0.0
        changed = draw_ecg_picture(replace(traces, signal=signal), "12x1", WHITE) != empty
        places = np.argwhere(changed.any(-1)) / PIXELS_PER_MM
        assert abs(places[:, 0].mean() - (TOP + (row + 0.5) * height)) < 0.5
        assert places[:, 1].min() == pytest.approx(LEFT, abs=0.5) and places[:, 1].max() < LEFT + 4 * 25 + 0.5


def test_a_steep_wave_is_one_unbroken_line():
    signal = np.zeros((12, 1000))
    signal[:, 500] = 1.0  # one sample at 100 Hz
    picture = draw_ecg_picture(EcgTraces(signal, 100.0), "12x1", WHITE)
    baseline = TOP + 0.5 * LAYOUTS["12x1"].row_height
    dark = picture[:, :, 0] < 200
    columns = slice(round((LEFT + 4.98 * 25) * PIXELS_PER_MM), round((LEFT + 5.02 * 25) * PIXELS_PER_MM))
    rows = np.flatnonzero(dark[: round((baseline + 2) * PIXELS_PER_MM), columns].any(1))
    assert (np.diff(rows) == 1).all()


def test_the_names_of_the_leads_can_be_told_apart():
    traces = step_recording()
    picture = draw_ecg_picture(replace(traces, signal=np.full_like(traces.signal, np.nan)), "12x1", WHITE)
    height = LAYOUTS["12x1"].row_height
    names = set()
    for row in range(12):
        top = round((TOP + row * height) * PIXELS_PER_MM)
        left = round((LEFT + 1) * PIXELS_PER_MM)
        names.add((picture[top : top + 14, left : left + 60, 0] < 128).tobytes())
    assert len(names) == 12


def test_a_look_follows_from_its_seed():
    traces = EcgTraces(make_heart(5000, 500), 500.0)
    pictures = []
    for seed in (1, 1, 2):
        look = draw_look(seed)
        pictures.append(photograph(draw_ecg_picture(traces, colours=look.colours), look))
    assert np.array_equal(pictures[0], pictures[1])
    assert pictures[0].shape != pictures[2].shape or not np.array_equal(pictures[0], pictures[2])


def test_a_turned_picture_equals_that_of_scipy():
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    angle = np.deg2rad(4.0)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = (np.array(picture.shape[:2]) - 1) / 2
    channels = np.moveaxis(picture.astype(float), -1, 0)
    expected = [affine_transform(part, matrix, centre - matrix @ centre, order=1, mode="nearest") for part in channels]
    turned = photograph(picture, replace(PLAIN, rotation=4.0))
    np.testing.assert_allclose(turned, np.stack(expected, -1), atol=0.51)


def test_each_part_of_a_look_does_what_its_name_says():
    picture = draw_ecg_picture(step_recording(), colours=WHITE)
    assert np.array_equal(photograph(picture, PLAIN), picture)
    cut = photograph(picture, replace(PLAIN, crop=(0.0, 0.1, 0.2, 0.0)))
    assert np.array_equal(cut, picture[: -round(0.1 * len(picture)), round(0.2 * picture.shape[1]) :])
    turned = photograph(picture, replace(PLAIN, rotation=4.0))
    oracle = np.asarray(Image.fromarray(picture).rotate(4.0, Image.Resampling.BILINEAR))
    inner = np.s_[100:-100, 100:-100]
    apart = np.abs(turned[inner].astype(float) - oracle[inner]).mean()
    assert apart < 0.2 * np.abs(turned[inner].astype(float) - picture[inner]).mean()
    dark = photograph(np.full_like(picture, 200), replace(PLAIN, shadow=0.5, direction=0.0))
    assert dark[0, 0, 0] == 200 and dark[0, -1, 0] == 100  # the right side lies in the shadow
    soft = photograph(picture, replace(PLAIN, blur=2.0)).astype(float)
    assert np.abs(np.diff(soft, axis=0)).max() < np.abs(np.diff(picture.astype(float), axis=0)).max() / 2
    noisy = photograph(np.full_like(picture, 128), replace(PLAIN, noise=8.0))
    assert noisy.std() == pytest.approx(8.0, rel=0.05)


# ---- a user's own picture


@pytest.fixture
def drawn() -> np.ndarray:
    return draw_ecg_picture(step_recording())


@pytest.mark.parametrize("ending", ["png", "tiff", "bmp"])
def test_a_picture_file_an_image_and_an_array_give_the_same(drawn: np.ndarray, tmp_path: Path, ending: str):
    path = tmp_path / f"ecg.{ending}"
    Image.fromarray(drawn).save(path)
    for picture in (path, str(path), Image.fromarray(drawn), drawn):
        assert np.array_equal(read_picture(picture), drawn)
    grey = drawn[..., 0]
    assert np.array_equal(read_picture(grey), np.repeat(grey[..., None], 3, 2))


def test_a_photograph_is_turned_as_its_header_says_and_transparent_is_white(drawn: np.ndarray, tmp_path: Path):
    image = Image.fromarray(drawn)
    header = image.getexif()
    header[0x0112] = 6  # the camera was held upright
    image.save(tmp_path / "ecg.png", exif=header)
    assert np.array_equal(read_picture(tmp_path / "ecg.png"), np.rot90(drawn, -1))
    clear = image.convert("RGBA")
    clear.putalpha(0)
    clear.paste(image.crop((0, 0, 100, 100)), (0, 0))
    values = read_picture(clear)
    assert (values[200:, 200:] == 255).all() and np.array_equal(values[:100, :100], drawn[:100, :100])


def test_what_is_no_picture_of_an_ecg_is_refused(drawn: np.ndarray, tmp_path: Path):
    text, pages, deep = tmp_path / "name.png", tmp_path / "pages.tiff", tmp_path / "deep.png"
    text.write_text("Mrs Example, born 1950")
    Image.fromarray(drawn).save(pages, save_all=True, append_images=[Image.fromarray(drawn)])
    Image.fromarray(drawn[..., 0].astype(np.uint16) * 256).save(deep)
    damaged = tmp_path / "damaged.png"
    Image.fromarray(drawn).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:2000])
    cases = [
        (text, "no picture"),
        (pages, "2 pages"),
        (deep, "8 bits"),
        (damaged, "while the file was read"),
        (tmp_path, "a directory"),
        (tmp_path / "nothing.png", "no such file"),
        (drawn[:40], "40 pixels"),
        (np.full((100, 100, 3), 255, np.uint8), "shows nothing"),
        (drawn / 255, "uint8"),
        (drawn[..., :2], "uint8"),
        (7, "no picture"),
    ]
    for bad, words in cases:
        with pytest.raises(InputRefusedError, match=words) as refused:
            read_picture(bad)
        assert "Example" not in refused.value.reason and str(tmp_path) not in refused.value.reason
    large = Image.new("L", (20_000, 20_000))
    with pytest.raises(InputRefusedError, match="megapixels"):
        read_picture(large)
