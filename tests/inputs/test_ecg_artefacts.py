"""Checks of an ECG that was handled wrongly: backwards, hum, straight lines, blocks, gain of the chest leads."""

import numpy as np
import pytest
from heart_signal import make_heart
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, sosfiltfilt

from tgmm_hf.inputs.ecg_artefacts import common_gap, lost_samples, rms_around_lines, straight_lines
from tgmm_hf.inputs.ecg_copied_seconds import copied_seconds
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.inputs.ecg_recording import EcgRecording
from tgmm_hf.inputs.ecg_signal import harmonise_recording
from tgmm_hf.utils.names import LEADS

RATE = 500
CODES = {
    "ecg_backwards",
    "ecg_mains_hum",
    "ecg_straight_line",
    "ecg_blocks",
    "ecg_chest_size",
    "ecg_lost_samples",
    "ecg_repeated_beats",
    "ecg_slow_waves_missing",
}


def checks(signal, rate=RATE, units="mV"):
    recording = EcgRecording(np.asarray(signal, dtype=float), float(rate), list(LEADS), units)
    return harmonise_recording(recording).checks


def codes(signal, **kwargs):
    return {check["code"] for check in checks(signal, **kwargs)} & CODES


def scaled(signal, units):
    return signal if units == "mV" else signal / signal.std(axis=1, keepdims=True)


