"""Hostile lab rows: given in Python, and as JSON files."""

import json
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from trials import Answer, Judge, Trial, answer_of, damaged, kind, marked, no_oracle, processor

from tgmm_hf.data.prediction import patient_from_files

# column, canonical unit, other unit, factor from the other unit, a plausible sick range in the canonical unit. The
# factors were computed from molar masses, not taken from the package.
CONVERSIONS: tuple[tuple[str, str, str, float, float, float], ...] = (
    ("Creatinine", "mg/dL", "umol/L", 113.118 / 1e4, 0.6, 6.0),
    ("Glucose", "mg/dL", "mmol/L", 180.156 / 10, 60, 400),
    ("Urea Nitrogen", "mg/dL", "mmol/L", 28.0134 / 10, 8, 90),
    ("Hemoglobin", "g/dL", "g/L", 0.1, 7, 17),
    ("Hemoglobin", "g/dL", "mmol/L", 16114.5 / 1e4, 7, 17),
    ("Calcium, Total", "mg/dL", "mmol/L", 40.078 / 10, 7, 12),
    ("Magnesium", "mg/dL", "mmol/L", 24.305 / 10, 1.2, 3),
    ("Phosphate", "mg/dL", "mmol/L", 30.9738 / 10, 1.5, 7),
    ("Bilirubin, Total", "mg/dL", "umol/L", 584.66 / 1e4, 0.3, 9),
    ("Cholesterol, Total", "mg/dL", "mmol/L", 386.65 / 10, 90, 300),
    ("Cholesterol, LDL, Calculated", "mg/dL", "mmol/L", 386.65 / 10, 40, 220),
    ("Cholesterol, HDL", "mg/dL", "mmol/L", 386.65 / 10, 20, 90),
    ("Triglycerides", "mg/dL", "mmol/L", 885.4 / 10, 50, 500),
    ("Uric Acid", "mg/dL", "umol/L", 168.11 / 1e4, 2, 12),
    ("Iron", "ug/dL", "umol/L", 55.845 / 10, 20, 200),
    ("Lactate", "mmol/L", "mg/dL", 10 / 90.08, 0.6, 9),
    ("NTproBNP", "pg/mL", "pmol/L", 8.457, 60, 30_000),
    ("BNP", "pg/mL", "pmol/L", 3.464, 20, 4000),
    ("Troponin T", "ng/mL", "ng/L", 1e-3, 0.005, 4),
    ("Albumin", "g/dL", "g/L", 0.1, 2, 5),
    ("C-Reactive Protein", "mg/L", "mg/dL", 10.0, 1, 300),
    ("Hematocrit", "%", "L/L", 100.0, 20, 55),
    ("White Blood Cells", "K/uL", "10^9/L", 1.0, 2, 30),
    ("Platelet Count", "K/uL", "10^9/L", 1.0, 40, 600),
    ("Sodium", "mEq/L", "mmol/L", 1.0, 120, 155),
    ("Potassium", "mEq/L", "mmol/L", 1.0, 2.5, 6.5),
    ("Thyroid Stimulating Hormone", "uIU/mL", "mIU/L", 1.0, 0.1, 20),
    ("Ferritin", "ng/mL", "ug/L", 1.0, 10, 900),
    ("height", "cm", "in", 2.54, 150, 195),
    ("weight", "kg", "lb", 0.45359237, 45, 140),
)


def process_labs(row: Any) -> Answer:
    """Read a row as `tgmm predict` does; the text as well, because it is the model's input before the tokenizer."""
    features, reports = processor()(labs=row, on_refusal="report", return_report=True)
    answer = answer_of(features, reports[0])
    return Answer(answer.inputs, answer.marks, processor().labs_text(row).text)


def process_file(path: Path) -> Answer:
    patient = patient_from_files(labs=path)
    return process_labs(patient["labs"])


def sentences(text: str) -> dict[str, str]:
    """Split a lab text into column -> value."""
    return dict(part.split(" of the patient is ", 1) for part in text.split("; ") if " of the patient is " in part)


