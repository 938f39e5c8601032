"""Open every ECG and echo file of a cohort table as `tgmm prepare` does, and keep nothing but the refusals."""

import sys
from collections.abc import Iterator
from dataclasses import replace

from tqdm import tqdm

from tgmm_hf.data.admissions import AdmissionPreparer, make_preparer
from tgmm_hf.data.manifest import CohortRow, CohortTable
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.inputs.input_limits import refusing
from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.errors import InputRefusedError

TRIAL_SIZE = 64
"""Height and width in pixels of the clips of a trial. The size does not decide whether a clip is refused."""


def refused_files(table: CohortTable, processor: TgmmProcessor | None = None) -> list[tuple[str, int]]:
    """Read all files of a table and list the refusals.

    Args:
        table: The table.
        processor: Processor of the model that the table is for, with its view classifier. None reads without a view
            classifier: a clip without a view is then refused.

    Returns:
        (modality and reason, row) of every refused file. Rows are counted from 1.
    """
    if processor is not None:
        preparer = make_preparer(table, processor)
    else:
        preparer = AdmissionPreparer(
            EcgFeatureExtractor(), EchoImageProcessor(size=TRIAL_SIZE), table.root, allow_outside=table.allow_outside
        )
    rows = tqdm(
        list(enumerate(table.rows, start=1)),
        desc="reading files",
        unit="row",
        file=sys.stderr,
        disable=None,
    )
    return [(reason, number) for number, row in rows for reason in _refusals(preparer, row)]


def _refusals(preparer: AdmissionPreparer, row: CohortRow) -> Iterator[str]:
    """Read the files of a row, one modality after the other, and yield the reasons of its refusals."""
    without_labs = replace(row, labs={})
    alone = {
        "ecg": replace(without_labs, echo_paths=(), echo_views=()),
        "echo": replace(without_labs, ecg_path=None),
    }
    for modality, part in alone.items():
        if part.ecg_path is None and not part.echo_paths:
            continue
        try:
            with refusing(modality):  # whatever nobody foresaw: the other files are read all the same
                refused = preparer.prepare(part).refused
        except InputRefusedError as error:
            yield f"{modality}: {error.reason}"
            continue
        for entry in refused:
            if not entry["reason"].startswith("dropped: "):
                yield f"{modality}: {entry['reason']}"
