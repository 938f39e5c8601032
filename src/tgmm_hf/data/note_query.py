"""A search with a file of a stranger: a watched worker process reads the file, this process holds the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from tgmm_hf.data.file_reading import reason_of
from tgmm_hf.data.note_index import encode_query
from tgmm_hf.utils.errors import InputRefusedError
from tgmm_hf.utils.watched_worker import Limits, Say, WatchedWorker, WorkerStoppedError


@dataclass(frozen=True)
class _Reader:
    """Function of a worker process: a query -> inputs of the model as arrays, and the processor's report."""

    processor: Any

    def __call__(self, say: Say, query: Mapping[str, Any]) -> tuple[dict[str, NDArray], dict[str, Any]]:
        say("query")
        batch, (report,) = self.processor(**query, on_refusal="report", return_report=True, return_tensors="np")
        return dict(batch), report


def encode_watched(
    model: Any, processor: Any, query: Mapping[str, Any], limits: Limits
) -> tuple[NDArray, dict[str, Any]]:
    """Encode a query whose file is read in a worker process with limits.

    Args:
        model: `MoreModel` in evaluation mode.
        processor: its processor.
        query: one of "xray", "ecg" and "text" -> what `MoreProcessor` takes.
        limits: of the reading.

    Returns:
        The vector (p,) of length one, and what the processor says about the query.

    Raises:
        InputRefusedError: if the query cannot be used, or the reading reached a limit.
    """
    (kind,) = query
    worker = WatchedWorker(_Reader(processor), limits)
    try:
        features, report = worker.run(dict(query))
    except WorkerStoppedError as error:
        raise InputRefusedError(kind, error.reason) from error
    except ImportError:
        raise
    except Exception as error:
        if getattr(error, "is_tgmm_error", False):
            raise
        raise InputRefusedError(kind, reason_of(error)) from error
    finally:
        worker.close()
    if report["refused"]:
        raise InputRefusedError(kind, report["refused"][0]["reason"])
    if not features:
        raise InputRefusedError(kind, "there are no words to search with.")
    batch = {name: torch.from_numpy(values).to(model.device) for name, values in features.items()}
    return encode_query(model, batch), report
