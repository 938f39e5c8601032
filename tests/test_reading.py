"""Readers: ECG and echo files written here in several formats come back as they went in; bad ones are refused."""

import io
import pickle
from pathlib import Path

import numpy as np
import pydicom
import pytest
import wfdb
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    MPEG4HP41,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    TwelveLeadECGWaveformStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from tgmm_hf.inputs import ecg_reading as reading_tgmm
from tgmm_hf.inputs.ecg_reading import millivolts_per_unit, normalise_lead_name, read_ecg
from tgmm_hf.inputs.echo_reading import count_echo_frames, list_echo_files, read_echo_clip
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

MIMIC_LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]


def make_ecg(leads: int = 12, samples: int = 5000, seed: int = 0) -> np.ndarray:
    """(leads, samples) mV, each lead with its own amplitude."""
    noise = np.random.default_rng(seed).normal(size=(leads, samples)).cumsum(axis=1) * 0.01
    return noise + np.sin(np.arange(samples) / 40) * np.linspace(0.3, 1.5, leads)[:, None]


def write_wfdb(
    directory: Path, signal: np.ndarray, names: list[str], fmt: str = "16", units: str = "mV", **kwargs
) -> Path:
    wfdb.wrsamp(
        "record",
        fs=kwargs.get("fs", 500),
        units=kwargs.get("unit_list", [units] * len(names)),
        sig_name=names,
        p_signal=signal.T,
        fmt=[fmt] * len(names),
        adc_gain=[kwargs.get("gain", 1000.0)] * len(names),
        baseline=[0] * len(names),
        write_dir=str(directory),
    )
    return directory / "record"


