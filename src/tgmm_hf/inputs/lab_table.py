"""The table of laboratory columns: names, units, conversions, plausible, usual and reference ranges. Data only.

To change how a test is converted, change its row of `COLUMNS`. "Hemoglobin" has the canonical unit g/dL and
`factors={"g/L": 0.1, "mmol/L": 1.6114}`: a value in g/L times 0.1 is the value in g/dL.

The order of the rows is the order of the text, and also the priority by which a text that is too long is cut. Earlier
columns are more important.

Sources
-------
Usual ranges are ours. They hold what hospital laboratories report of adults, sick patients included. They were rounded
outwards from the results of the open MIMIC-IV demo (100 patients, 26 to 1,453 results for most columns) and widened
where the demo has few sick patients. NT-proBNP: measuring range of the Elecsys assay, 5 to 35,000 ng/L. Troponin T:
3 to 10,000 ng/L, that of the high-sensitivity Elecsys assay. A usual range
decides whether a number without a unit is in doubt (`lab_units.py`), and a value outside is used and named
(`labs_unusual_value`). A value with its unit is refused only if it lies far outside and would be usual in another unit.
Plausible ranges are ours, too. They are wider than the valid ranges of the MIMIC-III benchmark (YerevaNN/
mimic3-benchmarks, `variable_ranges.csv`) in most columns, because a sick patient must not be refused. Potassium has the
outlier limit of that table, 15 mmol/L.
HbA1c in mmol/mol (IFCC) to % (NGSP): 0.09148 x + 2.152, the master equation of the NGSP.
Names and canonical units: MIMIC-IV `d_labitems` and `labevents.valueuom`. Reference ranges: the most frequent
`ref_range_lower` and `ref_range_upper` in MIMIC-IV `labevents` per sex, except where a comment says otherwise.
Molar masses (g/mol, IUPAC 2021 atomic weights): creatinine 113.12, glucose 180.16, urea 60.056 with 28.014 of nitrogen,
calcium 40.078, magnesium 24.305, phosphorus 30.974, bilirubin 584.66, lactic acid 90.08, cholesterol 386.65,
triolein (for triglycerides) 885.4, uric acid 168.11, iron 55.845, haemoglobin monomer 16,114, NT-proBNP (76 amino
acids) 8,457, BNP (32 amino acids) 3,464.
"""

