"""A small 1-D ResNet on the ECGs of a prepared task: what a plain network reaches where `tgmm train` is tried.

    python benchmarks/ptbxl_resnet.py ptbxl/data --split validation --out ptbxl/results/resnet

Trained on the train split as the model is: the same prepared records, random 9-s windows, filter, epochs, batch size,
AdamW with warm-up and a cosine schedule, last epoch kept, seeds 0, 1, ...; the reported split chooses nothing. Prints
the AUC of every seed with the bootstrap interval of `tgmm evaluate`. Writes resnet.json, and <seed>/predictions.parquet
with the columns of `tgmm evaluate` that benchmarks/ptbxl_table.py reads; it holds patients' ids.

From the ideas of Wang, Yan and Oates 2017 (residual blocks of convolutions over time, global average) and Strodthoff et
al. 2021 (the same family on PTB-XL), narrower, and with strides because windows have 2,250 samples.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.evaluation.metrics import bootstrap_counts, estimate, resampled_auc
from tgmm_hf.inputs.feature_extraction_ecg import EcgFeatureExtractor

WIDTHS = (32, 64, 96, 128)


class Block(nn.Module):
    """Two convolutions over time beside a shortcut; half as many samples come out."""

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
        return torch.relu(self.convolutions(signal) + self.shortcut(signal))


class ResNet(nn.Module):
    """ECG (B, 12, samples) -> logit (B,)."""

    def __init__(self, leads: int = 12) -> None:
        super().__init__()
        stem = (nn.Conv1d(leads, WIDTHS[0], 15, stride=2, padding=7, bias=False), nn.BatchNorm1d(WIDTHS[0]), nn.ReLU())
        blocks = (Block(*widths) for widths in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False))
        self.trunk = nn.Sequential(*stem, *blocks)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(WIDTHS[-1], 1))

    def forward(self, ecg: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(ecg).mean(-1))[:, 0]


class Windows:
    """Windows of the records that have an ECG and a label, filtered and standardised as for the model."""

    def __init__(self, rows: Dataset, task: str) -> None:
        usable = [row for row in rows if row[f"label_{task}"] is not None and len(row["ecg"])]
        self.signals = [np.asarray(row["ecg"], np.float32).T for row in usable]
        self.masks = [np.asarray(row["ecg_mask"], bool) for row in usable]
        self.labels = np.array([row[f"label_{task}"] for row in usable], np.float32)
        self.ids = [str(row["id"]) for row in usable]
        self.patients = [str(row["patient_id"]) for row in usable]
        self.extractor = EcgFeatureExtractor()

    def batch(self, index: NDArray, crop: str, generator: np.random.Generator | None = None) -> torch.Tensor:
        """(B, 12, 2250)"""
        windows = []
        for i in index:
            start = self.extractor.start_positions(self.signals[i].shape[1], crop, generator)[0]
            windows.append(self.extractor.finish(self.signals[i], self.masks[i], start))
        return torch.from_numpy(np.stack(windows))


def train(windows: Windows, seed: int, epochs: int, batch_size: int, learning_rate: float) -> ResNet:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model, labels = ResNet(), torch.from_numpy(windows.labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    steps = epochs * -(-len(labels) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.05)
    with tqdm(total=steps, desc=f"seed {seed}") as progress:
        for _ in range(epochs):
            order = generator.permutation(len(labels))
            for first in range(0, len(order), batch_size):
                index = order[first : first + batch_size]
                logit = model(windows.batch(index, "random", generator))
                loss = nn.functional.binary_cross_entropy_with_logits(logit, labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.update()
    return model.eval()


@torch.inference_mode()
def predict(model: ResNet, windows: Windows, batch_size: int) -> NDArray:
    parts = np.array_split(np.arange(len(windows.labels)), max(1, len(windows.labels) // batch_size))
    return np.concatenate([model(windows.batch(index, "center")).sigmoid().numpy() for index in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="prepared data set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test-data", type=Path, help="prepared data to score instead of `data`")
    parser.add_argument("--split", default="test", help="split to score")
    parser.add_argument("--task", default="mi_diagnosis")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    arguments = parser.parse_args()
    trained_on = Windows(load_prepared(arguments.data)["train"], arguments.task)
    scored = Windows(load_prepared(arguments.test_data or arguments.data)[arguments.split], arguments.task)
    if both := set(trained_on.patients) & set(scored.patients):
        raise ValueError(f"{len(both)} patients of the {arguments.split} split are trained on.")
    counts = bootstrap_counts(scored.patients, scored.labels, 1000, seed=0)
    results = []
    for seed in range(arguments.seeds):
        model = train(trained_on, seed, arguments.epochs, arguments.batch_size, arguments.learning_rate)
        score = predict(model, scored, arguments.batch_size)
        columns = {"id": scored.ids, "patient_id": scored.patients, "probability": score, "positive": scored.labels}
        (arguments.out / str(seed)).mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame({"task": arguments.task, "subset": "ecg", **columns})
        table.to_parquet(arguments.out / str(seed) / "predictions.parquet", index=False)
        figure = estimate(lambda drawn, score=score: resampled_auc(score, scored.labels, drawn), counts)
        results.append({"seed": seed, **figure.entry("auc")})
        print(json.dumps(results[-1]))
    record = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()},
        "n_train": len(trained_on.labels),
        "n": len(scored.labels),
        "positive": int(scored.labels.sum()),
        "seeds": results,
    }
    (arguments.out / "resnet.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