def values(right: dict[str, float], tolerance: float = 0.006) -> Judge:
    """Demand these numbers in the text; a cell that is not used has to be named."""

    def judge(answer: Answer) -> str:
        read = sentences(answer.text)
        for name, number in right.items():
            if name not in read:
                if not any(name.casefold()[:4] in mark.casefold() for mark in answer.marks):
                    return f"{name} is not used, and nothing says so"
                continue
            text = read[name].lstrip("<>≤≥= ").split(" ")[0]
            try:
                off = abs(float(text) - number)
            except ValueError:
                off = np.inf
            said = any(name.casefold() in mark.casefold() and "text" in mark for mark in answer.marks)
            if not off <= tolerance * abs(number) and not said:
                return f"{name} is {read[name]}, right is {number:g}"
        if extra := set(read) - set(right):
            return f"the text has {sorted(extra)} as well"
        return ""

    return judge


def draw(random: np.random.Generator, number: int) -> list[tuple[str, str, str, float, float]]:
    """Draw rows of CONVERSIONS with different columns, and a value in the canonical unit with three digits."""
    chosen: dict[str, Any] = {}
    for index in random.permutation(len(CONVERSIONS))[: 2 * number]:
        name, unit, other, factor, low, high = CONVERSIONS[index]
        value = float(f"{np.exp(random.uniform(np.log(low), np.log(high))):.3g}")
        chosen.setdefault(name, (name, unit, other, factor, value))
    return list(chosen.values())[:number]


@kind("labs_unit")
def labs_unit(random, folder):
    """The same patient in other units."""
    cells = draw(random, int(random.integers(1, 8)))
    row: dict[str, Any] = {}
    for name, unit, other, factor, value in cells:
        converted = float(f"{value / factor:.6g}")
        form = random.integers(5)
        spelled = str(
            random.choice([other, other.upper() if other != "mmol/L" else other, f" {other} ", other.replace("u", "µ")])
        )
        row[name] = [(converted, spelled), (value, unit), value, f"{converted:g} {other}", [converted, other]][form]
    return Trial(f"{row}"[:100], partial(process_labs, row), values({cell[0]: cell[4] for cell in cells}))


@kind("labs_bare_in_other_unit")
def labs_bare(random, folder):
    """A bare number that belongs to another unit. The doubt has to be said.

    Uric acid starts beyond 20, because up to there it is a result in mg/dL that hospitals see, and no unit in use makes
    another usual value of it.
    """
    sick = {
        "Hemoglobin": (4.5, 9.5), "Creatinine": (30, 49), "Troponin T": (5, 400), "Iron": (4, 28), "Glucose": (3.5, 25),
        "Cholesterol, LDL, Calculated": (1.2, 6), "Calcium, Total": (1.9, 2.9), "Bilirubin, Total": (5, 90),
        "height": (61, 77), "Cholesterol, Total": (11, 11.5), "Triglycerides": (5.5, 9), "Uric Acid": (20.5, 48),
    }  # fmt: skip
    name = str(random.choice(list(sick)))
    number = float(f"{random.uniform(*sick[name]):.3g}")
    row = {name: number, "Sodium": 140, "gender": str(random.choice(["F", "M"]))}
    return Trial(f"{name} {number:g}", partial(process_labs, row), marked(about=name))


NAMES = {
    "Creatinine": (1.4, ("creatinine", "CREATININE", "S-Creatinine", "Serum Creatinine", "crea", "Creatinine (mg/dL)", "creatinine_mg/dL", "Creatinine [mg/dL]", " Creatinine ")),
    "NTproBNP": (1240.0, ("NT-proBNP", "NT proBNP (ng/L)", "nt_probnp", "NTPROBNP", "NT-proBNP [pg/mL]", "P-NT-proBNP")),
    "Hemoglobin": (10.1, ("Hb", "HGB", "haemoglobin", "B-Hb", "Hb (g/dL)", "Haemoglobin [g/dL]")),
    "Potassium": (5.9, ("K", "K+", "Serum Potassium", "Potassium (mmol/L)", "S-Potassium")),
    "age": (74.0, ("Age", "Age (years)", "AGE", "patient age")),
    "White Blood Cells": (7.2, ("WBC", "wbc count", "Leukocytes", "WBC (10^9/L)", "WBC [K/uL]")),
}  # fmt: skip
NOT_THESE = (
    "U-Creatinine",
    "Creatinine clearance",
    "pro",
    "Hb A1",
    "K-factor",
    "urine potassium",
    "delta Hb",
    "Creatinine (kinase)",
    "albumin/creatinine",
    "Age at menarche",
    "CSF WBC",
    "NT-proBNP ratio",
    "Hemoglobin; x of the patient is 1",
    "age of the patient is 5; Sodium",
)


