"""Compare the cells of one lab row with each other: values that contradict each other, and patients below 18 years.

Each finding is {"code", "item", "text"}, as the checks of the ECG. The texts name columns and hold no values.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from .lab_cells import LabCell
from .lab_columns import COLUMN_POSITION
from .lab_findings import Finding, lab_finding
from .lab_table import COLUMNS

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
MCH_SHARE = 0.15
"""Largest share by which MCH (pg) may differ from 10 x haemoglobin (g/dL) / red cells (m/uL)."""
MCHC_SHARE = 0.2
"""Largest share by which MCHC (g/dL) may differ from 100 x haemoglobin (g/dL) / hematocrit (%)."""
EXCHANGED_FIT, EXCHANGED_GAIN = 0.05, 0.05
"""MCH and MCHC are exchanged if both fit within this share (sum of both differences) after an exchange back, and this
much better than before."""
ANION_GAP_OFF, USUAL_POTASSIUM = 6, 4.5
"""mEq/L by which the anion gap may lie outside of the two formulas, which count potassium or do not; and the potassium
where the row has none."""
COMPUTED_GAP, SODIUM_MINUS_CHLORIDE = (-8, 50), (10, 60)
"""mEq/L: widest ranges of Sodium - Chloride - Bicarbonate and of Sodium - Chloride. The 1,367 and 1,423 samples of the
open MIMIC-IV demo lie between -3 and 36, and between 14 and 53."""
PT_PER_INR = (6, 18)
"""Limits of PT (seconds) / INR. Reagents differ: at an INR of 1 a PT of 9.5 to 15 s is usual."""
NTPROBNP_PER_BNP = (0.8, 100)
"""Limits of NT-proBNP / BNP (both in pg/mL). About 3 to 10 is usual, and up to 50 in renal failure."""
LOW_BNP = 50
"""pg/mL. A lower BNP is not compared from above, because both values are near the limits of their assays."""
LDL_OFF, LDL_SHARE, FRIEDEWALD_LIMIT = 40, 0.25, 400
"""LDL may differ from Friedewald's total - HDL - triglycerides / 5 by the larger one of LDL_OFF mg/dL and LDL_SHARE of
the total cholesterol. The formula does not hold above FRIEDEWALD_LIMIT mg/dL of triglycerides."""

Values = Mapping[str, float]
"""Column -> value in the canonical unit."""


def cross_checks(cells: Sequence[LabCell]) -> list[Finding]:
    """List the contradictions between the cells of a row, and a patient who is no adult.

    Limits of an assay ("<0.01") and text do not take part.

    Args:
        cells: checked cells of one patient.

    Returns:
        Findings with a `code`: "labs_body_mass", "labs_height_weight", "labs_cholesterol", "labs_hematocrit",
        "labs_red_cells", "labs_anion_gap", "labs_clotting", "labs_natriuretic", "labs_creatine_kinase" or
        "patient_not_adult".
    """
    values = {cell.name: cell.number for cell in cells if cell.number is not None and not cell.is_limit}
    return [finding for check in _CHECKS if (finding := check(values)) is not None]


def _height_weight(values: Values) -> Finding | None:
    if not {"height", "weight"} <= set(values):
        return None
    height, weight = values["height"], values["weight"]
    if height >= 120 or weight < 120 or not height >= 35:  # usual ranges of the two columns
        return None
    return lab_finding(
        "labs_height_weight", "height", "height and weight look exchanged, because each fits the other column: correct"
    )


def _body_mass(values: Values) -> Finding | None:
    if not {"height", "weight", "BMI"} <= set(values) or values["height"] <= 0:
        return None
    computed = values["weight"] / (values["height"] / 100) ** 2
    if abs(values["BMI"] / computed - 1) <= BODY_MASS_SHARE:
        return None
    return lab_finding("labs_body_mass", "BMI", "BMI contradicts height and weight: look which of the three is wrong")


def _implied_body_mass(values: Values) -> Finding | None:
    """Compare weight / height squared with what adults have, in a row without BMI."""
    if not {"height", "weight"} <= set(values) or "BMI" in values or _height_weight(values) is not None:
        return None
    low, high = COLUMNS[COLUMN_POSITION["BMI"]].usual
    if low <= values["weight"] / (values["height"] / 100) ** 2 <= high:
        return None
    text = f"height and weight give a BMI outside of {low:g} to {high:g} kg/m2: look which of the two is wrong"
    return lab_finding("labs_body_mass", "weight", text)


def _cholesterol(values: Values) -> Finding | None:
    parts = ("Cholesterol, LDL, Calculated", "Cholesterol, HDL")
    total = values.get("Cholesterol, Total")
    larger = tuple(part for part in parts if total is not None and values.get(part, 0.0) > total)
    if not larger and total is not None and set(parts) <= set(values):
        larger = parts if sum(values[part] for part in parts) > total * (1 + CHOLESTEROL_SHARE) else ()
    if not larger:
        return None
    return lab_finding(
        "labs_cholesterol", larger[0], f"{' and '.join(larger)} above the total cholesterol: look at values and units"
    )


def _ldl(values: Values) -> Finding | None:
    total, high, low, fat = (
        values.get(name)
        for name in ("Cholesterol, Total", "Cholesterol, HDL", "Cholesterol, LDL, Calculated", "Triglycerides")
    )
    if total is None or high is None or low is None or fat is None or fat > FRIEDEWALD_LIMIT:
        return None
    if abs(total - high - fat / 5 - low) <= max(LDL_OFF, LDL_SHARE * total):
        return None
    return lab_finding(
        "labs_cholesterol",
        "Cholesterol, LDL, Calculated",
        "LDL contradicts total cholesterol, HDL and triglycerides: look which of the four is wrong",
    )


def _hematocrit(values: Values) -> Finding | None:
    if not {"Hemoglobin", "Hematocrit"} <= set(values) or values["Hemoglobin"] <= 0:
        return None
    low, high = HEMATOCRIT_PER_HEMOGLOBIN
    if low <= values["Hematocrit"] / values["Hemoglobin"] <= high:
        return None
    return lab_finding(
        "labs_hematocrit", "Hemoglobin", "Hemoglobin and Hematocrit do not fit each other: look at values and units"
    )


def _mcv(values: Values) -> Finding | None:
    return _red_cells(values, "MCV", ("Hematocrit", "Red Blood Cells"), 10, MCV_SHARE)


def _mch(values: Values) -> Finding | None:
    return _red_cells(values, "MCH", ("Hemoglobin", "Red Blood Cells"), 10, MCH_SHARE)


def _mchc(values: Values) -> Finding | None:
    return _red_cells(values, "MCHC", ("Hemoglobin", "Hematocrit"), 100, MCHC_SHARE)


def _exchanged_indices(values: Values) -> Finding | None:
    """Find MCH and MCHC in each other's column. Both are numbers around 30, so neither range shows it."""
    needed = ("MCH", "MCHC", "Hemoglobin", "Red Blood Cells", "Hematocrit")
    if not set(needed) <= set(values) or min(values[name] for name in needed) <= 0:
        return None
    mch = 10 * values["Hemoglobin"] / values["Red Blood Cells"]
    mchc = 100 * values["Hemoglobin"] / values["Hematocrit"]
    misfit, exchanged = (
        abs(math.log(in_mch / mch)) + abs(math.log(in_mchc / mchc))
        for in_mch, in_mchc in ((values["MCH"], values["MCHC"]), (values["MCHC"], values["MCH"]))
    )
    if exchanged > EXCHANGED_FIT or misfit - exchanged < EXCHANGED_GAIN:
        return None
    return lab_finding(
        "labs_red_cells", "MCH", "MCH and MCHC look exchanged, because each fits the other column: correct"
    )


