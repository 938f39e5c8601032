"""What every training from an instruction file shares: rows, patients, processed ECGs, table of refused ECGs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from tgmm_hf.data.instructions import Instruction, read_instructions, rows_in_words
from tgmm_hf.data.processed_ecgs import ProcessedArrays, digest_of_ecgs, process_rows
from tgmm_hf.evaluation.unseen import patient_name
from tgmm_hf.training.processes import fail_together
from tgmm_hf.training.run_directory import Run
from tgmm_hf.training.training_data import SPLITS
from tgmm_hf.utils.csv_files import write_csv_file
from tgmm_hf.utils.errors import TgmmError

ECGS = "ecgs"
"""Directory beside the checkpoints with the processed ECGs."""
REFUSED = "refused.csv"
"""Table beside the checkpoints with the ECGs that could not be used."""


def read_rows(file: str, in_words: bool = False) -> list[Instruction]:
    """Read the rows of an instruction file that a training reads.

    Args:
        file: The instruction file.
        in_words: Leave out the rows of a bench file that ask for a signal, for a model that answers in words only.

    Raises:
        FileNotFoundError: If there is no such file.
        TgmmError: If a row is wrong, or a split is missing.
    """
    read = read_instructions(file)
    rows = [row for row in (rows_in_words(read) if in_words else read) if row.split in SPLITS]
    splits = {row.split for row in rows}
    if missing := [split for split in SPLITS if split not in splits]:
        raise TgmmError(file, f"it has no rows of the split {' and '.join(missing)}, which a training needs.")
    return rows


def patients_by_split(rows: Sequence[Any], name_of: Callable[[Any], str] = patient_name) -> dict[str, Dataset]:
    """Return split -> rows with the column `patient_id`.

    Args:
        rows: Rows of an instruction file, or of another table with `split`.
        name_of: Names the patient of a row. The default begins with the data set, because data sets share numbers.
    """
    return {
        split: Dataset.from_dict({"patient_id": [name_of(row) for row in rows if row.split == split]})
        for split in SPLITS
    }


def processed_once(run: Run, rows: Sequence[Instruction], extractor: Any, should_save: bool) -> ProcessedArrays:
    """Process the ECGs once, in the first process. The other processes open the stored values.

    Args:
        run: The settings, with `data.file` and `data.cache`.
        rows: The rows whose ECGs are processed.
        extractor: The feature extractor.
        should_save: Whether this process is the first one.
    """
    cache = Path(run.data.cache) if run.data.cache else run.training_directory / ECGS
    digest = digest_of_ecgs(rows)

    def processed() -> ProcessedArrays:
        return process_rows(rows, extractor, cache=cache, data_hash=digest, workers=run.data.workers)

    with fail_together():
        if should_save:
            write_refused(rows, processed().refused, run.training_directory / REFUSED)
    return processed()


def write_refused(rows: Sequence[Instruction], refused: Mapping[int, str], path: Path) -> None:
    """Write the table of refused ECGs: id, split and reason. `refused` is number of a row -> reason."""
    table = [
        {"id": rows[number].id, "split": rows[number].split, "reason": reason}
        for number, reason in sorted(refused.items())
    ]
    write_csv_file(path, ["id", "split", "reason"], table)
