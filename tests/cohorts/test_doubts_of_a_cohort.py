"""What `tgmm curate` says before a training would fail, and tables that contradict themselves."""

from pathlib import Path

import pandas as pd
import pytest

from tgmm_hf.cohorts.mimic.cohort import _doubts
from tgmm_hf.cohorts.mimic.steps import _read_views
from tgmm_hf.utils.errors import TgmmError


def cohort(labels: list[int], events: list[float | None]) -> pd.DataFrame:
    outcomes = {"label.hf_diagnosis": labels, "event.hf_risk": events}
    return pd.DataFrame({"split": ["validation"] * (len(labels) - 1) + ["train"], **outcomes})


def test_a_validation_split_of_one_class_is_named() -> None:
    assert _doubts(cohort([0, 1, 1], [1, None, 0])) == []
    first, second = _doubts(cohort([0, 0, 1], [0, None, 1]))
    assert "hf_diagnosis needs both classes" in first and "hf_risk has no event" in second


def test_two_views_of_one_clip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "views.csv"
    path.write_text("dicom_filepath,view\na,A4C\na,A4C\nb,\n")
    assert len(_read_views(path)) == 1
    path.write_text("dicom_filepath,view\na,A4C\na,A2C\n")
    with pytest.raises(TgmmError, match="two different views"):
        _read_views(path)
    path.write_text("dicom_filepath,view,view\na,A4C,A2C\n")
    with pytest.raises(TgmmError, match="view"):
        _read_views(path)
