"""The comparison with the published recipes: this package misleads nobody, and the recipes are right on clean files."""

import math
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
CHOSEN = ("v6_gain", "names_di", "no_preamble", "black", "jpeg_no_marker", "clean_wfdb", "clean_jpeg")


@pytest.fixture
def compared(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import compare_odd_files

    return compare_odd_files


def test_five_odd_files_and_two_clean_ones(compared):
    files = [file for file in (*compared.ODD_FILES, *compared.CONTROLS) if file.name in CHOSEN]
    rows = compared.compare(files, seed=3)
    kinds = {file.name: {reader: outcome.kind for reader, outcome in outcomes.items()} for file, outcomes in rows}
    assert kinds == {
        "v6_gain": {"package": "named", "ST-MEM": "wrong", "MEIT": "wrong"},
        "names_di": {"package": "right", "ST-MEM": "refused", "MEIT": "right"},
        "no_preamble": {"package": "right", "ST-MEM": "refused", "MEIT": "refused"},
        "jpeg_no_marker": {"package": "right", "EchoPrime": "right"},
        "black": {"package": "refused", "EchoPrime": "wrong"},
        "clean_wfdb": {"package": "right", "ST-MEM": "right", "MEIT": "right"},
        "clean_jpeg": {"package": "right", "EchoPrime": "right"},
    }
    page = compared.page([rows, rows], rows, 3, "the command")
    assert "| package | 7 | 5 | 1 | 1 | 0 |" in page and "| ST-MEM and EchoPrime | 7 | 3 | 0 | 2 | 2 |" in page


def test_thirty_odd_files_and_five_clean_ones(compared):
    names = [file.name for file in (*compared.ODD_FILES, *compared.CONTROLS)]
    assert len(compared.ODD_FILES) == 30 and len(compared.CONTROLS) == 5 and len(set(names)) == 35


def test_another_shape_is_no_right_input(compared):
    assert compared.difference(np.ones((2, 3)), np.eye(3)) == math.inf


def test_an_answer_is_judged_by_distance_and_by_what_names_the_fault(compared):
    file = next(file for file in compared.ODD_FILES if file.name == "arms")
    assert compared.judge(file, 0.01).kind == "right"
    assert compared.judge(file, 0.5).kind == "wrong"
    assert compared.judge(file, 0.5, ["ecg_clipped ecg.V1"]).kind == "wrong"
    assert compared.judge(file, 0.5, ["ecg_arm_electrodes ecg"]).kind == "named"
