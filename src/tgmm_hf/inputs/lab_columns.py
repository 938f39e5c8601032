"""The table of laboratory columns: names, units, conversions, plausible and reference ranges.

To change how a test is converted, change its row of `COLUMNS`. "Hemoglobin" has the canonical unit g/dL and
`factors={"g/L": 0.1, "mmol/L": 1.6114}`: a value in g/L times 0.1 is the value in g/dL.

The order of the rows is the order of the text, and also the priority by which a text that is too long is cut. Earlier
columns are more important.

Sources
-------
Names and canonical units: MIMIC-IV `d_labitems` and `labevents.valueuom`. Reference ranges: the most frequent
`ref_range_lower` and `ref_range_upper` in MIMIC-IV `labevents` per sex, except where a comment says otherwise.
Molar masses (g/mol, IUPAC 2021 atomic weights): creatinine 113.12, glucose 180.16, urea 60.056 with 28.014 of nitrogen,
calcium 40.078, magnesium 24.305, phosphorus 30.974, bilirubin 584.66, lactic acid 90.08, cholesterol 386.65,
triolein (for triglycerides) 885.4, uric acid 168.11, iron 55.845, haemoglobin monomer 16,114, NT-proBNP (76 amino
acids) 8,457, BNP (32 amino acids) 3,464.
"""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Range = tuple[float, float]
"""Lowest and highest value, in the canonical unit."""


