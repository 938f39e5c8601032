"""Bytes and floating-point operations of one patient, from which `docs/scaling.md` computes.

    OMP_NUM_THREADS=1 python benchmarks/cost.py --patients 7 --views 9

Operations of the echo encoder and of the view classifier (ConvNeXt-B, one frame) are counted on tensors without data
(device "meta"), so this takes seconds at full size. A multiplication and an addition are two operations. `--patients`
writes and prepares a synthetic cohort and measures bytes and CPU time of a patient; 0 leaves this out.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import argument_parser, environment, write
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import convnext_base

from tgmm_hf import TgmmConfig, TgmmModel, default_processor
from tgmm_hf.cohorts.synthetic.cohort import write_cohort
from tgmm_hf.data.prepare import prepare
from tgmm_hf.encoders.encoder_loading import build_encoder
from tgmm_hf.processing_tgmm import bert_cased_tokenizer


def operations(views: int, tokens: int) -> dict[str, float]:
    """Count the operations of a forward pass, in billions, by part, and the weights in millions."""
    config = TgmmConfig()
    config.tokenize_tasks(bert_cased_tokenizer())
    with torch.device("meta"):
        model = TgmmModel._from_config(config, attn_implementation="eager").eval()
        echo: Any = config.echo_config
        clip = torch.randn(1, echo.num_frames, 3, echo.image_size, echo.image_size)
        classifier, frame = convnext_base(), torch.randn(1, 3, echo.image_size, echo.image_size)
    # These two look at values of their masks, which a tensor without data does not have.
    labs, ecg = (build_encoder(part).eval() for part in (config.labs_config, config.ecg_config))
    for encoder in (labs, ecg):
        encoder.set_attn_implementation("eager")  # every operation is a matrix product that is counted
    counts = {
        "labs": count(lambda: labs(torch.ones(1, tokens, dtype=torch.long))),
        "ecg": count(lambda: ecg(torch.randn(1, 12, 2250))),
        "one echo clip": count(lambda: model.echo_encoder(clip)),
        "view of one clip": count(lambda: classifier(frame)),
    }
    counts["a patient"] = counts["labs"] + counts["ecg"] + views * counts["one echo clip"]
    weights = {name: getattr(model, f"{name}_encoder").num_parameters() / 1e6 for name in ("labs", "ecg", "echo")}
    weights["all"] = model.num_parameters() / 1e6
    return counts | {f"million weights, {name}": number for name, number in weights.items()}


def count(run: Callable[[], object]) -> float:
    """Count the operations of a function, in billions."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops() / 1e9)


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
