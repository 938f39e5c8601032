"""A training run: prepared data -> tokenizer, processor, model -> training -> baseline hazards -> saved directory."""

import json
import logging
import platform
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset, DatasetDict
from huggingface_hub.errors import StrictDataclassError
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, set_seed

from tgmm_hf.configuration_tasks import check_task
from tgmm_hf.configuration_tgmm import TgmmConfig, encoder_config
from tgmm_hf.data.collator import TgmmCollator
from tgmm_hf.data.prediction import load_model
from tgmm_hf.data.prepare import load_prepared
from tgmm_hf.data.tokenizer import cohort_tokenizer
from tgmm_hf.encoders.encoder_loading import describe_sources, load_encoder
from tgmm_hf.evaluation.baseline_hazards import fit_baseline_hazards, published_days
from tgmm_hf.evaluation.unseen import SEEN, seen_patients, weights_digest
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.pipeline_tgmm import code_revision
from tgmm_hf.processing_tgmm import TgmmProcessor, bert_cased_tokenizer, default_processor
from tgmm_hf.training.adapters import add_adapters, merge_adapters
from tgmm_hf.training.arguments import ModelArguments, RunArguments
from tgmm_hf.training.checkpoints import TRAINING_FILES, WEIGHTS, discard, holds, last_checkpoint
from tgmm_hf.training.frozen_features_cache import CONTENTS, TrunkCache, TrunkCollator
from tgmm_hf.training.processes import Together
from tgmm_hf.training.saving import files_of_saved_model, save_repository
from tgmm_hf.training.trainer import EpochCollator, TgmmTrainer, early_stopping, seconds_of, trainer_arguments
from tgmm_hf.utils.files import claim_directory, write_json
from tgmm_hf.utils.names import MODALITIES, SUBSETS

logger = logging.getLogger(__name__)

MAY_CHANGE = {
    f"run.{key}"
    for key in (
        "resume",
        "data.workers",
        "data.cache.directory",
        "optimisation.logging_steps",
        "optimisation.logging",
    )
}
"""Settings that a stopped run may be continued with other values of; epochs too, unless the schedule depends on it."""
RECORD = "run.json"
"""File of the saved model: what it was trained with."""
FINISHED = "finished"
"""Empty file beside the checkpoints of a run that came to its end."""
SPLITS = ("train", "validation")
"""Splits that a run reads."""
FEWEST_EVENTS = 10
"""Events of validation patients that their baseline hazards need; with fewer, training patients are added."""
PACKAGES = ("tgmm-hf", "torch", "transformers", "datasets", "accelerate", "numpy")


@dataclass(frozen=True)
class Parts:
    """What a trainer works with: the model, and the patients as the model wants them."""

    model: TgmmModel
    processor: TgmmProcessor
    training_collator: EpochCollator
    validation_collator: TgmmCollator
    rows: dict[str, Dataset]
    cache: TrunkCache | None

    def fill_cache(self, prepared: DatasetDict, accelerator: Accelerator, workers: int) -> None:
        """Compute what the cache lacks, if there is one; every process has to call this."""
        if self.cache is not None:
            for split in SPLITS:
                training = split == "train"
                self.cache.fill(prepared[split], self.model, self.processor, accelerator, workers, training)


