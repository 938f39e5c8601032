"""How many fusion tokens, and which fusion: everything behind the encoders, trained on known evidence.

    python benchmarks/fusion_tokens.py --tokens 1 2 4 8 --seeds 2
    python benchmarks/fusion_tokens.py --tokens 4 --seeds 3 --fusions medflex concat multisurv deepavfusion cmta textif

Encoders are left out: the evidence parameters of synthetic patients (`tgmm synth`'s model on paper, drawn, not
rendered) are written into random directions of as many tokens, on top of constants ten times as large, as encoders
would hand them over. Training patients are as many as in the paper's training split (1,089); 4,000 others are scored.
Printed for every fusion and number of tokens: tri-modal and mean single-modality AUC, C-index, their distance to the
Bayes optimum, and seconds relative to the first row. A toy: it says how well fusion can use evidence that is there,
nothing about encoders.
"""

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BertTokenizerFast

from tgmm_hf import TgmmConfig, TgmmModel
from tgmm_hf.cohorts.synthetic import bayes, evidence
from tgmm_hf.configuration_tasks import TgmmTask
from tgmm_hf.configuration_tgmm import FUSIONS
from tgmm_hf.data.tokenizer import task_texts, train_tokenizer
from tgmm_hf.evaluation.metrics import auc
from tgmm_hf.evaluation.survival import c_index
from tgmm_hf.layers.encoded_batch import TgmmEncoded
from tgmm_hf.utils.names import MODALITIES

