"""The consumer's batches: lazy records, columns, skipping, and bytes that are no batch."""

from __future__ import annotations

import copy
import gc
import pickle
import struct
from collections.abc import Callable

import pytest

from fastlog.errors import CorruptMessageError, InvalidRecordError, MessageTooLargeError
from fastlog.native import _engine
from fastlog.native._records import Record, RecordBatch, read_batches
from tests.support.batches import CODECS, NOW_MS, Row, refit, seal, with_fields, with_section

ROWS: list[Row] = [
    (NOW_MS, b"a", b"one", ()),
    (NOW_MS + 5, None, b"", (("h", b"1"), ("h", None), ("ü", b""))),
    (NOW_MS - 7, b"", None, ()),
]


def expected(first: int = 0) -> list[Record]:
    return [Record("t", 3, first + at, row[0], row[1], row[2], row[3]) for at, row in enumerate(ROWS)]


@pytest.mark.parametrize("compression", CODECS.values(), ids=CODECS.keys())
def test_records_come_back_as_they_went_in(compression: int) -> None:
    batch = RecordBatch(_engine.open_batch(seal(ROWS, compression)), "t", 3)
    assert list(batch) == expected()
    assert batch.values() == [b"one", b"", None]
    assert batch.keys() == [b"a", None, b""]
    assert batch.offsets() == [0, 1, 2]
    assert batch.timestamps_ms() == [NOW_MS, NOW_MS + 5, NOW_MS - 7]
    assert (len(batch), batch.last_offset, batch.next_offset) == (3, 2, 3)


def test_null_and_empty_differ() -> None:
    null, empty = RecordBatch(seal([(NOW_MS, None, None, ()), (NOW_MS, b"", b"", ())]))
    assert (null.key, null.value) == (None, None)
    assert (empty.key, empty.value) == (b"", b"")
    assert null != empty


def test_a_fetch_in_the_middle_of_a_batch_skips_what_lies_before() -> None:
    bytes_ = with_fields(seal(ROWS), base_offset=100)
    for start, left in ((0, 3), (100, 3), (101, 2), (102, 1), (103, 0), (1 << 40, 0)):
        batch = RecordBatch(bytes_, "t", 3, from_offset=start)
        assert list(batch) == expected(100)[3 - left :]
        assert len(batch) == len(batch.values()) == left


def test_records_are_taken_some_at_a_time() -> None:
    records = iter(RecordBatch(seal(ROWS), "t", 3))
    assert records.take(0) == []
    assert records.take(2) == expected()[:2]
    assert records.__length_hint__() == 1
    assert next(records) == expected()[2]
    assert records.take(5) == []
    assert list(records) == []


def test_the_broker_sets_the_time_of_all_records_with_log_append_time() -> None:
    batch = RecordBatch(with_fields(seal(ROWS), attributes=0x08, max_timestamp=NOW_MS + 99))
    assert batch.timestamps_ms() == [NOW_MS + 99] * 3
    assert [record.timestamp_ms for record in batch] == [NOW_MS + 99] * 3


def test_an_empty_batch_moves_the_reader_on() -> None:
    empty = with_fields(
        refit(bytearray(seal(ROWS)[:61])), record_count=0, last_offset_delta=9, base_offset=50
    )
    batch = RecordBatch(_engine.open_batch(empty))
    assert (list(batch), batch.values(), batch.next_offset) == ([], [], 60)


def test_a_control_batch_says_so() -> None:
    marker = (NOW_MS, struct.pack(">hh", 0, 1), struct.pack(">hi", 0, 0), ())
    fields = {"attributes": 0x30, "producer_id": 9, "producer_epoch": 1}
    batch = RecordBatch(with_fields(seal([marker]), **fields))
    assert batch.is_control
    assert batch.is_transactional
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (9, 1, -1)
    assert not RecordBatch(seal(ROWS)).is_control


