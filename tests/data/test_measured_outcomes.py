"""Numbers and findings in the cohort table, in prepared rows and in batches."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from cohort_files import cohort_rows, write_table

from tgmm_hf.configuration_tasks import DEFAULT_TASKS, check_task
from tgmm_hf.data.admissions import AdmissionPreparer
from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.manifest import CohortRow, read_cohort_table
from tgmm_hf.data.outcome_checks import outcome_doubts
from tgmm_hf.data.table_files import CohortTableError
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor

WORDS = {"question": "How high?", "learnable_phrase": "ejection fraction"}
TASKS: dict[str, Any] = {
    **DEFAULT_TASKS,
    "ef": {"kind": "regression", "unit": "%", "range": [5, 90], **WORDS},
    "seen": {"kind": "multilabel", "findings": ["valve disease", "scar"], **WORDS},
}


def rows_with(*outcomes: dict[str, Any]) -> list[dict[str, Any]]:
    empty = {"value.ef": None, "finding.seen.valve disease": None, "finding.seen.scar": None}
    return [{**row, **empty, **given} for row, given in zip(cohort_rows(len(outcomes)), outcomes, strict=True)]


def read(tmp_path: Path, *outcomes: dict[str, Any]) -> Any:
    write_table(tmp_path / "cohort.csv", rows_with(*outcomes))
    return read_cohort_table(tmp_path / "cohort.csv", tasks=TASKS)


def test_numbers_and_findings_are_read_and_missing_ones_have_no_entry(tmp_path: Path) -> None:
    table = read(tmp_path, {"value.ef": 55.5, "finding.seen.scar": 1}, {"finding.seen.valve disease": 0}, {})
    assert table.tasks["ef"] == "regression" and table.tasks["seen"] == "multilabel"
    assert [row.values for row in table.rows] == [{"ef": 55.5}, {}, {}]
    assert table.units == {"ef": TASKS["ef"]["unit"]}
    assert [row.findings for row in table.rows] == [{"seen": {"scar": 1}}, {"seen": {"valve disease": 0}}, {}]


@pytest.mark.parametrize(
    ("outcome", "named"),
    [
        ({"value.ef": 0.55}, "range"),
        ({"value.ef": "low"}, "number"),
        ({"finding.seen.scar": 2}, "allowed"),
        ({"finding.seen.scars": 1}, "scar"),
        ({"finding.other.scar": 1}, "task"),
        ({"value.seen": 1}, "multilabel"),
        ({"value.hf_diagnosis": 1}, "diagnosis"),
    ],
)
def test_a_wrong_outcome_is_refused(tmp_path: Path, outcome: dict[str, Any], named: str) -> None:
    with pytest.raises(CohortTableError, match=named):
        read(tmp_path, outcome)


def test_a_name_of_a_task_may_hold_a_dot(tmp_path: Path) -> None:
    write_table(tmp_path / "cohort.csv", [{**cohort_rows(1)[0], "finding.echo.left.scar": 1}])
    tasks = {**DEFAULT_TASKS, "echo.left": {"kind": "multilabel", "findings": ["scar"], **WORDS}}
    assert read_cohort_table(tmp_path / "cohort.csv", tasks=tasks).rows[0].findings == {"echo.left": {"scar": 1}}


def test_a_table_without_such_outcomes_keeps_its_digest() -> None:
    content = CohortRow(id="a", patient_id="a", split="train").content()
    assert "values" not in content and "findings" not in content
    with_value = CohortRow(id="a", patient_id="a", split="train", values={"ef": 50.0})
    assert with_value.content() == {**content, "values": {"ef": 50.0}}


def test_prepared_rows_and_batches_hold_numbers_findings_and_masks(tmp_path: Path) -> None:
    table = read(tmp_path, {"value.ef": 55.5, "finding.seen.scar": 1}, {})
    preparer = AdmissionPreparer(EcgFeatureExtractor(), EchoImageProcessor(size=64), tmp_path, table.tasks)
    labs_only = [CohortRow(row.id, row.patient_id, "train", {"Sodium": 140}, values=row.values, findings=row.findings)
                 for row in table.rows]  # fmt: skip
    examples = [preparer.features.encode_example(preparer.prepare(row).example) for row in labs_only]
    assert [row["value_ef"] for row in examples] == [55.5, None]
    assert json.loads(examples[0]["findings_seen"]) == {"scar": 1} and examples[1]["findings_seen"] is None
    tasks = copy.deepcopy(TASKS)
    for name, task in tasks.items():
        check_task(name, task)
    collator = TgmmCollator(cast(Any, None), cast(Any, SimpleNamespace(tasks=tasks)), training=False)
    ef, seen = (collator._labels(examples, name, collator.task_kinds[name]) for name in ("ef", "seen"))
    assert ef["value"].tolist() == [55.5, 0.0] and ef["mask"].tolist() == [True, False]
    assert seen["mask"].tolist() == [[False, True], [False, False]]
    assert torch.equal(seen["findings"], torch.tensor([[0.0, 1.0], [0.0, 0.0]]))


def test_a_validation_split_that_defines_no_figure_is_doubted(tmp_path: Path) -> None:
    rows = [{**row, "split": "validation"} for row in rows_with({"value.ef": 50}, {"value.ef": 50})]
    write_table(tmp_path / "cohort.csv", rows)
    doubts = outcome_doubts(read_cohort_table(tmp_path / "cohort.csv", tasks=TASKS), TASKS)
    assert any("ef" in doubt for doubt in doubts) and any("seen" in doubt for doubt in doubts)
    rows[0] |= {"value.ef": 40, "finding.seen.scar": 1}
    rows[1] |= {"finding.seen.scar": 0}
    write_table(tmp_path / "cohort.csv", rows)
    doubts = outcome_doubts(read_cohort_table(tmp_path / "cohort.csv", tasks=TASKS), TASKS)
    assert not any("ef" in doubt or "seen" in doubt for doubt in doubts)
