"""Where the time of the models goes: a profile by operation of each row of the table about models.

    OMP_NUM_THREADS=1 python benchmarks/model_profile.py st_mem mvit mvit_training tri_modal labs meit

Prints one JSON object a name: CPU milliseconds of a call without the profiler, and for each operation its share of the
time in all operations under the profiler (wall time, without the operations that it calls), and how often it is called.

* `st_mem`: 8 ECGs. `mvit`: a forward pass, 1 clip. `mvit_training`: a training step, 1 clip, and the bytes that its
  forward pass keeps for the backward pass, by the module that keeps them. First the peak memory of a step, as it is and
  if nothing is computed again (`--frames 4` makes a smaller clip; MALLOC_MMAP_THRESHOLD_=65536 gives memory back at
  once).
* `tri_modal`: a full-size forward pass with labs, ECG and echo, and the share of each of its modules.
* `labs`: the same with labs alone, a text of 256 tokens.
* `meit`: an answer of 32 tokens with placeholder tokens and with a prefix.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from answers import inputs_of, make_model
from measuring import argument_parser, environment, peak_growth, write
from meit import make_model as make_meit
from meit import text_of
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.profiler import ProfilerActivity, profile

from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
from tgmm_hf.encoders.configuration_st_mem import StMemConfig
from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitLayer, EchoMvitModel
from tgmm_hf.encoders.modeling_st_mem import StMemModel

VECTORS, NEW_TOKENS = 8, 32


def shares(run: Callable[[], object], calls: int, top: int) -> dict[str, Any]:
    """Profile a function. Return milliseconds of a call, and the share and number of calls of each operation."""
    run()
    start = time.process_time()
    for _ in range(calls):
        run()
    milliseconds = 1e3 * (time.process_time() - start) / calls
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    events = profiled.key_averages()
    whole = sum(event.self_cpu_time_total for event in events)
    ranked = sorted(events, key=lambda event: -event.self_cpu_time_total)[:top]
    return {
        "cpu_ms": round(milliseconds, 1),
        "ms_in_operations": round(whole / 1e3, 1),
        "shares": {event.key: [round(event.self_cpu_time_total / whole, 3), event.count] for event in ranked},
    }


def by_size(item: tuple[str, float]) -> float:
    """Sort the largest value first."""
    return -item[1]


def seconds_of_modules(model: nn.Module, run: Callable[[], object]) -> dict[str, float]:
    """Measure the CPU milliseconds of the modules of a model: its children, and the children of these."""
    names = {module: name for name, module in model.named_modules() if 0 < len(name.split(".")) <= 2}
    starts: dict[nn.Module, float] = {}
    taken: defaultdict[str, float] = defaultdict(float)

    def begin(module: nn.Module, _: Any) -> None:
        if module in names:
            starts[module] = time.process_time()

    def end(module: nn.Module, *_: Any) -> None:
        if module in starts:
            taken[names[module]] += time.process_time() - starts.pop(module)

    hooks = [register_module_forward_pre_hook(begin), register_module_forward_hook(end)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: round(1e3 * seconds, 2) for name, seconds in sorted(taken.items(), key=by_size) if seconds > 1e-4}


def kept_for_backward(model: nn.Module, run: Callable[[], object]) -> dict[str, float]:
    """Measure the mebibytes that a forward pass keeps for the backward pass, by the innermost module.

    A piece of memory that is kept twice counts once, where it is kept first. Weights do not count. What the operations
    inside `recomputing` keep is not seen, because its hooks take the place of these.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    stack: list[str] = ["outside"]
    kept: Counter[str] = Counter()
    seen: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and storage.data_ptr() not in seen:
            seen[storage.data_ptr()] = storage  # held, so that its address is not given to other memory
            kept[stack[-1]] += storage.nbytes()
        return tensor

    def leave(*_: Any) -> None:
        stack.pop()

    hooks = [
        register_module_forward_pre_hook(lambda module, _: stack.append(type(module).__name__)),
        register_module_forward_hook(leave),
    ]
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: round(size / 2**20, 1) for name, size in kept.most_common()} | {
        "all": round(sum(kept.values()) / 2**20, 1)
    }


