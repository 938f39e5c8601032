"""Prediction of a table of patients: reading ahead against one at a time, and memory against the number (row 9).

    OMP_NUM_THREADS=1 python benchmarks/prediction.py --patients 24 --pairs 3 --memory 1000 10000

The cohort is synthetic, the model is the tiny one with random weights. The reference answers one patient after the
other in one process. Ours is what `tgmm predict --manifest` does: worker processes read ahead, answers are written as
they come. The ratio is one of wall times, because the work moves to other processes. The start of the worker processes
counts, so few patients give a low ratio. Look at `load`: on a busy machine the ratio says nothing.

`--memory` predicts tables of these lengths (labs only, without worker processes), each in a forked process, and prints
the growth of the memory per patient. Beside it stand the table alone, and a prediction that holds all answers in a
list.
"""

import csv
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import alternate, argument_parser, environment, figure, peak_growth, write

from tgmm_hf import TgmmConfig, TgmmModel, default_processor
from tgmm_hf.cohorts.synthetic.cohort import write_cohort
from tgmm_hf.data.predicted_table import predict_table
from tgmm_hf.data.prediction import load_pipeline, patients_from_table, predict
from tgmm_hf.data.tokenizer import task_texts, train_tokenizer
from tgmm_hf.training.saving import save_repository
from tgmm_hf.utils.watched_worker import LIMITS

GOAL = 1.4
LABS = {"age": (40, 90), "Creatinine": (0.5, 3), "Potassium": (3.2, 5.4), "Sodium": (130, 148), "NTproBNP": (50, 9000)}
"""Columns of the long tables, with the range of their values."""


def save_model(directory: Path) -> Path:
    """Save a tiny model with random weights."""
    config = TgmmConfig.tiny()
    tasks: Any = config.tasks
    tokenizer = train_tokenizer(task_texts(tasks), vocab_size=config.get_text_config().vocab_size)
    config.tokenize_tasks(tokenizer)
    model = TgmmModel(config).eval()
    model.initialise_texts()
    save_repository(model, default_processor(config, tokenizer), directory)
    return directory


def write_table(path: Path, patients: int) -> None:
    """Write a table of patients with labs only."""
    draw = random.Random(0)  # noqa: S311 - no secret
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", *(f"labs.{name}" for name in LABS)])
        for number in range(patients):
            table.writerow([f"p{number}", *(round(draw.uniform(*span), 2) for span in LABS.values())])


def memory_rows(model: Path, sizes: list[int], scratch: Path) -> list[dict[str, Any]]:
    """Measure the growth of the memory for both ways and each number of patients, the table included."""
    pipe, results = load_pipeline(str(model)), []
    for size in sizes:
        table = scratch / f"{size}.csv"
        write_table(table, size)

        def in_list(table: Path = table) -> None:
            answers = list(predict(pipe, patients_from_table(table), batch_size=32))
            (scratch / "list.json").write_text(json.dumps(answers, indent=1))

        def streamed(table: Path = table) -> None:
            predict_table(pipe, patients_from_table(table), scratch / "stream.json", batch_size=32)

        def table_alone(table: Path = table) -> None:
            patients_from_table(table)

        for way, run in {"table": table_alone, "list": in_list, "stream": streamed}.items():
            start = time.perf_counter()
            growth = peak_growth(run)
            seconds = time.perf_counter() - start
            results.append({"patients": size, "way": way, "mib": growth / 2**20, "seconds": round(seconds, 1)})
    return results


def kib_a_patient(results: list[dict[str, Any]], way: str) -> float:
    """Compute the growth of the peak memory in KiB per patient, between the smallest and the largest table."""
    mine = [entry for entry in results if entry["way"] == way]
    return float(1024 * (mine[-1]["mib"] - mine[0]["mib"]) / (mine[-1]["patients"] - mine[0]["patients"]))


def compare(model: Path, scratch: Path, patients: int, pairs: int) -> dict[str, Any]:
    """Measure one at a time against reading ahead. Return a row of the table."""
    write_cohort(scratch / "cohort", patients)
    rows = patients_from_table(scratch / "cohort" / "cohort.parquet")
    pipe = load_pipeline(str(model))
    runs: dict[str, Callable[[], object]] = {
        "one": lambda: [pipe(patient) for patient in rows],
        "ahead": lambda: predict_table(pipe, rows, scratch / "answers.json", limits=LIMITS),
    }
    times = alternate(runs, pairs)
    return {
        "row": "9",
        "what": f"tgmm predict --manifest of {patients} patients, tiny model: one at a time / reading ahead, wall time",
        "reference": {name: value / patients for name, value in times["one"].items()},
        "ours": {name: value / patients for name, value in times["ahead"].items()},
        "ratio": times["one"]["wall_ms"] / times["ahead"]["wall_ms"],
        "goal": GOAL,
    }


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--patients", type=int, default=24, help="patients of the comparison (default 24)")
    parser.add_argument("--pairs", type=int, default=3, help="measured runs of each way (default 3)")
    parser.add_argument(
        "--memory", type=int, nargs="*", default=[], help="lengths of tables; two or more (default none)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = save_model(scratch / "model")
        rows = [compare(model, scratch, arguments.patients, arguments.pairs)] if arguments.patients else []
        results = memory_rows(model, arguments.memory, scratch)
    if len(arguments.memory) > 1:
        held, alone, ours = (kib_a_patient(results, way) for way in ("list", "table", "stream"))
        what = f"KiB of memory a patient, labs only (the table alone {alone:.3g}, answers in a list {held:.3g})"
        rows.append(figure("9, memory", what, ours, 0))
    write({"rows": rows, "memory": results, "pairs": arguments.pairs, "machine": environment()})


if __name__ == "__main__":
    main()