def train(run: RunArguments) -> dict[str, Any]:
    """Train a model as `run` says and save it to `run.output` with its processor, its code and `run.json`.

    A run that was stopped, at any moment, goes on from its last checkpoint when it is started again with the same
    settings, and comes to the same weights. One that is finished is not trained again.

    Returns:
        The record of the run, the content of `run.json`: settings, seed, data hash, versions, sizes, history.

    Raises:
        FileExistsError: if `run.output` holds anything but a saved model, or lies above data that must be kept.
        FileNotFoundError: if there is no prepared data set.
        ValueError: if data, model and tasks do not fit together, `run.output` or its checkpoints are of other settings,
            or none of the checkpoints can be read.
        FloatingPointError: if a loss or a weight is no longer finite; no model is saved then.
        OSError: if the disk is full; the last whole checkpoint stays.
    """
    claim_directories(run)
    use_cpu = not torch.cuda.is_available()
    arguments = trainer_arguments(run, use_cpu=use_cpu)  # first: it starts the process group
    prepared, data = read_data(run.data.directory)
    parts = assemble(run, prepared, data)
    finished = [False]
    with Together():
        if arguments.should_save:
            finished = [claim_training_directory(run, data["data_hash"])]
            splits = {split: prepared[split] for split in SPLITS}
            seen = seen_patients(data["data_hash"], splits, _sources(run))
            write_json(run.training_directory / SEEN, seen)
    broadcast_object_list(finished)
    if finished[0]:
        logger.warning("%s is finished, with these settings and data: nothing was trained.", run.output)
        return dict(json.loads((Path(run.output) / RECORD).read_text()))
    trainer = TgmmTrainer(
        tasks=list(run.tasks),
        validation_collator=parts.validation_collator,
        model=parts.model,
        args=arguments,
        data_collator=parts.training_collator,
        train_dataset=parts.rows["train"],
        eval_dataset=parts.rows["validation"],
        callbacks=[parts.training_collator, *early_stopping(run)],
    )
    parts.fill_cache(prepared, trainer.accelerator, run.data.workers)
    checkpoint = _agreed_checkpoint(run.training_directory, trainer)
    trainer.train(resume_from_checkpoint=checkpoint)
    record = _record(run, data["data_hash"], trainer, checkpoint)
    model = trainer.whole_model()
    with Together():
        if trainer.is_world_process_zero():
            _check_result(model, trainer)
            merge_adapters(model)
            _store_baselines(model, parts.rows, parts.validation_collator, list(run.tasks), run.optimisation.batch_size)
            save_repository(model, parts.processor, run.output, record, keep=_kept(run))
            (run.training_directory / FINISHED).touch()
    return record


def assemble(run: RunArguments, prepared: DatasetDict, data: dict[str, Any]) -> Parts:
    """Everything that a trainer of this run needs, drawn from the run's seed.

    Raises:
        ValueError: if data, model and tasks do not fit together.
    """
    set_seed(run.seed)
    model, processor = build(run, prepared)
    _check_fit(model.config, data, prepared, list(run.tasks))
    model.freeze_encoders(run.model.trainable_layers)
    if run.model.lora is not None:
        add_adapters(model, run.model.lora)
    cache = TrunkCache.of(run, model, processor, data["data_hash"]) if run.data.cache else None
    collator_of: Callable[..., TgmmCollator] = (
        partial(TrunkCollator, cache) if cache else partial(TgmmCollator, cell_dropout=run.data.cell_dropout)
    )
    make_collator = partial(collator_of, processor, model.config)
    return Parts(
        model=model,
        processor=processor,
        training_collator=EpochCollator(make_collator, run.seed, run.data.max_views),
        validation_collator=make_collator(training=False, seed=run.seed),
        rows={split: prepared[split].remove_columns(CONTENTS) if cache else prepared[split] for split in SPLITS},
        cache=cache,
    )


def build(run: RunArguments, prepared: DatasetDict) -> tuple[TgmmModel, TgmmProcessor]:
    """The model before training and its processor: new, around pretrained encoders, or from a checkpoint."""
    if run.model.checkpoint is not None:
        return _from_checkpoint(run)
    pretrained = run.model.encoders
    if (run.model.trainable_layers is not None or run.model.lora is not None) and len(pretrained) < len(MODALITIES):
        setting = "lora" if run.model.lora is not None else "trainable_layers"
        raise ValueError(
            f"model.{setting} is set but there is no model.checkpoint, and model.encoders does not name all three: it "
            f"would freeze encoders of random weights. Give pretrained ones, or leave {setting} null."
        )
    config = new_config(run.model, run.tasks)
    if "labs" in pretrained:
        tokenizer = AutoTokenizer.from_pretrained(pretrained["labs"])
    elif run.model.tokenizer == "bert-cased":
        tokenizer = bert_cased_tokenizer()
    else:
        tokenizer = cohort_tokenizer(prepared["train"], config.tasks, run.model.vocab_size)
    if "labs" not in pretrained:
        config.labs_config.vocab_size = len(tokenizer)
        config.labs_config.pad_token_id = tokenizer.pad_token_id
    config.tokenize_tasks(tokenizer)
    model = TgmmModel(config, {name: load_encoder(name, source) for name, source in pretrained.items()})
    model.initialise_texts()
    return model, default_processor(config, tokenizer, pretrained)


