"""Figures that a library measures on an ECG."""

import numpy as np
import pytest
from heart_signal import make_heart

from tgmm_hf.inputs.ecg_sheet import EcgTraces
from tgmm_hf.reports import ecg_measures
from tgmm_hf.reports.ecg_measures import measure_ecg
from tgmm_hf.utils.names import LEADS


def number(figures, name):
    return float(next(each["value"] for each in figures if each["name"] == name).rstrip("°").split()[0])


def test_the_figures_of_a_plain_heart_are_measured():
    pytest.importorskip("neurokit2")
    signal = make_heart(5000)
    signal[LEADS.index("I")] = 0.5 * signal[LEADS.index("II")]  # I = II / 2 gives aVF = 3/4 II: an axis of 60 degrees
    signal[LEADS.index("aVF")] = 0.75 * signal[LEADS.index("II")]
    figures = measure_ecg(EcgTraces(signal, 500.0))
    assert number(figures, "rate") == pytest.approx(75, abs=1)
    assert number(figures, "axis") == pytest.approx(60, abs=2)
    assert 60 < number(figures, "QRS") < 140 and 100 < number(figures, "PR") < 220
    assert number(figures, "QTc") == pytest.approx(number(figures, "QT") / 0.8 ** (1 / 3), abs=2)
    assert "NeuroKit2" in figures[-1]["value"]


def test_nothing_is_measured_where_it_cannot_be(monkeypatch):
    pytest.importorskip("neurokit2")
    gap = make_heart(5000)
    gap[LEADS.index("II"), 100:200] = np.nan
    assert measure_ecg(EcgTraces(gap, 500.0)) == []
    assert measure_ecg(EcgTraces(make_heart(5000), 500.0, {"II": "is flat"})) == []
    assert measure_ecg(EcgTraces(np.zeros((12, 5000)), 500.0)) == []
    monkeypatch.setattr(ecg_measures, "neurokit2", None)
    assert measure_ecg(EcgTraces(make_heart(5000), 500.0)) == []


def test_intervals_that_cannot_be_leave_only_the_rate(monkeypatch):
    pytest.importorskip("neurokit2")
    monkeypatch.setitem(ecg_measures.PLAUSIBLE, "QRS", (1, 20))
    names = [each["name"] for each in measure_ecg(EcgTraces(make_heart(5000), 500.0))]
    assert names == ["rate", "measured by"]
