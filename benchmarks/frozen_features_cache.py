"""An epoch with the cache of frozen features against an epoch without it, both measured in this run.

    python benchmarks/frozen_features_cache.py --patients 8 --views 9 --batch-size 4

The weights are random and the patients are invented. A patient of the synthetic cohort has nine views on average. An
epoch is one pass over decoded batches: forward, loss of all three tasks, backward, Adafactor. With the cache, it also
reads the files of the cache. For two trained layers per encoder and for none, the script prints the seconds (CPU time
of this process) without and with the cache, their ratio, the seconds of filling the cache once, and the largest
difference of a loss.
"""

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from measuring import argument_parser, write
from tqdm import tqdm

from tgmm_hf import TgmmConfig, TgmmModel
from tgmm_hf.processing_tgmm import BERT_CASED_SIZE, bert_cased_tokenizer
from tgmm_hf.training.frozen_features_cache import FrozenFeaturesCache

Batch = dict[str, torch.Tensor]


def patient(config: TgmmConfig, views: int, seed: int) -> Batch:
    """Invent the inputs of one patient."""
    generator = torch.Generator().manual_seed(seed)
    echo: Any = config.echo_config
    ecg: Any = config.ecg_config
    clips = torch.zeros(1, config.num_views, echo.num_frames, 3, echo.image_size, echo.image_size)
    clips[:, :views] = torch.randn(1, views, *clips.shape[2:], generator=generator)
    return {
        "input_ids": torch.randint(1000, 20_000, (1, 512), generator=generator),
        "attention_mask": torch.ones(1, 512, dtype=torch.long),
        "ecg_values": torch.randn(1, ecg.num_leads, ecg.seq_length, generator=generator),
        "ecg_mask": torch.ones(1, ecg.num_leads, dtype=torch.bool),
        "pixel_values_videos": clips,
        "view_mask": torch.arange(config.num_views)[None] < views,
    }


def joined(patients: Iterable[Batch]) -> Batch:
    """Put patients into one batch."""
    patients = list(patients)
    return {name: torch.cat([one[name] for one in patients]) for name in patients[0]}


def labels(size: int) -> dict[str, Batch]:
    """Invent the labels of a batch."""
    number = torch.arange(size)
    return {
        "hf_diagnosis": {"label": number % 2},
        "hf_risk": {"time": 100.0 * (number + 1), "event": (number + 1) % 2},
        "retrieval": {},
    }


def epoch(model: TgmmModel, batches: Iterable[Batch]) -> tuple[float, list[float]]:
    """Measure CPU seconds and losses of one epoch. Weights and buffers are restored afterwards."""
    trained = [p for p in model.parameters() if p.requires_grad]
    changed = [*trained, *model.buffers()]
    before = [tensor.detach().clone() for tensor in changed]
    optimizer = torch.optim.Adafactor(trained, lr=1e-4)
    model.train()
    torch.manual_seed(0)
    losses, start = [], time.process_time()
    for batch in batches:
        output = model(**batch, task=list(model.config.tasks or ()), labels=labels(len(batch["view_mask"])))
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(output.loss.item())
    seconds = time.process_time() - start
    with torch.no_grad():
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
    return seconds, losses


def from_cache(cache: FrozenFeaturesCache, patients: list[Batch], size: int) -> Iterable[Batch]:
    """Read batches of this size from the cache."""
    for first in range(0, len(patients), size):
        features = [cache.load(str(index), None) for index in range(first, min(first + size, len(patients)))]
        masks = joined(patients[first : first + size])
        yield {
            "labs_frozen": torch.stack([one["labs"] for one in features]),
            "ecg_frozen": torch.stack([one["ecg"] for one in features]),
            "echo_frozen": torch.cat([one["echo"] for one in features]),
            **{name: masks[name] for name in ("attention_mask", "ecg_mask", "view_mask")},
        }


def measure(model: TgmmModel, patients: list[Batch], size: int, layers: int, directory: Path) -> dict[str, float]:
    """Measure filling the cache, an epoch with it and an epoch without it."""
    model.freeze_encoders(layers)
    cache = FrozenFeaturesCache(directory, f"{layers} layers", torch.float32)
    start = time.process_time()
    with torch.inference_mode():
        model.eval()
        for index, one in enumerate(tqdm(patients, "filling the cache")):
            cache.store(str(index), model.frozen_features(**one), one["attention_mask"])
    filled = time.process_time() - start
    cached, cached_losses = epoch(model, tqdm(from_cache(cache, patients, size), "from the cache"))
    decoded = [joined(patients[first : first + size]) for first in range(0, len(patients), size)]
    plain, losses = epoch(model, tqdm(decoded, "without"))
    bytes_stored = sum(path.stat().st_size for path in directory.rglob("*.safetensors"))
    return {
        "seconds_without": round(plain, 1),
        "seconds_from_cache": round(cached, 1),
        "ratio": round(plain / cached, 2),
        "seconds_filling_once": round(filled, 1),
        "megabytes_a_patient": round(bytes_stored / len(patients) / 1e6, 1),
        "largest_difference_of_a_loss": max(abs(a - b) for a, b in zip(losses, cached_losses, strict=True)),
    }


def main() -> None:
    """Measure two numbers of trained layers and print the result."""
    parser = argument_parser(__doc__)
    parser.add_argument("--size", choices=["tiny", "paper"], default="paper", help="size of the model (default paper)")
    parser.add_argument("--patients", type=int, default=8, help="number of patients (default 8)")
    parser.add_argument("--views", type=int, default=9, help="views per patient (default 9)")
    parser.add_argument("--batch-size", type=int, default=4, help="patients per batch (default 4)")
    arguments = parser.parse_args()
    config = TgmmConfig()
    if arguments.size == "tiny":
        config = TgmmConfig.tiny(labs_config={"vocab_size": BERT_CASED_SIZE, "num_hidden_layers": 4})
    config.tokenize_tasks(bert_cased_tokenizer())
    torch.manual_seed(0)
    model = TgmmModel(config)
    model.initialise_texts()
    patients = [patient(config, arguments.views, seed) for seed in range(arguments.patients)]
    result: dict[str, object] = {"torch": torch.__version__, "threads": torch.get_num_threads(), **vars(arguments)}
    for layers in (2, 0):
        with tempfile.TemporaryDirectory() as directory:
            measured = measure(model, patients, arguments.batch_size, layers, Path(directory))
            result[f"{layers} trained layers"] = measured
            write(measured)
    write(result, indent=2)


if __name__ == "__main__":
    main()