@dataclass(frozen=True)
class LabColumn:
    """One known column of a lab row.

    Attributes:
        name: canonical name, as it stands in the text.
        unit: canonical unit; "" for a text column and for a number without a unit.
        plausible: closed range outside which a value is impossible, not only abnormal; None for a text column.
        normal: reference range (low, high), or one per sex as {"F": ..., "M": ...}; None if there is none.
        factors: other unit -> what a value in that unit is multiplied by to be in the canonical unit.
        aliases: other names of the same quantity.
    """

    name: str
    unit: str = ""
    plausible: Range | None = None
    normal: Range | dict[str, Range] | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether the column holds numbers; otherwise it holds text."""
        return self.plausible is not None

    def reference_range(self, gender: str | None) -> Range | None:
        """Look up the reference range (low, high) for "F", "M" or None; None if there is none for this gender."""
        if isinstance(self.normal, dict):
            return self.normal.get(gender or "")
        return self.normal


# Units that several columns share: other unit -> factor to the canonical one.
MONOVALENT_IONS = {"mmol/L": 1.0}  # to mEq/L: an ion with one charge has 1 mEq per mmol
CELLS = {"10^9/L": 1.0, "G/L": 1.0, "10^3/uL": 1.0, "/uL": 1e-3, "cells/uL": 1e-3, "Thousand/uL": 1.0}  # to K/uL
ENZYMES = {"U/L": 1.0, "ukat/L": 60.0}  # to IU/L: 1 kat = 1 mol/s = 6e7 U
TROPONINS = {"ug/L": 1.0, "ng/L": 1e-3, "pg/mL": 1e-3}  # to ng/mL
CHOLESTEROLS = {"mmol/L": 38.665}  # to mg/dL

# fmt: off
COLUMNS: tuple[LabColumn, ...] = (
    # name, canonical unit, plausible range, reference range
    #     other unit -> factor, aliases
    LabColumn("age", "years", (0, 125), None,
              factors={"months": 1 / 12}, aliases=("Age at admission", "anchor_age", "patient age")),
    LabColumn("gender", aliases=("sex",)),
    LabColumn("ethnicity", aliases=("race",)),
    LabColumn("height", "cm", (30, 260), None,
              factors={"m": 100.0, "in": 2.54, "inch": 2.54, "inches": 2.54}, aliases=("body height",)),
    LabColumn("weight", "kg", (0.5, 500), None,
              factors={"lb": 0.45359237, "lbs": 0.45359237, "g": 1e-3}, aliases=("body weight",)),
    LabColumn("BMI", "kg/m2", (5, 150), (18.5, 25.0),  # reference: WHO
              aliases=("body mass index", "BMI (kg/m2)")),
    LabColumn("NTproBNP", "pg/mL", (0, 500_000), (0, 125),  # upper limit: ESC 2021 heart failure guideline, not acute
              factors={"ng/L": 1.0, "pmol/L": 8.457}, aliases=("NT-proBNP", "proBNP")),
    LabColumn("BNP", "pg/mL", (0, 50_000), (0, 35),  # upper limit: the same guideline
              factors={"ng/L": 1.0, "pmol/L": 3.464}, aliases=("B-type natriuretic peptide",)),
    LabColumn("Troponin T", "ng/mL", (0, 500), (0, 0.01),
              factors=TROPONINS, aliases=("TnT", "cTnT")),
    LabColumn("Troponin I", "ng/mL", (0, 5000), None,  # the limit depends on the assay
              factors=TROPONINS, aliases=("TnI", "cTnI")),
    LabColumn("Creatinine", "mg/dL", (0.01, 50), {"F": (0.4, 1.1), "M": (0.5, 1.2)},
              factors={"umol/L": 0.011312, "mmol/L": 11.312, "mg/L": 0.1},  # 1 mg/dL = 88.4 umol/L
              aliases=("crea", "creat", "serum creatinine")),
    LabColumn("Urea Nitrogen", "mg/dL", (0.5, 400), (6, 20),  # "urea" is another quantity, see ALIAS_FACTORS
              factors={"mmol/L": 2.8014},  # mmol/L counts urea molecules
              aliases=("BUN", "blood urea nitrogen")),
    LabColumn("Sodium", "mEq/L", (80, 210), (133, 145),
              factors=MONOVALENT_IONS, aliases=("Na", "Na+", "serum sodium")),
    LabColumn("Potassium", "mEq/L", (0.5, 20), (3.3, 5.1),
              factors=MONOVALENT_IONS, aliases=("K", "K+", "serum potassium")),
    LabColumn("Hemoglobin", "g/dL", (0.5, 30), {"F": (11.2, 15.7), "M": (13.7, 17.5)},
              factors={"g/L": 0.1, "mmol/L": 1.6114},  # mmol/L counts monomers
              aliases=("Hb", "Hgb", "haemoglobin")),
    LabColumn("medical history", aliases=("past medical history", "PMH", "comorbidities", "diagnosis history")),
    LabColumn("drug history", aliases=("medication history", "past medications")),
    LabColumn("Chloride", "mEq/L", (40, 170), (96, 108),
              factors=MONOVALENT_IONS, aliases=("Cl", "Cl-")),
    LabColumn("Bicarbonate", "mEq/L", (1, 80), (22, 32),
              factors=MONOVALENT_IONS, aliases=("HCO3", "HCO3-", "total CO2")),
    LabColumn("Anion Gap", "mEq/L", (-30, 80), (8, 20),  # may be negative
              factors=MONOVALENT_IONS, aliases=("AG",)),
    LabColumn("Glucose", "mg/dL", (1, 2500), (70, 100),
              factors={"mmol/L": 18.016, "g/L": 100.0}, aliases=("Glu", "blood glucose")),
    LabColumn("Calcium, Total", "mg/dL", (1, 30), (8.4, 10.3),
              factors={"mmol/L": 4.0078, "mEq/L": 2.0039}, aliases=("calcium", "Ca")),  # two charges
    LabColumn("Magnesium", "mg/dL", (0.1, 20), (1.6, 2.6),
              factors={"mmol/L": 2.4305, "mEq/L": 1.21525}, aliases=("Mg",)),  # two charges
    LabColumn("Phosphate", "mg/dL", (0.1, 30), (2.7, 4.5),
              factors={"mmol/L": 3.0974}, aliases=("phosphorus", "PO4")),
    LabColumn("Lactate", "mmol/L", (0.01, 50), (0.5, 2.0),
              factors={"mg/dL": 0.11101, "mEq/L": 1.0}, aliases=("lactic acid",)),
    LabColumn("White Blood Cells", "K/uL", (0, 1000), (4, 10),
              factors=CELLS, aliases=("WBC", "WBC Count", "leukocytes")),
    LabColumn("Red Blood Cells", "m/uL", (0.2, 12), {"F": (3.9, 5.2), "M": (4.6, 6.1)},
              factors={"10^12/L": 1.0, "T/L": 1.0, "10^6/uL": 1.0}, aliases=("RBC", "erythrocytes")),
    LabColumn("Hematocrit", "%", (2, 85), {"F": (34, 45), "M": (40, 51)},
              factors={"L/L": 100.0, "fraction": 100.0}, aliases=("Hct", "haematocrit")),
    LabColumn("Platelet Count", "K/uL", (0, 5000), (150, 400),
              factors=CELLS, aliases=("platelets", "PLT")),
    LabColumn("MCV", "fL", (30, 180), (82, 98),
              factors={"um3": 1.0}),
    LabColumn("MCH", "pg", (5, 70), (26, 32),
              factors={"fmol": 16.114}),  # haemoglobin monomers
    LabColumn("MCHC", "g/dL", (10, 60), (32, 37),
              factors={"g/L": 0.1, "%": 1.0}),  # "%" was MIMIC's former name for g/dL
    LabColumn("RDW", "%", (5, 60), (10.5, 15.5)),
    LabColumn("INR(PT)", "", (0.3, 40), (0.9, 1.1), aliases=("INR",)),
    LabColumn("PT", "sec", (2, 300), (9.4, 12.5),
              factors={"s": 1.0}, aliases=("prothrombin time",)),
    LabColumn("PTT", "sec", (5, 400), (25, 36.5),
              factors={"s": 1.0}, aliases=("aPTT", "partial thromboplastin time")),
    LabColumn("Alanine Aminotransferase (ALT)", "IU/L", (0, 50_000), (0, 40),
              factors=ENZYMES, aliases=("ALT", "Alanine Aminotransferase")),
    LabColumn("Asparate Aminotransferase (AST)", "IU/L", (0, 50_000), (0, 40),  # MIMIC-IV's spelling
              factors=ENZYMES, aliases=("AST", "Aspartate Aminotransferase", "Aspartate Aminotransferase (AST)")),
    LabColumn("Alkaline Phosphatase", "IU/L", (0, 20_000), {"F": (35, 105), "M": (40, 130)},
              factors=ENZYMES, aliases=("ALP", "alk phos")),
    LabColumn("Bilirubin, Total", "mg/dL", (0, 100), (0, 1.5),
              factors={"umol/L": 0.058466}, aliases=("bilirubin", "total bilirubin")),
    LabColumn("Albumin", "g/dL", (0.2, 10), (3.5, 5.2),
              factors={"g/L": 0.1}, aliases=("serum albumin",)),
    LabColumn("Lactate Dehydrogenase (LD)", "IU/L", (1, 100_000), (94, 250),
              factors=ENZYMES, aliases=("LDH", "Lactate Dehydrogenase")),
    LabColumn("Creatine Kinase (CK)", "IU/L", (0, 1_000_000), {"F": (29, 201), "M": (47, 322)},
              factors=ENZYMES, aliases=("CK", "Creatine Kinase")),
    LabColumn("Creatine Kinase, MB Isoenzyme", "ng/mL", (0, 5000), (0, 10),
              factors={"ug/L": 1.0}, aliases=("CK-MB",)),
    LabColumn("C-Reactive Protein", "mg/L", (0, 1000), (0, 5),
              factors={"mg/dL": 10.0}, aliases=("CRP",)),
    LabColumn("% Hemoglobin A1c", "%", (2, 25), (4, 6), aliases=("HbA1c", "A1c")),
    LabColumn("Cholesterol, Total", "mg/dL", (10, 2000), (0, 199),
              factors=CHOLESTEROLS, aliases=("cholesterol",)),
    LabColumn("Cholesterol, LDL, Calculated", "mg/dL", (0, 1500), (0, 129),
              factors=CHOLESTEROLS, aliases=("LDL",)),
    LabColumn("Cholesterol, HDL", "mg/dL", (1, 300), (40, math.inf),  # NCEP ATP III: below 40 is low, no upper limit
              factors=CHOLESTEROLS, aliases=("HDL",)),
    LabColumn("Triglycerides", "mg/dL", (5, 20_000), (0, 149),
              factors={"mmol/L": 88.54}, aliases=("TG",)),
    LabColumn("Uric Acid", "mg/dL", (0.1, 50), None,
              factors={"umol/L": 0.016811, "mmol/L": 16.811}, aliases=("urate",)),
    LabColumn("Thyroid Stimulating Hormone", "uIU/mL", (0, 1000), (0.27, 4.2),
              factors={"mIU/L": 1.0, "mU/L": 1.0}, aliases=("TSH",)),
    LabColumn("Ferritin", "ng/mL", (0, 200_000), {"F": (13, 150), "M": (30, 400)},
              factors={"ug/L": 1.0}),
    LabColumn("Iron", "ug/dL", (1, 3000), {"F": (30, 160), "M": (45, 160)},
              factors={"umol/L": 5.5845}),
)

ALIAS_FACTORS: dict[str, tuple[str, dict[str, float]]] = {
    # alias -> column, unit of the alias -> factor to the column's unit
    "urea": ("Urea Nitrogen", {"mmol/L": 2.8014, "mg/dL": 0.46646}),  # the whole molecule: 28.014 / 60.056 is nitrogen
    "hs-TnT": ("Troponin T", {"ng/mL": 1.0, **TROPONINS}),  # high-sensitivity assays report ng/L, a thousandth of ng/mL
    "hs-TnI": ("Troponin I", {"ng/mL": 1.0, **TROPONINS}),
}
"""Names of a quantity or scale that is not the column's own. A value under such a name needs its unit."""
# fmt: on

