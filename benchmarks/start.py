"""CPU time until `tgmm` answers and until the package is imported (rows 11 and 11b).

    python benchmarks/start.py --pairs 5

Every measured program is a process of its own, and the programs run in turn: A B A B.

* Row 11: `tgmm --help`, `tgmm predict --help`, a wrong option, and a model that is not there. Goal: 0.5 s.
* Row 11b: `import tgmm_hf` with its models, against the modules of transformers that every model needs. Goal: at most
  1.1 of their time.
* Row 11b: one prediction from a lab row by the tiny model, from the start of the process. Goal: 5 s.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import argument_parser, write

HELP_SECONDS, IMPORT_RATIO, PREDICTION_SECONDS = 0.5, 1.1, 5.0
TGMM = ["-m", "tgmm_hf.cli"]
TRANSFORMERS = """
import transformers.masking_utils, transformers.modeling_layers
from transformers import AutoModel, AutoProcessor, GenerationMixin, PreTrainedModel, pipeline
"""
SAVE = """
import sys
from tgmm_hf import TgmmConfig, TgmmModel, default_processor
from tgmm_hf.data.tokenizer import task_texts, train_tokenizer
from tgmm_hf.training.saving import save_repository
config = TgmmConfig.tiny()
tokenizer = train_tokenizer(task_texts(config.tasks), vocab_size=config.labs_config.vocab_size)
config.tokenize_tasks(tokenizer)
model = TgmmModel(config).eval()
model.initialise_texts()
save_repository(model, default_processor(config, tokenizer), sys.argv[1])
"""


def main() -> None:
    """Measure all programs and print one JSON object."""
    parser = argument_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="measured runs of each program (default 5)")
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-c", SAVE, f"{scratch}/model"], check=True, capture_output=True)
        (Path(scratch) / "row.json").write_text(json.dumps({"age": 71, "Creatinine": 1.4}))
        prediction = ["predict", f"{scratch}/model", "--labs", f"{scratch}/row.json", "--out", f"{scratch}/answer.json"]
        programs = {
            "tgmm --help": [*TGMM, "--help"],
            "tgmm predict --help": [*TGMM, "predict", "--help"],
            "a wrong option": [*TGMM, "predict", "--nothing"],
            "a model that is not there": [*TGMM, "predict", f"{scratch}/none", "--labs", f"{scratch}/row.json"],
            "transformers": ["-c", TRANSFORMERS],
            "ours": ["-c", "import tgmm_hf.pipeline_tgmm, tgmm_hf.processing_tgmm"],
            "prediction": [*TGMM, *prediction],
        }
        times = in_turn(programs, pairs)
        if not Path(f"{scratch}/answer.json").is_file():
            raise RuntimeError("the prediction wrote no answer, so its time means nothing")
    rows = [
        {"row": "11", "what": f"{name}, CPU s", "value": times[name]["cpu_ms"] / 1e3, "goal": HELP_SECONDS}
        for name in list(programs)[:4]
    ]
    ratio = times["ours"]["cpu_ms"] / times["transformers"]["cpu_ms"]
    rows.append({"row": "11b", "what": "import of ours / transformers, CPU", "value": ratio, "goal": IMPORT_RATIO})
    seconds = times["prediction"]["cpu_ms"] / 1e3
    rows.append({"row": "11b", "what": "one tiny prediction, CPU s", "value": seconds, "goal": PREDICTION_SECONDS})
    machine = {"cores": os.cpu_count(), "python": sys.version.split()[0], "load": round(os.getloadavg()[0], 1)}
    write({"rows": [row | {"at_most": True} for row in rows], "times": times, "pairs": pairs, "machine": machine}, 1)


def in_turn(programs: dict[str, list[str]], pairs: int) -> dict[str, dict[str, Any]]:
    """Measure the median wall and CPU time of programs, after one run of each that fills the caches.

    Args:
        programs: Name -> words after `python`.
        pairs: Number of measured runs of each program.

    Returns:
        Name -> {"wall_ms", "cpu_ms"}.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for words in programs.values():
        seconds_of(words)
    for _ in range(pairs):
        for name, words in programs.items():
            taken[name].append(seconds_of(words))
    return {
        name: {
            "wall_ms": 1e3 * statistics.median(wall for wall, _ in each),
            "cpu_ms": 1e3 * statistics.median(cpu for _, cpu in each),
        }
        for name, each in taken.items()
    }


def seconds_of(words: list[str]) -> tuple[float, float]:
    """Run one program. Return its wall time and its CPU time in seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu


if __name__ == "__main__":
    main()
