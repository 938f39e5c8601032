"""The rules of a MIMIC cohort: every choice that a reviewer may ask about, with its default."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from tgmm_hf.cohorts.tables import require_columns
from tgmm_hf.utils.errors import TgmmError

CHOICES = {
    "admissions": ("first", "all"),
    "ecg": ("nearest", "first"),
    "label": ("icd", "lvef"),
    "follow_up": ("all", "later_contact"),
    "split": ("stratified", "temporal"),
}
"""Rules with a fixed set of values."""


@dataclass(frozen=True)
class CurateRules:
    """Rules that turn the tables into a cohort. `docs/mimic.md` gives the reasons.

    Attributes:
        hf_codes: Codes of heart failure: "strict" (heart failure by name), "broad" (Charlson, with cardiomyopathy), or
            a CSV file with the columns icd_version, icd_code (`*` stands for any ending).
        admissions: "first" takes the first stay of each patient that passes all other rules. "all" takes all such
            stays. The splits are by patient in both cases.
        ecg: Which ECG of a stay is taken, not later than the index time: "nearest" to the echo, or the "first".
        max_hours_apart: Maximum number of hours between ECG and echo. None allows any time within the stay.
        label: Diagnosis by "icd" code, or by structured "lvef" (MIMIC-IV-ECHO 1.0.x; stays without it are excluded).
        lvef_below: Percent. With `label: lvef`, an ejection fraction below this is heart failure.
        lvef_value: True writes the structured ejection fraction as `value.lvef` too, the value of a regression named
            lvef. A configuration then has to name that task.
        landmark_days: Days after discharge when the prognosis starts.
        follow_up: Stays of the prognosis. "all", or "later_contact" for the stays after which the patient came back.
            The second rule selects by the future. It resembles the cohort of the paper and is for a sensitivity
            analysis.
        lab_items: CSV file with the columns itemid, lab_column. None means the list in the package.
        keep_comparators: True keeps results beyond the measuring range ("<0.01") as text. False does not use them, but
            counts them.
        omr_days: Maximum age of height, weight and BMI, in days. They come from the outpatient table omr.
        drug_history: False writes no drug history. Diuretics and ARNI treat the disease that is to be predicted, so
            that drugs may give the answer away.
        history_items: Maximum number of entries of a history cell. The text encoder takes 512 tokens for a whole row.
        index_hours: Hours from admission to the index time if neither ECGs nor echos are given.
        min_clip_frames: With the file checks, a clip with fewer frames is too short. 10 frames are a third of a second
            at 30 Hz.
        split: Which split fills the column `split`: "stratified" 5:1:1, or "temporal" by anchor_year_group.
        seed: Seed of the stratified splits.
    """

    hf_codes: str = "strict"
    admissions: str = "first"
    ecg: str = "nearest"
    max_hours_apart: float | None = None
    label: str = "icd"
    lvef_below: float = 50.0
    lvef_value: bool = False
    landmark_days: int = 30
    follow_up: str = "all"
    lab_items: str | None = None
    keep_comparators: bool = False
    omr_days: int = 365
    drug_history: bool = True
    history_items: int = 25
    index_hours: int = 24
    min_clip_frames: int = 10
    split: str = "stratified"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise a TgmmError if a rule has a value that it does not take."""
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise TgmmError("rules", f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}.")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is bool and not isinstance(value, bool):
                raise TgmmError("rules", f"{field.name} is {value!r}; it must be true or false.")
            if field.type in (int, float) or (field.type == float | None and value is not None):
                _require_number(field.name, value, whole=field.type is int)


def _require_number(name: str, value: object, whole: bool) -> None:
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not is_number or value < 0:  # type: ignore[operator]
        raise TgmmError("rules", f"{name} is {value!r}; it must be a number, 0 or more.")


def read_rules(path: str | Path | None, settings: Sequence[str] = ()) -> CurateRules:
    """Read rules from a YAML file. Rules that are not named keep their defaults.

    Args:
        path: YAML file, or None.
        settings: Texts of the form "name=value", which replace the values of the file. Values are YAML.

    Raises:
        TgmmError: If a name is no rule, or the rule does not take the value.
    """
    content = {} if path is None else yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    if not isinstance(content, Mapping):
        raise TgmmError(str(path), f"must hold names and values of rules, got {type(content).__name__}.")
    content = dict(content)
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise TgmmError(repr(setting), "is not name=value.")
        content[name.strip()] = yaml.safe_load(value)
    names = [field.name for field in fields(CurateRules)]
    if unknown := sorted(set(content) - set(names)):
        raise TgmmError("rules", f"no such rule: {', '.join(unknown)}; known are {', '.join(names)}.")
    return CurateRules(**content)


def read_hf_codes(name: str) -> list[dict[str, Any]]:
    """Read a set of heart-failure codes: "strict", "broad" or the path of a CSV file.

    Returns:
        Rows with icd_version (9 or 10) and icd_code, in capitals and without dots. `*` stands for any ending.
    """
    path = _packaged(f"hf_{name}.csv") if name in ("strict", "broad") else Path(name)
    rows = _read_csv(path, ("icd_version", "icd_code"))
    return [
        {"icd_version": int(row["icd_version"]), "icd_code": row["icd_code"].strip().upper().replace(".", "")}
        for row in rows
    ]


def read_lab_items(path: str | None) -> list[dict[str, Any]]:
    """Read a laboratory list: rows with itemid of MIMIC and lab_column. None means the list in the package."""
    rows = _read_csv(_packaged("lab_items.csv") if path is None else Path(path), ("itemid", "lab_column"))
    return [{"itemid": int(row["itemid"]), "lab_column": row["lab_column"].strip()} for row in rows]


def _packaged(name: str) -> Path:
    return Path(str(files("tgmm_hf.cohorts.mimic").joinpath("codes", name)))


def _read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        raise TgmmError(str(path), f"does not exist: give the path of a CSV with the columns {', '.join(columns)}.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    require_columns(str(path), list(reader.fieldnames or []), columns)
    return rows
