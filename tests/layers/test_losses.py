"""Losses of paper eq. (10)-(16) against numbers worked out by hand and independent libraries."""

import math

import numpy as np
import pytest
import torch

from tgmm_hf.layers.losses import (
    cox_loss,
    horizon_status,
    info_nce_loss,
    language_model_loss,
    log1mexp,
    margin_ranking_loss,
    multiple_choice_loss,
    unlikelihood_loss,
)


def test_log1mexp_is_exact_at_both_ends_and_has_finite_gradients():
    log_p = torch.tensor([-1e-6, -1e-3, -0.5, -1.0, -20.0, -80.0], dtype=torch.float32, requires_grad=True)
    expected = np.log1p(-np.exp(np.float64(log_p.detach().numpy())))
    result = log1mexp(log_p)
    np.testing.assert_allclose(result.detach().numpy()[1:], expected[1:], rtol=1e-5)
    assert result[0].item() == pytest.approx(math.log(1e-6), rel=1e-3)
    result.sum().backward()
    assert torch.isfinite(log_p.grad).all()


def test_unlikelihood_by_hand():
    # Candidate probabilities 0.5 and 0.2, the first is right: -log(1 - 0.2).
    logits = torch.log(torch.tensor([[0.5, 0.2], [0.9, 0.3]]))
    label, weight = torch.tensor([0, 1]), torch.tensor([1.0, 0.0])
    assert unlikelihood_loss(logits, label, weight).item() == pytest.approx(-math.log(0.8), rel=1e-5)
    # Three candidates: the mean over the two wrong ones.
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.1]]))
    expected = -(math.log(0.8) + math.log(0.9)) / 2
    assert unlikelihood_loss(logits, torch.tensor([0]), torch.ones(1)).item() == pytest.approx(expected, rel=1e-5)


def test_unlikelihood_is_finite_when_a_wrong_answer_is_certain():
    logits = torch.tensor([[-3.0, 0.0]], requires_grad=True)
    loss = unlikelihood_loss(logits, torch.tensor([0]), torch.ones(1))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_language_model_loss_reads_only_the_right_answers_tokens():
    log_probs = torch.log(torch.tensor([[[0.5, 0.25, 0.9], [0.1, 0.2, 0.3]]]))
    mask = torch.tensor([[True, True, False], [True, True, True]])
    loss = language_model_loss(log_probs, mask, torch.tensor([0]), torch.ones(1))
    assert loss.item() == pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2, rel=1e-5)


def test_unlabelled_rows_do_not_count_even_with_infinite_values():
    logits = torch.tensor([[0.0, -1.0], [-torch.inf, -2.0]])
    label, weight = torch.tensor([0, 0]), torch.tensor([1.0, 0.0])
    assert multiple_choice_loss(logits, label, weight).item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)
    assert multiple_choice_loss(logits, label, torch.zeros(2)).item() == 0.0


def test_cox_by_hand():
    # Times 1, 2, 3; events at 1 and 3: risk sets {1,2,3} and {3}.
    risk = torch.tensor([0.5, -0.2, 1.0])
    expected = (math.log(math.exp(0.5) + math.exp(-0.2) + math.exp(1.0)) - 0.5 + 0.0) / 2
    result = cox_loss(risk, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 0, 1]))
    assert result.item() == pytest.approx(expected, rel=1e-6)


def test_cox_ties_follow_breslow():
    # Two events at the same time keep the full risk set each.
    risk = torch.tensor([0.3, -0.4, 0.1])
    everyone = math.log(sum(math.exp(r) for r in risk.tolist()))
    expected = ((everyone - 0.3) + (everyone + 0.4)) / 2
    result = cox_loss(risk, torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1, 1, 0]))
    assert result.item() == pytest.approx(expected, rel=1e-6)


def test_cox_matches_lifelines():
    lifelines = pytest.importorskip("lifelines")
    import pandas as pd

    rng = np.random.default_rng(0)
    x, event = rng.normal(size=80), rng.random(80) < 0.6
    time = rng.exponential(size=80)  # continuous: no ties, where Efron (lifelines) and Breslow agree
    fitter = lifelines.CoxPHFitter().fit(pd.DataFrame({"x": x, "time": time, "event": event}), "time", "event")
    beta = float(fitter.params_["x"])
    # lifelines centres x, which shifts every risk alike and leaves the partial likelihood as it is.
    ours = cox_loss(torch.tensor(beta * x), torch.tensor(time), torch.tensor(event)).item()
    assert ours == pytest.approx(-fitter.log_likelihood_ / event.sum(), rel=1e-6)


def test_cox_ignores_a_shift_and_survives_extremes():
    torch.manual_seed(0)
    risk, time = torch.randn(20, dtype=torch.float64), torch.rand(20)
    event = torch.arange(20) % 2 == 0
    assert cox_loss(risk, time, event).item() == pytest.approx(cox_loss(risk + 57.0, time, event).item(), abs=1e-9)
    extreme = torch.tensor([100.0, -100.0, 100.0, -100.0], requires_grad=True)
    loss = cox_loss(extreme, torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1, 1, 0, 1]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(extreme.grad).all()
    # By hand: the event at 2 has risk -100 against {-100, 100, -100}: 200; the others 0 (log of two equal terms: log
    # 2).
    assert loss.item() == pytest.approx((math.log(2) + 200.0 + 0.0) / 3, rel=1e-4)


@pytest.mark.parametrize("loss", [cox_loss, lambda *a: margin_ranking_loss(*a, margin=0.5)])
@pytest.mark.parametrize(
    ("time", "event"), [([1.0, 2.0, 3.0], [0, 0, 0]), ([1.0], [1]), ([2.0], [0])], ids=["censored", "single", "alone"]
)
def test_survival_losses_are_defined_zeros_with_gradients_where_nothing_can_be_learned(loss, time, event):
    risk = torch.full((len(time),), 3.0, requires_grad=True)
    value = loss(risk, torch.tensor(time), torch.tensor(event))
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(risk.grad, torch.zeros_like(risk))


def test_margin_ranking_by_hand():
    # Comparable pairs (earlier event, later): (0, 1), (0, 2), (1, 2); margin 1.
    risk = torch.tensor([2.0, 1.5, 1.0])
    loss = margin_ranking_loss(risk, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 1, 0]), margin=1.0)
    assert loss.item() == pytest.approx((0.5 + 0.0 + 0.5) / 3, rel=1e-6)
    # A wrong order costs more than a right one: eq. (15) as printed would say the opposite.
    reversed_loss = margin_ranking_loss(-risk, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 1, 0]), margin=1.0)
    assert reversed_loss > loss


def test_status_at_the_horizon():
    time = torch.tensor([100.0, 400.0, 100.0, 400.0, 100.0, 365.0])
    event = torch.tensor([1, 1, 0, 0, 2, 0])
    label, weight = horizon_status(time, event, 365.0)
    assert label.tolist() == [1, 0, 0, 0, 0, 0]
    # Only the patient censored before the horizon is of unknown status.
    assert weight.tolist() == [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]


def test_info_nce_by_hand_and_masked():
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    second = torch.tensor([[1.0, 0.0], [0.0, 1.0], [torch.nan, 0.0]])
    loss = info_nce_loss(first, second, torch.tensor([True, True, False]), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)
    alone = info_nce_loss(first, second.nan_to_num(), torch.tensor([True, False, False]), temperature=0.5)
    assert alone.item() == 0.0
