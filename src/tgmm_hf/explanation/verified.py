"""Whether a method was measured for a model, and whether it passed.

`tgmm explain-check` writes `explanation_check.json`. A method passes on a modality if it beats random order, and if its
map changes when all weights are shuffled. A method that fails is not shown as an explanation of the modality.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tgmm_hf.explanation.attribution import Attribution
from tgmm_hf.utils.files import read_json

CHECK_FILE = "explanation_check.json"
"""Name of the summary of a check, in its output and beside a model."""
TRUE, FALSE, UNKNOWN = "verified: true", "verified: false", "verified: not measured"
"""Notes of an attribution: its method passed the check of this model; it failed; it was not measured."""
CHECKED = ("labs", "ecg", "echo", "xray", "ecg_time")
"""Modalities that the check measures. The other attributions are exact sums or attention."""


def stored_check(model: Any) -> dict[str, Any] | None:
    """Read the check that lies beside a model; None without one, or if the model was not loaded from a directory.

    A check of other weights does not count.
    """
    path = Path(str(getattr(model, "name_or_path", "") or "")) / CHECK_FILE
    if not path.is_file():
        return None
    check = read_json(path)
    weights = (getattr(model.config, "weights_fingerprint", None) or {}).get("id")
    return check if check["settings"].get("weights") == weights else None


def passed(check: Mapping[str, Any] | None, task: str, modality: str, method: str) -> bool | None:
    """Tell whether a method passed on a modality; None if it was not measured for this task."""
    if check is None or check["settings"]["task"] != task:
        return None
    entry = check["modalities"].get(modality, {}).get(method)
    return None if entry is None else bool(entry["beats_random"] and entry["depends_on_weights"])


def best_method(check: Mapping[str, Any] | None, task: str, modality: str) -> str | None:
    """Name the method with the largest deletion gain among those that passed; None if there is none."""
    methods = {} if check is None else check["modalities"].get(modality, {})
    proven = [name for name in methods if passed(check, task, modality, name)]
    return max(proven, key=lambda name: methods[name]["deletion_gain"]["mean"], default=None)


def marked(attribution: Attribution, check: Mapping[str, Any] | None) -> Attribution:
    """Add the note `TRUE`, `FALSE` or `UNKNOWN` to an attribution of a modality in `CHECKED`."""
    if attribution.modality not in CHECKED:
        return attribution
    proven = passed(check, attribution.task, attribution.modality, attribution.method)
    note = {True: TRUE, False: FALSE, None: UNKNOWN}[proven]
    return replace(attribution, notes=(*attribution.notes, note))


def is_shown(attribution: Attribution) -> bool:
    """Tell whether an attribution may be shown as an explanation: its method did not fail the check."""
    return FALSE not in attribution.notes