TRAIN, TEST, BATCH = 1089, 4000, 32
TASKS = ("hf_diagnosis", "hf_risk")
WEIGHTS = {"hf_diagnosis": 1.0, "hf_risk": 0.3, "retrieval": 0.5}  # of configs/learn.yaml
CONTRAST = 0.1  # of what differs between patients, relative to what every token says of all of them
SUBSETS = [(name,) for name in MODALITIES] + [MODALITIES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--fusions", nargs="+", choices=FUSIONS, default=["medflex"], help="see docs/comparisons.md")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    test = evidence.draw(np.random.default_rng(10_000), TEST, evidence.EVIDENCE["default"])
    best = optimum(test)
    print(f"optimum on {TEST} patients: " + ", ".join(f"{name} {value:.3f}" for name, value in best.items()))
    print("fusion        tokens  seed  AUC tri  single  C tri  single  seconds")
    means = {}
    for fusion, tokens in itertools.product(arguments.fusions, arguments.tokens):
        rows = []
        for seed in range(arguments.seeds):
            started = time.perf_counter()
            model = train(seed, arguments.epochs, num_fusion_tokens=tokens, fusion=fusion)
            seconds = time.perf_counter() - started
            found = score(model, test)
            rows.append([*found.values(), seconds])
            print(f"{fusion:12}  {tokens:6}  {seed:4}  " + "  ".join(f"{x:7.3f}" for x in rows[-1]), flush=True)
        means[fusion, tokens] = np.mean(rows, axis=0)
    print("\nmean over seeds; figures minus the optimum, seconds relative to the first row")
    reference = next(iter(means.values()))[-1]
    for (fusion, tokens), row in means.items():
        gaps = "  ".join(f"{x - b:+.3f}" for x, b in zip(row[:-1], best.values(), strict=True))
        print(f"{fusion:12}  {tokens:6}        {gaps}  {row[-1] / reference:.2f}x")


def features(table: evidence.Evidence) -> dict[str, torch.Tensor]:
    """Modality -> (n, tokens, width): one token per evidence parameter, mixed so that no token is one parameter."""
    fixed = np.random.default_rng(0)  # the "encoder" is the same for every seed
    found = {}
    for name in MODALITIES:
        columns = [
            (table.values[:, k] - evidence.CENTRE) * table.present[:, k] / (1 + p.noise)
            for k, p in enumerate(evidence.PARAMETERS)
            if p.modality == name
        ]
        if name == "labs":
            columns += [
                (2.0 * table.words[:, k] - 1) * table.cells[:, int(word.cell == evidence.DRUGS)]
                for k, word in enumerate(evidence.WORDS)
            ]
        if name == "ecg":
            columns.append(2.0 * table.ecg_af - 1)
        values = np.stack(columns, axis=1)
        count = values.shape[1]
        mixed = values @ (np.eye(count) + 0.5 * fixed.standard_normal((count, count)) / count**0.5)
        constant, direction = fixed.standard_normal((2, count, 64))
        found[name] = torch.tensor(constant + CONTRAST * mixed[..., None] * direction, dtype=torch.float32)
    return found


def encode(model: TgmmModel, tokens: Mapping[str, torch.Tensor]) -> TgmmEncoded:
    """What `TgmmModel.encode` does behind the encoders."""
    pooled, present = {}, {}
    for name in MODALITIES:
        part = tokens[name]
        pool = getattr(model, f"{name}_pool")
        pooled[name] = pool(part.mean(1), part, torch.ones(part.shape[:2], dtype=torch.bool))
        present[name] = torch.ones(len(part), dtype=torch.bool)
    return TgmmEncoded(pooled, present)


def train(seed: int, epochs: int, tasks: Sequence[str] = TASKS, insert_position: int = 8, **settings: Any) -> TgmmModel:
    """A tiny model with these settings of `TgmmConfig` on one draw of training patients; the schedule of
    `configs/learn.yaml`."""
    table = evidence.draw(np.random.default_rng(20_000 + seed), TRAIN, evidence.EVIDENCE["default"])
    torch.manual_seed(seed)
    config = TgmmConfig.tiny(**settings)
    config.tasks = {
        name: TgmmTask(config.tasks[name], weight=WEIGHTS[name], insert_position=insert_position) for name in tasks
    }
    tokenizer: BertTokenizerFast = train_tokenizer(task_texts(config.tasks), vocab_size=300)
    config.tokenize_tasks(tokenizer)
    model = TgmmModel(config).train()
    model.initialise_texts()
    inputs, labels = features(table), targets(table)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    steps = epochs * (TRAIN // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.05)
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        for rows in random.permutation(TRAIN)[: TRAIN // BATCH * BATCH].reshape(-1, BATCH):
            encoded = encode(model, {name: tokens[rows] for name, tokens in inputs.items()})
            losses = [
                WEIGHTS[task]
                * model.answer(encoded, task, {key: value[rows] for key, value in labels[task].items()}).loss
                for task in tasks
            ]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


def targets(table: evidence.Evidence) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "hf_diagnosis": {"label": torch.tensor(table.label)},
        "hf_risk": {
            "time": torch.tensor(table.time, dtype=torch.float32),
            "event": torch.tensor(table.event),
            "mask": torch.tensor(table.followed),
        },
        "retrieval": {},
    }


@torch.no_grad()
def score(model: TgmmModel, table: evidence.Evidence) -> dict[str, float]:
    """Tri-modal and mean single-modality figures."""
    encoded = encode(model, features(table))
    risks, probabilities = [], []
    for subset in SUBSETS:
        kept = encoded.keep(subset)
        probabilities.append(model.answer(kept, "hf_diagnosis").probabilities[:, 1].numpy())
        risks.append(model.answer(kept, "hf_risk").risk.numpy())
    return summary(table, probabilities, risks)


def optimum(table: evidence.Evidence) -> dict[str, float]:
    """The same figures of the joint posterior."""
    reference = bayes.references(table, "default")
    names = ["+".join(subset) for subset in SUBSETS]
    return summary(table, [reference.posterior[n] for n in names], [reference.risk[n] for n in names])


def summary(
    table: evidence.Evidence, probabilities: Sequence[np.ndarray], risks: Sequence[np.ndarray]
) -> dict[str, float]:
    known = table.followed
    aucs = [auc(p, table.label) for p in probabilities]
    concordances = [c_index(r[known], table.time[known], table.event[known] == 1) for r in risks]
    return {
        "AUC tri-modal": aucs[-1],
        "AUC single": float(np.mean(aucs[:-1])),
        "C-index tri-modal": concordances[-1],
        "C-index single": float(np.mean(concordances[:-1])),
    }


if __name__ == "__main__":
    main()
