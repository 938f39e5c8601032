"""bf16 and dynamic int8 against float32 on this CPU, all three measured in this run.

    python benchmarks/precision.py --size paper --views 2 --repeats 3

Prints seconds a patient (CPU time of this process, best of the repeats), the ratio float32 / other, the weights' size,
and how far the probabilities of the first task move. The model has random weights: its answers are near 1/2; the last
figure says that nothing is broken, not how much accuracy a trained model loses.
"""

import argparse
import copy
import io
import json
import time
import warnings

import torch

from tgmm_hf import TgmmConfig, TgmmModel
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, bert_cased_tokenizer


def inputs(config: TgmmConfig, views: int) -> dict[str, torch.Tensor]:
    echo = config.echo_config
    clips = torch.randn(1, config.num_views, echo.num_frames, 3, echo.image_size, echo.image_size)
    return {
        "input_ids": torch.randint(1000, 20_000, (1, 256)),
        "attention_mask": torch.ones(1, 256, dtype=torch.long),
        "ecg_values": torch.randn(1, 12, 2250),
        "ecg_mask": torch.ones(1, 12, dtype=torch.bool),
        "pixel_values_videos": clips,
        "view_mask": torch.arange(config.num_views)[None] < views,
    }


def measure(model: TgmmModel, batch: dict[str, torch.Tensor], repeats: int) -> tuple[float, torch.Tensor]:
    """CPU seconds of the fastest of several forward passes after one to warm up, and the probabilities."""
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.process_time()
            probabilities = model(**batch).probabilities
            times.append(time.process_time() - start)
    return min(times[1:]), probabilities.float()


def megabytes(model: TgmmModel) -> float:
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "paper"], default="paper")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    paper = arguments.size == "paper"
    config = TgmmConfig() if paper else TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE})
    config.tokenize_tasks(bert_cased_tokenizer())
    model = TgmmModel(config).eval()
    batch = inputs(config, arguments.views)
    result: dict[str, object] = {"torch": torch.__version__, "threads": torch.get_num_threads(), **vars(arguments)}
    seconds, expected = measure(model, batch, arguments.repeats)
    result["float32"] = {"seconds": round(seconds, 3), "megabytes": round(megabytes(model), 1)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the successor, torchao, is a package of its own
        int8 = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {torch.nn.Linear}, dtype=torch.qint8)
    for name, other in (("int8_dynamic", int8), ("bfloat16", model.to(torch.bfloat16))):
        taken, found = measure(other, batch, arguments.repeats)
        result[name] = {
            "seconds": round(taken, 3),
            "ratio_to_float32": round(seconds / taken, 2),
            "megabytes": round(megabytes(other), 1),
            "largest_change_of_a_probability": round(float((found - expected).abs().max()), 4),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
