"""The findings of one patient in words: probabilities by name, calibrated ones, and decisions (decision 210)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..configuration_measured_tasks import CALIBRATION_KEY


def describe_findings(
    name: str, task: Mapping[str, Any], probabilities: Sequence[float], subset: str, is_fitting: bool
) -> tuple[dict[str, Any], list[str]]:
    """Describe the findings of one patient.

    Args:
        name: name of the task, for notes.
        task: settings of the task.
        probabilities: of the findings, in the order of the task. They do not add up to 1.
        subset: modalities that the patient has, such as "labs+ecg".
        is_fitting: False if thresholds and temperatures were fitted for other weights, so that none is used.

    Returns:
        {"findings": {finding: probability}}, and if the model stores a calibration "calibrated": {finding:
        probability} and "decisions": {finding: {"present", "threshold"}}, of the findings that have one; and notes.
    """
    by_name = dict(zip(task["findings"], probabilities, strict=True))
    answer: dict[str, Any] = {"findings": by_name}
    stored = task.get(CALIBRATION_KEY)
    if not stored:
        return answer, []
    if not is_fitting:
        return answer, [
            f"{name}: the thresholds of the findings were chosen for other weights, so there is no decision"
        ]
    of_subset: Mapping[str, Any] = stored["subsets"].get(subset, {})
    missing = [finding for finding in by_name if finding not in of_subset]
    notes = []
    if missing:
        notes.append(f"{name}: too few validation patients with {subset} for a decision on {', '.join(missing)}")
    answer["decisions"] = {
        finding: {"present": by_name[finding] >= of_subset[finding]["threshold"],
                  "threshold": of_subset[finding]["threshold"]}
        for finding in by_name if finding in of_subset
    }  # fmt: skip
    temperatures = {finding: entry["temperature"] for finding, entry in of_subset.items() if finding in by_name}
    answer["calibrated"] = {
        finding: _divided(by_name[finding], temperature)
        for finding, temperature in temperatures.items()
        if temperature is not None
    }
    return answer, notes


def _divided(probability: float, temperature: float) -> float:
    """Divide the log-odds of a probability by a temperature."""
    if probability in (0.0, 1.0):
        return probability
    return 1 / (1 + math.exp(-(math.log(probability) - math.log1p(-probability)) / temperature))


__all__ = ["describe_findings"]
