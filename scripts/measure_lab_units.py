"""Measure how many laboratory results are in doubt: with their units, without them, and with a declared unit system.

    python scripts/measure_lab_units.py HOSP_DIRECTORY --out docs/results/checks/labs.md

Reads MIMIC-IV's hosp/ (the open demo suffices): labevents, d_labitems, and for the text columns admissions, patients,
diagnoses_icd, d_icd_diagnoses and prescriptions. Prints and writes numbers only.
"""

import argparse
import base64
import sys
from collections import Counter
from pathlib import Path

import pandas as pd

from tgmm_hf.inputs.lab_cells import is_empty_cell
from tgmm_hf.inputs.lab_columns import find_column
from tgmm_hf.inputs.lab_cross_checks import cross_checks
from tgmm_hf.inputs.lab_text import LabsText
from tgmm_hf.inputs.lab_unit_systems import declare_units
from tgmm_hf.utils.files import whole_file

HEAD = """# Laboratory values: how many are in doubt

Question: how often does `lab_units.py` doubt the unit of a real result, and how often does it miss a wrong unit?

Command: `python scripts/measure_lab_units.py HOSP_DIRECTORY --out docs/results/checks/labs.md`, with `hosp/` of the
open MIMIC-IV demo (100 patients). The usual ranges were set on these results, so the rates for results with units are
optimistic.

"""


