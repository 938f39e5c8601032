"""`tgmm export-parquet`: a prepared data set as Parquet files, the form in which data sets are published and streamed.

OUT/train-00000-of-00003.parquet, ...   one file per shard; `load_dataset("parquet", data_files=..., streaming=True)`
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from tgmm_hf.data.manifest import SPLITS
from tgmm_hf.data.shards import read_state, remove_temporary_files, write_shared
from tgmm_hf.utils.files import read_json
from tgmm_hf.utils.output_lock import check_room, one_run_at_a_time

CONTENT = b"tgmm_content"
"""Key in the metadata of a file: digest of the rows of its shard."""


@one_run_at_a_time("out_dir")
def export_parquet(data: str | Path, out_dir: str | Path) -> list[Path]:
    """Write every shard of a prepared data set as a Parquet file. A call after a stop writes the missing files only.

    Args:
        data: Directory that `prepare` finished.
        out_dir: Directory to write. It may hold no Parquet files but those of this export.

    Returns:
        The files, in the order of the shards.

    Raises:
        FileNotFoundError: If `prepare` has not finished in `data`.
        FileExistsError: If `out_dir` holds Parquet files that this export does not write.
    """
    data, out = Path(data), Path(out_dir)
    if read_state(data / "prepare.json") is None:
        raise FileNotFoundError(f"{data} has no prepare.json: run `tgmm prepare` (again, if it was interrupted).")
    targets: dict[Path, Path] = {}
    for split in SPLITS:
        shards = sorted((data / split).glob("*.arrow"))
        names = [f"{split}-{index:05d}-of-{len(shards):05d}.parquet" for index in range(len(shards))]
        targets |= {out / name: shard for name, shard in zip(names, shards, strict=True)}
    if foreign := sorted(path.name for path in out.glob("*.parquet") if path not in targets):
        raise FileExistsError(f"{out} holds files of another export ({foreign[0]}, ...): choose another directory.")
    check_room(out, sum(shard.stat().st_size for target, shard in targets.items() if not target.is_file()))
    out.mkdir(parents=True, exist_ok=True)
    for target, shard in tqdm(targets.items(), unit="file", desc="export", file=sys.stderr):
        content = str(read_json(shard.with_suffix(".json"))["content"]).encode()
        if not (target.is_file() and (pq.read_schema(target).metadata or {}).get(CONTENT) == content):
            _convert(shard, target, content)
    remove_temporary_files(out, 0)
    return list(targets)


def _convert(shard: Path, target: Path, content: bytes) -> None:
    """Write `shard`, an Arrow file, as the Parquet file `target`. Only one batch of rows is in memory at a time.

    `content`, the digest of the rows, goes into the metadata of the file.
    """

    def write(building: Path) -> None:
        with pa.memory_map(str(shard)) as source, pa.ipc.open_stream(source) as batches:
            schema = batches.schema.with_metadata({**batches.schema.metadata, CONTENT: content})
            with pq.ParquetWriter(building, schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch.replace_schema_metadata(schema.metadata))

    write_shared(target, write)
