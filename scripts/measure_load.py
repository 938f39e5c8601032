"""Measure patients per second and peak memory of predictions with the tiny model.

    python scripts/measure_load.py --patients 10000

Patients have a lab row; every `--ecg-every`-th has an ECG as well. They come from a generator, so that only the
package's own memory is measured. The model is the tiny one of the demo, with random weights: the
answers mean nothing. The memory of 10,000 patients must be that of 1,000.
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from tgmm_hf import TgmmConfig, TgmmModel, default_processor
from tgmm_hf.cohorts.synthetic.plain_heart import make_heart
from tgmm_hf.data.prediction import predict
from tgmm_hf.data.tokenizer import task_texts, train_tokenizer
from tgmm_hf.pipeline_tgmm import TgmmCardiacPipeline
from tgmm_hf.utils.names import LEADS

WARM_UP = 1000


def patients(number: int, ecg_every: int) -> Iterator[dict[str, Any]]:
    """Make patients with values of their own."""
    generator = np.random.default_rng(0)
    for index in range(number):
        labs = {"age": float(generator.integers(20, 95)), "Creatinine": (generator.uniform(50, 300), "umol/L")}
        labs |= {"NTproBNP": generator.lognormal(6, 1), "Sodium": generator.normal(139, 4), "gender": "F"}
        patient: dict[str, Any] = {"id": f"p{index}", "labs": labs}
        if ecg_every and index % ecg_every == 0:
            patient["ecg"] = {"signal": make_heart(2500, 250, index), "sampling_rate": 250, "lead_names": list(LEADS)}
        yield patient


def peak_memory() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _say(line: str) -> None:
    """Print a line at once, because the command takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=10_000)
    parser.add_argument("--ecg-every", type=int, default=10, help="every how many patients one has an ECG; 0: none")
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    config = TgmmConfig.tiny()
    tokenizer = train_tokenizer(
        ["Creatinine of the patient is 1.4; age NTproBNP Sodium gender F", *task_texts(config.tasks)]
    )
    processor = default_processor(config, tokenizer)
    config.tokenize_tasks(processor.tokenizer)
    model = TgmmModel(config).eval()
    model.initialise_texts()
    pipe = TgmmCardiacPipeline(model=model, processor=processor)
    started, answered, after_warm_up = time.monotonic(), 0, 0.0
    for answered, prediction in enumerate(
        predict(pipe, patients(options.patients, options.ecg_every), batch_size=options.batch_size), start=1
    ):
        assert prediction["used"]["labs"], prediction["refused"]
        if answered == min(WARM_UP, options.patients):
            after_warm_up = peak_memory()
            _say(f"peak memory after {answered} patients: {after_warm_up:.0f} MiB")
    seconds = time.monotonic() - started
    _say(f"peak memory after {answered} patients: {peak_memory():.0f} MiB")
    _say(f"ratio: {peak_memory() / after_warm_up:.3f}")
    _say(f"patients per second: {answered / seconds:.1f} ({answered} in {seconds:.0f} s)")


if __name__ == "__main__":
    main()
