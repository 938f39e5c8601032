"""The model before training: new, around pretrained encoders, or from a checkpoint."""

import logging
from collections.abc import Collection
from typing import Any

from datasets import DatasetDict
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer, BertTokenizer

from tgmm_hf.configuration_tasks import check_task
from tgmm_hf.configuration_tgmm import TgmmConfig, encoder_config
from tgmm_hf.data.lab_rows import columns_of, scales_of
from tgmm_hf.data.prediction import load_model
from tgmm_hf.data.saved_models import damaged_files_in_one_line, load_processor
from tgmm_hf.data.tokenizer import cohort_tokenizer
from tgmm_hf.encoders.encoder_loading import load_encoder
from tgmm_hf.inputs.lab_columns import COLUMN_POSITION
from tgmm_hf.layers.cell_inputs import reads_cells
from tgmm_hf.modeling_tgmm import TgmmModel
from tgmm_hf.processing_tgmm import TgmmProcessor, bert_cased_tokenizer, default_processor
from tgmm_hf.training.arguments import ModelArguments, RunArguments
from tgmm_hf.utils.model_licences import describe_sources
from tgmm_hf.utils.names import MODALITIES

logger = logging.getLogger(__name__)

MEANING_OF_A_HEAD = ("kind", "unit", "loss", "findings")
"""Settings of a regression or multilabel that say what the outputs of its head are: findings by position."""
TaskChanges = dict[str, dict[str, Any] | None]
"""Name of a task -> settings that replace the settings of the task. None changes nothing."""


def build(run: RunArguments, prepared: DatasetDict) -> tuple[TgmmModel, TgmmProcessor]:
    """Make the model before training, and its processor.

    Args:
        run: The settings of the training.
        prepared: The prepared splits. A new vocabulary is trained on the training split.

    Raises:
        FileNotFoundError: If a checkpoint or an encoder does not exist.
        ValueError: If the settings do not fit together, or would freeze encoders with random weights.
    """
    if run.model.checkpoint is not None:
        model, processor = _from_checkpoint(run)
    else:
        model, processor = _new_model(run, prepared)
    columns = columns_of(prepared["train"])
    if processor.labs_scales is None:
        processor.labs_columns = sorted({*_columns_before(run, processor), *columns})
        return model, processor
    processor.labs_columns = sorted(scale["column"] for scale in processor.labs_scales)
    if further := sorted(set(columns) - set(processor.labs_columns)):
        logger.warning(
            "The data has lab columns that the model does not have: %s. They are not used, because a model that reads "
            "lab cells as numbers keeps the columns of its first training.",
            ", ".join(further),
        )
    return model, processor


def _columns_before(run: RunArguments, processor: TgmmProcessor) -> Collection[str]:
    """List the lab columns of the training that made the checkpoint, because the model still knows their words.

    A checkpoint without a list, such as one of version 0.1, stands for all known columns. A new model has none.
    """
    if run.model.checkpoint is None:
        return ()
    return COLUMN_POSITION if processor.labs_columns is None else processor.labs_columns


def _new_model(run: RunArguments, prepared: DatasetDict) -> tuple[TgmmModel, TgmmProcessor]:
    """Make a new model and its processor, see `build`. `run.model.encoders` names the pretrained encoders."""
    pretrained = run.model.encoders
    if (run.model.trainable_layers is not None or run.model.lora is not None) and len(pretrained) < len(MODALITIES):
        setting = "lora" if run.model.lora is not None else "trainable_layers"
        raise ValueError(
            f"model.{setting} is set, there is no model.checkpoint, and model.encoders does not name all three "
            f"encoders, so encoders with random weights would be frozen. Name pretrained encoders, or leave {setting} "
            "null."
        )
    config = new_config(run.model, run.tasks)
    if "labs" in pretrained:
        tokenizer = AutoTokenizer.from_pretrained(pretrained["labs"])
    else:
        tokenizer = new_tokenizer(run.model, config, prepared)
    config.tokenize_tasks(tokenizer)
    if reads_cells(config) and config.labs_scales is None:
        config.set_labs_scales(scales_of(prepared["train"]))
    model = TgmmModel(config, {name: load_encoder(name, source) for name, source in pretrained.items()})
    model.initialise_texts()
    return model, default_processor(config, tokenizer, pretrained)


