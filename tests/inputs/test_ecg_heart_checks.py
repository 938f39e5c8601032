"""Checks of beats, speed and size: one adult heart in all leads, at its own rate, or a finding or a refusal."""

import numpy as np
import pytest
from heart_signal import make_heart
from scipy.signal import resample

from tgmm_hf.cohorts.synthetic.plain_heart import WAVES
from tgmm_hf.inputs.ecg_beats import beat_signals
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_recording import EcgRecording
from tgmm_hf.inputs.ecg_signal import as_recording, harmonise_recording
from tgmm_hf.inputs.ecg_time_scale import wave_times
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.names import LEADS

RATE = 500
TIME = np.arange(5000) / RATE


def harmonised(signal, rate=RATE, units="mV"):
    return harmonise_recording(EcgRecording(np.asarray(signal, dtype=float), float(rate), list(LEADS), units))


def outcome(signal, **kwargs):
    """Codes of the findings, or {"refused"}."""
    try:
        return {check["code"] for check in harmonised(signal, **kwargs).checks}
    except InputRefusedError:
        return {"refused"}


def unused(ecg):
    return {lead for lead, usable in zip(LEADS, ecg.mask, strict=True) if not usable}


# ---- sampling rate


@pytest.mark.parametrize(("factor", "expected"), [(2, {"ecg_sampling_rate"}), (3, {"refused"}), (5, {"refused"})])
@pytest.mark.parametrize("units", ["mV", "normalised"])
def test_a_sampling_rate_declared_too_low_is_named_or_refused(factor, expected, units):
    signal = make_heart()
    signal = signal / signal.std(axis=1, keepdims=True) if units == "normalised" else signal
    assert outcome(signal, rate=RATE / factor, units=units) == expected


@pytest.mark.parametrize("factor", [2, 3])
def test_a_sampling_rate_declared_too_high_is_named_or_refused(factor):
    assert outcome(make_heart(30 * RATE), rate=RATE * factor) & {"ecg_sampling_rate", "refused"}


def test_the_measured_times_are_those_of_the_waves_and_follow_the_rate():
    signal = make_heart()
    times = wave_times(beat_signals(signal, RATE))
    t_after_r = WAVES[4][0] - WAVES[2][0]
    assert times.interval == pytest.approx(0.8, abs=0.03) and times.t_delay == pytest.approx(t_after_r, abs=0.03)
    slow = wave_times(beat_signals(signal, RATE / 2))
    assert slow.stretch / times.stretch == pytest.approx(2, rel=0.1)


def test_the_rate_of_a_resampled_heart_does_not_change_the_measured_times():
    signal = make_heart()
    stretches = [
        wave_times(beat_signals(resample(signal, 10 * rate, axis=1), rate)).stretch for rate in (100, 250, 500, 1000)
    ]
    assert np.ptp(stretches) < 0.15


def test_real_recordings_keep_their_rate_and_are_named_at_a_third_of_it(shared_dir):
    paths = sorted((shared_dir / "data" / "wfdb").rglob("*.hea"))
    recordings = [read_ecg(path) for path in paths]
    named = 0
    for recording in recordings:
        times = wave_times(beat_signals(recording.signal, recording.sampling_rate))
        assert 0.5 < times.stretch < 1.9
        named += outcome_at(recording, recording.sampling_rate / 3) in ({"refused"}, {"ecg_sampling_rate"})
    assert named >= 0.9 * sum(recording.sampling_rate > 400 for recording in recordings)


def outcome_at(recording, rate):
    if rate <= 50:
        return set()
    try:
        ecg = harmonise_recording(EcgRecording(recording.signal, rate, recording.lead_names))
    except InputRefusedError:
        return {"refused"}
    return {check["code"] for check in ecg.checks} - {"ecg_still"}


# ---- a chest lead that shows no heart, or another lead


