"""Cases of the check of MoRE from a table of planted regions, such as `truth/xray_regions.parquet` of `tgmm synth`.

    dicom_id | id    file name of the X-ray without its suffix, or id of the row of the note table
    finding          name of the finding
    x0, y0, x1, y1   first column and row, last column and row + 1, in pixels of the original picture
    is_drawn         False: the finding is not in this place, and the row is left out (optional column)

Regions of one X-ray with one finding make one case.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tgmm_hf.data.finding_prompts import FindingPrompts, read_finding_prompts
from tgmm_hf.data.note_index import load_more, names_findings
from tgmm_hf.data.note_tables import NoteRow, read_note_table
from tgmm_hf.data.table_files import read_table
from tgmm_hf.explanation.explain_more import ScoreRequest
from tgmm_hf.explanation.more_check import PlantedCase, check_more
from tgmm_hf.families.more.modeling_more import MoreModel
from tgmm_hf.families.more.modeling_more_classification import MoreForClassification
from tgmm_hf.inputs.image_processing_xray import MoreImageProcessor
from tgmm_hf.inputs.xray_reading import read_xray
from tgmm_hf.utils.errors import InputRefusedError, TgmmError
from tgmm_hf.utils.model_names import is_local_model
from tgmm_hf.utils.names import BOOTSTRAP_RESAMPLES
from tgmm_hf.utils.output_lock import one_run_at_a_time

BOX = ("x0", "y0", "x1", "y1")


@one_run_at_a_time("out")
def check_regions(  # noqa: PLR0913 - one argument per option of the command
    model: str,
    table: Path,
    regions: Path,
    out: Path,
    options: Mapping[str, Any],
    *,
    beside_model: bool = False,
    seed: int = 0,
    bootstrap: int = BOOTSTRAP_RESAMPLES,
) -> dict[str, Any]:
    """Measure the maps of a saved MoRE model on the planted regions of the X-rays of a note table.

    Args:
        model: directory or Hub repository. A classifier is asked about its findings, another model about prompts.
        table: note table.
        regions: table of regions.
        out: directory to write, see `check_more`.
        options: "prompts" (JSON file or None), "against", "split", "number" and "allow_outside", see
            `read_planted_cases`.
        beside_model: also write the summary into the directory of the model.
        seed: see `check_more`.
        bootstrap: see `check_more`.

    Raises:
        TgmmError: if the model is of another kind, or a table cannot be used.
    """
    if beside_model and not is_local_model(model):
        raise TgmmError(model, "is a Hub repository, so that nothing can be written beside it. Download it first.")
    is_classifier = names_findings(model)
    network, processor = load_more(model, MoreForClassification if is_classifier else MoreModel)
    cases = read_planted_cases(
        table,
        regions,
        processor.image_processor,
        None if options["prompts"] is None else read_finding_prompts(options["prompts"]),
        options["against"],
        split=options["split"],
        largest_number=options["number"],
        is_classifier=is_classifier,
        allow_outside=options["allow_outside"],
    )
    beside = Path(model) if beside_model else None
    return check_more(network, processor, cases, out, beside_model=beside, seed=seed, bootstrap=bootstrap)


def read_planted_cases(  # noqa: PLR0913 - two tables, and how they are read
    table: str | Path,
    regions: str | Path,
    images: MoreImageProcessor,
    prompts: FindingPrompts | None = None,
    against: Sequence[str] = (),
    *,
    split: str = "test",
    largest_number: int | None = None,
    is_classifier: bool = False,
    allow_outside: bool = False,
) -> list[PlantedCase]:
    """Read the cases of a split.

    Args:
        table: note table (`read_note_table`).
        regions: table of regions, .csv or .parquet.
        images: image processor of the model, which reads the size of each picture.
        prompts: prompts of the findings, of which the first of each is taken, and texts against them. A finding
            without a prompt is its own prompt.
        against: other texts, see `ScoreRequest`, in the place of those of `prompts`.
        split: split whose X-rays are taken.
        largest_number: largest number of cases; all with None.
        is_classifier: ask about the finding by its name, and not by its prompt.
        allow_outside: accept files outside the directory of the table.

    Returns:
        The cases, in the order of the note table. X-rays that cannot be read are left out.

    Raises:
        TgmmError: if the table of regions lacks columns, has a box without content, or no region is of the split.
    """
    boxes = _read_regions(Path(regions))
    cases: list[PlantedCase] = []
    seen: set[str] = set()
    for row in read_note_table(table, allow_outside=allow_outside):
        if row.split != split or row.xray is None or row.xray in seen:
            continue
        seen.add(row.xray)
        for finding, its_boxes in _regions_of(row, boxes).items():
            if largest_number is not None and len(cases) >= largest_number:
                return cases
            try:
                shape = read_xray(row.xray, images.views, images.limits).pixels.shape
            except InputRefusedError:
                continue
            request = ScoreRequest(finding=finding) if is_classifier else _question(finding, prompts, against)
            cases.append(
                PlantedCase(f"{row.id} {finding}", {"xray": row.xray}, request, {"xray": box_mask(shape, its_boxes)})
            )
    if not cases:
        raise TgmmError(str(regions), f"none of its regions is of an X-ray of the split {split} that can be read.")
    return cases


def box_mask(shape: tuple[int, int], boxes: Sequence[Sequence[int]]) -> np.ndarray:
    """Fill boxes (x0, y0, x1, y1) in a picture of a shape: (height, width) bool."""
    mask = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def _read_regions(path: Path) -> dict[str, dict[str, list[tuple[int, ...]]]]:
    """Read the regions: name of the X-ray -> finding -> boxes."""
    table = read_table(path, what="the table of planted regions")
    key = next((name for name in ("dicom_id", "id") if name in table.names), None)
    if key is None or (missing := {"finding", *BOX} - set(table.names)):
        lacking = "dicom_id or id" if key is None else ", ".join(sorted(missing))
        raise TgmmError(path.name, f"lacks the column(s) {lacking}.")
    result: dict[str, dict[str, list[tuple[int, ...]]]] = {}
    for number, cells in enumerate(table.rows, start=1):
        if str(cells.get("is_drawn", True)).strip().lower() in ("false", "0"):
            continue
        try:
            x0, y0, x1, y1 = (int(float(cells[name])) for name in BOX)
        except (TypeError, ValueError) as error:
            raise TgmmError(f"{path.name}, row {number}", "x0, y0, x1 and y1 must be numbers of pixels.") from error
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise TgmmError(f"{path.name}, row {number}", f"the box {x0}, {y0}, {x1}, {y1} holds no pixel.")
        result.setdefault(str(cells[key]), {}).setdefault(str(cells["finding"]), []).append((x0, y0, x1, y1))
    return result


def _regions_of(row: NoteRow, boxes: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return finding -> boxes of the X-ray of a row, by the name of its file or by the id of the row."""
    return boxes.get(Path(str(row.xray)).stem) or boxes.get(row.id) or {}


def _question(finding: str, prompts: FindingPrompts | None, against: Sequence[str]) -> ScoreRequest:
    """Ask by the first prompt of a finding, or by its name, against the given texts or those of the prompts."""
    texts_of_file = prompts or FindingPrompts()
    names = (finding, finding.lower().replace(" ", "_"))  # "Pleural Effusion" is label_pleural_effusion in a note table
    words = next((texts_of_file.prompts[name] for name in names if name in texts_of_file.prompts), [finding])
    denials = next((texts_of_file.against[name] for name in names if name in texts_of_file.against), ())
    return ScoreRequest(words[0], tuple(against or denials))