def new_dicom(sop_class: str, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.PatientName = "Doe^Jane"
    return dataset


def waveform_group(
    signal_uv: np.ndarray, meanings: list[str], rate: float, originality: str, unit: str | None = "uV"
) -> Dataset:
    """Multiplex group of 16-bit samples with 2 uV a step; `meanings` are lead names or SCPECG code values."""
    group = Dataset()
    group.WaveformOriginality = originality
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = signal_uv.shape
    group.SamplingFrequency = rate
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.ChannelDefinitionSequence = []
    for meaning in meanings:
        channel, source = Dataset(), Dataset()
        source.CodeValue = meaning if meaning[0].isdigit() else "x"
        source.CodingSchemeDesignator, source.CodeMeaning = "SCPECG", meaning
        channel.ChannelSourceSequence = [source]
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = 2.0, 1.0
        channel.ChannelBaseline, channel.WaveformBitsStored = 10.0, 16
        if unit is not None:
            code = Dataset()
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
            channel.ChannelSensitivityUnitsSequence = [code]
        group.ChannelDefinitionSequence.append(channel)
    group.WaveformData = np.rint((signal_uv.T - 10) / 2).astype("<i2").tobytes()
    return group


def write_ecg_dicom(path: Path, groups: list[Dataset]) -> Path:
    dataset = new_dicom(TwelveLeadECGWaveformStorage, ExplicitVRLittleEndian)
    dataset.WaveformSequence = groups
    dataset.save_as(path, enforce_file_format=True)
    return path


def make_frames(frames: int = 40, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(frames, height, width, 3) uint8: smooth colours (JPEG keeps them), each frame of its own brightness."""
    rows, columns = np.mgrid[0:height, 0:width]
    base = np.stack([rows * 3, columns * 2, rows + columns], axis=-1)[None] + np.arange(frames)[:, None, None, None]
    return np.clip(base, 0, 255).astype(np.uint8)


def to_jpeg(frame: np.ndarray, mode: str, **kwargs) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame, mode=mode).save(buffer, "JPEG", quality=98, subsampling=0, **kwargs)
    return buffer.getvalue()


def to_jpeg2000(frame: np.ndarray, irreversible: bool) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG2000", irreversible=irreversible, no_jp2=True, mct=1)
    return buffer.getvalue()


def write_echo_dicom(
    path: Path, frames: np.ndarray, syntax: str = ExplicitVRLittleEndian, photometric: str = "RGB", pixel_data=None
) -> Path:
    dataset = new_dicom(UltrasoundMultiFrameImageStorage, syntax)
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.NumberOfFrames = len(frames)
    dataset.SamplesPerPixel = 1 if frames.ndim == 3 else 3
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = 8 * frames.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    if syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PixelData = frames.tobytes()
        dataset.compress(RLELossless)
    elif pixel_data is None:
        dataset.PixelData = frames.tobytes()
    else:
        dataset.PixelData = encapsulate(pixel_data)
        dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


def colour_distance(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


# ---- names, units


@pytest.mark.parametrize(
    ("written", "lead"),
    [
        ("I", "I"),
        ("AVR", "aVR"),
        ("avf", "aVF"),
        ("v6", "V6"),
        ("Lead I (Einthoven)", "I"),
        ("Lead aVL", "aVL"),
        ("MDC_ECG_LEAD_AVR", "aVR"),
        ("MDC_ECG_LEAD_I", "I"),
        ("ECG Lead V3", "V3"),
        (" iii ", "III"),
        ("aVR, augmented voltage, right", "aVR"),
        ("MLII", None),
        ("-aVR", None),
        ("V7", None),
        ("vx", None),
        ("PLETH", None),
        ("IIII", None),
    ],
)
def test_lead_names(written, lead):
    assert normalise_lead_name(written) == lead


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("mV", 1), ("mv", 1), ("uV", 1e-3), ("µV", 1e-3), ("\u03bcV", 1e-3), ("V", 1e3), ("microvolts", 1e-3)],
)
def test_units(unit, factor):
    assert millivolts_per_unit(unit) == factor


def test_unknown_unit_names_the_known_ones():
    with pytest.raises(ValueError, match="mmHg.*mV, uV"):
        millivolts_per_unit("mmHg")


# ---- WFDB


@pytest.mark.parametrize(("fmt", "gain"), [("16", 1000.0), ("212", 200.0)])
@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
def test_wfdb_round_trip(tmp_path, fmt, gain, suffix):
    signal = make_ecg()
    record = write_wfdb(tmp_path, signal, MIMIC_LEADS, fmt=fmt, gain=gain)
    read = read_ecg(f"{record}{suffix}")
    assert read.lead_names == MIMIC_LEADS and read.sampling_rate == 500 and read.units == "mV"
    assert np.abs(read.signal - signal).max() <= 0.51 / gain


def test_wfdb_microvolts_become_millivolts(tmp_path):
    signal = make_ecg()
    read = read_ecg(write_wfdb(tmp_path, signal * 1000, list(LEADS), units="uV", gain=1.0))
    assert np.abs(read.signal - signal).max() <= 0.6e-3


def test_wfdb_missing_samples_are_nan(tmp_path):
    signal = make_ecg()
    signal[3, 100:120] = np.nan
    read = read_ecg(write_wfdb(tmp_path, signal, list(LEADS)))
    assert np.array_equal(np.isnan(read.signal), np.isnan(signal))


def test_wfdb_foreign_channels_are_left_out_and_named(tmp_path):
    record = write_wfdb(tmp_path, make_ecg(13), [*LEADS, "PLETH"], unit_list=["mV"] * 12 + ["NU"], gain=1000.0)
    read = read_ecg(record)
    assert read.lead_names == list(LEADS)
    assert any("PLETH" in note for note in read.notes)


def test_wfdb_unknown_unit_is_refused(tmp_path):
    with pytest.raises(InputRefusedError, match="lead II: unknown unit 'mmHg'"):
        read_ecg(write_wfdb(tmp_path, make_ecg(2), ["I", "II"], unit_list=["mV", "mmHg"]))


def test_wfdb_without_any_lead_is_refused(tmp_path):
    with pytest.raises(InputRefusedError, match="PLETH"):
        read_ecg(write_wfdb(tmp_path, make_ecg(1), ["PLETH"]))


def test_missing_and_damaged_records_are_refused(tmp_path):
    with pytest.raises(InputRefusedError, match=r"nowhere\.hea is not there"):
        read_ecg(tmp_path / "nowhere")
    record = write_wfdb(tmp_path, make_ecg(), list(LEADS))
    data = record.with_suffix(".dat")
    data.write_bytes(data.read_bytes()[:1001])
    with pytest.raises(InputRefusedError, match="record"):
        read_ecg(record)
    record.with_suffix(".hea").write_text("not a header\n")
    with pytest.raises(InputRefusedError, match="record"):
        read_ecg(record)
    record.with_suffix(".dat").unlink()
    with pytest.raises(InputRefusedError, match="record"):
        read_ecg(record)


def test_refusals_survive_pickling():
    error = pickle.loads(pickle.dumps(InputRefusedError("file", "why")))
    assert (error.item, error.reason, str(error)) == ("file", "why", "file: why")


@pytest.mark.parametrize(("library", "call"), [("wfdb", "wfdb"), ("pydicom", "pydicom")])
def test_missing_library_names_the_pip_command(tmp_path, monkeypatch, library, call):
    path = write_wfdb(tmp_path, make_ecg(), list(LEADS))
    if library == "pydicom":
        path = write_ecg_dicom(tmp_path / "a.dcm", [waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")])
    monkeypatch.setattr(reading_tgmm, library, None)
    with pytest.raises(ImportError, match=f"pip install {call}"):
        read_ecg(path)


# ---- DICOM waveform


def test_dicom_ecg_picks_the_rhythm_group_and_scales(tmp_path):
    signal = make_ecg()
    median = waveform_group(make_ecg(samples=600, seed=1) * 1000, list(LEADS), 500, "DERIVED")
    rhythm = waveform_group(signal * 1000, [f"Lead {lead}" for lead in MIMIC_LEADS], 500, "ORIGINAL")
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [median, rhythm]))
    assert [normalise_lead_name(name) for name in read.lead_names] == MIMIC_LEADS
    assert read.sampling_rate == 500 and read.signal.shape == (12, 5000)
    assert np.abs(read.signal - signal).max() <= 1.1e-3  # half a step of 2 uV
    assert read.notes == ["read multiplex group 2 of 2"]


def test_dicom_ecg_leads_by_code(tmp_path):
    codes = [f"5.6.3-9-{number}" for number in (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)]
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [waveform_group(make_ecg() * 1000, codes, 500, "ORIGINAL")]))
    assert read.lead_names == list(LEADS)


def test_dicom_ecg_padding_is_missing(tmp_path):
    group = waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")
    samples = np.frombuffer(group.WaveformData, "<i2").reshape(5000, 12).copy()
    samples[:7, 2] = -32768
    group.WaveformData = samples.tobytes()
    group.add_new("WaveformPaddingValue", "OW", np.int16(-32768).tobytes())
    read = read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))
    assert np.isnan(read.signal).sum() == 7 and np.isnan(read.signal[2, :7]).all()


def test_dicom_ecg_without_unit_is_refused(tmp_path):
    group = waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL", unit=None)
    with pytest.raises(InputRefusedError, match="unknown unit 'not stated'"):
        read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))


def test_dicom_ecg_cut_short_is_refused(tmp_path):
    group = waveform_group(make_ecg() * 1000, list(LEADS), 500, "ORIGINAL")
    group.WaveformData = group.WaveformData[:1000]
    with pytest.raises(InputRefusedError, match="cannot be decoded"):
        read_ecg(write_ecg_dicom(tmp_path / "ecg.dcm", [group]))


def test_an_image_is_no_ecg(tmp_path):
    with pytest.raises(InputRefusedError, match="without waveforms"):
        read_ecg(write_echo_dicom(tmp_path / "echo.dcm", make_frames()))


# ---- DICOM echo


def ybr_of(rgb: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in rgb])


def echo_files(directory: Path) -> dict[str, tuple[Path, np.ndarray, str, int]]:
    """name -> (file, frames as stored, colour space, tolerance)."""
    rgb, grey = make_frames(), make_frames()[..., 0]
    ybr = ybr_of(rgb)
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
        "jpeg_rgb_unmarked": (write(directory / "i.dcm", rgb, baseline, "RGB", jpegs["no_marker"]), ybr, "RGB", 4),
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


def test_adobe_marker_decides(tmp_path):
    rgb = make_frames(4)
    frames = [to_jpeg(frame, "RGB", keep_rgb=True) for frame in rgb]  # Adobe marker, transform 0: RGB components
    path = write_echo_dicom(tmp_path / "a.dcm", rgb, JPEGBaseline8Bit, "YBR_FULL", frames)
    clip = read_echo_clip(path)
    assert clip.colour_space == "RGB" and colour_distance(clip.frames, rgb[0::2]) <= 4


def test_palette_colours_are_looked_up(tmp_path):
    indices = (make_frames(6)[..., 0] % 4).astype(np.uint8)
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
    calls = []
    decode = reading_tgmm._decode_jpeg
    monkeypatch.setattr(reading_tgmm, "_decode_jpeg", lambda *a: calls.append(1) or decode(*a))
    clip = read_echo_clip(stored["jpeg_no_marker"][0], num_frames, stride)
    assert len(calls) == len(clip.frames) == expected


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
    assert set(vars(clip)) == {"frames", "colour_space", "total_frames", "source"}
    assert "Doe" not in repr({**vars(clip), "frames": None})


def test_list_echo_files(tmp_path):
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


def test_video_files(tmp_path):
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


# ---- real files


def test_real_records(shared_dir):
    for name in ("georgia/E07500", "chapman/JS20000", "ptbxl/HR06000", "ptbxl/00001_lr"):
        read = read_ecg(shared_dir / "data" / "wfdb" / name)
        assert read.signal.shape[0] == 12 and 0.2 < np.ptp(read.signal, axis=1).max() < 10
    read = read_ecg(shared_dir / "data" / "ecg_dicom" / "waveform_ecg.dcm")
    assert read.sampling_rate == 1000 and read.signal.shape == (12, 10000)
    assert np.abs(read.signal[0] + read.signal[2] - read.signal[1]).max() < 0.01  # I + III = II


def test_real_clip(shared_dir):
    clip = read_echo_clip(shared_dir / "data" / "echo_dicom" / "color3d_jpeg_baseline.dcm")
    assert clip.frames.shape == (16, 480, 640, 3) and clip.colour_space == "YBR" and clip.total_frames == 120


def test_normalised_units_are_kept_and_not_mixed_with_volts(tmp_path: Path) -> None:
    signal = np.random.default_rng(0).normal(size=(5000, 12)) * 8  # would be implausible as millivolts
    for name, units in (("scaled", ["NU"] * 12), ("mixed", ["mV", *["NU"] * 11])):
        wfdb.wrsamp(name, 500, units, list(LEADS), signal, fmt=["16"] * 12, write_dir=str(tmp_path))
    record = read_ecg(tmp_path / "scaled")
    assert record.units == "normalised" and np.abs(record.signal - signal.T).max() < 1e-2
    assert EcgFeatureExtractor()(record)["ecg_values"][0].shape == (12, 2250)
    with pytest.raises(InputRefusedError, match="others in normalised units"):
        read_ecg(tmp_path / "mixed")
