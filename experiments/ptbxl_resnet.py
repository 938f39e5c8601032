"""A small 1-D ResNet on the ECGs of a prepared task, for comparison with the model of `tgmm train`.

    python experiments/ptbxl_resnet.py ptbxl/data --split validation --out ptbxl/results/resnet

It is trained on the train split as the model is: the same prepared recordings, random 9-second windows, filter, epochs
and batch size, AdamW with a warm-up and a cosine schedule, last epoch kept, seeds 0, 1, ... The reported split chooses
nothing. The script prints the AUC of every seed with the bootstrap interval of `tgmm evaluate`. It writes resnet.json,
and <seed>/predictions.parquet with the columns that experiments/ptbxl_table.py reads. These files hold patients' ids.

The network follows Wang, Yan and Oates 2017 (residual blocks of convolutions over time, global average) and Strodthoff
et al. 2021 (the same family on PTB-XL). It is narrower, and has strides because windows have 2,250 samples.
"""

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from numpy.typing import NDArray
from tiny_training import Descent, Recipe, write
from torch import nn
from tqdm import tqdm

from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, resampled_auc
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor
from tgmm_hf.utils.files import write_json

WIDTHS = (32, 64, 96, 128)


class Block(nn.Module):
    """Two convolutions over time with a shortcut. The output has half as many samples."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(width_in, width_out, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm1d(width_out),
            nn.ReLU(),
            nn.Conv1d(width_out, width_out, 5, padding=2, bias=False),
            nn.BatchNorm1d(width_out),
        )
        self.shortcut = nn.Sequential(
            nn.Conv1d(width_in, width_out, 1, stride=2, bias=False), nn.BatchNorm1d(width_out)
        )

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Map (B, width_in, samples) to (B, width_out, samples / 2)."""
        return torch.relu(self.convolutions(signal) + self.shortcut(signal))


class ResNet(nn.Module):
    """Residual network over the 12 leads of an ECG."""

    def __init__(self, leads: int = 12) -> None:
        super().__init__()
        stem = (nn.Conv1d(leads, WIDTHS[0], 15, stride=2, padding=7, bias=False), nn.BatchNorm1d(WIDTHS[0]), nn.ReLU())
        blocks = (Block(*widths) for widths in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False))
        self.body = nn.Sequential(*stem, *blocks)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(WIDTHS[-1], 1))

    def forward(self, ecg: torch.Tensor) -> torch.Tensor:
        """Map an ECG (B, 12, samples) to a logit (B,)."""
        return self.head(self.body(ecg).mean(-1))[:, 0]


class Windows:
    """Windows of the patients that have an ECG and a label, filtered and standardised as for the model."""

    def __init__(self, rows: Dataset, task: str) -> None:
        usable = [row for row in rows if row[f"label_{task}"] is not None and len(row["ecg"])]
        self.signals = [np.asarray(row["ecg"], np.float32).T for row in usable]
        self.masks = [np.asarray(row["ecg_mask"], bool) for row in usable]
        self.labels = np.array([row[f"label_{task}"] for row in usable], np.float32)
        self.ids = [str(row["id"]) for row in usable]
        self.patients = [str(row["patient_id"]) for row in usable]
        self.extractor = EcgFeatureExtractor()

    def batch(self, index: NDArray, crop: str, generator: np.random.Generator | None = None) -> torch.Tensor:
        """Cut and filter one window of each patient: (B, 12, 2250)."""
        windows = []
        for i in index:
            start = self.extractor.start_positions(self.signals[i].shape[1], crop, generator)[0]
            windows.append(self.extractor.finish(self.signals[i], self.masks[i], start))
        return torch.from_numpy(np.stack(windows))


@dataclass(frozen=True)
class Settings:
    """How the network is trained."""

    epochs: int
    batch_size: int
    learning_rate: float


def train(windows: Windows, seed: int, settings: Settings) -> ResNet:
    """Train one network."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model, labels = ResNet(), torch.from_numpy(windows.labels)
    batch_size = settings.batch_size
    steps = settings.epochs * -(-len(labels) // batch_size)
    recipe = Recipe(learning_rate=settings.learning_rate, weight_decay=0.01, max_grad_norm=None)
    descent = Descent(model.parameters(), steps, recipe)
    with tqdm(total=steps, desc=f"seed {seed}") as progress:
        for _ in range(settings.epochs):
            order = generator.permutation(len(labels))
            for first in range(0, len(order), batch_size):
                index = order[first : first + batch_size]
                logit = model(windows.batch(index, "random", generator))
                loss = nn.functional.binary_cross_entropy_with_logits(logit, labels[index])
                descent.step(loss)
                progress.update()
    return model.eval()


@torch.inference_mode()
def predict(model: ResNet, windows: Windows, batch_size: int) -> NDArray:
    """Return the probability of each patient, from the centre window."""
    parts = np.array_split(np.arange(len(windows.labels)), max(1, len(windows.labels) // batch_size))
    return np.concatenate([model(windows.batch(index, "center")).sigmoid().numpy() for index in parts])


def main() -> None:
    """Train and score all seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="prepared data set")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--test-data", type=Path, help="prepared data to score instead of `data`")
    parser.add_argument("--split", default="test", help="split to score")
    parser.add_argument("--task", default="mi_diagnosis", help="name of the task")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the train split (default 20)")
    parser.add_argument("--batch-size", type=int, default=32, help="windows per step (default 32)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="highest learning rate (default 2e-3)")
    arguments = parser.parse_args()
    trained_on = Windows(load_prepared(arguments.data)["train"], arguments.task)
    scored = Windows(load_prepared(arguments.test_data or arguments.data)[arguments.split], arguments.task)
    if shared := set(trained_on.patients) & set(scored.patients):
        raise ValueError(
            f"{len(shared)} patients of the {arguments.split} split are trained on: score another split or other data."
        )
    counts = bootstrap_counts(scored.patients, scored.labels, 1000, seed=0)
    settings = Settings(arguments.epochs, arguments.batch_size, arguments.learning_rate)
    results = []
    for seed in range(arguments.seeds):
        model = train(trained_on, seed, settings)
        score = predict(model, scored, arguments.batch_size)
        columns = {"id": scored.ids, "patient_id": scored.patients, "probability": score, "positive": scored.labels}
        (arguments.out / str(seed)).mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame({"task": arguments.task, "subset": "ecg", **columns})
        table.to_parquet(arguments.out / str(seed) / "predictions.parquet", index=False)
        figure = estimate(partial(resampled_auc, score, scored.labels), counts)
        results.append({"seed": seed, **figure.entry("auc")})
        write(json.dumps(results[-1]))
    content = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()},
        "n_train": len(trained_on.labels),
        "n": len(scored.labels),
        "positive": int(scored.labels.sum()),
        "seeds": results,
    }
    write_json(arguments.out / "resnet.json", content)


if __name__ == "__main__":
    main()
