"""Electrodes that were exchanged or rotated, and chest leads in another order."""

import numpy as np
import pytest

from tgmm_hf.inputs.ecg_electrodes import CHEST_EXCHANGES, LIMB_EXCHANGES
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_recording import EcgRecording
from tgmm_hf.inputs.ecg_signal import harmonise_recording
from tgmm_hf.inputs.ecg_single_chest_leads import turned_chest_lead
from tgmm_hf.utils.names import LEADS

RATE = 250
CODES = {"ecg_limb_electrodes", "ecg_chest_leads_exchanged", "ecg_arm_electrodes"}
CHEST_DIRECTIONS = (
    (-0.5, 0.1, 0.9),
    (0.0, 0.1, 1.0),
    (0.4, 0.2, 0.9),
    (0.8, 0.3, 0.6),
    (1.0, 0.2, 0.2),
    (1.0, 0.1, -0.2),
)
"""Direction of V1 to V6: to the left, to the feet, to the front."""
WAVES = (
    (0.16, 0.025, (0.08, 0.1, 0.03)),
    (0.27, 0.010, (-0.1, 0.05, 0.35)),
    (0.30, 0.012, (0.9, 0.8, 0.1)),
    (0.34, 0.012, (0.2, 0.1, -0.9)),
    (0.55, 0.050, (0.25, 0.2, 0.15)),
)
"""Centre and width (s) of P, three parts of the QRS complex, and T; direction and size (mV)."""


def dipole_heart(seconds=10, seed=0):
    """A heart as a dipole that turns during a beat: (12, samples) in millivolts."""
    generator = np.random.default_rng(seed)
    time = np.arange(seconds * RATE) / RATE
    starts = np.cumsum(generator.normal(0.85, 0.03, seconds * 2)) - 1.2
    since = time - starts[np.searchsorted(starts, time, side="right") - 1]
    dipole = sum(np.outer(size, np.exp(-(((since - centre) / width) ** 2) / 2)) for centre, width, size in WAVES)
    left_arm, left_leg = dipole[0] + 0.02 * generator.normal(size=time.size), 0.5 * dipole[0] + dipole[1]
    return limb_leads(0 * time, left_arm, left_leg, np.array(CHEST_DIRECTIONS) @ dipole, generator)


def limb_leads(right_arm, left_arm, left_leg, chest, generator):
    """Leads from the potentials of three electrodes (samples,), with the chest leads (6, samples)."""
    one, two = left_arm - right_arm, left_leg - right_arm
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.concatenate([limb, chest + 0.005 * generator.normal(size=chest.shape)])


def codes(signal, units="mV", leads=LEADS):
    rows = signal if units == "mV" else signal / signal.std(axis=1, keepdims=True)
    recording = EcgRecording(rows, float(RATE), list(leads), units)
    return {check["code"] for check in harmonise_recording(recording).checks}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("units", ["mV", "normalised"])
def test_electrodes_in_their_places_are_not_named(seed, units):
    assert not codes(dipole_heart(seed=seed), units) & CODES


@pytest.mark.parametrize("units", ["mV", "normalised"])
@pytest.mark.parametrize(
    "places", ["left right leg", "leg left right", "left leg right", "leg right left"], ids=lambda text: text
)
def test_exchanged_and_rotated_limb_electrodes_are_named(places, units):
    signal = dipole_heart()
    potentials = {"right": 0 * signal[0], "left": signal[0], "leg": signal[1]}
    exchanged = limb_leads(*(potentials[place] for place in places.split()), signal[6:], np.random.default_rng(0))
    assert codes(exchanged, units) & {"ecg_limb_electrodes", "ecg_arm_electrodes"}


def test_rotated_limb_electrodes_are_named_where_i_and_ii_alone_were_recorded():
    signal = dipole_heart()
    rotated = np.stack([signal[2], -signal[0], *signal[6:]])
    leads = ["I", "II", *LEADS[6:]]
    assert "ecg_limb_electrodes" in codes(rotated, leads=leads)
    assert not codes(np.stack([signal[0], signal[1], *signal[6:]]), leads=leads) & CODES


@pytest.mark.parametrize("units", ["mV", "normalised"])
@pytest.mark.parametrize(("one", "two"), [("V1", "V3"), ("V1", "V6"), ("V2", "V5"), ("V2", "V4"), ("V3", "V6")])
def test_chest_leads_that_are_no_neighbours_and_are_exchanged_are_named(one, two, units):
    signal = dipole_heart()
    rows = [LEADS.index(one), LEADS.index(two)]
    signal[rows] = signal[rows[::-1]]
    assert codes(signal, units) & CODES == {"ecg_chest_leads_exchanged"}


def test_two_plugs_of_chest_leads_exchanged_are_named():
    signal = dipole_heart()
    signal[6:] = np.roll(signal[6:], 3, axis=0)
    assert "ecg_chest_leads_exchanged" in codes(signal)


@pytest.mark.parametrize("row", range(6, 12))
def test_one_chest_lead_upside_down_is_no_exchange(row):
    signal = dipole_heart()
    signal[row] *= -1
    assert not codes(signal) & CODES


