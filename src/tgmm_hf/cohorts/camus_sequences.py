"""A sequence of CAMUS (NIfTI) as a multi-frame DICOM clip, which the echo reader knows. Nothing is lost but the header.

A NIfTI file holds (columns, rows, frames). Pixels that are not square are made square, because the model reads pixels
and no millimetres. Grey levels are used as they are; a file with other numbers than 0 to 255 is refused, because nobody
knows how it is to be scaled.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import whole_file

try:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
except ImportError:
    nibabel = None  # type: ignore[assignment] # only CAMUS needs it

SQUARE = 0.01
"""Pixels count as square if their sides differ by at most this share."""


def write_sequence(source: Path, target: Path, patient: str, frame_time: float | None) -> tuple[int, int, int]:
    """Write a NIfTI sequence as a DICOM clip.

    Args:
        source: The file, .nii or .nii.gz.
        target: The DICOM file to write.
        patient: PatientID of the header.
        frame_time: Milliseconds from frame to frame; None if it is not known.

    Returns:
        Frames, rows and columns of the clip.

    Raises:
        ImportError: If nibabel is not installed.
        TgmmError: If the file is no sequence of grey levels from 0 to 255.
    """
    frames = read_sequence(source)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[target.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(str(target), {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.Modality, header.PatientID = "US", patient
    header.NumberOfFrames, header.Rows, header.Columns = frames.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    if frame_time is not None:
        header.FrameTime = f"{frame_time:.6g}"
    header.PixelData = frames.tobytes() + b"\0" * (frames.size % 2)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as building:
        header.save_as(building, enforce_file_format=True)
    return frames.shape[0], frames.shape[1], frames.shape[2]


def read_sequence(path: Path) -> NDArray[np.uint8]:
    """Read a NIfTI sequence with square pixels: (frames, rows, columns) uint8. Errors are those of `write_sequence`."""
    if nibabel is None:
        raise ImportError('reading CAMUS needs nibabel (MIT): pip install "tgmm-hf[nifti]"')
    try:
        image = nibabel.load(path)
        values = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise TgmmError(path.name, f"is no NIfTI file that can be read ({error}): copy it again.") from None
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3 or values.shape[2] < 2:
        raise TgmmError(
            path.name,
            f"has the shape {values.shape}, expected (columns, rows, frames) with at least 2 frames: give the "
            "half_sequence file.",
        )
    grey = values.astype(np.uint8, casting="unsafe")
    if not np.array_equal(grey, values):
        raise TgmmError(
            path.name,
            f"holds numbers from {values.min():g} to {values.max():g}, expected whole grey levels from 0 to 255.",
        )
    frames = np.ascontiguousarray(grey.transpose(2, 1, 0))
    width, height = (float(side) for side in image.header.get_zooms()[:2])
    if min(width, height) <= 0 or abs(width - height) <= SQUARE * max(width, height):
        return frames
    side = min(width, height)
    size = (round(frames.shape[2] * width / side), round(frames.shape[1] * height / side))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in frames])
