"""Small ECG files that gave a wrong answer in version 0.1, and the right value of each."""

import numpy as np
import pytest

from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError

EQUAL = ("frames_4x", "year_date", "names_a", "big_endian.dcm", "twelve_bits.dcm", "two_groups.dcm")
EQUAL += ("rhythm_and_median_beats.dcm", "empty_baseline.dcm", "no_preamble.dcm")


@pytest.fixture(scope="module")
def cases(shared_dir):
    folder = shared_dir / "cases" / "ecg"
    if not folder.is_dir():
        pytest.skip("../shared/cases is not here")
    return folder


@pytest.fixture(scope="module")
def extractor():
    return EcgFeatureExtractor()


@pytest.fixture(scope="module")
def reference(cases, extractor):
    return extractor.prepare(cases / "reference.dcm")


@pytest.mark.parametrize("name", EQUAL)
def test_the_window_equals_the_references(cases, extractor, reference, name):
    prepared = extractor.prepare(cases / name)
    assert prepared.mask.all() and not prepared.checks
    assert np.abs(prepared.values - reference.values).max() < 0.02  # steps of 1 uV (WFDB) against 0.3 uV, in SD


def test_mu_law_is_refused_by_name(cases, extractor):
    with pytest.raises(InputRefusedError, match="mu-law"):
        extractor.prepare(cases / "mu_law.dcm")


def test_leads_without_calibration_are_masked_and_named(cases, extractor):
    prepared = extractor.prepare(cases / "uncalibrated_chest")
    assert prepared.mask.tolist() == [True] * 6 + [False] * 6
    assert all(any(f"V{number}" in note and "gain is 0" in note for note in prepared.notes) for number in range(1, 7))


def test_clipping_and_a_wrong_gain_are_noted(cases, extractor):
    checks = extractor.prepare(cases / "clipped").checks
    assert len(checks) == 12 and {check["code"] for check in checks} == {"ecg_clipped"}
    checks = extractor.prepare(cases / "v6_gain").checks
    assert [(check["code"], check["item"]) for check in checks] == [("ecg_amplitude", "ecg.V6")]


def test_every_case_is_read_or_refused(cases, extractor):
    for path in sorted(cases.iterdir()):
        try:
            extractor.prepare(path)
        except InputRefusedError as error:
            assert error.reason and not error.reason.startswith("unexpected")
