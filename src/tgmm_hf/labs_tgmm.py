"""Laboratory row -> sentences for the text encoder: column table, aliases, units, reference ranges, template.

One sentence per present cell, "<column name> of the <object> is <value>" (paper, section 5.1), joined by
`SEPARATOR`; a missing cell leaves no trace. `COLUMNS` is at once the column order of the text and the priority by
which a row that is too long is cut: earlier means more important; columns that are not in the table follow
alphabetically. Values stay in physical units; nothing here is clinical advice.

Sources
-------
Column names and canonical units: MIMIC-IV `d_labitems` / `labevents.valueuom`. Reference ranges: the commonest
`ref_range_lower`, `ref_range_upper` in MIMIC-IV `labevents` per sex, except where a comment says otherwise.
Molar masses (g/mol, IUPAC 2021 atomic weights): creatinine 113.12, glucose 180.16, urea 60.056 with 28.014 of nitrogen,
calcium 40.078, magnesium 24.305, phosphorus 30.974, bilirubin 584.66, lactic acid 90.08, cholesterol 386.65,
triolein (for triglycerides) 885.4, uric acid 168.11, iron 55.845, haemoglobin monomer 16,114.
"""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any

SEPARATOR = "; "  # not ". ", which a WordPiece tokenizer cannot tell from a decimal point

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

_NUMBER = re.compile(
    r"(?P<sign><=|>=|<|>|≤|≥)?\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\s*(?P<unit>[^\s\d.,\-<>].*))?"
)
_COMMA_NUMBER = re.compile(r"[<>≤≥]?=?\s*[+-]?\d+(?:,\d+)+(?:\.\d+)?")


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


@dataclass(frozen=True)
class LabCell:
    """A present cell: `value` is the text that enters the sentence; `number` (canonical unit) is None for text."""

    name: str
    value: str
    unit: str = ""
    number: float | None = None
    column: LabColumn | None = None

    def sentence(self, labs_object: str, gender: str | None = None, flag: bool = False) -> str:
        """ "<column name> of the <object> is <value>", with the unit if it was given, and low / normal / high."""
        text = f"{self.name} of the {labs_object} is {self.value}"
        if self.unit:
            text += f" {self.unit}"
        level = self.level(gender) if flag else None
        return f"{text} ({level})" if level else text

    def level(self, gender: str | None) -> str | None:
        """ "low", "normal" or "high" against the reference range; None where there is no number or no range."""
        limits = self.column.reference_range(gender) if self.column else None
        if limits is None or self.number is None or self.value[0] in "<>≤≥":
            return None
        return "low" if self.number < limits[0] else "high" if self.number > limits[1] else "normal"


@dataclass
class LabsText:
    """A laboratory row as text, and what became of its cells.

    `used` and `dropped` (cut for length) hold canonical column names; `refused` holds {"item", "reason"}; `unknown`
    the used columns that are not in `COLUMNS`; `converted` the columns whose value came in another unit; `texts` the
    number columns that hold text; `doubtful` the columns without a unit whose value another unit would make normal.
    """

    text: str = ""
    used: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """The report's lines on what was changed or left out without being refused; names only, no values."""
        lines = [f"labs: {name} was converted to its canonical unit" for name in self.converted]
        lines += [
            f"labs: {name} came without a unit and was taken in the canonical one, far from normal; in another unit it "
            "would be normal: give (value, unit)"
            for name in self.doubtful
        ]
        lines += [f"labs: {name} holds text where a number is expected; kept as written" for name in self.texts]
        lines += [f"labs: {name} is not a known column; kept as written{_suggestion(name)}" for name in self.unknown]
        return lines + [f"labs: {name} was dropped, the row is longer than the token limit" for name in self.dropped]


class _CellRefusedError(ValueError):
    """Reason why a cell cannot be used; caught in this file, where it becomes an entry of `refused`."""


MISSING_WORDS = ("", "nan", "none", "null", "na", "n/a", "<na>")
"""Text that table software writes for a missing cell, in any case."""


