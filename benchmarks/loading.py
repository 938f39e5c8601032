"""Time and memory of loading a full-size saved model against a BERT of the same size, both measured in this run.

    python benchmarks/loading.py --repeats 5

Random weights in the layouts of the published checkpoints are converted, put together by `TgmmModel.from_encoders` and
saved. This needs torchvision (dev extra), 4 GB of disk and 4 GB of memory. Prints seconds per GB of weights until
`from_pretrained` returns (weights mapped) and until all weights have been read, the peak of anonymous memory, and the
ratio TGMM / BERT. The memory is measured in a fresh process, without what the process held before loading. Two copies
of the weights would give a memory ratio of 2.
"""

import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import argument_parser, write
from safetensors import safe_open
from torchvision.models import convnext_base
from torchvision.models.video import mvit_v2_s
from transformers import BertConfig, BertModel, PreTrainedModel

from tgmm_hf import TgmmModel, TgmmProcessor
from tgmm_hf.hub.convert import convert
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, bert_cased_tokenizer

PAGE = 4096
"""Bytes of a memory page."""
TESTS = Path(__file__).resolve().parents[1] / "tests"


def make_encoders(root: Path) -> dict[str, Any]:
    """Write the three encoders and the view classifier, full size, random weights. Return their directories."""
    BertModel(BertConfig(vocab_size=BERT_CASED_SIZE)).save_pretrained(root / "labs")
    bert_cased_tokenizer().save_pretrained(root / "labs")
    sys.path.append(str(TESTS))  # here, because processes that only load a model need no test code
    from official_layouts import st_mem_encoder

    torch.save({"model": st_mem_encoder(768, 12, 12, mlp_ratio=4)}, root / "st_mem.pth")
    torch.save(mvit_v2_s(num_classes=512).state_dict(), root / "echo.pt")
    torch.save(convnext_base(num_classes=11).state_dict(), root / "views.pt")
    convert("st-mem", root / "st_mem.pth", root / "ecg", accept_license=True)
    convert("echoprime", root / "echo.pt", root / "echo", accept_license=True)
    convert("echoprime-views", root / "views.pt", root / "view_classifier", accept_license=True)
    return {name: str(root / name) for name in ("labs", "ecg", "echo", "view_classifier")}


def make_bert(directory: Path, parameters: int) -> None:
    """Save a BERT-base with as many layers as are needed for about this number of parameters."""
    with torch.device("meta"):
        empty, one = (BertModel(BertConfig(num_hidden_layers=n)).num_parameters() for n in (0, 1))
    BertModel(BertConfig(num_hidden_layers=round((parameters - empty) / (one - empty)))).save_pretrained(directory)


def weight_bytes(directory: Path) -> int:
    """Return the size of the weights in a directory."""
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


@torch.inference_mode()
def seconds(load: Callable[[Path], PreTrainedModel], directory: Path) -> tuple[float, float]:
    """Measure the seconds until `from_pretrained` returns, and until every page of the weights has been read.

    safetensors only maps the file. Therefore the first time depends on the number of tensors, not on their bytes.
    """
    start = time.perf_counter()
    model = load(directory)
    mapped = time.perf_counter() - start
    for parameter in model.parameters():
        parameter.flatten()[:: PAGE // parameter.element_size()].sum()
    return mapped, time.perf_counter() - start


def anonymous_memory() -> int:
    """Return the bytes of this process that are not mapped from a file."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


def watch(queue: "multiprocessing.Queue[int]", load: Callable[..., object], *arguments: object) -> None:
    """Put the peak of anonymous memory during `load` into the queue. It runs in a process of its own."""
    before, peak, done = anonymous_memory(), 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous_memory())
            time.sleep(0.002)

    sampler = threading.Thread(target=sample)
    sampler.start()
    model = load(*arguments)
    done.set()
    sampler.join()
    queue.put(max(peak, anonymous_memory()) - before)
    del model


def peak_memory(load: Callable[..., object], *arguments: object) -> int:
    """Measure the peak of anonymous memory during `load`, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[int] = context.Queue()
    process = context.Process(target=watch, args=(queue, load, *arguments))
    process.start()
    peak = queue.get()
    process.join()
    return peak


def assemble(sources: dict[str, Any]) -> TgmmModel:
    """Put a model together from its encoders."""
    return TgmmModel.from_encoders(**sources)


def main() -> None:
    """Measure both models and print the result."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--repeats", type=int, default=5, help="measured calls, of which the fastest counts (default 5)"
    )
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        sources = make_encoders(root)
        model = assemble(sources)
        model.save_pretrained(root / "tgmm")
        TgmmProcessor.from_encoders(**sources).save_pretrained(root / "tgmm")
        make_bert(root / "bert", model.num_parameters())
        del model
        loads = {"tgmm": TgmmModel.from_pretrained, "bert": BertModel.from_pretrained}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in loads}
        for _ in range(repeats):  # in turn, so that a busy moment of the machine hits both
            for name, load in loads.items():
                times[name].append(seconds(load, root / name))
        results = {name: describe(root / name, times[name], peak_memory(loads[name], root / name)) for name in loads}
        results["tgmm"]["memory_ratio_of_from_encoders"] = peak_memory(assemble, sources) / weight_bytes(root / "tgmm")
    results["tgmm / bert"] = {
        name: results["tgmm"][name] / results["bert"][name] for name in results["bert"] if "seconds" in name
    }
    write({name: {key: round(x, 3) for key, x in part.items()} for name, part in results.items()}, indent=1)


def describe(directory: Path, times: list[tuple[float, float]], memory: int) -> dict[str, float]:
    """Summarise the measurements of one model."""
    gigabytes = weight_bytes(directory) / 1e9
    tensors = sum(len(tensor_names(file)) for file in directory.glob("*.safetensors"))
    mapped, read = (min(column) for column in zip(*times, strict=True))
    return {
        "gigabytes": gigabytes,
        "tensors": tensors,
        "shards": len(list(directory.glob("*.safetensors"))),
        "seconds_per_gb_mapped": mapped / gigabytes,
        "seconds_per_gb_read": read / gigabytes,
        "seconds_per_1000_tensors_mapped": 1000 * mapped / tensors,
        "memory_ratio": memory / 1e9 / gigabytes,
    }


def tensor_names(file: Path) -> list[str]:
    """List the names of the tensors in a safetensors file."""
    with safe_open(file, framework="pt") as tensors:
        return list(tensors.keys())


if __name__ == "__main__":
    main()
