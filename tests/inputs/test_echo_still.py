"""Clips that seem to move and do not, that move too slowly, or whose header states an implausible frame rate."""

import numpy as np
import pydicom
import pytest
from input_files import as_ycbcr, make_clip, write_clip
from scipy.ndimage import affine_transform, gaussian_filter

from tgmm_hf.inputs.echo_reading import clip_from_array, read_echo_clip
from tgmm_hf.utils.errors import InputRefusedError

FRAMES = 40


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """(40, 240, 320, 3) RGB: a moving sector whose speckle stays from frame to frame."""
    rough = make_clip(FRAMES, 240, 320, colour=True)
    still = rough[:1].astype(float)
    return gaussian_filter(0.7 * still + 0.3 * rough, (0, 1.2, 1.2, 0)).round().astype(np.uint8)


def codes(frames: np.ndarray) -> list[str]:
    return [note["code"] for note in clip_from_array(frames).notes]


def moved(picture: np.ndarray, scale: float, down: float, right: float) -> np.ndarray:
    """A picture (height, width, 3), scaled about its middle and moved."""
    middle = (np.array(picture.shape[:2]) - 1) / 2
    shift = middle - middle / scale - np.array([down, right]) / scale
    planes = [affine_transform(plane, [1 / scale] * 2, offset=shift, order=1) for plane in np.moveaxis(picture, -1, 0)]
    return np.stack(planes, axis=-1)


STILLS = {
    "brightness waves": lambda picture, i: picture * (1 + 0.2 * np.sin(i / 3)),
    "grows brighter": lambda picture, i: picture * (0.7 + 0.01 * i),
    "zooms": lambda picture, i: moved(picture, 1 + 0.003 * i, 0, 0),
    "zooms in and out": lambda picture, i: moved(picture, 1 + 0.04 * np.sin(i / 4), 0, 0),
    "pans": lambda picture, i: moved(picture, 1, 0.3 * i, 0.2 * i),
}


@pytest.mark.parametrize("kind", STILLS)
def test_one_picture_made_brighter_moved_or_scaled_is_named(clip, kind):
    picture = 0.8 * clip[0].astype(float)
    frames = np.stack([STILLS[kind](picture, index) for index in range(FRAMES)])
    assert "picture_still" in codes(np.clip(frames.round(), 0, 255).astype(np.uint8))