def is_missing(value: Any) -> bool:
    """None, NaN (of Python, NumPy, pandas), MIMIC's "___" and `MISSING_WORDS` stand for a missing cell."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str):
        return value.strip().strip("_").casefold() in MISSING_WORDS
    return isinstance(value, Real | Decimal) and value != value


def format_number(value: float) -> str:
    """Number without noise: six significant digits (all digits of the integer part), no exponent, no trailing zeros.

    1.4 -> "1.4", 1.3999999 -> "1.4", 5210.0 -> "5210", 0.00012 -> "0.00012"
    """
    if value == 0:
        return "0"
    decimals = max(0, 5 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_cells(row: Mapping[str, Any]) -> tuple[list[LabCell], LabsText]:
    """Present cells of a row in the order of the text, and a `LabsText` that holds the refusals so far.

    row: column name or alias -> value or (value, unit). Two names of one column with different values refuse both.
    """
    report = LabsText()
    found: dict[str, tuple[str, LabCell]] = {}
    conflicts: set[str] = set()
    for written, raw in row.items():
        try:
            cell = _read_cell(str(written), raw)
        except _CellRefusedError as error:
            report.refused.append({"item": f"labs.{written}", "reason": str(error)})
            continue
        if cell is None:
            continue
        other = found.setdefault(cell.name, (str(written), cell))
        if other[1].value != cell.value:
            conflicts.add(cell.name)
            reason = (
                f"{other[0]!r} and {written!r} are both the column {cell.name!r} but differ "
                f"({other[1].value} against {cell.value}); give one of them"
            )
            report.refused.append({"item": f"labs.{written}", "reason": reason})
    cells = [cell for name, (_, cell) in found.items() if name not in conflicts]
    cells.sort(key=lambda cell: (_POSITION.get(cell.name, len(COLUMNS)), cell.name.casefold()))
    report.unknown = [cell.name for cell in cells if cell.column is None]
    report.texts = [cell.name for cell in cells if cell.column and cell.column.is_number and cell.number is None]
    report.doubtful = [cell.name for cell in cells if _is_doubtful(cell)]
    report.converted = [name for name in (cell.name for cell in cells) if _was_converted(name, found[name][0], row)]
    return cells, report


def gender_of(cells: list[LabCell]) -> str | None:
    """ "F" or "M" if the row says so, for the sex-dependent reference ranges."""
    value = next((cell.value for cell in cells if cell.name == "gender"), None)
    return value if value in ("F", "M") else None


def _is_doubtful(cell: LabCell) -> bool:
    """A number without a unit, outside the reference range, that one of the column's other units would put inside."""
    limits = cell.column.reference_range(None) if cell.column else None
    if limits is None or cell.unit or cell.number is None or limits[0] <= cell.number <= limits[1]:
        return False
    assert cell.column is not None
    others = [factor for factor in cell.column.factors.values() if factor != 1]
    return any(limits[0] <= cell.number * factor <= limits[1] for factor in others)


def _suggestion(name: str) -> str:
    """The known column that an unknown name may be a slip of, as a question."""
    close = difflib.get_close_matches(_key(name), _BY_KEY, n=1, cutoff=0.8)
    return f" (did you mean {_BY_KEY[close[0]].name}?)" if close else ""


def _was_converted(name: str, written: str, row: Mapping[str, Any]) -> bool:
    column = _BY_KEY.get(_key(written))
    if column is None or not column.is_number:
        return False
    _, number, unit = _split_value(row[written])
    return number is not None and bool(unit) and _unit_key(unit) != _unit_key(column.unit)


def _read_cell(written: str, raw: Any) -> LabCell | None:
    if not _key(written):
        raise _CellRefusedError(f"the column name {written!r} has no letter or digit")
    column = find_column(written)
    if column is None or not column.is_number:
        return _read_free_cell(written, raw, column)
    sign, number, unit = _split_value(raw)
    if number is None:
        return _read_text_cell(sign, unit, column)
    factor = _factor(written, unit, column)
    value = number * factor
    low, high = column.plausible or (-math.inf, math.inf)
    if not low <= value <= high:
        raise _CellRefusedError(_implausible(column, number, unit, value))
    # A converted value has no more digits than the laboratory gave it: three significant ones are a fair guess.
    text = format_number(value if factor == 1 else float(f"{value:.3g}"))
    return LabCell(column.name, f"{sign}{text}", column.unit if unit else "", value, column)


