"""Splits by patient, drawn once: 5:1:1 by iterative stratification, 5 x 2-fold with 20 % validation, temporal.

Iterative stratification (Sechidis et al. 2011; library `iterative-stratification`) balances many indicators at once:
label, sex, age band, missingness, and the label combined with each of these.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold, MultilabelStratifiedShuffleSplit

from tgmm_hf.data.manifest import SPLITS
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import whole_file

MIN_PATIENTS = 7
REPEATS = 5
AGE_BANDS = (50, 65, 80)
VALIDATION_SHARE = 0.2
FOLD_COLUMNS = [f"repeat{repeat}_fold{fold}" for repeat in range(1, REPEATS + 1) for fold in (1, 2)]


def split_patients(patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draw all splits of a cohort.

    Args:
        patients: One row per patient: patient_id, label (0, 1), event (0, 1, 2, or NaN outside the prognosis cohort),
            gender, age (years), missing (share of empty laboratory cells), anchor_year_group.
        seed: The only source of randomness. The order of the rows does not matter.

    Returns:
        Columns patient_id, stratified, temporal (empty with fewer than three year groups) and `FOLD_COLUMNS`. In each
        of five repetitions both halves are the test set once. The other half gives train and 20 % validation.

    Raises:
        TgmmError: If there are fewer than seven patients.
    """
    if len(patients) < MIN_PATIENTS:
        raise TgmmError(
            "the splits", f"{len(patients)} patients cannot be split 5:1:1; at least {MIN_PATIENTS} are needed."
        )
    patients = patients.sort_values("patient_id", ignore_index=True)
    out = pd.DataFrame({"patient_id": patients.patient_id})
    diagnosis = indicators(patients, patients.label)
    out["stratified"] = _five_one_one(diagnosis, seed)
    out["temporal"] = temporal_split(patients.anchor_year_group)
    # Events must be balanced. Patients outside the prognosis (-1) are split too, so that all tasks share the halves.
    prognosis = indicators(patients, patients.event.fillna(-1))
    for repeat in range(REPEATS):
        folds = MultilabelStratifiedKFold(2, shuffle=True, random_state=seed + repeat).split(prognosis, prognosis)
        for fold, (rest, test) in enumerate(folds, start=1):
            role = np.full(len(out), "train", dtype=object)
            role[test] = "test"
            shuffle = MultilabelStratifiedShuffleSplit(1, test_size=VALIDATION_SHARE, random_state=seed + repeat)
            _, validation = next(shuffle.split(prognosis[rest], prognosis[rest]))
            role[rest[validation]] = "validation"
            out[f"repeat{repeat + 1}_fold{fold}"] = role
    return out


def indicators(patients: pd.DataFrame, outcome: pd.Series) -> np.ndarray:
    """Make the matrix (patients, indicators): outcome, sex, age band, missingness, and the outcome with each."""
    columns = pd.DataFrame(
        {
            "outcome": outcome.astype(int).astype(str),
            "sex": patients.gender.fillna("?"),
            "age": np.digitize(patients.age.fillna(-1), AGE_BANDS).astype(str),
            "missing": (patients.missing > patients.missing.median()).astype(str),
        }
    )
    for name in ("sex", "age", "missing"):
        columns[f"outcome x {name}"] = columns.outcome + " " + columns[name]
    return pd.get_dummies(columns).to_numpy(dtype=int)


def temporal_split(groups: pd.Series) -> list[str | None]:
    """Split by year group: the latest tests, the one before validates, all earlier ones train.

    With fewer than three groups no patient has a split.
    """
    present = sorted(groups.dropna().unique())
    if len(present) < 3:
        return [None] * len(groups)
    roles = {present[-1]: "test", present[-2]: "validation"}
    return [None if pd.isna(group) else roles.get(group, "train") for group in groups]


def write_splits(splits: pd.DataFrame, path: Path) -> None:
    """Write splits as CSV."""
    with whole_file(path) as building:
        splits.to_csv(building, index=False, lineterminator="\n")


def read_splits(path: Path, patients: Iterable[str]) -> pd.DataFrame:
    """Read splits that were drawn before. The cohort may have fewer patients now, but no new ones.

    Args:
        path: CSV file of `write_splits`.
        patients: Patients of the cohort.

    Raises:
        TgmmError: If the file lacks a column or a patient, because splits are never drawn anew over existing ones.
    """
    kept = pd.read_csv(path, dtype=str, keep_default_na=False).replace({"": None})
    columns = ["patient_id", "stratified", "temporal", *FOLD_COLUMNS]
    if missing := [name for name in columns if name not in kept.columns]:
        raise TgmmError(
            str(path),
            f"lacks the column(s) {', '.join(missing)}: `tgmm curate` did not write it. Name another file.",
        )
    wanted = set(patients)
    if new := wanted - set(kept.patient_id):
        raise TgmmError(
            str(path),
            f"has no split for {len(new)} of {len(wanted)} patients: splits are not drawn anew over existing ones. "
            "Write the larger cohort into another directory, or delete the file if no model was trained.",
        )
    return kept


def _five_one_one(matrix: np.ndarray, seed: int) -> np.ndarray:
    role = np.full(len(matrix), SPLITS[0], dtype=object)
    folds = MultilabelStratifiedKFold(7, shuffle=True, random_state=seed).split(matrix, matrix)
    for (_, fold), name in zip(folds, SPLITS[1:], strict=False):
        role[fold] = name
    return role
