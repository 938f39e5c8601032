"""Lab texts alone: how well the tiny text encoder learns them, compared with a logistic regression on the same cells.

    python experiments/lab_text.py grid/dev/data --cell-dropout 0 0.3 --epochs 10

TGMM is trained with labs only and diagnosis only on the train split, with the schedule of `configs/learn.yaml`. It is
scored on the validation and test splits together, after half of the epochs and at the end, so that overfitting shows.
The logistic regression (C = 0.1) reads the numbers, the words of the histories and which cells are missing.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from numpy.typing import NDArray
from tiny_training import Descent, new_model, write

from tgmm_hf import TgmmConfig, TgmmModel, default_processor
from tgmm_hf.configuration_tasks import TgmmTask
from tgmm_hf.data.collator import Row, TgmmCollator
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.tokenizer import cohort_tokenizer
from tgmm_hf.evaluation.metrics import auc
from tgmm_hf.evaluation.simple_model_features import read_features
from tgmm_hf.evaluation.simple_models import fit_logistic
from tgmm_hf.layers.encoded_batch import TgmmEncoded

TASK, BATCH, SCORED = "hf_diagnosis", 32, ("validation", "test")


def main() -> None:
    """Train with each cell dropout and print the AUCs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="prepared data with the splits train, validation and test")
    parser.add_argument(
        "--cell-dropout", type=float, nargs="+", default=[0.0, 0.3], help="probabilities of hiding a cell"
    )
    parser.add_argument("--epochs", type=int, default=10, help="passes over the train split (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default 0)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    prepared = load_prepared(arguments.data)
    columns = ["id", "labs", f"label_{TASK}", "ecg_mask", "clip_views"]
    rows = DatasetDict({split: prepared[split].select_columns(columns).with_format(None) for split in prepared})
    labels = {split: np.array(rows[split][f"label_{TASK}"]) for split in rows}
    features, outcomes = read_features(rows)["labs"], {"label": labels["train"]}
    regression = fit_logistic(features["train"], outcomes, 0.1)
    truth = np.concatenate([labels[split] for split in SCORED])
    reference = auc(np.concatenate([regression(features[split]) for split in SCORED]), truth)
    write(f"logistic regression on {len(truth)} patients: AUC {reference:.3f}")
    for chance in arguments.cell_dropout:
        started = time.process_time()
        for epoch, scores in train(rows, labels, chance, arguments.epochs, arguments.seed):
            value = auc(scores, truth)
            write(
                f"cell dropout {chance:.1f}, epoch {epoch:2}: AUC {value:.3f} ({value - reference:+.3f} against the "
                f"regression), {time.process_time() - started:.0f} s"
            )


def train(
    rows: DatasetDict, labels: dict[str, NDArray], cell_dropout: float, epochs: int, seed: int
) -> Iterator[tuple[int, NDArray]]:
    """Yield the epoch and the scores of `SCORED` after half of the epochs and at the end."""
    torch.manual_seed(seed)
    config: Any = TgmmConfig.tiny(training_subsets=1)  # with one modality, all subsets are the same
    config.tasks = {TASK: TgmmTask(config.tasks[TASK])}
    tokenizer = cohort_tokenizer(rows["train"], config.tasks, 1024)
    config.labs_config.vocab_size = len(tokenizer)
    config.tokenize_tasks(tokenizer)
    model = new_model(config)
    processor = default_processor(config, tokenizer)
    hiding = TgmmCollator(processor, config, training=True, seed=seed, cell_dropout=cell_dropout)
    whole = TgmmCollator(processor, config, training=False)
    parameters = [p for name, p in model.named_parameters() if not name.startswith(("ecg_", "echo_"))]
    random, number = np.random.default_rng(seed), len(rows["train"])
    descent = Descent(parameters, epochs * (number // BATCH))
    texts: list[Row] = [{"labs": labs} for labs in rows["train"]["labs"]]
    for epoch in range(1, epochs + 1):
        for batch in random.permutation(number)[: number // BATCH * BATCH].reshape(-1, BATCH):
            encoded = encode(model, hiding, [texts[i] for i in batch])
            loss = model.answer(encoded, TASK, {"label": torch.from_numpy(labels["train"][batch])}).loss
            assert loss is not None  # the call gives labels
            descent.step(loss)
        if epoch in (epochs // 2, epochs):
            yield epoch, np.concatenate([score(model, whole, rows[split]["labs"]) for split in SCORED])


def encode(model: TgmmModel, collator: TgmmCollator, rows: list[Row]) -> TgmmEncoded:
    """Encode lab texts."""
    return model.encode(**{name: torch.from_numpy(values) for name, values in collator._labs(rows).items()})


@torch.inference_mode()
def score(model: TgmmModel, collator: TgmmCollator, labs: list[str]) -> NDArray:
    """Return the probability of the second candidate of each lab text."""
    model.eval()
    parts = []
    for first in range(0, len(labs), 64):
        encoded = encode(model, collator, [{"labs": text} for text in labs[first : first + 64]])
        answer: Any = model.answer(encoded, TASK)
        parts.append(answer.probabilities[:, 1])
    model.train()
    return torch.cat(parts).numpy()


if __name__ == "__main__":
    main()
