"""Time and memory of loading a full-size TGMM repository against a BERT of as many bytes, both measured in this run.

    python benchmarks/loading.py --repeats 5

Random weights in the layouts of the published checkpoints are converted, put together by `TgmmModel.from_encoders` and
saved; needs torchvision (dev extra), 4 GB of disk and of memory. Prints seconds a GB of weights, when `from_pretrained`
returns (weights mapped) and when they have been read, peak anonymous memory, and the ratio TGMM / BERT. Memory is what
a fresh process holds on top of what it held before loading: two copies of the weights would show as 2.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from torchvision.models import convnext_base
from torchvision.models.video import mvit_v2_s
from transformers import BertConfig, BertModel, PreTrainedModel

from tgmm_hf import TgmmModel, TgmmProcessor
from tgmm_hf.hub.convert import convert
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, bert_cased_tokenizer

PAGE = 4096
TESTS = Path(__file__).resolve().parents[1] / "tests"


def make_encoders(root: Path) -> dict[str, str]:
    """Directories of the three encoders and the view classifier, full size, random weights."""
    BertModel(BertConfig(vocab_size=BERT_CASED_SIZE)).save_pretrained(root / "labs")
    bert_cased_tokenizer().save_pretrained(root / "labs")
    sys.path.append(str(TESTS))  # here, not above: processes that only load a model need no test code
    from official_layouts import st_mem_encoder

    torch.save({"model": st_mem_encoder(768, 12, 12, mlp_ratio=4)}, root / "st_mem.pth")
    torch.save(mvit_v2_s(num_classes=512).state_dict(), root / "echo.pt")
    torch.save(convnext_base(num_classes=11).state_dict(), root / "views.pt")
    convert("st-mem", root / "st_mem.pth", root / "ecg", accept_license=True)
    convert("echoprime", root / "echo.pt", root / "echo", accept_license=True)
    convert("echoprime-views", root / "views.pt", root / "view_classifier", accept_license=True)
    return {name: str(root / name) for name in ("labs", "ecg", "echo", "view_classifier")}


def make_bert(directory: Path, parameters: int) -> None:
    """A BERT-base with so many layers that it has about this many parameters."""
    with torch.device("meta"):
        empty, one = (BertModel(BertConfig(num_hidden_layers=n)).num_parameters() for n in (0, 1))
    BertModel(BertConfig(num_hidden_layers=round((parameters - empty) / (one - empty)))).save_pretrained(directory)


def weight_bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


@torch.inference_mode()
def seconds(load: Callable[[Path], PreTrainedModel], directory: Path) -> tuple[float, float]:
    """Time until `from_pretrained` returns, and until every page of the weights has been read.

    safetensors only maps the file, so that the first does not depend on the bytes: it is Python's work a tensor.
    """
    start = time.perf_counter()
    model = load(directory)
    mapped = time.perf_counter() - start
    for parameter in model.parameters():
        parameter.flatten()[:: PAGE // parameter.element_size()].sum()
    return mapped, time.perf_counter() - start


def anonymous_memory() -> int:
    """Bytes of this process that no file backs."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


def watch(queue: "multiprocessing.Queue[int]", load: Callable[..., object], *arguments: object) -> None:
    """Put the peak of anonymous memory during `load` into the queue; runs in a process of its own."""
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
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[int] = context.Queue()
    process = context.Process(target=watch, args=(queue, load, *arguments))
    process.start()
    peak = queue.get()
    process.join()
    return peak


def assemble(sources: dict[str, str]) -> TgmmModel:
    return TgmmModel.from_encoders(**sources)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
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
        for _ in range(repeats):  # by turns: the machine may be busy for a while
            for name, load in loads.items():
                times[name].append(seconds(load, root / name))
        results = {name: describe(root / name, times[name], peak_memory(loads[name], root / name)) for name in loads}
        results["tgmm"]["memory_ratio_of_from_encoders"] = peak_memory(assemble, sources) / weight_bytes(root / "tgmm")
    results["tgmm / bert"] = {
        name: results["tgmm"][name] / results["bert"][name] for name in results["bert"] if "seconds" in name
    }
    print(json.dumps({k: {n: round(x, 3) for n, x in part.items()} for k, part in results.items()}, indent=1))


def describe(directory: Path, times: list[tuple[float, float]], memory: int) -> dict[str, float]:
    gigabytes = weight_bytes(directory) / 1e9
    tensors = sum(len(load_metadata(file)) for file in directory.glob("*.safetensors"))
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


def load_metadata(file: Path) -> list[str]:
    """Names of the tensors in a safetensors file."""
    with safe_open(file, framework="pt") as tensors:
        return list(tensors.keys())


if __name__ == "__main__":
    main()
