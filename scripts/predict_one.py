"""Predict or explain one test patient of a cohort with `tgmm`, from that patient's own files.

    python scripts/predict_one.py MODEL COHORT_DIRECTORY --out prediction.json     # tgmm predict
    python scripts/predict_one.py MODEL COHORT_DIRECTORY --out patient.html        # tgmm explain

Takes the first test patient who has all three modalities, and writes the lab row to a JSON file beside the output. Then
runs the same command that you would type for any other patient.
"""

import argparse
import shlex
import sys
from pathlib import Path

from tgmm_hf.cli import main
from tgmm_hf.data.manifest import CohortRow, CohortTable, read_cohort_table
from tgmm_hf.utils.files import write_json


def first_complete(manifest: CohortTable) -> CohortRow:
    """Find the first test patient with labs, ECG and echo."""
    for row in manifest.rows:
        if row.split == "test" and row.labs and row.ecg_path is not None and row.echo_paths:
            return row
    raise SystemExit("The cohort has no test patient with all three modalities. Take a larger cohort.")


def predict_one() -> None:
    """Read the command line, and predict the patient."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="directory of a saved model")
    parser.add_argument("cohort", type=Path, help="directory of a cohort of `tgmm synth`")
    parser.add_argument("--out", type=Path, default=Path("prediction.json"), help="JSON file, or HTML report")
    arguments = parser.parse_args()

    manifest = read_cohort_table(arguments.cohort / "cohort.parquet")
    patient = first_complete(manifest)
    labs = arguments.out.with_name("patient_labs.json")
    write_json(labs, patient.labs)  # (value, unit), because the table declares its units
    verb = "predict" if arguments.out.suffix == ".json" else "explain"
    command = [verb, arguments.model, "--id", patient.id, "--labs", str(labs)]
    command += ["--ecg", str(manifest.root / str(patient.ecg_path))]
    command += ["--echo", str((manifest.root / patient.echo_paths[0]).parent)]
    command += ["--views", str(arguments.cohort / "views.csv"), "--out", str(arguments.out)]
    sys.stdout.write(shlex.join(["tgmm", *command]) + "\n")
    sys.stdout.flush()
    main(command)


if __name__ == "__main__":
    predict_one()
