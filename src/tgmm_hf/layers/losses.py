"""The paper's losses as pure functions, eq. (10)-(16). Rows without a label are masked, never marked by a value.

Every loss is computed in float32. If nothing in the batch can train it (no labelled row, no event, no comparable pair,
a single patient), the loss is a zero that carries gradients, so that a training step is always defined.

Tied event times keep the full risk set each (Breslow's convention): see `cox_loss`.
"""

import torch
from torch import nn

from .distributed import gather_batch


def _float(tensor: torch.Tensor) -> torch.Tensor:
    """Bring half precision to float32; leave float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _zero(like: torch.Tensor) -> torch.Tensor:
    """Make a zero that belongs to the graph of `like`, even if `like` holds infinities."""
    return torch.nan_to_num(like, nan=0.0, posinf=0.0, neginf=0.0).sum() * 0.0


def _weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Average `values` (B,) under non-negative `weights` (B,). The result is 0 if all weights are 0.

    The value of a row of weight 0 does not matter, not even if it is NaN.
    """
    values = torch.where(weights > 0, values, torch.zeros_like(values))
    return (values * weights).sum() / weights.sum().clamp(min=1e-8)


def log1mexp(log_p: torch.Tensor) -> torch.Tensor:
    """Compute log(1 - exp(log_p)) for log_p <= 0, element by element, without cancellation (Maechler 2012).

    The result is -inf at log_p = 0. Clamp `log_p` below 0 before the call.
    """
    near_zero = log_p > -0.6931471805599453
    # Each branch gets an argument that is safe for it, so that the branch not taken sends no NaN gradient back.
    close = torch.log(-torch.expm1(torch.where(near_zero, log_p, torch.full_like(log_p, -0.5))))
    far = torch.log1p(-torch.exp(torch.where(near_zero, torch.full_like(log_p, -1.0), log_p)))
    return torch.where(near_zero, close, far)


