"""The table of laboratory columns: names, aliases, units, plausible and reference ranges."""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Range = tuple[float, float]

# Units per canonical unit: unit as written by a laboratory -> factor to the canonical one.
_PER_MONOVALENT_MEQ = {"mmol/L": 1.0}  # one charge per ion: 1 mmol = 1 mEq
_PER_10_9 = {
    "10^9/L": 1.0,
    "G/L": 1.0,
    "10^3/uL": 1.0,
    "/uL": 1e-3,
    "cells/uL": 1e-3,
    "Thousand/uL": 1.0,
}  # 1 uL=1e-6 L
_PER_G_DL = {"g/L": 0.1}
_PER_PERCENT = {"L/L": 100.0, "fraction": 100.0}
_PER_IU_L = {"U/L": 1.0, "ukat/L": 60.0}  # 1 kat = 1 mol/s = 6e7 U
_PER_NG_ML = {"ug/L": 1.0, "ng/L": 1e-3, "pg/mL": 1e-3}
_PER_MG_DL_CHOLESTEROL = {"mmol/L": 38.665}  # 386.65 / 10


@dataclass(frozen=True)
class LabColumn:
    """One known column of a laboratory row.

    `unit` is the canonical unit ("" for text), `plausible` the closed range outside which a value is impossible (not
    merely abnormal), `normal` the reference range as one (low, high) or as {"F": ..., "M": ...}, `factors` maps a
    foreign unit to what a value in it is multiplied by.
    """

    name: str
    unit: str = ""
    plausible: Range | None = None
    normal: Range | dict[str, Range] | None = None
    factors: dict[str, float] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        return self.plausible is not None

    def reference_range(self, gender: str | None) -> Range | None:
        """Reference range for "F" or "M"; None where it depends on a gender that is not known."""
        if isinstance(self.normal, dict):
            return self.normal.get(gender or "")
        return self.normal


