"""Batches of any records, and any bytes as batches; aiokafka, kafka-python and cramjam are the judges."""

from __future__ import annotations

import contextlib

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder as AioBuilder
from aiokafka.record.memory_records import MemoryRecords as AioRecords
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecords as PythonRecords
from kafka.record.memory_records import MemoryRecordsBuilder as PythonBuilder

from fastlog.errors import FastlogError
from fastlog.native import _engine
from fastlog.native._records import RecordBatch, read_batches
from tests.support.batches import CODECS, Row, build, refit, seal

data = st.one_of(st.none(), st.binary(max_size=200), st.integers(0, 3000).map(lambda size: b"abcd" * size))
headers = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=20)), max_size=3).map(tuple)
rows = st.lists(st.tuples(st.integers(0, 1 << 62), data, data, headers), min_size=1, max_size=30)
codecs = st.sampled_from(sorted(CODECS.values()))


def read(batch: bytes) -> list[Row]:
    opened = RecordBatch(_engine.open_batch(batch))
    assert opened.offsets() == list(range(len(opened)))
    columns = [opened.timestamps_ms(), opened.keys(), opened.values(), opened.headers()]
    assert list(zip(*columns, strict=True)) == [
        (record.timestamp_ms, record.key, record.value, record.headers) for record in opened
    ]
    return [(record.timestamp_ms, record.key, record.value, record.headers) for record in opened]


def read_theirs(batch: object) -> list[Row]:
    return [
        (record.timestamp, record.key, record.value, tuple((name, value) for name, value in record.headers))
        for record in batch  # type: ignore[attr-defined]
    ]


@given(rows, codecs)
def test_any_records_come_back(expected: list[Row], compression: int) -> None:
    builder = build(expected)
    batch = _engine.seal_batch(builder, compression=compression)
    assert compression or len(batch) == builder.size_bytes
    assert read(bytes(batch)) == expected
    assert _engine.validate_batch(batch, now_ms=1 << 62, max_batch_bytes=1 << 30) == max(
        row[0] for row in expected
    )


@given(rows, codecs)
def test_aiokafka_reads_what_we_write(expected: list[Row], compression: int) -> None:
    batch = AioRecords(seal(expected, compression)).next_batch()
    assert batch is not None
    assert batch.validate_crc()
    assert read_theirs(batch) == expected


@given(rows, codecs)
def test_we_read_what_aiokafka_writes(expected: list[Row], compression: int) -> None:
    builder = AioBuilder(2, compression, 0, -1, -1, 0, 1 << 30)
    for offset, (timestamp, key, value, pairs) in enumerate(expected):
        assert builder.append(offset, timestamp, key, value, list(pairs))
    batch = bytes(builder.build())
    assert read(batch) == expected


@given(rows, codecs)
def test_kafka_python_reads_what_we_write(expected: list[Row], compression: int) -> None:
    batch = PythonRecords(seal(expected, compression)).next_batch()
    assert batch.validate_crc()
    assert read_theirs(batch) == expected


@given(rows, codecs)
def test_we_read_and_accept_what_kafka_python_writes(expected: list[Row], compression: int) -> None:
    builder = PythonBuilder(2, compression, 1 << 30)
    for timestamp, key, value, pairs in expected:
        assert builder.append(timestamp, key, value, list(pairs))
    builder.close()
    batch = bytes(builder.buffer())
    assert read(batch) == expected
    _engine.validate_batch(batch, now_ms=1 << 62, max_batch_bytes=1 << 30)


@pytest.mark.parametrize(
    ("compression", "codec"),
    [(1, cramjam.gzip), (3, cramjam.lz4), (4, cramjam.zstd)],
    ids=["gzip", "lz4", "zstd"],
)
@given(st.integers(0, 1 << 19), st.binary(max_size=3000))
def test_cramjam_and_we_read_each_other(compression: int, codec: object, zeros: int, tail: bytes) -> None:
    expected = bytes(zeros) + tail
    ours = _engine.compress(expected, compression)
    assert bytes(codec.decompress(ours)) == expected  # type: ignore[attr-defined]
    theirs = bytes(codec.compress(expected))  # type: ignore[attr-defined]
    assert _engine.decompress(theirs, compression) == expected


@given(st.binary(max_size=200_000))
def test_raw_snappy_of_librdkafka_is_read(expected: bytes) -> None:
    raw = bytes(cramjam.snappy.compress_raw(expected))
    assert _engine.decompress(raw, 2) == expected


@given(rows, codecs, st.data())
def test_changed_bytes_give_an_error_or_records(
    source: list[Row], compression: int, choose: st.DataObject
) -> None:
    """With a CRC that fits again, so that what lies behind it is met."""
    batch = bytearray(seal(source, compression))
    for _ in range(choose.draw(st.integers(1, 4))):
        at = choose.draw(st.integers(21, len(batch) - 1))
        batch[at] = choose.draw(st.integers(0, 255))
    changed = refit(batch)
    with contextlib.suppress(FastlogError):
        for one in read_batches(_engine.open_batches(changed)):
            columns = one.values(), one.keys(), one.offsets(), one.timestamps_ms()
            assert all(len(column) == len(one) for column in columns)
            assert len([(record.value, record.headers) for record in one]) == len(one)


@given(st.binary(max_size=300))
def test_noise_gives_an_error_or_nothing(noise: bytes) -> None:
    for compression in CODECS.values():
        with contextlib.suppress(FastlogError):
            _engine.decompress(noise, compression)
    with contextlib.suppress(FastlogError):
        assert read_batches(_engine.open_batches(noise)) == []
    with pytest.raises(FastlogError):
        RecordBatch(noise)
