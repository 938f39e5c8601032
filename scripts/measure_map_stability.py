"""Compare the maps of several trainings of one model: does a patient get the same map?

    tgmm explain-check model_of_seed_0 data --cohort cohort --out check0      # and so on, one check for each training
    python scripts/measure_map_stability.py check0 check1 check2 --out stability.md

The columns: mean rank correlation of a patient's maps by two trainings; the same with the maps of other patients
(control); share of pairs with the same strongest unit; pointing in each training. Intervals are over patients.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from tgmm_hf.explanation.stability import stability
from tgmm_hf.utils.files import whole_file

HEAD = "| modality | method | same patient | other patients | same strongest unit | pointing in each training |"


def main() -> None:
    """Read the command line, compare the checks, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", type=Path, nargs="+", help="directories of `tgmm explain-check`, one a training")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    text = table(stability(arguments.checks))
    sys.stdout.write(text)
    if arguments.out is not None:
        with whole_file(arguments.out) as building:
            building.write_text(text, encoding="utf-8")


def table(result: dict[str, Any]) -> str:
    """Write the figures of all methods as a Markdown table."""
    lines = [HEAD, "|---|---|---|---|---|---|"]
    for modality, methods in result.items():
        for method, entry in methods.items():
            cells = [interval(entry[name]) for name in ("same_patient", "other_patient", "same_strongest")]
            cells.append(", ".join(f"{value:.2f}" for value in entry["pointing"]))
            lines.append(f"| {modality} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def interval(entry: dict[str, Any] | None) -> str:
    """Write a mean with its interval."""
    if entry is None:
        return "not known"
    return f"{entry['mean']:.2f} ({entry['ci'][0]:.2f} to {entry['ci'][1]:.2f})"


if __name__ == "__main__":
    main()