def test_several_batches_lie_in_one_buffer() -> None:
    plain = [with_fields(seal(ROWS), base_offset=at) for at in (0, 3, 10)]
    buffer = b"".join(plain)
    assert [batch.base_offset for batch in read_batches(buffer)] == [0, 3, 10]
    later = read_batches(buffer, "t", 3, from_offset=4)
    assert [batch.offsets() for batch in later] == [[4, 5], [10, 11, 12]]
    assert read_batches(b"") == []
    second = RecordBatch(buffer, position=len(plain[0]))
    assert (second.base_offset, second.size_bytes) == (3, len(plain[1]))


@pytest.mark.parametrize("compression", CODECS.values(), ids=CODECS.keys())
def test_a_partial_last_batch_is_normal(compression: int) -> None:
    first, second = seal(ROWS, compression), with_fields(seal(ROWS), base_offset=3)
    for cut in range(len(second)):
        opened = _engine.open_batches(first + second[:cut])
        assert [batch.offsets() for batch in read_batches(opened)] == [[0, 1, 2]]
    opened = _engine.open_batches(first + second)
    assert [batch.offsets() for batch in read_batches(opened)] == [[0, 1, 2], [3, 4, 5]]


def test_uncompressed_batches_are_opened_where_they_lie() -> None:
    batch = seal(ROWS)
    opened = _engine.open_batches(batch + b"\0" * 20)
    assert isinstance(opened, memoryview)
    assert opened.obj == batch + b"\0" * 20
    assert opened == batch


def test_records_keep_their_bytes_alive() -> None:
    record = next(iter(RecordBatch(_engine.open_batch(seal(ROWS, 3)), "t", 3)))
    gc.collect()
    assert record == expected()[0]


class TestRecord:
    record = Record("t", 3, 5, NOW_MS, b"key", None, [("h", b"v")])  # type: ignore[arg-type]

    def test_fields(self) -> None:
        assert (self.record.topic, self.record.partition, self.record.offset) == ("t", 3, 5)
        assert (self.record.timestamp_ms, self.record.key, self.record.value) == (NOW_MS, b"key", None)
        assert self.record.headers == (("h", b"v"),)

    def test_repr(self) -> None:
        assert repr(self.record) == (
            "Record(topic='t', partition=3, offset=5, timestamp_ms=1700000000000, key=b'key', value=None, "
            "headers=(('h', b'v'),))"
        )
        assert len(repr(Record("t", 3, 5, NOW_MS, None, b"x" * 1_000_000))) < 300

    @pytest.mark.parametrize("at", range(7))
    def test_equality_is_of_all_fields(self, at: int) -> None:
        fields = ["t", 3, 5, NOW_MS, b"key", None, (("h", b"v"),)]
        assert Record(*fields) == self.record  # type: ignore[arg-type]
        assert hash(Record(*fields)) == hash(self.record)  # type: ignore[arg-type]
        fields[at] = ["u", 4, 6, NOW_MS + 1, None, b"", ()][at]
        assert Record(*fields) != self.record  # type: ignore[arg-type]
        assert self.record != fields

    def test_it_is_immutable_and_has_no_dict(self) -> None:
        with pytest.raises(AttributeError):
            self.record.offset = 6  # type: ignore[misc]
        with pytest.raises(AttributeError):
            self.record.other = 6  # type: ignore[attr-defined]
        with pytest.raises(TypeError):
            self.record.__init__("t", 3, 5, NOW_MS, None, None)  # type: ignore[misc]

    def test_it_is_pickled(self) -> None:
        (lazy,) = RecordBatch(seal(ROWS[:1]), "t", 3)
        for record in (self.record, lazy):
            assert copy.deepcopy(record) == record
            assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301 - just dumped


