"""How much of a sector that fills a frame of 112 x 112 pixels the echo reader keeps: the crop, and the sector mask.

    python scripts/measure_echonet_crop.py docs/results/public/echonet_crop.csv

EchoNet-Dynamic has such frames, already masked. Nobody here has its files, so synthetic sectors are cut and scaled to
112 x 112 pixels and written as Motion JPEG. `sector_in_crop`: share of the sector's pixels that lie in the square that
the model sees (zoom 0.1 cuts a tenth at every side). `kept_by_mask`: of the lit pixels in that square, the share that
`mask_sector` leaves as they are. `notes`: codes of what the reader doubts.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tgmm_hf.cohorts.synthetic.evidence import draw_patient
from tgmm_hf.cohorts.synthetic.render_echo import render_clip, sector
from tgmm_hf.inputs.echo_reading import read_echo_clip
from tgmm_hf.inputs.image_processing_echo import CropBox, EchoImageProcessor

SIDE, FRAMES, PATIENTS, LIT = 112, 36, 20, 8


def square(frame: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Cut a frame (height, width) to the square around the sector, and scale it to 112 x 112 pixels."""
    rows = np.flatnonzero(inside.any(axis=1))
    side = rows[-1] + 1 - rows[0]
    left = (frame.shape[1] - side) // 2
    return cv2.resize(frame[rows[0] : rows[-1] + 1, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def measure(patient: int, path: Path) -> dict[str, object]:
    """Write the video of one synthetic patient and measure what is kept of it."""
    inside = sector(240, 320).inside
    clip = render_clip(draw_patient(0, patient), "A4C", np.random.default_rng(patient), FRAMES)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 50, (SIDE, SIDE))
    for frame in clip.luma * inside:
        video.write(np.repeat(square(frame, inside)[..., None], 3, axis=-1))
    video.release()
    masked, plain = (
        EchoImageProcessor(size=SIDE, mask_sector=mask).prepare_clip(path).frames.max(axis=(0, 3))
        for mask in (True, False)
    )
    box = CropBox.of_centre(SIDE, SIDE, 0.1)
    whole = square(inside.astype(np.uint8) * 255, inside) > 127
    seen = whole[box.top : box.top + box.side, box.left : box.left + box.side]
    return {
        "patient": patient,
        "sector_in_crop": round(seen.sum() / whole.sum(), 3),
        "kept_by_mask": round((masked == plain)[plain > LIT].mean(), 3),
        "notes": " ".join(note["code"] for note in read_echo_clip(path, 16, 2).notes),
    }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="CSV file to write")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as directory:
        rows = [measure(patient, Path(directory) / f"{patient}.avi") for patient in range(PATIENTS)]
    out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(out, index=False)


if __name__ == "__main__":
    main()
