"""The parts of the record path, each over one batch of about a mebibyte of 100-byte records.

`pytest benchmarks/test_records.py --benchmark-only --benchmark-columns=median,iqr,rounds` prints times a batch;
the JSON (`--benchmark-json`) has `records_per_second` and `gb_per_s` too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fastlog.native import _engine
from fastlog.native._records import BatchBuilder, RecordBatch, partition_for_key

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDS = 9000
NOW_MS = 1_700_000_000_000
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
# JSON-like records: what compresses as real events do
VALUES = [
    json.dumps(
        {"carrier": "UA", "flight": at % 7919, "origin": "EWR", "delay": at % 61, "tail": f"N{at:06d}"}
    )
    .encode()
    .ljust(100)[:100]
    for at in range(RECORDS)
]


def build() -> BatchBuilder:
    builder = BatchBuilder(1 << 21)
    append = builder.append
    for value in VALUES:
        append(value, timestamp_ms=NOW_MS)
    return builder


def build_with_keys() -> BatchBuilder:
    builder = BatchBuilder(1 << 21)
    append = builder.append
    for value in VALUES:
        append(value, key=b"12345678", timestamp_ms=NOW_MS)
    return builder


def build_with_headers() -> BatchBuilder:
    builder = BatchBuilder(1 << 21)
    append = builder.append
    for value in VALUES:
        append(value, headers=(("trace", b"12345678"),), timestamp_ms=NOW_MS)
    return builder


def measure(benchmark: Any, work: Callable[[], object], size: int | None = None) -> None:
    benchmark(work)
    if benchmark.stats is None:
        return
    median = benchmark.stats.stats.median
    benchmark.extra_info["records_per_second"] = round(RECORDS / median)
    if size is not None:
        benchmark.extra_info["gb_per_s"] = size / median / 1e9


@pytest.mark.parametrize("make", [build, build_with_keys])
def test_append(benchmark: Any, make: Callable[[], BatchBuilder]) -> None:
    measure(benchmark, make)


@pytest.mark.parametrize("codec", CODECS)
def test_seal(benchmark: Any, codec: str) -> None:
    builder = build()
    measure(benchmark, lambda: _engine.seal_batch(builder, compression=CODECS[codec]), builder.size_bytes)


def validate(benchmark: Any, builder: BatchBuilder, codec: str) -> None:
    batch = bytes(_engine.seal_batch(builder, compression=CODECS[codec]))
    measure(
        benchmark,
        lambda: _engine.validate_batch(batch, now_ms=NOW_MS, max_batch_bytes=1 << 21),
        builder.size_bytes,
    )


@pytest.mark.parametrize("codec", CODECS)
def test_validate(benchmark: Any, codec: str) -> None:
    validate(benchmark, build(), codec)


@pytest.mark.parametrize("make", [build_with_keys, build_with_headers])
def test_validate_records_with(benchmark: Any, make: Callable[[], BatchBuilder]) -> None:
    validate(benchmark, make(), "none")


@pytest.mark.parametrize("codec", CODECS)
def test_open(benchmark: Any, codec: str) -> None:
    builder = build()
    batch = bytes(_engine.seal_batch(builder, compression=CODECS[codec]))
    measure(benchmark, lambda: _engine.open_batch(batch), builder.size_bytes)


def iterate(batch: RecordBatch) -> None:
    for _ in batch:
        pass


def iterate_values(batch: RecordBatch) -> None:
    for record in batch:
        _ = record.value


def take_all(batch: RecordBatch) -> object:
    return iter(batch).take(RECORDS)


@pytest.mark.parametrize("read", [iterate, iterate_values, take_all], ids=lambda it: it.__name__)
def test_read(benchmark: Any, read: Callable[[RecordBatch], object]) -> None:
    batch = RecordBatch(_engine.seal_batch(build()), "topic", 0)
    measure(benchmark, lambda: read(batch))


@pytest.mark.parametrize("column", ["values", "keys", "offsets", "timestamps_ms", "headers"])
def test_column(benchmark: Any, column: str) -> None:
    builder = build_with_keys() if column == "keys" else build_with_headers()
    batch = RecordBatch(_engine.seal_batch(builder), "topic", 0)
    measure(benchmark, getattr(batch, column))


def test_crc32c(benchmark: Any) -> None:
    bytes_ = bytes(1 << 20)
    measure(benchmark, lambda: _engine.crc32c(bytes_), len(bytes_))


def test_partition_for_key(benchmark: Any) -> None:
    keys = [b"%016d" % at for at in range(RECORDS)]
    measure(benchmark, lambda: [partition_for_key(key, 7) for key in keys])
