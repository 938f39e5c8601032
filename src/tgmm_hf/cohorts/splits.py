"""Splits by patient: 5:1:1 by iterative stratification, 5 x 2-fold with 20 % validation, temporal; drawn once.

Iterative stratification (Sechidis et al. 2011; library `iterative-stratification`) balances many indicators at once:
label, sex, age band, missingness, and the label with each of the others.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold, MultilabelStratifiedShuffleSplit

from tgmm_hf.data.manifest import SPLITS
from tgmm_hf.utils.files import whole_file

REPEATS = 5
AGE_BANDS = (50, 65, 80)
VALIDATION_SHARE = 0.2
FOLD_COLUMNS = [f"repeat{repeat}_fold{fold}" for repeat in range(1, REPEATS + 1) for fold in (1, 2)]


def split_patients(patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draw all splits of a cohort.

    Args:
        patients: one row per patient: patient_id, label (0, 1), event (0, 1, 2 or NaN: not in the prognosis cohort),
            gender, age (years), missing (share of empty laboratory cells), anchor_year_group.
        seed: the only source of randomness; the order of the rows does not matter.

    Returns:
        patient_id, stratified, temporal (empty with fewer than three year groups) and `FOLD_COLUMNS`: in each of five
        repetitions both halves are once the test set, the other half gives train and 20 % validation.

    Raises:
        ValueError: fewer than seven patients.
    """
    if len(patients) < 7:
        raise ValueError(f"{len(patients)} patients cannot be split 5:1:1; at least 7 are needed.")
    patients = patients.sort_values("patient_id", ignore_index=True)
    out = pd.DataFrame({"patient_id": patients.patient_id})
    diagnosis = indicators(patients, patients.label)
    out["stratified"] = _five_one_one(diagnosis, seed)
    out["temporal"] = temporal_split(patients.anchor_year_group)
    # events have to be balanced; patients outside the prognosis (-1) are split too, so that all tasks share the halves
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
    """Indicator matrix (patients, indicators): outcome, sex, age band, missingness, and the outcome with each."""
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
    """Latest year group: test, the one before: validation, all earlier: train; None with fewer than three groups."""
    known = sorted(groups.dropna().unique())
    if len(known) < 3:
        return [None] * len(groups)
    roles = {known[-1]: "test", known[-2]: "validation"}
    return [None if pd.isna(group) else roles.get(group, "train") for group in groups]


def write_splits(drawn: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Write the splits; returns them."""
    with whole_file(path) as building:
        drawn.to_csv(building, index=False, lineterminator="\n")
    return drawn


def read_splits(path: Path, patients: Iterable[str]) -> pd.DataFrame:
    """Splits that were drawn before, for a cohort that may hold fewer patients than it did then.

    Raises:
        ValueError: the file lacks a column, or patients of the cohort: splits are never drawn anew over existing ones.
    """
    kept = pd.read_csv(path, dtype=str, keep_default_na=False).replace({"": None})
    columns = ["patient_id", "stratified", "temporal", *FOLD_COLUMNS]
    if missing := [name for name in columns if name not in kept.columns]:
        raise ValueError(f"{path} lacks the column(s) {', '.join(missing)}: it was not written by `tgmm curate`.")
    wanted = set(patients)
    if new := wanted - set(kept.patient_id):
        raise ValueError(
            f"{path} has no split for {len(new)} of {len(wanted)} patients: splits are not drawn anew over existing "
            "ones. Write the larger cohort into another directory, or delete the file if no model was trained."
        )
    return kept


def _five_one_one(matrix: np.ndarray, seed: int) -> np.ndarray:
    role = np.full(len(matrix), SPLITS[0], dtype=object)
    folds = MultilabelStratifiedKFold(7, shuffle=True, random_state=seed).split(matrix, matrix)
    for (_, fold), name in zip(folds, SPLITS[1:], strict=False):
        role[fold] = name
    return role
