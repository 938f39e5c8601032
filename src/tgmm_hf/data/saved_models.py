"""Open saved models so that damaged or hand-edited files give one line, whatever a library raises over them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from tgmm_hf.processing_tgmm import TgmmProcessor
from tgmm_hf.utils.errors import TgmmError

NUMBER_FORMATS = ("float32", "bfloat16", "int8")
"""Number formats in which a saved model can answer."""
LONGEST_REASON = 300
"""Maximum number of characters of a library's message in an error."""


@contextmanager
def damaged_files_in_one_line(model: str) -> Iterator[None]:
    """Turn errors that files of a saved model cause in libraries into a TgmmError.

    A damaged file can raise almost any error: SafetensorError, a failed check of a configuration, KeyError, TypeError.
    Errors of the file system, of the Hub and of missing packages are clear already, so they pass without change.

    Args:
        model: Directory or Hub repository, for the message.

    Raises:
        TgmmError: In place of any other error.
    """
    try:
        yield
    except (TgmmError, ImportError, MemoryError):
        raise
    except Exception as error:
        # transformers raises an OSError without a number for a directory that lacks a file.
        if isinstance(error, OSError) and (error.errno is not None or not Path(model).is_dir()):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        shown = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} ..."
        raise TgmmError(
            model,
            f"the saved model cannot be loaded ({shown}). A file is damaged or incomplete, or was changed by hand. "
            "Copy or download the model again, or restore the file.",
        ) from error


def load_in_format(model_class: Any, model: str, dtype: str) -> Any:
    """Load a saved model, and bring its weights into another number format than float32.

    Args:
        model_class: Class of the model.
        model: Directory or Hub repository.
        dtype: "float32"; "bfloat16", in which the running statistics stay in float32; or "int8": the weights of linear
            layers are whole numbers, and their inputs are rounded when they come (dynamic quantisation, CPU only).

    Raises:
        TgmmError: As in [`load_whole_model`].
        ValueError: If the number format is not known.
    """
    if dtype not in NUMBER_FORMATS:
        raise ValueError(f"The number format {dtype!r} is not known; known are {', '.join(NUMBER_FORMATS)}.")
    if dtype == "bfloat16":
        return load_whole_model(model_class, model, dtype=torch.bfloat16)
    loaded = load_whole_model(model_class, model)
    if dtype == "float32":
        return loaded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its successor, torchao, is a separate package
        warnings.simplefilter("ignore", UserWarning)  # the same of its tensors
        return torch.ao.quantization.quantize_dynamic(loaded.eval(), {torch.nn.Linear}, torch.qint8, inplace=True)


def load_whole_model(model_class: Any, model: str, **options: Any) -> Any:
    """Load a saved model and check that all of its weights are there.

    The check is needed because transformers only logs missing weights and fills them with random numbers.

    Args:
        model_class: Class of the model.
        model: Directory or Hub repository.
        options: More arguments of `from_pretrained`.

    Raises:
        TgmmError: If a file is damaged, if weights are missing, or if the model has weights that this version does not
            know.
    """
    # Without `ignore_mismatched_sizes` transformers raises a RuntimeError that names no remedy.
    with damaged_files_in_one_line(model):
        loaded, info = model_class.from_pretrained(
            model, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    remedy = (
        "It was saved by another version of tgmm-hf. Use that version, or the code beside the weights "
        "(trust_remote_code), or train again."
    )
    if unknown := sorted(info["unexpected_keys"]):
        raise TgmmError(
            model,
            f"it has {len(unknown)} weights that this version of tgmm-hf does not know ({', '.join(unknown[:3])}) and "
            f"would leave out. {remedy}",
        )
    if missing := sorted(info["missing_keys"]) + sorted(key for key, *_ in info["mismatched_keys"]):
        raise TgmmError(model, f"it lacks {len(missing)} of the model's weights ({', '.join(missing[:3])}). {remedy}")
    return loaded


def load_processor(model: str) -> TgmmProcessor:
    """Load the processor of a saved model.

    Args:
        model: Directory or Hub repository.

    Raises:
        TgmmError: If its files cannot be read.
    """
    with damaged_files_in_one_line(model):
        # False, because transformers would otherwise ask on the terminal whether to run foreign code.
        return cast(TgmmProcessor, TgmmProcessor.from_pretrained(model, trust_remote_code=False))
