"""Predict one test patient of a cohort with `tgmm predict`, from that patient's own files.

    python scripts/predict_one.py MODEL COHORT_DIRECTORY --out prediction.json

Takes the first test patient who has all three modalities, writes the laboratory row to a JSON file beside the output
and runs the command as one would type it for any other patient.
"""

import argparse
import json
import shlex
from pathlib import Path

from tgmm_hf.cli import main
from tgmm_hf.data.manifest import CohortRow, CohortTable, read_cohort_table


def first_complete(manifest: CohortTable) -> CohortRow:
    """The first test patient with labs, ECG and echo."""
    for row in manifest.rows:
        if row.split == "test" and row.labs and row.ecg_path is not None and row.echo_paths:
            return row
    raise SystemExit("The cohort has no test patient with all three modalities.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--out", type=Path, default=Path("prediction.json"))
    arguments = parser.parse_args()

    manifest = read_cohort_table(arguments.cohort / "cohort.parquet")
    patient = first_complete(manifest)
    labs = arguments.out.with_name("patient_labs.json")
    labs.write_text(json.dumps(patient.labs, indent=1) + "\n")
    command = ["predict", arguments.model, "--id", patient.id, "--labs", str(labs)]
    command += ["--ecg", str(manifest.root / str(patient.ecg_path))]
    command += ["--echo", str((manifest.root / patient.echo_paths[0]).parent)]
    command += ["--views", str(arguments.cohort / "views.csv"), "--out", str(arguments.out)]
    print(shlex.join(["tgmm", *command]))
    main(command)
