"""A training of Beat: recordings of an instruction file -> windows -> training -> saved model and extractor."""

from functools import partial
from typing import Any

import torch
from transformers import PreTrainedConfig, TrainingArguments, set_seed

from tgmm_hf.families.heartcare.configuration_beat import BeatConfig
from tgmm_hf.families.heartcare.modeling_beat import BeatModel
from tgmm_hf.inputs.feature_extraction_beat import BeatFeatureExtractor
from tgmm_hf.training.base_trainer import adamw_arguments
from tgmm_hf.training.beat_arguments import BeatRunArguments
from tgmm_hf.training.beat_data import RecordingRows, WindowCollator, recording_splits, recordings_of
from tgmm_hf.training.instruction_data import patients_by_split, processed_once, read_rows
from tgmm_hf.training.run_directory import begin_run, claim_directories
from tgmm_hf.training.settings_files import refuse_unknown_overrides
from tgmm_hf.training.trainer import EpochCollator
from tgmm_hf.training.validated_run import finished_record, fit_check_save, only_one_run
from tgmm_hf.training.validating_trainer import LossTrainer
from tgmm_hf.utils.digests import file_digest

LOSSES = ("reconstruction_loss", "prediction_loss", "quantization_loss")
"""Parts of the loss, as the model's output names them."""
LEVEL_NAMES = ("core", "residual")
"""Names of the first two levels of codes."""


def train_beat(run: BeatRunArguments) -> dict[str, Any]:
    """Train a Beat model and save it to `run.output` with its feature extractor, its code and `run.json`.

    The same call continues a stopped run from its last checkpoint and gives the same weights as a run that was not
    stopped. A finished run is not trained again.

    Args:
        run: The settings of the run.

    Returns:
        The content of `run.json`: settings, seed, data hash, versions, sizes and history.

    Raises:
        FileExistsError: If `run.output` holds anything but a saved model, or contains data that must be kept.
        FileNotFoundError: If there is no instruction file.
        ValueError: If data and model do not fit together, or if `run.output` or its checkpoints have other settings.
        FloatingPointError: If a loss or a weight is no longer finite. No model is saved then.
        OSError: If the disk is full, or the output cannot be written. The last whole checkpoint stays.
        TgmmError: If a row of the instruction file is wrong, or another run of this machine writes the output.
    """
    return only_one_run(_train, run)


def _train(run: BeatRunArguments) -> dict[str, Any]:
    """Train a model as `train_beat` does, without the lock."""
    claim_directories(run)
    arguments = TrainingArguments(**adamw_arguments(run))  # first, as it starts the process group
    rows, data_hash = recordings_of(read_rows(run.data.file)), f"sha256:{file_digest(run.data.file)}"
    set_seed(run.seed)
    model = _new_model(run)
    if begin_run(run, arguments.should_save, data_hash, patients_by_split(rows), run.model.sources):
        return finished_record(run)
    # One long window of each recording. A window that is cut out of it later is standardised anew.
    whole = BeatFeatureExtractor(num_samples=_num_samples(run), max_windows=1)
    splits = recording_splits(rows, processed_once(run, rows, whole, arguments.should_save))
    training_collator = EpochCollator(partial(WindowCollator, model.config), run.seed)
    trainer = BeatTrainer(
        validate=partial(validate_beat, collator=WindowCollator(model.config, training=False)),
        model=model,
        args=arguments,
        data_collator=training_collator,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        callbacks=[training_collator],
    )
    extractor = BeatFeatureExtractor(num_samples=model.config.seq_length)
    further = {"recordings": {split: len(part) for split, part in splits.items()}}
    return fit_check_save(run, trainer, extractor, data_hash, further)


class BeatTrainer(LossTrainer):
    """Trainer of [`BeatModel`], whose training lines name the three parts of the loss."""

    def parts_of_loss(self, output: Any) -> dict[str, torch.Tensor]:
        """Return the parts `LOSSES`."""
        return {name: output[name] for name in LOSSES}


@torch.no_grad()
def validate_beat(model: BeatModel, rows: RecordingRows, batch_size: int, collator: WindowCollator) -> dict[str, float]:
    """Compute the losses of a model on recordings, and how many codes are used.

    Args:
        model: The model. It is in training mode afterwards if it was before.
        rows: The recordings.
        batch_size: Recordings per batch.
        collator: Collator with `training=False`.

    Returns:
        "loss", the parts `LOSSES`, and "core_codes_used", "residual_codes_used" between 0 and 1.
    """
    was_training = model.training
    model.eval()
    sums, codes = dict.fromkeys(("loss", *LOSSES), 0.0), []
    for start in range(0, len(rows), batch_size):
        batch = collator([rows[index] for index in range(start, min(start + batch_size, len(rows)))])
        output = model(**{name: values.to(model.device) for name, values in batch.items()})
        for name in sums:
            sums[name] += float(output[name]) * len(output.codes)
        codes.append(output.codes)
    model.train(was_training)
    usage = model.code_usage(torch.cat(codes)).tolist()
    figures = {name: total / len(rows) for name, total in sums.items()}
    return figures | {f"{name}_codes_used": share for name, share in zip(LEVEL_NAMES, usage, strict=False)}


def _new_model(run: BeatRunArguments) -> BeatModel:
    """Make the model that the training starts from.

    Raises:
        ValueError: If `data.seconds` is shorter than a window and the second after it.
    """
    if run.model.checkpoint is not None:
        model = BeatModel.from_pretrained(run.model.checkpoint)
    else:
        allowed = set(BeatConfig.__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
        refuse_unknown_overrides(run.model.overrides, allowed)
        model = BeatModel(BeatConfig(**run.model.overrides))
    config = model.config
    needed, samples = config.seq_length + config.prediction_length, _num_samples(run)
    if samples < needed:
        raise ValueError(
            f"data.seconds is {run.data.seconds:g}, which is {samples} samples at 250 Hz, and a window with what "
            f"follows it has {needed}. Set data.seconds to {needed / BeatFeatureExtractor().sampling_rate:g} or more, "
            "or a smaller model.overrides.seq_length."
        )
    return model


def _num_samples(run: BeatRunArguments) -> int:
    """Return the number of samples of a recording, at Beat's sampling rate."""
    return round(run.data.seconds * BeatFeatureExtractor().sampling_rate)
