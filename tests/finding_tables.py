"""Tables of drawn X-rays, ECGs and findings, for trainings and evaluations of MoRE."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from heart_signal import make_heart
from input_files import write_wfdb
from xray_files import draw_chest, write_picture

from tgmm_hf import LEADS


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def draw_finding(kind: int, seed: int) -> np.ndarray:
    """A chest in which one quarter of the picture is brighter: the finding that the note names."""
    picture = draw_chest(160, 150, seed).astype(int)
    rows, columns = slice(80 * (kind // 2), 80 * (kind // 2) + 80), slice(75 * (kind % 2), 75 * (kind % 2) + 75)
    picture[rows, columns] = np.clip(picture[rows, columns] + 110, 0, 255)
    return picture.astype(np.uint8)


def write_labelled(directory: Path, splits: dict[str, int]) -> Path:
    """Patients with a bright left quarter (label_left) or right quarter, and a label that nothing shows.

    Every fourth patient lacks the ECG, every fifth label of "left" is unknown or uncertain.
    """
    rows = []
    for number, split in enumerate(split for split, size in splits.items() for _ in range(size)):
        kind = number % 2
        row = {"id": f"r{number}", "patient_id": f"p{number}", "split": split, "xray": f"{number}.png"}
        write_picture(directory / f"{number}.png", draw_finding(kind, number))
        if number % 4:
            (directory / str(number)).mkdir()
            write_wfdb(directory / str(number), make_heart(5000, 500, number), list(LEADS))
            row["ecg"] = f"{number}/record"
        known: Any = 1 - kind
        label = {3: "-1", 4: ""}.get(number % 5, known) if split == "train" else known
        rows.append({**row, "report": "A note.", "label_left": label, "label_hidden": number // 3 % 2})
    return write_table(directory / "notes.csv", rows)