def new_tokenizer(model: ModelArguments, config: TgmmConfig, prepared: DatasetDict) -> BertTokenizer:
    """Make the tokenizer of a new lab text encoder. Set vocabulary size and padding token in `config`, in place.

    Args:
        model: `tokenizer` and `vocab_size` are used.
        config: Configuration of the new model.
        prepared: The prepared splits. "cohort" learns the vocabulary from the train split.
    """
    if model.tokenizer == "bert-cased":
        tokenizer = bert_cased_tokenizer()
    else:
        tokenizer = cohort_tokenizer(prepared["train"], config.tasks, model.vocab_size)
    config.labs_config.vocab_size = len(tokenizer)
    config.labs_config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def new_config(model: ModelArguments, tasks: TaskChanges | None = None) -> TgmmConfig:
    """Make the configuration of a new model.

    Args:
        model: Sizes, overrides and encoders of the model.
        tasks: The tasks of the model, with changed settings. None gives the paper's tasks.

    Raises:
        FileNotFoundError: If an encoder does not exist.
        ValueError: If an override or a task is unknown, or the configuration does not take a value.
    """
    check_overrides(model)
    try:
        encoders = {f"{name}_config": _encoder_config(name, source) for name, source in model.encoders.items()}
        settings = {**model.overrides, **encoders}
        config = TgmmConfig.tiny(**settings) if model.size == "tiny" else TgmmConfig(**settings)
    except StrictDataclassError as error:  # a wrong type; this class is no ValueError
        raise ValueError(f"model.overrides: {error}") from error
    if model.encoders:
        config.encoder_sources = describe_sources(model.encoders)
    if tasks is not None:
        config.tasks = _changed_tasks(config, tasks)
    return config


def check_overrides(model: ModelArguments) -> None:
    """Raise a ValueError if `model.overrides` names a setting that `TgmmConfig` does not have."""
    if unknown := set(model.overrides) - set(TgmmConfig.__dataclass_fields__):
        raise ValueError(f"Unknown settings: {', '.join(f'model.overrides.{key}' for key in sorted(unknown))}.")


def _from_checkpoint(run: RunArguments) -> tuple[TgmmModel, TgmmProcessor]:
    """Load the saved model `run.model.checkpoint` and its processor, to train it further.

    The settings of the run replace settings of the model and of its tasks. New tasks are added to the model.
    """
    source = str(run.model.checkpoint)
    check_overrides(run.model)
    processor = load_processor(source)
    # A part that the overrides replace, such as the fusion, has no weights in the checkpoint and starts at random.
    overrides = run.model.overrides
    with damaged_files_in_one_line(source):
        model = TgmmModel.from_pretrained(source, **overrides) if overrides else load_model(source)
    saved_tasks = dict(model.config.tasks)
    for name, changes in run.tasks.items():
        if name not in saved_tasks:
            model.add_task(name, changes or {}, processor.tokenizer)
    model.config.tasks = {**model.config.tasks, **_changed_tasks(model.config, run.tasks)}
    model.config.tokenize_tasks(processor.tokenizer)
    _check_heads(model, saved_tasks)
    return model, processor


def _check_heads(model: TgmmModel, saved: TaskChanges) -> None:
    """Raise a ValueError if a setting that gives the outputs of a head their meaning differs from the checkpoint's.

    Args:
        model: The model with the settings of the run.
        saved: The tasks of the checkpoint.
    """
    for name in getattr(model, "heads", {}):
        before, now = saved.get(name), model.config.tasks[name]
        for setting in MEANING_OF_A_HEAD if before else ():
            if before.get(setting) != now.get(setting):
                raise ValueError(
                    f"tasks.{name}.{setting}: the head of the checkpoint was trained with {before.get(setting)}, and "
                    f"the settings of the run have {now.get(setting)}. Its outputs would get another meaning: keep the "
                    "setting, or give the task another name."
                )


def _encoder_config(modality: str, source: str) -> Any:
    """Read the configuration of the pretrained encoder in a directory or Hub repository.

    Raises:
        FileNotFoundError: If there is none. The message names the setting `model.encoders.<modality>`.
    """
    try:
        return encoder_config(source)
    except OSError as error:
        raise FileNotFoundError(
            f"model.encoders.{modality}: {source} is no directory with an encoder (of `tgmm pretrain`, `tgmm convert`) "
            "and no repository that could be reached on the Hub."
        ) from error


def _changed_tasks(config: TgmmConfig, wanted: TaskChanges) -> dict[str, dict[str, Any]]:
    """Return the tasks that a run names (`wanted`), each with its settings in `config` and the changes of the run.

    Raises:
        ValueError: If a task has wrong settings, or is neither known nor a complete new task.
    """
    tasks = {}
    for name, changes in wanted.items():
        task = {**config.tasks.get(name, {}), **(changes or {})}
        try:
            check_task(name, task)
        except ValueError as error:
            if name in config.tasks:
                raise
            known_tasks = ", ".join(config.tasks)
            raise ValueError(
                f"tasks.{name} is none of the known tasks ({known_tasks}), and as a new one: {error}"
            ) from error
        tasks[name] = task
    return tasks
