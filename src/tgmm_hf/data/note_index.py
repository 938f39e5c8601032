"""An index of X-rays, ECGs and notes in the space of a MoRE model, and the search in it.

`make_index` writes a directory: index.parquet (one row for each vector), refused.csv, index.json. It holds ids of
patients, paths and notes, so it is patient data. The search compares a query with all vectors. With more than
`APPROXIMATE_ABOVE` vectors and the extra `search` it looks into graphs, which `make_index` writes too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tgmm_hf.data.file_reading import file_state
from tgmm_hf.data.nearest import APPROXIMATE_ABOVE, can_make_graphs, make_graph, nearest_in_graph, nearest_of_all
from tgmm_hf.data.note_tables import NoteRow, read_note_table
from tgmm_hf.data.saved_models import damaged_files_in_one_line, load_whole_model
from tgmm_hf.families.more.modeling_more import MoreModel
from tgmm_hf.families.more.processing_more import MoreProcessor
from tgmm_hf.inputs.processor_fingerprint import processor_fingerprint
from tgmm_hf.utils.csv_files import write_csv_file
from tgmm_hf.utils.digests import json_digest
from tgmm_hf.utils.errors import TgmmError
from tgmm_hf.utils.files import claim_directory, read_json, whole_file, write_json
from tgmm_hf.utils.output_lock import one_run_at_a_time

INDEX, REFUSED, RECORD, SETTINGS, PARTS = "index.parquet", "refused.csv", "index.json", "settings.json", "parts"
GRAPH = "graph-{}.usearch"
"""Name of the file of the graph of a kind."""
FORMAT = 2
"""Version of the columns of index.parquet."""
ROW = ["id", "patient_id", "file", "state", "note"]
"""Columns of index.parquet beside kind and vector."""
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
        file: Path of the X-ray or of the recording; None for a note.
        state: Digest of path, size and time of change of the file.
        note: The note of the row, as the model read it; "" without one.
    """

    kind: str
    id: str
    patient_id: str
    similarity: float
    file: str | None = None
    state: str | None = None
    note: str = ""


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


def names_findings(model: str) -> bool:
    """Tell whether a saved MoRE model names findings, by the class that its configuration names."""
    from transformers import PreTrainedConfig

    with damaged_files_in_one_line(model):
        saved, _ = PreTrainedConfig.get_config_dict(model)
    return "MoreForClassification" in (saved.get("architectures") or ())


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
        "format": FORMAT,
        "weights": _weights_of(network),
        "processor": json_digest(processor_fingerprint(processor)),
        "rows": json_digest([[row.id, row.patient_id, row.text, _state(row.xray), _state(row.ecg)] for row in rows]),
    }
    claim_directory(out, [INDEX, REFUSED, RECORD, SETTINGS, f"{PARTS}/", *map(GRAPH.format, KINDS)])
    if (out / SETTINGS).is_file() and (before := read_json(out / SETTINGS)) != settings:
        changed = ", ".join(name for name in settings if before.get(name) != settings[name])
        raise TgmmError(str(out), f"it holds another index (changed: {changed}). Name another directory.")
    write_json(out / SETTINGS, settings)
    for start in tqdm(range(0, len(rows), PART), desc="index", unit="part", disable=None):
        path = out / PARTS / f"{start // PART:06d}.json"
        if not path.is_file():
            write_json(path, encode_rows(rows[start : start + PART], network, processor))
    return _finish(out, settings, network.config.projection_dim)


@dataclass(frozen=True)
class NoteIndex:
    """An index that was read.

    Attributes:
        kinds: Kind of each vector, (n,).
        rows: Columns id, patient_id, file, state and note.
        vectors: (n, p) of length one; None if all kinds have a graph.
        graphs: Kind -> file of its graph.
    """

    kinds: NDArray
    rows: pa.Table
    vectors: NDArray | None
    graphs: Mapping[str, Path]

    def nearest(self, vector: NDArray, kinds: Sequence[str], number: int) -> list[Match]:
        """Find the vectors that are nearest to a vector (p,) of length one: `number` of each kind, nearest first."""
        matches = []
        for kind in kinds:
            if kind in self.graphs:
                places, similarity = nearest_in_graph(self.graphs[kind], vector, number)
            else:
                of_kind = np.flatnonzero(self.kinds == kind)
                if self.vectors is None or not len(of_kind):  # all kinds with vectors have graphs
                    continue
                rows, similarity = nearest_of_all(self.vectors[of_kind], vector, number)
                places = of_kind[rows]
            rows_found = self.rows.take(places).to_pylist()
            matches += [
                Match(kind, similarity=float(cosine), **row) for row, cosine in zip(rows_found, similarity, strict=True)
            ]
        return matches