def _read_free_cell(written: str, raw: Any, column: LabColumn | None) -> LabCell | None:
    """Cell of an unknown column or of a text column such as gender: kept as written, with its unit if given."""
    value, unit = _value_and_unit(raw)
    if is_missing(value):
        return None
    name = column.name if column else " ".join(written.split())
    if not isinstance(value, str):
        if name == "gender":
            raise _CellRefusedError(f"gender {value!r} is a code whose meaning differs between sources; write F or M")
        return LabCell(name, format_number(_finite(value)), unit, float(value), column)
    text = " ".join(value.split()).replace(";", ",")  # ";" ends a sentence
    if name == "gender":
        if text.isdigit():
            raise _CellRefusedError(f"gender {text!r} is a code whose meaning differs between sources; write F or M")
        text = GENDERS.get(text.casefold(), text)
    return LabCell(name, text, unit, None, column)


def _read_text_cell(text: str, unit: str, column: LabColumn) -> LabCell | None:
    """Text such as "HEMOLYZED" or "2-4" in a number column: kept, unless a foreign unit would need a conversion."""
    if not text:
        return None
    if _COMMA_NUMBER.fullmatch(text):
        raise _CellRefusedError(f"{text!r} has a comma, which may be a decimal or a thousands sign; write 1.4 or 5210")
    if unit and _unit_key(unit) != _unit_key(column.unit):
        raise _CellRefusedError(f"{text!r} is not a number and cannot be converted from {unit!r} to {column.unit!r}")
    return LabCell(column.name, text, unit and column.unit, None, column)


def _value_and_unit(raw: Any) -> tuple[Any, str]:
    if isinstance(raw, tuple | list):
        if len(raw) != 2 or not (raw[1] is None or isinstance(raw[1], str)):
            raise _CellRefusedError(
                f"a cell is a value or (value, unit), not a {type(raw).__name__} of {len(raw)} items"
            )
        return raw[0], (raw[1] or "").strip()
    return raw, ""


def _split_value(raw: Any) -> tuple[str, float | None, str]:
    """(comparator, number, unit) of a cell of a number column; (text, None, unit) if it is text or missing ("")."""
    value, unit = _value_and_unit(raw)
    if is_missing(value):
        return "", None, unit
    if not isinstance(value, str):
        return "", _finite(value), unit
    text = " ".join(value.split()).replace(";", ",")
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text, None, unit
    inner = (match["unit"] or "").strip()
    if inner and unit and _unit_key(inner) != _unit_key(unit):
        raise _CellRefusedError(f"the value says {inner!r} but the unit given beside it is {unit!r}")
    return match["sign"] or "", _finite(float(match["number"])), unit or inner


def _finite(value: Any) -> float:
    # NumPy's bool is no Real, Python's bool is one
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise _CellRefusedError(f"a cell holds a number or text, not a {type(value).__name__}")
    if not math.isfinite(value):
        raise _CellRefusedError(f"{value} is not a finite number")
    return float(value)


def _factor(written: str, unit: str, column: LabColumn) -> float:
    """What a value in `unit` is multiplied by to be in the column's canonical unit; refuses an unknown unit."""
    if _key(written) in _ALIAS_FACTORS_BY_KEY:
        factors = _ALIAS_FACTORS_BY_KEY[_key(written)]
        if not unit:
            raise _CellRefusedError(
                f"{written!r} is stored as {column.name!r} and needs its unit: "
                f"(value, unit) with {' or '.join(factors)}"
            )
    else:
        factors = {column.unit: 1.0, **column.factors}
        if not unit:
            return 1.0
    factor = _find_factor(factors, unit)
    if factor is not None:
        return factor
    known_units = ", ".join(name for name in factors if name) or "no unit"
    raise _CellRefusedError(f"unit {unit!r} of {column.name!r} is not known; give the value in one of: {known_units}")


def _implausible(column: LabColumn, number: float, unit: str, value: float) -> str:
    low, high = column.plausible or (-math.inf, math.inf)
    given = f"{format_number(number)} {unit}".strip()
    if unit and _unit_key(unit) != _unit_key(column.unit):
        given += f" = {format_number(value)} {column.unit}"
    reason = (
        f"{column.name} {given} is impossible: allowed is {format_number(low)} to {format_number(high)} {column.unit}"
    )
    others = [
        name for name, factor in column.factors.items() if not unit and factor != 1 and low <= value * factor <= high
    ]
    if others:
        reason += f"; if the unit is {' or '.join(others)}, give (value, unit)"
    return reason.strip()
