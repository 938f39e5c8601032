"""What all modalities together add to each smaller subset, paired on the same patients."""

from typing import Any

import numpy as np
import pandas as pd

from tgmm_hf.evaluation.comparisons import delong_test, holm, mcnemar_test
from tgmm_hf.evaluation.headline_figures import (
    HEADLINE,
    LOWER_IS_BETTER,
    SCORE,
    difference,
    headline_counts,
    headline_figure,
)
from tgmm_hf.evaluation.metrics import Bootstrap, UndefinedFigureError, estimate
from tgmm_hf.utils.names import SUBSET_NAMES


def compare_subsets(table: pd.DataFrame, kind: str, whole: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compare the largest subset with every smaller subset, on the admissions that have all its modalities.

    Args:
        table: Predictions of one task with a known outcome, under every subset.
        kind: A key of `HEADLINE`.
        whole: Name of the largest subset that any patient was scored under.
        bootstrap: Seed and number of resamples.

    Returns:
        "<whole> - <subset>" -> the difference of the headline figures (whole minus subset) with its interval, and for a
        diagnosis the tests. "best_single" and "best_pair" -> name of the subset of one or two modalities with the best
        headline figure, None if a difference is undefined.
    """
    headline, column = HEADLINE[kind], SCORE[kind]
    full = table[table["subset"] == whole].sort_values("row")
    counts = headline_counts(full, kind, bootstrap)
    smaller = [subset for subset in SUBSET_NAMES if set(subset.split("+")) < set(whole.split("+"))]
    entries: dict[str, dict[str, Any]] = {}
    for subset in smaller:
        rows = table[table["subset"] == subset].set_index("row").reindex(full["row"])
        paired = full.assign(smaller=rows[column].to_numpy(), smaller_predicted=rows["predicted"].to_numpy())
        gain = difference(headline_figure(paired, column, kind), headline_figure(paired, "smaller", kind))
        entries[subset] = {"n": len(full)} | estimate(gain, counts).entry(f"{headline}_difference")
        if kind == "diagnosis":
            entries[subset] |= _tests(paired)
    if kind == "diagnosis":
        for test in ("delong_p", "mcnemar_p"):
            for entry, adjusted in zip(entries.values(), holm([e[test] for e in entries.values()]), strict=True):
                entry[f"{test}_holm"] = adjusted
    result: dict[str, Any] = {f"{whole} - {subset}": entry for subset, entry in entries.items()}
    for name, size in (("best_single", 1), ("best_pair", 2)):
        gains = {s: e[f"{headline}_difference"] for s, e in entries.items() if len(s.split("+")) == size}
        is_defined = gains and None not in gains.values()
        nearest = max if headline in LOWER_IS_BETTER else min
        result[name] = nearest(gains, key=lambda subset: gains[subset]) if is_defined else None
    return result


def _tests(paired: pd.DataFrame) -> dict[str, Any]:
    """Test the difference of two AUCs by DeLong, and of two accuracies by McNemar.

    Args:
        paired: One row per admission, with probability and predicted of the largest subset, smaller and
            smaller_predicted of the other, label, positive and patient_id.

    Returns:
        "delong_z", "delong_p", "mcnemar_n" (number of patients), "mcnemar_gained" and "mcnemar_lost" (patients on whom
        only the largest or only the smaller subset is right), "mcnemar_p". If a test cannot be made, its p is None with
        a reason (suffix _missing).
    """
    entry: dict[str, Any] = {"delong_z": None, "delong_p": None}
    first, second, positive = (paired[name].to_numpy(np.float64) for name in ("probability", "smaller", "positive"))
    try:
        delong = delong_test(first, second, positive, paired["patient_id"])
        entry |= {"delong_z": delong.statistic, "delong_p": delong.p}
    except UndefinedFigureError as error:
        entry["delong_missing"] = str(error)
    if paired.empty:
        return entry | {"mcnemar_p": None, "mcnemar_missing": "no rows"}
    firsts = paired.drop_duplicates("patient_id")
    right, smaller_right = ((firsts[name] == firsts["label"]).to_numpy() for name in ("predicted", "smaller_predicted"))
    gained, lost, p = mcnemar_test(right, smaller_right)
    return entry | {"mcnemar_n": len(firsts), "mcnemar_gained": gained, "mcnemar_lost": lost, "mcnemar_p": p}