@pytest.mark.parametrize("rate", [100, 250, 500, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_a_heart_as_it_is_has_none_of_the_codes(rate, seed):
    assert not codes(make_heart(10 * rate, rate, seed=seed), rate=rate)


@pytest.mark.parametrize("rate", [100, 500])
@pytest.mark.parametrize("units", ["mV", "normalised"])
def test_a_recording_played_backwards_is_named(rate, units):
    signal = scaled(make_heart(10 * rate, rate), units)
    assert codes(signal[:, ::-1], rate=rate, units=units) == {"ecg_backwards"}


@pytest.mark.parametrize("hertz", [16.7, 50, 60, 100, 120, 150, 180])
@pytest.mark.parametrize("leads", [range(12), range(6, 12)], ids=["all", "chest"])
def test_mains_hum_of_a_tenth_of_a_millivolt_is_named_and_small_hum_is_not(hertz, leads):
    wave = np.sin(2 * np.pi * hertz * np.arange(5000) / RATE + 1)
    shares = np.zeros((12, 1))
    shares[list(leads)] = 1
    signal = make_heart()
    named = [check for check in checks(signal + 0.1 * shares * wave) if check["code"] == "ecg_mains_hum"]
    assert len(named) == 1 and f"{hertz} Hz" in named[0]["text"] and "0.1 mV" in named[0]["text"]
    assert "ecg_mains_hum" not in codes(signal + 0.02 * shares * wave)


@pytest.mark.parametrize("rate", [100, 250, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_railway_hum_is_named_at_every_rate_with_its_lead(rate, seed):
    signal = make_heart(12 * rate, rate, seed=seed)
    signal[8] += 0.05 * np.sin(2 * np.pi * 50 / 3 * np.arange(12 * rate) / rate)
    named = [check for check in checks(signal, rate=rate) if check["code"] == "ecg_mains_hum"]
    assert [check["item"] for check in named] == ["ecg.V3"] and "16.7 Hz" in named[0]["text"]


@pytest.mark.parametrize("leads", [[7], list(range(12))], ids=["one lead", "all leads"])
@pytest.mark.parametrize("step", [0.0, 0.005])
def test_a_straight_line_of_four_seconds_is_named_once(leads, step):
    signal = make_heart()
    part = slice(2100, 4100)
    signal[leads, part] = np.linspace(signal[leads, 2100], signal[leads, 4099], 2000, axis=1)
    signal = np.round(signal / step) * step if step else signal
    named = [check for check in checks(signal) if check["code"] == "ecg_straight_line"]
    assert [check["item"] for check in named] == (["ecg.V2"] if len(leads) == 1 else ["ecg"])


@pytest.mark.parametrize("units", ["mV", "normalised"])
def test_a_pause_of_the_heart_in_which_the_noise_goes_on_is_no_straight_line(units):
    noise = np.random.default_rng(0).normal(0, 0.01, (12, 5000))
    signal, part = 2.5 * gaussian_filter1d(make_heart(), 4), slice(2100, 4100)
    signal[:, part] = np.linspace(signal[:, part.start], signal[:, part.stop - 1], 2000, axis=1)
    filled = signal + noise
    filled[:, part] = signal[:, part]
    rough = signal + noise
    assert "ecg_straight_line" in codes(scaled(filled, units), units=units)
    assert len(straight_lines(rough, RATE)) > 6 and "ecg_straight_line" not in codes(scaled(rough, units), units=units)


def test_the_misfit_to_a_line_is_that_of_numpy():
    signal = np.random.default_rng(0).normal(size=(2, 40)).cumsum(axis=1) + 100
    around = rms_around_lines(signal, 12)
    for lead, values in enumerate(signal):
        for start in range(29):
            part = values[start : start + 12]
            rest = part - np.polyval(np.polyfit(np.arange(12), part, 1), np.arange(12))
            assert around[lead, start] == pytest.approx(np.sqrt(np.square(rest).mean()), abs=1e-6)


@pytest.mark.parametrize("seconds", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("rate", [100, 500])
def test_blocks_in_another_order_are_named(seconds, rate):
    shares = np.array([1, 1, 0, -1, 0.5, 0.5, 1, 1, 1, 1, 1, 1])[:, None]  # as the limb leads share it
    signal = make_heart(10 * rate, rate) + 0.15 * shares * np.sin(2 * np.pi * 0.23 * np.arange(10 * rate) / rate)
    blocks = signal.reshape(12, -1, int(seconds * rate))
    order = np.random.default_rng(1).permutation(blocks.shape[1])
    assert "ecg_blocks" in codes(blocks[:, order].reshape(12, -1), rate=rate)
    assert "ecg_blocks" not in codes(signal, rate=rate)


def test_samples_that_are_held_look_like_no_blocks():
    assert "ecg_blocks" not in codes(np.repeat(make_heart(1000, 100), 5, axis=1))


@pytest.mark.parametrize("units", ["mV", "normalised"])
@pytest.mark.parametrize(("period", "length"), [(10, 1), (100, 10)], ids=["every tenth", "20 ms"])
@pytest.mark.parametrize("leads", [[8], list(range(12))], ids=["one lead", "all leads"])
def test_lost_samples_that_became_zero_are_named_once(leads, period, length, units):
    signal = scaled(make_heart() + 0.1 * np.array([1, 1, 0, -1, 0.5, 0.5, *[1] * 6])[:, None], units)
    assert "ecg_lost_samples" not in codes(signal, units=units)
    lost = np.arange(signal.shape[1]) % period < length
    signal[np.ix_(leads, lost)] = 0
    named = [check["item"] for check in checks(signal, units=units) if check["code"] == "ecg_lost_samples"]
    assert named == (["ecg.V3"] if len(leads) == 1 else ["ecg"])


@pytest.mark.parametrize("units", ["mV", "normalised"])
@pytest.mark.parametrize("is_zero", [True, False], ids=["zeros", "held values"])
@pytest.mark.parametrize("seconds", [0.25, 0.4, 1.0])
def test_a_short_gap_in_all_leads_is_named_once(seconds, is_zero, units):
    signal = scaled(make_heart(), units)
    part = slice(1550, 1550 + round(500 * seconds) + 1)
    signal[:, part] = 0 if is_zero else signal[:, part.start, None]
    [check] = [check for check in checks(signal, units=units) if check["code"] in CODES]
    assert (check["code"], check["item"]) == ("ecg_lost_samples", "ecg")
    assert f"{seconds:.2g} s from 3.1 s" in check["text"]


def test_a_gap_is_looked_for_in_all_leads_and_from_a_fifth_of_a_second_on():
    signal = make_heart()
    one_moves, short = signal.copy(), signal.copy()
    one_moves[:11, 1550:1750] = 0
    short[:, 1550:1640] = 0
    assert common_gap(one_moves, 500) is None
    assert common_gap(short, 500) is None


def test_a_signal_that_crosses_or_touches_zero_has_lost_no_samples():
    wave = np.sin(2 * np.pi * np.arange(1000) / 20)
    wave[np.abs(wave) < 1e-9] = 0
    rounded = np.round(make_heart() / 0.05) * 0.05
    assert lost_samples(np.stack([wave, np.abs(wave), 0 * wave])) == [0, 0, 0]
    assert max(lost_samples(rounded)) < 5


@pytest.mark.parametrize("units", ["mV", "normalised"])
@pytest.mark.parametrize(("first", "second", "seconds"), [(0.0, 5.0, 5.0), (1.3, 4.1, 1.5), (0.0, 7.2, 2.8)])
def test_seconds_that_come_twice_are_named_once(first, second, seconds, units):
    signal = scaled(make_heart(), units)
    start, end, size = (round(time * RATE) for time in (first, second, seconds))
    signal[:, end : end + size] = signal[:, start : start + size].copy()
    named = [check["text"] for check in checks(signal, units=units) if check["code"] == "ecg_repeated_beats"]
    assert len(named) == 1 and f"{first:.1f} s" in named[0] and f"{second:.1f} s" in named[0]


def test_half_a_second_that_comes_twice_and_a_lead_that_stands_still_are_no_copied_seconds():
    signal = make_heart()
    signal[:, 2000:2250] = signal[:, :250].copy()
    assert copied_seconds(signal, RATE) is None
    assert copied_seconds(np.zeros((12, 5000)), RATE) is None
    assert copied_seconds(np.ones((2, 400)), RATE) is None


@pytest.mark.parametrize("hertz", [4, 5, 8])
@pytest.mark.parametrize("units", ["mV", "normalised"])
def test_a_high_pass_that_destroys_the_t_wave_is_named_and_a_filter_of_the_baseline_is_not(hertz, units):
    signal = scaled(make_heart(), units)
    found = [codes(high_pass(signal, limit), units=units) for limit in (hertz, 0.67)]
    assert "ecg_slow_waves_missing" in found[0] and "ecg_slow_waves_missing" not in found[1]


def high_pass(signal, hertz):
    return sosfiltfilt(butter(2, hertz, "high", fs=RATE, output="sos"), signal, axis=1)


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_chest_leads_of_another_gain_than_the_limb_leads_are_named(factor):
    signal = make_heart()
    signal[6:] *= factor
    assert "ecg_chest_size" in codes(signal)


def test_real_recordings_have_none_of_the_codes(shared_dir):
    paths = sorted((shared_dir / "data" / "wfdb").rglob("*.hea"))
    assert paths
    for path in paths:
        assert not {check["code"] for check in harmonise_recording(read_ecg(path)).checks} & CODES
