"""Trainers that log parts of the loss, and that validate with a function of this package."""

import copy
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import DistributedType, broadcast_object_list

from tgmm_hf.training.base_trainer import BaseTrainer
from tgmm_hf.training.processes import fail_together


class ValidatingTrainer(BaseTrainer):
    """Trainer whose validation figures come from `validation_metrics`, which a subclass writes.

    Training lines get the means of the figures that `add_part` was called with.

    Args:
        **kwargs: Arguments of the parent.
    """

    control: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        sharded = self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        self._sharded, self._whole = sharded, None
        if sharded and self.accelerator.is_main_process:
            self._whole = copy.deepcopy(self.model).to(self.args.device)
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    @abstractmethod
    def validation_metrics(self, model: Any, dataset: Any) -> dict[str, float]:
        """Compute the validation metrics of a whole model on a data set. The first process calls it.

        Returns:
            Name of a metric -> value, among them "loss".
        """

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Compute the validation metrics.

        The first process scores the whole split and sends the metrics to the other processes, so that all processes
        decide alike about early stopping, learning rate and best epoch.

        Args:
            eval_dataset: The rows to validate on. None takes the `eval_dataset` of the trainer.
            ignore_keys: Not used.
            metric_key_prefix: Put before each metric name. `eval` gives `eval_...`.

        Returns:
            Metric name with its prefix -> value. The metrics are logged, too.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        metrics: list[dict[str, float] | None] = [None]
        model = self.whole_model()
        with fail_together():
            if self.accelerator.is_main_process:
                metrics = [self.validation_metrics(model, dataset)]
        broadcast_object_list(metrics)
        assert metrics[0] is not None
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics[0].items()}
        self.log(dict(named))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named

    def whole_model(self) -> Any:
        """Return the model with all its weights. Every process has to call this. Use the result in the first process.

        If FSDP or DeepSpeed hold a part of the weights in each process, the result is a copy. It is None in the other
        processes.
        """
        if not self._sharded:
            return self.accelerator.unwrap_model(self.model)
        weights = self.accelerator.get_state_dict(self.model_wrapped)
        if self._whole is not None:
            self._whole.load_state_dict(weights)
        return self._whole

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a line of figures as the parent does.

        A training line (one with "loss") also gets the mean of each part since the training line before it.
        """
        if "loss" in logs:
            logs |= {name: round(self._sums[name] / self._counts[name], 5) for name in self._sums}
            self._sums.clear()
            self._counts.clear()
        super().log(logs, start_time)

    def add_part(self, name: str, value: torch.Tensor) -> None:
        """Add a figure of one step, such as a part of the loss, to the mean of the next training line."""
        self._sums[name] += float(value)
        self._counts[name] += 1


class LossTrainer(ValidatingTrainer):
    """Trainer of a model whose output holds the loss, which is a mean over the batch.

    Args:
        validate: Computes the validation metrics: `validate(model, rows, batch size)`.
        **kwargs: Arguments of the parent.
    """

    def __init__(self, *, validate: Callable[[Any, Any, int], dict[str, float]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validate = validate
        self.model_accepts_loss_kwargs = False  # the Trainer must not divide the loss, because it is a mean

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the loss of one batch, and the means of `parts_of_loss`. The Trainer calls this method.

        With `return_outputs` the result is (loss, output of the model). `num_items_in_batch` is not used.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        output = self.output_of(model, inputs)
        if not bool(torch.isfinite(output.loss)):
            raise self.not_finite(str(output.loss.item()))
        for name, value in self.parts_of_loss(output).items():
            self.add_part(name, value.detach())
        return (output.loss, output) if return_outputs else output.loss

    def output_of(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Compute the output of the model for one batch, with its loss."""
        return model(**inputs)

    def parts_of_loss(self, output: Any) -> dict[str, torch.Tensor]:
        """Return the figures of one step that training lines name beside the loss. There are none by default."""
        return {}

    def validation_metrics(self, model: Any, dataset: Any) -> dict[str, float]:
        """Compute the validation metrics with `validate`."""
        return self.validate(model, dataset, self.args.per_device_eval_batch_size)