def read_index(index: str | Path, model: MoreModel) -> NoteIndex:
    """Read an index.

    Args:
        index: Directory of `make_index`.
        model: The model that made it.

    Raises:
        TgmmError: If the index is of another model or of an earlier version, or not finished.
    """
    index = Path(index)
    if not (index / RECORD).is_file() or not (index / INDEX).is_file():
        raise TgmmError(str(index), "holds no finished index. `tgmm index` writes one.")
    record = read_json(index / RECORD)
    if record.get("weights") != _weights_of(model):
        raise TgmmError(str(index), "was made with other weights than this model has. Make the index again.")
    if record.get("format") != FORMAT:
        raise TgmmError(str(index), "was made by an earlier version. Make the index again, in another directory.")
    graphs = {kind: index / name for kind, name in record["graphs"].items()} if can_make_graphs() else {}
    is_in_graphs = bool(graphs) and all(kind in graphs for kind in KINDS if record["vectors"][kind])
    stored = pq.read_table(index / INDEX, columns=["kind", *ROW] + ([] if is_in_graphs else ["vector"]))
    vectors = None
    if not is_in_graphs:
        width = model.config.projection_dim
        vectors = np.stack(stored["vector"].to_numpy()) if len(stored) else np.zeros((0, width), np.float32)
    return NoteIndex(np.array(stored["kind"].to_pylist()), stored.select(ROW), vectors, graphs)


def search(
    model: MoreModel,
    processor: Any,
    index: str | Path | NoteIndex,
    query: Mapping[str, Any],
    kinds: Sequence[str],
    number: int,
) -> list[Match]:
    """Find the vectors of an index that are nearest to a query.

    Args:
        model: The model that made the index.
        processor: Its processor.
        index: Directory of `make_index`, or what `read_index` returned.
        query: One of "xray", "ecg" and "text" -> what `MoreProcessor` takes.
        kinds: Kinds of vectors to find.
        number: Largest number of results of each kind.

    Returns:
        The results, kind after kind, nearest first.

    Raises:
        InputRefusedError: If the query cannot be used.
        TgmmError: If the index is of another model, or damaged.
    """
    read = index if isinstance(index, NoteIndex) else read_index(index, model)
    return read.nearest(encode_query(model, processor(**query, return_tensors="pt")), kinds, number)


def encode_query(model: MoreModel, batch: Mapping[str, Any]) -> NDArray:
    """Encode the only input of a batch of one: the vector (p,) of length one."""
    with torch.no_grad():
        (vector,) = [value for name, value in model(**batch).items() if name.endswith("_embeds")]
    return vector[0].cpu().numpy()


def is_unchanged(match: Match) -> bool:
    """Tell whether the file of a result is there and is the one that was encoded. False for a note, which has none."""
    return match.file is not None and json_digest(_state(match.file)) == match.state


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
    """Encode some rows.

    Returns:
        "vectors" of [kind, id, patient, file, state, note, numbers] and "refused" of [id, item, reason].
    """
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
                    file = None if kind == "text" else getattr(row, kind)
                    state = None if file is None else json_digest(_state(file))
                    cells = [row.id, row.patient_id, file, state, processor.note(row.text)]
                    vectors.append([kind, *cells, vector.tolist()])
    return {"vectors": vectors, "refused": refused}


def _finish(out: Path, settings: dict[str, Any], width: int) -> dict[str, Any]:
    """Join the parts to the index, and write its record."""
    parts = [read_json(path) for path in sorted((out / PARTS).glob("*.json"))]
    vectors = [entry for part in parts for entry in part["vectors"]]
    refused = [entry for part in parts for entry in part["refused"]]
    columns = list(zip(*vectors, strict=True)) if vectors else [()] * (len(ROW) + 2)
    kinds = columns[0]
    table = pa.table(
        {
            "kind": pa.array(kinds, pa.string()),
            **{name: pa.array(column, pa.string()) for name, column in zip(ROW, columns[1:-1], strict=True)},
            "vector": pa.array(columns[-1], pa.list_(pa.float32(), width)),
        }
    )
    with whole_file(out / INDEX) as building:
        pq.write_table(table, building)
    names = ["id", "item", "reason"]
    write_csv_file(out / REFUSED, names, (dict(zip(names, cells, strict=True)) for cells in refused))
    record = {**settings, "vectors": {kind: kinds.count(kind) for kind in KINDS}, "refused": len(refused)}
    record["graphs"] = _make_graphs(out, np.array(kinds), table["vector"]) if len(kinds) > APPROXIMATE_ABOVE else {}
    write_json(out / RECORD, record)
    return record


def _make_graphs(out: Path, kinds: NDArray, vectors: Any) -> dict[str, str]:
    """Write the graph of each kind: kind -> name of its file; {} without the package for graphs."""
    graphs: dict[str, str] = {}
    if not can_make_graphs():
        return graphs
    stacked = np.stack(vectors.to_numpy())
    for kind in KINDS:
        places = np.flatnonzero(kinds == kind)
        if len(places):
            graphs[kind] = GRAPH.format(kind)
            make_graph(stacked[places], places, out / graphs[kind])
    return graphs