@pytest.mark.parametrize("kind", ["white noise", "slow noise", "hum", "sine"])
def test_a_chest_lead_without_beats_is_not_used(kind):
    generator = np.random.default_rng(1)
    other = {
        "white noise": generator.normal(size=5000),
        "slow noise": np.convolve(generator.normal(size=5000), np.ones(25) / 5, mode="same"),
        "hum": np.sin(2 * np.pi * 50 * TIME) + 0.01 * generator.normal(size=5000),
        "sine": np.sin(2 * np.pi * 7 * TIME),
    }[kind]
    signal = make_heart()
    signal[8] = 0.3 * other
    ecg = harmonised(signal)
    assert unused(ecg) == {"V3"} and {check["code"] for check in ecg.checks} == {"ecg_lead_without_beats"}


@pytest.mark.parametrize("factor", [0.5, -1.0, 1.7, 0.1])
@pytest.mark.parametrize("step", [0.0, 0.005])
def test_a_scaled_or_turned_copy_of_a_chest_lead_is_not_used(factor, step):
    signal = make_heart()
    signal[8] = factor * signal[7]
    signal = np.round(signal / step) * step if step else signal
    ecg = harmonised(signal)
    assert unused(ecg) == {"V2", "V3"}
    named = {(check["code"], check["item"]) for check in ecg.checks}
    assert named >= {("ecg_equal_leads", "ecg.V2"), ("ecg_equal_leads", "ecg.V3")}


def test_a_copy_of_a_limb_lead_costs_the_chest_lead_only():
    signal = make_heart()
    signal[11] = -0.8 * signal[1]
    assert unused(harmonised(signal)) == {"V6"}


# ---- size


@pytest.mark.parametrize("seed", range(3))
def test_all_leads_ten_times_too_large_or_too_small_are_named_or_refused(seed):
    signal = make_heart(seed=seed)
    for factor in (0.1, 10.0):
        assert outcome(factor * signal) & {"ecg_all_amplitudes", "refused"}
    for factor in (0.5, 2.0):
        assert not outcome(factor * signal)


def test_the_refusal_of_a_size_names_both_values():
    with pytest.raises(InputRefusedError) as caught:
        harmonised(12 * make_heart())
    assert "mV" in str(caught.value) and "3.5" in str(caught.value)


# ---- one beat, two patients, two recordings


@pytest.mark.parametrize("rate", [100, 250, 500])
def test_one_beat_that_is_repeated_exactly_is_named(rate):
    signal = make_heart(10 * rate, rate)
    beat = np.round(signal[:, 2 * rate : 2 * rate + int(0.84 * rate)], 3)
    assert "ecg_repeated_beats" in outcome(np.tile(beat, 12)[:, : 10 * rate], rate=rate)


@pytest.mark.parametrize("change", ["other patient", "late"])
def test_chest_leads_that_beat_at_other_times_are_refused(change):
    signal = make_heart()
    signal[6:] = make_heart(seed=5)[6:] if change == "other patient" else np.roll(signal[6:], 100, axis=1)
    with pytest.raises(InputRefusedError, match="do not beat at the same times"):
        harmonised(signal)


def test_two_recordings_that_were_joined_are_named():
    one, two = make_heart(), make_heart(seed=4)
    two[6:10] *= -1
    assert outcome(np.concatenate([one[:, :2500], two[:, 2500:]], axis=1)) == {"ecg_beats_change"}


@pytest.mark.parametrize("seed", range(3))
def test_a_pressure_wave_in_leads_at_different_times_is_no_ecg(seed):
    generator = np.random.default_rng(seed)

    def lead():
        since = (TIME + generator.uniform(0, 0.85)) % 0.857
        return np.exp(-(((since - 0.15) / 0.06) ** 2)) + 0.6 * np.exp(-(((since - 0.28) / 0.1) ** 2))

    one, two, *chest = (generator.uniform(0.5, 1.2) * lead() for _ in range(8))
    signal = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *chest]
    assert outcome(np.stack(signal) + 0.005 * generator.normal(size=(12, 5000)))


