"""An index of X-rays, ECGs and notes in the space of a MoRE model, and the search in it.

`make_index` writes a directory: index.parquet (one row for each vector), refused.csv, index.json. It holds ids of
patients, so it is patient data. The search compares a query with all vectors at once.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from tgmm_hf.data.file_reading import file_state
from tgmm_hf.data.note_tables import NoteRow, read_note_table
from tgmm_hf.data.saved_models import damaged_files_in_one_line, load_whole_model
from tgmm_hf.families.more.modeling_more import MoreModel
from tgmm_hf.families.more.processing_more import MoreProcessor
from tgmm_hf.inputs.processor_fingerprint import processor_fingerprint
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import claim_directory, read_json, whole_file, write_json
from tgmm_hf.utils.output_lock import one_run_at_a_time

INDEX, REFUSED, RECORD, SETTINGS, PARTS = "index.parquet", "refused.csv", "index.json", "settings.json", "parts"
PART = 64
"""Rows of the table that are encoded at a time, and stored before the next ones."""
KINDS = ("xray", "ecg", "text")
"""What a vector may be of."""


@dataclass(frozen=True)
class Match:
    """One result of a search.

    Attributes:
        kind: "xray", "ecg" or "text".
        id: Row of the table that the X-ray, ECG or note stands in.
        patient_id: Patient of the row.
        similarity: Cosine with the query.
    """

    kind: str
    id: str
    patient_id: str
    similarity: float


def load_more(model: str, model_class: Any = MoreModel) -> tuple[Any, MoreProcessor]:
    """Load a saved MoRE model and its processor.

    Args:
        model: Directory or Hub repository.
        model_class: `MoreModel`, or `MoreForClassification` for findings.

    Raises:
        TgmmError: If it is another model, or its files are damaged or incomplete.
    """
    from transformers import PreTrainedConfig

    with damaged_files_in_one_line(model):
        kind = PreTrainedConfig.get_config_dict(model)[0].get("model_type")
    if kind != "more":
        raise TgmmError(model, f"it is a {kind or 'nameless'} model, and this command takes one of MoRE (tgmm train).")
    loaded = load_whole_model(model_class, model).eval()
    with damaged_files_in_one_line(model):
        return loaded, MoreProcessor.from_pretrained(model, trust_remote_code=False)


@one_run_at_a_time("out")
def make_index(model: str, table: str | Path, out: str | Path, *, allow_outside: bool = False) -> dict[str, Any]:
    """Encode all X-rays, ECGs and notes of a table. The same call goes on where a stopped one was.

    A file that stands in several rows is encoded once, for the first of them.

    Args:
        model: Directory or Hub repository of a saved MoRE model.
        table: Table as `read_note_table` reads it.
        out: Directory to write.
        allow_outside: Whether files outside the directory of the table are read.

    Returns:
        The content of index.json: numbers of vectors by kind, number of refused inputs, fingerprints.

    Raises:
        FileExistsError: If `out` holds files that this function does not write.
        TgmmError: If model or table cannot be used, or `out` holds the index of another model or table.
    """
    out = Path(out)
    network, processor = load_more(model)
    rows = _without_repeats(read_note_table(table, allow_outside=allow_outside))
    settings = {
        "weights": _weights_of(network),
        "processor": json_digest(processor_fingerprint(processor)),
        "rows": json_digest([[row.id, row.patient_id, row.text, _state(row.xray), _state(row.ecg)] for row in rows]),
    }
    claim_directory(out, [INDEX, REFUSED, RECORD, SETTINGS, f"{PARTS}/"])
    if (out / SETTINGS).is_file() and (before := read_json(out / SETTINGS)) != settings:
        changed = ", ".join(name for name in settings if before.get(name) != settings[name])
        raise TgmmError(str(out), f"it holds another index (changed: {changed}). Name another directory.")
    write_json(out / SETTINGS, settings)
    for start in tqdm(range(0, len(rows), PART), desc="index", unit="part", disable=None):
        path = out / PARTS / f"{start // PART:06d}.json"
        if not path.is_file():
            write_json(path, encode_rows(rows[start : start + PART], network, processor))
    return _finish(out, settings, network.config.projection_dim)


def search(
    model: MoreModel,
    processor: Any,
    index: str | Path,
    query: dict[str, Any],
    kinds: Sequence[str],
    number: int,
) -> list[Match]:
    """Find the vectors of an index that are nearest to a query.

    Args:
        model: The model that made the index.
        processor: Its processor.
        index: Directory of `make_index`.
        query: One of "xray", "ecg" and "text" -> what `MoreProcessor` takes.
        kinds: Kinds of vectors to find.
        number: Largest number of results of each kind.

    Returns:
        The results, kind after kind, nearest first.

    Raises:
        InputRefusedError: If the query cannot be used.
        TgmmError: If the index is of another model, or damaged.
    """
    index = Path(index)
    if not (index / RECORD).is_file() or not (index / INDEX).is_file():
        raise TgmmError(str(index), "holds no finished index. `tgmm index` writes one.")
    record = read_json(index / RECORD)
    if record.get("weights") != _weights_of(model):
        raise TgmmError(str(index), "was made with other weights than this model has. Make the index again.")
    batch = processor(**query, return_tensors="pt")
    with torch.no_grad():
        (vector,) = [value for name, value in model(**batch).items() if name.endswith("_embeds")]
    stored = pq.read_table(index / INDEX)
    vectors = np.stack(stored["vector"].to_numpy()) if len(stored) else np.zeros((0, vector.shape[1]))
    similarity = vectors @ vector[0].numpy()
    found_kinds = np.array(stored["kind"].to_pylist())
    ids, patients = stored["id"].to_pylist(), stored["patient_id"].to_pylist()
    matches = []
    for kind in kinds:
        places = np.flatnonzero(found_kinds == kind)
        best = places[np.argsort(-similarity[places], kind="stable")][:number]
        matches += [Match(kind, ids[place], patients[place], float(similarity[place])) for place in best]
    return matches


def _weights_of(model: MoreModel) -> str | None:
    """Return the id of the weights that were saved with a model."""
    return (model.config.weights_fingerprint or {}).get("id")


def _without_repeats(rows: Sequence[NoteRow]) -> list[NoteRow]:
    """Take files out of the rows in which they stand for the second time."""
    seen: set[str] = set()
    result = []
    for row in rows:
        kept = {name: path for name in ("xray", "ecg") if (path := getattr(row, name)) and path not in seen}
        seen |= set(kept.values())
        result.append(NoteRow(row.id, row.patient_id, row.split, kept.get("xray"), kept.get("ecg"), row.text))
    return [row for row in result if row.xray or row.ecg or row.text]


def _state(path: str | None) -> Any:
    """Return what tells whether a file was changed: path, size and time of change; None without a file."""
    return None if path is None else [path, *(file_state(Path(f"{path}{end}")) for end in ("", ".hea", ".dat", ".mat"))]


def encode_rows(rows: Sequence[NoteRow], model: MoreModel, processor: Any) -> dict[str, Any]:
    """Encode some rows: "vectors" of [kind, id, patient, numbers] and "refused" of [id, item, reason]."""
    batch, reports = processor(
        xray=[row.xray for row in rows],
        ecg=[row.ecg for row in rows],
        text=[row.text for row in rows],
        on_refusal="report",
        strictness="note",
        return_report=True,
        return_tensors="pt",
    )
    refused = [
        [row.id, entry["item"], entry["reason"]]
        for row, report in zip(rows, reports, strict=True)
        for entry in report["refused"]
    ]
    vectors: list[Any] = []
    if batch:
        with torch.no_grad():
            output = model(**batch)
        for kind in KINDS:
            embeds = output.get(f"{kind}_embeds", ())
            for row, vector in zip(rows, embeds, strict=False):
                if bool(vector.any()):  # zeros stand for a missing input
                    vectors.append([kind, row.id, row.patient_id, vector.tolist()])
    return {"vectors": vectors, "refused": refused}


def _finish(out: Path, settings: dict[str, Any], width: int) -> dict[str, Any]:
    """Join the parts to the index, and write its record."""
    parts = [read_json(path) for path in sorted((out / PARTS).glob("*.json"))]
    vectors = [entry for part in parts for entry in part["vectors"]]
    refused = [entry for part in parts for entry in part["refused"]]
    kinds, ids, patients, numbers = zip(*vectors, strict=True) if vectors else ((), (), (), ())
    table = pa.table(
        {
            "kind": pa.array(kinds, pa.string()),
            "id": pa.array(ids, pa.string()),
            "patient_id": pa.array(patients, pa.string()),
            "vector": pa.array(numbers, pa.list_(pa.float32(), width)),
        }
    )
    with whole_file(out / INDEX) as building:
        pq.write_table(table, building)
    with whole_file(out / REFUSED) as building, building.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "item", "reason"])
        writer.writerows(refused)
    record = {**settings, "vectors": {kind: kinds.count(kind) for kind in KINDS}, "refused": len(refused)}
    write_json(out / RECORD, record)
    return record