def main() -> None:
    """Read the command line, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hosp", type=Path, help="directory with labevents and d_labitems")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    arguments = parser.parse_args()
    page = HEAD + measure(read_results(arguments.hosp)) + "\n" + measure_texts(arguments.hosp)
    with whole_file(arguments.out) as building:
        building.write_text(page, encoding="utf-8")
    sys.stdout.write(page)


def read_results(hosp: Path) -> pd.DataFrame:
    """Read the results of known columns in blood: label, value, unit ("" if there is none), sample, admission."""
    tables = [pd.read_csv(next(hosp.glob(f"{name}.csv*"))) for name in ("labevents", "d_labitems")]
    events = tables[0].merge(tables[1], on="itemid")
    events = events[(events.fluid == "Blood") & (events.category != "Blood Gas")]
    known = events[events.label.map(lambda label: find_column(str(label)) is not None)]
    known = known[~known.value.map(is_empty_cell)]
    columns = ["label", "value", "valueuom", "specimen_id", "hadm_id"]
    return known.sort_values("charttime")[columns].fillna({"valueuom": ""})


OUTCOMES = ("used without a word", "used, unit named as assumed", "used, value named as unusual", "not used")


def outcome_of(row: dict) -> str:
    """Return what becomes of a row of one cell."""
    labs = LabsText.from_row(row)
    if not labs.cells:
        return OUTCOMES[3]
    codes = {check["code"] for check in labs.checks}
    return OUTCOMES[1] if "labs_unit_assumed" in codes else OUTCOMES[2] if codes else OUTCOMES[0]


def measure(results: pd.DataFrame) -> str:
    """Write the tables of the page."""
    right: dict[str, Counter[str]] = {"with unit": Counter(), "US declared": Counter(), "no unit": Counter()}
    doubted: dict[str, Counter[str]] = {}
    wrong: dict[str, Counter[str]] = {}
    for label, value, unit in results[["label", "value", "valueuom"]].itertuples(index=False):
        right["with unit"][outcome_of({label: (value, unit)})] += 1
        right["US declared"][outcome_of(declare_units({label: value}, "US"))] += 1
        outcome = outcome_of({label: value})
        right["no unit"][outcome] += 1
        doubted.setdefault(label, Counter())[outcome] += 1
        for number in in_other_unit(LabsText.from_row({label: (value, unit)})):
            wrong.setdefault(label, Counter())[outcome_of({label: number})] += 1
    doubted = {name: row for name, row in doubted.items() if row[OUTCOMES[1]] or row[OUTCOMES[3]]}
    parts = [
        "## Results as they are",
        table(right),
        "## The same results without their unit, by column",
        table(doubted),
    ]
    parts += ["## Results in an SI unit or a unit of one country that is left out (a wrong value if it is used)"]
    parts += [table({**wrong, "all": sum(wrong.values(), Counter())})]
    parts += ["## Cells that contradict each other, in rows of real results (false alarms)"]
    parts += [contradictions(results)]
    return "\n\n".join(parts) + "\n"


def contradictions(results: pd.DataFrame) -> str:
    """Count the rows with a contradiction: one row per blood sample, and the last results of an admission."""
    lines = ["| rows | number | with a contradiction | codes |", "|---|---|---|---|"]
    for name, key in (("one blood sample", "specimen_id"), ("last results of an admission", "hadm_id")):
        groups = list(results.dropna(subset=[key]).groupby(key))
        rows = [{label: (value, unit) for label, value, unit, *_ in part.itertuples(index=False)} for _, part in groups]
        codes_of_rows = [{check["code"] for check in cross_checks(LabsText.from_row(row).cells)} for row in rows]
        codes = Counter(code for each in codes_of_rows for code in each)
        written = ", ".join(f"{code} {number}" for code, number in codes.most_common()) or "none"
        lines.append(f"| {name} | {len(rows)} | {sum(map(bool, codes_of_rows))} | {written} |")
    return "\n".join(lines)


def measure_texts(hosp: Path) -> str:
    """Write the section on text columns: findings on real texts, and on the same texts with a fault."""
    parts = ("admissions", "patients", "diagnoses_icd", "d_icd_diagnoses", "prescriptions")
    stays, people, codes, titles, drugs = (pd.read_csv(next(hosp.glob(f"{name}.csv*")), dtype=str) for name in parts)
    rows = text_rows(stays.merge(people, on="subject_id"), codes.merge(titles, on=["icd_code", "icd_version"]), drugs)
    births = [f"{1930 + number % 60}-{1 + number % 12:02}-{1 + number % 28:02}" for number in range(len(rows))]
    history, drug = "medical history", "drug history"
    kinds = {
        "admissions of the demo as they are": rows,
        "each title of a diagnosis as a history": [{history: title} for title in titles.long_title.dropna().unique()],
        "each drug as a drug history": [{drug: name} for name in drugs.drug.dropna().unique()],
        "history in base64": [row | {history: base64.b64encode(row[history].encode()).decode()} for row in rows],
        "history in hexadecimal": [row | {history: row[history].encode().hex()} for row in rows],
        "drugs are the history": [row | {drug: row[history]} for row in rows],
        "history and drugs exchanged": [row | {history: row[drug], drug: row[history]} for row in rows if drug in row],
        "ethnicity is a date": [row | {"ethnicity": birth} for row, birth in zip(rows, births, strict=True)],
        "ethnicity is the gender": [row | {"ethnicity": row["gender"]} for row in rows],
        "other gender": [row | {"gender": {"F": "M", "M": "F"}[row["gender"]]} for row in rows],
    }
    lines = ["## Text columns", "", "| rows | number | with a finding | codes |", "|---|---|---|---|"]
    for name, given in kinds.items():
        codes_of_rows = [{check["code"] for check in LabsText.from_row(row).checks} for row in given]
        written = ", ".join(
            f"{code} {number}" for code, number in Counter(c for each in codes_of_rows for c in each).items()
        )
        lines.append(f"| {name} | {len(given)} | {sum(map(bool, codes_of_rows))} | {written or 'none'} |")
    lines += ["", "Most patients have no diagnosis of one sex only, so most exchanged genders cannot be seen."]
    return "\n".join(lines) + "\n"


def text_rows(stays: pd.DataFrame, diagnoses: pd.DataFrame, drugs: pd.DataFrame) -> list[dict[str, str]]:
    """Make one row per admission with a diagnosis: gender, ethnicity, history (titles) and drugs."""
    titles = diagnoses.groupby("hadm_id").long_title.agg("; ".join)
    names = drugs.dropna(subset=["drug"]).groupby("hadm_id").drug.agg(lambda part: "; ".join(part.unique()))
    rows = []
    for stay in stays.itertuples():
        if stay.hadm_id in titles.index:
            row = {"gender": stay.gender, "ethnicity": stay.race, "medical history": titles[stay.hadm_id]}
            rows.append(row | ({"drug history": names[stay.hadm_id]} if stay.hadm_id in names.index else {}))
    return rows


def table(rows: dict[str, Counter[str]]) -> str:
    """Write one table: a row of counts for each name."""
    lines = [f"| | {' | '.join(OUTCOMES)} | all |", "|---" * (len(OUTCOMES) + 2) + "|"]
    lines += [
        f"| {name} | {' | '.join(str(row[outcome]) for outcome in OUTCOMES)} | {sum(row.values())} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def in_other_unit(labs: LabsText) -> list[float]:
    """Write the numbers of a row in the first SI unit of another scale, or of one country, with four digits."""
    numbers = []
    for cell in labs.cells:
        column = cell.column
        if column is None or cell.number is None or cell.is_limit:
            continue
        scales = [unit for unit in (*column.si, *column.local) if column.factors.get(unit, 1.0) != 1.0]
        if scales:
            offset = column.offsets.get(scales[0], 0.0)
            numbers.append(float(f"{(cell.number - offset) / column.factors[scales[0]]:.4g}"))
    return numbers


if __name__ == "__main__":
    main()
