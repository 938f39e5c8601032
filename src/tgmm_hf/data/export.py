"""`tgmm export-parquet`: a prepared data set as Parquet files, the form in which data sets are published and streamed.

OUT/train-00000-of-00003.parquet, ...   one a shard; `load_dataset("parquet", data_files=..., streaming=True)`
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from tgmm_hf.data.manifest import SPLITS
from tgmm_hf.data.shards import put, read_json, remove_temporary_files, temporary_path

CONTENT = b"tgmm_content"  # key of the file's metadata: hash of the shard's rows


def export_parquet(data: str | Path, out_dir: str | Path) -> list[Path]:
    """Write every shard of a prepared data set as a Parquet file; a stopped run goes on where it was.

    Args:
        data: directory that `prepare` finished.
        out_dir: directory to write. It may hold nothing but this export.

    Raises:
        FileNotFoundError: if `prepare` has not finished in `data`.
        FileExistsError: if `out_dir` holds Parquet files that this export does not write.
    """
    data, out = Path(data), Path(out_dir)
    if read_json(data / "prepare.json") is None:
        raise FileNotFoundError(f"{data} has no prepare.json: run `tgmm prepare` (again, if it was interrupted).")
    targets: dict[Path, Path] = {}
    for split in SPLITS:
        shards = sorted((data / split).glob("*.arrow"))
        names = [f"{split}-{index:05d}-of-{len(shards):05d}.parquet" for index in range(len(shards))]
        targets |= {out / name: shard for name, shard in zip(names, shards, strict=True)}
    if others := sorted(path.name for path in out.glob("*.parquet") if path not in targets):
        raise FileExistsError(f"{out} holds files of another export ({others[0]}, ...): choose another directory.")
    out.mkdir(parents=True, exist_ok=True)
    for target, shard in tqdm(targets.items(), unit="file", desc="export", file=sys.stderr):
        content = json.loads(shard.with_suffix(".json").read_text())["content"].encode()
        if not (target.is_file() and (pq.read_schema(target).metadata or {}).get(CONTENT) == content):
            _convert(shard, target, content)
    remove_temporary_files(out, 0)
    return list(targets)


def _convert(shard: Path, target: Path, content: bytes) -> None:
    """Batch by batch, so that no more than one is in memory."""
    temporary = temporary_path(target)
    with pa.memory_map(str(shard)) as source, pa.ipc.open_stream(source) as batches:
        schema = batches.schema.with_metadata({**batches.schema.metadata, CONTENT: content})
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    put(temporary, target)
