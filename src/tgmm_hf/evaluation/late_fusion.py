"""Late fusion: the mean of single modalities' answers, over the modalities that an admission has."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from tgmm_hf.evaluation.headline_figures import KNOWN_IF
from tgmm_hf.evaluation.metrics import UndefinedFigureError

Scored = dict[str, pd.DataFrame]
""" "validation" and "test" -> outcomes with scores."""

SMALLEST = float(np.finfo(np.float32).eps)
"""Distance that probabilities keep from 0 and 1, because their log odds are infinite. The probabilities of a model are
float32."""


def fuse(
    kind: str, answers: Mapping[str, pd.DataFrame], outcomes: Mapping[str, pd.DataFrame]
) -> tuple[dict[str, Any], Scored]:
    """Fuse the answers of single modalities: the mean of their log odds, or of their log risks.

    Log risks have no common scale. Therefore each modality is standardised by its mean and standard deviation over the
    validation admissions with a known outcome.

    Args:
        kind: "diagnosis" or "prognosis".
        answers: "validation" and "test" -> probabilities, or log risks. One row per admission (index: id), one column
            per modality, NaN where absent.
        outcomes: Split -> id, patient_id and label, or id, patient_id, time and event.

    Returns:
        The modalities that were fused (`of`), and the scored admissions with a known outcome and any answer.

    Raises:
        UndefinedFigureError: If fewer than two modalities have answers, or a modality cannot be standardised.
    """
    rows, tables = {}, {}
    for split, answer in answers.items():
        with_answer = answer.index[answer.notna().any(axis=1)]
        table = outcomes[split]
        table = table[table[KNOWN_IF[kind]].notna() & table["id"].isin(with_answer)]
        rows[split], tables[split] = table.reset_index(drop=True), answer.reindex(table["id"])
    modalities = [modality for modality, answer in tables["test"].items() if answer.notna().any()]
    if len(modalities) < 2:
        names = ", ".join(map(str, modalities)) or "none"
        raise UndefinedFigureError(f"answers of fewer than two modalities ({names})")
    if kind == "prognosis":
        mean, deviation = tables["validation"][modalities].mean(), tables["validation"][modalities].std()
        if flat := [str(modality) for modality in modalities if not deviation[modality] > 0]:
            raise UndefinedFigureError(f"no two different validation risks of {', '.join(flat)} to standardise by")
        tables = {split: (table[modalities] - mean) / deviation for split, table in tables.items()}
    else:
        tables = {split: logit(table[modalities].clip(SMALLEST, 1 - SMALLEST)) for split, table in tables.items()}
    means = {split: table.mean(axis=1).to_numpy() for split, table in tables.items()}
    scores = {split: expit(mean) if kind == "diagnosis" else mean for split, mean in means.items()}
    return {"of": modalities}, {split: with_scores(kind, scores[split], rows[split]) for split in rows}


def with_scores(kind: str, scores: NDArray, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that the figures are computed from.

    Args:
        kind: "diagnosis" or "prognosis".
        scores: Probabilities or risks, shape (n,).
        outcomes: One row per admission.
    """
    if kind == "prognosis":
        return outcomes.assign(risk=scores)
    return outcomes.assign(probability=scores, predicted=(scores > 0.5).astype(int), positive=outcomes["label"])
