"""Bytes and floating-point operations of one patient, from which `docs/scaling.md` computes.

    OMP_NUM_THREADS=1 python benchmarks/cost.py --patients 7 --views 9

Operations are counted on tensors without data (device "meta"), so this takes seconds at full size. A multiplication and
an addition are two operations. `--patients` writes and prepares a synthetic cohort and measures bytes and CPU time of a
patient; 0 leaves this out.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measuring import argument_parser, environment, write
from torch.utils.flop_counter import FlopCounterMode

from tgmm_hf import TgmmConfig, TgmmModel, default_processor
from tgmm_hf.cohorts.synthetic.cohort import write_cohort
from tgmm_hf.data.prepare import prepare
from tgmm_hf.processing_tgmm import bert_cased_tokenizer


def operations(views: int, tokens: int) -> dict[str, float]:
    """Count the operations of a forward pass, in billions, by part."""
    config = TgmmConfig()
    config.tokenize_tasks(bert_cased_tokenizer())
    config._attn_implementation = "eager"  # every operation is a matrix product that is counted
    with torch.device("meta"):
        model = TgmmModel._from_config(config, attn_implementation="eager").eval()
        echo: Any = config.echo_config
        parts: dict[str, Any] = {
            "labs": lambda: model.labs_encoder(torch.ones(1, tokens, dtype=torch.long)),
            "ecg": lambda: model.ecg_encoder(torch.randn(1, 12, 2250)),
            "one echo clip": lambda: model.echo_encoder(
                torch.randn(1, echo.num_frames, 3, echo.image_size, echo.image_size)
            ),
        }
        counts = {}
        for name, run in parts.items():
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                run()
            counts[name] = counter.get_total_flops() / 1e9
    counts["a patient"] = counts["labs"] + counts["ecg"] + views * counts["one echo clip"]
    sizes = {name: getattr(model, f"{name}_encoder").num_parameters() / 1e6 for name in ("labs", "ecg", "echo")}
    return (
        counts
        | {f"million weights, {name}": size for name, size in sizes.items()}
        | {"million weights, all": model.num_parameters() / 1e6}
    )


def stored(patients: int) -> dict[str, float]:
    """Measure bytes and CPU seconds of a patient of a synthetic cohort: its files, and what `prepare` stores."""
    with tempfile.TemporaryDirectory() as folder:
        cohort, data = Path(folder) / "cohort", Path(folder) / "data"
        write_cohort(cohort, patients)
        start = time.process_time()
        summary = prepare(cohort / "cohort.parquet", data, default_processor(TgmmConfig()), num_proc=1, limits=None)
        counts = summary["counts"].values()
        seconds = time.process_time() - start
        bytes_of = {
            path: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in (cohort, data)
        }
        records, clips = (sum(count[name] for count in counts) for name in ("records", "clips"))
    return {
        "patients": records,
        "clips a patient": clips / records,
        "megabytes of files a patient": bytes_of[cohort] / records / 1e6,
        "megabytes prepared a patient": bytes_of[data] / records / 1e6,
        "CPU seconds of prepare a patient": seconds / records,
    }


def main() -> None:
    """Count and measure, and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--patients", type=int, default=7, help="patients to prepare (default 7); 0 counts only")
    parser.add_argument("--views", type=int, default=9, help="views of a patient (default 9)")
    parser.add_argument("--tokens", type=int, default=256, help="tokens of the lab text (default 256)")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"billion operations": operations(arguments.views, arguments.tokens)}
    if arguments.patients:
        result["stored"] = stored(arguments.patients)
    write({**result, "machine": environment()}, indent=1)


if __name__ == "__main__":
    main()
