"""What is taken away and added, and that it is the same every time."""

import json

import numpy as np
import pandas as pd
import pytest

from tgmm_hf.evaluation.predictions import Predictions
from tgmm_hf.evaluation.robustness import ChangedRows, add_noise, drop_cells, drop_leads, drop_views, robustness


def row():
    generator = np.random.default_rng(0)
    return {
        "id": "a",
        "labs": json.dumps({f"cell {i}": float(i) for i in range(10)}),
        "ecg": generator.normal(size=(5000, 12)).astype(np.float32) * np.array([0] + [0.5] * 11, dtype=np.float32),
        "ecg_mask": [False] + [True] * 11,
        "clips": np.arange(5, dtype=np.uint8)[:, None] * np.ones((5, 3), np.uint8),
        "clip_views": np.array([1, 3, 4, 7, 9]),
        "clip_frames": np.array([11, 13, 14, 17, 19]),
    }


def draw():
    return np.random.default_rng(7)


@pytest.mark.parametrize(("share", "cells", "leads", "views"), [(0.2, 8, 9, 4), (0.8, 2, 2, 1), (1.0, 1, 1, 1)])
def test_stated_share_is_dropped_and_something_stays(share, cells, leads, views):
    assert len(json.loads(drop_cells(row(), share, draw())["labs"])) == cells
    changed = drop_leads(row(), share, draw())
    mask = np.array(changed["ecg_mask"])
    assert mask.sum() == leads and not mask[0]  # the unusable lead does not come back
    assert (changed["ecg"][:, ~mask] == 0).all() and (changed["ecg"][:, mask] == row()["ecg"][:, mask]).all()
    changed = drop_views(row(), share, draw())
    assert len(changed["clips"]) == views
    assert (changed["clip_frames"] == changed["clip_views"] + 10).all()  # the three stay together
    assert (changed["clips"][:, 0] == np.searchsorted(row()["clip_views"], changed["clip_views"])).all()


def test_higher_level_drops_everything_that_a_lower_level_drops():
    lower, higher = (json.loads(drop_cells(row(), share, draw())["labs"]) for share in (0.4, 0.8))
    assert set(higher) < set(lower)


@pytest.mark.parametrize("decibels", [20.0, 10.0, 0.0])
def test_noise_has_the_stated_power(decibels):
    noise = add_noise(row(), decibels, draw())["ecg"] - row()["ecg"]
    ratio = 10 * np.log10(row()["ecg"][:, 1:].var(axis=0) / noise[:, 1:].var(axis=0))
    np.testing.assert_allclose(ratio, decibels, atol=0.5)
    assert (noise[:, 0] == 0).all()


def test_absent_modalities_stay_absent():
    nothing = {**row(), "labs": "", "ecg": np.zeros((0, 12), np.float32), "ecg_mask": [False] * 12}
    nothing |= {"clips": np.zeros((0, 3)), "clip_views": np.array([], int), "clip_frames": np.array([], int)}
    for change in (drop_cells, drop_leads, drop_views):
        assert change(nothing, 0.8, draw()) is nothing
    assert add_noise(nothing, 0.0, draw()) is nothing


def test_same_row_gets_the_same_change_every_time():
    class Rows(list):
        def __getitem__(self, key):
            return [r[key] for r in self] if isinstance(key, str) else super().__getitem__(key)

    rows = Rows([row(), row()])
    changed = ChangedRows(rows, drop_cells, 0.6, seed=3)
    assert changed[0]["labs"] == changed[0]["labs"] != changed[1]["labs"]
    assert changed[0]["labs"] != ChangedRows(rows, drop_cells, 0.6, seed=4)[0]["labs"]
    assert changed["id"] == ["a", "a"] and len(changed) == 2 and rows[0]["labs"] == row()["labs"]


def test_every_level_is_scored_alone_and_with_all_modalities():
    """A stand-in for the model: its score is the number of cells left, or of usable leads."""
    rows = [row() | {"label": i % 2} for i in range(40)]
    asked = []

    def predict(changed, subsets):
        asked.append(subsets)
        parts = [
            {"row": i, "patient_id": str(i), "task": "dx", "subset": subset, "label": i % 2, "positive": i % 2,
             "probability": (i % 2) * len(json.loads(changed[i]["labs"])) + sum(changed[i]["ecg_mask"]) / 100}
            for subset in subsets for i in range(40)
        ]  # fmt: skip
        return Predictions(pd.DataFrame(parts), {}, {}, np.array([]), np.array([]))

    clean = predict(rows, ("labs", "ecg", "labs+ecg"))
    tasks = {"dx": {"kind": "diagnosis"}, "retrieval": {"kind": "retrieval"}}
    result = robustness(predict, rows, clean, tasks, seed=0, replicates=20)
    assert asked[1:] == [("labs", "labs+ecg")] * 4 + [("ecg", "labs+ecg")] * 7  # nobody has an echo
    assert list(result) == ["dx"] and len(result["dx"]) == 3
    cells = result["dx"]["laboratory cells dropped"]
    assert [p["level"] for p in cells] == ["none", "20%", "40%", "60%", "80%"] * 2
    assert {p["n"] for p in cells} == {40} and all(p["auc"] == 1.0 for p in cells)


def test_retrieval_alone_has_nothing_to_score():
    clean = Predictions(pd.DataFrame({"subset": []}), {}, {}, np.array([]), np.array([]))
    tasks = {"retrieval": {"kind": "retrieval"}}
    assert robustness(lambda *_: pytest.fail("the model was run"), [], clean, tasks, seed=0, replicates=20) == {}
