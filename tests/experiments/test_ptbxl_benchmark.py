"""The simple models of `experiments/ptbxl_benchmark.py`."""

from pathlib import Path

import numpy as np
import pytest
from heart_signal import make_heart

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    import ptbxl_benchmark

    return ptbxl_benchmark


def test_the_numbers_of_an_ecg_do_not_depend_on_its_unit(script) -> None:
    ecg = make_heart(2500, 250.0, 1).T.astype(np.float64)
    numbers = script.numbers_of(ecg)
    assert numbers.shape == (198,) and np.isfinite(numbers).all()
    assert script.numbers_of(1000 * ecg + 5) == pytest.approx(numbers)
    ecg[:, 3] = 0  # a lead that is not there
    assert np.isfinite(script.numbers_of(ecg)).all()


def test_a_label_without_training_recordings_gets_its_share_and_leaves_the_macro_figure(script) -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(80, 6))
    present = np.stack([features[:, 0] > 0, features[:, 1] > 0.5, np.zeros(80)], axis=1).astype(int)
    scores = script.simple_scores((features[:50], present[:50]), features[50:])
    assert (scores[script.REGRESSION][:, 2] == 0).all()
    assert scores[script.NAIVE] == pytest.approx(np.repeat(present[:50].mean(axis=0)[None], 30, axis=0))
    rows = script.macro_table(scores, present[50:].astype(float), np.ones((5, 30)))
    by_name = {row[0]: row for row in rows[1:]}
    assert float(by_name[script.REGRESSION][1]) > 0.9 and by_name[script.REGRESSION][5] == "2"
    assert by_name[script.NAIVE][1] == by_name[script.HALF][1] == "0.500"
