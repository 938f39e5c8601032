"""Time and memory of the ST-MEM trunk against the same trunk with attention by einsum, as published (row 4).

    OMP_NUM_THREADS=1 python benchmarks/st_mem.py --batch-size 8 --pairs 7

Two further figures: the memory of the activations of a forward pass (growth of a forked process), and the share of this
machine's rate of matrix multiplication. That rate is measured in turn with the trunk, on the largest product of a
layer. The floating-point operations are counted on the trunk with einsum, which computes the same products.
"""

import copy
from functools import partial
from typing import Any

import torch
from measuring import alternate, argument_parser, environment, figure, peak_growth, row, write
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface

from tgmm_hf.encoders.configuration_st_mem import StMemConfig
from tgmm_hf.encoders.modeling_st_mem import StMemModel

GOAL, MEMORY_GOAL, RATE_GOAL = 1.2, 0.5, 0.92


def einsum_attention(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention by two einsums and a softmax of all scores (batch, heads, tokens, tokens)."""
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask
    weights = scores.softmax(-1)
    return torch.einsum("bhqk,bhkd->bqhd", weights, value), weights


def with_einsum(model: StMemModel) -> StMemModel:
    """Copy a model. The copy has the same weights, and attention by einsum."""
    AttentionInterface.register("einsum", einsum_attention)
    other = copy.deepcopy(model)
    other.set_attn_implementation("einsum")
    return other


def operations(model: StMemModel, values: torch.Tensor) -> int:
    """Count the floating-point operations of a forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(values)
    return int(counter.get_total_flops())


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--batch-size", type=int, default=8, help="ECGs (default 8)")
    parser.add_argument("--pairs", type=int, default=7, help="measured calls of each side (default 7)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    ours = StMemModel(StMemConfig()).eval()
    reference = with_einsum(ours)
    values = torch.randn(arguments.batch_size, 12, ours.config.seq_length)
    tokens = arguments.batch_size * 12 * (ours.config.num_patches + 2)
    left, right = (
        torch.randn(tokens, ours.config.hidden_size),
        torch.randn(ours.config.hidden_size, ours.config.intermediate_size),
    )

    def run(model: StMemModel) -> torch.Tensor:
        with torch.no_grad():
            return model(values).last_hidden_state

    memory = {name: peak_growth(partial(run, model)) for name, model in (("reference", reference), ("ours", ours))}
    difference = float((run(ours) - run(reference)).abs().max())
    times = alternate(
        {"reference": lambda: run(reference), "ours": lambda: run(ours), "product": lambda: left @ right},
        arguments.pairs,
    )
    rate = 2 * left.numel() * right.shape[1] / times["product"]["cpu_ms"]
    share = operations(reference, values) / times["ours"]["cpu_ms"] / rate
    what = f"ST-MEM trunk, {arguments.batch_size} ECGs, against einsum attention"
    rows = [
        row("4", what, times["reference"], times["ours"], GOAL),
        figure("4, rate", "ST-MEM trunk, share of the machine's rate of matrix products", share, RATE_GOAL),
        figure("4, memory", f"{what}, memory", memory["ours"] / memory["reference"], MEMORY_GOAL, at_most=True),
    ]
    write({"rows": rows, "gflops": rate / 1e6, "difference": difference, "memory": memory, "machine": environment()})


if __name__ == "__main__":
    main()
