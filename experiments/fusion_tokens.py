"""How many fusion tokens, and which fusion: all parts behind the encoders, trained on known evidence.

    python experiments/fusion_tokens.py --tokens 1 2 4 8 --seeds 2
    python experiments/fusion_tokens.py --tokens 4 --seeds 3 --fusions medflex concat multisurv deepavfusion cmta textif

There are no encoders. The evidence parameters of synthetic patients are drawn as `tgmm synth` draws them, but no files
are rendered. Each parameter is written into one token, in a random direction, on top of a constant that is ten times as
large. This imitates the output of encoders. The training has 1,089 patients, as many as the paper's training split.
4,000 other patients are scored.

For every fusion and number of tokens the script prints the AUC and the C-index of all modalities together and the mean
of the single modalities, their distance to the optimum, and the seconds relative to the first row. This shows how well
a fusion uses evidence that is in its input. It says nothing about encoders.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tiny_training import Descent, Recipe, new_model, write
from transformers import BertTokenizer

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
WEIGHTS = {"hf_diagnosis": 1.0, "hf_risk": 0.3, "retrieval": 0.5}
"""Weights of the tasks, as in configs/learn.yaml."""
CONTRAST = 0.1
"""Size of the evidence in a token, relative to the constant that all patients share."""
SUBSETS = [(name,) for name in MODALITIES] + [MODALITIES]
"""Subsets that are scored: each modality alone, and all together."""


def main() -> None:
    """Train every combination of fusion, tokens and seed, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of fusion tokens")
    parser.add_argument("--fusions", nargs="+", choices=FUSIONS, default=["medflex"], help="see docs/comparisons.md")
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds (default 2)")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the training patients (default 6)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    test = evidence.draw(np.random.default_rng(10_000), TEST, evidence.EVIDENCE["default"])
    best = optimum(test)
    write(f"optimum on {TEST} patients: " + ", ".join(f"{name} {value:.3f}" for name, value in best.items()))
    write("fusion        tokens  seed  AUC tri  single  C tri  single  seconds")
    means = {}
    for fusion, tokens in itertools.product(arguments.fusions, arguments.tokens):
        rows = []
        for seed in range(arguments.seeds):
            started = time.perf_counter()
            model = train(seed, arguments.epochs, num_fusion_tokens=tokens, fusion=fusion)
            seconds = time.perf_counter() - started
            rows.append([*score(model, test).values(), seconds])
            write(f"{fusion:12}  {tokens:6}  {seed:4}  " + "  ".join(f"{x:7.3f}" for x in rows[-1]))
        means[fusion, tokens] = np.mean(rows, axis=0)
    write("\nmean over seeds; figures minus the optimum, seconds relative to the first row")
    reference = next(iter(means.values()))[-1]
    for (fusion, tokens), row in means.items():
        gaps = "  ".join(f"{x - b:+.3f}" for x, b in zip(row[:-1], best.values(), strict=True))
        write(f"{fusion:12}  {tokens:6}        {gaps}  {row[-1] / reference:.2f}x")


def features(table: evidence.Evidence) -> dict[str, torch.Tensor]:
    """Make the tokens of each modality, (patients, tokens, width).

    There are as many tokens as evidence parameters.
    """
    of_modality = {}
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
        of_modality[name] = np.stack(columns, axis=1)
    return as_tokens(of_modality)


