"""What is sent."""

from __future__ import annotations

import pytest

from fastlog.bench.harness.workload import batch_of, values_of
from fastlog.errors import ConfigError
from fastlog.native._engine import open_batch, validate_batch
from fastlog.native._records import RecordBatch


@pytest.mark.parametrize("size", [8, 100, 1000])
def test_values_have_the_size_and_differ(size: int) -> None:
    values = values_of(size, 1000)
    assert {len(value) for value in values} == {size}
    assert len(set(values)) == 1000 or size < 50


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_a_batch_is_filled_and_a_broker_would_take_it(compression: str) -> None:
    batch = batch_of(100, 65_536, compression)
    opened = RecordBatch(open_batch(batch.data))
    assert 65_536 - 120 < opened.size_bytes <= 65_536
    assert len(opened) == batch.records
    assert {len(value or b"") for value in opened.values()} == {100}
    validate_batch(batch.data, now_ms=opened.max_timestamp_ms)
    assert (len(batch.data) < opened.size_bytes) == (compression != "none")


def test_a_batch_may_have_so_many_records_and_no_fewer_than_one() -> None:
    assert batch_of(100, 1 << 20, records=1).records == 1
    with pytest.raises(ConfigError, match="larger --batch-bytes"):
        batch_of(2000, 1024)
