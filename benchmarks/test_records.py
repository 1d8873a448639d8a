"""Records into batches and back: the per-record work of producers and consumers, 100-byte values."""

from __future__ import annotations

from typing import Any

import pytest

from fastlog.native._engine import crc32c, open_batch, seal_batch
from fastlog.native._records import BatchBuilder, RecordBatch, partition_for_key

RECORDS = 5_000
VALUES = [
    b'{"id": %08d, "name": "some text that looks like data", "n": [1, 2, 3]}' % i + b"." * 30
    for i in range(RECORDS)
]
NOW_MS = 1_760_000_000_000


def build() -> BatchBuilder:
    """A full builder."""
    builder = BatchBuilder(1 << 20)
    for value in VALUES:
        builder.append(value, None, None, NOW_MS)
    return builder


def note_rate(benchmark: Any, records: int = RECORDS) -> None:
    """Adds records a second to what is printed and kept."""
    stats = getattr(benchmark, "stats", None)
    if stats is not None:
        benchmark.extra_info["records_per_second"] = round(records / stats.stats.median)


def test_append(benchmark: Any) -> None:
    assert benchmark(build).count == RECORDS
    note_rate(benchmark)


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4], ids=["none", "gzip", "snappy", "lz4", "zstd"])
def test_seal(benchmark: Any, compression: int) -> None:
    sealed = benchmark.pedantic(
        seal_batch, setup=lambda: ((build(),), {"compression": compression}), rounds=20
    )
    assert len(sealed) > 0
    note_rate(benchmark)


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4], ids=["none", "gzip", "snappy", "lz4", "zstd"])
def test_open(benchmark: Any, compression: int) -> None:
    sealed = bytes(seal_batch(build(), compression=compression))
    assert len(benchmark(open_batch, sealed)) >= len(sealed)
    note_rate(benchmark)


def test_iterate(benchmark: Any) -> None:
    opened = open_batch(bytes(seal_batch(build())))

    def read() -> int:
        return sum(1 for record in RecordBatch(opened, "t", 0) if record.value)

    assert benchmark(read) == RECORDS
    note_rate(benchmark)


def test_value_column(benchmark: Any) -> None:
    opened = open_batch(bytes(seal_batch(build())))
    assert len(benchmark(lambda: RecordBatch(opened, "t", 0).values())) == RECORDS
    note_rate(benchmark)


def test_crc32c_of_64_kib(benchmark: Any) -> None:
    data = bytes(64 << 10)
    benchmark(crc32c, data)


def test_partition_for_key(benchmark: Any) -> None:
    assert 0 <= benchmark(partition_for_key, b"some-key-of-20-bytes", 12) < 12
