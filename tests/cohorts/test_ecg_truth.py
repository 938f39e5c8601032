"""The statements about a synthetic ECG follow from its waves, and the files show what the truth table says."""

from pathlib import Path

import numpy as np
import pytest
import wfdb
from scipy.signal import find_peaks

from tgmm_hf.cohorts.ecg_statements import find_mentions
from tgmm_hf.cohorts.synthetic import cohort
from tgmm_hf.cohorts.synthetic.ecg_truth import (
    STATEMENT_CODES,
    machine_row,
    measure,
    report_lines,
    statements_of,
    truth_row,
)
from tgmm_hf.cohorts.synthetic.evidence import draw_intended, stream
from tgmm_hf.cohorts.synthetic.render_ecg import PLAIN, DrawnEcg, Variation, draw_ecg

SETTINGS = cohort.Settings(3, "default", frames=4, height=96, width=128, no_echo=True, varied_ecg=True)
HEART = {"qrs_width": 100.0, "hypertrophy": 1.0, "t_wave": 0.4, "qt_interval": 400.0, "p_terminal": 0.05}


def drawn(variation: Variation = PLAIN, fibrillating: bool = False, rate: float = 60.0, **changes: float) -> DrawnEcg:
    """A heart without rotation, gains and noise, beating regularly."""
    beats = np.arange(-1.5, 11.5, 60 / rate)
    return DrawnEcg(
        *(HEART | changes, fibrillating, variation, beats, None, np.eye(3), variation.voltage, np.ones((1, 12)))
    )


def present(ecg: DrawnEcg) -> set[str]:
    return {code for code, is_present in statements_of(measure(ecg)).items() if is_present}


def test_intervals_follow_from_the_places_of_the_waves() -> None:
    measured = measure(drawn())
    assert measured["heart_rate"] == pytest.approx(60) and measured["rr_interval"] == pytest.approx(1000)
    # from -0.32 - 1.5 * 0.11 to 0.34 + 1.5 * 0.13 widths of 100 ms
    assert measured["qrs_duration"] == pytest.approx(102)
    # the P wave begins 50 + 115 + 18 + 1.5 * 17 ms before the R peak, the QRS complex 48.5 ms before
    assert measured["pr_interval"] == pytest.approx(160)
    assert measured["p_duration"] == pytest.approx(18 + 25 + 1.5 * (17 + 20))
    assert measured["qt_interval"] == measured["qtc_interval"] == pytest.approx(400)
    assert measure(drawn(rate=72))["qt_interval"] == pytest.approx(400 * np.sqrt(60 / 72))
    assert measure(drawn(fibrillating=True))["pr_interval"] is None


def test_the_axis_is_that_of_the_main_vector() -> None:
    """The QRS complex turns, and the P and T waves do not."""
    plain, turned = measure(drawn()), measure(drawn(Variation(axis=-90)))
    assert 20 < plain["qrs_axis"] < 60 and -70 < turned["qrs_axis"] < -30
    assert turned["p_axis"] == pytest.approx(plain["p_axis"], abs=3)
    assert turned["t_axis"] == pytest.approx(plain["t_axis"], abs=3)


@pytest.mark.parametrize(
    ("ecg", "expected"),
    [
        (drawn(rate=70), {"SR", "NORM"}),
        (drawn(rate=50), {"SBRAD"}),
        (drawn(rate=110), {"STACH"}),
        (drawn(rate=70, fibrillating=True), {"AFIB"}),
        (drawn(Variation(pr_delay=0.18), rate=70), {"SR", "1AVB"}),
        (drawn(Variation(axis=-90), rate=70), {"SR", "LAD"}),
        (drawn(Variation(axis=85), rate=70), {"SR", "RAD"}),
        (drawn(Variation(voltage=0.3), rate=70), {"SR", "LVOLT", "LOWT"}),
        (drawn(Variation(st_shift=0.3), rate=70), {"SR", "STE_"}),
        (drawn(Variation(st_shift=-0.3), rate=70), {"SR", "STD_"}),
        (drawn(rate=70, qrs_width=130), {"SR", "IVCD"}),
        (drawn(rate=70, hypertrophy=2.3), {"SR", "VCLVH"}),
        (drawn(rate=70, t_wave=-0.4), {"SR", "INVT"}),
        (drawn(rate=70, t_wave=0.05), {"SR", "LOWT"}),
        (drawn(rate=70, qt_interval=480), {"SR", "LNGQT"}),
        (drawn(rate=70, p_terminal=0.2), {"SR", "LAO/LAE"}),
    ],
)
def test_each_change_gives_its_statement(ecg: DrawnEcg, expected: set[str]) -> None:
    assert present(ecg) == expected
    lines = report_lines(statements_of(measure(ecg)))
    # what the vocabulary finds in the report is what is present
    assert {mention.code for line in lines for mention in find_mentions(line)} == expected
    assert lines[-1] == ("Normal ECG" if "NORM" in expected else "Abnormal ECG")


