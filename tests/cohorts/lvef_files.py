"""EchoNet-Dynamic and CAMUS in small: invented pictures in the layouts of the two data sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def beating_fan(frames: int, side: int = 112, seed: int = 0) -> NDArray:
    """(frames, side, side) uint8: a sector of speckle that fills the frame, black around it, with a beating cavity."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side] / side
    fan = (np.abs(np.arctan2(columns - 0.5, rows + 0.02)) < 0.65) & (np.hypot(rows, columns - 0.5) < 0.97)
    texture = generator.integers(60, 200, (side // 4, side // 4)).repeat(4, axis=0).repeat(4, axis=1)
    clip = np.zeros((frames, side, side), np.uint8)
    for index in range(frames):
        cavity = np.hypot(rows - 0.45, columns - 0.5) < 0.14 + 0.05 * np.sin(index / 4)
        speckle = texture + generator.integers(-25, 25, texture.shape)
        clip[index] = np.where(fan, np.where(cavity, speckle // 4, speckle), 0).clip(0, 255)
    return clip


def write_avi(path: Path, clip: NDArray) -> None:
    """Write grey frames (frames, height, width) as Motion JPEG with 50 frames a second, as EchoNet-Dynamic has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 50, clip.shape[:0:-1])
    for frame in clip:
        video.write(np.repeat(frame[..., None], 3, axis=-1))
    video.release()


def write_echonet(directory: Path, rows: Sequence[tuple[str, str, str]], lost: Sequence[str] = ()) -> Path:
    """Write FileList.csv with (FileName, EF, Split) and the videos, except for those of `lost`."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
    lines += [f"{name},{fraction},20,60,112,112,50,36,{split}" for name, fraction, split in rows]
    (directory / "FileList.csv").write_text("\n".join(lines) + "\n")
    for seed, (name, *_) in enumerate(rows):
        if name not in lost:
            write_avi(directory / "Videos" / f"{name}.avi", beating_fan(36, seed=seed))
    return directory


def write_camus(directory: Path, splits: Mapping[str, Sequence[str]], fraction: str = "56") -> Path:
    """Write patients with two views of 18 frames. `splits`: training, validation, testing -> patients.

    Pixels are 0.3 mm wide and 0.15 mm high, and frames have 60 columns and 120 rows.
    """
    import nibabel

    (directory / "database_split").mkdir(parents=True)
    for word, patients in splits.items():
        (directory / "database_split" / f"subgroup_{word}.txt").write_text("\n".join(patients) + "\n")
        for seed, patient in enumerate(patients):
            folder = directory / "database_nifti" / patient
            folder.mkdir(parents=True)
            for view in ("2CH", "4CH"):
                frames = beating_fan(18, 120, seed)[:, :, ::2]
                image = nibabel.Nifti1Image(frames.transpose(2, 1, 0), np.diag([0.3, 0.15, 1.0, 1.0]))
                nibabel.save(image, folder / f"{patient}_{view}_half_sequence.nii.gz")
                lines = ["ED: 1", "ES: 18", "NbFrame: 18", "Sex: F", "Age: 60", "ImageQuality: Good", f"EF: {fraction}"]
                (folder / f"Info_{view}.cfg").write_text("\n".join([*lines, "FrameRate: 50.0"]) + "\n")
    return directory
