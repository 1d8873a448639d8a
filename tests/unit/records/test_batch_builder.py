"""The producer's batches: what fits, what is refused, what the bytes are."""

from __future__ import annotations

import struct

import pytest

from fastlog.native import _engine
from fastlog.native._records import BatchBuilder, RecordBatch
from tests.support.batches import CODECS, NOW_MS, build, seal


def test_a_batch_is_bytes_as_kafka_has_them() -> None:
    builder = BatchBuilder(1000)
    builder.append(b"value", key=b"k", headers=[("h", b"v")], timestamp_ms=NOW_MS)
    builder.append(None, timestamp_ms=NOW_MS - 1)
    batch = bytes(_engine.seal_batch(builder, producer_id=7, producer_epoch=2, base_sequence=9))
    fields = struct.unpack(">qiibIhiqqqhii", batch[:61])
    assert fields[:4] == (0, len(batch) - 12, -1, 2)
    assert fields[4] == _engine.crc32c(batch[21:])
    assert fields[5:] == (0, 1, NOW_MS, NOW_MS, 7, 2, 9, 2)
    # length, attributes, time, offset, key, value, headers; zigzag: 1 is -1, 2 is 1
    assert batch[61:] == (
        bytes([32, 0, 0, 0, 2]) + b"k" + bytes([10]) + b"value" + bytes([2, 2]) + b"h" + bytes([2]) + b"v"
    ) + bytes([12, 0, 1, 2, 1, 1, 0])


def test_the_limit_is_exact() -> None:
    one = build([(NOW_MS, b"key", b"x" * 100, (("h", None),))]).size_bytes
    for spare, fits in ((0, True), (-1, False)):
        builder = BatchBuilder(one + (one - 61) + spare)
        assert builder.append(b"x" * 100, key=b"key", headers=[("h", None)], timestamp_ms=NOW_MS)
        before = builder.size_bytes
        assert builder.append(b"x" * 100, key=b"key", headers=[("h", None)], timestamp_ms=NOW_MS) is fits
        assert builder.count == 1 + fits
        assert builder.size_bytes <= builder.limit_bytes
        assert fits or builder.size_bytes == before
        assert len(_engine.seal_batch(builder)) == builder.size_bytes


def test_a_limit_is_raised_while_the_batch_takes_records() -> None:
    builder = BatchBuilder(200)
    values = [bytes([number]) * 50 for number in range(40)]
    for value in values:
        if not builder.append(value):
            builder.grow(2 * builder.limit_bytes)
            assert builder.append(value)
    assert builder.limit_bytes == 3200
    with pytest.raises(ValueError, match="present 3200"):
        builder.grow(3199)
    batch = _engine.seal_batch(builder)
    assert RecordBatch(batch).values() == values
    with pytest.raises(BufferError):
        builder.grow(5000)


@pytest.mark.parametrize("count", [1, 30, 1000])
def test_sealing_keeps_the_bytes_where_memory_is_given_back(count: int) -> None:
    builder = BatchBuilder(1_000_000)
    for number in range(count):
        assert builder.append(b"%d" % number)
    assert RecordBatch(_engine.seal_batch(builder)).values() == [b"%d" % number for number in range(count)]


def test_a_first_record_beyond_the_limit_is_taken_alone() -> None:
    builder = BatchBuilder(100)
    assert builder.append(b"x" * 5000)
    assert not builder.append(b"y")
    assert builder.count == 1
    assert builder.size_bytes > 5000


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_is_a_key_or_value(make: type) -> None:
    builder = BatchBuilder(1000)
    builder.append(make(b"value"), key=make(b"key"), headers=[("h", make(b"v"))])
    record = next(iter(RecordBatch(_engine.seal_batch(builder))))
    assert (record.key, record.value, record.headers) == (b"key", b"value", (("h", b"v"),))


@pytest.mark.parametrize("argument", ["value", "key"])
def test_text_is_refused_with_advice(argument: str) -> None:
    builder = BatchBuilder(1000)
    with pytest.raises(TypeError, match=f"{argument} is bytes.*not str: encode it"):
        builder.append(**{"value": b"", argument: "text"})
    with pytest.raises(TypeError, match="not int"):
        builder.append(**{"value": b"", argument: 5})
    assert (builder.count, builder.size_bytes) == (0, 61)


