"""The `evaluate` modules in metrics/: loaded by path, combined, and equal to independent implementations."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifelines.utils import concordance_index
from sklearn.metrics import label_ranking_average_precision_score

evaluate = pytest.importorskip("evaluate", reason="evaluate is an extra: pip install 'tgmm-hf[evaluate]'")

MODULES = Path(__file__).resolve().parents[2] / "metrics"


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One for all tests of this file: the package of loaded modules stays where it was first imported from."""
    cache = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_METRICS_CACHE", "HF_EVALUATE_CACHE", "HF_MODULES_CACHE"):
            patch.setattr(f"evaluate.config.{name}", str(cache / name))
        yield


def load(name: str) -> Any:
    return evaluate.load(str(MODULES / name))


@pytest.mark.parametrize("name", ["lrap", "recall_at_k"])
def test_a_score_that_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not finite"):
        load(name).compute(predictions=[[float("nan"), 0.1], [0.2, 0.1]], references=[0, 0])


def test_c_index_agrees_with_lifelines_and_has_an_interval() -> None:
    generator = np.random.default_rng(0)
    risk, time, event = generator.normal(size=80), generator.exponential(300, 80).round(), generator.integers(0, 2, 80)
    outcome = np.stack([time, event], axis=1).tolist()
    result = load("c_index").compute(predictions=risk, references=outcome, bootstrap=200)
    assert result["c_index"] == pytest.approx(concordance_index(time, -risk, event), abs=1e-12)
    low, high = result["c_index_ci"]
    assert low < result["c_index"] < high
    nobody = load("c_index").compute(predictions=[1.0, 2.0], references=[[5, 0], [6, 0]])
    assert nobody["c_index"] is None and nobody["c_index_missing"]


def test_wrong_references_are_named() -> None:
    with pytest.raises(ValueError, match=r"\[days, event\]"):
        load("c_index").compute(predictions=[1.0], references=[[5.0, 1.0, 2.0]])


def test_lrap_and_recall_combine() -> None:
    generator = np.random.default_rng(1)
    scores, right = generator.normal(size=(50, 4)), generator.integers(0, 4, 50)
    both = evaluate.combine([load("lrap"), load("recall_at_k")])
    result = both.compute(predictions=scores.tolist(), references=right.tolist())
    truth = np.eye(4)[right]
    assert result["lrap"] == pytest.approx(label_ranking_average_precision_score(truth, scores))
    best = np.argsort(-scores, axis=1)
    assert result["recall_1"] == pytest.approx((best[:, 0] == right).mean())
    assert result["recall_2"] == pytest.approx((best[:, :2] == right[:, None]).any(1).mean())
    assert result["lrap_ci"][0] < result["lrap"] < result["lrap_ci"][1] and len(result["recall_2_ci"]) == 2


def test_batches_add_up_and_ties_count_against() -> None:
    module = load("recall_at_k")
    module.add_batch(predictions=[[1.0, 1.0], [2.0, 1.0]], references=[0, 0])
    module.add_batch(predictions=[[0.0, 1.0]], references=[0])
    assert module.compute(ranks=[1])["recall_1"] == pytest.approx(1 / 3)
