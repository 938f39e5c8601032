"""Reading echo files: what was written in several formats comes back; bad files are refused with a reason."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from input_files import (
    as_ycbcr,
    colour_distance,
    make_ecg,
    make_frames,
    to_jpeg,
    to_jpeg2000,
    waveform_group,
    write_ecg_dicom,
    write_echo_dicom,
)
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    MPEG4HP41,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from tgmm_hf.inputs import echo_decoders
from tgmm_hf.inputs.echo_reading import count_echo_frames, list_echo_files, read_echo_clip
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS


def echo_files(directory: Path) -> dict[str, tuple[Path, np.ndarray, str, int]]:
    """name -> (file, frames as stored, colour space, tolerance)."""
    rgb, grey = make_frames(), make_frames()[..., 0]
    ybr = as_ycbcr(rgb)
    baseline, kept, lossy = JPEGBaseline8Bit, JPEG2000Lossless, JPEG2000
    packed_422 = np.stack([ybr[:, :, 0::2, 0], ybr[:, :, 1::2, 0], ybr[:, :, 0::2, 1], ybr[:, :, 0::2, 2]], axis=-1)
    stored_422 = ybr.copy()
    stored_422[:, :, 1::2, 1:] = ybr[:, :, 0::2, 1:]
    jpegs = {"no_marker": [to_jpeg(f, "YCbCr") for f in ybr], "jfif": [to_jpeg(f, "RGB") for f in rgb]}
    jpegs["no_marker"] = [strip_jfif(data) for data in jpegs["no_marker"]]
    write = write_echo_dicom
    return {
        "raw_rgb": (write(directory / "a.dcm", rgb), rgb, "RGB", 0),
        "raw_ybr": (write(directory / "b.dcm", ybr, photometric="YBR_FULL"), ybr, "YBR", 0),
        "raw_grey": (write(directory / "c.dcm", grey, photometric="MONOCHROME2"), grey, "MONOCHROME", 0),
        "raw_422": (write_422(directory / "d.dcm", ybr, packed_422), stored_422, "YBR", 0),
        "rle_rgb": (write(directory / "e.dcm", rgb, RLELossless), rgb, "RGB", 0),
        "rle_ybr": (write(directory / "f.dcm", ybr, RLELossless, "YBR_FULL"), ybr, "YBR", 0),
        "jpeg_no_marker": (
            write(directory / "g.dcm", ybr, baseline, "YBR_FULL_422", jpegs["no_marker"]),
            ybr,
            "YBR",
            4,
        ),
        "jpeg_jfif_called_rgb": (write(directory / "h.dcm", rgb, baseline, "RGB", jpegs["jfif"]), ybr, "YBR", 4),
        "jpeg_rgb_unmarked": (write(directory / "i.dcm", rgb, baseline, "RGB", jpegs["no_marker"]), ybr, "YBR", 4),
        "jpeg_grey": (
            write(directory / "j.dcm", grey, baseline, "MONOCHROME2", [to_jpeg(f, "L") for f in grey]),
            grey,
            "MONOCHROME",
            4,
        ),
        "j2k_rct": (
            write(directory / "k.dcm", rgb, kept, "YBR_RCT", [to_jpeg2000(f, False) for f in rgb]),
            rgb,
            "RGB",
            0,
        ),
        "j2k_ict": (
            write(directory / "l.dcm", rgb, lossy, "YBR_ICT", [to_jpeg2000(f, True) for f in rgb]),
            rgb,
            "RGB",
            3,
        ),
        "j2k_grey": (
            write(directory / "m.dcm", grey, kept, "MONOCHROME2", [to_jpeg2000(f, False) for f in grey]),
            grey,
            "MONOCHROME",
            0,
        ),
    }


def strip_jfif(data: bytes) -> bytes:
    """Without the APP0 (JFIF) segment, as ultrasound machines write it."""
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]


def write_422(path: Path, ybr: np.ndarray, packed: np.ndarray) -> Path:
    write_echo_dicom(path, ybr, photometric="YBR_FULL_422")
    dataset = pydicom.dcmread(path)
    dataset.PixelData = packed.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return echo_files(tmp_path_factory.mktemp("echo"))


@pytest.mark.parametrize(
    "name",
    [
        "raw_rgb",
        "raw_ybr",
        "raw_grey",
        "raw_422",
        "rle_rgb",
        "rle_ybr",
        "jpeg_no_marker",
        "jpeg_jfif_called_rgb",
        "jpeg_rgb_unmarked",
        "jpeg_grey",
        "j2k_rct",
        "j2k_ict",
        "j2k_grey",
    ],
)
def test_clips_come_back_as_stored(stored, name):
    path, frames, space, tolerance = stored[name]
    clip = read_echo_clip(path, num_frames=16, stride=2)
    expected = frames[0:32:2]
    if expected.ndim == 3:
        expected = np.repeat(expected[..., None], 3, axis=-1)
    assert clip.colour_space == space and clip.total_frames == 40 and clip.frames.dtype == np.uint8
    assert colour_distance(clip.frames, expected) <= tolerance
    assert count_echo_frames(path) == 40


def test_an_adobe_marker_decides_the_colour_space(tmp_path):
    rgb = make_frames(4)
    frames = [to_jpeg(frame, "RGB", keep_rgb=True) for frame in rgb]  # Adobe marker, transform 0: RGB components
    path = write_echo_dicom(tmp_path / "a.dcm", rgb, JPEGBaseline8Bit, "YBR_FULL", frames)
    clip = read_echo_clip(path)
    assert clip.colour_space == "RGB" and colour_distance(clip.frames, rgb[0::2]) <= 4


def test_palette_colours_are_looked_up(tmp_path):
    random = np.random.default_rng(0)
    still, other = random.integers(0, 4, (48, 64)), random.integers(0, 4, (6, 48, 64))
    indices = np.where(random.random((6, 48, 64)) < 0.2, other, still).astype(np.uint8).repeat(2, 1).repeat(2, 2)
    path = write_echo_dicom(tmp_path / "p.dcm", indices, photometric="PALETTE COLOR")
    dataset = pydicom.dcmread(path)
    table = np.array([[0, 80, 160, 255], [255, 40, 20, 0], [0, 0, 90, 128]], dtype=np.uint8)
    for channel, values in zip(("Red", "Green", "Blue"), table, strict=True):
        dataset.add_new(f"{channel}PaletteColorLookupTableDescriptor", "US", [4, 0, 8])
        setattr(dataset, f"{channel}PaletteColorLookupTableData", values.tobytes())
    dataset.save_as(path)
    clip = read_echo_clip(path)
    assert clip.colour_space == "RGB" and np.array_equal(clip.frames, table.T[indices[0::2]])


@pytest.mark.parametrize(("num_frames", "stride", "expected"), [(16, 2, 16), (4, 3, 4), (50, 1, 40), (16, 4, 10)])
def test_only_the_frames_needed_are_decoded(stored, monkeypatch, num_frames, stride, expected):
    """Of the frames that the model does not read, the brightness is enough."""
    calls = []
    decode = echo_decoders._decode_as_stored
    monkeypatch.setattr(echo_decoders, "_decode_as_stored", lambda *a: calls.append(1) or decode(*a))
    clip = read_echo_clip(stored["jpeg_no_marker"][0], num_frames, stride)
    assert len(clip.frames) == expected and len(calls) == expected


def test_stills_reports_and_odd_pixels_are_refused(tmp_path):
    with pytest.raises(InputRefusedError, match="single-frame still"):
        read_echo_clip(write_echo_dicom(tmp_path / "a.dcm", make_frames(1)))
    with pytest.raises(InputRefusedError, match="16 bits a sample, 8 are expected"):
        read_echo_clip(
            write_echo_dicom(tmp_path / "b.dcm", make_frames()[..., 0].astype(np.uint16), photometric="MONOCHROME2")
        )
    with pytest.raises(InputRefusedError, match="'MONOCHROME1' is not supported"):
        read_echo_clip(write_echo_dicom(tmp_path / "c.dcm", make_frames()[..., 0], photometric="MONOCHROME1"))
    group = waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")
    with pytest.raises(InputRefusedError, match="without an image"):
        read_echo_clip(write_ecg_dicom(tmp_path / "d.dcm", [group]))


def test_damaged_clips_are_refused(tmp_path):
    frames = [to_jpeg(frame, "RGB") for frame in make_frames(8)]
    short = write_echo_dicom(tmp_path / "short.dcm", make_frames(20), JPEGBaseline8Bit, "YBR_FULL_422", frames)
    cut = write_echo_dicom(
        tmp_path / "cut.dcm", make_frames(8), JPEGBaseline8Bit, "YBR_FULL_422", [f[:300] for f in frames]
    )
    raw = write_echo_dicom(tmp_path / "raw.dcm", make_frames(8))
    raw.write_bytes(raw.read_bytes()[:-2000])
    foreign = write_echo_dicom(tmp_path / "foreign.dcm", make_frames(8))
    dataset = pydicom.dcmread(foreign)
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    dataset.PixelData = encapsulate([b"x" * 100])
    dataset.save_as(foreign)
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM")
    for path in (short, cut, raw, foreign, text, tmp_path / "missing.dcm"):
        with pytest.raises(InputRefusedError, match=path.name):
            read_echo_clip(path)


def test_a_file_cut_anywhere_in_its_header_is_refused(tmp_path):
    whole = write_echo_dicom(tmp_path / "whole.dcm", make_frames(frames=2), ExplicitVRLittleEndian).read_bytes()
    start = whole.index(b"\xe0\x7f\x10\x00")
    cut = tmp_path / "cut.dcm"
    for length in range(128, start + 12):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputRefusedError):
            read_echo_clip(cut)


def test_no_header_content_leaves_the_reader(stored):
    clip = read_echo_clip(stored["raw_rgb"][0])
    assert set(vars(clip)) == {"frames", "colour_space", "total_frames", "source", "notes", "between", "stated_views"}
    assert "Doe" not in repr({**vars(clip), "frames": None})


def test_echo_files_of_a_directory_are_listed(tmp_path):
    (tmp_path / "s1").mkdir()
    second = write_echo_dicom(tmp_path / "s1" / "b.dcm", make_frames(2))
    first = write_echo_dicom(tmp_path / "a_without_suffix", make_frames(2))
    (tmp_path / "notes.txt").write_text("x")
    assert list_echo_files(tmp_path) == [first, second]
    with pytest.raises(InputRefusedError, match="no such study directory"):
        list_echo_files(tmp_path / "nowhere")
    with pytest.raises(InputRefusedError, match="a file, not a study directory"):
        list_echo_files(second)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputRefusedError, match="no echo file among 0 files"):
        list_echo_files(tmp_path / "empty")


def test_a_video_comes_back_as_written(tmp_path):
    cv2 = pytest.importorskip("cv2")
    frames = make_frames(40)
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG video")
    for frame in frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    clip = read_echo_clip(path)
    assert clip.colour_space == "RGB" and clip.total_frames == 40 and clip.frames.shape == (16, 48, 64, 3)
    assert np.abs(clip.frames.astype(int) - frames[0:32:2]).mean() < 6
    path.write_bytes(b"no video")
    with pytest.raises(InputRefusedError, match="cannot open the video"):
        read_echo_clip(path)


def test_a_real_clip_is_read_as_stored(shared_dir):
    clip = read_echo_clip(shared_dir / "data" / "echo_dicom" / "color3d_jpeg_baseline.dcm")
    assert clip.frames.shape == (16, 480, 640, 3) and clip.colour_space == "YBR" and clip.total_frames == 120