import math
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
        usual: closed range in which the results of adults in a hospital lie, sick patients included.
        normal: reference range (low, high), or one per sex as {"F": ..., "M": ...}; None if there is none.
        factors: other unit -> what a value in that unit is multiplied by to be in the canonical unit.
        offsets: other unit -> what is added after the multiplication; 0 for a unit that is not listed.
        si: units in which laboratories with SI units report the column; empty if they use the canonical unit.
        elsewhere: units of another scale that further laboratories report. They only make a number without a unit
            doubtful.
        local: unit of single countries -> closed range, in the canonical unit, of values that such a unit usually has.
            They only make a number without a unit doubtful.
        mistakable: unit -> closed range of the numbers that are often meant in it, where none is given. It may be the
            unit of another measurement under the same name, and then has no factor. They only make a number without a
            unit doubtful.
        rare: units that hardly any laboratory reports. A value in one of them is in doubt if its number would be usual
            in a unit that laboratories do report.
        aliases: other names of the same quantity.
    """

    name: str
    unit: str = ""
    plausible: Range | None = None
    normal: Range | dict[str, Range] | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    offsets: Mapping[str, float] = field(default_factory=dict)
    usual: Range = (-math.inf, math.inf)
    si: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    local: Mapping[str, Range] = field(default_factory=dict)
    mistakable: Mapping[str, Range] = field(default_factory=dict)
    rare: tuple[str, ...] = ()
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
CELLS = {  # to K/uL
    **{"10^9/L": 1.0, "G/L": 1.0, "10^3/uL": 1.0, "10^3/mm3": 1.0, "K/mm3": 1.0, "Thousand/uL": 1.0},
    **{"Thousand/mm3": 1.0, "Gpt/L": 1.0, "Giga/L": 1.0, "/nL": 1.0, "Tsd/uL": 1.0, "TH/uL": 1.0},
    **{"/uL": 1e-3, "cells/uL": 1e-3, "/mm3": 1e-3, "cells/mm3": 1e-3},
}
ENZYMES = {"U/L": 1.0, "Units/L": 1.0, "Unit/L": 1.0, "UI/L": 1.0, "ukat/L": 60.0}  # to IU/L: 1 kat = 1 mol/s = 6e7 U
TROPONINS = {"ug/L": 1.0, "ng/L": 1e-3, "pg/mL": 1e-3}  # to ng/mL
CHOLESTEROLS = {"mmol/L": 38.665}  # to mg/dL

# fmt: off
COLUMNS: tuple[LabColumn, ...] = (
    # name, canonical unit, plausible range, reference range
    #     other unit -> factor, aliases
    LabColumn("age", "years", (0, 125), None,
              usual=(0, 110),
              factors={"y": 1.0, "yr": 1.0, "yrs": 1.0, "year": 1.0, "a": 1.0, "months": 1 / 12, "month": 1 / 12,
                       "mo": 1 / 12, "m": 1 / 12, "weeks": 7 / 365.25, "w": 7 / 365.25,
                       "days": 1 / 365.25, "d": 1 / 365.25,
                       "years old": 1.0, "yo": 1.0, "y/o": 1.0, "y.o.": 1.0, "yrs.": 1.0,
                       "J.": 1.0, "J": 1.0, "Jahre": 1.0, "ans": 1.0, "años": 1.0, "anni": 1.0, "jaar": 1.0, "岁": 1.0},
              aliases=("Age at admission", "anchor_age", "patient age")),
    LabColumn("gender", aliases=("sex",)),
    LabColumn("ethnicity", aliases=("race",)),
    LabColumn("height", "cm", (30, 260), None,
              usual=(120, 220),
              factors={"m": 100.0, "in": 2.54, "inch": 2.54, "inches": 2.54}, aliases=("body height",)),
    LabColumn("weight", "kg", (0.5, 500), None,
              usual=(35, 250), mistakable={"lb": (110, 250)},  # 110 kg or more: as many pounds are common
              factors={"lb": 0.45359237, "lbs": 0.45359237, "pounds": 0.45359237, "g": 1e-3}, aliases=("body weight",)),
    LabColumn("BMI", "kg/m2", (5, 150), (18.5, 25.0),  # reference: WHO
              usual=(12, 80),
              aliases=("body mass index", "BMI (kg/m2)")),
    LabColumn("NTproBNP", "pg/mL", (0, 500_000), (0, 125),  # upper limit: ESC 2021 heart failure guideline, not acute
              usual=(5, 35_000), si=("ng/L", "pmol/L"),
              factors={"ng/L": 1.0, "pmol/L": 8.457}, aliases=("NT-proBNP", "proBNP")),
    LabColumn("BNP", "pg/mL", (0, 50_000), (0, 35),  # upper limit: the same guideline
              usual=(2, 5000), si=("ng/L", "pmol/L"),
              factors={"ng/L": 1.0, "pmol/L": 3.464}, aliases=("B-type natriuretic peptide",)),
    LabColumn("Troponin T", "ng/mL", (0, 500), (0, 0.01),
              usual=(0.003, 10), si=("ng/L",),
              factors=TROPONINS, aliases=("TnT", "cTnT")),
    LabColumn("Troponin I", "ng/mL", (0, 5000), None,  # the limit depends on the assay
              usual=(0.002, 100), si=("ng/L",),
              factors=TROPONINS, aliases=("TnI", "cTnI")),
    LabColumn("Creatinine", "mg/dL", (0.01, 50), {"F": (0.4, 1.1), "M": (0.5, 1.2)},
              usual=(0.15, 20), si=("umol/L",),
              factors={"umol/L": 0.011312, "mmol/L": 11.312, "mg/L": 0.1},  # 1 mg/dL = 88.4 umol/L
              rare=("mmol/L",),
              aliases=("crea", "creat", "serum creatinine")),
    LabColumn("Urea Nitrogen", "mg/dL", (0.5, 400), (6, 20),  # "urea" is another quantity, see ALIAS_FACTORS
              usual=(2, 210), si=("mmol/L",),
              factors={"mmol/L": 2.8014},  # mmol/L counts urea molecules
              aliases=("BUN", "blood urea nitrogen")),
    LabColumn("Sodium", "mEq/L", (80, 210), (133, 145),
              usual=(100, 190), si=("mmol/L",),
              factors=MONOVALENT_IONS, aliases=("Na", "Na+", "serum sodium")),
    LabColumn("Potassium", "mEq/L", (1, 15), (3.3, 5.1),  # survived: 14 (Tran, South Med J 2005;98:729)
              usual=(1.5, 10), si=("mmol/L",),
              factors=MONOVALENT_IONS, aliases=("K", "K+", "serum potassium")),
    LabColumn("Hemoglobin", "g/dL", (0.5, 30), {"F": (11.2, 15.7), "M": (13.7, 17.5)},
              usual=(4, 19), si=("g/L", "mmol/L"),
              factors={"g/L": 0.1, "mmol/L": 1.6114},  # mmol/L counts monomers
              aliases=("Hb", "Hgb", "haemoglobin")),
    LabColumn("medical history", aliases=("past medical history", "PMH", "comorbidities", "diagnosis history")),
    LabColumn("drug history", aliases=("medication history", "past medications")),
    LabColumn("Chloride", "mEq/L", (40, 170), (96, 108),
              usual=(60, 150), si=("mmol/L",),
              factors=MONOVALENT_IONS, aliases=("Cl", "Cl-")),
    LabColumn("Bicarbonate", "mEq/L", (1, 80), (22, 32),
              usual=(3, 60), si=("mmol/L",),
              factors=MONOVALENT_IONS, aliases=("HCO3", "HCO3-", "total CO2")),
    LabColumn("Anion Gap", "mEq/L", (-30, 80), (8, 20),  # may be negative
              usual=(-5, 50), si=("mmol/L",),
              factors=MONOVALENT_IONS, aliases=("AG",)),
    LabColumn("Glucose", "mg/dL", (1, 2500), (70, 100),
              usual=(20, 1000), si=("mmol/L",),
              factors={"mmol/L": 18.016, "g/L": 100.0}, aliases=("Glu", "blood glucose")),
    LabColumn("Calcium, Total", "mg/dL", (1, 30), (8.4, 10.3),
              usual=(5, 16), si=("mmol/L",),
              factors={"mmol/L": 4.0078, "mEq/L": 2.0039}, aliases=("calcium", "Ca")),  # two charges
    LabColumn("Magnesium", "mg/dL", (0.1, 20), (1.6, 2.6),
              usual=(0.8, 4), si=("mmol/L",),
              factors={"mmol/L": 2.4305, "mEq/L": 1.21525}, aliases=("Mg",)),  # two charges
    LabColumn("Phosphate", "mg/dL", (0.1, 30), (2.7, 4.5),
              usual=(0.6, 10), si=("mmol/L",),
              factors={"mmol/L": 3.0974}, aliases=("phosphorus", "PO4")),
    LabColumn("Lactate", "mmol/L", (0.01, 50), (0.5, 2.0),
              usual=(0.3, 25), si=("mmol/L",), elsewhere=("mg/dL",),
              factors={"mg/dL": 0.11101, "mEq/L": 1.0}, aliases=("lactic acid",)),
    LabColumn("White Blood Cells", "K/uL", (0, 1000), (4, 10),
              usual=(0.1, 200), si=("10^9/L",), local={"10^2/uL": (3, 30)},  # Japan
              factors={**CELLS, "10^2/uL": 0.1},
              aliases=("WBC", "WBC Count", "WBC x 1000", "leukocytes", "white blood cell count")),
    LabColumn("Red Blood Cells", "m/uL", (0.2, 12), {"F": (3.9, 5.2), "M": (4.6, 6.1)},
              usual=(1, 8), si=("10^12/L",),
              factors={"10^12/L": 1.0, "T/L": 1.0, "10^6/uL": 1.0, "10^6/mm3": 1.0, "10^4/uL": 0.01,
                       "Tpt/L": 1.0, "Tera/L": 1.0, "/pL": 1.0, "Mio/uL": 1.0, "mil/uL": 1.0,
                       "million/uL": 1.0, "million/mm3": 1.0},
              aliases=("RBC", "erythrocytes")),
    LabColumn("Hematocrit", "%", (2, 85), {"F": (34, 45), "M": (40, 51)},
              usual=(10, 65), si=("L/L",),
              factors={"L/L": 100.0, "fraction": 100.0, "Vol%": 1.0, "Vol.-%": 1.0}, aliases=("Hct", "haematocrit")),
    LabColumn("Platelet Count", "K/uL", (0, 5000), (150, 400),
              usual=(5, 2000), si=("10^9/L",),
              local={"10^4/uL": (50, 500), "lakh/uL": (50, 500), "lakh/cumm": (50, 500)},  # Japan, India
              factors={**CELLS, "10^4/uL": 10.0, "lakh/uL": 100.0, "lakh/cumm": 100.0},
              aliases=("platelets", "PLT", "platelets x 1000")),
    LabColumn("MCV", "fL", (30, 180), (82, 98),
              usual=(55, 130), si=("fL",),
              factors={"um3": 1.0}),
    LabColumn("MCH", "pg", (5, 70), (26, 32),
              usual=(15, 45), si=("fmol", "pg"),
              factors={"fmol": 16.114}),  # haemoglobin monomers
    LabColumn("MCHC", "g/dL", (10, 60), (32, 37),
              usual=(25, 40), si=("g/L",),
              factors={"g/L": 0.1, "%": 1.0}),  # "%" was MIMIC's former name for g/dL
    LabColumn("RDW", "%", (5, 60), (10.5, 15.5),
              usual=(10, 40), si=("%",), mistakable={"fL": (35, 100)}),  # RDW-SD
    LabColumn("INR(PT)", "", (0.3, 40), (0.9, 1.1), aliases=("INR", "PT - INR"),
              usual=(0.7, 15), factors={"INR": 1.0, "ratio": 1.0}),
    LabColumn("PT", "sec", (2, 300), (9.4, 12.5),
              usual=(8, 150), si=("s",),
              # Quick's percent of normal. Below 40 % the seconds are about as many, so both mean the same.
              mistakable={"%": (40, 150)},
              factors={"s": 1.0, "Sek": 1.0}, aliases=("prothrombin time",)),
    LabColumn("PTT", "sec", (5, 400), (25, 36.5),
              usual=(15, 200), si=("s",),
              factors={"s": 1.0, "Sek": 1.0}, aliases=("aPTT", "partial thromboplastin time")),
    LabColumn("Alanine Aminotransferase (ALT)", "IU/L", (0, 50_000), (0, 40),
              usual=(2, 10_000), si=("U/L",), mistakable={"ukat/L": (0, 5)},
              factors=ENZYMES, aliases=("ALT", "ALT (SGPT)", "SGPT", "Alanine Aminotransferase")),
    LabColumn("Asparate Aminotransferase (AST)", "IU/L", (0, 50_000), (0, 40),  # MIMIC-IV's spelling
              usual=(2, 15_000), si=("U/L",), mistakable={"ukat/L": (0, 5)},
              factors=ENZYMES, aliases=("AST", "AST (SGOT)", "SGOT", "Aspartate Aminotransferase",
                                       "Aspartate Aminotransferase (AST)")),
    LabColumn("Alkaline Phosphatase", "IU/L", (0, 20_000), {"F": (35, 105), "M": (40, 130)},
              usual=(10, 3000), si=("U/L",),
              factors=ENZYMES, aliases=("ALP", "alk phos")),
    LabColumn("Bilirubin, Total", "mg/dL", (0, 100), (0, 1.5),
              usual=(0.1, 50), si=("umol/L",),
              factors={"umol/L": 0.058466}, aliases=("bilirubin", "total bilirubin")),
    LabColumn("Albumin", "g/dL", (0.2, 10), (3.5, 5.2),
              usual=(1, 6), si=("g/L",),
              factors={"g/L": 0.1}, aliases=("serum albumin",)),
    LabColumn("Lactate Dehydrogenase (LD)", "IU/L", (1, 100_000), (94, 250),
              usual=(50, 10_000), si=("U/L",),
              factors=ENZYMES, aliases=("LDH", "Lactate Dehydrogenase")),
    LabColumn("Creatine Kinase (CK)", "IU/L", (0, 1_000_000), {"F": (29, 201), "M": (47, 322)},
              usual=(5, 100_000), si=("U/L",), mistakable={"ukat/L": (5, 15)},
              factors=ENZYMES, aliases=("CK", "CPK", "Creatine Kinase")),
    LabColumn("Creatine Kinase, MB Isoenzyme", "ng/mL", (0, 5000), (0, 10),
              usual=(0.3, 500), si=("ug/L",),
              mistakable={"U/L": (1, 500)},  # activity; normal below about 25 U/L
              factors={"ug/L": 1.0}, aliases=("CK-MB", "CPK-MB")),
    LabColumn("C-Reactive Protein", "mg/L", (0, 1000), (0, 5),
              usual=(0.1, 500), si=("mg/L",), elsewhere=("mg/dL",),
              factors={"mg/dL": 10.0}, aliases=("CRP",)),
    LabColumn("% Hemoglobin A1c", "%", (2, 25), (4, 6),
              usual=(3, 18), si=("mmol/mol", "%"),
              factors={"mmol/mol": 0.09148, "mmol/mol Hb": 0.09148, "% Hb": 1.0},
              offsets={"mmol/mol": 2.152, "mmol/mol Hb": 2.152},
              aliases=("HbA1c", "A1c", "Hemoglobin A1c", "Haemoglobin A1c", "Glycated Hemoglobin")),
    LabColumn("Cholesterol, Total", "mg/dL", (10, 2000), (0, 199),
              usual=(40, 600), si=("mmol/L",),
              factors=CHOLESTEROLS, aliases=("cholesterol", "total cholesterol")),
    LabColumn("Cholesterol, LDL, Calculated", "mg/dL", (0, 1500), (0, 129),
              usual=(8, 400), si=("mmol/L",),
              factors=CHOLESTEROLS, aliases=("LDL",)),
    LabColumn("Cholesterol, HDL", "mg/dL", (1, 300), (40, math.inf),  # NCEP ATP III: below 40 is low, no upper limit
              usual=(8, 130), si=("mmol/L",),
              factors=CHOLESTEROLS, aliases=("HDL",)),
    LabColumn("Triglycerides", "mg/dL", (5, 20_000), (0, 149),
              usual=(15, 3000), si=("mmol/L",),
              factors={"mmol/L": 88.54}, aliases=("TG",)),
    LabColumn("Uric Acid", "mg/dL", (0.1, 50), None,
              usual=(1, 20), si=("umol/L",),
              factors={"umol/L": 0.016811, "mmol/L": 16.811}, aliases=("urate",)),
    LabColumn("Thyroid Stimulating Hormone", "uIU/mL", (0, 1000), (0.27, 4.2),
              usual=(0.005, 150), si=("mIU/L",),
              factors={"mIU/L": 1.0, "mU/L": 1.0, "uU/mL": 1.0}, aliases=("TSH",)),
    LabColumn("Ferritin", "ng/mL", (0, 200_000), {"F": (13, 150), "M": (30, 400)},
              usual=(3, 20_000), si=("ug/L",),
              factors={"ug/L": 1.0}),
    LabColumn("Iron", "ug/dL", (1, 3000), {"F": (30, 160), "M": (45, 160)},
              usual=(5, 350), si=("umol/L",),
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
