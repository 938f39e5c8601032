"""The first stage of a MEIT training: the ECG vectors learn to name statements, before the language model reads them.

A linear layer on the ECG vectors names the statements of an ECG. The ECG encoder, the projector and this layer are
trained. The layer is thrown away. Why: docs/decisions/173-encoder-first.md.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset
from transformers import EvalPrediction

from tgmm_hf.data.instructions import Instruction, one_row_of_each_ecg
from tgmm_hf.data.processed_ecgs import ProcessedArrays
from tgmm_hf.evaluation.finding_figures import truth_in
from tgmm_hf.families.meit.modeling_meit import MeitForConditionalGeneration
from tgmm_hf.training.reporter_arguments import ReporterRunArguments
from tgmm_hf.training.reporter_trainer import ECG_PARTS, ReporterTrainer, reporter_trainer_arguments
from tgmm_hf.training.training_data import SPLITS
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import read_json, write_json

logger = logging.getLogger(__name__)

RECORD = "encoder.json"
"""File beside the checkpoints with the codes and the history of the first stage."""


class StatementNaming(nn.Module):
    """A MEIT model with a linear layer that names the statements of an ECG.

    Args:
        reporter: The model. Its language model is not called.
        number: Number of statements.
    """

    def __init__(self, reporter: MeitForConditionalGeneration, number: int) -> None:
        super().__init__()
        self.reporter = reporter
        width = int(reporter.config.projection_dim or 0)
        self.scale = width**0.5  # a unit vector then has numbers of about one
        self.naming = nn.Linear(width * reporter.config.num_ecg_vectors, number)

    def forward(self, input_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute "loss" and "logits" (B, statements).

        Args:
            input_values: (B, 12, samples), ECGs as the processor makes them.
            labels: (B, statements), 1 for a statement that is present.
        """
        vectors = self.reporter.get_ecg_features(input_values)
        logits = self.naming(self.scale * vectors.flatten(1).float())
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, labels), "logits": logits}

    def trained_weights(self) -> list[nn.Parameter]:
        """List the weights of the ECG encoder, the projector and the linear layer."""
        return [weight for part in ECG_PARTS for weight in getattr(self.reporter, part).parameters()] + [
            *self.naming.parameters()
        ]


class StatementRows(Dataset):
    """The usable ECGs of one split with their statements.

    Args:
        ecgs: Processed ECGs.
        numbers: Numbers of the ECGs of this split in `ecgs`.
        present: (ECGs, statements) bool.
    """

    def __init__(self, ecgs: ProcessedArrays, numbers: Sequence[int], present: NDArray) -> None:
        self.ecgs, self.numbers, self.present = ecgs, numbers, present

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, NDArray]:
        """Return "input_values" (12, samples) and "labels" (statements), float32."""
        number = self.numbers[index]
        values = np.asarray(self.ecgs.values[number], dtype=np.float32)
        return {"input_values": values, "labels": self.present[number].astype(np.float32)}


def train_encoder(
    model: MeitForConditionalGeneration,
    run: ReporterRunArguments,
    rows: Sequence[Instruction],
    ecgs: ProcessedArrays,
    is_done: bool,
) -> dict[str, Any]:
    """Train the ECG encoder and the projector of `model` to name the statements of the training split, in place.

    Args:
        model: The model without adapters.
        run: The settings; `optimisation.encoder_epochs` is the number of epochs.
        rows: The rows of the instruction file.
        ecgs: Their processed ECGs, in the same order.
        is_done: Whether a checkpoint of the second stage exists, which holds the weights. Then nothing is trained.

    Returns:
        {"codes", "history"}, as in the file `RECORD` beside the checkpoints.

    Raises:
        TgmmError: If no row of the training split states anything.
    """
    record = run.training_directory / RECORD
    if is_done and record.is_file():
        return dict(read_json(record))
    codes, splits = _statement_splits(rows, ecgs)
    logger.warning(
        "First stage: the ECG encoder and the projector learn to name %d statements (%d epochs).",
        len(codes),
        run.optimisation.encoder_epochs,
    )
    trainer = _trainer(StatementNaming(model, len(codes)), run, splits)
    trainer.train()
    content = {"codes": codes, "history": trainer.state.log_history}
    if trainer.is_world_process_zero():
        write_json(record, content)
    return content


def _trainer(
    naming: StatementNaming, run: ReporterRunArguments, splits: Mapping[str, StatementRows]
) -> ReporterTrainer:
    """Make the trainer of the first stage. It saves no checkpoint, because the stage is short."""
    optimisation = run.optimisation
    rate = optimisation.encoder_learning_rate
    stage = replace(
        optimisation, epochs=optimisation.encoder_epochs, learning_rate=rate, accumulation_steps=1, keep="last"
    )
    arguments = reporter_trainer_arguments(replace(run, optimisation=stage))
    arguments.save_strategy = "no"
    arguments.prediction_loss_only = False
    return ReporterTrainer(
        model=naming,
        args=arguments,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        compute_metrics=_f1,
        optimizers=(torch.optim.AdamW(naming.trained_weights(), lr=rate, weight_decay=stage.weight_decay), None),
    )


def _statement_splits(rows: Sequence[Instruction], ecgs: ProcessedArrays) -> tuple[list[str], dict[str, StatementRows]]:
    """Return the codes that the training split states, and split -> rows.

    A statement that a row does not list counts as absent, because PTB-XL lists only what is present. An ECG that
    several rows are about counts once.
    """
    numbers_of_ecgs = one_row_of_each_ecg(rows)
    stated_by, _ = truth_in([rows[number] for number in numbers_of_ecgs])
    truth = dict(zip(numbers_of_ecgs, stated_by, strict=True))
    codes = sorted({code for number, stated in truth.items() if rows[number].split == "train" for code in stated})
    if not codes:
        raise TgmmError(
            "optimisation.encoder_epochs",
            "no row of the train split states a finding that the package knows. Set it to 0.",
        )
    present = np.array([[code in truth.get(number, ()) for code in codes] for number in range(len(rows))], dtype=bool)
    splits = {}
    for split in SPLITS:
        numbers = ecgs.usable([number for number in numbers_of_ecgs if rows[number].split == split])
        splits[split] = StatementRows(ecgs, numbers, present)
    return codes, splits


def _f1(prediction: EvalPrediction) -> dict[str, float]:
    """Compute F1 over all statements of all ECGs."""
    named, present = np.asarray(prediction.predictions) > 0, np.asarray(prediction.label_ids) > 0
    hits = int((named & present).sum())
    return {"statements_f1": 2 * hits / max(1, int(named.sum() + present.sum()))}
