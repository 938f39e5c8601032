"""A training of Heartcare: instruction file -> tokenizer, processor and model -> training -> saved model.

The stages of the paper are configurations: the projectors alone, then adapters beside them. Beat is trained first, with
`family: beat`.
"""

from typing import Any

from transformers import set_seed

from tgmm_hf.data.heartcare_ecgs import with_streams
from tgmm_hf.training.checkpoints import agree_on_checkpoint
from tgmm_hf.training.heartcare_arguments import HeartcareRunArguments
from tgmm_hf.training.heartcare_data import HeartcareCollator, HeartcareRows, StreamDropout, processed_streams
from tgmm_hf.training.heartcare_model import build_heartcare
from tgmm_hf.training.instruction_data import patients_by_split, read_rows
from tgmm_hf.training.reporter_data import tokenized_splits, training_texts
from tgmm_hf.training.reporter_parts import ADAPTERS, add_adapters, check_expected, count_parts
from tgmm_hf.training.reporter_trainer import reporter_trainer_arguments
from tgmm_hf.training.run_directory import begin_run, claim_directories
from tgmm_hf.training.train_reporter import fit_and_save
from tgmm_hf.training.validated_run import finished_record, only_one_run
from tgmm_hf.utils.digests import file_digest


def train_heartcare(run: HeartcareRunArguments) -> dict[str, Any]:
    """Train a Heartcare model and save it to `run.output` with its processor, its code and `run.json`.

    The same call continues a stopped run from its last checkpoint. A finished run is not trained again. Adapters are
    merged into the saved weights.

    Args:
        run: The settings of the run.

    Returns:
        The content of `run.json`: settings, seed, data hash, versions, sizes and history.

    Raises:
        FileExistsError: If `run.output` holds anything but a saved model, or contains data that must be kept.
        FileNotFoundError: If there is no instruction file.
        ValueError: If data and model do not fit together, if `run.output` or its checkpoints have other settings, or
            if the training did not train the parts that its settings name.
        FloatingPointError: If a loss or a weight is no longer finite. No model is saved then.
        OSError: If the disk is full, or the output cannot be written. The last whole checkpoint stays.
        TgmmError: If a row of the instruction file is wrong, or another run of this machine writes the output.
    """
    return only_one_run(_train, run)


def _train(run: HeartcareRunArguments) -> dict[str, Any]:
    """Train a model as `train_heartcare` does, without the lock."""
    claim_directories(run)
    arguments = reporter_trainer_arguments(run, drop_last=False)  # first, as it starts the process group
    rows, data_hash = read_rows(run.data.file, in_words=True), f"sha256:{file_digest(run.data.file)}"
    set_seed(run.seed)
    model, processor = build_heartcare(run.model, training_texts(rows))
    if begin_run(run, arguments.should_save, data_hash, patients_by_split(rows), run.model.ecg_sources):
        return finished_record(run)
    streams = processed_streams(run, rows, processor, arguments.should_save)

    def pieces_of(number: int) -> Any:
        row = streams.row(number)
        return processor.row_pieces(with_streams(rows[number].conversation(), run.data.stream_names), row, False)

    tokenized, data_counts = tokenized_splits(rows, streams.usable, pieces_of, run.data.max_tokens)
    splits = {split: HeartcareRows(*part, streams) for split, part in tokenized.items()}
    if run.data.stream_dropout:
        splits["train"].dropout = StreamDropout(processor, run.data.stream_dropout)
    checkpoint = agree_on_checkpoint(run.training_directory, arguments.process_index == 0)
    parts = run.model.trained_parts
    model.train_only(*parts)
    expected = {part: entry["trained"] for part, entry in count_parts(model).items()}
    trained: Any = model if run.model.lora is None else add_adapters(model, run.model.lora, parts)
    counts = count_parts(trained)
    if run.model.lora is not None:
        expected[ADAPTERS] = counts.get(ADAPTERS, {"weights": 1})["weights"]
    check_expected(counts, expected)
    further = {"data": data_counts, "parts": counts}
    collator = HeartcareCollator(processor)
    return fit_and_save(run, trained, processor, arguments, splits, collator, checkpoint, data_hash, further)