@torch.inference_mode()
def risk_scores(
    model: TgmmModel, dataset: Dataset, collator: TgmmCollator, task: str, batch_size: int
) -> dict[str, np.ndarray]:
    """Modality combination -> risk, time in days and event of the labelled patients who have it: (n, 3)."""
    model.eval()
    rows: dict[str, list[torch.Tensor]] = {"+".join(subset): [] for subset in SUBSETS}
    for batch in DataLoader(dataset, batch_size=batch_size, collate_fn=collator):
        inputs = {name: value.to(model.device) for name, value in batch.items() if isinstance(value, torch.Tensor)}
        labels = batch["labels"][task]
        encoded = model.encode(**inputs)
        for subset in SUBSETS:
            risk = model.answer(encoded.keep(subset), task).risk.float().cpu()
            known = labels["mask"] & torch.stack([encoded.present[name].cpu() for name in subset]).all(0)
            rows["+".join(subset)].append(
                torch.stack([risk, labels["time"].float(), labels["event"].float()], dim=1)[known]
            )
    return {subset: torch.cat(parts).double().numpy() for subset, parts in rows.items()}


def _store_baselines(
    model: TgmmModel, rows: dict[str, Dataset], collator: TgmmCollator, tasks: list[str], batch_size: int
) -> None:
    """Fit the baseline hazards of the trained prognosis tasks and put them into the model's configuration.

    One set a modality combination: the scores of different combinations are not on one scale. On the validation
    patients, and with too few events among them on the training patients as well, whose own scores are spread too far.
    Those of a prognosis task that was not trained are dropped: its scores moved with the encoders and the fusion.
    """
    for task in model.config.task_names("prognosis"):
        if task not in tasks:
            model.config.tasks[task].pop("baseline_hazards", None)
            continue
        validation = risk_scores(model, rows["validation"], collator, task, batch_size)
        few = {subset for subset, scores in validation.items() if (scores[:, 2] == 1).sum() < FEWEST_EVENTS}
        training = risk_scores(model, rows["train"], collator, task, batch_size) if few else {}
        baselines = {}
        for subset, scores in validation.items():
            both = subset in few
            risk, days, event = (np.concatenate([training[subset], scores]) if both else scores).T
            if (event == 1).any():
                stored = published_days(days, model.config.tasks[task]["report_days"])
                fitted_on = "train+validation" if both else "validation"
                baselines[subset] = fit_baseline_hazards(risk, days, event, fitted_on=fitted_on, days=stored)
        model.config.tasks[task]["baseline_hazards"] = baselines


def read_data(directory: str) -> tuple[DatasetDict, dict[str, Any]]:
    """Prepared splits and the record that `tgmm prepare` left beside them."""
    prepared = load_prepared(directory)
    if missing := [split for split in SPLITS if split not in prepared]:
        raise ValueError(f"{directory} has no {' and no '.join(missing)} split, it has {list(prepared)}.")
    return prepared, json.loads((Path(directory) / "prepare.json").read_text())


def _from_checkpoint(run: RunArguments) -> tuple[TgmmModel, TgmmProcessor]:
    """A saved model to fine-tune; settings of its known tasks are replaced, new tasks are added."""
    source = str(run.model.checkpoint)
    check_overrides(run.model)
    processor = TgmmProcessor.from_pretrained(source)
    # another fusion, guidance or response than the checkpoint's has other weights, and starts at random
    changed = run.model.overrides
    model = TgmmModel.from_pretrained(source, **changed) if changed else load_model(source)
    known = set(model.config.tasks)
    for name, changes in run.tasks.items():
        if name not in known:
            model.add_task(name, changes or {}, processor.tokenizer)
    model.config.tasks = {**model.config.tasks, **_tasks(model.config, run.tasks)}
    model.config.tokenize_tasks(processor.tokenizer)
    return model, processor


