"""Do several trainings of one model give one patient the same map?

Two trainings that differ only in their seed answer about equally well. If their maps of one patient differ, a map tells
as much about the training as about the patient. Maps are compared by the rank correlation of their absolute values.

The control is the map of another patient: it tells how much of the agreement is a pattern that all patients share, such
as the same lab cells. Only patients with the same number of units can be compared with each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from tgmm_hf.explanation.faithfulness import EVIDENCE_SHARE, evidence_units, pointing
from tgmm_hf.explanation.randomised import rank_correlation
from tgmm_hf.explanation.summary import mean_with_interval
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES

Patients = Mapping[str, Mapping[str, Any]]
"""Name of a patient's file -> modality -> what `check.measure` returns."""
DIFFERING = ("weights", "model")
"""Settings in which the checks of two trainings may differ."""


def stability(checks: Sequence[str | Path], bootstrap: int = BOOTSTRAP_RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Compare the maps of several trainings.

    Args:
        checks: directories that `tgmm explain-check` wrote, one for each training, of the same patients and question.
        bootstrap: number of resamples of the patients.
        seed: of the resamples.

    Returns:
        modality -> method -> {"same_patient", "other_patient", "same_strongest": {"mean", "ci", "n"}, "pointing": one
        number for each training}. "same_patient" is the mean rank correlation over all pairs of trainings,
        "other_patient" that with maps of other patients, "same_strongest" the share of pairs with the same strongest
        unit. "other_patient" is None if no two patients have the same number of units.

    Raises:
        TgmmError: if there are fewer than two checks, if they are of the same weights, of other data, another split,
            another question or other patients, or if they lack a method or have maps of another length.
    """
    if len(checks) < 2:
        raise TgmmError("stability", f"got {len(checks)} check(s), needs the checks of two or more trainings.")
    _require_same_question([Path(check) for check in checks])
    trainings = [_patients_of(Path(check)) for check in checks]
    files = sorted(trainings[0])
    for check, patients in zip(checks, trainings, strict=True):
        _require_same_maps(Path(check), patients, trainings[0])
    modalities = dict.fromkeys(name for file in files for name in trainings[0][file])
    result: dict[str, Any] = {}
    for modality in modalities:
        files_of_modality = [file for file in files if modality in trainings[0][file]]
        methods = trainings[0][files_of_modality[0]][modality]["maps"]
        result[modality] = {
            method: _compare(trainings, files_of_modality, modality, method, bootstrap, seed) for method in methods
        }
    return result


def _compare(
    trainings: Sequence[Patients], files: Sequence[str], modality: str, method: str, bootstrap: int, seed: int
) -> dict[str, Any]:
    """Compare the maps of one method; `files` name the patients."""
    maps = [[np.array(patients[file][modality]["maps"][method]) for file in files] for patients in trainings]
    pairs = list(combinations(range(len(trainings)), 2))
    same = [[rank_correlation(maps[a][n], maps[b][n]) for a, b in pairs] for n in range(len(files))]
    strongest = [[_strongest(maps[a][n]) == _strongest(maps[b][n]) for a, b in pairs] for n in range(len(files))]
    control = [list(_with_other_patients(maps, pairs, number)) for number in range(len(files))]
    control_means = np.array([np.mean(correlations) for correlations in control if correlations])
    return {
        "same_patient": mean_with_interval(np.mean(same, axis=1), seed, bootstrap),
        "other_patient": mean_with_interval(control_means, seed, bootstrap) if len(control_means) else None,
        "same_strongest": mean_with_interval(np.mean(strongest, axis=1), seed, bootstrap),
        "pointing": [_mean_pointing(patients, files, modality, method) for patients in trainings],
    }


def _with_other_patients(
    maps: Sequence[Sequence[np.ndarray]], pairs: Sequence[tuple[int, int]], number: int
) -> Iterator[float]:
    """Yield the correlations of one patient's map with the other trainings' maps of all other patients of its size."""
    for a, b in pairs:
        for patient, values in enumerate(maps[b]):
            if patient != number and len(values) == len(maps[a][number]):
                yield rank_correlation(maps[a][number], values)


def _strongest(values: np.ndarray) -> int:
    """Return the number of the unit with the largest absolute value."""
    return int(np.abs(values).argmax())


def _mean_pointing(patients: Patients, files: Sequence[str], modality: str, method: str) -> float:
    """Compute the share of patients whose strongest unit holds evidence."""
    points = []
    for file in files:
        entry = patients[file][modality]
        evidence = evidence_units(np.array(entry["planted"]), EVIDENCE_SHARE[modality])
        points.append(pointing(np.array(entry["maps"][method]), evidence)["pointing"])
    return float(np.mean(points))


def _patients_of(check: Path) -> Patients:
    """Read what a check measured of each patient."""
    return {path.name: read_json(path) for path in sorted((check / "patients").glob("*.json"))}


def _require_same_maps(check: Path, patients: Patients, first: Patients) -> None:
    """Refuse a check with other patients, methods or lengths of maps than the first one."""
    if not first or patients.keys() != first.keys():
        raise TgmmError(
            str(check), f"has {len(patients)} patients, the first check {len(first)} or others. Finish both."
        )
    for file, modalities in first.items():
        lengths = [
            {(name, method): len(values) for name, entry in entries.items() for method, values in entry["maps"].items()}
            for entries in (modalities, patients[file])
        ]
        if lengths[0] != lengths[1]:
            raise TgmmError(str(check), f"{file} has maps of other methods or lengths than in the first check.")


def _require_same_question(checks: Sequence[Path]) -> None:
    """Refuse directories that hold no check, and checks of other data, another split or another question."""
    for check in checks:
        if not (check / "settings.json").is_file():
            raise TgmmError(str(check), "holds no settings.json. Name a directory that `tgmm explain-check` wrote.")
    settings = [read_json(check / "settings.json") for check in checks]
    for check, entry in zip(checks, settings, strict=True):
        for name in sorted((settings[0].keys() | entry.keys()) - set(DIFFERING)):
            if entry.get(name) != settings[0].get(name):
                problem = f"has {name} {entry.get(name)!r}, {checks[0]} has {settings[0].get(name)!r}."
                raise TgmmError(str(check), problem)
    weights = [entry.get("weights") for entry in settings]
    if len(set(weights)) < len(weights):
        raise TgmmError(str(checks[0]), f"two checks are of the same weights ({weights}). Name one for each training.")
