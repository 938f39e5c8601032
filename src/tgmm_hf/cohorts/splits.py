"""Splits by patient: 5:1:1 by iterative stratification, five times two folds with 20 % validation, and temporal.

They are drawn once for a cohort and then read from a file.

Iterative stratification (Sechidis et al. 2011; library `iterative-stratification`) balances many indicators at once:
label, sex, age band, missingness, and the combinations of the label with sex, age band and missingness.
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
        Columns patient_id, stratified, temporal (empty with fewer than three year groups) and `FOLD_COLUMNS`. All but
        the first name the split of each patient. In each of five repetitions the patients are halved. Each half is the
        test split of one fold. 20 % of the other half are the validation split, the remaining patients train.

    Raises:
        TgmmError: If there are fewer than seven patients.
    """
    _require_patients(len(patients))
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


def split_five_one_one(patients: Iterable[str], seed: int) -> dict[str, str]:
    """Split patients 5:1:1 at random, for a data set of which nothing but the patients is known.

    Args:
        patients: Names of the patients. The order and repetitions do not matter.
        seed: The only source of randomness.

    Returns:
        Patient -> "train", "validation" or "test".

    Raises:
        TgmmError: If there are fewer than seven patients.
    """
    names = sorted(set(patients))
    _require_patients(len(names))
    deal = np.repeat(SPLITS, (5, 1, 1))[np.arange(len(names)) % MIN_PATIENTS]
    return dict(zip(names, np.random.default_rng(seed).permutation(deal).tolist(), strict=True))


def _require_patients(number: int) -> None:
    if number < MIN_PATIENTS:
        raise TgmmError("the splits", f"{number} patients cannot be split 5:1:1; at least {MIN_PATIENTS} are needed.")


def indicators(patients: pd.DataFrame, outcome: pd.Series) -> np.ndarray:
    """Make the 0/1 matrix (patients, indicators) whose columns a stratified split balances.

    Args:
        patients: Table of [`split_patients`].
        outcome: Whole number of each patient, for example the label.

    Returns:
        One column for each value of the outcome, the sex, the age band, the missingness (above or below the median),
        and of the outcome combined with sex, with age band and with missingness.
    """
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
    """Split by year group: the latest group is test, the group before it validation, all earlier groups are train.

    Args:
        groups: anchor_year_group of each patient, such as "2014 - 2016".

    Returns:
        The split of each patient. None for a patient without a group, and for all with fewer than three groups.
    """
    present = sorted(groups.dropna().unique())
    if len(present) < 3:
        return [None] * len(groups)
    roles = {present[-1]: "test", present[-2]: "validation"}
    return [None if pd.isna(group) else roles.get(group, "train") for group in groups]


def write_splits(splits: pd.DataFrame, path: Path) -> None:
    """Write the result of [`split_patients`] to the CSV file `path`, whole or not at all."""
    with whole_file(path) as building:
        splits.to_csv(building, index=False, lineterminator="\n")


def read_splits(path: Path, patients: Iterable[str]) -> pd.DataFrame:
    """Read splits that were drawn before. The file may hold more patients than the cohort, but not fewer.

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
    cohort = set(patients)
    if new := cohort - set(kept.patient_id):
        raise TgmmError(
            str(path),
            f"has no split for {len(new)} of {len(cohort)} patients: splits are not drawn anew over existing ones. "
            "Write the larger cohort into another directory, or delete the file if no model was trained.",
        )
    return kept


def _five_one_one(matrix: np.ndarray, seed: int) -> np.ndarray:
    role = np.full(len(matrix), SPLITS[0], dtype=object)
    folds = MultilabelStratifiedKFold(7, shuffle=True, random_state=seed).split(matrix, matrix)
    for (_, fold), name in zip(folds, SPLITS[1:], strict=False):
        role[fold] = name
    return role
