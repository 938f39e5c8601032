"""An uploaded X-ray or ECG, or words -> the nearest records of an index. Nothing is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgmm_hf.app.answering import READING_LIMITS, Progress, recording_of
from tgmm_hf.app.private_files import RequestPlace
from tgmm_hf.app.uploads import take_files
from tgmm_hf.data.note_index import NoteIndex, load_more, read_index
from tgmm_hf.data.note_query import encode_watched
from tgmm_hf.reports.more_hits import hits_page
from tgmm_hf.utils.errors import InputRefusedError

LARGEST_NUMBER = 10
"""Largest number of results of each kind, because each has a picture."""


@dataclass(frozen=True)
class Searcher:
    """What a search needs.

    Attributes:
        model: `MoreModel` in evaluation mode.
        processor: its processor.
        index: the records that are searched.
    """

    model: Any
    processor: Any
    index: NoteIndex


@dataclass(frozen=True)
class SearchRequest:
    """The request of a user. Exactly one of the first three is given.

    Attributes:
        text: words.
        xray: file of an X-ray, in the cache.
        ecg: files of one recording, in the cache.
        kinds: kinds of records to find.
        number: number of results of each kind.
    """

    text: str = ""
    xray: Sequence[str] = ()
    ecg: Sequence[str] = ()
    kinds: Sequence[str] = ("xray", "ecg", "text")
    number: int = 5


def load_searcher(model: str, index: str | Path, strictness: str = "note") -> Searcher:
    """Load a saved MoRE model and its index.

    Args:
        model: directory or Hub repository.
        index: directory that `tgmm index` wrote.
        strictness: "note" uses an input that is in doubt, "refuse" refuses it.

    Raises:
        TgmmError: if the model is of another kind, or the index was not made by it.
    """
    loaded, processor = load_more(model)
    processor.default_strictness = strictness
    return Searcher(loaded, processor, read_index(index, loaded))


def search_uploads(searcher: Searcher, request: SearchRequest, place: RequestPlace, progress: Progress) -> str:
    """Find the nearest records.

    A worker process with limits reads the uploaded file first. This process reads it only if the worker could, for the
    picture on the page.

    Args:
        searcher: model and index.
        request: the request. Its files are moved out of the cache, also if the search fails.
        place: directories of this request.
        progress: is told what is done now.

    Returns:
        The page of the results as HTML text, see `hits_page`.

    Raises:
        InputRefusedError: if nothing or more than one thing is given, or it cannot be used.
    """
    files = {
        kind: take_files(list(paths), place.cache, place.folder / kind) if paths else []
        for kind, paths in (("xray", request.xray), ("ecg", request.ecg))
    }
    files_by_kind = {kind: paths for kind, paths in files.items() if paths}
    words = request.text.strip()
    if len(files_by_kind) + bool(words) != 1:
        raise InputRefusedError(
            "search",
            f"{len(files_by_kind) + bool(words)} of words, X-ray and ECG are given: give one, and empty the others.",
        )
    query: dict[str, str] = {"text": words} if words else {}
    if "xray" in files_by_kind:
        if len(files_by_kind["xray"]) != 1:
            raise InputRefusedError("xray", f"the archive holds {len(files_by_kind['xray'])} files: send one X-ray.")
        query["xray"] = str(files_by_kind["xray"][0])
    elif "ecg" in files_by_kind:
        query["ecg"] = str(recording_of(files_by_kind["ecg"]))
    progress(0.1, "Reading the file, then asking the model")
    vector, report = encode_watched(searcher.model, searcher.processor, query, READING_LIMITS)
    progress(0.5, "Drawing the results")
    matches = searcher.index.nearest(vector, request.kinds, min(request.number, LARGEST_NUMBER))
    return hits_page(searcher.processor, query, matches, report)
