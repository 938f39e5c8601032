"""`tgmm curate-lvef`: EchoNet-Dynamic or CAMUS -> cohort table of a regression, with the published splits.

    EchoNet-Dynamic   FileList.csv (FileName, EF in percent, Split) and Videos/<FileName>.avi: one apical four-chamber
                      video of each patient (Ouyang et al. 2020)
    CAMUS             database_nifti/patient0001/ (Info_4CH.cfg, patient0001_4CH_half_sequence.nii.gz) and
                      database_split/subgroup_training.txt, ...: two views of each patient (Leclerc et al. 2019)

Both layouts were read from published code that reads the data sets, not from the data sets. Nobody here has seen their
files. The outcome is `value.lvef`, in percent. Age and sex of CAMUS are not used, because the benchmark reads pictures.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tgmm_hf.cohorts.camus_sequences import write_sequence
from tgmm_hf.cohorts.tables import require_columns
from tgmm_hf.data.manifest import SPLITS, read_cohort_table
from tgmm_hf.data.table_files import declare_canonical_units
from tgmm_hf.utils.csv_files import write_csv_file
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import whole_file, write_json
from tgmm_hf.utils.output_lock import one_run_at_a_time

TASK = "lvef"
LVEF_SETTINGS: dict[str, Any] = {
    "kind": "regression",
    "question": "How high is the left ventricular ejection fraction of this patient?",
    "candidates": [],
    "unit": "%",
    "range": [0, 100],
}
"""Meaning of the outcome. configs/lvef_benchmark.yaml holds the same with its training settings."""
ECHONET_SPLITS = {"TRAIN": "train", "VAL": "validation", "TEST": "test"}
CAMUS_SPLITS = {"training": "train", "validation": "validation", "testing": "test"}
"""Word in the name of a split file of CAMUS, subgroup_<word>.txt -> split."""
CAMUS_VIEWS = {"A4C": "4CH", "A2C": "2CH"}
"""View of this package -> view of CAMUS."""


@dataclass
class _Cohort:
    """Rows of a cohort table as they are read.

    Attributes:
        rows: One {"id", "split", "lvef", "paths", "views"} for each patient; paths as text.
        missing: One {"id", "split", "reason"} for each patient who is left out.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, str]] = field(default_factory=list)


@one_run_at_a_time("out")
def curate_lvef(directory: str | Path, out: str | Path, *, view: str = "A4C") -> dict[str, Any]:
    """Write cohort.parquet, missing.csv and curate.json into `out`; with CAMUS also the clips, as DICOM in `out`/echo.

    Args:
        directory: EchoNet-Dynamic or CAMUS, recognised by FileList.csv or by folders patient<number>.
        out: Directory of the result.
        view: "A4C", "A2C" or "both". EchoNet-Dynamic has A4C only.

    Returns:
        The content of curate.json: "data_hash", "source" ("EchoNet-Dynamic" or "CAMUS"), "view", "counts" (split ->
        patients) and "missing" (split -> patients who are left out, because a file of theirs is not there).

    Raises:
        FileNotFoundError: If the directory has neither layout.
        ImportError: If CAMUS is read without nibabel.
        TgmmError: If a table, a split or an ejection fraction cannot be used.
    """
    directory, out = Path(directory), Path(out)
    views = list(CAMUS_VIEWS) if view == "both" else [view]
    if not set(views) <= CAMUS_VIEWS.keys():
        raise TgmmError("view", f"is {view!r}; it must be A4C, A2C or both.")
    source, read = _layout(directory)
    out.mkdir(parents=True, exist_ok=True)
    cohort = read(directory, out, views)
    if not cohort.rows:
        raise TgmmError(str(directory), f"has files of none of {len(cohort.missing)} patients: check the path.")
    columns = {
        "id": [row["id"] for row in cohort.rows],
        "patient_id": [row["id"] for row in cohort.rows],
        "split": [row["split"] for row in cohort.rows],
        "echo_paths": [row["paths"] for row in cohort.rows],
        "echo_views": [row["views"] for row in cohort.rows],
        f"value.{TASK}": [row["lvef"] for row in cohort.rows],
    }
    with whole_file(out / "cohort.parquet") as building:
        pq.write_table(declare_canonical_units(pa.table(columns)), building)
    write_csv_file(out / "missing.csv", ["id", "split", "reason"], cohort.missing)
    summary = {
        "data_hash": read_cohort_table(out / "cohort.parquet", tasks={TASK: LVEF_SETTINGS}).digest(),
        "source": source,
        "view": view,
        "counts": {name: columns["split"].count(name) for name in SPLITS},
        "missing": {name: sum(row["split"] == name for row in cohort.missing) for name in SPLITS},
    }
    write_json(out / "curate.json", summary)
    return summary


def _layout(directory: Path) -> tuple[str, Callable[[Path, Path, list[str]], _Cohort]]:
    """Recognise the data set: its name, and the function that reads it."""
    if (directory / "FileList.csv").is_file():
        return "EchoNet-Dynamic", _read_echonet
    if any(_patients(directory)):
        return "CAMUS", _read_camus
    raise FileNotFoundError(
        f"{directory} holds neither FileList.csv (EchoNet-Dynamic) nor folders patient<number>, itself or in "
        "database_nifti (CAMUS)."
    )


