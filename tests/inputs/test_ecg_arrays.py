"""Arrays with leads beside the twelve, old names of leads and a unit for each lead are read as files are."""

import numpy as np
import pytest
from input_files import make_ecg

from tgmm_hf.inputs.ecg_recording import normalise_lead_name
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS


def prepare(signal, names, **options):
    return EcgFeatureExtractor().prepare({"signal": signal, "sampling_rate": 500, "lead_names": list(names), **options})


@pytest.fixture(scope="module")
def plain():
    return prepare(make_ecg(), LEADS)


@pytest.mark.parametrize("names", [["V7", "V8", "V4R"], ["v3r", "Lead V9", "V6R"], ["X", "Y", "Z"]])
def test_leads_beside_the_twelve_are_left_out_with_a_note(plain, names):
    found = prepare(make_ecg(15), [*LEADS, *names])
    assert np.array_equal(found.values, plain.values) and found.mask.all()
    assert [note for note in found.notes if note not in plain.notes] == [
        f"channels that are no standard lead were left out: {', '.join(names)}"
    ]


@pytest.mark.parametrize("names", [["I", "II", "X", *LEADS[3:]], [*LEADS[:11], "V66"], [*LEADS[:11], "ecg6"]])
def test_a_misspelt_name_is_refused(names):
    with pytest.raises(InputRefusedError, match="is not known"):
        prepare(make_ecg(), names)


def test_right_chest_leads_alone_are_refused():
    with pytest.raises(InputRefusedError, match="'V3R' is not known"):
        prepare(make_ecg()[:3], ["V3R", "V4R", "V5R"])


def test_old_names_of_the_augmented_leads_are_known(plain):
    names = ["I", "II", "III", "VR", "VL", "VF", *LEADS[6:]]
    assert np.array_equal(prepare(make_ecg(), names).values, plain.values)
    assert [normalise_lead_name(name) for name in ("vr", "Lead VL", "VF (old)", "V", "VX", "VR5")] == [
        *("aVR", "aVL", "aVF"), None, None, None,
    ]  # fmt: skip


def test_leads_without_augmentation_are_not_taken_for_augmented_ones():
    signal = make_ecg()
    signal[3:6] /= 1.5
    found = prepare(signal, ["I", "II", "III", "VR", "VL", "VF", *LEADS[6:]])
    assert {check["code"] for check in found.checks} == {"ecg_limb_arithmetic"} and not found.mask[3]


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_every_lead_may_have_its_unit(plain, kind):
    signal = make_ecg() * np.array([1] * 6 + [1000] * 6)[:, None]
    found = prepare(signal, LEADS, units=kind(["mV"] * 6 + ["uV"] * 6))
    assert np.allclose(found.values, plain.values, atol=1e-5)
    same = prepare(make_ecg() * 1000, LEADS, units=["uV"] * 12)
    assert np.allclose(same.values, plain.values, atol=1e-5)


@pytest.mark.parametrize(
    ("units", "words"),
    [(["mV"] * 11, "11 units for 12 leads"), ([], "0 units"), (["mV"] * 11 + ["mmHg"], "unknown unit 'mmHg'"),
     (["mV"] * 11 + ["normalised"], "cannot be compared")],
)  # fmt: skip
def test_units_that_do_not_fit_are_refused(units, words):
    with pytest.raises(InputRefusedError, match=words):
        prepare(make_ecg(), LEADS, units=units)
    whole = prepare(make_ecg() / make_ecg().std(), LEADS, units=["normalised"] * 12)
    assert whole.mask.all()