def test_rows_of_the_tables() -> None:
    measured = measure(drawn(Variation(pr_delay=0.18), rate=70))
    statements = statements_of(measured)
    row = machine_row(measured, statements)
    assert [row[f"report_{k}"] for k in range(3)] == ["Sinus rhythm", "1st degree A-V block", "Abnormal ECG"]
    assert row["rr_interval"] == 857 and row["qrs_onset"] - row["p_onset"] == 225
    assert row["qrs_end"] - row["qrs_onset"] == 102 and row["t_end"] - row["qrs_onset"] == 370  # 400 * sqrt(6/7)
    truth = truth_row(measured, statements)
    assert {code for code in STATEMENT_CODES if truth[code]} == {"SR", "1AVB"}
    missing = truth_row(measure(drawn(fibrillating=True)), statements)
    assert "p_terminal" not in missing and "p_onset" not in machine_row(measure(drawn(fibrillating=True)), statements)


def test_the_files_show_what_the_truth_says(tmp_path: Path) -> None:
    """Rate, axis and voltages, measured in the written recordings with noise by other means."""
    for index in (0, 1, 2, 3, 4, 5, 6, 8, 9, 10):
        cohort.render_ecg_file(tmp_path, SETTINGS, index)
        who = cohort.patient_identity(SETTINGS, index)
        record = wfdb.rdrecord(str(tmp_path / "ecg" / cohort.ecg_path(who.subject, who.ecg_study)))
        lead = {
            name: values - np.median(values) for name, values in zip(record.sig_name, record.p_signal.T, strict=True)
        }
        slope = np.linalg.norm(np.gradient(record.p_signal, axis=0), axis=1)
        slope = np.convolve(slope, np.ones(60) / 60, mode="same")
        peaks, _ = find_peaks(slope, height=0.5 * slope.max(), distance=150)
        measured = measure(
            draw_ecg(draw_intended(3, index), stream(3, index, cohort.ECG), cohort.ecg_variation(SETTINGS, index))
        )
        assert 60 * 500 / np.diff(peaks).mean() == pytest.approx(measured["heart_rate"], rel=0.05)
        beats = [slice(peak - 60, peak + 60) for peak in peaks if 60 <= peak < 4940]
        top = {name: np.median([values[beat].max() for beat in beats]) for name, values in lead.items()}
        bottom = {name: np.median([values[beat].min() for beat in beats]) for name, values in lead.items()}
        assert max(top["V5"], top["V6"]) - bottom["V1"] == pytest.approx(measured["sokolow_lyon"], abs=0.35)
        net = {name: top[name] + bottom[name] for name in ("I", "aVF")}
        axis = np.rad2deg(np.arctan2(net["aVF"] * 2 / 3**0.5, net["I"]))
        assert abs((axis - measured["qrs_axis"] + 180) % 360 - 180) < 25


def test_variation_changes_the_ecg_and_nothing_else(tmp_path: Path) -> None:
    """A varied cohort has the same evidence; its variation comes from a source of its own."""
    plain = cohort.Settings(3, "default", frames=4, height=96, width=128)
    variations = [cohort.ecg_variation(SETTINGS, index) for index in range(300)]
    assert cohort.ecg_variation(plain, 0) == PLAIN
    assert 0.3 < np.mean([v.axis == 0 and v.pr_delay == PLAIN.pr_delay for v in variations]) < 0.5
    first = draw_ecg(draw_intended(3, 0), stream(3, 0, cohort.ECG))
    second = draw_ecg(draw_intended(3, 0), stream(3, 0, cohort.ECG), Variation(rate=45, voltage=0.5))
    assert first.physical == second.physical and np.array_equal(first.turn, second.turn)
    assert second.scale == pytest.approx(0.5 * first.scale) and len(second.beats) < len(first.beats)
    both = cohort.Settings(3, "default", frames=4, height=96, width=128, labs_only=True, no_echo=True)
    with pytest.raises(ValueError, match="labs_only leaves out"):
        cohort.check_settings(both, 1, 1)
    assert "no_echo" not in plain.stored() and SETTINGS.stored()["no_echo"] is True