def test_each_exchange_of_limb_electrodes_keeps_the_limb_arithmetic():
    signal = dict(zip(LEADS, dipole_heart(), strict=True))
    for exchange in LIMB_EXCHANGES.values():
        held = {lead: exchange.get(lead, lead) for lead in LEADS[:6]}
        leads = {lead: (-1 if name[0] == "-" else 1) * signal[name.removeprefix("-")] for lead, name in held.items()}
        np.testing.assert_allclose(leads["I"] + leads["III"], leads["II"], atol=1e-9)
        np.testing.assert_allclose(leads["aVF"], leads["II"] - leads["I"] / 2, atol=1e-9)
        np.testing.assert_allclose(leads["aVL"], leads["I"] - leads["II"] / 2, atol=1e-9)
    assert all(set(exchange) == set(exchange.values()) for exchange in CHEST_EXCHANGES.values())


def test_real_recordings_have_their_electrodes_in_their_places(shared_dir):
    paths = sorted((shared_dir / "data" / "wfdb").rglob("*.hea"))
    assert paths
    for path in paths:
        found = {check["code"] for check in harmonise_recording(read_ecg(path)).checks}
        assert not found & {"ecg_limb_electrodes", "ecg_chest_leads_exchanged"}


def test_a_turned_lead_beside_a_missing_lead_is_named():
    signal = dipole_heart()
    signal[LEADS.index("V3")] *= -1
    leads = [lead for lead in LEADS if lead != "V4"]
    rows = signal[[LEADS.index(lead) for lead in leads]]
    recording = EcgRecording(rows, float(RATE), leads, "mV")
    found = [(check["code"], check["item"]) for check in harmonise_recording(recording).checks]
    assert found == [("ecg_chest_leads_turned", "ecg.V3")]


@pytest.mark.parametrize("missing", LEADS[6:])
def test_a_missing_chest_lead_makes_no_other_lead_look_turned(missing):
    leads = [lead for lead in LEADS if lead != missing]
    rows = dipole_heart()[[LEADS.index(lead) for lead in leads]]
    checks = harmonise_recording(EcgRecording(rows, float(RATE), leads, "mV")).checks
    assert not [check for check in checks if check["code"] == "ecg_chest_leads_turned"]


@pytest.mark.parametrize(
    ("limb", "chest"),
    [(limb, chest) for limb in range(3) for chest in range(6) if limb < 2 or chest < 3],  # V4 to V6 lie near the leg
)
def test_a_limb_electrode_in_the_place_of_a_chest_electrode_is_named(limb, chest):
    signal = dipole_heart()
    potentials = np.concatenate([[0 * signal[0], signal[0], signal[1]], signal[6:] + (signal[0] + signal[1]) / 3])
    potentials[[limb, 3 + chest]] = potentials[[3 + chest, limb]]
    centre = potentials[:3].mean(axis=0)
    exchanged = limb_leads(*potentials[:3], potentials[3:] - centre, np.random.default_rng(0))
    checks = harmonise_recording(EcgRecording(exchanged, float(RATE), list(LEADS), "mV")).checks
    texts = [check["text"] for check in checks if check["code"] == "ecg_limb_electrodes"]
    name = f"{('right arm', 'left arm', 'left leg')[limb]} and {LEADS[6 + chest]} exchanged"
    looks_like = {"left arm and V6 exchanged": "left leg and V6 exchanged"}
    assert any(looks_like.get(name, name) in text for text in texts), checks


def test_the_exchange_of_the_left_arm_and_v1_is_named_as_it_is():
    signal = dipole_heart()
    potentials = np.concatenate([[0 * signal[0], signal[0], signal[1]], signal[6:] + (signal[0] + signal[1]) / 3])
    potentials[[1, 3]] = potentials[[3, 1]]
    exchanged = limb_leads(*potentials[:3], potentials[3:] - potentials[:3].mean(axis=0), np.random.default_rng(0))
    checks = harmonise_recording(EcgRecording(exchanged, float(RATE), list(LEADS), "mV")).checks
    assert any("left arm and V1 exchanged" in check["text"] for check in checks)


def directions(seed=0):
    """Two signals (1000,) of size 1 that do not correlate."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(1000, 2)))[0].T


def test_a_lead_beside_a_missing_lead_must_contradict_its_neighbours_clearly():
    common, other = directions()
    band = dict.fromkeys(("aVR", *LEADS[6:]), common)
    band["V3"] = -0.55 * common + np.sqrt(1 - 0.55**2) * other
    assert turned_chest_lead(band)[0] == "V3"
    del band["V4"]
    assert turned_chest_lead(band) is None
    band["V3"] = -0.8 * common + 0.6 * other
    assert turned_chest_lead(band)[0] == "V3"


def test_chest_leads_with_two_missing_leads_between_are_not_compared():
    common, other = directions()
    band = {"aVR": 0.5 * common + 0.75**0.5 * other, "V1": -common, "V6": common}
    assert turned_chest_lead(band) is None
    assert turned_chest_lead({**band, "V3": common})[0] == "V1"
