"""The figures of a prognosis under one modality subset."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tgmm_hf.evaluation.by_day import FollowUp, figures_by_day
from tgmm_hf.evaluation.metrics import Draws, UndefinedFigureError, estimate
from tgmm_hf.evaluation.survival import comparable_pairs, resampled_c_index
from tgmm_hf.evaluation.survival_curves import log_rank

FEWEST_TO_CUT = 10
"""Number of validation patients with follow-up that is needed, so that their median score divides the risk groups."""


@dataclass(frozen=True)
class RiskCut:
    """The score that divides the risk groups, and the patients that it was chosen on.

    Attributes:
        score: Patients above it belong to the higher risk group.
        chosen_on: The patients that it was chosen on, in words.
    """

    score: float
    chosen_on: str


def choose_risk_cut(validation: pd.DataFrame | None, hazards: dict[str, Any] | None) -> RiskCut | None:
    """Choose the score that divides the higher from the lower risk group.

    It is the median score of the validation patients with follow-up. If there are fewer than `FEWEST_TO_CUT`, it is the
    mean score of the patients that the model's baseline hazards were fitted on.

    Args:
        validation: Validation patients under one subset, with the columns risk and time.
        hazards: Baseline hazards from the model's configuration.

    Returns:
        None if neither is available.
    """
    if validation is not None and len(validation) >= FEWEST_TO_CUT:
        return RiskCut(float(validation["risk"].median()), f"median of the validation split, n = {len(validation)}")
    if hazards is not None:
        return RiskCut(float(hazards["risk_center"]), f"mean of {hazards['fitted_on']}, n = {hazards['n']}")
    return None


def prognosis_figures(
    rows: pd.DataFrame, draws: Draws, days: list[float], hazards: dict[str, Any] | None, cut: RiskCut | None
) -> dict[str, Any]:
    """Compute concordance, figures by day and risk groups of scored admissions with follow-up.

    Args:
        rows: Admissions with the columns risk, time (days) and event.
        draws: Resamples from `bootstrap_draws`.
        days: The task's `report_days`.
        hazards: The model's baseline hazards of this subset. None if it stores none.
        cut: Score that divides the risk groups. It must not be chosen on these rows.
    """
    risk, time, event = (rows[name].to_numpy(np.float64) for name in ("risk", "time", "event"))
    entry: dict[str, Any] = {"events": int((event == 1).sum()), "deaths": int((event == 2).sum())}
    entry |= estimate(lambda drawn: resampled_c_index(risk, time, event, drawn), draws.by_outcome).entry("c_index")
    entry |= {"c_index_chance": 0.5, "comparable_pairs": int(comparable_pairs(time, event).sum())}
    entry |= figures_by_day(FollowUp(risk, time, event), draws, days, hazards)
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
