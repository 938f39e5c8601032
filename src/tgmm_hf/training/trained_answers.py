"""The answers of a trained model for the patients of its training, on which thresholds and the like are fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from datasets import Dataset

from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.evaluation.predictions import Predictions, collect_predictions
from tgmm_hf.modeling_tgmm import TgmmModel


@dataclass(frozen=True)
class TrainedAnswers:
    """A trained model and its answers. The answers for a split are computed once, when they are first read.

    Attributes:
        model: The trained model.
        weights: Id of its weights, see `weights_id`. What is stored is not used with other weights.
        tasks: Names of the trained tasks.
        rows: The prepared splits "train" and "validation".
        collator: The validation collator.
        batch_size: Patients per batch.
    """

    model: TgmmModel
    weights: str | None
    tasks: Sequence[str]
    rows: Mapping[str, Dataset]
    collator: TgmmCollator
    batch_size: int

    @cached_property
    def validation(self) -> Predictions:
        """Predictions of the validation patients for all trained tasks but retrieval."""
        retrievals = self.model.config.task_names("retrieval")
        return self._predicted("validation", [task for task in self.tasks if task not in retrievals])

    @cached_property
    def training(self) -> Predictions:
        """Predictions of the training patients for the trained prognosis tasks."""
        return self._predicted("train", self.trained("prognosis"))

    def trained(self, kind: str) -> list[str]:
        """List the trained tasks of a kind, in the order of the model's tasks."""
        return [task for task in self.model.config.task_names(kind) if task in self.tasks]

    def _predicted(self, split: str, tasks: Sequence[str]) -> Predictions:
        return collect_predictions(
            self.model, self.rows[split], self.collator, tasks=tasks, batch_size=self.batch_size, progress=False
        )