GENDERS = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}
"""Spellings of the gender, in lower case -> the text of the cell."""


def column_key(name: str) -> str:
    """Reduce a column name to its letters, digits and "%" in lower case: "NT-proBNP" -> "ntprobnp"."""
    return "".join(character for character in name.casefold() if character.isalnum() or character == "%")


def unit_key(unit: str) -> str:
    """Reduce the spellings of a unit to one: "µmol / l" -> "umol/l", "x10^9/L" and "10*9/L" -> "109/l"."""
    text = unit.casefold().replace("µ", "u").replace("μ", "u").replace("mcg", "ug").replace("²", "2").replace("³", "3")
    text = re.sub(r"[\s^*]", "", text).replace("10e", "10").replace("×", "x")
    return text.removeprefix("x") if text.startswith("x10") else text


COLUMN_POSITION: dict[str, int] = {column.name: position for position, column in enumerate(COLUMNS)}
"""Canonical name -> row of `COLUMNS`."""
_COLUMN_BY_KEY = {column_key(name): column for column in COLUMNS for name in (column.name, *column.aliases)}
_COLUMN_BY_KEY |= {column_key(alias): COLUMNS[COLUMN_POSITION[name]] for alias, (name, _) in ALIAS_FACTORS.items()}
_ALIAS_FACTORS_BY_KEY = {column_key(alias): factors for alias, (_, factors) in ALIAS_FACTORS.items()}


