"""Labs: evidence -> lab row of one admission. Rounding, units and the neutral cells carry no evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tgmm_hf.cohorts.synthetic.evidence import CELL_RATE, CENTRE, DRUGS, HISTORY, PARAMETERS, WORDS, Evidence, sigmoid
from tgmm_hf.inputs.lab_columns import find_column, unit_factor


@dataclass(frozen=True)
class LabItem:
    """A laboratory item of MIMIC.

    Attributes:
        itemid: Number of the item in d_labitems.
        label: Name of the item, which is also the laboratory column.
        unit: Usual unit.
        low: Lower end of the reference range.
        high: Upper end of the reference range.
        category: Category in d_labitems.
        digits: Number of decimals that the laboratory reports.
    """

    itemid: int
    label: str
    unit: str
    low: float
    high: float
    category: str
    digits: int


LAB_ITEMS = {
    item.label: item
    for item in (
        LabItem(50868, "Anion Gap", "mEq/L", 8, 20, "Chemistry", 0),
        LabItem(50882, "Bicarbonate", "mEq/L", 22, 32, "Chemistry", 0),
        LabItem(50893, "Calcium, Total", "mg/dL", 8.4, 10.3, "Chemistry", 1),
        LabItem(50902, "Chloride", "mEq/L", 96, 108, "Chemistry", 0),
        LabItem(50912, "Creatinine", "mg/dL", 0.5, 1.2, "Chemistry", 1),
        LabItem(50931, "Glucose", "mg/dL", 70, 105, "Chemistry", 0),
        LabItem(50960, "Magnesium", "mg/dL", 1.6, 2.6, "Chemistry", 1),
        LabItem(50963, "NTproBNP", "pg/mL", 0, 450, "Chemistry", 0),
        LabItem(50970, "Phosphate", "mg/dL", 2.7, 4.5, "Chemistry", 1),
        LabItem(50971, "Potassium", "mEq/L", 3.3, 5.1, "Chemistry", 1),
        LabItem(50983, "Sodium", "mEq/L", 133, 145, "Chemistry", 0),
        LabItem(51003, "Troponin T", "ng/mL", 0, 0.01, "Chemistry", 2),
        LabItem(51006, "Urea Nitrogen", "mg/dL", 6, 20, "Chemistry", 0),
        LabItem(51222, "Hemoglobin", "g/dL", 12, 16, "Hematology", 1),
        LabItem(51237, "INR(PT)", "", 0.9, 1.1, "Hematology", 1),
        LabItem(51265, "Platelet Count", "K/uL", 150, 440, "Hematology", 0),
        LabItem(51277, "RDW", "%", 10.5, 15.5, "Hematology", 1),
        LabItem(51301, "White Blood Cells", "K/uL", 4, 11, "Hematology", 1),
    )
}

SI_DIGITS = {
    "NTproBNP": ("ng/L", 0),
    "Creatinine": ("umol/L", 0),
    "Urea Nitrogen": ("mmol/L", 1),
    "Glucose": ("mmol/L", 1),
    "Calcium, Total": ("mmol/L", 2),
    "Magnesium": ("mmol/L", 2),
    "Phosphate": ("mmol/L", 2),
    "Hemoglobin": ("g/L", 0),
    "Troponin T": ("ng/L", 0),
    "Platelet Count": ("10^9/L", 0),
    "White Blood Cells": ("10^9/L", 1),
    **{name: ("mmol/L", LAB_ITEMS[name].digits) for name in ("Anion Gap", "Bicarbonate", "Chloride", "Potassium")},
    "Sodium": ("mmol/L", 0),
}
"""Column -> its unit in a laboratory that reports in SI units, and the decimals there. Others stay as they are."""


@dataclass(frozen=True)
class Reporting:
    """How a laboratory reports a number.

    Attributes:
        unit: Unit.
        digits: Number of decimals.
        factor: A number in the canonical unit, divided by the factor, is the number in `unit`.
    """

    unit: str
    digits: int
    factor: float

    def reported(self, value: float) -> float:
        """Convert a number from the canonical unit, with the laboratory's decimals. Without conversion, as it is."""
        return value if self.factor == 1 else round(value / self.factor, self.digits)


def reporting(item: LabItem, units: str) -> Reporting:
    """Return how a laboratory with these units, "US" or "SI", reports an item."""
    column = find_column(item.label)
    if units == "US" or column is None or item.label not in SI_DIGITS:
        return Reporting(item.unit, item.digits, 1.0)
    unit, digits = SI_DIGITS[item.label]
    factor = unit_factor(column, unit)
    assert factor is not None, (item.label, unit)  # the units above are in the package's table of columns
    return Reporting(unit, digits, factor)