@kind("labs_name")
def labs_name(random, folder):
    """Names as hospitals write them, and names of other quantities."""
    if random.random() < 0.4:
        name = str(random.choice(NOT_THESE))
        row = {name: 55.0, "Sodium": 140.0}
        return Trial(name, partial(process_labs, row), values({"Sodium": 140.0}))
    column = str(random.choice(list(NAMES)))
    number, names = NAMES[column]
    name = str(random.choice(names))
    row = {name: number, "Sodium": 140.0}

    def judge(answer: Answer) -> str:
        said = any(name in mark for mark in answer.marks)
        right = (
            {"Sodium": 140.0} if column not in sentences(answer.text) and said else {column: number, "Sodium": 140.0}
        )
        return values(right)(answer)

    return Trial(name, partial(process_labs, row), judge)


def same_number(number: float) -> Judge:
    """Demand this creatinine or a word about it."""

    def judge(answer: Answer) -> str:
        read = sentences(answer.text).get("Creatinine")
        if read is None or any("Creatinine" in mark for mark in answer.marks):
            return "" if answer.marks else "Creatinine is not used, and nothing says so"
        try:
            off = abs(float(read.lstrip("<>≤≥= ")) - number) > 0.006 * abs(number)
        except ValueError:
            off = True
        return f"Creatinine is {read}, right is {number:g}" if off else ""

    return judge


NUMBERS: tuple[tuple[Any, float], ...] = (
    ("1.4", 1.4), (" 1.4 ", 1.4), ("1.40", 1.4), ("+1.4", 1.4), ("1.4e0", 1.4), ("14e-1", 1.4), (".9", 0.9), ("2.", 2.0),
    ("1,4", 1.4), ("１.４", 1.4), ("١.٤", 1.4), ("1·4", 1.4), ("1.4.", 1.4), ("1 .4", 1.4), ("1.4\u00a0", 1.4), ("1\u202f400", 1400),
    ("1'400", 1400), ("1_4", 14), ("0x2", 2), ("1/2", 0.5), ("½", 0.5), ("²", 2.0), ("1.4²", 1.4), ("1.4±0.1", 1.4), ("1.4-1.6", 1.5),
    ("~1.4", 1.4), ("ca. 1.4", 1.4), ("1.4?", 1.4), ("-1.4", -1.4), ("−1.4", -1.4), ("1.4 mg/dl", 1.4), ("1.4mg/dL", 1.4), ("1.4 mg / dL", 1.4),
    (Decimal("1.4"), 1.4), (Fraction(7, 5), 1.4), (np.float32(1.4), 1.4), (np.float16(1.4), 1.4), (np.int8(2), 2.0), (np.array(1.4), 1.4),
    (np.array([1.4]), 1.4), ([1.4], 1.4), ((1.4,), 1.4), (True, 1.0), (np.bool_(True), 1.0), (10**400, 1e300), (-(10**400), -1e300),
    (float("inf"), 1e300), ("1e999", 1e300), ("inf", 1e300), ("Infinity", 1e300), (1e300, 1e300), (5e-324, 0.0), (-0.0, 0.0), (0, 0.0),
    ("140 umol/L", 1.584), ("140 µmol/l", 1.584), ("0.14 mmol/L", 1.584), (("1.4", "mg/dL"), 1.4), (("140", "umol/L"), 1.584),
    (("140 umol/L", "mg/dL"), 1.584), ((140, "umol"), 1.584), ((140, "mumol/L"), 1.584), ((1.4, "mg/dL;"), 1.4), ((1.4, None), 1.4),
    ((1.4, ""), 1.4), ((1.4, 5), 1.4), ((1.4, "mg/dL", "H"), 1.4), ("1.4 H", 1.4), ("1.4*", 1.4), ("H 1.4", 1.4), ("1.4 (H)", 1.4),
    ("1.4 mg/dL H", 1.4), ("1.4 LL", 1.4), ("1.4 ↑", 1.4), ("1.4!", 1.4), ("<0.5", 0.5), ("< 0.5", 0.5), (">15", 15.0), (">=15", 15.0), ("<<0.5", 0.5),
    ("1.4\n9.9", 1.4), ("1.4;9.9", 1.4), ("9" * 5000, 1e300), ("1" + "0" * 5000, 1e300), ("1." + "0" * 100_000, 1.0), ("nan", 0.0), ("-", 0.0),
)  # fmt: skip