def of_st_mem(calls: int, top: int) -> dict[str, Any]:
    """Profile the ST-MEM trunk."""
    model = StMemModel(StMemConfig()).eval()
    values = torch.randn(8, 12, model.config.seq_length)
    with torch.no_grad():
        return shares(lambda: model(values), calls, top)


def of_mvit(calls: int, top: int) -> dict[str, Any]:
    """Profile a forward pass of MViT-v2-S."""
    model, clip = EchoMvitModel(EchoMvitConfig()).eval(), torch.randn(1, 16, 3, 224, 224)
    with torch.no_grad():
        return shares(lambda: model(clip), calls, top)


def of_mvit_training(calls: int, top: int, frames: int = 16) -> dict[str, Any]:
    """Profile a training step of MViT-v2-S, and what it keeps for the backward pass."""
    model = EchoMvitModel(EchoMvitConfig(num_frames=frames)).train()
    clip = torch.randn(1, frames, 3, 224, 224)

    def step(keeps_all: bool = False) -> None:
        if keeps_all:  # in a forked process, so nothing has to be undone
            EchoMvitLayer._recomputes = False  # type: ignore[assignment, method-assign]
        model(clip).pooler_output.sum().backward()
        model.zero_grad(set_to_none=True)

    peaks = {"as it is": peak_growth(step), "nothing computed again": peak_growth(partial(step, keeps_all=True))}
    kept = kept_for_backward(model, lambda: model(clip).pooler_output.sum())
    return {
        "peak_mebibytes": {name: size >> 20 for name, size in peaks.items()},
        "mebibytes_kept": kept,
        **shares(step, calls, top),
    }


def of_tri_modal(calls: int, top: int, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Profile a full-size forward pass of one patient with one view, or with the named inputs alone."""
    model = make_model("paper")
    inputs = inputs_of(model.config, 1)
    run = partial(model, **{name: inputs[name] for name in names or inputs}, task="two")
    with torch.inference_mode():
        return shares(run, calls, top) | {"modules_cpu_ms": seconds_of_modules(model, run)}


def of_meit(calls: int, top: int) -> dict[str, Any]:
    """Profile an answer with placeholder tokens and with a prefix."""
    values, result = torch.rand(1, 12, 5000), {}
    for fusion in ("tokens", "prefix"):
        model, ids = make_meit(fusion, VECTORS, small=False).eval(), text_of(fusion, 1, 16, VECTORS)
        settings: dict[str, Any] = {"input_values": values, "do_sample": False, "max_new_tokens": NEW_TOKENS}
        result[fusion] = shares(partial(model.generate, ids, **settings), calls, top)
    return result


PROFILES: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "st_mem": of_st_mem,
    "mvit": of_mvit,
    "mvit_training": of_mvit_training,
    "tri_modal": of_tri_modal,
    "labs": partial(of_tri_modal, names=("input_ids", "attention_mask")),
    "meit": of_meit,
}


def main() -> None:
    """Profile what is named and print one JSON object a name."""
    parser = argument_parser(__doc__)
    parser.add_argument("names", nargs="+", choices=list(PROFILES), help="what to profile")
    parser.add_argument("--calls", type=int, default=2, help="calls without the profiler (default 2)")
    parser.add_argument("--top", type=int, default=16, help="operations to print (default 16)")
    parser.add_argument("--frames", type=int, default=16, help="frames of the clip of mvit_training (default 16)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    profiles = PROFILES | {"mvit_training": partial(of_mvit_training, frames=arguments.frames)}
    for name in arguments.names:
        write({"profile": name, **profiles[name](arguments.calls, arguments.top), "machine": environment()}, 1)


if __name__ == "__main__":
    main()