_BLOOD = re.compile(r"f?B-|(?i:(?:whole )?blood[-_ ])")
_SERUM = re.compile(r"f?[SP]-|(?i:(?:serum|plasma)[-_ ])")
"""Prefixes that name the specimen: "B-Hb", "S-Creatinine", "fP-Glucose". Urine ("U-") is another quantity."""
_OTHER_SPECIMEN = re.compile(r"(?i)\b(d?U|urine|urinary|CSF|pleural|ascites|saliva|stool)(\b|_)")
"""Specimens whose quantities are not those of the columns, in a name of a laboratory value."""
WITHOUT_SPECIMEN = ("age", "height", "weight", "BMI")
"""Columns of the patient. A specimen in front of their name is a slip: "b_weight" may be the weight at birth."""
OF_WHOLE_BLOOD = (
    *("Hemoglobin", "Hematocrit", "White Blood Cells", "Red Blood Cells", "Platelet Count"),
    *("MCV", "MCH", "MCHC", "RDW", "% Hemoglobin A1c"),
)
"""Columns that mean another quantity in serum or plasma, where only free haemoglobin is left."""


def _names_with_units() -> dict[str, tuple[str, str]]:
    """List names that end with a unit, without ambiguous ones: key of "creatinine mg/dL" -> ("creatinine", "mg/dL")."""
    names: dict[str, set[tuple[str, str]]] = {}
    written = [(name, column) for column in COLUMNS for name in (column.name, *column.aliases)]
    written += [(alias, COLUMNS[COLUMN_POSITION[name]]) for alias, (name, _) in ALIAS_FACTORS.items()]
    for name, column in written:
        for unit in unit_factors(column, name):
            if column_key(unit):
                names.setdefault(column_key(name) + column_key(unit), set()).add((name, unit))
    single = {key: next(iter(sorted(pairs))) for key, pairs in names.items()}
    return {key: pair for key, pair in single.items() if _same_reading(names[key]) and key not in _COLUMN_BY_KEY}