def language_model_loss(
    token_log_probs: torch.Tensor, token_mask: torch.Tensor, label: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Compute L_lm of eq. (10): token cross-entropy of the right answer, averaged over its tokens.

    Args:
        token_log_probs: (B, C, L) log-probability of each token of each candidate.
        token_mask: (C, L) True on a candidate's tokens, end token included.
        label: (B,) index of the right candidate. Rows of weight 0 may hold any valid index.
        weight: (B,) non-negative row weights.
    """
    rows = torch.arange(len(label), device=label.device)
    mask = token_mask[label]
    chosen = _float(token_log_probs)[rows, label].masked_fill(~mask, 0.0)
    return _weighted_mean(-chosen.sum(1) / mask.sum(1), weight)


def multiple_choice_loss(logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Compute L_mc of eq. (10)-(11): cross-entropy over the softmax of the candidates' log-likelihoods.

    Args:
        logits: (B, C) log-likelihood of each candidate.
        label: (B,) index of the right candidate. Rows of weight 0 may hold any valid index.
        weight: (B,) non-negative row weights.
    """
    return _weighted_mean(nn.functional.cross_entropy(_float(logits), label, reduction="none"), weight)


def unlikelihood_loss(
    logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6
) -> torch.Tensor:
    """Compute L_unlikely of eq. (12): -1/(C-1) sum over wrong j of log(1 - exp(y_j) + eps).

    y_j is the log-likelihood of candidate j and C the number of candidates. The code computes log(1 - exp(y_j)) with
    y_j clamped to at most -eps. This equals eq. (12) up to eps and is finite at y_j = 0.

    Args:
        logits: (B, C) log-likelihoods y, at most 0.
        label: (B,) index of the right candidate. Rows of weight 0 may hold any valid index.
        weight: (B,) non-negative row weights.
        eps: distance that y_j keeps from 0.
    """
    num_candidates = logits.shape[1]
    wrong = nn.functional.one_hot(label, num_candidates) == 0
    penalty = log1mexp(_float(logits).clamp(max=-eps)).masked_fill(~wrong, 0.0)
    return _weighted_mean(-penalty.sum(1) / (num_candidates - 1), weight)


def cox_loss(risk: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    """Compute L_r of eq. (14): negative log Cox partial likelihood, averaged over events.

    The risk set of an event at t_i is every j with t_j >= t_i. Tied events keep the full risk set each (Breslow's
    convention).

    Args:
        risk: (B,) predicted log-hazard, any real number.
        time: (B,) time of event or censoring, in days.
        event: (B,) bool, True where the event was seen. A competing death counts as censored (cause-specific hazard).
    """
    event = event.bool()
    if not bool(event.any()):
        return _zero(risk)
    risk = _float(risk)
    at_risk = time[None, :] >= time[:, None]
    log_risk_set = torch.logsumexp(risk[None, :].expand_as(at_risk).masked_fill(~at_risk, -torch.inf), dim=1)
    return (log_risk_set - risk)[event].mean()


def margin_ranking_loss(risk: torch.Tensor, time: torch.Tensor, event: torch.Tensor, margin: float) -> torch.Tensor:
    """Compute L_m of eq. (15): mean of max(0, margin - (y_i - y_j)) over pairs with t_i < t_j and event i.

    The sign is not that of the paper, because eq. (15) as printed rewards pairs in the wrong order.

    Args:
        risk: (B,) risk scores y; higher means an earlier event.
        time: (B,) days.
        event: (B,) bool, True where the event was seen.
        margin: distance by which the earlier event must have the higher score.
    """
    earlier = (time[:, None] < time[None, :]) & event.bool()[:, None]
    if not bool(earlier.any()):
        return _zero(risk)
    risk = _float(risk)
    return (margin - (risk[:, None] - risk[None, :])).clamp(min=0)[earlier].mean()


def horizon_status(time: torch.Tensor, event: torch.Tensor, horizon_days: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Label patients as high risk for L_dig if the event came by the horizon (ours, because the paper gives no rule).

    Args:
        time: (B,) days.
        event: (B,) 0 censored, 1 event, 2 competing death.
        horizon_days: the horizon, in days.

    Returns:
        label (B,) long, and weight (B,). The weight is 0 for a patient who was censored before the horizon, because the
        status is unknown. A patient who died without the event before the horizon is known not to have had it.
    """
    label = ((event == 1) & (time <= horizon_days)).long()
    status_known = (time >= horizon_days) | (event > 0)
    return label, status_known.to(time.dtype)


def survival_losses(
    risk: torch.Tensor,
    time: torch.Tensor,
    event: torch.Tensor,
    labelled: torch.Tensor,
    margin: float,
    copies: int,
) -> dict[str, torch.Tensor]:
    """Compute the losses "cox" (eq. 14) and "margin" (eq. 15) over the patients of all processes.

    Args:
        risk: (B,), higher means earlier.
        time: (B,) days.
        event: (B,), 0 censored, 1 event, 2 competing death, which counts as censored.
        labelled: (B,) bool, False for a row that is not used.
        margin: margin of eq. (15).
        copies: number of copies of one batch among the rows, one after another. Each copy is a risk set of its own, so
            that no patient is compared with himself.
    """
    cox, ranking = [], []
    for parts in zip(*(x.chunk(copies) for x in (labelled, risk, time, event)), strict=True):
        rows, scores, days, status = (gather_batch(part) for part in parts)
        cox.append(cox_loss(scores[rows], days[rows], status[rows] == 1))
        ranking.append(margin_ranking_loss(scores[rows], days[rows], status[rows] == 1, margin))
    return {"cox": torch.stack(cox).mean(), "margin": torch.stack(ranking).mean()}


def info_nce_loss(
    first: torch.Tensor,
    second: torch.Tensor,
    paired: torch.Tensor,
    temperature: float | torch.Tensor,
    alike: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute symmetric InfoNCE over one pair of modalities, eq. (16).

    Args:
        first: (B, D) L2-normalised embeddings of the patients in one modality.
        second: (B, D) L2-normalised embeddings of the same patients in the other modality.
        paired: (B,) bool, True if a patient has both. The other patients are neither positives nor negatives.
        temperature: tau, by which the similarities are divided.
        alike: (B, B) bool, symmetric, True for two patients who are no negatives of each other. None for none.

    Returns:
        mean cross-entropy of both directions; 0 with fewer than two pairs.
    """
    if int(paired.sum()) < 2:
        return _zero(first) + _zero(second)
    first, second = _float(first)[paired], _float(second)[paired]
    scores = first @ second.T / temperature
    target = torch.arange(len(scores), device=scores.device)
    if alike is not None:
        negatives = target[:, None] != target
        scores = scores.masked_fill(alike[paired][:, paired] & negatives, -torch.inf)
    return (nn.functional.cross_entropy(scores, target) + nn.functional.cross_entropy(scores.T, target)) / 2
