"""Published encoders side by side, in their published sizes with random weights: time and memory of one ECG or clip.

    python benchmarks/published_encoders.py --repeats 3
    python benchmarks/published_encoders.py --only ST-MEM HuBERT-ECG --repeats 5

Random weights say nothing about how good an encoder is. Each encoder is measured in a process of its own. Prints for
each: parameters, tokens and width, milliseconds of preparing one input, seconds of encoding it (forward pass), both as
CPU time of the fastest call, and GiB of peak memory above a process that has only prepared an input. `EchoJEPA` is the
size EchoJEPA-L.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from measuring import argument_parser, best_seconds, environment, peak_gib, write

from tgmm_hf.cohorts.synthetic.plain_heart import make_heart
from tgmm_hf.encoders.configuration_ecg_fm import EcgFmConfig
from tgmm_hf.encoders.configuration_ecg_hubert import EcgHubertConfig
from tgmm_hf.encoders.configuration_echo_jepa import EchoJepaConfig
from tgmm_hf.encoders.configuration_echo_mvit import EchoMvitConfig
from tgmm_hf.encoders.configuration_pan_echo import PanEchoConfig
from tgmm_hf.encoders.configuration_st_mem import StMemConfig
from tgmm_hf.encoders.encoder_loading import build_encoder
from tgmm_hf.inputs.declared_preprocessing import declared_extractor
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.inputs.image_processing_echo import EchoImageProcessor
from tgmm_hf.utils.names import LEADS


@dataclass(frozen=True)
class Encoder:
    """An encoder of the table.

    Attributes:
        modality: "ecg" or "echo".
        config: Makes its configuration, in the published size.
    """

    modality: str
    config: Callable[[], Any]


ENCODERS = {
    "ST-MEM": Encoder("ecg", StMemConfig),
    "HuBERT-ECG": Encoder("ecg", EcgHubertConfig),
    "ECG-FM": Encoder("ecg", EcgFmConfig),
    "EchoPrime": Encoder("echo", EchoMvitConfig),
    "PanEcho": Encoder("echo", PanEchoConfig),
    "EchoJEPA": Encoder("echo", EchoJepaConfig),
}


def main() -> None:
    """Measure each encoder in its own process and print the table."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--repeats", type=int, default=3, help="measured calls, of which the fastest counts (default 3)"
    )
    parser.add_argument("--only", nargs="+", choices=list(ENCODERS), default=list(ENCODERS), help="encoders to measure")
    parser.add_argument("--one", choices=list(ENCODERS), help="measure one encoder in this process")
    arguments = parser.parse_args()
    if arguments.one:
        write(measure(ENCODERS[arguments.one], arguments.repeats))
        return
    table = {}
    for name in arguments.only:
        words = [sys.executable, __file__, "--one", name, "--repeats", str(arguments.repeats)]
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        table[name] = json.loads(printed)
    write({"weights": "random", "torch": torch.__version__, "threads": torch.get_num_threads(), **environment()})
    write({"encoders": table}, indent=2)


def measure(encoder: Encoder, repeats: int) -> dict[str, Any]:
    """Measure one encoder on one ECG or one clip."""
    config = encoder.config()
    prepare, shape = preparation(encoder.modality, config)
    before = peak_gib()
    model = build_encoder(config).eval()
    values = torch.from_numpy(prepare())
    outputs: list[Any] = []
    with torch.no_grad():
        runs: dict[str, Callable[[], object]] = {
            "encode": lambda: outputs.append(model(**{model.main_input_name: values}))
        }
        seconds = best_seconds(runs, repeats, time.process_time)["encode"]
    output = outputs[0]
    return {
        "class": type(model).__name__,
        "input": shape,
        "million_parameters": round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
        "tokens": output.last_hidden_state.shape[1],
        "width": output.last_hidden_state.shape[2],
        "prepare_cpu_ms": round(1e3 * best_seconds({"prepare": prepare}, repeats, time.process_time)["prepare"], 1),
        "encode_cpu_seconds": round(seconds, 3),
        "peak_gib": round(peak_gib() - before, 2),
    }


def preparation(modality: str, config: Any) -> tuple[Callable[[], np.ndarray], list[int]]:
    """Return a function that prepares one plain input for an encoder, and the shape of its result."""
    generator = np.random.default_rng(0)
    if modality == "ecg":
        ecg = {"signal": make_heart(5000, 500), "sampling_rate": 500, "lead_names": list(LEADS)}
        extractor = declared_extractor(config) or EcgFeatureExtractor(num_samples=config.seq_length)

        def prepare() -> np.ndarray:
            return np.asarray(extractor(ecg)["ecg_values"])
    else:
        frames = generator.integers(0, 255, (40, 480, 640, 3), dtype=np.uint8)
        processor = declared_extractor(config) or EchoImageProcessor(
            size=config.image_size, num_frames=config.num_frames
        )

        def prepare() -> np.ndarray:
            return np.asarray(processor.normalise(processor.prepare_clip(frames).frames)[None])

    return prepare, list(prepare().shape)


if __name__ == "__main__":
    main()
