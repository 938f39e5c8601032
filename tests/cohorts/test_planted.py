"""The planted evidence lies where the generator draws it."""

import numpy as np

from tgmm_hf.cohorts.synthetic.cohort import ECG, Settings, patient_labs
from tgmm_hf.cohorts.synthetic.evidence import draw_intended, stream
from tgmm_hf.cohorts.synthetic.planted import EVIDENCE_CELLS, clip_evidence, ecg_evidence
from tgmm_hf.cohorts.synthetic.render_ecg import MIMIC_LEADS, RATE, render_ecg
from tgmm_hf.cohorts.synthetic.render_labs import NEUTRAL
from tgmm_hf.utils.names import LEADS

SETTINGS = Settings(seed=3, evidence="strong", frames=4, height=96, width=128)


def test_every_cell_with_evidence_is_a_cell_of_the_row_and_none_is_neutral():
    cells = patient_labs(SETTINGS, 0).cells()
    assert set(EVIDENCE_CELLS) <= set(cells) and not set(EVIDENCE_CELLS) & set(NEUTRAL)


def test_an_ecg_changes_at_its_waves_and_not_between_beats():
    index = next(i for i in range(20) if not draw_intended(3, i, "strong").ecg_af[0])
    change = ecg_evidence(SETTINGS, index)
    assert change.shape == (12, 10 * RATE)
    signal = render_ecg(draw_intended(3, index, "strong"), stream(3, index, ECG))
    lead = signal[:, MIMIC_LEADS.index("V5")]
    at_waves = np.abs(lead - np.median(lead)) > 0.3
    in_v5 = change[LEADS.index("V5")]
    assert in_v5[at_waves].mean() > 10 * np.quantile(in_v5, 0.2)


def test_the_nuisance_is_the_same_on_both_sides():
    """Muscle noise of 0.012 mV would show everywhere if it were drawn anew."""
    assert np.quantile(ecg_evidence(SETTINGS, 0), 0.05) < 0.001


def test_a_clip_changes_around_the_left_ventricle_and_never_outside_the_sector():
    change = clip_evidence(SETTINGS, 0, "A4C")
    assert change.shape == (4, 96, 128)
    assert change[:, :10, :20].max() == 0
    rows, columns = np.unravel_index(np.argsort(-change.mean(0), axis=None)[:100], (96, 128))
    # the ventricle of this view: 0.07 to the right of the middle and 0.39 down, in frame heights
    assert abs(columns.mean() / 96 - 128 / 96 / 2 - 0.07) < 0.1 and abs(rows.mean() / 96 - 0.39) < 0.15


def test_a_view_without_the_ventricle_holds_no_evidence():
    assert clip_evidence(SETTINGS, 0, "SSN").max() == 0