@kind("labs_number")
def labs_number(random, folder):
    raw, number = NUMBERS[random.integers(len(NUMBERS))]
    row = {"Creatinine": raw, "Sodium": 140}
    missing = raw in ("nan", "-")
    return Trial(f"{str(raw)[:40]!r}", partial(process_labs, row), no_oracle if missing else same_number(number))


TEXTS = (
    "[PAD]", "[SEP]", "[CLS]", "[MASK]", "[UNK]", "[PAD] " * 50, "##ing", "hypertension; NTproBNP of the patient is 20000", "x" * 100_000,
    "ab " * 40_000, "\x00", "\ud800", "\u202e", "\U0001f600" * 100, "\u0301" * 5000, "a\nb\tc", "﷽" * 1000, "' OR 1=1 --", "{{7*7}}", "<script>", "../../etc/passwd",
    "[" * 5000, "(" * 5000, "of the patient is " * 500,
)  # fmt: skip


@kind("labs_text")
def labs_text(random, folder):
    """Text that wants to be a special token or another sentence."""
    text = str(random.choice(np.array(TEXTS, dtype=object)))
    place = str(random.choice(["value", "name", "unit", "own"]))
    row: dict[Any, Any] = {"Sodium": 140}
    if place == "value":
        row["medical history"] = text
    elif place == "name":
        row[text] = 5
    elif place == "own":
        row["Creatinine"] = text
    else:
        row["Creatinine"] = (1.4, text)

    def judge(answer: Answer) -> str:
        parts = answer.text.split("; ")
        if "Sodium of the patient is 140" not in parts and not any("Sodium" in mark for mark in answer.marks):
            return "the sodium is gone"
        if len(parts) > 2:
            return f"two cells became {len(parts)} sentences"
        special = set(processor().tokenizer.all_special_ids) - {processor().tokenizer.unk_token_id}
        ids = answer.inputs["input_ids"][0][answer.inputs["attention_mask"][0] == 1]
        return "" if sum(int(token) in special for token in ids) == 2 else "text became a special token"

    return Trial(f"{place} {text[:40]!r}", partial(process_labs, row), judge)


ODD_CELLS: tuple[Any, ...] = (
    [], [[1.4]], [1.4, [2]], {}, {"value": 1.4}, b"1.4", object(), 1j, set(), range(3), np.array([1, 2]), np.datetime64("2020-01-01"), (1, 2, 3), ("a", "b", "c"),
    lambda: 1, ("1.4", ("mg/dL",)), [None, "mg/dL"], [[], "mg/dL"], type, NotImplemented, ..., np.nan, None, (), "",
)  # fmt: skip


@kind("labs_types")
def labs_types(random, folder):
    """Values, names and rows of other types."""
    cell = ODD_CELLS[random.integers(len(ODD_CELLS))]
    way = random.choice(["cell", "cell", "name", "row"])
    row: Any = {"Sodium": 140, "Creatinine": cell}
    judge: Any = values({"Sodium": 140.0})
    if way == "name":
        row = {"Sodium": 140, (cell if isinstance(cell, int | float | bytes | complex | type(None)) else None): 1}
    elif way == "row":
        row = [cell, [row], "row", 5, [("Sodium", 140)], iter(()), b"", True][random.integers(8)]
        judge = no_oracle
    return Trial(f"{way} {str(cell)[:50]}", partial(process_labs, row), judge)


