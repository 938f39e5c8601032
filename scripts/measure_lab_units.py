"""Measure how many laboratory results are in doubt: with their units, without them, and with a declared unit system.

    python scripts/measure_lab_units.py HOSP_DIRECTORY --out docs/results/checks/labs.md

Reads labevents and d_labitems of MIMIC-IV's hosp/ (the open demo suffices). Prints and writes numbers only.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import pandas as pd

from tgmm_hf.inputs.lab_columns import find_column
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
    page = HEAD + measure(read_results(arguments.hosp))
    with whole_file(arguments.out) as building:
        building.write_text(page, encoding="utf-8")
    sys.stdout.write(page)


def read_results(hosp: Path) -> pd.DataFrame:
    """Read the results of known columns in blood: label, value, unit ("" if there is none)."""
    tables = [pd.read_csv(next(hosp.glob(f"{name}.csv*"))) for name in ("labevents", "d_labitems")]
    events = tables[0].merge(tables[1], on="itemid")
    events = events[(events.fluid == "Blood") & (events.category != "Blood Gas")]
    known = events[events.label.map(lambda label: find_column(str(label)) is not None)]
    return known[["label", "value", "valueuom"]].fillna({"valueuom": ""})


def measure(results: pd.DataFrame) -> str:
    """Write the tables of the page."""
    counts: dict[str, Counter[str]] = {}
    missed: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for label, value, unit in results.itertuples(index=False):
        forms = {"with unit": {label: (value, unit)}, "no unit": {label: value}}
        forms["US declared"] = declare_units({label: value}, "US")
        counts.setdefault(label, Counter())["results"] += 1
        for name, row in forms.items():
            counts[label][name] += bool(LabsText.from_row(row).checks)
        add_wrong(label, LabsText.from_row({label: (value, unit)}), wrong, missed)
    total = sum(counts.values(), Counter())
    lines = ["| results | in doubt with unit | without unit | US declared |", "|---|---|---|---|"]
    lines.append(
        "| " + " | ".join(str(total[key]) for key in ("results", "with unit", "no unit", "US declared")) + " |"
    )
    lines += ["", "Without a unit, columns with results in doubt:", "", "| column | in doubt | of |", "|---|---|---|"]
    lines += [f"| {name} | {row['no unit']} | {row['results']} |" for name, row in counts.items() if row["no unit"]]
    lines += ["", "The same results written in an SI unit, but without it (a wrong value if it is used):", ""]
    lines += ["| column | used all the same | of |", "|---|---|---|"]
    lines += [f"| {name} | {missed[name]} | {number} |" for name, number in wrong.items()]
    lines += [f"| all | {sum(missed.values())} | {sum(wrong.values())} |"]
    return "\n".join(lines) + "\n"


def add_wrong(label: str, labs: LabsText, wrong: Counter[str], missed: Counter[str]) -> None:
    """Write a result in the first SI unit of another scale, leave the unit out, and count whether it is used."""
    for cell in labs.cells:
        column = cell.column
        if column is None or cell.number is None or cell.is_limit:
            continue
        scales = [unit for unit in column.si if column.factors.get(unit, 1.0) != 1.0]
        if not scales:
            continue
        number = (cell.number - column.offsets.get(scales[0], 0.0)) / column.factors[scales[0]]
        wrong[label] += 1
        missed[label] += bool(LabsText.from_row({label: float(f"{number:.4g}")}).cells)


if __name__ == "__main__":
    main()
