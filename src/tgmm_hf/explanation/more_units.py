"""Parts of an X-ray or ECG of MoRE that can be hidden one by one, and maps and masks on these parts.

    xray       the patches: rows x columns
    ecg        windows of 250 ms of one lead: 12 x windows
    ecg_time   windows of 250 ms of all leads together

Hiding a part means that it gets the values of `blank_input`.
"""

from collections.abc import Mapping

import cv2
import numpy as np
import torch

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.explanation.more_maps import METHODS, blank_input, explain_ecg_leads, explain_ecg_time, explain_xray
from tgmm_hf.explanation.more_score import TowerScore
from tgmm_hf.explanation.units import SCORED_TOGETHER, Units
from tgmm_hf.utils.names import LEADS

MODALITIES_OF = {"xray": ("xray",), "ecg": ("ecg_time", "ecg")}
"""Kind of input -> modalities of its attributions."""
RATE = 100.0
"""Hz. A step of the maps of an ECG is only read relative to this rate."""


def unit_numbers(score: TowerScore, modality: str) -> np.ndarray:
    """Number the unit that each value of the input belongs to: (height, width) or (12, samples) int.

    Args:
        score: of an X-ray or ECG.
        modality: "xray", "ecg" or "ecg_time".
    """
    shape = score.values.shape[-2:]
    if modality == "xray":
        patch = score.encoder.embeddings.patch_size
        rows, columns = np.arange(shape[0]) // patch, np.arange(shape[1]) // patch
        return rows[:, None] * (shape[1] // patch) + columns
    windows = np.arange(shape[1]) // _window(score)
    number = int(windows[-1]) + 1
    leads = np.arange(shape[0]) if modality == "ecg" else np.zeros(shape[0], int)
    return leads[:, None] * number + windows


def _window(score: TowerScore) -> int:
    """Return the number of samples of a window: what one token of the ECG encoder reads."""
    return int(score.encoder.config.stem_kernel) ** 2


def more_units(score: TowerScore, modality: str) -> Units:
    """Make the units of a modality. All of them are present. Arguments as in `unit_numbers`."""
    numbers = unit_numbers(score, modality)
    number = int(numbers.max()) + 1
    values, blank = score.values, blank_input(score.kind, score.values)

    def scores(kept: np.ndarray) -> np.ndarray:
        parts = []
        for rows in np.array_split(kept, max(1, -(-len(kept) // SCORED_TOGETHER))):
            shown = torch.from_numpy(rows[:, numbers]).to(values.device)
            shown = shown[:, None] if score.kind == "xray" else shown
            with torch.no_grad():
                parts.append(score.compute(torch.where(shown, values, blank)).double().cpu().numpy())
        return np.concatenate(parts)

    return Units((number,), np.ones(number, bool), scores)


def planted_units(score: TowerScore, modality: str, mask: np.ndarray) -> np.ndarray:
    """Compute the share of each unit that a mask covers: (units,).

    Args:
        score: of an X-ray or ECG.
        modality: as in `unit_numbers`.
        mask: (height, width) bool over the original picture, or (12, samples) bool over the window that the model
            reads, at any sampling rate, leads in the model's order.
    """
    numbers = unit_numbers(score, modality)
    covered = cv2.resize(mask.astype(np.float32), numbers.shape[::-1], interpolation=cv2.INTER_AREA)
    return np.bincount(numbers.ravel(), covered.ravel()) / np.bincount(numbers.ravel())


def map_on_units(score: TowerScore, attribution: Attribution) -> np.ndarray:
    """Sum a map over the units of its modality: (units,)."""
    numbers = unit_numbers(score, attribution.modality)
    if attribution.modality == "xray":
        return attribution.values.ravel()
    if attribution.modality == "ecg":
        return np.bincount(numbers.ravel(), attribution.values.ravel())
    kernel, window = score.encoder.config.stem_kernel, _window(score)
    centres = np.arange(len(attribution.values)) * kernel + (window - 1) // 2
    return np.bincount(centres // window, attribution.values, minlength=int(numbers.max()) + 1)


def maps_on_units(score: TowerScore, modality: str) -> Mapping[str, np.ndarray]:
    """Compute the maps of all methods of a modality on its units: method -> (units,)."""
    maps = {}
    for method in METHODS[modality]:
        if modality == "xray":
            attribution = explain_xray(score, method, (1, 1))  # only the values are read, not their pixels
        elif modality == "ecg_time":
            attribution = explain_ecg_time(score, method, RATE)
        else:
            attribution = explain_ecg_leads(score, RATE, list(LEADS))  # the mask has the model's order
        maps[method] = map_on_units(score, attribution)
    return maps