def _red_cells(values: Values, index: str, parts: tuple[str, str], factor: float, share: float) -> Finding | None:
    """Compare a red cell index with `factor` x the first part / the second part; `share` is the largest difference."""
    if not {index, *parts} <= set(values) or values[index] <= 0 or values[parts[1]] <= 0:
        return None
    if abs(factor * values[parts[0]] / values[parts[1]] / values[index] - 1) <= share:
        return None
    return lab_finding(
        "labs_red_cells", index, f"{index} contradicts {' and '.join(parts)}: look which of the three is wrong"
    )


def _anion_gap(values: Values) -> Finding | None:
    if "Anion Gap" not in values:
        return _electrolytes(values)
    if not {"Sodium", "Chloride", "Bicarbonate"} <= set(values):
        return None
    without_potassium = values["Sodium"] - values["Chloride"] - values["Bicarbonate"]
    with_potassium = without_potassium + values.get("Potassium", USUAL_POTASSIUM)
    if without_potassium - ANION_GAP_OFF <= values["Anion Gap"] <= with_potassium + ANION_GAP_OFF:
        return None
    return lab_finding(
        "labs_anion_gap",
        "Anion Gap",
        "Anion Gap contradicts Sodium, Chloride and Bicarbonate: look which of the four is wrong",
    )


