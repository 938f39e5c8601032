"""The figures of a prognosis under one modality combination."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.evaluation.by_day import figures_by_day
from tgmm_hf.evaluation.metrics import Draws, UndefinedFigureError, estimate
from tgmm_hf.evaluation.survival import comparable_pairs, log_rank, resampled_c_index

FEWEST_TO_CUT = 10
"""Validation patients with follow-up below which their median score cuts no risk groups."""


@dataclass(frozen=True)
class RiskCut:
    """Score above which a patient belongs to the higher risk group, and whose score it is."""

    score: float
    chosen_on: str


def choose_risk_cut(validation: pd.DataFrame | None, baseline: dict[str, Any] | None) -> RiskCut | None:
    """Median score of the validation patients with follow-up; with too few of them, the mean score of the patients
    that the model's baseline hazards were fitted on; None if neither is known.

    Args:
        validation: risk and time of the validation patients under one combination.
        baseline: from the model's configuration.
    """
    if validation is not None and len(validation) >= FEWEST_TO_CUT:
        return RiskCut(float(validation["risk"].median()), f"median of the validation split, n = {len(validation)}")
    if baseline is not None:
        return RiskCut(float(baseline["risk_center"]), f"mean of {baseline['fitted_on']}, n = {baseline['n']}")
    return None


def prognosis_figures(
    rows: pd.DataFrame, draws: Draws, days: list[float], baseline: dict[str, Any] | None, cut: RiskCut | None
) -> dict[str, Any]:
    """Concordance, figures by day and risk groups of scored admissions with follow-up.

    Args:
        rows: risk, time, event. draws: from `bootstrap_draws`.
        days: the task's `report_days`.
        baseline: stored hazards of this combination, if there are any.
        cut: between the risk groups, never from these rows.
    """
    risk, time, event = (rows[name].to_numpy(np.float64) for name in ("risk", "time", "event"))
    entry: dict[str, Any] = {"events": int((event == 1).sum()), "deaths": int((event == 2).sum())}
    entry |= estimate(lambda drawn: resampled_c_index(risk, time, event, drawn), draws.by_outcome).entry("c_index")
    entry |= {"c_index_chance": 0.5, "comparable_pairs": int(comparable_pairs(time, event).sum())}
    entry |= figures_by_day(risk, time, event, draws, days, baseline)
    entry["risk_groups"] = None if cut is None else _risk_groups(risk, time, event, cut)
    return entry


def _risk_groups(risk: NDArray, time: NDArray, event: NDArray, cut: RiskCut) -> dict[str, Any]:
    high = risk > cut.score
    groups: dict[str, Any] = {"cut": cut.score, "chosen_on": cut.chosen_on}
    for name, members in (("higher", high), ("lower", ~high)):
        groups[name] = {
            "n": int(members.sum()),
            "events": int((event[members] == 1).sum()),
            "deaths": int((event[members] == 2).sum()),
        }
    try:
        statistic, p = log_rank(time, event, high)
    except UndefinedFigureError as error:
        return groups | {"log_rank_chi2": None, "log_rank_p": None, "log_rank_missing": str(error)}
    return groups | {"log_rank_chi2": statistic, "log_rank_p": p}