COLUMNS: tuple[LabColumn, ...] = (
    LabColumn("age", "years", (0, 125), None, {"months": 1 / 12}, ("Age at admission", "anchor_age", "patient age")),
    LabColumn("gender", aliases=("sex",)),
    LabColumn("ethnicity", aliases=("race",)),
    LabColumn(
        "height", "cm", (30, 260), None, {"m": 100.0, "in": 2.54, "inch": 2.54, "inches": 2.54}, ("body height",)
    ),
    LabColumn("weight", "kg", (0.5, 500), None, {"lb": 0.45359237, "lbs": 0.45359237, "g": 1e-3}, ("body weight",)),
    LabColumn("BMI", "kg/m2", (5, 150), (18.5, 25.0), {}, ("body mass index", "BMI (kg/m2)")),  # WHO range
    # Upper limit: ESC 2021 heart failure guideline, non-acute setting. pmol/L: molar mass 8,457 (76 amino acids).
    LabColumn("NTproBNP", "pg/mL", (0, 500_000), (0, 125), {"ng/L": 1.0, "pmol/L": 8.457}, ("NT-proBNP", "proBNP")),
    # Upper limit: the same guideline. pmol/L: molar mass 3,464 (32 amino acids).
    LabColumn("BNP", "pg/mL", (0, 50_000), (0, 35), {"ng/L": 1.0, "pmol/L": 3.464}, ("B-type natriuretic peptide",)),
    LabColumn("Troponin T", "ng/mL", (0, 500), (0, 0.01), _PER_NG_ML, ("TnT", "cTnT")),
    LabColumn("Troponin I", "ng/mL", (0, 5000), None, _PER_NG_ML, ("TnI", "cTnI")),  # limit is per assay
    LabColumn(
        "Creatinine",
        "mg/dL",
        (0.01, 50),
        {"F": (0.4, 1.1), "M": (0.5, 1.2)},
        {"umol/L": 0.011312, "mmol/L": 11.312, "mg/L": 0.1},  # 113.12 g/mol: 1 mg/dL = 88.4 umol/L
        ("crea", "creat", "serum creatinine"),
    ),
    # mmol/L counts urea molecules, each with 28.014 g/mol of nitrogen; mind `ALIAS_FACTORS` for "urea".
    LabColumn("Urea Nitrogen", "mg/dL", (0.5, 400), (6, 20), {"mmol/L": 2.8014}, ("BUN", "blood urea nitrogen")),
    LabColumn("Sodium", "mEq/L", (80, 210), (133, 145), _PER_MONOVALENT_MEQ, ("Na", "Na+", "serum sodium")),
    LabColumn("Potassium", "mEq/L", (0.5, 20), (3.3, 5.1), _PER_MONOVALENT_MEQ, ("K", "K+", "serum potassium")),
    LabColumn(
        "Hemoglobin",
        "g/dL",
        (0.5, 30),
        {"F": (11.2, 15.7), "M": (13.7, 17.5)},
        {**_PER_G_DL, "mmol/L": 1.6114},  # monomer, 16,114 g/mol
        ("Hb", "Hgb", "haemoglobin"),
    ),
    LabColumn("medical history", aliases=("past medical history", "PMH", "comorbidities", "diagnosis history")),
    LabColumn("drug history", aliases=("medication history", "past medications")),
    LabColumn("Chloride", "mEq/L", (40, 170), (96, 108), _PER_MONOVALENT_MEQ, ("Cl", "Cl-")),
    LabColumn("Bicarbonate", "mEq/L", (1, 80), (22, 32), _PER_MONOVALENT_MEQ, ("HCO3", "HCO3-", "total CO2")),
    LabColumn("Anion Gap", "mEq/L", (-30, 80), (8, 20), _PER_MONOVALENT_MEQ, ("AG",)),  # may be negative
    LabColumn("Glucose", "mg/dL", (1, 2500), (70, 100), {"mmol/L": 18.016, "g/L": 100.0}, ("Glu", "blood glucose")),
    LabColumn(
        "Calcium, Total", "mg/dL", (1, 30), (8.4, 10.3), {"mmol/L": 4.0078, "mEq/L": 2.0039}, ("calcium", "Ca")
    ),  # mEq: two charges
    LabColumn("Magnesium", "mg/dL", (0.1, 20), (1.6, 2.6), {"mmol/L": 2.4305, "mEq/L": 1.21525}, ("Mg",)),
    LabColumn("Phosphate", "mg/dL", (0.1, 30), (2.7, 4.5), {"mmol/L": 3.0974}, ("phosphorus", "PO4")),
    LabColumn("Lactate", "mmol/L", (0.01, 50), (0.5, 2.0), {"mg/dL": 0.11101, "mEq/L": 1.0}, ("lactic acid",)),
    LabColumn("White Blood Cells", "K/uL", (0, 1000), (4, 10), _PER_10_9, ("WBC", "WBC Count", "leukocytes")),
    LabColumn(
        "Red Blood Cells",
        "m/uL",
        (0.2, 12),
        {"F": (3.9, 5.2), "M": (4.6, 6.1)},
        {"10^12/L": 1.0, "T/L": 1.0, "10^6/uL": 1.0},
        ("RBC", "erythrocytes"),
    ),
    LabColumn("Hematocrit", "%", (2, 85), {"F": (34, 45), "M": (40, 51)}, _PER_PERCENT, ("Hct", "haematocrit")),
    LabColumn("Platelet Count", "K/uL", (0, 5000), (150, 400), _PER_10_9, ("platelets", "PLT")),
    LabColumn("MCV", "fL", (30, 180), (82, 98), {"um3": 1.0}),
    LabColumn("MCH", "pg", (5, 70), (26, 32), {"fmol": 16.114}),  # haemoglobin monomer
    LabColumn("MCHC", "g/dL", (10, 60), (32, 37), {**_PER_G_DL, "%": 1.0}),  # % was MIMIC's former name for g/dL
    LabColumn("RDW", "%", (5, 60), (10.5, 15.5)),
    LabColumn("INR(PT)", "", (0.3, 40), (0.9, 1.1), {}, ("INR",)),
    LabColumn("PT", "sec", (2, 300), (9.4, 12.5), {"s": 1.0}, ("prothrombin time",)),
    LabColumn("PTT", "sec", (5, 400), (25, 36.5), {"s": 1.0}, ("aPTT", "partial thromboplastin time")),
    LabColumn(
        "Alanine Aminotransferase (ALT)", "IU/L", (0, 50_000), (0, 40), _PER_IU_L, ("ALT", "Alanine Aminotransferase")
    ),
    LabColumn(
        "Asparate Aminotransferase (AST)",  # sic, MIMIC-IV's spelling
        "IU/L",
        (0, 50_000),
        (0, 40),
        _PER_IU_L,
        ("AST", "Aspartate Aminotransferase", "Aspartate Aminotransferase (AST)"),
    ),
    LabColumn(
        "Alkaline Phosphatase", "IU/L", (0, 20_000), {"F": (35, 105), "M": (40, 130)}, _PER_IU_L, ("ALP", "alk phos")
    ),
    LabColumn("Bilirubin, Total", "mg/dL", (0, 100), (0, 1.5), {"umol/L": 0.058466}, ("bilirubin", "total bilirubin")),
    LabColumn("Albumin", "g/dL", (0.2, 10), (3.5, 5.2), _PER_G_DL, ("serum albumin",)),
    LabColumn(
        "Lactate Dehydrogenase (LD)", "IU/L", (1, 100_000), (94, 250), _PER_IU_L, ("LDH", "Lactate Dehydrogenase")
    ),
    LabColumn(
        "Creatine Kinase (CK)",
        "IU/L",
        (0, 1_000_000),
        {"F": (29, 201), "M": (47, 322)},
        _PER_IU_L,
        ("CK", "Creatine Kinase"),
    ),
    LabColumn("Creatine Kinase, MB Isoenzyme", "ng/mL", (0, 5000), (0, 10), {"ug/L": 1.0}, ("CK-MB",)),
    LabColumn("C-Reactive Protein", "mg/L", (0, 1000), (0, 5), {"mg/dL": 10.0}, ("CRP",)),
    LabColumn("% Hemoglobin A1c", "%", (2, 25), (4, 6), {}, ("HbA1c", "A1c")),
    LabColumn("Cholesterol, Total", "mg/dL", (10, 2000), (0, 199), _PER_MG_DL_CHOLESTEROL, ("cholesterol",)),
    LabColumn("Cholesterol, LDL, Calculated", "mg/dL", (0, 1500), (0, 129), _PER_MG_DL_CHOLESTEROL, ("LDL",)),
    # HDL: NCEP ATP III, below 40 is low; no upper limit.
    LabColumn("Cholesterol, HDL", "mg/dL", (1, 300), (40, math.inf), _PER_MG_DL_CHOLESTEROL, ("HDL",)),
    LabColumn("Triglycerides", "mg/dL", (5, 20_000), (0, 149), {"mmol/L": 88.54}, ("TG",)),
    LabColumn("Uric Acid", "mg/dL", (0.1, 50), None, {"umol/L": 0.016811, "mmol/L": 16.811}, ("urate",)),
    LabColumn("Thyroid Stimulating Hormone", "uIU/mL", (0, 1000), (0.27, 4.2), {"mIU/L": 1.0, "mU/L": 1.0}, ("TSH",)),
    LabColumn(
        "Ferritin",
        "ng/mL",
        (0, 200_000),
        {"F": (13, 150), "M": (30, 400)},
        {"ug/L": 1.0},
    ),
    LabColumn("Iron", "ug/dL", (1, 3000), {"F": (30, 160), "M": (45, 160)}, {"umol/L": 5.5845}),
)