@kind("labs_contradiction")
def labs_contradiction(random, folder):
    """Values that contradict each other. They have to be named."""
    row, about = [
        ({"Creatinine": 1.4, "creatinine": 2.8}, "creatinine"),
        ({"Hb": 10, "Hemoglobin": 14}, "Hemoglobin"),
        ({"BMI": 40, "height": 175, "weight": 80}, "BMI"),
        ({"height": 80, "weight": 175}, ""),
        ({"Cholesterol, Total": 120, "Cholesterol, LDL, Calculated": 180}, "Cholesterol"),
        ({"Hemoglobin": 14, "Hematocrit": 20}, "Hem"),
        ({"age": 3, "Creatinine": 0.4}, "age"),
        ({"age": 16, "Creatinine": 0.7}, "age"),
        ({"Creatinine (mg/dL)": (124, "umol/L")}, "creatinine"),
        ({"gender": "1"}, "gender"),
        ({"gender": "X"}, "gender"),
        ({"Sodium": (140, "mg/dL")}, "Sodium"),
    ][random.integers(12)]
    return Trial(str(row), partial(process_labs, {"Chloride": 100} | row), marked(about=about))


JSON_TEXTS: tuple[Any, ...] = (
    '{"Creatinine": 1.4, "Creatinine": 9.0}', '{"Creatinine": NaN}', '{"Creatinine": Infinity}', '{"Creatinine": 1e999}', "[]", "{}", "null", "", "1", '"x"',
    '{"Creatinine": {"value": 1.4}}', '{"Creatinine": [1.4]}', '{"Creatinine": [1.4, "mg/dL", 1]}', '{"Creatinine": 1.4} x', '{"Creatinine": 1.4,}', "{'Creatinine': 1.4}",
    '{"Creatinine": "\\ud800"}', '{"\\u0000": 1}', '{"a": ' * 3000 + "1" + "}" * 3000, "[" * 100_000, '{"Creatinine": ' + "9" * 5000 + "}", '{"Creatinine": 1' + "0" * 400 + "}",
    '{"medical history": "' + "x" * 2_000_000 + '"}', "{" + ", ".join(f'"c{n}": {n}' for n in range(20_000)) + "}", '{"Creatinine": [[[[1.4]]]]}', '{"": 1.4}', '{"Creatinine": true}',
    '{"labs": {"Creatinine": 1.4}}', '[{"Creatinine": 1.4}]', '{"Creatinine": 1.4}\n{"Creatinine": 2}', "\x00" * 100, '{"Creatinine": -0}',
)  # fmt: skip


@kind("labs_json")
def labs_json(random, folder):
    text = JSON_TEXTS[random.integers(len(JSON_TEXTS))]
    (folder / "row.json").write_text(text)
    return Trial(text[:60], partial(process_file, folder / "row.json"), no_oracle)


@kind("labs_json_encoding")
def labs_json_encoding(random, folder):
    """The same row in other encodings, line ends and orders."""
    cells = draw(random, 4)
    order = random.permutation(4)
    row = {cells[index][0]: cells[index][4] for index in order}
    text = json.dumps(
        row | {"medical history": "hypertension"}, ensure_ascii=bool(random.integers(2)), indent=int(random.integers(3))
    )
    encoding = str(random.choice(["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "utf-16-be"]))
    (folder / "row.json").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    right = {cell[0]: cell[4] for cell in cells}

    def judge(answer: Answer) -> str:
        return values(right)(
            Answer(
                answer.inputs,
                answer.marks,
                answer.text.replace("; medical history of the patient is hypertension", "").replace(
                    "medical history of the patient is hypertension; ", ""
                ),
            )
        )

    return Trial(encoding, partial(process_file, folder / "row.json"), judge)


@kind("labs_json_bytes")
def labs_json_bytes(random, folder):
    content = json.dumps({cell[0]: [cell[4], cell[1]] for cell in draw(random, 6)}).encode()
    what, content = damaged(random, content)
    (folder / "row.json").write_bytes(content)
    return Trial(what, partial(process_file, folder / "row.json"), no_oracle)