def test_a_still_picture_in_a_small_frame_is_named(clip):
    picture = 0.8 * clip[0, ::3, ::3].astype(float)
    shadowed = np.where((np.arange(picture.shape[1]) // 14 % 2 == 0)[:, None], picture, 0)
    frames = np.stack([STILLS["grows brighter"](shadowed, index) for index in range(FRAMES)])
    assert "picture_still" in codes(frames.round().astype(np.uint8))


def test_a_clip_that_moves_is_no_still_picture_also_if_it_grows_brighter(clip):
    assert codes(clip) == []
    growing = clip * np.linspace(0.6, 1, FRAMES)[:, None, None, None]
    assert "picture_still" not in codes(growing.round().astype(np.uint8))


@pytest.mark.parametrize("times", [2, 3, 4])
def test_an_array_that_holds_each_frame_several_times_is_named(clip, times):
    assert codes(np.repeat(clip, times, axis=0)).count("frames_repeated") == 1


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("is_jpeg", [False, True])
def test_a_dicom_file_that_holds_each_frame_several_times_is_named_once(clip, tmp_path, times, is_jpeg):
    noise = np.random.default_rng(0).random((24, *clip.shape[1:3], 1)) < 0.05  # as after a lossy coding
    frames = np.minimum(np.repeat(clip[: 24 // times], times, axis=0), 254) + noise.astype(np.uint8)
    path = tmp_path / "a.dcm"
    write_clip(path, as_ycbcr(frames) if is_jpeg else frames, "YBR_FULL" if is_jpeg else "RGB", jpeg=is_jpeg)
    read = read_echo_clip(path)
    assert [note["code"] for note in read.notes if "repeat" in note["code"]] == ["frames_repeated"] * (times > 1)
    assert len(read.frames) == 12 and read.total_frames == 24


@pytest.mark.parametrize(("codec", "suffix"), [("mp4v", ".mp4"), ("MJPG", ".avi")])
def test_a_video_that_holds_each_frame_twice_is_named(clip, tmp_path, codec, suffix):
    once, twice = (
        write_video(tmp_path / f"{times}{suffix}", np.repeat(clip, times, axis=0), codec) for times in (1, 2)
    )
    assert [note["code"] for note in read_echo_clip(once).notes] == []
    assert [note["code"] for note in read_echo_clip(twice).notes] == ["frames_repeated"]


def write_video(path, frames, codec):
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 30, frames.shape[2:0:-1])
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec} video")
    for frame in frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return path


RATES = [
    ({"FrameTime": "1000"}, True),
    ({"FrameTime": "2"}, True),
    ({"CineRate": 1}, True),
    ({"FrameTimeVector": [0, *["1000"] * (FRAMES - 1)]}, True),
    ({"FrameTime": "33.33"}, False),
    ({"FrameTime": "6.7"}, False),
    ({"CineRate": 50, "FrameTimeVector": [0, *["20"] * (FRAMES - 1)]}, False),
    ({"FrameTime": "0"}, False),
    ({}, False),
]


@pytest.mark.parametrize(("header", "is_named"), RATES)
def test_an_implausible_frame_rate_of_the_header_is_named(clip, tmp_path, header, is_named):
    path = tmp_path / "clip.dcm"
    write_clip(path, clip, "RGB")
    dataset = pydicom.dcmread(path)
    for name in ("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate"):
        if name in dataset:
            delattr(dataset, name)
    for name, value in header.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    assert ("frame_rate" in [note["code"] for note in read_echo_clip(path).notes]) == is_named


def region(width, height, spatial=1, units=3):
    """Make an ultrasound region with the sides of a pixel; `units` 3 is centimetres, and 4 is seconds."""
    dataset = pydicom.Dataset()
    dataset.RegionSpatialFormat = spatial
    dataset.PhysicalUnitsXDirection, dataset.PhysicalUnitsYDirection = units, 3
    dataset.PhysicalDeltaX, dataset.PhysicalDeltaY = width, height
    return dataset


@pytest.mark.parametrize(
    ("header", "code"),
    [({"PixelAspectRatio": [2, 1]}, "pixel_aspect"), ({"PixelAspectRatio": [1, 1]}, None),
     ({"BodyPartExamined": "LIVER"}, "body_part"), ({"BodyPartExamined": "HEART"}, None),
     ({"StudyDescription": "TEE with bubble study"}, "examination"),
     ({"SeriesDescription": "Transoesophageal"}, "examination"),
     ({"ProtocolName": "Fetal Echo"}, "examination"), ({"StudyDescription": "Ecografia carotid bilat"}, "examination"),
     ({"StudyDescription": "Dobutamine Stress Echo"}, "examination"), ({"StageName": "PEAK"}, "examination"),
     ({"StageName": "REST", "ContrastBolusAgent": "NONE"}, None), ({"ContrastBolusAgent": "SonoVue"}, "examination"),
     ({"StudyDescription": "Phantom, monthly"}, "examination"),
     ({"StudyDescription": "US ABDOMEN COMPLETE"}, "examination"), ({"ProtocolName": "Lung"}, "examination"),
     ({"StudyDescription": "Lower extremity venous duplex"}, "examination"),
     ({"StudyDescription": "Canine echocardiogram"}, "examination"), ({"ProtocolName": "Oberbauch"}, "examination"),
     *[({"StudyDescription": text}, None) for text in (
         "TTE, s/p bovine pericardial AVR", "porcine mitral valve", "Echo CAT lab", "MICE", "pre lung transplant",
         "Echo pre lung transplant", "abdominal aorta", "pericardial/pleural effusion", "r/o DVT/PE", "TTE, liver mets",
         "Transthoracic, renal failure", "Heart and lung")],
     *[({"StudyDescription": text}, "examination") for text in (
         "Lung ultrasound", "Veterinary TTE", "Pig study", "Echographie abdominale", "Leg vein duplex, DVT")],
     ({"StudyDescription": "Cardiac and vascular ultrasound"}, None), ({"StudyDescription": "Catheter echo"}, None),
     ({"SequenceOfUltrasoundRegions": [region(0.02, 0.08)]}, "pixel_aspect"),
     ({"SequenceOfUltrasoundRegions": [region(0.08, -0.08)]}, None),
     ({"SequenceOfUltrasoundRegions": [region(0.08, 0.08), region(0.002, 0.08, spatial=3, units=4)]}, None),
     ({"StudyDescription": "TTE complete", "ProtocolName": "Adult Echo", "SeriesDescription": "Steep A4C"}, None)],
)  # fmt: skip
def test_pixels_that_are_not_square_and_other_organs_are_named(clip, tmp_path, header, code):
    path = write_clip(tmp_path / "clip.dcm", clip[:20])
    dataset = pydicom.dcmread(path)
    for name, value in header.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    named = {note["code"] for note in read_echo_clip(path).notes} & {"pixel_aspect", "body_part", "examination"}
    assert named == {code} - {None}


def test_black_frames_at_the_start_are_no_smooth_pattern(clip, tmp_path):
    frames = clip.copy()
    frames[:6] = 0
    assert read_echo_clip(write_clip(tmp_path / "clip.dcm", frames)).total_frames == FRAMES


def test_a_coloured_trace_that_runs_over_a_thick_strip_is_no_colour_by_volume(tmp_path, clip):
    frames = clip.copy()
    rows = 225 + (8 * np.sin(np.arange(320) / 12)).astype(int)
    for index in range(FRAMES):
        frames[index, np.roll(rows, 5 * index), np.arange(320)] = (0, 255, 0)
    frames = frames.repeat(3, axis=1).repeat(3, axis=2)[:16]
    assert read_echo_clip(write_clip(tmp_path / "clip.dcm", frames)).total_frames == 16


def test_a_real_clip_has_none_of_the_codes(shared_dir):
    found = {note["code"] for path in shared_dir.glob("data/echo_dicom/*.dcm") for note in read_echo_clip(path).notes}
    assert not found & {"picture_still", "frames_repeated", "frame_rate"}


def test_an_ultrasound_volume_is_refused(clip, tmp_path):
    path = write_clip(tmp_path / "clip.dcm", clip[:20])
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.2"
    dataset.save_as(path)
    with pytest.raises(InputRefusedError, match="volume"):
        read_echo_clip(path)
