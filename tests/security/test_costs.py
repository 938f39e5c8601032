"""Small files cannot cost much: each hostile file is read in its own process, whose memory and time are measured."""

import io
import json
import os
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
import wfdb
from cohort_files import write_ecg
from input_files import to_jpeg, waveform_group, write_ecg_dicom, write_echo_dicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.data.prediction import read_labs, read_views
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.echo_reading import count_echo_frames, read_echo_clip
from tgmm_hf.inputs.lab_text import LabsText

MAX_MIB = 1024
"""Memory that a reader may take beyond what the process has already. The same for every file below 10 MB."""
MAX_SECONDS = 20.0

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures processes as Linux counts them")


def cost(work: Callable[[], Any]) -> tuple[float, float, str]:
    """Run a function in a forked process: seconds of CPU, MiB beyond those of this process, what was raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        # a process that takes more than 6 GiB is a failure anyway, and must not take the machine with it
        pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (pages + (6 << 30),) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the parent
        start, raised = time.process_time(), ""
        try:
            work()
        except BaseException as error:
            raised = f"{type(error).__name__}: {error}"
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
        answer = json.dumps([time.process_time() - start, (peak - before) / 2**20, raised[:300]])
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    assert answer, f"the process died with status {status}"
    seconds, mib, raised = json.loads(answer)
    return seconds, mib, raised


def rle_segment(pixels: int) -> bytes:
    """Encode one plane of zeros in runs of 128."""
    return b"\x81\x00" * (pixels // 128) + (b"\0" if pixels // 128 % 2 else b"")


def rle_clip(path: Path, side: int, frames: int) -> Path:
    plane = rle_segment(side * side)
    frame = struct.pack("<16I", 3, 64, 64 + len(plane), 64 + 2 * len(plane), *[0] * 12) + plane * 3
    write_echo_dicom(path, np.zeros((2, 8, 8, 3), np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.Rows = dataset.Columns = side
    dataset.NumberOfFrames = frames
    dataset.PixelData = encapsulate([frame] * frames)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)
    return path


def rle_bomb(path: Path) -> Path:
    return rle_clip(path, 2048, 40)  # 480 MiB of pixels in 8 MB


def rle_bomb_beyond_the_limit(path: Path) -> Path:
    return rle_clip(path, 8192, 2)


def rle_segment_longer_than_declared(path: Path) -> Path:
    rle_clip(path, 128, 40)
    dataset = pydicom.dcmread(path)
    plane = rle_segment(1 << 26)
    frame = struct.pack("<16I", 3, 64, 64 + len(plane), 64 + 2 * len(plane), *[0] * 12) + plane * 3
    dataset.PixelData = encapsulate([frame] * 2)
    dataset.NumberOfFrames = 2
    dataset.save_as(path)
    return path


def deflated(path: Path) -> Path:
    write_echo_dicom(path, np.zeros((2, 8, 8, 3), np.uint8))
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    buffer = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(buffer)
    content = buffer.getvalue()
    start = 144 + struct.unpack("<I", content[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(zlib.decompress(content[start:], -zlib.MAX_WBITS))
    packed += packer.compress(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 2**31 - 2))
    packed += packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush the packed bytes do not depend on what came before, so they can be repeated.
    zeros = packer.compress(bytes(64 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(content[:start] + packed + zeros * 32 + packer.flush())
    return path


def jpeg_of_another_size(path: Path) -> Path:
    """A JPEG of 4 KB whose frame header says 20,000 x 20,000."""
    jpeg = bytearray(to_jpeg(np.zeros((64, 64, 3), np.uint8), "RGB"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 20000, 20000)
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    return write_echo_dicom(path, frames, JPEGBaseline8Bit, "YBR_FULL_422", pixel_data=[bytes(jpeg)] * 2)


def jpeg2000_of_another_size(path: Path) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, "JPEG2000", no_jp2=True)
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\x51")
    data[at + 6 : at + 14] = struct.pack(">II", 60000, 60000)
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    return write_echo_dicom(path, frames, JPEG2000, "RGB", pixel_data=[bytes(data)] * 2)


def declared_frames(path: Path) -> Path:
    write_echo_dicom(path, np.zeros((2, 8, 8, 3), np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 2**31 - 1
    dataset.save_as(path)
    return path


def nested_sequences(path: Path) -> Path:
    write_echo_dicom(path, np.zeros((2, 8, 8, 3), np.uint8))
    content = path.read_bytes()
    item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    at = content.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(content[:at] + item * 100_000 + content[at:])
    return path


def video_of_large_pictures(path: Path) -> Path:
    """An AVI that declares 64 x 48 pixels; its pictures have 8,000 x 8,000."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for number in range(5):
        writer.write(np.full((48, 64, 3), number * 9, np.uint8))
    writer.release()
    large = to_jpeg(np.zeros((8000, 8000, 3), np.uint8), "RGB")
    content, packed = path.read_bytes(), b""
    start = content.index(b"movi") + 4
    for _ in range(5):
        packed += b"00dc" + struct.pack("<I", len(large)) + large + b"\0" * (len(large) % 2)
    head = bytearray(content[:start])
    head[start - 8 : start - 4] = struct.pack("<I", len(packed) + 4)
    head[4:8] = struct.pack("<I", len(head) + len(packed) - 8)
    path.write_bytes(bytes(head) + packed)
    return path