def test_pacemaker_spikes_without_a_heart_are_named_or_refused():
    spikes = (TIME % 0.857 < 0.002).astype(float)
    sizes = np.random.default_rng(0).uniform(0.5, 2, 8)
    one, two = sizes[:2]
    sizes = np.array([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *sizes[2:]])
    noise = 0.002 * np.random.default_rng(1).normal(size=(12, 5000))
    assert outcome(sizes[:, None] * spikes + noise)


# ---- arrays


def test_masked_samples_are_missing_samples():
    signal = make_heart()
    masked = np.ma.array(signal, mask=np.zeros(signal.shape, dtype=bool))
    masked[3] = np.ma.masked
    masked[7, 100:110] = np.ma.masked
    masked.data[7, 100:110] = 9.0
    for given in (masked, list(masked)):
        for recording in (
            as_recording({"signal": given, "sampling_rate": RATE, "lead_names": list(LEADS)}),
            as_recording(EcgRecording(given, RATE, list(LEADS))),
        ):
            assert np.isnan(recording.signal[3]).all() and np.isnan(recording.signal[7, 100:110]).all()
            assert np.isnan(recording.signal).sum() == 5010


@pytest.mark.parametrize(
    "signal",
    [make_heart() + 1j, make_heart().astype(str), make_heart().astype("datetime64[s]"), make_heart() > 0],
    ids=["complex", "text", "dates", "bool"],
)
def test_a_signal_that_holds_no_real_numbers_is_refused(signal):
    for given in (
        {"signal": signal, "sampling_rate": RATE, "lead_names": list(LEADS)},
        EcgRecording(signal, RATE, list(LEADS)),
    ):
        with pytest.raises(InputRefusedError, match="real numbers"):
            as_recording(given)


# ---- chest leads


def progressing_heart(shares=(-1.0, -0.6, -0.2, 0.3, 0.8, 1.0)):
    """A heart whose QRS complex turns from down in V1 to up in V6."""
    signal = np.abs(make_heart(5000))
    one, two = signal[0], 1.2 * signal[0]
    limb = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2])
    chest = signal[0] * np.array(shares)[:, None]
    return np.concatenate([limb, chest + 0.01 * np.random.default_rng(0).normal(size=chest.shape)])


def test_turned_chest_leads_are_named():
    signal, code = progressing_heart(), "ecg_chest_leads_turned"
    inverted, reverse = signal.copy(), signal.copy()
    inverted[6:] *= -1
    reverse[6:] = signal[6:][::-1]
    assert code not in outcome(signal)
    assert code in outcome(inverted) and code in outcome(reverse)


@pytest.mark.parametrize("units", ["mV", "normalised"])
@pytest.mark.parametrize("number", range(1, 7))
def test_one_chest_lead_upside_down_is_named(number, units):
    shares = {3: (-1.0, -0.6, -0.5, -0.2, 0.8, 1.0), 4: (-1.0, -0.6, 0.2, 0.3, 0.8, 1.0)}
    signal = progressing_heart(shares.get(number, (-1.0, -0.6, -0.2, 0.3, 0.8, 1.0)))
    assert not named(signal, units)
    signal[5 + number] *= -1
    assert named(signal, units) == [f"ecg.V{number}"]


def named(signal, units):
    """Items of the findings about leads upside down."""
    signal = signal if units == "mV" else signal / signal.std(axis=1, keepdims=True)
    checks = harmonised(signal, units=units).checks
    return [check["item"] for check in checks if check["code"] == "ecg_chest_leads_turned"]


def test_a_chest_lead_between_neighbours_that_cancel_each_other_is_not_judged():
    signal = progressing_heart()  # V3 points down, V4 up
    for row in (8, 9):
        signal[row] *= -1
        assert not named(signal, "mV")
        signal[row] *= -1
