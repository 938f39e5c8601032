"""Video clips: files and streams in DICOM give the same frames, and contradictions are refused."""

import numpy as np
import pydicom
import pytest
from input_files import make_clip, write_clip
from pydicom.encaps import encapsulate
from pydicom.uid import UID
from video_streams import FRAMES, H264, HEVC, moving_disc

from tgmm_hf.inputs import echo_video
from tgmm_hf.inputs.echo_reading import count_echo_frames, list_echo_files, read_echo_clip
from tgmm_hf.inputs.input_limits import InputLimits
from tgmm_hf.utils.errors import InputRefusedError

cv2 = pytest.importorskip("cv2")
DICOM_VIDEO = "1.2.840.10008.1.2.4."
MPEG4 = [f"{DICOM_VIDEO}{number}" for number in (102, 103, 104, 105, 106)]
HEVC_SYNTAXES = [f"{DICOM_VIDEO}{number}" for number in (107, 108)]
FRAGMENTABLE = [f"{DICOM_VIDEO}{number}.1" for number in (102, 103, 104, 105, 106)]


def write_dicom_video(path, stream, syntax=MPEG4[0], size=(64, 64), frames=FRAMES, pieces=1, **header):
    write_clip(path, np.zeros((2, *size, 3), np.uint8), "YBR_FULL")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.PhotometricInterpretation = "YBR_PARTIAL_420"
    dataset.NumberOfFrames = frames
    cut = range(0, len(stream), -(-len(stream) // pieces))
    step = -(-len(stream) // pieces)
    parts = [stream[start : start + step] for start in cut]
    dataset.PixelData = encapsulate([part + bytes(len(part) % 2) for part in parts], has_bot=False)
    dataset["PixelData"].is_undefined_length = True
    for name, value in header.items():
        setattr(dataset, name, value) if value is not None else delattr(dataset, name)
    dataset.save_as(path)
    return path


def write_file(path, clip, codec, rate=30):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, clip.shape[2:0:-1])
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec} video")
    for frame in clip:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return path


def can_decode(stream):
    try:
        echo_video.read_video_stream(stream, "probe", 2, 1)
    except InputRefusedError:
        return False
    return True


streams = pytest.mark.parametrize(
    ("stream", "syntax"),
    [(H264, syntax) for syntax in MPEG4 + FRAGMENTABLE] + [(HEVC, syntax) for syntax in HEVC_SYNTAXES],
)


@streams
def test_h264_and_hevc_in_dicom_show_the_encoded_picture(tmp_path, stream, syntax):
    if not can_decode(stream):
        pytest.skip("this OpenCV has no decoder for the stream")
    clip = moving_disc()
    path = write_dicom_video(tmp_path / "a", stream, syntax)
    read = read_echo_clip(path)
    assert (read.colour_space, read.total_frames) == ("RGB", FRAMES) and count_echo_frames(path) == FRAMES
    assert len(read.frames) == 12 and np.abs(read.frames.astype(int) - clip[::2]).mean() < 8
    red, green, blue = (read.frames[:, 14:18, 30:34, channel].mean() for channel in range(3))
    assert red > 180 and green < 60 and blue < 80  # red and blue are not exchanged
    assert list_echo_files(tmp_path) == [path]


def test_a_video_that_is_shorter_than_its_head_states_is_refused_even_if_the_first_frames_are_there(tmp_path):
    clip = moving_disc()
    path = write_file(tmp_path / "a.avi", clip, "MJPG")
    whole = path.read_bytes()
    assert len(read_echo_clip(path, num_frames=2).frames) == 2
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(InputRefusedError):
        read_echo_clip(path, num_frames=2)
    path.write_bytes(whole[:4] + b"\xff\xff\xff\xff" + whole[8:])  # written before the length was known
    assert len(read_echo_clip(path, num_frames=2).frames) == 2


def test_a_cut_box_of_an_mp4_file_is_refused_and_a_trailer_is_not(tmp_path):
    path = write_file(tmp_path / "a.mp4", moving_disc(), "mp4v")
    whole, frames = path.read_bytes(), read_echo_clip(path).frames
    box = (1008).to_bytes(4, "big") + b"free"
    for behind in (box + bytes(1000), b"a program wrote its name here", bytes(1)):
        path.write_bytes(whole + behind)
        assert np.array_equal(read_echo_clip(path).frames, frames)
    path.write_bytes(whole + box + bytes(500))
    with pytest.raises(InputRefusedError):
        read_echo_clip(path)


def test_a_stream_in_several_fragments_is_one_video(tmp_path):
    whole = read_echo_clip(write_dicom_video(tmp_path / "a.dcm", H264))
    pieces = read_echo_clip(write_dicom_video(tmp_path / "b.dcm", H264 + bytes(len(H264) % 2), pieces=1))
    assert np.array_equal(whole.frames, pieces.frames)
    even = H264[:500], H264[500:]
    assert len(even[0]) % 2 == 0
    split = read_echo_clip(write_dicom_video(tmp_path / "c.dcm", H264 + b"\0" * (1000 - len(H264) % 1000), pieces=4))
    assert np.array_equal(whole.frames, split.frames)


@pytest.mark.parametrize(("codec", "container"), [("mp4v", "mp4"), ("MJPG", "avi"), ("mp4v", "mov")])
def test_files_and_the_same_bytes_in_dicom_give_the_same_frames(tmp_path, codec, container):
    clip = make_clip(frames=36, height=120, width=160, colour=True)
    path = write_file(tmp_path / f"a.{container}", clip, codec)
    from_file = read_echo_clip(path)
    wrapped = write_dicom_video(tmp_path / "b.dcm", path.read_bytes(), size=(120, 160), frames=36)
    from_dicom = read_echo_clip(wrapped)
    assert np.array_equal(from_file.frames, from_dicom.frames)
    assert from_file.total_frames == from_dicom.total_frames == count_echo_frames(path) == 36
    assert np.abs(from_file.frames.astype(int) - clip[:32:2]).mean() < 12


@pytest.mark.parametrize("declared", [2, 21, 27, 300])
def test_another_number_of_frames_than_declared_is_refused(tmp_path, declared):
    path = write_dicom_video(tmp_path / "a.dcm", H264, frames=declared)
    with pytest.raises(InputRefusedError, match=f"declares {declared} frames, the video holds {FRAMES}"):
        read_echo_clip(path)
    container = write_file(tmp_path / "a.mp4", make_clip(frames=36, height=120, width=160), "mp4v").read_bytes()
    path = write_dicom_video(tmp_path / "b.dcm", container, size=(120, 160), frames=declared)
    with pytest.raises(InputRefusedError, match="the video holds 36"):
        read_echo_clip(path)


def test_a_few_frames_and_a_missing_number_are_noted(tmp_path):
    near = read_echo_clip(write_dicom_video(tmp_path / "a.dcm", H264, frames=FRAMES + 1))
    none = write_dicom_video(tmp_path / "b.dcm", H264, NumberOfFrames=None)
    for read in (near, read_echo_clip(none)):
        assert read.total_frames == FRAMES and [note["code"] for note in read.notes].count("frames_counted") == 1
    assert count_echo_frames(none) == FRAMES


@pytest.mark.parametrize(("rate", "is_named"), [(1, True), (30, False)])
def test_a_frame_rate_of_a_container_that_no_scanner_has_is_noted(tmp_path, rate, is_named):
    path = write_file(tmp_path / "clip.avi", make_clip(frames=20, height=120, width=160), "MJPG", rate)
    assert ("frame_rate" in [note["code"] for note in read_echo_clip(path).notes]) == is_named


def test_raw_streams_as_files_are_counted(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(H264)
    assert count_echo_frames(path) == read_echo_clip(path).total_frames == FRAMES
    assert read_echo_clip(path, num_frames=4).total_frames == FRAMES


def test_sizes_are_limited(tmp_path):
    path = write_dicom_video(tmp_path / "a.dcm", H264)
    (tmp_path / "a.mp4").write_bytes(H264)
    for limits in (InputLimits(max_frame_pixels=64 * 63), InputLimits(max_clip_bytes=64 * 64 * 3 * 23)):
        for file in (path, tmp_path / "a.mp4"):
            with pytest.raises(InputRefusedError, match="of the input limits"):
                read_echo_clip(file, num_frames=4, limits=limits)
    with pytest.raises(InputRefusedError, match="contradict|cannot be decoded"):
        read_echo_clip(write_dicom_video(tmp_path / "b.dcm", H264, size=(64, 32)))


@pytest.mark.parametrize("bits", [10, 16])
def test_more_than_eight_bits_are_refused(tmp_path, bits):
    path = write_dicom_video(
        tmp_path / "a.dcm", HEVC, HEVC_SYNTAXES[1], BitsAllocated=16, BitsStored=bits, HighBit=bits - 1
    )
    with pytest.raises(InputRefusedError, match="bits a sample"):
        read_echo_clip(path)


@pytest.mark.parametrize("frames", [0, 1])
def test_a_still_as_video_is_refused(tmp_path, frames):
    clip = make_clip(frames=1, height=120, width=160)
    stream = write_file(tmp_path / "a.avi", clip, "MJPG").read_bytes()
    path = write_dicom_video(tmp_path / "b.dcm", stream, size=(120, 160), frames=frames or None)
    for still in (path, tmp_path / "a.avi"):
        with pytest.raises(InputRefusedError, match="still"):
            read_echo_clip(still)


def test_black_videos_are_refused_and_frozen_ones_noted(tmp_path):
    """A codec writes the first frames of a frozen picture differently, so that it is noted and not refused."""
    clip = make_clip(frames=20, height=120, width=160)
    with pytest.raises(InputRefusedError, match="black"):
        read_echo_clip(write_file(tmp_path / "a.avi", clip * 0, "MJPG"))
    frozen = read_echo_clip(write_file(tmp_path / "b.avi", np.repeat(clip[:1], 20, axis=0), "MJPG"))
    assert "frames_repeated" in {note["code"] for note in frozen.notes}


def test_damaged_streams_are_refused_or_noted(tmp_path):
    generator = np.random.default_rng(3)
    for attempt in range(12):
        stream = bytearray((H264, HEVC)[attempt % 2])
        if attempt % 3 == 0:
            del stream[int(generator.integers(10, len(stream))) :]
        for place in generator.integers(0, len(stream), 6):
            stream[place] = int(generator.integers(0, 256))
        path = write_dicom_video(tmp_path / "a.dcm", bytes(stream), (MPEG4[0], HEVC_SYNTAXES[0])[attempt % 2])
        try:
            read = read_echo_clip(path)
        except InputRefusedError as error:
            assert not error.reason.startswith("unexpected")
        else:
            assert read.frames.shape[1:] == (64, 64, 3) and abs(read.total_frames - FRAMES) <= echo_video.FRAMES_OFF