def _same_reading(pairs: set[tuple[str, str]]) -> bool:
    """Tell whether all pairs of a name and a unit mean the same column and the same factor."""
    readings = {(column_key(name), unit_key(unit)) for name, unit in pairs}
    return len({(_COLUMN_BY_KEY[name].name, unit) for name, unit in readings}) == 1


def find_column(name: str) -> LabColumn | None:
    """Find the known column of a name or alias, or None; case, spaces and punctuation are ignored."""
    return _COLUMN_BY_KEY.get(column_key(name))


def split_name(written: str) -> tuple[str, str]:
    """Split a hospital's column name into a known name and a unit, "" without a unit.

    "NT proBNP (ng/L)" -> ("NTproBNP", "ng/L"), "S-Creatinine" -> ("Creatinine", ""). A name that is known as it is, or
    that is not known at all, comes back as it is.
    """
    if find_column(written) is not None:
        return written, ""
    plain = written.strip()
    if (pair := _name_and_unit(plain)) is not None:
        return pair
    for specimen in (_BLOOD, _SERUM):
        if (prefix := specimen.match(plain)) is None or (pair := _name_and_unit(plain[prefix.end() :])) is None:
            continue
        column = find_column(pair[0])
        excluded = WITHOUT_SPECIMEN if specimen is _BLOOD else (*WITHOUT_SPECIMEN, *OF_WHOLE_BLOOD)
        if column is not None and column.is_number and column.name not in excluded:
            return pair
    return written, ""


def _name_and_unit(name: str) -> tuple[str, str] | None:
    """Split "Hb (g/L)" into ("Hb", "g/L"), and "Hb" into ("Hb", ""); None if the name is not known."""
    if find_column(name) is not None:
        return name, ""
    spelled = name.replace("µ", "u").replace("μ", "u").translate(str.maketrans("²³⁶⁹", "2369"))
    spelled = re.sub(r"[x×]\s*(?=10)", "", spelled, flags=re.IGNORECASE)
    if find_column(spelled) is not None:
        return spelled, ""
    if not re.search(r"[\s_(\[,:/-]", name):
        return None
    return _NAMES_WITH_UNITS.get(column_key(spelled))


def suggest_column(name: str) -> LabColumn | None:
    """Find the known column whose name or alias is most similar to an unknown name; None if none is similar.

    A name with another specimen, such as "U-Sodium", has no similar column, because it is another quantity.
    """
    if _OTHER_SPECIMEN.search(name):
        return None
    close = difflib.get_close_matches(column_key(name), _COLUMN_BY_KEY, n=1, cutoff=0.8)
    return _COLUMN_BY_KEY[close[0]] if close else None


def needs_unit(name: str) -> bool:
    """Tell whether a value under this name is ambiguous without its unit (`ALIAS_FACTORS`)."""
    return column_key(name) in _ALIAS_FACTORS_BY_KEY


def unit_factors(column: LabColumn, name: str | None = None) -> dict[str, float]:
    """List the units that a value may come in, each with its factor to the canonical unit.

    Args:
        column: the column.
        name: the name under which the value came, because an alias may have its own factors; the column's own if None.

    Returns:
        Unit -> factor. A value in the unit times the factor is the value in the canonical unit.
    """
    alias_factors = _ALIAS_FACTORS_BY_KEY.get(column_key(name)) if name else None
    return {column.unit: 1.0, **column.factors} if alias_factors is None else dict(alias_factors)


def unit_factor(column: LabColumn, unit: str, name: str | None = None) -> float | None:
    """Look up the factor from `unit` to the column's canonical unit.

    Args:
        column: the column.
        unit: as written; "" means the canonical unit.
        name: see `unit_factors`.

    Returns:
        The factor; 1 if `unit` is "". None if the unit is not known.
    """
    if not unit:
        return 1.0
    factors = unit_factors(column, name)
    return next((factor for known_unit, factor in factors.items() if unit_key(known_unit) == unit_key(unit)), None)


def is_canonical_unit(column: LabColumn, unit: str) -> bool:
    """Tell whether `unit` is a spelling of the column's canonical unit."""
    return unit_key(unit) == unit_key(column.unit)


_NAMES_WITH_UNITS = _names_with_units()
