"""The rules of a cohort as one dataclass: every choice that a reviewer may ask about, with its default."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

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
    """What makes a cohort out of the tables. `docs/data.md` gives the reasons.

    Attributes:
        hf_codes: "strict" (heart failure by name), "broad" (Charlson, with cardiomyopathy), or a CSV with the columns
            icd_version, icd_code (`*` for any ending).
        admissions: "first" qualifying stay of each patient, or "all" of them (still split by patient).
        ecg: which ECG of a stay, of those not after the index time: "nearest" to the echo, or the "first".
        max_hours_apart: hours that ECG and echo may lie apart; None: anywhere in the same stay.
        label: hf_diagnosis by "icd" code, or by structured "lvef" (MIMIC-IV-ECHO 1.0.x; stays without it are excluded).
        lvef_below: percent; with `label: lvef`, an ejection fraction below it is heart failure.
        landmark_days: days after discharge from which on the prognosis counts.
        follow_up: "all", or "later_contact": only stays after which the patient came back. That selects on the future;
            it resembles the paper's cohort and is meant as a sensitivity analysis.
        lab_items: CSV with the columns itemid, lab_column; None: the list that is shipped.
        keep_comparators: keep results beyond the measuring range ("<0.01") as text; default: leave them out and
            count them.
        omr_days: how old height, weight and BMI may be, in days.
        drug_history: False leaves drugs out (diuretics and ARNI are treatment of what is to be predicted).
        history_items: entries of a history cell at most; the text encoder takes 512 tokens for the whole row.
        index_hours: hours after admission of the index time when neither ECGs nor echos are given.
        min_clip_frames: with the file checks, a clip with fewer frames is too short (10: a third of a second at 30 Hz).
        split: which split fills the column `split`: "stratified" 5:1:1, or "temporal" by anchor_year_group.
        seed: of the stratified splits.
    """

    hf_codes: str = "strict"
    admissions: str = "first"
    ecg: str = "nearest"
    max_hours_apart: float | None = None
    label: str = "icd"
    lvef_below: float = 50.0
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
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"rule {name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}.")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in (bool,) and not isinstance(value, bool):
                raise ValueError(f"rule {field.name} is {value!r}; it must be true or false.")
            if (
                field.type in (int, float, float | None)
                and value is not None
                and (
                    isinstance(value, bool)
                    or not isinstance(value, int if field.type is int else int | float)
                    or value < 0
                )
            ):
                raise ValueError(f"rule {field.name} is {value!r}; it must be a number, 0 or more.")


def read_rules(path: str | Path | None, settings: Sequence[str] = ()) -> CurateRules:
    """Rules from a YAML file and "name=value" settings over it; what neither names keeps its default.

    Raises:
        ValueError: a name that is no rule, or a value that the rule does not take.
    """
    content = {} if path is None else yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} must hold names and values of rules, got {type(content).__name__}.")
    content = dict(content)
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r} is not name=value.")
        content[name.strip()] = yaml.safe_load(value)
    known = [field.name for field in fields(CurateRules)]
    if unknown := sorted(set(content) - set(known)):
        raise ValueError(f"no such rule: {', '.join(unknown)}; known are {', '.join(known)}.")
    return CurateRules(**content)


def read_hf_codes(name: str) -> list[dict[str, Any]]:
    """Rows (icd_version, icd_code) of a heart-failure code set: "strict", "broad" or the path of a CSV."""
    path = _packaged(f"hf_{name}.csv") if name in ("strict", "broad") else Path(name)
    rows = _read_csv(path, ("icd_version", "icd_code"))
    return [
        {"icd_version": int(row["icd_version"]), "icd_code": row["icd_code"].strip().upper().replace(".", "")}
        for row in rows
    ]


def read_lab_items(path: str | None) -> list[dict[str, Any]]:
    """Rows (itemid, lab_column) of the laboratory list; the shipped one when None."""
    rows = _read_csv(_packaged("lab_items.csv") if path is None else Path(path), ("itemid", "lab_column"))
    return [{"itemid": int(row["itemid"]), "lab_column": row["lab_column"].strip()} for row in rows]


def _packaged(name: str) -> Path:
    return Path(str(files("tgmm_hf.cohorts.mimic").joinpath("codes", name)))


def _read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give the path of a CSV with the columns {', '.join(columns)}.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if missing := [name for name in columns if name not in (reader.fieldnames or [])]:
        raise ValueError(f"{path}: missing column(s) {', '.join(missing)}; found {', '.join(reader.fieldnames or [])}.")
    return rows
