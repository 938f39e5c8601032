"""All parts of the model on a GPU against torchvision and einsum attention, in one script of at most eight minutes.

    python benchmarks/gpu.py --out gpu.json
    python benchmarks/gpu.py --device cpu --size tiny --repeats 1 --ways float32      # tries the script

In float32, bfloat16, and bfloat16 with `torch.compile` (both sides): forward pass of MViT-v2-S against torchvision's,
ST-MEM against the same trunk with einsum attention, the whole model against its three encoders alone, a training step
of the whole model, and a training step from the cache of frozen features against one without it. Reference and ours run
in turn; the median counts. "gib" is the peak memory of the device. "share" is the rate of our operations over the rate
of one large matrix product of the same dtype on the same device; TF32 is off. When `--seconds` are over, what is left
is named and not measured.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import argument_parser, environment, write
from st_mem import with_einsum
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.video.mvit import MSBlockConfig, MViT, mvit_v2_s

from tgmm_hf import TgmmConfig, TgmmModel
from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
from tgmm_hf.encoders.configuration_st_mem import StMemConfig
from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitModel
from tgmm_hf.encoders.modeling_st_mem import StMemModel
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, bert_cased_tokenizer

WAYS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "compiled": torch.bfloat16}
Run = Callable[[], Any]


@dataclass
class Case:
    """One comparison.

    Attributes:
        name: What is compared.
        make: Function of (dtype, compiled) that makes the functions "reference" and "ours".
        count: Function of "reference" to count operations on; False for training steps.
    """

    name: str
    make: Callable[[torch.dtype, bool], dict[str, Run]]
    count: bool = True


@dataclass
class Sizes:
    """Sizes of the inputs."""

    device: str
    is_tiny: bool

    @property
    def clips(self) -> int:
        """Clips of a batch."""
        return 1 if self.is_tiny else 16

    @property
    def ecgs(self) -> int:
        """ECGs of a batch."""
        return 1 if self.is_tiny else 64

    @property
    def patients(self) -> int:
        """Patients of a batch."""
        return 2 if self.is_tiny else 8

    @property
    def side(self) -> int:
        """Rows and columns of the product that measures the device."""
        return 256 if self.is_tiny else 8192


def mvit_case(sizes: Sizes) -> Case:
    """Compare MViT-v2 with torchvision's. The tiny one has two blocks."""
    config = EchoMvitConfig()
    theirs: Callable[[], nn.Module] = mvit_v2_s
    if sizes.is_tiny:
        shape: dict[str, Any] = {
            "image_size": 32,
            "num_frames": 4,
            "stage_depths": (1, 1),
            "stage_widths": (16, 32),
            "hidden_size": 32,
        }
        config = EchoMvitConfig(**shape, stage_heads=(1, 2))
        cube = [3, 3, 3]
        blocks = [
            MSBlockConfig(1, 16, 16, cube, cube, [1, 1, 1], [1, 8, 8]),
            MSBlockConfig(2, 16, 32, cube, cube, [1, 2, 2], [1, 4, 4]),
        ]

        def theirs() -> nn.Module:
            return MViT(
                (32, 32), 4, blocks, residual_pool=True, residual_with_cls_embed=False, rel_pos_embed=True,
                proj_after_attn=True,
            )  # fmt: skip

    def make(dtype: torch.dtype, compiled: bool) -> dict[str, Run]:
        shape = (sizes.clips, config.num_frames, 3, config.image_size, config.image_size)
        clips = torch.randn(shape, device=sizes.device, dtype=dtype)
        other, model = (_ready(one, sizes.device, dtype, compiled) for one in (theirs(), EchoMvitModel(config)))
        return {"reference": _frozen(lambda: other(clips.transpose(1, 2))), "ours": _frozen(lambda: model(clips))}

    return Case("MViT-v2-S, forward pass, against torchvision", make)


def st_mem_case(sizes: Sizes) -> Case:
    """Compare ST-MEM with the same trunk with einsum attention."""
    small: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    config = StMemConfig(**(small if sizes.is_tiny else {}))

    def make(dtype: torch.dtype, compiled: bool) -> dict[str, Run]:
        values = torch.randn(sizes.ecgs, 12, config.seq_length, device=sizes.device, dtype=dtype)
        model = StMemModel(config)
        other = with_einsum(model)
        other, model = (_ready(one, sizes.device, dtype, compiled) for one in (other, model))
        return {"reference": _frozen(lambda: other(values)), "ours": _frozen(lambda: model(values))}

    return Case("ST-MEM, forward pass, against einsum attention", make)


