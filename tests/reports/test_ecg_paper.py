"""The drawing of the ECG: millimetres, order of the leads, gaps, marks."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from heart_signal import make_heart

from tgmm_hf.inputs.ecg_sheet import LAYOUTS, SENSITIVITIES, EcgTraces
from tgmm_hf.reports.ecg_paper import Band, draw_ecg
from tgmm_hf.utils.names import LEADS

SVG = "{http://www.w3.org/2000/svg}"


def elements(svg, tag, name):
    """Every element of a class."""
    every = ElementTree.fromstring(svg).iter(f"{SVG}{tag}")
    return [element for element in every if name in element.get("class", "").split()]


def runs(path):
    """The runs of a trace: arrays (points, 2) in mm."""
    return [np.array([p.split() for p in run.split("L")], float) for run in path.get("d").split("M")[1:]]


def trace(svg, lead, which=0):
    return [path for path in elements(svg, "path", "trace") if path.get("data-lead") == lead][which]


def step_recording(rate=500.0):
    """A step of 1 mV in every lead at 1 s, back at 2.2 s; 10 s long. The median is zero."""
    signal = np.zeros((12, int(10 * rate)))
    signal[:, int(rate) : int(2.2 * rate)] = 1.0
    return EcgTraces(signal, rate)


def test_a_user_unit_is_a_millimetre():
    root = ElementTree.fromstring(draw_ecg(step_recording()).svg)
    width, height = (float(root.get(side).removesuffix("mm")) for side in ("width", "height"))
    assert root.get("width").endswith("mm") and root.get("viewBox") == f"0 0 {width:g} {height:g}"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sheet_fits_letter_and_a4_in_landscape(layout):
    root = ElementTree.fromstring(draw_ecg(step_recording(), layout).svg)
    width, height = (float(root.get(side).removesuffix("mm")) for side in ("width", "height"))
    assert width <= 279.4 - 16 and height <= 210 - 16  # Letter is the narrower sheet, A4 the lower one; margins of 8 mm


@pytest.mark.parametrize("sensitivity", SENSITIVITIES)
@pytest.mark.parametrize("rate", [100.0, 250.0, 500.0, 1000.0])
def test_a_second_is_25_mm_and_a_millivolt_has_the_sensitivity(sensitivity, rate):
    svg = draw_ecg(step_recording(rate), "12x1", sensitivity).svg
    points = np.concatenate(runs(trace(svg, "V6")))
    baseline = np.median(points[:, 1])
    up = points[points[:, 1] < baseline - 1]
    if sensitivity <= 10:  # at 20 mm/mV the step leaves a row of 14 mm, see below
        assert baseline - up[:, 1].min() == pytest.approx(sensitivity, abs=0.02)
        assert np.ptp(up[:, 0]) == pytest.approx(1.2 * 25 - 25 / rate, abs=0.02)
    assert np.ptp(points[:, 0]) == pytest.approx(25 * (10 - 1 / rate), abs=0.02)


@pytest.mark.parametrize("sensitivity", SENSITIVITIES)
def test_every_row_has_a_pulse_of_1_mv_and_200_ms(sensitivity):
    for layout, (rows, _) in LAYOUTS.items():
        pulses = elements(draw_ecg(step_recording(), layout, sensitivity).svg, "path", "pulse")
        assert len(pulses) == len(rows)
        for pulse in pulses:
            up, right, down = re.search(r"v(-[\d.]+)h([\d.]+)v([\d.]+)", pulse.get("d")).groups()
            assert float(up) == -sensitivity == -float(down) and float(right) == 5.0


def test_grid_lines_lie_a_millimetre_apart_and_every_fifth_is_stronger():
    svg = draw_ecg(step_recording()).svg
    places = {}
    for name in ("small", "large"):
        (path,) = elements(svg, "path", name)
        places[name] = {int(x) for x in re.findall(r"M(\d+) 0V", path.get("d"))}
    assert places["small"] | places["large"] == set(range(261))
    assert np.diff(sorted(places["large"])).tolist() == [5] * (len(places["large"]) - 1)


def test_leads_stand_in_the_standard_order():
    names = {
        "3x4": "I aVR V1 V4 II aVL V2 V5 III aVF V3 V6 II",
        "6x2": "I V1 II V2 III V3 aVR V4 aVL V5 aVF V6",
        "12x1": "I II III aVR aVL aVF V1 V2 V3 V4 V5 V6",
    }
    heart = EcgTraces(make_heart(5000), 500.0)
    for layout, order in names.items():
        svg = draw_ecg(heart, layout).svg
        assert [path.get("data-lead") for path in elements(svg, "path", "trace")] == order.split()
        assert [text.text for text in elements(svg, "text", "lead")] == order.split()


def test_the_leads_of_a_row_follow_each_other_in_time():
    ramp = np.tile(np.arange(5000) / 500 / 10, (12, 1))  # 0 to 1 mV in 10 s
    svg = draw_ecg(EcgTraces(ramp, 500.0)).svg
    for lead, quarter in (("I", 0), ("aVR", 1), ("V1", 2), ("V4", 3)):
        points = np.concatenate(runs(trace(svg, lead)))
        middle = (quarter + 0.5) / 4
        centre = points[len(points) // 2, 1]
        assert 5 + 17 - centre == pytest.approx(10 * (middle - 0.5), abs=0.05)  # around the lead's median
        assert points[0, 0] == pytest.approx(9 + 62.5 * quarter, abs=0.01)
    rhythm = np.concatenate(runs(trace(svg, "II", which=1)))
    assert np.ptp(rhythm[:, 0]) > 249


def test_missing_samples_are_a_gap_and_are_told():
    signal = make_heart(5000)
    signal[LEADS.index("V2"), 2600:2800] = np.nan  # 0.4 s
    drawing = draw_ecg(EcgTraces(signal, 500.0))
    first, second = runs(trace(drawing.svg, "V2"))
    assert second[0, 0] - first[-1, 0] == pytest.approx(0.4 * 25 + 25 / 500, abs=0.02)
    assert any("V2" in note and "0.4 s" in note for note in drawing.notes)
    assert not any("V3" in note for note in drawing.notes)


def test_what_leaves_the_sheet_is_a_gap_and_is_told():
    signal = make_heart(5000)
    signal[LEADS.index("V1"), 3000:3100] = 9.0
    drawing = draw_ecg(EcgTraces(signal, 500.0))
    height = float(ElementTree.fromstring(drawing.svg).get("height").removesuffix("mm"))
    for path in elements(drawing.svg, "path", "trace"):
        for run in runs(path):
            assert (run[:, 1] > 0).all() and (run[:, 1] < height).all()
    assert len(runs(trace(drawing.svg, "V1"))) > 1 and any("V1" in note for note in drawing.notes)
    assert draw_ecg(EcgTraces(make_heart(5000), 500.0)).notes == []


def test_unusable_leads_are_marked_and_an_empty_lead_has_no_trace():
    signal = make_heart(5000)
    signal[LEADS.index("V5")] = np.nan
    svg = draw_ecg(EcgTraces(signal, 500.0, {"V5": "missing", "V6": "is flat"})).svg
    assert not [path for path in elements(svg, "path", "trace") if path.get("data-lead") == "V5"]
    assert "unused" in trace(svg, "V6").get("class") and "unused" not in trace(svg, "V4").get("class")
    marked = [text.text for text in elements(svg, "text", "lead") if text.find(f"{SVG}tspan") is not None]
    assert marked == ["V5", "V6"]


def test_bands_lie_behind_the_trace_at_their_time():
    bands = [Band("aVR", 3.0, 3.4, 1.0), Band("aVR", 2.4, 2.6, -0.5), Band("V6", 0.0, 1.0, 1.0)]
    svg = draw_ecg(step_recording(), bands=bands).svg
    for_it, against = elements(svg, "rect", "for"), elements(svg, "rect", "against")
    assert len(for_it) == 1 and len(against) == 1  # V6 shows 7.5 to 10 s; aVR shows 2.5 to 5 s
    assert float(for_it[0].get("x")) == pytest.approx(9 + 3.0 * 25) and float(for_it[0].get("width")) == pytest.approx(
        10
    )
    assert float(against[0].get("width")) == pytest.approx(2.5)
    assert svg.index('class="attribution"') < svg.index('class="trace"')


def test_a_longer_recording_shows_the_window_in_the_middle():
    signal = np.zeros((12, 15000))  # 30 s
    signal[:, 7500] = 1.0
    svg = draw_ecg(EcgTraces(signal, 500.0, window=(10.5, 19.5)), "12x1").svg
    points = np.concatenate(runs(trace(svg, "I")))
    peak = points[points[:, 1].argmin(), 0]
    assert peak == pytest.approx(9 + (15 - 10) * 25, abs=0.05)
    assert len(elements(svg, "rect", "unread")) == 24


def test_a_short_recording_ends_early():
    svg = draw_ecg(EcgTraces(make_heart(4500), 500.0)).svg
    assert np.concatenate(runs(trace(svg, "V6")))[-1, 0] == pytest.approx(9 + 9 * 25 - 0.05, abs=0.02)


def test_odd_settings_are_refused():
    with pytest.raises(ValueError, match="4x3"):
        draw_ecg(step_recording(), "4x3")
    with pytest.raises(ValueError, match="7 mm/mV"):
        draw_ecg(step_recording(), sensitivity=7.0)
    with pytest.raises(ValueError, match="shape"):
        draw_ecg(EcgTraces(np.zeros((3, 5000)), 500.0))
