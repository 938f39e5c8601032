"""Compare the cells of one lab row with each other: values that contradict each other, and patients below 18 years.

Each finding is {"code", "item", "text"}, as the checks of the ECG. The texts name columns and hold no values.
"""

from collections.abc import Callable, Mapping, Sequence

from .lab_cells import LabCell

ADULT_YEARS = 18
"""Age from which the model and the reference ranges hold."""
BODY_MASS_SHARE = 0.15
"""Largest share by which BMI may differ from weight / height squared. Height and weight may come from other days."""
HEMATOCRIT_PER_HEMOGLOBIN = (2.2, 4.2)
"""Limits of hematocrit (%) / haemoglobin (g/dL). An MCHC of 24 to 45 g/dL gives them; about 3 is normal."""
MCV_SHARE = 0.2
"""Largest share by which MCV (fL) may differ from 10 x hematocrit (%) / red cells (m/uL)."""

CHOLESTEROL_SHARE = 0.05
"""Largest share by which LDL + HDL may exceed the total cholesterol. The three may be measured by several methods."""

Finding = dict[str, str]
Values = Mapping[str, float]
"""Column -> value in the canonical unit."""


def cross_checks(cells: Sequence[LabCell]) -> list[Finding]:
    """List the contradictions between the cells of a row, and a patient who is no adult.

    Limits of an assay ("<0.01") and text do not take part.

    Args:
        cells: checked cells of one patient.

    Returns:
        Findings with a `code`: "labs_body_mass", "labs_height_weight", "labs_cholesterol", "labs_hematocrit",
        "labs_red_cells" or "patient_not_adult".
    """
    values = {cell.name: cell.number for cell in cells if cell.number is not None and not cell.is_limit}
    return [finding for check in _CHECKS if (finding := check(values)) is not None]


def _height_weight(values: Values) -> Finding | None:
    if not {"height", "weight"} <= set(values):
        return None
    height, weight = values["height"], values["weight"]
    if height >= 120 or weight < 120 or not height >= 35:  # usual ranges of the two columns
        return None
    return _finding(
        "labs_height_weight", "height", "height and weight look exchanged, because each fits the other column: correct"
    )


def _body_mass(values: Values) -> Finding | None:
    if not {"height", "weight", "BMI"} <= set(values) or values["height"] <= 0:
        return None
    computed = values["weight"] / (values["height"] / 100) ** 2
    if abs(values["BMI"] / computed - 1) <= BODY_MASS_SHARE:
        return None
    return _finding("labs_body_mass", "BMI", "BMI contradicts height and weight: look which of the three is wrong")


def _cholesterol(values: Values) -> Finding | None:
    parts = ("Cholesterol, LDL, Calculated", "Cholesterol, HDL")
    total = values.get("Cholesterol, Total")
    larger = tuple(part for part in parts if total is not None and values.get(part, 0.0) > total)
    if not larger and total is not None and set(parts) <= set(values):
        larger = parts if sum(values[part] for part in parts) > total * (1 + CHOLESTEROL_SHARE) else ()
    if not larger:
        return None
    return _finding(
        "labs_cholesterol", larger[0], f"{' and '.join(larger)} above the total cholesterol: look at values and units"
    )


def _hematocrit(values: Values) -> Finding | None:
    if not {"Hemoglobin", "Hematocrit"} <= set(values) or values["Hemoglobin"] <= 0:
        return None
    low, high = HEMATOCRIT_PER_HEMOGLOBIN
    if low <= values["Hematocrit"] / values["Hemoglobin"] <= high:
        return None
    return _finding(
        "labs_hematocrit", "Hemoglobin", "Hemoglobin and Hematocrit do not fit each other: look at values and units"
    )


def _red_cells(values: Values) -> Finding | None:
    if not {"Hematocrit", "Red Blood Cells", "MCV"} <= set(values) or values["MCV"] <= 0:
        return None
    computed = 10 * values["Hematocrit"] / values["Red Blood Cells"]
    if abs(computed / values["MCV"] - 1) <= MCV_SHARE:
        return None
    return _finding(
        "labs_red_cells", "MCV", "MCV contradicts Hematocrit and Red Blood Cells: look which of the three is wrong"
    )


def _adult(values: Values) -> Finding | None:
    if values.get("age", ADULT_YEARS) >= ADULT_YEARS:
        return None
    return _finding(
        "patient_not_adult",
        "age",
        f"the patient is younger than {ADULT_YEARS} years, but the model and the reference ranges are for adults",
    )


def _finding(code: str, column: str, text: str) -> Finding:
    return {"code": code, "item": f"labs.{column}", "text": text}


_CHECKS: tuple[Callable[[Values], Finding | None], ...] = (
    _adult,
    _height_weight,
    _body_mass,
    _cholesterol,
    _hematocrit,
    _red_cells,
)