def new_config(model: ModelArguments, tasks: dict[str, dict[str, Any] | None] | None = None) -> TgmmConfig:
    """Configuration of a new model as a run wants it, with its `tasks`, or the paper's.

    Raises:
        ValueError: on an unknown override or task, or a value that the configuration does not take.
    """
    check_overrides(model)
    try:
        settings = {**model.overrides, **{f"{name}_config": _config_of(name, x) for name, x in model.encoders.items()}}
        config = TgmmConfig.tiny(**settings) if model.size == "tiny" else TgmmConfig(**settings)
    except StrictDataclassError as error:  # no ValueError: a wrong type, in words of its own
        raise ValueError(f"model.overrides: {error}") from error
    if model.encoders:
        config.encoder_sources = describe_sources(model.encoders)
    if tasks is not None:
        config.tasks = _tasks(config, tasks)
    return config


def _config_of(modality: str, source: str) -> Any:
    try:
        return encoder_config(source)
    except OSError as error:
        raise FileNotFoundError(
            f"model.encoders.{modality}: {source} is no directory with an encoder (of `tgmm pretrain`, `tgmm convert`) "
            "and no repository that could be reached on the Hub."
        ) from error


def check_overrides(model: ModelArguments) -> None:
    """Refuse settings that no configuration has."""
    if unknown := set(model.overrides) - set(TgmmConfig.__dataclass_fields__):
        raise ValueError(f"Unknown settings: {', '.join(f'model.overrides.{key}' for key in sorted(unknown))}.")


def _tasks(config: TgmmConfig, wanted: dict[str, dict[str, Any] | None]) -> dict[str, dict[str, Any]]:
    """The tasks that a run names, each with the run's settings over its own."""
    tasks = {}
    for name, changes in wanted.items():
        task = {**config.tasks.get(name, {}), **(changes or {})}
        try:
            check_task(name, task)
        except ValueError as error:
            if name in config.tasks:
                raise
            known = ", ".join(config.tasks)
            raise ValueError(f"tasks.{name} is none of the known tasks ({known}), and as a new one: {error}") from error
        tasks[name] = task
    return tasks


def _check_fit(config: TgmmConfig, data: dict[str, Any], prepared: DatasetDict, tasks: list[str]) -> None:
    """Refuse data that was prepared for another clip geometry, or that has no labels of a task."""
    wanted = {"image_size": config.echo_config.image_size, "num_frames": config.echo_config.num_frames}
    if wanted != data["geometry"]:
        raise ValueError(
            f"The data was prepared with {data['geometry']} but the model takes {wanted}: prepare it again."
        )
    columns = {"diagnosis": "label_", "prognosis": "time_"}
    for task in tasks:
        kind = config.tasks[task]["kind"]
        if kind in columns and f"{columns[kind]}{task}" not in prepared["train"].column_names:
            raise ValueError(f"The data has no labels of task {task!r} (no column {columns[kind]}{task}).")


def claim_directories(run: RunArguments) -> None:
    """Refuse an output, or a training directory to start over in, that holds other files than a run writes.

    Raises:
        FileExistsError: with the names of some of these files.
    """
    claim_directory(run.output, files_of_saved_model(run.output), keep=_kept(run))
    if run.resume == "never":
        claim_directory(run.training_directory, TRAINING_FILES, keep=_kept(run))


def _kept(run: RunArguments) -> list[str]:
    """Directories that a run reads, or fills for later runs, and must not replace."""
    return [run.data.directory, *([run.data.cache.directory] if run.data.cache else [])]