PHYSICAL: dict[str, Callable[[float], float]] = {
    "NTproBNP": lambda v: float(np.exp(6.6 + 0.55 * (v - CENTRE))),
    "Creatinine": lambda v: float(np.exp(0.15 + 0.13 * (v - CENTRE))),
    "Urea Nitrogen": lambda v: float(np.exp(3.0 + 0.16 * (v - CENTRE))),
    "Sodium": lambda v: 138.5 - 1.3 * (v - CENTRE),
    "RDW": lambda v: float(np.exp(2.67 + 0.04 * (v - CENTRE))),
    "Hemoglobin": lambda v: 12.4 - 0.55 * (v - CENTRE),
    "Troponin T": lambda v: float(np.exp(-3.2 + 0.4 * (v - CENTRE))),
    "age": lambda v: 20 + 70 * float(sigmoid(0.9 + 0.32 * (v - CENTRE))),
}
"""Column -> function from axis units to the unit of the cell, one-to-one. The cells are then rounded."""

NEUTRAL = {
    "Anion Gap": (14, 2.5, 0.97),
    "Bicarbonate": (25, 3, 0.98),
    "Calcium, Total": (9.1, 0.6, 0.93),
    "Chloride": (102, 4, 0.98),
    "Glucose": (118, 28, 0.97),
    "Magnesium": (2.0, 0.25, 0.93),
    "Phosphate": (3.5, 0.7, 0.92),
    "Potassium": (4.2, 0.5, 0.98),
    "INR(PT)": (1.2, 0.2, 0.85),
    "Platelet Count": (225, 65, 0.97),
    "White Blood Cells": (8.2, 2.5, 0.97),
}
"""Cells that do not depend on the state: mean, standard deviation, share of patients who have the cell. A chloride
beside sodium and an anion gap is computed (`balanced_chloride`)."""

NEUTRAL_WORDS = {
    HISTORY: (
        ("Gastro-esophageal reflux disease without esophagitis", "K219"),
        ("Hypothyroidism, unspecified", "E039"),
        ("Unspecified asthma, uncomplicated", "J45909"),
        ("Unspecified osteoarthritis, unspecified site", "M1990"),
        ("Hyperlipidemia, unspecified", "E785"),
    ),
    DRUGS: (
        ("Acetaminophen", ""),
        ("Omeprazole", ""),
        ("Docusate Sodium", ""),
        ("Levothyroxine Sodium", ""),
        ("Multivitamins", ""),
    ),
}
NEUTRAL_WORD_RATE = 0.3
SEPARATOR = "; "

RACES = ("WHITE", "BLACK/AFRICAN AMERICAN", "HISPANIC/LATINO - PUERTO RICAN", "ASIAN - CHINESE", "OTHER")
RACE_RATES = (0.66, 0.16, 0.07, 0.06, 0.05)


@dataclass(frozen=True)
class LabsRow:
    """Lab row of one admission, for the `labs.*` columns of the cohort table and for the hospital tables.

    Attributes:
        numbers: Laboratory column -> rounded number, for the cells that are present.
        age: Years.
        gender: "F" or "M".
        race: One of `RACES`.
        height: Centimetres, None if missing.
        weight: Kilograms, None if missing.
        history: (diagnosis, ICD-10 code) of the medical history, None if the cell is missing.
        drugs: Names of the drug history, None if the cell is missing.
        units: Units of the numbers, "US" (canonical) or "SI".
    """

    numbers: dict[str, float]  # laboratory cells, rounded
    age: int
    gender: str
    race: str
    height: float | None  # cm
    weight: float | None  # kg
    history: list[tuple[str, str]] | None  # (long title, ICD-10 code)
    drugs: list[str] | None
    units: str = "US"

    def in_units(self, units: str) -> "LabsRow":
        """Return the row of canonical numbers as a laboratory with these units, "US" or "SI", reports it."""
        numbers = {name: reporting(LAB_ITEMS[name], units).reported(value) for name, value in self.numbers.items()}
        return replace(self, numbers=numbers, units=units)

    def unit_cells(self) -> dict[str, str | None]:
        """Return laboratory column -> unit of its number, as the cohort table holds them. None without a number."""
        units = {name: reporting(item, self.units).unit for name, item in LAB_ITEMS.items()}
        return {name: unit if name in self.numbers else None for name, unit in units.items() if unit}

    def cells(self) -> dict[str, float | str | None]:
        """Return laboratory column -> value, as the cohort table holds them. A missing cell is None."""
        bmi = None
        if self.height is not None and self.weight is not None:
            bmi = round(self.weight / (self.height / 100) ** 2, 1)
        return {
            "age": self.age,
            "gender": self.gender,
            "ethnicity": self.race,
            "BMI": bmi,
            "height": self.height,
            "weight": self.weight,
            **{label: self.numbers.get(label) for label in LAB_ITEMS},
            HISTORY: None if self.history is None else SEPARATOR.join(title for title, _ in self.history),
            DRUGS: None if self.drugs is None else SEPARATOR.join(self.drugs),
        }


