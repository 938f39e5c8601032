"""Chest X-rays: DICOM (windows, LUTs, MONOCHROME1, 8-16 bits), PNG, JPEG, arrays, and what is refused."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from closeness import assert_close
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless
from xray_files import draw_chest, write_picture, write_xray

from tgmm_hf import InputRefusedError
from tgmm_hf.inputs.input_limits import InputLimits
from tgmm_hf.inputs.xray_reading import read_xray


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Lowest value black, highest white, by hand."""
    low, high = float(values.min()), float(values.max())
    return np.array([round(255 * (float(value) - low) / (high - low)) for value in values.ravel()]).reshape(
        values.shape
    )


def assert_same_picture(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == np.uint8 and found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1  # rounding of a half


def test_without_a_window_the_lowest_value_is_black_and_the_highest_white(tmp_path: Path):
    pixels = draw_chest(top=4095)
    picture = read_xray(write_xray(tmp_path / "x.dcm"))
    assert_same_picture(picture.pixels, to_bytes(pixels))
    assert (picture.view, picture.is_dicom, picture.notes) == ("PA", True, [])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_window_of_the_header(tmp_path: Path, function: str):
    pixels, center, width = draw_chest(top=4095), 2000.0, 1500.0
    path = write_xray(tmp_path / "x.dcm", WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
    x = pixels.astype(float)
    shown = {  # DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3
        "LINEAR": np.clip((x - (center - 0.5)) / (width - 1) + 0.5, 0, 1),
        "LINEAR_EXACT": np.clip((x - center) / width + 0.5, 0, 1),
        "SIGMOID": 1 / (1 + np.exp(-4 * (x - center) / width)),
    }[function]
    assert_same_picture(read_xray(path).pixels, to_bytes(shown))


def test_the_first_of_several_windows_counts(tmp_path: Path):
    one = write_xray(tmp_path / "one.dcm", WindowCenter=2000, WindowWidth=1500)
    two = write_xray(tmp_path / "two.dcm", WindowCenter=[2000, 900], WindowWidth=[1500, 300])
    assert np.array_equal(read_xray(one).pixels, read_xray(two).pixels)


def test_voi_lut_is_preferred_to_a_window(tmp_path: Path):
    pixels = draw_chest(top=4095)
    table = (np.arange(4096) // 16) ** 2
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [4096, 0, 16], table.astype("<u2").tobytes()
    path = write_xray(tmp_path / "x.dcm", VOILUTSequence=[lut], WindowCenter=10, WindowWidth=5)
    assert_same_picture(read_xray(path).pixels, to_bytes(table[pixels]))


def test_rescale_slope_comes_before_the_window(tmp_path: Path):
    pixels = draw_chest(top=4095)
    path = write_xray(
        tmp_path / "x.dcm", RescaleSlope=0.5, RescaleIntercept=-100, RescaleType="US", WindowCenter=900, WindowWidth=700
    )
    shown = np.clip((pixels * 0.5 - 100 - 899.5) / 699 + 0.5, 0, 1)
    assert_same_picture(read_xray(path).pixels, to_bytes(shown))


@pytest.mark.parametrize(
    ("dtype", "top", "stored"), [(np.uint8, 255, 8), (np.uint16, 1023, 10), (np.uint16, 65535, 16)]
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_bits_and_photometric_interpretations(tmp_path: Path, dtype, top: int, stored: int, photometric: str):
    bright = draw_chest(top=top).astype(dtype)
    pixels = (top - bright).astype(dtype) if photometric == "MONOCHROME1" else bright
    path = write_xray(
        tmp_path / "x.dcm", pixels, PhotometricInterpretation=photometric, BitsStored=stored, HighBit=stored - 1
    )
    assert_same_picture(read_xray(path).pixels, to_bytes(bright))


def test_padding_is_black_and_sets_no_scale(tmp_path: Path):
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        pixels = draw_chest(top=3000) + 500
        pixels[:, :40] = 0
        path = write_xray(tmp_path / "x.dcm", pixels, PixelPaddingValue=0, PhotometricInterpretation=photometric)
        found, inside = read_xray(path).pixels, pixels[:, 40:].astype(float)
        assert not found[:, :40].any()
        expected = to_bytes(-inside if photometric == "MONOCHROME1" else inside)
        assert_same_picture(found[:, 40:], expected)


def test_overlay_bits_above_the_stored_bits_are_left_out(tmp_path: Path):
    pixels = draw_chest(top=4095)
    with_overlay = pixels.copy()
    with_overlay[:50] |= 0x8000
    path = write_xray(tmp_path / "x.dcm", with_overlay)
    assert_same_picture(read_xray(path).pixels, to_bytes(pixels))


@pytest.mark.parametrize("name", ["MR_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
def test_pixels_of_pydicoms_test_files_are_those_that_pydicom_decodes(tmp_path: Path, name: str):
    """Real files of other modalities, called chest X-rays: coding, sign and byte order are real."""
    if name == "JPEG2000.dcm":
        pytest.importorskip("openjpeg")
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    if min(dataset.Rows, dataset.Columns) < 112:  # uncompressed or RLE: a larger picture of the same kind
        pixels = np.tile(dataset.pixel_array, (3, 3))
        syntax = dataset.file_meta.TransferSyntaxUID
        dataset.Rows, dataset.Columns = pixels.shape
        if syntax == RLELossless:
            dataset.compress(RLELossless, pixels, generate_instance_uid=False)
        else:
            dataset.PixelData = pixels.astype(
                pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")
            ).tobytes()
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "AP"
    for element in ("WindowCenter", "WindowWidth", "PixelPaddingValue", "SmallestImagePixelValue"):
        if element in dataset:
            del dataset[element]
    dataset.save_as(tmp_path / "x.dcm")
    again = pydicom.dcmread(tmp_path / "x.dcm")
    found = read_xray(tmp_path / "x.dcm")
    assert_same_picture(found.pixels, to_bytes(again.pixel_array))
    assert found.view == "AP"


# ---- views and orientation


def code(meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "R-1", "SRT", meaning
    return item


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": "AP"}, "AP"),
        ({"ViewPosition": "LL"}, "lateral"),
        ({"ViewPosition": "LATERAL"}, "lateral"),
        ({"ViewPosition": "RAO"}, "oblique"),
        ({"ViewPosition": "LLD"}, "decubitus"),
        ({"ViewPosition": None, "ViewCodeSequence": [code("postero-anterior")]}, "PA"),
        ({"ViewPosition": "", "ViewCodeSequence": [code("left lateral")]}, "lateral"),
        ({"ViewPosition": "", "ViewCodeSequence": [code("left lateral decubitus")]}, "decubitus"),
        ({"ViewPosition": None}, ""),
        ({"ViewPosition": "SOMETHING"}, ""),
    ],
)
def test_views(tmp_path: Path, elements: dict, view: str):
    path = write_xray(tmp_path / "x.dcm", **elements)
    asked = read_xray(path, views=["PA", "AP", "lateral", "oblique", "decubitus"])
    assert asked.view == view
    if view in ("PA", "AP", ""):
        assert bool(read_xray(path).notes) == (view == "")
        assert "SOMETHING" not in str(read_xray(path))
    else:
        with pytest.raises(InputRefusedError, match=view):
            read_xray(path)


def test_two_views_in_one_header_are_refused(tmp_path: Path):
    with pytest.raises(InputRefusedError, match="PA.*lateral"):
        read_xray(write_xray(tmp_path / "x.dcm", ViewCodeSequence=[code("right lateral")]))


@pytest.mark.parametrize(
    ("orientation", "words"),
    [(["L", "F"], []), (["R", "F"], ["mirrored"]), (["R", "H"], ["mirrored", "upside"]), (None, [])],
)
def test_a_header_that_calls_the_xray_mirrored_is_noted(tmp_path: Path, orientation, words: list[str]):
    notes = read_xray(write_xray(tmp_path / "x.dcm", PatientOrientation=orientation)).notes
    assert bool(notes) == bool(words) and all(word in notes[0] for word in words)


# ---- PNG, JPEG, arrays


def test_png_jpeg_array_and_pillow_give_the_picture(tmp_path: Path):
    pixels = draw_chest()
    png = read_xray(write_picture(tmp_path / "x.png"))
    assert np.array_equal(png.pixels, pixels) and not png.is_dicom and any("view" in note for note in png.notes)
    assert np.array_equal(read_xray(pixels).pixels, pixels)
    assert np.array_equal(read_xray(Image.fromarray(pixels)).pixels, pixels)
    rgb = np.repeat(pixels[..., None], 3, axis=-1)
    assert np.abs(read_xray(write_picture(tmp_path / "rgb.png", rgb)).pixels.astype(int) - pixels).max() <= 1
    assert np.array_equal(read_xray(rgb).pixels, pixels)
    jpeg = read_xray(write_picture(tmp_path / "x.dat", format="JPEG", quality=95)).pixels  # content decides
    assert np.abs(jpeg.astype(int) - pixels).mean() < 2


def test_sixteen_bits_of_png_and_array(tmp_path: Path):
    pixels = draw_chest(top=30000)
    assert_same_picture(read_xray(write_picture(tmp_path / "x.png", pixels)).pixels, to_bytes(pixels))
    assert_same_picture(read_xray(pixels).pixels, to_bytes(pixels))


def test_exif_orientation_is_followed(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    picture = read_xray(write_picture(tmp_path / "x.jpg", exif=exif, quality=95))
    assert np.abs(picture.pixels.astype(int) - np.rot90(draw_chest(), -1)).mean() < 2
    assert any("EXIF" in note for note in picture.notes)


# ---- refusals


def spoil_jpeg(path: Path) -> Path:
    data = write_picture(path, format="JPEG").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def spoil_png(path: Path) -> Path:
    data = write_picture(path, format="PNG").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)


REFUSED = {
    "missing": (lambda d: d / "nothing.png", "no such file"),
    "directory": (lambda d: d, "directory"),
    "text": (lambda d: (d / "x.png").write_text("no picture at all") and d / "x.png", "neither DICOM"),
    "cut JPEG": (lambda d: spoil_jpeg(d / "x.jpg"), "damaged"),
    "cut PNG": (lambda d: spoil_png(d / "x.png"), "decoded"),
    "photograph": (lambda d: write_picture(d / "x.png", photograph()), "coloured"),
    "one grey": (lambda d: write_picture(d / "x.png", np.full((200, 200), 90, np.uint8)), "hardly"),
    "thumbnail": (lambda d: write_picture(d / "x.png", draw_chest(100, 300)), "at least 112"),
    "black or white": (lambda d: write_picture(d / "x.png", draw_chest() > 128), "black or white"),
    "CT": (lambda d: write_xray(d / "x.dcm", Modality="CT"), "modality CT"),
    "no modality": (lambda d: write_xray(d / "x.dcm", Modality=None), "not stated"),
    "hand": (lambda d: write_xray(d / "x.dcm", BodyPartExamined="HAND"), "HAND"),
    "animal": (lambda d: write_xray(d / "x.dcm", PatientSpeciesDescription="Canis"), "animal"),
    "frames": (lambda d: write_xray(d / "x.dcm", NumberOfFrames=2), "2 frames"),
    "colours": (lambda d: write_xray(d / "x.dcm", PhotometricInterpretation="RGB"), "MONOCHROME"),
    "bits": (lambda d: write_xray(d / "x.dcm", BitsStored=7), "7 of 16"),
    "samples": (lambda d: write_xray(d / "x.dcm", SamplesPerPixel=3), "3 samples"),
    "pixels cut short": (lambda d: write_xray(d / "x.dcm", Rows=301), "decoded"),
    "window beside the pixels": (lambda d: write_xray(d / "x.dcm", WindowCenter=60000, WindowWidth=2), "one grey"),
    "flat": (lambda d: write_xray(d / "x.dcm", np.full((200, 200), 7, np.uint16)), "one grey"),
    "rows": (lambda d: write_xray(d / "x.dcm", Rows=20, Columns=3900), "at least"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why_and_quote_no_header(tmp_path: Path, name: str):
    make, words = REFUSED[name]
    path = make(tmp_path)
    with pytest.raises(InputRefusedError) as refusal:
        read_xray(path)
    assert words in refusal.value.reason
    assert "Canis" not in refusal.value.reason and str(tmp_path) not in refusal.value.reason


@pytest.mark.parametrize(
    "xray", [5, None, {}, np.zeros((200, 200)), np.zeros((3, 200, 200), np.uint8), np.zeros((200, 200, 4), np.uint8)]
)
def test_other_kinds_of_input_are_refused(xray):
    with pytest.raises(InputRefusedError):
        read_xray(xray)


def test_a_file_above_the_limits_is_not_decoded(tmp_path: Path):
    for path in (write_xray(tmp_path / "x.dcm"), write_picture(tmp_path / "x.png")):
        with pytest.raises(InputRefusedError, match="max_xray_pixels"):
            read_xray(path, limits=InputLimits(max_xray_pixels=1000))
        with pytest.raises(InputRefusedError, match="MiB"):
            read_xray(path, limits=InputLimits(max_file_bytes=1000))


def test_a_window_without_width_is_left_out_with_a_note(tmp_path: Path):
    picture = read_xray(write_xray(tmp_path / "x.dcm", WindowCenter=10, WindowWidth=0))
    assert_same_picture(picture.pixels, to_bytes(draw_chest(top=4095)))
    assert any("width" in note for note in picture.notes)


def test_a_body_part_that_is_not_known_is_noted(tmp_path: Path):
    picture = read_xray(write_xray(tmp_path / "x.dcm", BodyPartExamined="SMITH JOHN"))
    assert any("chest" in note for note in picture.notes) and "SMITH" not in str(picture.notes)
    assert read_xray(write_xray(tmp_path / "y.dcm", BodyPartExamined="THORAX")).notes == []
    assert_close(picture.pixels, read_xray(write_xray(tmp_path / "y.dcm")).pixels)
