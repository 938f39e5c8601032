"""Hostile echo clips: videos, arrays and study directories."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from kinds_echo import CLIPS, EXACT, LOSSY, ROUNDED, clip_of, dataset_of, plain_bytes, read_clip, right, save
from trials import Trial, damaged, equal, equal_or_marked, kind, marked, no_oracle, process


def write_video(path: Path, frames: np.ndarray, codec: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 30, (frames.shape[2], frames.shape[1]))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@kind("echo_video")
def echo_video(random, folder):
    """Videos: right, cut, damaged, of other content or with another suffix."""
    seed = int(random.integers(CLIPS))
    frames = clip_of(seed)
    way = str(random.choice(["right", "cut", "damaged", "renamed", "text", "empty", "one", "dicom", "mp4"]))
    suffix = str(random.choice([".avi", ".AVI"]))
    path = write_video(
        folder / f"clip{'.mp4' if way == 'mp4' else suffix}",
        frames[:1] if way == "one" else frames,
        "mp4v" if way == "mp4" else "MJPG",
    )
    judge: Any = no_oracle
    if way in ("right", "mp4"):
        # JPEG at cv2's quality, half the colour resolution
        judge = equal(right(seed), 2.5)
    elif way == "cut":
        content = path.read_bytes()
        path.write_bytes(content[: int(random.integers(0, len(content) * 0.8))])
        judge = marked()
    elif way == "damaged":
        what, content = damaged(random, path.read_bytes())
        path.write_bytes(content)
        way += f" {what}"
    elif way == "renamed":
        path = path.rename(folder / "clip.mov")
        judge = equal_or_marked(right(seed), 2.5)
    elif way in ("text", "empty"):
        path.write_bytes(b"hello\n" * (1000 if way == "text" else 0))
        judge = marked()
    elif way == "one":
        judge = marked()
    elif way == "dicom":
        save(path, dataset_of(frames))
        judge = equal_or_marked(right(seed), LOSSY)
    return Trial(way, partial(read_clip, path), judge)


ODD_ARRAYS: tuple[Any, ...] = (
    None, [], {}, 5, "x", np.zeros((12, 96, 128, 3), np.float32), np.full((12, 96, 128, 3), np.nan), np.zeros((12, 96, 128), np.uint8), np.zeros((12, 3, 96, 128), np.uint8),
    np.zeros((0, 96, 128, 3), np.uint8), np.zeros((12, 0, 0, 3), np.uint8), np.zeros((1, 96, 128, 3), np.uint8), np.zeros((12, 96, 128, 4), np.uint8), np.zeros((12, 96, 128, 3), np.int16),
    np.zeros((12, 96, 128, 3), np.uint8), np.full((12, 96, 128, 3), 255, np.uint8), np.array(5), np.array(["a"]), np.zeros((2, 1, 1, 3), np.uint8), np.zeros((40, 1, 5000, 3), np.uint8), b"abc", object(),
)  # fmt: skip


@kind("echo_array")
def echo_array(random, folder):
    """Arrays of other types, shapes and orders."""
    if random.random() < 0.6:
        value = ODD_ARRAYS[random.integers(len(ODD_ARRAYS))]
        what = f"{type(value).__name__} {getattr(value, 'shape', '')} {getattr(value, 'dtype', '')}"
        judge = no_oracle if value is None else marked()
        return Trial(what, partial(process, labs={"Sodium": 140}, echo={"A4C": value}), judge)
    seed = int(random.integers(CLIPS))
    frames = clip_of(seed)
    way = str(random.choice(["float01", "float255", "int64", "list", "fortran", "transposed", "view", "case"]))
    value = {
        "float01": frames / 255.0, "float255": frames.astype(np.float32), "int64": frames.astype(np.int64), "list": frames.tolist(), "fortran": np.asfortranarray(frames),
        "transposed": frames.transpose(0, 2, 1, 3), "view": frames[:, :, :, ::1], "case": frames,
    }[way]  # fmt: skip
    view = str(random.choice(["A4C", "a4c"])) if way == "case" else "A4C"
    judge = no_oracle if way == "transposed" else equal_or_marked(right(seed), EXACT)
    return Trial(way, partial(process, echo={view: value}), judge)


@kind("echo_study")
def echo_study(random, folder):
    """Directories with several clips, and what else lies in a directory."""
    study = folder / "study"
    study.mkdir()
    views = {"a.dcm": "A4C", "b.dcm": "A2C", "c.dcm": "Parasternal_Long"}
    for seed, name in enumerate(views):
        save(study / name, dataset_of(clip_of(seed)))
    judge = equal(process(echo={view: clip_of(seed) for seed, view in enumerate(views.values())}), ROUNDED)
    way = str(
        random.choice(
            [
                "right",
                "pipe",
                "loop",
                "outside",
                "text",
                "empty_file",
                "hidden",
                "sub",
                "swap",
                "unknown",
                "no_name",
                "dicomdir",
                "device",
                "same",
            ]
        )
    )
    one = "b.dcm"
    if way == "pipe":
        os.mkfifo(study / "p.dcm")
    elif way == "loop":
        (study / "l.dcm").symlink_to(study / "l.dcm")
        (study / "again").symlink_to(study)
    elif way == "outside":
        save(folder / "o.dcm", dataset_of(clip_of(0)))
        (study / "o.dcm").symlink_to(folder / "o.dcm")
    elif way == "text":
        (study / "notes.txt").write_text("Doe, Jane")
    elif way == "empty_file":
        (study / "z.dcm").touch()
    elif way == "hidden":
        (study / ".d.dcm").write_bytes(b"x")
    elif way == "sub":
        (study / "sub").mkdir()
        (study / one).rename(study / "sub" / one)
    elif way == "dicomdir":
        (study / "DICOMDIR").write_bytes(plain_bytes("raw")[:300])
    elif way == "device":
        (study / "d.dcm").symlink_to("/dev/zero")
    elif way == "swap":
        views["a.dcm"], views["b.dcm"] = views["b.dcm"], views["a.dcm"]
        judge = equal(process(echo={"A2C": clip_of(0), "A4C": clip_of(1), "Parasternal_Long": clip_of(2)}), ROUNDED)
    elif way in ("unknown", "no_name"):
        if way == "unknown":
            views[one] = "Apical5"
        else:
            del views[one]
        judge = marked(about="echo[2]")  # the second of the study in sorted order
    elif way == "same":
        views[one] = "A4C"
        judge = marked()
    return Trial(way, partial(process, echo=str(study), views=views), judge)
