"""Harrell's concordance index against lifelines and by hand."""

import numpy as np
import pytest
from follow_up import follow_up
from lifelines.utils import concordance_index

from tgmm_hf.evaluation.metrics import UndefinedFigureError, bootstrap_counts
from tgmm_hf.evaluation.survival import c_index, resampled_c_index


@pytest.mark.parametrize("seed", range(5))
def test_c_index_equals_lifelines(seed):
    risk, time, event = follow_up(seed=seed)
    risk, time = np.round(risk, 1), np.ceil(time / 60)  # ties in both
    assert c_index(risk, time, event) == pytest.approx(concordance_index(time, -risk, event == 1), abs=1e-12)


def test_c_index_by_hand():
    # event at 1 against 2, 3, 3; event at 3 against the row censored at 3
    risk, time, event = [2.0, 2.0, 1.0, 3.0], [1, 2, 3, 3], [1, 0, 1, 0]
    assert c_index(risk, time, event) == pytest.approx((0.5 + 1 + 0 + 0) / 4)


def test_competing_death_counts_as_censored_at_death():
    assert c_index([0.0, 1.0], [3, 5], [1, 2]) == 0.0  # alive and free at day 3: compared
    with pytest.raises(UndefinedFigureError, match="1 events among 2"):
        c_index([1.0, 0.0], [5, 3], [1, 2])  # the death came first: nothing to compare


def test_resampled_c_index_equals_c_index_of_the_drawn_rows():
    risk, time, event = follow_up(n=50)
    counts = bootstrap_counts(np.arange(50), event, replicates=20, seed=0)
    drawn = [np.repeat(np.arange(50), c.astype(int)) for c in counts]
    expected = [concordance_index(time[rows], -risk[rows], event[rows] == 1) for rows in drawn]
    np.testing.assert_allclose(resampled_c_index(risk, time, event, counts), expected, atol=1e-12)


def test_c_index_of_extreme_scores_is_finite():
    risk, time, event = follow_up()
    assert c_index(risk * 1e300, time, event) == pytest.approx(c_index(risk, time, event))
