"""Speed of `EchoMvitModel` against torchvision's `mvit_v2_s` (dev extra), both measured in this run.

    python benchmarks/echo_mvit.py --clips 2 --repeats 3

Prints seconds per clip and the ratio torchvision / ours, for the forward pass and for forward and backward pass.
"""

from collections.abc import Callable

import torch
from measuring import argument_parser, best_seconds, write
from torchvision.models.video import mvit_v2_s

from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitModel


def main() -> None:
    """Measure both models and print the result."""
    parser = argument_parser(__doc__)
    parser.add_argument("--clips", type=int, default=2, help="clips per batch (default 2)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="measured calls, of which the fastest counts (default 3)"
    )
    arguments = parser.parse_args()
    clips = torch.randn(arguments.clips, 16, 3, 224, 224)
    ours, theirs = EchoMvitModel(EchoMvitConfig()).eval(), mvit_v2_s().eval()
    models: dict[str, Callable[[], torch.Tensor]] = {
        "ours": lambda: ours(clips).pooler_output.sum(),
        "torchvision": lambda: theirs(clips.transpose(1, 2)).sum(),
    }
    result: dict[str, object] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "clips": arguments.clips,
    }
    with torch.no_grad():
        forward = best_seconds(dict(models), arguments.repeats)
    backward = best_seconds({name: backward_of(run) for name, run in models.items()}, arguments.repeats)
    for name, timings in (("forward", forward), ("forward_backward", backward)):
        result[name] = {side: round(total / arguments.clips, 3) for side, total in timings.items()}
        result[f"{name}_ratio"] = round(timings["torchvision"] / timings["ours"], 2)
    write(result, indent=2)


def backward_of(run: Callable[[], torch.Tensor]) -> Callable[[], object]:
    """Make a function that runs a forward pass and its backward pass."""
    return lambda: run().backward()


if __name__ == "__main__":
    main()
