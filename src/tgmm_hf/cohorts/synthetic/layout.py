"""Files in the layouts of MIMIC: WFDB recordings, echo DICOM files, hospital tables. This is format, not evidence.

The files hold no clock time and no random identifiers, so that one seed always gives the same bytes.
"""

import csv
import gzip
import hashlib
import io
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import IO

import numpy as np
import pydicom
import simplejpeg
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, UltrasoundImageStorage, UltrasoundMultiFrameImageStorage

from tgmm_hf.cohorts.synthetic.devices import ECG_DEVICE, ECHO_DEVICE, EcgDevice, EchoDevice
from tgmm_hf.cohorts.synthetic.render_ecg import MIMIC_LEADS
from tgmm_hf.cohorts.synthetic.render_echo import APEX, RADIUS, Clip
from tgmm_hf.utils.files import whole_file, write_text

JPEG_QUALITY = 75


def ecg_path(subject: int, study: int) -> str:
    """Return the path of an ECG without suffix, below the directory of ECGs, as in MIMIC-IV-ECG."""
    return f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"


def echo_file_path(subject: int, study: int, number: int) -> str:
    """Return the path of clip `number` of a study, below the directory of clips, as in MIMIC-IV-ECHO."""
    return f"files/p{str(subject)[:2]}/p{subject}/s{study}/{study}_{number:04d}.dcm"


def write_ecg(path: Path, signal: np.ndarray, subject: int, when: datetime, device: EcgDevice = ECG_DEVICE) -> None:
    """Write a WFDB recording in format 16: first `path`.dat, then `path`.hea, each whole or not at all.

    Args:
        path: Path without suffix.
        signal: (samples, 12) millivolts, in the lead order of MIMIC.
        subject: Number of the patient.
        when: Time of the recording.
        device: The electrocardiograph, with the rate of the signal and the gain of the file.
    """
    digital = np.clip(np.round(signal * device.gain), -32767, 32767).astype("<i2")
    name = path.name
    lines = [f"{name} {len(MIMIC_LEADS)} {device.rate} {len(digital)} {when:%H:%M:%S} {when:%d/%m/%Y}"]
    for k, lead in enumerate(MIMIC_LEADS):
        checksum = int(digital[:, k].astype(np.int64).sum() + 32768) % 65536 - 32768
        lines.append(f"{name}.dat 16 {device.gain_text} 16 0 {digital[0, k]} {checksum} 0 {lead}")
    lines.append(f"#subject_id: {subject}")
    with whole_file(path.with_suffix(".dat")) as building:
        building.write_bytes(digital.tobytes())
    write_text(path.with_suffix(".hea"), "\n".join(lines) + "\n")


def dicom_bytes(data: FileDataset) -> bytes:
    """Encode a DICOM data set as the bytes of a file."""
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def uid(*parts: object) -> str:
    """Make a DICOM UID from the texts of `parts`. Equal parts give the same UID."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
    return f"2.25.{int(digest[:32], 16)}"


def echo_dataset(
    clip: Clip, subject: int, study: int, number: int, when: datetime, device: EchoDevice = ECHO_DEVICE
) -> FileDataset:
    """Make the DICOM data set of a clip, with the fields that readers use, as a GE Vivid writes them.

    Args:
        clip: The clip. With one frame the data set is a still image.
        subject: Number of the patient.
        study: Number of the study.
        number: Number of the clip in the study, from 1.
        when: Time of the study.
        device: The echocardiograph that the header names.
    """
    frames, height, width = clip.luma.shape
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage if frames > 1 else UltrasoundImageStorage
    meta.MediaStorageSOPInstanceUID = uid(subject, study, number)
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = uid(subject, study), uid(subject, study, "series")
    data.StudyDate = data.ContentDate = f"{when:%Y%m%d}"
    data.StudyTime = data.ContentTime = f"{when:%H%M%S}"
    data.Modality, data.Manufacturer, data.ManufacturerModelName = "US", device.maker, device.model
    data.ImageType = ["DERIVED", "PRIMARY", "CARDIAC", ""]
    data.SeriesDescription = "SYNTHETIC, not a patient"
    data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = str(subject), "", "", ""
    data.StudyID, data.SeriesNumber, data.InstanceNumber = str(study), 1, number
    data.SamplesPerPixel, data.PlanarConfiguration = 3, 0
    data.PhotometricInterpretation = "YBR_FULL_422"
    data.Rows, data.Columns = height, width
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.LossyImageCompression, data.LossyImageCompressionMethod = "01", "ISO_10918_1"
    data.SequenceOfUltrasoundRegions = Sequence([sector_region(height, width, device.depth)])
    if frames > 1:
        data.NumberOfFrames = frames
        data.FrameTime = f"{clip.frame_time:.3f}"
        data.FrameIncrementPointer = pydicom.tag.Tag(0x0018, 0x1063)
        data.CineRate = data.RecommendedDisplayFrameRate = round(1000 / clip.frame_time)
        data.HeartRate = round(clip.heart_rate)
    planes = zip(clip.luma, clip.blue, clip.red, strict=True)
    data.PixelData = encapsulate([jpeg(*frame) for frame in planes])
    data["PixelData"].is_undefined_length = True
    return data


def jpeg(luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> bytes:
    """Encode one frame as baseline JPEG: luma (H, W), and the chroma planes blue and red (H, W // 2), all uint8."""
    return simplejpeg.encode_jpeg_yuv_planes(luma, blue, red, quality=JPEG_QUALITY)


def sector_region(height: int, width: int, depth: float) -> Dataset:
    """Make the DICOM region of the sector for a frame of this size in pixels, with the pixel size in centimetres.

    `depth` is the depth of the sector in centimetres.
    """
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 2
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, round(APEX * height)
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = width - 1, round((APEX + RADIUS) * height)
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = round(depth / (RADIUS * height), 6)
    return region


def finite(value: object) -> object:
    """Return a nested dictionary in which NaN (an undefined figure) is replaced by None, because JSON has no NaN."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


class TableWriter:
    """A CSV or CSV.gz table that is written row by row. Its gzip header holds no time."""

    def __init__(self, building: Path, columns: Iterable[str], zipped: bool):
        self.raw: IO[bytes] = building.open("wb")
        self.binary = gzip.GzipFile(filename="", mode="wb", fileobj=self.raw, mtime=0) if zipped else self.raw
        self.text = io.TextIOWrapper(self.binary, encoding="utf-8", newline="")
        self.writer = csv.DictWriter(self.text, list(columns), lineterminator="\n")
        self.writer.writeheader()

    def add(self, **row: object) -> None:
        """Append a row, column -> value. A column that is not named stays empty. An unknown one raises a ValueError."""
        self.writer.writerow(row)

    def close(self) -> None:
        """Write what is left and close the file."""
        self.text.close()
        self.raw.close()
