"""Read the rows of a Parquet table, with limits, because a Parquet file of a few kilobytes can hold any number of rows.

A column of equal values costs almost no bytes in the file. So the size of the file says nothing about the memory.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tgmm_hf.utils.errors import TgmmError

FEW_ROWS = 100_000
"""Rows that are read from a file of any size. A larger table needs a byte of the file for each row, because each row
has an id of its own."""
MAX_BYTES = 512 << 20
"""Largest size of the decoded values. Texts count with their length, numbers with eight bytes."""
BATCH = 256
"""Rows that are decoded at a time."""


def read_parquet_rows(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Read a Parquet file: its column names, and each row as column -> value.

    Args:
        path: The file.

    Raises:
        TgmmError: If the file holds more than the limits of this module allow.
        ArrowException: If the file is not readable.
    """
    schema = pq.read_schema(path)
    texts = [field.name for field in schema if is_text(field.type)]
    # texts come as indices into a dictionary, so that their size is known before they are decoded
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        number = file.metadata.num_rows
        if number > max(FEW_ROWS, path.stat().st_size):
            raise TgmmError(
                path.name,
                f"{number:,} rows in {path.stat().st_size:,} bytes: the ids cannot differ. Write the table anew.",
            )
        rows: list[dict[str, Any]] = []
        size = 0
        for batch in file.iter_batches(batch_size=BATCH):
            size += sum(map(_decoded_bytes, batch.columns))
            if size > MAX_BYTES:
                raise TgmmError(
                    path.name,
                    f"its values take more than {MAX_BYTES >> 20:,} MiB. Split the table, or shorten its texts.",
                )
            rows += batch.to_pylist()
        return list(schema.names), rows


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column holds texts or bytes."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind))


def _decoded_bytes(column: pa.Array) -> int:
    """Compute the size of a column of one batch after decoding."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)