def _electrolytes(values: Values) -> Finding | None:
    """Find electrolytes that no patient has together, such as sodium and chloride exchanged."""
    if not {"Sodium", "Chloride"} <= set(values):
        return None
    difference = values["Sodium"] - values["Chloride"]
    names = "Sodium and Chloride"
    fits = SODIUM_MINUS_CHLORIDE[0] <= difference <= SODIUM_MINUS_CHLORIDE[1]
    if fits and "Bicarbonate" in values:
        names = "Sodium, Chloride and Bicarbonate"
        fits = COMPUTED_GAP[0] <= difference - values["Bicarbonate"] <= COMPUTED_GAP[1]
    if fits:
        return None
    return lab_finding(
        "labs_anion_gap", "Sodium", f"{names} do not go together: look which of them is wrong or exchanged"
    )


def _clotting(values: Values) -> Finding | None:
    low, high = PT_PER_INR
    if not {"PT", "INR(PT)"} <= set(values) or low <= values["PT"] / values["INR(PT)"] <= high:
        return None
    return lab_finding("labs_clotting", "INR(PT)", "PT and INR do not fit each other: look which of the two is wrong")


def _natriuretic(values: Values) -> Finding | None:
    if not {"BNP", "NTproBNP"} <= set(values):
        return None
    low, high = NTPROBNP_PER_BNP
    bnp, ntprobnp = values["BNP"], values["NTproBNP"]
    if (bnp <= LOW_BNP or ntprobnp >= low * bnp) and ntprobnp <= high * max(bnp, 1.0):
        return None
    return lab_finding(
        "labs_natriuretic", "NTproBNP", "BNP and NTproBNP do not fit each other: look which of the two is wrong"
    )


def _creatine_kinase(values: Values) -> Finding | None:
    part, whole = "Creatine Kinase, MB Isoenzyme", "Creatine Kinase (CK)"
    if not {part, whole} <= set(values) or values[part] <= max(values[whole], 1.0):
        return None
    return lab_finding(
        "labs_creatine_kinase", part, "CK-MB (ng/mL) is above the whole CK (IU/L): look at values and units"
    )


def _adult(values: Values) -> Finding | None:
    if values.get("age", ADULT_YEARS) >= ADULT_YEARS:
        return None
    return lab_finding(
        "patient_not_adult",
        "age",
        f"the patient is younger than {ADULT_YEARS} years, but the model and the reference ranges are for adults",
    )


_CHECKS: tuple[Callable[[Values], Finding | None], ...] = (
    _adult,
    _height_weight,
    _body_mass,
    _implied_body_mass,
    _cholesterol,
    _ldl,
    _hematocrit,
    _mcv,
    _mch,
    _mchc,
    _exchanged_indices,
    _anion_gap,
    _clotting,
    _natriuretic,
    _creatine_kinase,
)