@pytest.mark.parametrize("headers", [["h"], [("h",)], [(b"h", b"v")], [("h", "v")], [["h", b"v"]], 5])
def test_headers_of_another_shape_are_refused(headers: object) -> None:
    builder = BatchBuilder(1000)
    with pytest.raises(TypeError):
        builder.append(b"value", headers=headers)  # type: ignore[arg-type]
    assert builder.count == 0


def test_impossible_limits_and_times_are_refused() -> None:
    for limit in (61, 0, -1, 1 << 31):
        with pytest.raises(ValueError, match="limit_bytes"):
            BatchBuilder(limit)
    with pytest.raises(ValueError, match="timestamp_ms"):
        BatchBuilder(100).append(b"", timestamp_ms=-2)


def test_nothing_is_appended_while_the_bytes_are_read() -> None:
    builder = build([(NOW_MS, None, b"value", ())])
    view = memoryview(builder)
    assert view.readonly
    with pytest.raises(BufferError):
        builder.append(b"more")
    view.release()
    assert builder.append(b"more")


def test_a_builder_is_no_value_of_its_own() -> None:
    builder = build([(NOW_MS, None, b"value", ())])
    with pytest.raises(BufferError):
        builder.append(builder)  # type: ignore[arg-type]
    assert builder.count == 1


def test_headers_that_append_meanwhile_do_no_harm() -> None:
    builder = BatchBuilder(1000)

    def meddle() -> object:
        yield "a", b"1"
        builder.append(b"inner")
        yield "b", b"2"

    builder.append(b"outer", headers=meddle())  # type: ignore[arg-type]
    assert RecordBatch(_engine.seal_batch(builder)).values() == [b"inner", b"outer"]


def test_a_sealed_batch_changes_no_more() -> None:
    builder = build([(NOW_MS, None, b"value", ())])
    batch = _engine.seal_batch(builder)
    assert isinstance(batch, memoryview)
    assert builder.is_sealed
    with pytest.raises(BufferError):
        builder.append(b"more")
    copy = bytes(batch)
    batch.release()
    with pytest.raises(BufferError, match="sealed"):
        builder.append(b"more")
    assert bytes(memoryview(builder)) == copy


def test_sealing_without_compression_moves_nothing() -> None:
    builder = build([(NOW_MS, None, b"x" * 1000, ())])
    before = memoryview(builder)
    with pytest.raises(BufferError):
        _engine.seal_batch(builder)
    before.release()
    assert _engine.seal_batch(builder).obj is builder  # type: ignore[union-attr]


@pytest.mark.parametrize("compression", CODECS.values(), ids=CODECS.keys())
def test_a_broker_accepts_what_is_sealed(compression: int) -> None:
    rows = [(NOW_MS + at, b"key", b"value " * 20, ()) for at in range(100)]
    batch = _engine.seal_batch(
        build(rows), compression=compression, producer_id=5, producer_epoch=0, base_sequence=0
    )
    assert _engine.validate_batch(batch, now_ms=NOW_MS) == NOW_MS + 99
    assert [record.value for record in RecordBatch(_engine.open_batch(batch))] == [b"value " * 20] * 100


def test_nothing_and_unknown_codecs_are_not_sealed() -> None:
    with pytest.raises(ValueError, match="empty"):
        _engine.seal_batch(BatchBuilder(100))
    with pytest.raises(ValueError, match="no codec"):
        _engine.seal_batch(build([(NOW_MS, None, b"", ())]), compression=5)


@pytest.mark.parametrize("compression", CODECS.values(), ids=CODECS.keys())
def test_a_batch_is_sent_again_under_a_new_epoch(compression: int) -> None:
    first = seal([(NOW_MS, b"k", b"v", ())] * 10, compression)
    second = _engine.restamp_batch(first, producer_id=1, producer_epoch=3, base_sequence=20)
    _engine.validate_batch(second, now_ms=NOW_MS)
    batch = RecordBatch(_engine.open_batch(second))
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (1, 3, 20)
    assert batch.values() == [b"v"] * 10
