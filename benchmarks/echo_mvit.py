"""Speed of `EchoMvitModel` against torchvision's `mvit_v2_s` (dev extra), both measured in this run.

    python benchmarks/echo_mvit.py --clips 2 --repeats 3

Prints seconds a clip and the ratio torchvision / ours, forward and forward + backward.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from torchvision.models.video import mvit_v2_s

from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
from tgmm_hf.encoders.modeling_echo_mvit import EchoMvitModel


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Best of several runs, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    clips = torch.randn(arguments.clips, 16, 3, 224, 224)
    ours, theirs = EchoMvitModel(EchoMvitConfig()).eval(), mvit_v2_s().eval()

    def run_ours() -> torch.Tensor:
        return ours(clips).pooler_output.sum()

    def run_theirs() -> torch.Tensor:
        return theirs(clips.transpose(1, 2)).sum()

    result: dict[str, object] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "clips": arguments.clips,
    }
    for name, wrap in (("forward", torch.no_grad()), ("forward_backward", torch.enable_grad())):
        with wrap:
            timings = {
                side: seconds(run if name == "forward" else (lambda run=run: run().backward()), arguments.repeats)
                for side, run in (("ours", run_ours), ("torchvision", run_theirs))
            }
        result[name] = {side: round(total / arguments.clips, 3) for side, total in timings.items()}
        result[f"{name}_ratio"] = round(timings["torchvision"] / timings["ours"], 2)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
