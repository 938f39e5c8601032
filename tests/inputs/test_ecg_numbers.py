"""Filters, percentiles and runs give what scipy, numpy and plain loops give; 16-bit records what wfdb gives."""

import numpy as np
import pytest
import wfdb
from input_files import make_ecg
from scipy.signal import butter, sosfiltfilt

from tgmm_hf.inputs import ecg_wfdb
from tgmm_hf.inputs.ecg_copied_seconds import copied_seconds
from tgmm_hf.inputs.ecg_numbers import in_long_runs, percentile, span, zero_phase
from tgmm_hf.inputs.ecg_reading import read_ecg
from tgmm_hf.utils.names import LEADS

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("order", "hertz", "kind"), [(5, 0.67, "highpass"), (5, 40.0, "lowpass"), (2, (5.0, 25.0), "band")]
)
def test_a_zero_phase_filter_is_scipys(order, hertz, kind):
    signal = RANDOM.normal(size=(3, 700)).cumsum(axis=1)
    expected = sosfiltfilt(butter(order, hertz, btype=kind, fs=250, output="sos"), signal, axis=1)
    assert np.array_equal(zero_phase(order, hertz, kind, 250.0)(signal), expected)


def test_a_signal_that_is_too_short_for_a_filter_is_refused():
    with pytest.raises(ValueError, match="needs more than"):
        zero_phase(5, 40.0, "lowpass", 250.0)(np.zeros((1, 5)))


@pytest.mark.parametrize("percent", [0, 0.5, 33, 50, 99, 99.5, 100])
@pytest.mark.parametrize("number", [1, 2, 7, 500])
def test_percentiles_are_numpys(percent, number):
    values = RANDOM.normal(size=(4, number))
    assert np.allclose(percentile(values, percent), np.percentile(values, percent, axis=1), rtol=1e-14)
    assert np.allclose(span(values, 0.5), np.ptp(np.percentile(values, (0.5, 99.5), axis=1), axis=0), rtol=1e-14)


def test_long_runs_are_those_of_a_plain_loop():
    for length in (1, 2, 3, 5):
        flags = RANDOM.random(60) < 0.7
        padded = "".join("x" if flag else "." for flag in flags)
        kept = "".join(
            part if part.startswith(".") or len(part) >= length else "." * len(part)
            for part in padded.replace(".x", ". x").replace("x.", "x .").split(" ")
        )
        assert "".join("x" if flag else "." for flag in in_long_runs(flags, length)) == kept


def test_copied_seconds_are_found_in_rounded_and_in_scaled_signals():
    signal = np.rint(RANDOM.normal(size=(12, 2500)) * 3)
    signal[:, 2000:2300] = signal[:, 400:700]
    for factor in (1.0, 0.005):
        copied = copied_seconds(signal * factor, 250.0)
        assert copied is not None and (copied.first, copied.second) == (1.6, 8.0)
    signal[3, 2100] += 1
    assert copied_seconds(signal, 250.0) is None


@pytest.mark.parametrize("formats", [["16"] * 12, ["61"] * 12])
def test_sixteen_bits_are_read_as_the_library_reads_them(tmp_path, monkeypatch, formats):
    signal = make_ecg()
    signal[2, 100:110] = np.nan
    wfdb.wrsamp("record", 500, ["mV"] * 12, list(LEADS), p_signal=signal.T, fmt=["16"] * 12, write_dir=str(tmp_path))
    if formats[0] == "61":
        file, header = tmp_path / "record.dat", tmp_path / "record.hea"
        file.write_bytes(np.frombuffer(file.read_bytes(), "<i2").byteswap().tobytes())
        header.write_text(header.read_text().replace("record.dat 16", "record.dat 61"))
    ours = read_ecg(tmp_path / "record")
    monkeypatch.setattr(ecg_wfdb, "_SIXTEEN_BITS", {})
    theirs = read_ecg(tmp_path / "record")
    assert np.array_equal(ours.signal, theirs.signal, equal_nan=True) and np.isnan(ours.signal).sum() == 10
    assert (ours.lead_names, ours.units) == (theirs.lead_names, theirs.units)
