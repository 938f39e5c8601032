"""Faulty echo files, each made here: the right picture comes back, or a refusal with its reason."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from input_files import as_ycbcr, make_clip, to_jpeg, to_jpeg2000, write_clip, write_echo_dicom
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MRImageStorage,
    RLELossless,
)
from scipy.ndimage import gaussian_filter

from tgmm_hf.inputs.dicom_files import starts_with_data_set
from tgmm_hf.inputs.echo_reading import count_echo_frames, list_echo_files, read_echo_clip
from tgmm_hf.inputs.echo_views import EchoViewClassifier, StoredViewClassifier
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor, is_study_batch
from tgmm_hf.inputs.input_limits import InputLimits
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import VIEWS

FRAMES = 36


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """(36, 120, 160, 3) RGB: a moving grey sector with a red spot."""
    return make_clip(FRAMES, 120, 160, colour=True)


def edit(path: Path, change: Callable[[pydicom.Dataset], None]) -> Path:
    """Change a DICOM file in place."""
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def with_header(path: Path, **values) -> Path:
    """Set elements of a DICOM file; None deletes an element."""

    def change(dataset: pydicom.Dataset) -> None:
        for name, value in values.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)

    return edit(path, change)


def with_ids(jpeg: bytes, ids: bytes) -> bytes:
    """Write other component ids into frame header and scan header, and remove the JFIF marker."""
    data = bytearray(jpeg)
    if data[2:4] == b"\xff\xe0":
        del data[2 : 4 + int.from_bytes(data[4:6], "big")]
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    for number, identifier in enumerate(ids):
        data[frame + 10 + 3 * number] = identifier
        data[scan + 5 + 2 * number] = identifier
    return bytes(data)


def reason_of(path: Path) -> str:
    """Return the reason why a clip is refused."""
    with pytest.raises(InputRefusedError) as caught:
        read_echo_clip(path)
    return caught.value.reason


# ---- colour


@pytest.mark.parametrize("ids", [b"\x01\x02\x03", b"\x00\x01\x02", b"RGB"])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL_422"])
def test_component_ids_name_the_colours_of_a_jpeg_without_marker(tmp_path, clip, ids, photometric):
    stored = clip if ids == b"RGB" else as_ycbcr(clip)
    streams = [with_ids(to_jpeg(frame, "YCbCr"), ids) for frame in stored]
    read = read_echo_clip(write_echo_dicom(tmp_path / "a.dcm", clip, JPEGBaseline8Bit, photometric, streams))
    assert read.colour_space == ("RGB" if ids == b"RGB" else "YBR")
    assert np.abs(read.frames.astype(int) - stored[0:32:2]).mean() < 2


@pytest.mark.parametrize(("stored", "declared"), [("RGB", "YBR_FULL"), ("YBR_FULL", "RGB")])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_colour_space_that_the_pixels_contradict_is_refused(tmp_path, clip, stored, declared, syntax):
    pixels = clip if stored == "RGB" else as_ycbcr(clip)
    path = write_echo_dicom(tmp_path / "a.dcm", pixels, syntax, stored)
    assert read_echo_clip(path).colour_space == stored[:3]
    assert f"{declared[:3]} is declared" in reason_of(with_header(path, PhotometricInterpretation=declared))


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("planar", [0, 1])
def test_a_planar_configuration_that_the_pixels_contradict_is_refused(tmp_path, clip, photometric, planar):
    pixels = clip if photometric == "RGB" else as_ycbcr(clip)
    path = write_echo_dicom(tmp_path / "a.dcm", pixels, photometric=photometric)
    data = (np.moveaxis(pixels, -1, 1) if planar else pixels).tobytes()
    with_header(path, PlanarConfiguration=planar, PixelData=data)
    assert np.array_equal(read_echo_clip(path).frames, pixels[0:32:2])
    assert "PlanarConfiguration" in reason_of(with_header(path, PlanarConfiguration=1 - planar))


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize(("bits", "scale"), [(8, 1), (16, 1), (16, 256)], ids=["8", "8 in 16", "16"])
def test_a_palette_gives_its_colours(tmp_path, clip, bits, scale, big_endian):
    indices = clip[..., 0]
    table = np.stack([np.arange(256), np.arange(256) // 2, np.arange(256) // 4]).astype(np.uint16)
    path = write_echo_dicom(tmp_path / "a.dcm", indices, photometric="PALETTE COLOR")
    dataset = pydicom.dcmread(path)
    if big_endian:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset["PixelData"].VR = "OB"
    kind = np.uint8 if bits == 8 else np.dtype(">u2" if big_endian else "<u2")
    for name, values in zip(("Red", "Green", "Blue"), table * scale, strict=True):
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, bits])
        data = values.astype(kind)
        if bits == 8 and big_endian:  # words of two entries, the high byte first
            data = np.ascontiguousarray(data.reshape(-1, 2)[:, ::-1])
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", data.tobytes())
    list(dataset)  # parses every value, because pydicom copies what was never read as it is
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=not big_endian, force_encoding=True)
    read = read_echo_clip(path)
    assert read.colour_space == "RGB"
    assert np.array_equal(read.frames, table.T[indices[0:32:2]])


def test_a_palette_without_its_tables_is_refused(tmp_path, clip):
    path = write_echo_dicom(tmp_path / "a.dcm", clip[..., 0], photometric="PALETTE COLOR")
    assert "palette has no table for red" in reason_of(path)


# ---- content


def contents() -> dict[str, tuple[np.ndarray, str]]:
    """name -> (frames, word of the reason)."""
    random, shape = np.random.default_rng(0), (20, 96, 128, 3)
    moving = make_clip(20, 96, 128)
    strip = np.repeat(moving[:1], 20, axis=0)
    strip[:, -14:] = moving[:, -14:]  # the ECG strip runs, the picture stands still
    dust = np.zeros(shape, np.uint8)
    dust[:, 5:8, 5:20] = random.integers(0, 255, (20, 3, 15, 3))
    return {
        "black": (np.zeros(shape, np.uint8), "black"),
        "nearly black": (random.integers(0, 8, shape, dtype=np.uint8), "black"),
        "dust": (dust, "black"),
        "white": (np.full(shape, 255, np.uint8), "white"),
        "grey": (np.full(shape, 90, np.uint8), "one brightness"),
        "frozen": (np.repeat(moving[:1], 20, axis=0), "do not change"),
        "frozen, strip runs": (strip, "stands still"),
        "noise": (random.integers(0, 256, shape, dtype=np.uint8), "noise"),
        "one pixel": (random.integers(0, 256, (20, 1, 1, 3), dtype=np.uint8), "1 x 1 pixels"),
    }


@pytest.mark.parametrize("name", list(contents()))
def test_a_clip_that_shows_nothing_is_refused(tmp_path, name):
    frames, word = contents()[name]
    path = write_echo_dicom(tmp_path / "a.dcm", frames)
    assert word in reason_of(path)
    processor = EchoImageProcessor(size=32)
    for study in ({"A4C": path}, {"A4C": frames}):
        prepared = processor.prepare_study(study)
        assert not prepared.clips and word in prepared.refused[0]["reason"]


@pytest.mark.parametrize("modality", ["MR", "CT", "OT", "XA", "IVUS", "ECG"])
def test_other_modalities_are_refused(tmp_path, clip, modality):
    path = with_header(write_clip(tmp_path / "a.dcm", clip), Modality=modality)
    assert f"modality {modality}" in reason_of(path)
    with pytest.raises(InputRefusedError, match="not an echocardiogram"):
        count_echo_frames(path)


def test_a_clip_of_an_animal_is_refused(tmp_path, clip):
    path = with_header(write_clip(tmp_path / "a.dcm", clip), PatientSpeciesDescription="Canine")
    assert "animal" in reason_of(path)
    path = with_header(write_clip(tmp_path / "b.dcm", clip), PatientSpeciesDescription="Homo sapiens")
    assert len(read_echo_clip(path).frames)


def test_a_modality_in_small_letters_is_read(tmp_path, clip):
    path = with_header(write_clip(tmp_path / "a.dcm", clip), Modality="us")
    assert read_echo_clip(path).total_frames == FRAMES


def test_a_missing_modality_is_noted_and_a_foreign_storage_class_refused(tmp_path, clip):
    path = write_clip(tmp_path / "a.dcm", clip)
    assert [note["code"] for note in read_echo_clip(path).notes] == ["modality_missing"]
    with_header(path, Modality="US")
    assert read_echo_clip(path).notes == []
    with_header(path, SOPClassUID=MRImageStorage)
    assert [note["code"] for note in read_echo_clip(path).notes] == ["storage_class"]
    assert "storage class is not ultrasound" in reason_of(with_header(path, Modality=None))


def test_notes_about_used_clips_are_in_the_study(tmp_path, clip):
    path = with_header(write_clip(tmp_path / "a.dcm", clip[:9]), Modality="US")
    stutter = np.repeat(clip[:18:2], 4, axis=0)
    prepared = EchoImageProcessor(size=32).prepare_study({"A4C": path, "A2C": clip, "SSN": stutter})
    assert list(prepared.frame_counts.values()) == [16, 5, 16]
    found = {(check["code"], check["item"]): check["text"] for check in prepared.checks}
    expected = {("few_frames", str(path)), ("frames_repeated", "SSN"), ("same_clip", "SSN"), ("same_clip", str(path))}
    assert set(found) == expected  # all three views are made of one recording
    assert "5 of the 16 frames are real" in found["few_frames", str(path)]


def test_one_clip_under_two_views_is_noted(clip):
    prepared = EchoImageProcessor(size=32).prepare_study({"A4C": clip, "A2C": clip.copy(), "SSN": clip[::-1].copy()})
    assert set(prepared.clips) == {"A2C", "A4C", "SSN"}
    assert [(check["code"], check["item"]) for check in prepared.checks] == [("same_clip", "A4C")]


def test_no_warning_quotes_a_value_of_the_file(tmp_path, clip, recwarn):
    path = with_header(write_clip(tmp_path / "a.dcm", clip), StudyInstanceUID="1.2.3")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1.2.3\0", b"Doe^J\0"))
    recwarn.clear()
    read_echo_clip(path)
    assert not recwarn.list


class FixedClassifier(EchoViewClassifier):
    """A classifier of the model that sees one view in every clip."""

    def __init__(self, view: str, probability: float):
        row = [(1 - probability) / (len(VIEWS) - 1)] * len(VIEWS)
        row[VIEWS.index(view)] = probability
        super().__init__(lambda frames: torch.tensor([row] * len(frames)), 32, [0.0] * 3, [1.0] * 3)


def test_a_view_that_the_classifier_contradicts_is_noted(clip):
    processor = EchoImageProcessor(size=32)
    study = {"A4C": clip, "SSN": clip[::-1].copy()}
    prepared = processor.prepare_study(study, view_classifier=FixedClassifier("SSN", 0.95), check_views=True)
    assert list(prepared.clips) == ["A4C", "SSN"] and not prepared.refused
    assert [(check["code"], check["item"]) for check in prepared.checks] == [("view_contradicted", "A4C")]
    assert "SSN with probability 0.95" in prepared.checks[0]["text"]
    assert processor.prepare_study(study, view_classifier=FixedClassifier("SSN", 0.8), check_views=True).checks == []
    assert processor.prepare_study(study, view_classifier=FixedClassifier("SSN", 0.95)).checks == []


def test_a_classifier_that_cannot_be_loaded_is_noted(tmp_path, clip):
    missing = StoredViewClassifier(tmp_path / "nowhere")
    prepared = EchoImageProcessor(size=32).prepare_study({"A4C": clip}, view_classifier=missing, check_views=True)
    assert list(prepared.clips) == ["A4C"]
    assert [check["code"] for check in prepared.checks] == ["view_not_checked"]


# ---- geometry


def test_missing_numbers_of_frames_are_counted(tmp_path, clip):
    jpegs = [to_jpeg(frame, "RGB") for frame in clip]
    waves = [to_jpeg2000(frame, False) for frame in clip]
    for path, total in (
        (write_clip(tmp_path / "raw.dcm", clip), FRAMES),
        (write_echo_dicom(tmp_path / "jpeg.dcm", clip, JPEGBaseline8Bit, "YBR_FULL_422", jpegs), FRAMES),
        (write_echo_dicom(tmp_path / "j2k.dcm", clip, JPEG2000Lossless, "YBR_RCT", waves), FRAMES),
        (write_echo_dicom(tmp_path / "rle.dcm", clip, RLELossless), FRAMES),
    ):
        expected = read_echo_clip(path)
        with_header(path, NumberOfFrames=None, Modality="US")
        read = read_echo_clip(path)
        assert read.total_frames == count_echo_frames(path) == total
        assert np.array_equal(read.frames, expected.frames)
        assert [note["code"] for note in read.notes] == ["frames_counted"]
    still = with_header(write_clip(tmp_path / "still.dcm", clip[:1]), NumberOfFrames=None)
    assert "single-frame still" in reason_of(still)


def test_frames_of_several_fragments_are_joined(tmp_path, clip):
    jpegs = [to_jpeg(frame, "RGB") for frame in clip]
    path = write_echo_dicom(tmp_path / "a.dcm", clip, JPEGBaseline8Bit, "YBR_FULL_422", jpegs)
    expected = read_echo_clip(path).frames
    for has_table in (True, False):
        with_header(path, PixelData=encapsulate(jpegs, fragments_per_frame=3, has_bot=has_table))
        read = read_echo_clip(path)
        assert read.total_frames == FRAMES and np.array_equal(read.frames, expected)


@pytest.mark.parametrize("declared", [2, 8, FRAMES - 1, FRAMES + 1, 400])
@pytest.mark.parametrize("coding", ["raw", "jpeg", "rle"])
def test_a_wrong_number_of_frames_is_refused(tmp_path, clip, declared, coding):
    syntax = {"raw": ExplicitVRLittleEndian, "jpeg": JPEGBaseline8Bit, "rle": RLELossless}[coding]
    streams = [to_jpeg(frame, "RGB") for frame in clip] if coding == "jpeg" else None
    path = write_echo_dicom(tmp_path / "a.dcm", clip, syntax, "RGB", streams)
    with_header(path, NumberOfFrames=declared)
    reason = reason_of(path)
    assert str(declared) in reason and str(FRAMES) in reason and "contradict" in reason


@pytest.mark.parametrize("change", [-2, 1, 17, -5000, 5000])
def test_pixel_data_of_another_length_are_refused(tmp_path, clip, change):
    path = write_clip(tmp_path / "a.dcm", clip)
    data = pydicom.dcmread(path).PixelData
    with_header(path, PixelData=data[:change] if change < 0 else data + bytes(change))
    assert "cannot be decoded" in reason_of(path)


@pytest.mark.parametrize(("rows", "columns"), [(160, 120), (240, 320), (60, 80), (120, 161)])
def test_frames_of_another_size_than_the_header_are_refused(tmp_path, clip, rows, columns):
    jpegs, waves = [to_jpeg(frame, "RGB") for frame in clip], [to_jpeg2000(frame, False) for frame in clip]
    for path in (
        write_echo_dicom(tmp_path / "jpeg.dcm", clip, JPEGBaseline8Bit, "YBR_FULL_422", jpegs),
        write_echo_dicom(tmp_path / "j2k.dcm", clip, JPEG2000Lossless, "YBR_RCT", waves),
        write_echo_dicom(tmp_path / "rle.dcm", clip, RLELossless),
        write_clip(tmp_path / "raw.dcm", clip),
    ):
        if path.stem in ("rle", "raw") and rows * columns == 120 * 160:
            continue  # only the picture itself shows it; see docs/results/checks/echo.md
        with_header(path, Rows=rows, Columns=columns)
        assert "decoded" in reason_of(path), path.name


@pytest.mark.parametrize("value", ["many", "-4", "1e9", "2\\3"])
def test_a_number_of_frames_that_is_no_number_is_refused(tmp_path, clip, value):
    path = write_clip(tmp_path / "a.dcm", clip)
    stored = b"\x28\x00\x08\x00IS\x02\x0036"
    text = value.encode() + b" " * (len(value) % 2)
    content = path.read_bytes()
    assert content.count(stored) == 1
    path.write_bytes(content.replace(stored, b"\x28\x00\x08\x00IS" + struct.pack("<H", len(text)) + text))
    reason_of(path)
    with pytest.raises(InputRefusedError):
        count_echo_frames(path)


def test_a_jpeg_that_libjpeg_repairs_is_refused(tmp_path, clip):
    streams = [to_jpeg(frame, "RGB") for frame in clip]
    path = write_echo_dicom(tmp_path / "a.dcm", clip, JPEGBaseline8Bit, "YBR_FULL_422", streams)
    read_echo_clip(path)
    streams[4] = streams[4][: len(streams[4]) // 2] + b"\xff\xd9"  # half of the picture, then the end marker
    write_echo_dicom(path, clip, JPEGBaseline8Bit, "YBR_FULL_422", streams)
    assert "a JPEG frame is damaged" in reason_of(path)
    streams[4] = to_jpeg(clip[4], "RGB")[:-2] + b"\0\0" + b"\xff\xd9"  # padding before the end marker
    write_echo_dicom(path, clip, JPEGBaseline8Bit, "YBR_FULL_422", streams)
    read_echo_clip(path)


# ---- costs


def small_clip(path: Path, syntax: str, **header) -> Path:
    """Write a clip of two frames and set header elements."""
    frames = make_clip(2, 48, 64)
    streams = [to_jpeg(frame, "RGB") for frame in frames] if syntax == JPEGBaseline8Bit else None
    return with_header(write_echo_dicom(path, frames, syntax, "RGB", streams), **header)


def test_declared_sizes_are_capped_before_decoding(tmp_path):
    big = {"Rows": 20_000, "Columns": 20_000}
    for syntax in (ExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit):
        assert "the limit is" in reason_of(small_clip(tmp_path / "a.dcm", syntax, **big))
        many = small_clip(tmp_path / "b.dcm", syntax, Rows=2000, Columns=2000, NumberOfFrames=100_000)
        assert "the limit is" in reason_of(many)


def test_a_jpeg_that_asks_for_more_than_its_header_is_refused(tmp_path):
    bomb = bytearray(to_jpeg(make_clip(1, 48, 64)[0], "RGB"))
    start = bomb.index(b"\xff\xc0")
    bomb[start + 5 : start + 9] = struct.pack(">HH", 20_000, 20_000)
    path = write_echo_dicom(tmp_path / "a.dcm", make_clip(2, 48, 64), JPEGBaseline8Bit, "RGB", [bytes(bomb)] * 2)
    assert "cannot be decoded" in reason_of(path) or "unexpected" in reason_of(path)


def test_limits_can_be_set(tmp_path, clip):
    path = write_clip(tmp_path / "a.dcm", clip)
    tight = (
        InputLimits(max_file_bytes=1000),
        InputLimits(max_frame_pixels=100),
        InputLimits(max_clip_bytes=120 * 160 * 3 * 30),
    )
    for limits in tight:
        with pytest.raises(InputRefusedError, match="limit"):
            read_echo_clip(path, limits=limits)
    processor = EchoImageProcessor(size=32)
    processor.limits = tight[0]
    assert "limit" in processor.prepare_study({"A4C": path}).refused[0]["reason"]
    processor.save_pretrained(tmp_path / "saved")
    assert "limits" not in (tmp_path / "saved" / "preprocessor_config.json").read_text()


def test_a_deflated_data_set_is_read_up_to_the_limit(tmp_path, clip):
    path = write_clip(tmp_path / "a.dcm", clip)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    assert np.array_equal(read_echo_clip(path).frames, clip[0:32:2])
    with pytest.raises(InputRefusedError, match="max_inflated_bytes"):
        read_echo_clip(path, limits=InputLimits(max_inflated_bytes=1 << 20))
    head = path.read_bytes()
    start = 144 + struct.unpack("<I", head[140:144])[0]
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(squeeze.compress(bytes(1 << 24)) for _ in range(4)) + squeeze.flush()
    path.write_bytes(head[:start] + bomb)
    assert len(bomb) < 1 << 17
    with pytest.raises(InputRefusedError, match="max_inflated_bytes"):
        read_echo_clip(path, limits=InputLimits(max_inflated_bytes=1 << 25))
    path.write_bytes(head[:start] + b"no deflate stream")
    assert "not readable as DICOM" in reason_of(path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_data_set_of_endless_small_elements_is_refused_soon(tmp_path, clip, syntax):
    """Zeros behind the pixels are elements of 8 bytes each: half a million here, 26 million in 1 MB deflated."""
    path = write_clip(tmp_path / "a.dcm", clip)
    content = path.read_bytes()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    head, body = content[:start], content[start:] + bytes(1 << 22)
    if syntax == DeflatedExplicitVRLittleEndian:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path)
        head = path.read_bytes()[: 144 + struct.unpack("<I", path.read_bytes()[140:144])[0]]
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = squeeze.compress(body) + squeeze.flush()
    path.write_bytes(head + body)
    with pytest.raises(InputRefusedError, match="elements"):
        read_echo_clip(path)


def test_damage_of_any_kind_becomes_a_refusal(tmp_path, clip):
    whole = write_clip(tmp_path / "whole.dcm", clip[:2]).read_bytes()
    random = np.random.default_rng(0)
    header = whole.index(b"\xe0\x7f\x10\x00") + 12
    path = tmp_path / "a.dcm"
    for _ in range(300):
        content = bytearray(whole)
        for position in random.integers(0, header, 3):
            content[position] = random.integers(0, 256)
        path.write_bytes(content)
        for read in (read_echo_clip, count_echo_frames):
            try:
                read(path)
            except InputRefusedError as error:
                assert "Doe" not in error.reason


def test_nested_sequences_are_refused(tmp_path, clip):
    path = write_clip(tmp_path / "a.dcm", clip[:2])
    content = path.read_bytes()
    start = content.index(b"\x10\x00\x10\x00PN")
    depth = 20_000
    nested = (b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * depth
    path.write_bytes(content[:start] + nested + content[start:])
    assert "nested too deeply" in reason_of(path) or "not readable" in reason_of(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("suffix", [".dcm", ".mp4"])
def test_a_pipe_is_not_opened(tmp_path, suffix):
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    assert "not a regular file" in reason_of(path)
    with pytest.raises(InputRefusedError, match="no echo file"):
        list_echo_files(tmp_path)


def test_paths_that_cannot_be_opened_are_refused(tmp_path, clip, monkeypatch):
    assert "longer than the system allows" in reason_of(Path("a" * 5000))
    assert "longer than the system allows" in reason_of(Path("a" * 5000 + ".mp4"))
    with pytest.raises(InputRefusedError):
        list_echo_files("a" * 5000)
    reason_of(Path("a\0b.dcm"))
    prepared = EchoImageProcessor(size=32).prepare_study(["a" * 5000 + ".dcm"], views={})
    assert "longer" in prepared.refused[0]["reason"] and not is_study_batch(["a" * 5000])
    assert "a directory" in reason_of(tmp_path)
    path = write_clip(tmp_path / "a.dcm", clip[:4])
    for number, words in ((13, "no permission"), (5, "cannot be read now (I/O error EIO)")):

        def fail(*_args, number=number, **_kwargs):
            raise OSError(number, "Doe^Jane")

        monkeypatch.setattr(Path, "open", fail)
        assert words in reason_of(path)


@pytest.mark.parametrize("kind", [MemoryError, KeyError, TypeError, IndexError, RecursionError, ZeroDivisionError])
def test_what_nobody_foresaw_becomes_a_refusal(tmp_path, clip, monkeypatch, kind):
    path = write_clip(tmp_path / "a.dcm", clip[:4])

    def fail(*_args, **_kwargs):
        raise kind("Doe^Jane")

    monkeypatch.setattr("pydicom.filereader.read_partial", fail)
    assert "Doe" not in reason_of(path)
    prepared = EchoImageProcessor(size=32).prepare_study({"A4C": path, "A2C": clip})
    assert list(prepared.clips) == ["A2C"] and len(prepared.refused) == 1


# ---- formats


@pytest.mark.parametrize(
    "start",
    [
        "02000000554c0400c2000000",  # explicit: group length of the meta information
        "08000500435300004953",  # explicit: character set
        "0800000004000000d20000000800",  # implicit: group length
        "080016001a000000312e322e38",  # implicit: storage class
        "000800054353000a49534f5f4952",  # explicit, big endian
    ],
)
def test_data_sets_without_preamble_are_known_by_their_start(start):
    assert starts_with_data_set(bytes.fromhex(start) + bytes(8))


@pytest.mark.parametrize("samples", [[8, 16, 4, 0, 0, 0, 0], [2, 0, 4, 0, 2, 8, 8], [8, 0, 4, 0, 1, 1, 9]])
def test_signal_files_are_no_dicom(samples):
    assert not starts_with_data_set(struct.pack("<7h", *samples))


@pytest.mark.parametrize("keep_meta", [True, False])
def test_a_file_without_preamble_is_read_with_and_without_suffix(tmp_path, clip, keep_meta):
    source = write_clip(tmp_path / "source.dcm", clip)
    content = source.read_bytes()
    start = 132 if keep_meta else 144 + struct.unpack("<I", content[140:144])[0]
    source.unlink()
    for name in ("a.dcm", "b"):
        (tmp_path / name).write_bytes(content[start:])
        read = read_echo_clip(tmp_path / name)
        assert np.array_equal(read.frames, clip[0:32:2]) and count_echo_frames(tmp_path / name) == FRAMES
        assert ("transfer_syntax_assumed" in {note["code"] for note in read.notes}) == (not keep_meta)
    assert [path.name for path in list_echo_files(tmp_path)] == ["a.dcm", "b"]


def write_video(path: Path, frames: np.ndarray, codec: str) -> Path:
    """Write a video with OpenCV, or skip the test."""
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 30, frames.shape[2:0:-1])
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec} video")
    for frame in frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.MP4", "100%d.mp4"])
def test_videos_are_read(tmp_path, clip, name):
    path = write_video(tmp_path / "plain.mp4", clip, "mp4v").rename(tmp_path / name)
    if name.endswith(".mov"):
        path = write_video(tmp_path / name, clip, "mp4v")
    read = read_echo_clip(path)
    assert read.total_frames == count_echo_frames(path) == FRAMES and read.frames.shape == (16, 120, 160, 3)
    assert np.abs(read.frames.astype(int) - clip[0:32:2]).mean() < 12
    assert path in list_echo_files(tmp_path)


def test_a_video_in_a_dicom_file_is_read(tmp_path, clip):
    stream = write_video(tmp_path / "a.mp4", clip, "mp4v").read_bytes()
    path = write_clip(tmp_path / "a.dcm", clip, "YBR_FULL")

    def change(dataset: pydicom.Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = MPEG4HP41
        dataset.PhotometricInterpretation = "YBR_PARTIAL_420"
        dataset.PixelData = encapsulate([stream + bytes(len(stream) % 2)])

    edit(path, change)
    read = read_echo_clip(path)
    assert read.colour_space == "RGB" and read.total_frames == count_echo_frames(path) == FRAMES
    assert np.abs(read.frames.astype(int) - clip[0:32:2]).mean() < 12
    assert "cannot be decoded" in reason_of(with_header(path, Rows=60))


def test_a_playlist_is_not_followed(tmp_path, clip):
    write_video(tmp_path / "a.mp4", clip, "mp4v")
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path}/a.mp4\n#EXT-X-ENDLIST\n")
    assert "cannot open the video" in reason_of(playlist)


def test_a_video_that_is_cut_short_is_refused(tmp_path, clip):
    path = write_video(tmp_path / "a.avi", clip, "MJPG")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 4])
    reason_of(path)


# ---- confinement


def test_links_out_of_a_study_are_not_followed(tmp_path, clip):
    study, other = tmp_path / "s1", tmp_path / "s2"
    inside = write_clip(study / "a.dcm", clip)
    write_clip(other / "b.dcm", clip)
    (study / "near.dcm").symlink_to(inside)
    (study / "far.dcm").symlink_to(other / "b.dcm")
    (study / "folder").symlink_to(other)
    (study / "up").symlink_to("..")
    views = {"a.dcm": "A4C", "far.dcm": "A2C", "b.dcm": "A3C"}
    processor = EchoImageProcessor(size=32)
    prepared = processor.prepare_study(study, views=views)
    assert list(prepared.clips) == ["A4C"]
    refused = {Path(entry["item"]).name for entry in prepared.refused if "leads out" in entry["reason"]}
    assert refused == {"far.dcm", "folder", "up"}
    assert [path.name for path in list_echo_files(study)] == ["a.dcm", "near.dcm"]
    allowed = processor.prepare_study(study, views=views, allow_outside=True)
    assert set(allowed.clips) == {"A4C", "A2C", "A3C"}
    (tmp_path / "link").symlink_to(study)  # the user names the study itself by a link
    assert len(list_echo_files(tmp_path / "link")) == 2


def test_a_study_of_nothing_but_links_out_says_so(tmp_path, clip):
    write_clip(tmp_path / "s2" / "b.dcm", clip)
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "b.dcm").symlink_to(tmp_path / "s2" / "b.dcm")
    with pytest.raises(InputRefusedError, match="leads out of the study directory"):
        EchoImageProcessor(size=32)(tmp_path / "s1", views={"b.dcm": "A4C"})


@pytest.mark.parametrize("photometric", ["YBR_RCT", "YBR_ICT", "MONOCHROME2"])
def test_colours_that_the_header_itself_contradicts_are_refused(tmp_path, clip, photometric):
    path = with_header(write_clip(tmp_path / "a.dcm", clip), PhotometricInterpretation=photometric)
    with pytest.raises(InputRefusedError, match=photometric):
        read_echo_clip(path, 16)


def test_empty_pixel_data_and_a_giant_stream_have_their_reason(tmp_path, clip):
    empty = edit(write_clip(tmp_path / "empty.dcm", clip), lambda dataset: setattr(dataset["PixelData"], "value", b""))
    stream = bytearray(to_jpeg(clip[0], "RGB"))
    start = stream.index(b"\xff\xc0")
    stream[start + 5 : start + 9] = struct.pack(">HH", 65_000, 65_000)
    giant = write_echo_dicom(tmp_path / "giant.dcm", clip[:4], JPEGBaseline8Bit, "RGB", [bytes(stream)] * 4)
    for path in (empty, giant):
        with pytest.raises(InputRefusedError) as caught:
            read_echo_clip(path, 16)
        assert "unexpected" not in caught.value.reason and "DecompressionBomb" not in caught.value.reason


# ---- patterns inside the shape of a sector


def in_sector(make, frames=24, height=144, width=192):
    """(frames, height, width, 3) uint8 RGB: what `make(index, rows, columns)` draws, inside the shape of a sector."""
    rows, columns = np.mgrid[0:height, 0:width]
    radius, angle = np.hypot(rows - 6, columns - width / 2), np.arctan2(columns - width / 2, rows - 6)
    fan = (np.abs(angle) < 0.6) & (radius < 0.85 * height)
    clip = np.stack([np.where(fan, np.clip(make(index, rows, columns), 0, 255), 0) for index in range(frames)])
    return clip.astype(np.uint8)[..., None].repeat(3, axis=-1)


def patterns():
    """Name -> a drawer of frames that are no ultrasound."""
    random = np.random.default_rng(0)
    standing = random.integers(20, 220, (144, 192))
    return {
        "white noise": lambda index, rows, columns: random.integers(0, 256, rows.shape),
        "bright noise": lambda index, rows, columns: random.normal(140, 30, rows.shape),
        "blurred noise": lambda index, rows, columns: 120 + 300 * gaussian_filter(random.normal(size=rows.shape), 2),
        "noise that stands still": lambda index, rows, columns: standing + 4 * (index % 3),
        "a ramp that moves": lambda index, rows, columns: (columns + 6 * index) % 256,
        "a ramp that grows brighter": lambda index, rows, columns: 40 + rows + 2 * index,
        "waves": lambda index, rows, columns: 128 + 80 * np.sin(columns / 15 + index / 3),
        "a bright spot that moves": lambda index, rows, columns: (
            30 + 200 * np.exp(-((columns - 70 - 2 * index) ** 2 + (rows - 80) ** 2) / 1200)
        ),
    }


@pytest.mark.parametrize("name", patterns())
@pytest.mark.parametrize("jpeg", [False, True])
def test_noise_and_drawn_patterns_in_a_sector_are_refused(tmp_path, name, jpeg):
    clip = in_sector(patterns()[name])
    with pytest.raises(InputRefusedError):
        read_echo_clip(write_clip(tmp_path / "a.dcm", clip, "YBR_FULL" if jpeg else "RGB", jpeg))


@pytest.mark.parametrize("seed", range(5))
def test_speckle_around_a_moving_cavity_is_a_clip(tmp_path, seed):
    for size in ((240, 320), (96, 128)):
        clip = make_clip(20, *size, seed=seed, colour=True)
        assert read_echo_clip(write_clip(tmp_path / "a.dcm", clip)).total_frames == 20


# ---- uncompressed pixels that the header cuts wrongly, although the lengths agree


def beating_clip(frames=24, height=96, width=128):
    """(frames, height, width, 3) uint8 RGB: a sector whose speckle stays alike for a few frames, and a jet."""
    random = np.random.default_rng(1)
    speckle = gaussian_filter(random.normal(size=(frames, height, width)), (1.5, 1, 1))
    grey = 110 + 25 * speckle / speckle.std()
    clip = in_sector(
        lambda index, rows, columns: (
            np.where(np.hypot(rows - 60, columns - 64) < 18 + 4 * np.sin(index / 3), 0.3, 1.0) * grey[index]
        ),
        frames,
        height,
        width,
    )
    clip[:, 50:60, 60:66] = (200, 40, 30)
    return clip


def declared(path, pixels, frames, rows, columns, planar=0):
    dataset = pydicom.dcmread(write_clip(path, beating_clip()))
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames, rows, columns
    dataset.PlanarConfiguration, dataset.PixelData = planar, np.ascontiguousarray(pixels).tobytes()
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    ("frames", "rows", "columns"),
    [(12, 192, 128), (8, 288, 128), (48, 48, 128), (72, 32, 128), (12, 96, 256), (24, 192, 64)],
)
def test_rows_and_frames_that_only_agree_in_length_are_refused(tmp_path, frames, rows, columns):
    clip = beating_clip()
    assert read_echo_clip(declared(tmp_path / "right.dcm", clip, 24, 96, 128)).total_frames == 24
    with pytest.raises(InputRefusedError):
        read_echo_clip(declared(tmp_path / "wrong.dcm", clip, frames, rows, columns))


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("has_colour", [False, True])
def test_colours_stored_by_volume_are_refused(tmp_path, planar, has_colour):
    clip = beating_clip() if has_colour else beating_clip()[..., 1:2].repeat(3, axis=-1)
    by_frame = np.moveaxis(clip, -1, 1) if planar else clip
    assert read_echo_clip(declared(tmp_path / "right.dcm", by_frame, 24, 96, 128, planar)).total_frames == 24
    with pytest.raises(InputRefusedError):
        read_echo_clip(declared(tmp_path / "wrong.dcm", np.moveaxis(clip, -1, 0), 24, 96, 128, planar))