def flac(path: Path) -> Path:
    """Silence of twelve leads in FLAC, as long as the limit allows."""
    samples = 2_400_000
    signal = np.zeros((samples, 12), np.int64)
    wfdb.wrsamp(
        path.name, 500, ["mV"] * 12, ["I", "II", "III", "aVR", "aVL", "aVF", *(f"V{n}" for n in range(1, 7))],
        d_signal=signal, fmt=["516"] * 12, adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(path.parent),
    )  # fmt: skip
    return path


def flac_longer_than_declared(path: Path) -> Path:
    flac(path)
    header = path.with_name(f"{path.name}.hea")
    header.write_text(header.read_text().replace("2400000", "5000"))
    return path


def samples_of_a_trillion(path: Path) -> Path:
    write_ecg(path, 0)
    header = path.with_name(f"{path.name}.hea")
    header.write_text(header.read_text().replace(" 5000\n", " 1000000000000\n"))
    return path


def names_of_brackets(path: Path) -> Path:
    write_ecg(path, 0)
    header = path.with_name(f"{path.name}.hea")
    header.write_text(header.read_text().replace(" aVR\n", " " + "(" * 60_000 + "\n"))
    return path


def labels_of_brackets(path: Path) -> Path:
    group: Dataset = waveform_group(np.ones((12, 5000)), ["(" * 60_000] * 12, 500.0, "ORIGINAL")
    return write_ecg_dicom(path, [group])


def parquet_of_many_rows(path: Path) -> Path:
    rows = 20_000_000
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["a"]))
    pq.write_table(pa.table(dict.fromkeys(("id", "patient_id", "split", "ecg_path"), column)), path, compression="zstd")
    return path


def parquet_of_long_texts(path: Path) -> Path:
    rows = 90_000
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["a" * 1_000_000]))
    pq.write_table(pa.table(dict.fromkeys(("id", "patient_id", "split", "ecg_path"), column)), path, compression="zstd")
    return path


def json_file(text: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_text(text)
        return path

    return write


def table_of_commas(path: Path) -> Path:
    path.write_text("id,patient_id,split,labs.Creatinine\n" + "," * 5_000_000 + "\n")
    return path


def read_lab_file(path: Path) -> None:
    LabsText.from_row(read_labs(path)).write()


FILES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "RLE of 8 MB": (rle_bomb, read_echo_clip),
    "RLE beyond the limit": (rle_bomb_beyond_the_limit, read_echo_clip),
    "RLE longer than declared": (rle_segment_longer_than_declared, read_echo_clip),
    "deflated DICOM": (deflated, read_echo_clip),
    "deflated DICOM, header only": (deflated, count_echo_frames),
    "deflated DICOM as ECG": (deflated, read_ecg),
    "JPEG of another size": (jpeg_of_another_size, read_echo_clip),
    "JPEG 2000 of another size": (jpeg2000_of_another_size, read_echo_clip),
    "declared frames": (declared_frames, read_echo_clip),
    "nested sequences": (nested_sequences, read_echo_clip),
    "video of large pictures": (video_of_large_pictures, read_echo_clip),
    "FLAC": (flac, read_ecg),
    "FLAC longer than declared": (flac_longer_than_declared, read_ecg),
    "samples of a trillion": (samples_of_a_trillion, read_ecg),
    "names of brackets": (names_of_brackets, read_ecg),
    "labels of brackets": (labels_of_brackets, read_ecg),
    "Parquet of many rows": (parquet_of_many_rows, read_cohort_table),
    "Parquet of long texts": (parquet_of_long_texts, read_cohort_table),
    "table of commas": (table_of_commas, read_cohort_table),
    "JSON nested": (json_file("[" * 200_000), read_labs),
    "JSON nested objects": (json_file('{"a":' * 200_000), read_labs),
    "JSON of a long number": (json_file('{"Creatinine": ' + "9" * 3_000_000 + "}"), read_labs),
    "JSON key of brackets": (json_file(json.dumps({"(" * 60_000: 1, "Creatinine " + "(" * 60_000: 2})), read_lab_file),
    "JSON key of spaces": (json_file(json.dumps({"Creatinine" + " " * 60_000 + "x": 1})), read_lab_file),
    "JSON value of brackets": (json_file(json.dumps({"Creatinine": "1 " + "(" * 100_000})), read_lab_file),
    "JSON value of digits": (
        json_file(json.dumps({"Creatinine": "1," * 50_000 + "x", "K": "1" * 99_999})),
        read_lab_file,
    ),
    "JSON value of spaces": (json_file(json.dumps({"Creatinine": "1" + " (" * 50_000 + "x"})), read_lab_file),
    "JSON of many keys": (json_file(json.dumps({f"name {n}": n for n in range(50_000)})), read_lab_file),
    "views of commas": (json_file("dicom_filepath,view\n" + "," * 5_000_000), read_views),
}


SLOW = ("deflated DICOM, header only", "deflated DICOM as ECG")
"""The first of the three kinds of this file is enough for `make test`."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in FILES])
def test_a_small_file_costs_little(name: str, tmp_path: Path, record_property: Callable[..., None]) -> None:
    write, read = FILES[name]
    suffix = ".avi" if "video" in name else ".parquet" if "Parquet" in name else ".csv" if "commas" in name else ""
    path = write(tmp_path / f"record{suffix}")
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size < 10_000_000, size
    seconds, mib, raised = cost(lambda: read(path))
    print(f"MEASURED {name:<30} {size / 1000:>8.0f} kB {mib:>7.0f} MiB {seconds:>6.1f} s  {raised[:110]}")
    assert mib < MAX_MIB and seconds < MAX_SECONDS, (mib, seconds, raised)
    foreign = raised.split(":")[0] not in ("", "InputRefusedError", "TgmmError", "CohortTableError")
    assert not foreign, raised
