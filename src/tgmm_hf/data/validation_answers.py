"""Where an answer lies among those of validation patients, and its calibrated probability.

`tgmm train` stores a short description of the validation patients' answers with the model, one for each diagnosis and
subset of modalities (`training/stored_thresholds.py`). A prediction is compared with it here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgmm_hf.utils.probabilities import scaled

VALIDATION_ANSWERS_KEY = "validation_answers"
"""Key of a task in the configuration: subset -> what `describe_answers` returns."""
FEWEST_PATIENTS = 20
"""Number of patients that a description needs, because a step of `QUANTILES` is one patient of 20."""
QUANTILES = tuple(step / 20 for step in range(21))
"""Only 21 quantiles are stored, so that the model does not publish the answers of single patients."""


def describe_answers(probability: NDArray, temperature: float | None) -> dict[str, Any] | None:
    """Describe the answers of validation patients; None with fewer than `FEWEST_PATIENTS` patients.

    Args:
        probability: of the last candidate, shape (n,).
        temperature: that calibrates the probabilities (`fit_temperature`); None if it could not be fitted.

    Returns:
        {"n", "quantiles": the `QUANTILES` of the probability, "temperature"}, JSON-able.
    """
    if len(probability) < FEWEST_PATIENTS:
        return None
    quantiles = [float(f"{value:.4g}") for value in np.quantile(probability, QUANTILES)]
    return {"n": len(probability), "quantiles": quantiles, "temperature": temperature}


def place_among(probability: float, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the probability of a patient with the answers of validation patients.

    Args:
        probability: of the last candidate.
        stored: what `describe_answers` returned.

    Returns:
        {"n": number of validation patients, "share_below": share of them with a lower probability, to 5 %,
        "calibrated": the probability after scaling, or None without a temperature}.
    """
    share = float(np.interp(probability, stored["quantiles"], QUANTILES))
    temperature = stored.get("temperature")
    calibrated = None if temperature is None else float(scaled(np.array([probability]), temperature)[0])
    return {"n": stored["n"], "share_below": round(20 * share) / 20, "calibrated": calibrated}