def render_labs(table: Evidence, rng: np.random.Generator, shares: Mapping[str, float] | None = None) -> LabsRow:
    """Render the lab row of one patient, in canonical units.

    `table` is the evidence of the patient, one row. `rng` draws what is no evidence: neutral cells, body size, sex,
    race. `shares` says of how many patients a neutral cell is ordered, where that is not usual.
    """
    gender = "F" if rng.random() < 0.46 else "M"
    height = round(float(rng.normal(162 if gender == "F" else 176, 7)), 0)
    weight = round(float(np.clip(rng.normal(27.5, 4.5), 17, 48)) * (height / 100) ** 2, 1)
    has_body_size = rng.random() < 0.92
    numbers = neutral_numbers(rng, shares or {})
    parameters = table.parameters_of("labs")
    for name, value in parameters.items():
        if name != "age":
            numbers[name] = rounded(PHYSICAL[name](value), LAB_ITEMS[name].digits)
    if {"Chloride", "Sodium", "Bicarbonate", "Anion Gap"} <= set(numbers):
        numbers["Chloride"] = balanced_chloride(numbers)
    return LabsRow(
        numbers=numbers,
        age=round(PHYSICAL["age"](parameters["age"])),
        gender=gender,
        race=str(rng.choice(RACES, p=RACE_RATES)),
        height=height if has_body_size else None,
        weight=weight if has_body_size else None,
        history=words_of(table, rng, HISTORY),
        drugs=None if (drugs := words_of(table, rng, DRUGS)) is None else [name for name, _ in drugs],
    )


def rounded(value: float, digits: int) -> float:
    """Round to `digits` decimals. The result is at least 1 in the last decimal, because laboratories report no zero."""
    return max(round(value, digits), 10.0**-digits)


def neutral_numbers(rng: np.random.Generator, shares: Mapping[str, float]) -> dict[str, float]:
    """Draw the cells of `NEUTRAL`, which carry no evidence: column -> rounded value, for the cells that are present.

    `shares` replaces the share of patients who have a cell.
    """
    draws = {
        name: (rng.normal(mean, spread), rng.random() < shares.get(name, rate))
        for name, (mean, spread, rate) in NEUTRAL.items()
    }
    return {name: rounded(value, LAB_ITEMS[name].digits) for name, (value, present) in draws.items() if present}


def balanced_chloride(numbers: dict[str, float]) -> float:
    """Return the chloride (mEq/L) that balances the charges: sodium + potassium - bicarbonate - anion gap.

    Without it the four cells of a patient would contradict each other, and the package would name them
    (`labs_anion_gap`). It is computed from the rounded cells, so it tells no more about the patient than they do.
    """
    potassium = numbers.get("Potassium", NEUTRAL["Potassium"][0])
    return rounded(numbers["Sodium"] + potassium - numbers["Bicarbonate"] - numbers["Anion Gap"], 0)


def words_of(table: Evidence, rng: np.random.Generator, cell: str) -> list[tuple[str, str]] | None:
    """List the words of a text cell of one patient in random order, with at least one neutral word.

    Args:
        table: Evidence of the patient, one row.
        rng: Source of neutral words and order.
        cell: `HISTORY` or `DRUGS`.

    Returns:
        (text, ICD-10 code or ""), or None if the patient has not the cell.
    """
    neutral = NEUTRAL_WORDS[cell]
    drawn = rng.random(len(neutral)) < NEUTRAL_WORD_RATE
    drawn[rng.integers(len(neutral))] = True  # a cell that is present is never empty
    words = [(w.text, w.icd10) for k, w in enumerate(WORDS) if w.cell == cell and table.words[0, k]] + [
        word for word, is_drawn in zip(neutral, drawn, strict=True) if is_drawn
    ]
    order = rng.permutation(len(words))
    if not table.cells[0, list(CELL_RATE).index(cell)]:
        return None
    return [words[k] for k in order]


assert set(PHYSICAL) == {p.name for p in PARAMETERS if p.modality == "labs"}