def claim_training_directory(run: RunArguments, data_hash: str) -> bool:
    """Write the settings beside the checkpoints, or refuse the place of a run that had others.

    Returns:
        Whether a run of these settings has come to its end here.
    """
    directory = run.training_directory
    settings = {"run": run.to_dict(), "data_hash": data_hash}
    if weights := weights_of_sources(run):
        settings["weights"] = weights
    state = directory / "settings.json"
    if run.resume == "never" and directory.exists():
        discard(directory)
    record = Path(run.output) / RECORD
    may_change = MAY_CHANGE | ({"run.optimisation.epochs"} if run.optimisation.schedule == "plateau" else set())
    finished = False
    if state.is_file():
        before = json.loads(state.read_text())
        if different := differences(before, settings, may_change):
            key, kind = different[0], "finished run" if (directory / FINISHED).is_file() else "run"
            raise ValueError(
                f"{directory} holds a {kind} of other settings: {key} was {flat(before).get(key)!r}, now "
                f"{flat(settings).get(key)!r}. Give another output, or start over in its place with resume: never."
            )
        same = not differences(before, settings, MAY_CHANGE)
        finished = same and (directory / FINISHED).is_file() and record.is_file()
    elif record.is_file() and run.resume != "never":
        raise ValueError(
            f"{run.output} holds a trained model, but {directory}, which would tell its settings, is gone. Give another"
            " output, or train in its place with resume: never."
        )
    directory.mkdir(parents=True, exist_ok=True)
    if not finished:
        (directory / FINISHED).unlink(missing_ok=True)
    write_json(state, settings)
    return finished


def _sources(run: RunArguments) -> list[str]:
    """Pretrained models that a run starts from."""
    return [run.model.checkpoint] if run.model.checkpoint is not None else list(run.model.encoders.values())


def weights_of_sources(run: RunArguments) -> dict[str, str]:
    """Digest of the weights of each local directory that a run starts from: its path alone does not tell them."""
    return {source: weights_digest(Path(source)) for source in _sources(run) if Path(source).is_dir()}


def _agreed_checkpoint(directory: Path, trainer: TgmmTrainer) -> str | None:
    """The checkpoint to go on from: the first process looks and tells the others, who may see other files."""
    checkpoint: list[str | None] = [None]
    with Together():
        if trainer.is_world_process_zero():
            checkpoint = [last_checkpoint(directory)]
    broadcast_object_list(checkpoint)
    return checkpoint[0]


def differences(before: dict[str, Any], now: dict[str, Any], may_change: Collection[str]) -> list[str]:
    """Names of the nested settings that are other now, sorted; those that may change left out."""
    old, new = flat(before), flat(now)
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and key not in may_change)


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"section.key": value}."""
    pairs: dict[str, Any] = {}
    for key, value in settings.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return pairs


def _check_result(model: TgmmModel, trainer: TgmmTrainer) -> None:
    """Refuse to save weights that are not finite, or others than those that were selected."""
    best = trainer.state.best_model_checkpoint
    if trainer.args.load_best_model_at_end and best is not None and not holds(Path(best), WEIGHTS):
        raise ValueError(f"The weights of the best epoch, {best}, are gone: start over with resume: never.")
    broken = [name for name, tensor in model.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise FloatingPointError(
            f"{len(broken)} weights are not finite after training, among them {broken[0]}: no model is saved. Start "
            "over with resume: never and a lower optimisation.learning_rate, or precision: float32."
        )


def _record(run: RunArguments, data_hash: str, trainer: TgmmTrainer, checkpoint: str | None) -> dict[str, Any]:
    model, state = trainer.accelerator.unwrap_model(trainer.model), trainer.state
    parameters, selection = list(model.parameters()), run.optimisation.selection
    step, figure = state.best_global_step, state.best_metric
    if run.optimisation.keep == "last":
        last = [line for line in state.log_history if "eval_loss" in line][-1]
        step, figure = state.global_step, last[f"eval_{selection}"]
    return {
        "run": run.to_dict(),
        "seed": run.seed,
        "data_hash": data_hash,
        "code_revision": code_revision(model, trainer.validation_collator.processor),
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "processes": trainer.args.world_size,
        "epochs": state.epoch,
        "kept_step": step,
        "kept_metric": {selection: figure},
        "seconds": seconds_of(state.log_history),
        "resumed_from": None if checkpoint is None else Path(checkpoint).name,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "history": state.log_history,
    }