def whole_model(sizes: Sizes) -> TgmmModel:
    """Make a whole model with random weights on the device."""
    config = TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE}) if sizes.is_tiny else TgmmConfig()
    config.tokenize_tasks(bert_cased_tokenizer())
    model = TgmmModel(config)
    model.initialise_texts()
    module: nn.Module = model  # transformers' `to` is typed for other arguments
    module.to(sizes.device)
    return model


def batch_of(config: TgmmConfig, sizes: Sizes, views: int = 3) -> dict[str, torch.Tensor]:
    """Make random patients with all modalities."""
    echo: Any = config.echo_config
    number = sizes.patients
    batch = {
        "input_ids": torch.randint(1000, 20_000, (number, 256)),
        "attention_mask": torch.ones(number, 256, dtype=torch.long),
        "ecg_values": torch.randn(number, 12, 2250),
        "ecg_mask": torch.ones(number, 12, dtype=torch.bool),
        "pixel_values_videos": torch.randn(
            number, config.num_views, echo.num_frames, 3, echo.image_size, echo.image_size
        ),
        "view_mask": (torch.arange(config.num_views) < views).expand(number, -1),
    }
    return {name: value.to(sizes.device) for name, value in batch.items()}


def labels_of(sizes: Sizes) -> dict[str, dict[str, torch.Tensor]]:
    """Make labels of the tasks."""
    number = torch.arange(sizes.patients, device=sizes.device)
    risk = {"time": (number + 1) * 150.0, "event": (number + 1) % 3}
    return {"hf_diagnosis": {"label": number % 2}, "hf_risk": risk}


def whole_case(sizes: Sizes) -> Case:
    """Compare the whole model with its three encoders alone."""

    def make(dtype: torch.dtype, compiled: bool) -> dict[str, Run]:
        model = whole_model(sizes)
        module: nn.Module = model.eval()
        module.to(dtype)
        batch = {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch_of(model.config, sizes).items()}
        clips = batch["pixel_values_videos"][batch["view_mask"]]
        if compiled:
            for name in ("labs_encoder", "ecg_encoder", "echo_encoder"):
                getattr(model, name).compile()

        def encoders() -> None:
            model.labs_encoder(batch["input_ids"], attention_mask=batch["attention_mask"])
            model.ecg_encoder(batch["ecg_values"])
            model.echo_encoder(clips)

        return {"reference": _frozen(encoders), "ours": _frozen(lambda: model(**batch, task="hf_diagnosis"))}

    return Case("whole model, forward pass, against its three encoders", make)


def cached_case(sizes: Sizes) -> Case:
    """Compare a training step from the cache of frozen features with one without; all encoders are frozen."""

    def make(dtype: torch.dtype, compiled: bool) -> dict[str, Run]:
        model = whole_model(sizes)
        model.freeze_encoders(0)
        batch = batch_of(model.config, sizes)
        with torch.inference_mode():
            features = model.eval().frozen_features(**batch)
        masks = {name: batch[name] for name in ("attention_mask", "ecg_mask", "view_mask")}
        cached = {**masks, **{name: value.clone() for name, value in features.items()}}
        return {name: _step(model, inputs, sizes, dtype, compiled) for name, inputs in
                (("reference", batch), ("ours", cached))}  # fmt: skip

    return Case("training step without / from the cache of frozen features", make, count=False)


def training_case(sizes: Sizes) -> Case:
    """Measure a training step of the whole model; the reference is the forward pass alone."""

    def make(dtype: torch.dtype, compiled: bool) -> dict[str, Run]:
        model = whole_model(sizes)
        batch = batch_of(model.config, sizes)
        step = _step(model, batch, sizes, dtype, compiled)

        def forward() -> None:
            with torch.no_grad(), torch.autocast(sizes.device, dtype, enabled=dtype != torch.float32):
                model.train()(**batch, task=["hf_diagnosis", "hf_risk"], labels=labels_of(sizes))

        return {"reference": forward, "ours": step}

    return Case("training step of the whole model, beside its forward pass", make, count=False)


