"""One hour of a 12-lead ECG to codes: Beat against the codec of openecg (row 15).

    pip install openecg
    OMP_NUM_THREADS=1 python benchmarks/beat.py --seconds 3600 --pairs 3

openecg is no dependency. It is no peer either: it reads one lead and writes labels of waves, beats and rhythms, and no
signal comes back from them. Beat reads twelve leads and its codes are rebuilt to the signal. The ratio is that of the
times for the same hour, twelve leads against one. Both have windows that do not overlap: 4 s for Beat, 10 s for
openecg. Beat has random weights, openecg its own. Without openecg only Beat is measured.
"""

from typing import Any

import numpy as np
import torch
from measuring import alternate, argument_parser, environment, figure, row, write

from tgmm_hf.families.heartcare.configuration_beat import BeatConfig
from tgmm_hf.families.heartcare.modeling_beat import BeatModel

try:
    import openecg
except ImportError:
    openecg = None

GOAL, RATE, PEER_RATE, PEER_SECONDS = 1.0, 250, 500, 10


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--seconds", type=int, default=3600, help="length of the ECG (default 3600)")
    parser.add_argument("--batch-size", type=int, default=32, help="windows that Beat encodes together (default 32)")
    parser.add_argument("--pairs", type=int, default=3, help="measured calls of each side (default 3)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = BeatModel(BeatConfig()).eval()
    draw = np.random.default_rng(0)
    signal = draw.normal(size=(12, arguments.seconds * RATE)).astype(np.float32)
    windows = torch.from_numpy(signal).unflatten(1, (-1, model.config.seq_length)).transpose(0, 1)

    def encode() -> list[torch.Tensor]:
        parts = windows.split(arguments.batch_size)
        return [model.encode((part - part.mean(2, True)) / part.std(2, keepdim=True)) for part in parts]

    runs: dict[str, Any] = {"ours": encode}
    if openecg is not None:
        lead = draw.normal(size=arguments.seconds * PEER_RATE).astype(np.float32)
        codec = openecg.load_codec()
        cuts = lead.reshape(-1, PEER_SECONDS * PEER_RATE)
        runs = {"reference": lambda: [openecg.encode(cut, fs=PEER_RATE, model=codec) for cut in cuts], **runs}
    times = alternate(runs, arguments.pairs)
    what = f"{arguments.seconds / 60:g} minutes of ECG to codes"
    if openecg is None:
        rows = [figure("15", f"CPU ms of Beat, {what} (openecg is not installed)", times["ours"]["cpu_ms"], 0)]
    else:
        rows = [row("15", f"{what}: openecg, one lead / Beat, twelve leads", times["reference"], times["ours"], GOAL)]
    write({"rows": rows, "times": times, "pairs": arguments.pairs, "machine": environment()})


if __name__ == "__main__":
    main()
