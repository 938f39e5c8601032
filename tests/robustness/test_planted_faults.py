"""The suite finds faults: each fault is planted into the package, and cases that passed before must fail."""

import time
from collections.abc import Iterator
from pathlib import Path

import kinds_ecg
import kinds_echo
import numpy as np
import planted_faults as faults
import pytest
import trials
from kinds import KINDS
from supervisor import Pool
from trials import FOREIGN, HANG, MEMORY, NAN, SILENT, Answer


def outcomes_of(tmp_path: Path, name: str, cases: int) -> Iterator[str]:
    """Run cases of a kind one after the other."""
    for seed in range(cases):
        folder = tmp_path / f"{name}{seed}-{time.monotonic_ns()}"
        folder.mkdir()
        yield trials.run_case(name, seed, folder).outcome


PLANTED = [
    ("wfdb_format", faults.GAIN, SILENT),
    ("wfdb_lead_names", faults.GAIN, SILENT),
    ("wfdb_segments", faults.GAIN, SILENT),
    ("wfdb_signal_bytes", faults.NO_CHECKSUM, SILENT),
    ("wfdb_other_signal", faults.NO_CHECKSUM, SILENT),
    ("ecg_dicom_format", faults.DICOM_GAIN, SILENT),
    ("ecg_dicom_removed", faults.DICOM_GAIN, SILENT),
    ("ecg_dicom_value", faults.DICOM_GAIN, SILENT),
    ("ecg_dicom_samples", faults.DICOM_GAIN, SILENT),
    ("ecg_array_leads_damaged", faults.NO_LEAD_CHECKS, SILENT),
    ("echo_format", faults.REVERSED, SILENT),
    ("echo_format", faults.TURNED, SILENT),
    ("echo_study", faults.REVERSED, SILENT),
    ("echo_content", faults.NO_CONTENT, SILENT),
    ("labs_unit", faults.UNIT_LOST, SILENT),
]
"""Kind, fault, and the outcome by which it is found."""


@pytest.mark.parametrize(
    ("name", "fault", "outcome"), PLANTED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_planted_fault_is_found(tmp_path, name, fault, outcome):
    # the references are those of the sound package
    for seed in range(4):
        kinds_ecg.right(seed)
    for seed in range(3):
        kinds_echo.right(seed, True), kinds_echo.right(seed, False)
    with faults.patched(*fault):
        assert outcome in outcomes_of(tmp_path, name, 16)  # never without the fault, as test_hostile_inputs.py shows


@pytest.mark.parametrize(("error", "outcome"), [(KeyError, FOREIGN), (ValueError, FOREIGN), (RecursionError, FOREIGN)])
def test_an_exception_of_a_library_is_foreign(tmp_path, error, outcome):
    with faults.patched("tgmm_hf.inputs.lab_text:read_cell", faults.raising(lambda: error("from a library"))):
        assert list(outcomes_of(tmp_path, "labs_unit", 4)) == [outcome] * 4


def test_nan_in_a_model_input_is_found(tmp_path):
    def spoil(window):
        window[0, 5] = np.nan
        return window

    with faults.patched("tgmm_hf.inputs.feature_extraction_ecg:EcgFeatureExtractor.finish", faults.after(spoil)):
        assert list(outcomes_of(tmp_path, "ecg_array_order", 4)) == [NAN] * 4


def test_a_change_without_a_word_is_found(tmp_path):
    with faults.patched(*faults.NO_MARKS):
        assert list(outcomes_of(tmp_path, "ecg_array_unit_wrong", 8)) == [SILENT] * 8


JUDGED = sorted(
    set(KINDS)
    - {
        "wfdb_header_bytes",
        "echo_bomb",
        "labs_json",
        "labs_json_bytes",
        "table_bytes",
        "table_parquet_bytes",
        "pipeline_arguments",
        "training_labels",
    }
)
"""Kinds with an oracle. The others look for exceptions, hangs, memory and NaN only."""
CHEAP = [name for name in JUDGED if not name.startswith(("model_", "echo_bomb"))]


@pytest.mark.parametrize("name", CHEAP)
def test_no_kind_accepts_rubbish(tmp_path, name):
    """A judge that accepts a wrong answer without a mark could not fail."""
    wrong = Answer({"rubbish": np.zeros(1)}, [], "nonsense of the patient is 7", {"nonsense": "A4C"})
    judged = 0
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        random = np.random.default_rng([trials.zlib.crc32(name.encode()), seed])
        trial = KINDS[name](random, folder)
        if trial.judge is not trials.no_oracle:
            judged += 1
            assert trial.judge(wrong), trial.what
    assert judged


# ---- the pool


@pytest.mark.slow
def test_the_pool_finds_hangs_memory_and_dead_processes():
    cases = [
        ("planted_sleep", 0),
        ("planted_answer", 0),
        ("planted_memory", 0),
        ("planted_death", 0),
        ("planted_loop", 0),
        ("planted_answer", 1),
    ]
    with Pool(["kinds_planted"], workers=1, seconds=2, limit=1 << 30) as pool:
        outcomes = {name: finding.outcome for (name, _), finding in pool.run(cases)}
    assert outcomes == {
        "planted_sleep": HANG, "planted_answer": "answered", "planted_memory": MEMORY, "planted_death": FOREIGN, "planted_loop": HANG,
    }  # fmt: skip