def _percent(item: str, cell: Any) -> float:
    """Return an ejection fraction in percent. Raise a TgmmError if it is none."""
    value = float(pd.to_numeric(cell, errors="coerce"))
    if not 1 < value <= 100:
        raise TgmmError(item, f"the ejection fraction is {cell!r}, expected a number of percent above 1 and up to 100.")
    return value


# ---- EchoNet-Dynamic


def _read_echonet(directory: Path, out: Path, views: list[str]) -> _Cohort:
    """Read FileList.csv. The videos stay where they are."""
    if views != ["A4C"]:
        raise TgmmError("view", f"{' and '.join(views)} is wanted, but EchoNet-Dynamic has A4C only.")
    table = pd.read_csv(directory / "FileList.csv", dtype=str)
    require_columns("FileList.csv", list(table.columns), ("FileName", "EF", "Split"))
    names = [str(name).strip().removesuffix(".avi") for name in table.FileName]
    if repeated := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
        raise TgmmError("FileList.csv", f"{len(repeated)} FileName stand twice, for example {repeated[0]}.")
    cohort = _Cohort()
    for name, fraction, written in zip(names, table.EF, table.Split, strict=True):
        split = ECHONET_SPLITS.get(str(written).strip().upper())
        if split is None:
            raise TgmmError("FileList.csv", f"the split of {name} is {written!r}, expected TRAIN, VAL or TEST.")
        path = directory / "Videos" / f"{name}.avi"
        if not path.is_file():
            cohort.missing.append({"id": name, "split": split, "reason": f"no file Videos/{path.name}"})
            continue
        relative = os.path.relpath(path.absolute(), out.absolute())
        lvef = _percent(f"FileList.csv, {name}", fraction)
        cohort.rows.append({"id": name, "split": split, "lvef": lvef, "paths": [relative], "views": views})
    return cohort


# ---- CAMUS


def _patients(directory: Path) -> list[Path]:
    """List the folders of the patients, in `directory` or in its database_nifti."""
    for folder in (directory / "database_nifti", directory):
        if patients := sorted(path for path in folder.glob("patient[0-9]*") if path.is_dir()):
            return patients
    return []


def _read_camus(directory: Path, out: Path, views: list[str]) -> _Cohort:
    """Read the folders of the patients, and write their clips into `out`/echo."""
    splits = _camus_splits(directory)
    cohort = _Cohort()
    for folder in _patients(directory):
        if (split := splits.get(folder.name)) is None:
            raise TgmmError(
                folder.name, "stands in no subgroup_*.txt of CAMUS: the published splits have every patient."
            )
        files = [_camus_files(folder, view) for view in views]
        if lost := [path.name for pair in files for path in pair if not path.is_file()]:
            cohort.missing.append({"id": folder.name, "split": split, "reason": f"no file {', '.join(lost)}"})
            continue
        infos = [_camus_info(info) for info, _ in files]
        fractions = {info.get("EF") for info in infos}
        if len(fractions) > 1:
            raise TgmmError(folder.name, f"its views name different ejection fractions: {sorted(map(str, fractions))}.")
        paths = []
        for (_, sequence), info, view in zip(files, infos, views, strict=True):
            paths.append(f"echo/{folder.name}_{view}.dcm")
            write_sequence(sequence, out / paths[-1], folder.name, _frame_time(info))
        lvef = _percent(f"{folder.name}, Info_{CAMUS_VIEWS[views[0]]}.cfg", fractions.pop())
        cohort.rows.append({"id": folder.name, "split": split, "lvef": lvef, "paths": paths, "views": views})
    return cohort


def _camus_splits(directory: Path) -> dict[str, str]:
    """Read the published splits: patient -> split. Raise an error if a file is missing or a patient is in two."""
    folders = (directory / "database_split", directory, directory.parent / "database_split")
    folder = next((folder for folder in folders if (folder / "subgroup_testing.txt").is_file()), None)
    if folder is None:
        raise FileNotFoundError(
            f"{directory} lacks database_split/subgroup_testing.txt: copy the folder database_split of CAMUS there, "
            "because a split of your own is no entry to the benchmark."
        )
    splits: dict[str, str] = {}
    for word, split in CAMUS_SPLITS.items():
        for patient in (folder / f"subgroup_{word}.txt").read_text(encoding="utf-8").split():
            if splits.setdefault(patient, split) != split:
                raise TgmmError(f"subgroup_{word}.txt", f"{patient} stands in the split {splits[patient]} too.")
    return splits


def _camus_files(folder: Path, view: str) -> tuple[Path, Path]:
    """Return the description and the sequence of one view of a patient."""
    name = CAMUS_VIEWS[view]
    return folder / f"Info_{name}.cfg", folder / f"{folder.name}_{name}_half_sequence.nii.gz"


def _camus_info(path: Path) -> dict[str, str]:
    """Read the lines "key: value" of a description."""
    pairs = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _frame_time(info: dict[str, str]) -> float | None:
    """Return milliseconds from frame to frame; None if the description states no rate."""
    rate = float(pd.to_numeric(info.get("FrameRate"), errors="coerce"))
    return 1000 / rate if rate > 0 else None
