"""A trainer that trains one trial of a search after the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from transformers import set_seed

from tgmm_hf.experiments.search_plan import Search
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.training.checkpoints import discard, last_checkpoint
from tgmm_hf.training.run_directory import claim_training_directory
from tgmm_hf.training.train import assemble
from tgmm_hf.training.trainer import TgmmTrainer, early_stopping, optimiser_arguments, trainer_arguments

STUDY = "search"
"""Name of the optuna study in its storage."""
FAILURES = (ValueError, FloatingPointError, torch.OutOfMemoryError)
"""Errors that the settings of a trial can cause: they do not fit together, diverge, or need too much memory."""


class SearchTrainer(TgmmTrainer):
    """A [`TgmmTrainer`] that trains the trials of a search. Every trial has its own model, collators and settings.

    Args:
        search: The plan and its base.
        storage: The storage of optuna.
        prepared: The prepared splits.
        data: The content of `prepare.json`.

    Raises:
        ValueError: If base and data do not fit together, or several processes were started.
    """

    def __init__(self, search: Search, storage: Any, prepared: DatasetDict, data: dict[str, Any]) -> None:
        self.search, self.storage, self.prepared, self.data = search, storage, prepared, data
        base = search.base
        arguments = trainer_arguments(base, use_cpu=not torch.cuda.is_available())
        if arguments.world_size > 1:
            raise ValueError(f"tgmm search runs in one process, {arguments.world_size} were started.")
        arguments.output_dir = str(search.out / "trials")
        self.run = base
        self.parts = assemble(base, prepared, data)
        tasks: dict[str, dict[str, Any]] = self.parts.model.config.tasks or {}
        self.weights = {name: task["weight"] for name, task in tasks.items()}
        super().__init__(
            tasks=list(base.tasks),
            validation_collator=self.parts.validation_collator,
            model_init=self.model_of,
            args=arguments,
            data_collator=self.parts.training_collator,
            train_dataset=self.parts.rows["train"],
            eval_dataset=self.parts.rows["validation"],
            callbacks=[self.parts.training_collator, *early_stopping(base)],
        )

    def try_next(self, study: Any) -> None:
        """Run the next trial of an optuna study, and remove its training directory afterwards."""
        import optuna

        place = len(ended_trials(study))
        name = f"{place + 1:03d}"

        def settings(trial: Any) -> dict[str, Any]:
            self.run = self.search.run(self.search.suggest(trial), name)
            return optimiser_arguments(self.run)

        seed = int(np.random.SeedSequence([self.search.plan.seed, place]).generate_state(1)[0])
        try:
            self.hyperparameter_search(
                hp_space=settings,
                compute_objective=self.kept_score,
                n_trials=1,
                direction="maximize",
                backend="optuna",
                hp_name=lambda trial: self.run.training_directory.name,
                study_name=STUDY,
                storage=self.storage,
                load_if_exists=True,
                sampler=(
                    optuna.samplers.GridSampler(self.search.plan.choices, seed=self.search.plan.seed)
                    if self.search.plan.every_choice
                    else optuna.samplers.TPESampler(seed=seed)
                ),
                pruner=optuna.pruners.NopPruner(),  # steps with different batch sizes cannot be compared
            )
        except ValueError:  # the parent asks for the best trial, which does not exist while all trials have failed
            if study.trials[-1].state is not optuna.trial.TrialState.PRUNED:
                raise
        if self.run.training_directory.is_dir():
            discard(self.run.training_directory)

    def train(self, resume_from_checkpoint: Any = None, trial: Any = None, **kwargs: Any) -> Any:
        """Train one trial, from its last checkpoint if it was stopped. The parent's search calls this method.

        An error of `FAILURES` ends this trial and not the search.
        """
        with _end_trial_on_failure(trial):
            self.hp_space(trial)
        claim_training_directory(self.run, self.data["data_hash"])
        checkpoint = last_checkpoint(self.run.training_directory)
        with _end_trial_on_failure(trial):
            return super().train(checkpoint, trial, **kwargs)

    def model_of(self, trial: Any) -> TgmmModel:
        """Make the model of a trial, and replace the collators and the rows of the trainer by those of the trial.

        The parent calls this method. Without a trial it returns the model of the base.
        """
        if trial is None:
            return self.parts.model
        self.remove_callback(self.parts.training_collator)
        self.parts = assemble(self.run, self.prepared, self.data)
        self.add_callback(self.parts.training_collator)
        self.data_collator, self.validation_collator = self.parts.training_collator, self.parts.validation_collator
        self.train_dataset, self.eval_dataset = self.parts.rows["train"], self.parts.rows["validation"]
        self.parts.fill_cache(self.prepared, self.accelerator, self.run.data.workers)
        set_seed(self.run.seed)  # `tgmm train` starts its steps from this seed
        return self.parts.model

    def kept_score(self, metrics: dict[str, float]) -> float:
        """Return the validation score of the epoch that the run keeps: best or last, as the run's settings say.

        The tasks have the weights of the base, so that the scores of all trials can be compared.

        Args:
            metrics: Not used, because the log of the trainer has the metrics of all epochs.
        """
        epochs = [line for line in self.state.log_history if "eval_score" in line]
        if self.run.optimisation.keep == "last":
            kept = epochs[-1]
        elif self.run.optimisation.selection == "loss":
            kept = min(epochs, key=lambda line: line["eval_loss"])
        else:
            kept = max(epochs, key=lambda line: line["eval_score"])
        defined = [name for name in self.tasks if f"eval_{name}_score" in kept]
        return fmean([kept[f"eval_{name}_score"] for name in defined], [self.weights[name] for name in defined])


def ended_trials(study: Any) -> list[Any]:
    """Return the trials of an optuna study that ended with a score or failed. Stopped trials do not count."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])


@contextmanager
def _end_trial_on_failure(trial: Any) -> Iterator[None]:
    """Turn an error of `FAILURES` in the block into the end of this trial, and store the reason in the trial."""
    import optuna

    try:
        yield
    except FAILURES as error:
        trial.set_user_attr("failed", f"{type(error).__name__}: {error}")
        raise optuna.TrialPruned from error