# Names that mean another quantity than their column: the unit must be given, and the factors are their own.
# "Urea" is the whole molecule (mg/dL of urea hold 28.014 / 60.056 of nitrogen), "Urea Nitrogen" its nitrogen.
ALIAS_FACTORS: dict[str, tuple[str, dict[str, float]]] = {
    "urea": ("Urea Nitrogen", {"mmol/L": 2.8014, "mg/dL": 0.46646}),
    # High-sensitivity assays report ng/L, a thousandth of the column's unit: a bare number could be either.
    "hs-TnT": ("Troponin T", {"ng/mL": 1.0, **_PER_NG_ML}),
    "hs-TnI": ("Troponin I", {"ng/mL": 1.0, **_PER_NG_ML}),
}

GENDERS = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}


def _key(name: str) -> str:
    """Column name without case, spaces and punctuation: "NT-proBNP" -> "ntprobnp"; "%" is kept."""
    return "".join(character for character in name.casefold() if character.isalnum() or character == "%")


def _unit_key(unit: str) -> str:
    """Unit without case, spaces and spelling variants of micro and powers: "µmol/l" -> "umol/l"."""
    text = unit.casefold().replace("µ", "u").replace("μ", "u").replace("mcg", "ug").replace("²", "2").replace("³", "3")
    text = re.sub(r"[\s^*]", "", text).replace("10e", "10").replace("×", "x")
    return text.removeprefix("x") if text.startswith("x10") else text


_BY_KEY: dict[str, LabColumn] = {_key(name): column for column in COLUMNS for name in (column.name, *column.aliases)}
_BY_KEY |= {_key(alias): next(c for c in COLUMNS if c.name == name) for alias, (name, _) in ALIAS_FACTORS.items()}
_ALIAS_FACTORS_BY_KEY = {_key(alias): factors for alias, (_, factors) in ALIAS_FACTORS.items()}
_POSITION: dict[str, int] = {column.name: position for position, column in enumerate(COLUMNS)}


def find_column(name: str) -> LabColumn | None:
    """Known column of that name or alias (case, spaces and punctuation do not matter), or None."""
    return _BY_KEY.get(_key(name))


def unit_factor(column: LabColumn, unit: str) -> float | None:
    """What a value in `unit` is multiplied by to be in the column's unit; 1 for no unit, None if it is not known."""
    return _find_factor({column.unit: 1.0, **column.factors}, unit) if unit else 1.0


def _find_factor(factors: Mapping[str, float], unit: str) -> float | None:
    return next((factor for known, factor in factors.items() if _unit_key(known) == _unit_key(unit)), None)


def _suggestion(name: str) -> str:
    """The known column that an unknown name may be a slip of, as a question."""
    close = difflib.get_close_matches(_key(name), _BY_KEY, n=1, cutoff=0.8)
    return f" (did you mean {_BY_KEY[close[0]].name}?)" if close else ""
