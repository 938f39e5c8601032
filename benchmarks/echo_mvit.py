"""Time and memory of `EchoMvitModel` against torchvision's `mvit_v2_s` (dev extra), both measured in this run (row 3).

    OMP_NUM_THREADS=1 python benchmarks/echo_mvit.py --clips 1 4 --pairs 7

Forward pass for each number of clips, and a training step (forward and backward pass) with one clip, in float32. The
memory is the growth of a forked process while the function runs: activations, without the weights.
"""

from collections.abc import Callable
from typing import Any

import torch
from measuring import alternate, argument_parser, environment, figure, peak_growth, row, write
from torchvision.models.video import mvit_v2_s

from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitModel

GOALS = {1: 1.5, 4: 1.65}
TRAINING_GOAL, MEMORY_GOAL = 1.5, 0.6


def situations(numbers: list[int]) -> dict[str, tuple[float, dict[str, Callable[[], object]]]]:
    """Make what is measured: name -> goal, and the functions of both sides."""
    ours, theirs = EchoMvitModel(EchoMvitConfig()), mvit_v2_s()
    sides: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "reference": lambda clips: theirs(clips.transpose(1, 2)).sum(),
        "ours": lambda clips: ours(clips).pooler_output.sum(),
    }

    def forward(side: str, clips: torch.Tensor) -> Callable[[], object]:
        def run() -> None:
            ours.eval(), theirs.eval()
            with torch.no_grad():
                sides[side](clips)

        return run

    def training_step(side: str, clips: torch.Tensor) -> Callable[[], object]:
        def run() -> None:
            ours.train(), theirs.train()
            sides[side](clips).backward()
            for model in (ours, theirs):
                model.zero_grad(set_to_none=True)

        return run

    made: dict[str, tuple[float, dict[str, Callable[[], object]]]] = {}
    for number in numbers:
        clips = torch.randn(number, 16, 3, 224, 224)
        name = f"forward pass, {number} clip{'s' if number > 1 else ''}"
        made[name] = GOALS.get(number, 0), {side: forward(side, clips) for side in sides}
    clip = torch.randn(1, 16, 3, 224, 224)
    made["training step, 1 clip"] = TRAINING_GOAL, {side: training_step(side, clip) for side in sides}
    return made


def main() -> None:
    """Measure all situations and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[1, 4], help="clips per batch (default 1 and 4)")
    parser.add_argument("--pairs", type=int, default=7, help="measured calls of each side (default 7)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    measured = situations(arguments.clips)
    for name, (_, sides) in measured.items():
        memory = {side: peak_growth(run) for side, run in sides.items()}
        what = f"MViT-v2-S against torchvision, memory of a {name}"
        rows.append(figure("3, memory", what, memory["ours"] / memory["reference"], MEMORY_GOAL, at_most=True))
    for name, (goal, sides) in measured.items():
        times = alternate(sides, arguments.pairs)
        rows.append(row("3", f"MViT-v2-S against torchvision, {name}", times["reference"], times["ours"], goal))
    write({"rows": rows, "torch": torch.__version__, "pairs": arguments.pairs, "machine": environment()})


if __name__ == "__main__":
    main()