def as_tokens(columns: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Write columns (patients, columns) of each modality into tokens, one for each column, (patients, columns, width).

    The columns are mixed, so that no token holds one column alone.
    """
    fixed = np.random.default_rng(0)  # so that the "encoder" is the same for every seed
    tokens = {}
    for name in MODALITIES:
        values = columns[name]
        count = values.shape[1]
        mixed = values @ (np.eye(count) + 0.5 * fixed.standard_normal((count, count)) / count**0.5)
        constant, direction = fixed.standard_normal((2, count, 64))
        tokens[name] = torch.tensor(constant + CONTRAST * mixed[..., None] * direction, dtype=torch.float32)
    return tokens


def encode(model: TgmmModel, tokens: Mapping[str, torch.Tensor]) -> TgmmEncoded:
    """Do what `TgmmModel.encode` does after the encoders."""
    pooled, present = {}, {}
    for name in MODALITIES:
        part = tokens[name]
        pool = getattr(model, f"{name}_pool")
        pooled[name] = pool(part.mean(1), part, torch.ones(part.shape[:2], dtype=torch.bool))
        present[name] = torch.ones(len(part), dtype=torch.bool)
    return TgmmEncoded(pooled, present)


def train(  # noqa: PLR0913 - one argument for each thing that the scripts vary
    seed: int,
    epochs: int,
    tasks: Sequence[str] | Mapping[str, Mapping[str, Any]] = TASKS,
    insert_position: int = 8,
    *,
    strength: str = "default",
    inputs_of: Callable[[evidence.Evidence], dict[str, torch.Tensor]] | None = None,
    recipe: Recipe | None = None,
    **settings: Any,
) -> TgmmModel:
    """Train a tiny model on one draw of training patients, with the schedule of `configs/learn.yaml`.

    Args:
        seed: Seed of the patients, the weights and their order.
        epochs: Passes over the patients.
        tasks: Names of the tasks, or task -> further settings of it.
        insert_position: Place of the question among the learned tokens of a task.
        strength: Name of the evidence, a key of `EVIDENCE`.
        inputs_of: Makes the tokens of the patients; `features` when None.
        recipe: Learning rate, decay and clipping; those of `configs/learn.yaml` when None.
        **settings: Settings of `TgmmConfig`.
    """
    table = evidence.draw(np.random.default_rng(20_000 + seed), TRAIN, evidence.EVIDENCE[strength])
    torch.manual_seed(seed)
    config: Any = TgmmConfig.tiny(**settings)
    further = tasks if isinstance(tasks, Mapping) else {}
    config.tasks = {
        name: TgmmTask(
            config.tasks[name], weight=WEIGHTS[name], insert_position=insert_position, **further.get(name, {})
        )
        for name in tasks
    }
    tokenizer: BertTokenizer = train_tokenizer(task_texts(config.tasks), vocab_size=300)
    config.tokenize_tasks(tokenizer)
    model = new_model(config)
    inputs, labels = (inputs_of or features)(table), targets(table)
    descent = Descent(model.parameters(), epochs * (TRAIN // BATCH), recipe)
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        for rows in random.permutation(TRAIN)[: TRAIN // BATCH * BATCH].reshape(-1, BATCH):
            encoded = encode(model, {name: tokens[rows] for name, tokens in inputs.items()})
            losses = []
            for task in tasks:
                answer: Any = model.answer(encoded, task, {name: value[rows] for name, value in labels[task].items()})
                losses.append(WEIGHTS[task] * answer.loss)
            descent.step(torch.stack(losses).sum())
    return model.eval()


def targets(table: evidence.Evidence) -> dict[str, dict[str, torch.Tensor]]:
    """Make the labels of each task."""
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
    """Score patients: figures of all modalities together, and means over the single modalities."""
    encoded = encode(model, features(table))
    risks, probabilities = [], []
    for subset in SUBSETS:
        kept = encoded.keep(subset)
        diagnosis: Any = model.answer(kept, "hf_diagnosis")
        prognosis: Any = model.answer(kept, "hf_risk")
        probabilities.append(diagnosis.probabilities[:, 1].numpy())
        risks.append(prognosis.risk.numpy())
    return summary(table, probabilities, risks)


def optimum(table: evidence.Evidence) -> dict[str, float]:
    """Compute the same figures of the optimum, from the joint posterior."""
    reference = bayes.references(table, "default")
    names = ["+".join(subset) for subset in SUBSETS]
    return summary(table, [reference.posterior[n] for n in names], [reference.risk[n] for n in names])


def summary(
    table: evidence.Evidence, probabilities: Sequence[np.ndarray], risks: Sequence[np.ndarray]
) -> dict[str, float]:
    """Compute the figures from the scores under each of `SUBSETS`."""
    followed = table.followed
    aucs = [auc(p, table.label) for p in probabilities]
    concordances = [c_index(r[followed], table.time[followed], table.event[followed] == 1) for r in risks]
    return {
        "AUC tri-modal": aucs[-1],
        "AUC single": float(np.mean(aucs[:-1])),
        "C-index tri-modal": concordances[-1],
        "C-index single": float(np.mean(concordances[:-1])),
    }


if __name__ == "__main__":
    main()