def _step(model: TgmmModel, batch: dict[str, torch.Tensor], sizes: Sizes, dtype: torch.dtype, compiled: bool) -> Run:
    """Make a training step with mixed precision."""
    if compiled:
        for name in ("ecg_encoder", "echo_encoder"):
            getattr(model, name).compile()

    def run() -> None:
        with torch.autocast(sizes.device, dtype, enabled=dtype != torch.float32):
            output = model.train()(**batch, task=["hf_diagnosis", "hf_risk"], labels=labels_of(sizes))
        output.loss.backward()
        model.zero_grad(set_to_none=True)

    return run


def _ready(model: nn.Module, device: str, dtype: torch.dtype, compiled: bool) -> Any:
    model = model.eval().to(device=device, dtype=dtype)
    return torch.compile(model) if compiled else model


def _frozen(run: Run) -> Run:
    def without_gradients() -> None:
        with torch.no_grad():
            run()

    return without_gradients


def synchronise(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        torch.cuda.synchronize()


def measure(runs: dict[str, Run], device: str, repeats: int) -> dict[str, dict[str, float]]:
    """Measure the median milliseconds and the peak GiB of the device, in turn after two calls to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    peaks = dict.fromkeys(runs, 0.0)
    for number in range(-2, repeats):
        for name, run in runs.items():
            if device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            synchronise(device)
            start = time.perf_counter()
            run()
            synchronise(device)
            if number >= 0:
                taken[name].append(1e3 * (time.perf_counter() - start))
                peaks[name] = torch.cuda.max_memory_allocated() / 2**30 if device != "cpu" else 0.0
    return {name: {"ms": statistics.median(taken[name]), "gib": peaks[name]} for name in runs}


def rate_of_products(sizes: Sizes, dtype: torch.dtype, repeats: int) -> float:
    """Measure the operations per second of a square matrix product."""
    left, right = (torch.randn(sizes.side, sizes.side, device=sizes.device, dtype=dtype) for _ in range(2))
    taken = measure({"product": lambda: left @ right}, sizes.device, repeats)["product"]["ms"]
    return 2e3 * sizes.side**3 / taken


def results(sizes: Sizes, ways: list[str], repeats: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Measure case after case in the given ways, until the time is over."""
    start, rates = time.perf_counter(), {}
    chosen = {way: WAYS[way] for way in ways}
    for way, dtype in chosen.items():
        rates[way] = rate_of_products(sizes, dtype, repeats)
        yield {"what": "matrix product", "way": way, "tera_operations_per_second": rates[way] / 1e12}
    cases = [make(sizes) for make in (mvit_case, st_mem_case, whole_case, training_case, cached_case)]
    for way, dtype in chosen.items():
        for case in cases:
            entry: dict[str, Any] = {"what": case.name, "way": way}
            if time.perf_counter() - start > seconds:
                yield {**entry, "not_measured": "the time is over"}
                continue
            torch.manual_seed(0)
            runs = case.make(dtype, way == "compiled")
            sides = measure(runs, sizes.device, repeats)
            entry |= {**sides, "ratio": sides["reference"]["ms"] / sides["ours"]["ms"]}
            if case.count:
                with FlopCounterMode(display=False) as counter:
                    case.make(dtype, False)["reference"]()
                entry["share"] = counter.get_total_flops() / (sides["ours"]["ms"] / 1e3) / rates[way]
            yield entry
            del runs
            if sizes.device != "cpu":
                torch.cuda.empty_cache()


def main() -> None:
    """Measure, print one line for each result, and write all of them."""
    parser = argument_parser(__doc__)
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default cuda)")
    parser.add_argument("--size", choices=["tiny", "paper"], default="paper", help="sizes (default paper)")
    parser.add_argument(
        "--ways", choices=list(WAYS), nargs="+", default=list(WAYS), help="number formats (default all)"
    )
    parser.add_argument("--repeats", type=int, default=7, help="measured calls of each side (default 7)")
    parser.add_argument("--seconds", type=float, default=420, help="no case begins later (default 420)")
    parser.add_argument("--out", type=Path, help="file to write: JSON with all results")
    arguments = parser.parse_args()
    sizes = Sizes(arguments.device, arguments.size == "tiny")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    lines = []
    for entry in results(sizes, arguments.ways, arguments.repeats, arguments.seconds):
        lines.append(entry)
        write(entry)
    machine = environment() | {"torch": torch.__version__}
    if arguments.device != "cpu":
        machine["gpu"] = torch.cuda.get_device_name()
    write({"machine": machine})
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"results": lines, "machine": machine}, indent=1) + "\n")


if __name__ == "__main__":
    main()
