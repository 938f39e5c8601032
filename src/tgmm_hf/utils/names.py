"""Names that every room shares: leads, views, modalities, slots and subsets."""

from collections.abc import Sequence

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Lead order of every ECG array inside the model (ST-MEM's order)."""

VIEWS = (
    "A2C",
    "A3C",
    "A4C",
    "A5C",
    "Apical_Doppler",
    "Doppler_Parasternal_Long",
    "Doppler_Parasternal_Short",
    "Parasternal_Long",
    "Parasternal_Short",
    "SSN",
    "Subcostal",
)
"""The 11 echo views, in the index order of EchoPrime's view classifier."""

MODALITIES = ("labs", "ecg", "echo")
"""The modalities in a fixed order. The paper calls them t, s and m."""

USED_ITEMS = {"labs": "lab cells", "ecg": "ECG leads", "echo": "echo views"}
"""Modality -> what a prediction counts of it."""

SLOTS = (
    ("labs",),
    ("labs", "ecg"),
    ("ecg",),
    ("ecg", "echo"),
    ("echo",),
    ("labs", "echo"),
    ("labs", "ecg", "echo"),
)
"""The modalities of each of the seven slots of the fusion output Z_all, in the order of the paper's equation 8."""

SUBSETS = (
    ("labs",),
    ("ecg",),
    ("echo",),
    ("labs", "ecg"),
    ("labs", "echo"),
    ("ecg", "echo"),
    ("labs", "ecg", "echo"),
)
"""The seven non-empty modality subsets, in the order of the paper's table 2."""

BOOTSTRAP_RESAMPLES = 1000
"""Number of bootstrap resamples behind an interval, unless a command or a plan says otherwise."""


def join_names(subset: Sequence[str]) -> str:
    """Write a subset of modalities as one name: ("labs", "ecg") -> "labs+ecg"."""
    return "+".join(subset)


SLOT_NAMES = tuple(join_names(slot) for slot in SLOTS)
"""The seven slots by name: "labs", "labs+ecg", ..."""
SUBSET_NAMES = tuple(join_names(subset) for subset in SUBSETS)
"""The seven modality subsets as metrics.json writes them: "labs", ..., "labs+ecg+echo"."""


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: "1 note", "2 notes"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


CELL_ARGUMENTS = ("cell_ids", "cell_columns", "cell_values", "cell_mask")
"""Inputs of a model that reads lab cells as numbers, one entry for each token of the lab text."""