class TestHostileBytes:
    def test_a_buffer_that_is_no_batch(self) -> None:
        for bytes_ in (b"", b"\0" * 60, b"\0" * 100, b"\xff" * 100):
            with pytest.raises(CorruptMessageError):
                RecordBatch(bytes_)

    def test_every_prefix_of_a_batch(self) -> None:
        batch = seal(ROWS)
        for cut in range(len(batch)):
            with pytest.raises(CorruptMessageError):
                RecordBatch(batch[:cut])

    @pytest.mark.parametrize(
        "fields", [{"base_offset": -1}, {"base_offset": (1 << 63) - 1}, {"last_offset_delta": -2}]
    )
    def test_offsets_that_cannot_be(self, fields: dict[str, int]) -> None:
        with pytest.raises(CorruptMessageError, match="claims offsets"):
            RecordBatch(with_fields(seal(ROWS), **fields))

    @pytest.mark.parametrize("count", [4, 5, 100, (1 << 31) - 1, -1])
    def test_more_records_claimed_than_there_are(self, count: int) -> None:
        with pytest.raises(CorruptMessageError):
            RecordBatch(with_fields(seal(ROWS), record_count=count)).values()

    @pytest.mark.parametrize("read", [list, RecordBatch.values, lambda batch: iter(batch).take(9)])
    def test_fewer_records_claimed_than_there_are(self, read: Callable[[RecordBatch], object]) -> None:
        batch = RecordBatch(with_fields(seal(ROWS), record_count=2))
        if read in {list, RecordBatch.values}:
            with pytest.raises(CorruptMessageError):
                read(batch)
        else:
            assert len(read(batch)) == 2  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "section",
        [
            bytes([40, 0, 0, 0, 1, 1, 0, 0, 0, 0]),
            bytes([1, 0, 0, 0, 1, 1, 0]),
            bytes([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
            bytes([12, 0, 0, 0, 3, 1, 0]),
            bytes([12, 0, 0, 0, 20, 1, 0]),
            bytes([12, 0, 0, 0, 1, 3, 0]),
            bytes([12, 0, 0, 0, 1, 40, 0]),
            bytes([10, 0, 0, 0, 1, 1, 0]),
            bytes([16, 0, 0, 0, 1, 1, 0, 0, 0]),
        ],
    )
    def test_malformed_records(self, section: bytes) -> None:
        for read in (list, RecordBatch.values, RecordBatch.keys, RecordBatch.offsets):
            with pytest.raises(CorruptMessageError, match=r"t-3 is malformed"):
                read(RecordBatch(with_section(section, 1), "t", 3))  # type: ignore[operator]

    @pytest.mark.parametrize(
        "headers", [[1, 0], [40, 0], [2, 1, 1], [2, 40, 1], [2, 2, 65, 40], [2, 2, 65, 1, 9]]
    )
    def test_malformed_headers(self, headers: list[int]) -> None:
        body = bytes([0, 0, 0, 1, 1, *headers])
        (record,) = RecordBatch(with_section(bytes([len(body) * 2]) + body, 1))
        assert record.value is None
        with pytest.raises(CorruptMessageError):
            _ = record.headers

    def test_a_compressed_batch_must_be_opened_first(self) -> None:
        with pytest.raises(ValueError, match="open_batch"):
            RecordBatch(seal(ROWS, 4))

    def test_a_changed_byte_does_not_get_through(self) -> None:
        batch = bytearray(seal(ROWS))
        for at in range(21, len(batch)):
            batch[at] ^= 0x10
            with pytest.raises(CorruptMessageError, match="CRC"):
                _engine.open_batch(bytes(batch))
            batch[at] ^= 0x10

    @pytest.mark.parametrize("compression", [1, 2, 3, 4, 5, 6, 7])
    def test_garbage_in_compressed_clothes(self, compression: int) -> None:
        batch = with_section(b"garbage payload", 3, compression)
        for read in (_engine.open_batch, lambda it: _engine.validate_batch(it, now_ms=NOW_MS)):
            with pytest.raises(InvalidRecordError):
                read(batch)

    def test_a_bomb(self) -> None:
        bomb = _engine.compress(bytes(300 << 20), 4)
        assert len(bomb) < 100_000
        with pytest.raises(MessageTooLargeError):
            _engine.decompress(bomb, 4)
        assert len(_engine.decompress(_engine.compress(bytes(1 << 20), 4), 4)) == 1 << 20
