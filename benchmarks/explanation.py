"""Seconds and memory of the report of one patient with contributions (row 16).

    OMP_NUM_THREADS=1 python benchmarks/explanation.py --size tiny
    OMP_NUM_THREADS=1 python benchmarks/explanation.py --size paper

The patient is synthetic and has all modalities, the model has random weights. It is what `tgmm explain` does after its
imports: prediction, contributions of labs, ECG, echo, modalities and slots, and the HTML page. There is no reference.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import argument_parser, environment, figure, peak_gib, write

from tgmm_hf import TgmmConfig, TgmmModel, default_processor
from tgmm_hf.cohorts.synthetic.cohort import write_cohort
from tgmm_hf.data.prediction import patients_from_table
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE
from tgmm_hf.reports.patient_file import explain_patient
from tgmm_hf.reports.patient_report import ReportSettings

GOALS = {"tiny": 20.0, "paper": 0.0}
MEMORY_GOAL = 8.0


def make_pipe(size: str) -> TgmmCardiacPipeline:
    """Make a pipeline with random weights."""
    config = TgmmConfig() if size == "paper" else TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE})
    processor = default_processor(config)
    config.tokenize_tasks(processor.tokenizer)
    torch.manual_seed(0)
    model = TgmmModel(config).eval()
    model.initialise_texts()
    return TgmmCardiacPipeline(model=model, processor=processor)


def noting(begun: list[tuple[str, float]]) -> Callable[[str, float], None]:
    """Make a function that notes the CPU time at which a step begins."""

    def note(name: str, _: float) -> None:
        if not begun or begun[-1][0] != name:
            begun.append((name, time.process_time()))

    return note


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--size", choices=list(GOALS), default="tiny", help="size of the model (default tiny)")
    parser.add_argument("--repeats", type=int, default=1, help="reports, of which the fastest counts (default 1)")
    arguments = parser.parse_args()
    pipe, taken, steps = make_pipe(arguments.size), [], {}
    with tempfile.TemporaryDirectory() as folder:
        write_cohort(Path(folder) / "cohort", 7)
        patients = patients_from_table(Path(folder) / "cohort" / "cohort.parquet")
        patient = next(one for one in patients if one["labs"] and one["ecg"] and one["echo"])
        for _ in range(arguments.repeats):
            start = time.process_time()
            begun: list[tuple[str, float]] = []
            explained = explain_patient(pipe, patient, progress=noting(begun))
            done = time.process_time()
            page = explained.page(ReportSettings())
            taken.append(time.process_time() - start)
            ends = [*(begin for _, begin in begun[1:]), done]
            steps = {name: round(end - begin, 2) for (name, begin), end in zip(begun, ends, strict=True)}
    rows: list[dict[str, Any]] = [
        figure(
            "16",
            f"CPU s of the report of one patient, {arguments.size} model",
            min(taken),
            GOALS[arguments.size],
            at_most=True,
        ),
        figure("16, memory", f"peak GiB of the same, {arguments.size} model", peak_gib(), MEMORY_GOAL, at_most=True),
    ]
    write({"rows": rows, "cpu_seconds_of_steps": steps, "page_kib": len(page) // 1024, "machine": environment()})


if __name__ == "__main__":
    main()
