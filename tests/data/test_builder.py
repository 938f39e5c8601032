"""The `datasets` builder gives the rows that `prepare` writes."""

import pyarrow.parquet as pq
import pytest

from tgmm_hf.data.builder import TgmmCohort
from tgmm_hf.data.prepare import load_prepared


def test_builder_streams_and_writes_parquet(prepared, cohort, processor, tmp_path):
    builder = TgmmCohort(manifest=cohort / "cohort.csv", processor=processor, cache_dir=str(tmp_path / "cache"))
    stored = load_prepared(prepared[0])["train"].with_format(None)
    streamed = list(builder.as_streaming_dataset(split="train"))
    assert [row["id"] for row in streamed] == stored["id"]
    assert [row["labs"] for row in streamed] == stored["labs"]
    builder.download_and_prepare(str(tmp_path / "parquet"), file_format="parquet")
    table = pq.read_table(next((tmp_path / "parquet").glob("*train*.parquet")))
    assert table.column("id").to_pylist() == stored["id"]
    assert table.column("clips").to_pylist() == stored["clips"]
    with pytest.raises(ValueError, match="manifest="):
        TgmmCohort(cache_dir=str(tmp_path / "cache"))
