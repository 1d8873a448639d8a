"""send_many without a broker: where records go, what the delivery tells, and what bad arguments do."""

from __future__ import annotations

import array
import itertools
import time
from collections.abc import Iterator

import pytest

from fastlog.client.producer.batch import Batch
from fastlog.client.producer.partitioner import consistent, murmur2
from fastlog.client.producer.requests import halve
from fastlog.errors import (
    BufferFullError,
    BulkDeliveryError,
    ClosedError,
    ConfigError,
    FastlogError,
    MessageTooLargeError,
)
from fastlog.native._column import Column
from fastlog.native._engine import seal_batch
from tests.support.sending import StillProducer

VALUES = [b"%04d" % number for number in range(1000)]
KEYS = [b"key-%d" % (number % 17) for number in range(1000)]


def column(values: list[bytes], kind: str = "i") -> Column:
    return Column(b"".join(values), array.array(kind, itertools.accumulate(map(len, values), initial=0)))


def test_a_list_goes_to_one_partition_in_order() -> None:
    producer = StillProducer()
    delivery = producer.send_many(VALUES, partition=1, timestamp_ms=7, headers=[("h", b"1"), ("h", None)])
    assert (len(delivery), delivery.done()) == (1000, False)
    log = producer.settle()[1]
    assert [record.value for record in log] == VALUES
    assert {(record.key, record.timestamp_ms, record.headers) for record in log} == {
        (None, 7, (("h", b"1"), ("h", None)))
    }
    assert delivery.done()
    metadata = delivery.result(0)
    assert (metadata.topic, metadata.count) == ("t", 1000)
    assert (metadata.counts, metadata.offsets) == ({1: 1000}, {1: (range(1000),)})
    assert delivery.exception(0) is None


@pytest.mark.parametrize("kind", ["list", "tuple", "generator", "column", "wide column"])
def test_every_way_to_give_values_and_keys_does_the_same(kind: str) -> None:
    give = {
        "list": list,
        "tuple": tuple,
        "generator": iter,
        "column": column,
        "wide column": lambda values: column(values, "q"),
    }[kind]
    one_by_one, many = StillProducer(), StillProducer()
    for value, key in zip(VALUES, KEYS, strict=True):
        one_by_one.send("t", value, key=key, timestamp_ms=0)
    delivery = many.send_many(give(VALUES), give(KEYS), timestamp_ms=0)
    assert many.settle() == one_by_one.settle()
    assert delivery.result(0).counts == {
        partition: sum(murmur2(key, 3) == partition for key in KEYS) for partition in range(3)
    }


def test_records_without_a_key_stay_in_a_partition_for_a_batch() -> None:
    one_by_one, many = StillProducer(), StillProducer()
    for value in VALUES:
        one_by_one.send("t", value, timestamp_ms=0)
    many.send_many(VALUES, timestamp_ms=0)
    assert many.settle() == one_by_one.settle()
    assert all(len(many.batches(partition)) > 3 for partition in range(3))


def test_null_and_empty_differ_and_any_bytes_like_object_will_do() -> None:
    producer = StillProducer()
    values = [None, b"", bytearray(b"a"), memoryview(b"xbx")[1:2], type("B", (bytes,), {})(b"c")]
    keys = [b"", None, memoryview(b"k"), bytearray(b"l"), None]
    producer.send_many(values, keys, partition=0)
    log = producer.settle()[0]
    assert [record.value for record in log] == [None, b"", b"a", b"b", b"c"]
    assert [record.key for record in log] == [b"", None, b"k", b"l", None]


@pytest.mark.parametrize("choose", [consistent, lambda key, count: 2 if key == b"key-3" else None])
def test_another_partitioner_decides_as_for_send(choose: object) -> None:
    one_by_one, many = (StillProducer(partitioner=choose) for _ in range(2))  # type: ignore[arg-type]
    for value, key in zip(VALUES, KEYS, strict=True):
        one_by_one.send("t", value, key=key, timestamp_ms=0)
    many.send_many(VALUES, KEYS, timestamp_ms=0)
    assert many.settle() == one_by_one.settle()


def test_records_of_others_may_come_in_between() -> None:
    producer = StillProducer(1)

    def values() -> Iterator[bytes]:
        for number, value in enumerate(VALUES):
            if number == 500:
                # the first half lies in batches only when the chunk is full, or took its time
                time.sleep(0.03)
            if number == 502:
                producer.send("t", b"other")
            yield value

    delivery = producer.send_many(values())
    log = [record.value for record in producer.settle()[0]]
    assert [value for value in log if value != b"other"] == VALUES
    at = log.index(b"other")
    assert 0 < at < 1000
    assert delivery.result(0).offsets == {0: (range(at), range(at + 1, 1001))}


def test_the_error_names_the_records_that_failed_and_has_the_others() -> None:
    producer = StillProducer()
    delivery = producer.send_many(VALUES, KEYS)
    lost = ConfigError("lost")
    log = producer.settle({(0, 1): lost, (2, 0): lost})
    error = delivery.exception(0)
    assert isinstance(error, BulkDeliveryError)
    delivered = {record.value for records in log.values() for record in records}
    assert error.errors == {number: lost for number, value in enumerate(VALUES) if value not in delivered}
    first = next(iter(error.errors))
    assert f"{len(error.errors)} of 1000 records for t failed, counted from 0: {first}, " in str(error)
    assert str(error).endswith("lost")
    assert error.__cause__ is lost
    assert error.delivered.count == len(delivered)
    assert {at: [len(one) for one in ranges] for at, ranges in error.delivered.offsets.items()} == {
        at: [len(records)] for at, records in log.items()
    }
    with pytest.raises(BulkDeliveryError):
        delivery.result(0)


def test_single_records_that_a_broker_names_are_told_with_their_own_reason() -> None:
    producer = StillProducer(1)
    producer.send("t", b"of somebody else")
    delivery = producer.send_many([b"a", b"b", b"c"])
    shared, own = FastlogError("others were refused"), FastlogError("no key")
    (batch,) = producer.batches(0)
    batch.fail(shared, {2: own})
    error = delivery.exception(0)
    assert error is not None
    assert error.errors == {0: shared, 1: own, 2: shared}
    assert "Record 1: no key" in str(error)


def test_a_batch_that_was_halved_is_followed_to_its_parts() -> None:
    producer = StillProducer(1)
    producer.send("t", b"of somebody else")
    delivery = producer.send_many(VALUES[:7])
    producer.accumulator.flush()
    (batch,) = producer.batches(0)
    batch.sealed = seal_batch(batch.builder)
    first, second = halve(batch, producer.lock, 5000)
    batch.split_into([first, second])
    second.sealed = seal_batch(second.builder)
    parts: list[Batch] = halve(second, producer.lock, 5000)
    second.split_into(parts)
    lost = FastlogError("lost")
    first.complete(100, -1)
    parts[0].fail(lost)
    assert not delivery.done()
    parts[1].complete(104, -1)
    error = delivery.exception(0)
    assert error is not None
    assert error.errors == {3: lost, 4: lost}
    assert error.delivered.offsets == {0: (range(101, 106),)}


def test_nothing_at_all_is_done_at_once() -> None:
    delivery = StillProducer().send_many([])
    assert (len(delivery), delivery.done(), delivery.result(0).count) == (0, True, 0)


def test_offsets_that_nobody_told_are_left_out() -> None:
    producer = StillProducer(1)
    delivery = producer.send_many([b"a"])
    producer.batches(0)[0].complete(-1, -1)
    assert (delivery.result(0).counts, delivery.result(0).offsets) == ({0: 1}, {0: ()})


def test_waiting_ends_with_its_time_and_says_how_many_are_open() -> None:
    delivery = StillProducer().send_many(VALUES)
    with pytest.raises(TimeoutError, match="1000 of 1000 records for t were not acknowledged within 0 s"):
        delivery.result(0)


# -- what ends it early ------------------------------------------------------------------------------------------------


def test_a_full_buffer_keeps_what_came_before_and_says_how_much() -> None:
    producer = StillProducer(1, buffer_bytes=5000)
    with pytest.raises(BufferFullError, match="buffer_bytes=5000") as caught:
        producer.send_many(VALUES)
    taken = len(caught.value.delivery)
    assert [record.value for record in producer.settle()[0]] == VALUES[:taken]
    assert caught.value.delivery.result(0).offsets == {0: (range(taken),)}


@pytest.mark.parametrize("give", [list, iter], ids=["list", "generator"])
def test_a_value_that_is_no_bytes_ends_it_there(give: type) -> None:
    producer = StillProducer(1)
    with pytest.raises(TypeError, match=r"a record's value is bytes.* not str: encode it") as caught:
        producer.send_many(give([b"a", b"b", "c", b"d"]))
    assert len(caught.value.delivery) == 2  # type: ignore[attr-defined]
    assert [record.value for record in producer.settle()[0]] == [b"a", b"b"]


def test_a_generator_that_raises_keeps_what_it_gave() -> None:
    def values() -> Iterator[bytes]:
        yield b"a"
        raise OSError("no more")

    producer = StillProducer(1)
    with pytest.raises(OSError, match="no more"):
        producer.send_many(values(), keys=itertools.repeat(b"k"))
    assert [record.value for record in producer.settle()[0]] == [b"a"]


def test_records_of_a_slow_generator_go_when_the_next_one_comes() -> None:
    producer = StillProducer(1)
    seen: list[int] = []

    def values() -> Iterator[bytes]:
        for value in VALUES[:4]:
            seen.append(sum(batch.builder.count for batch in producer.batches(0)))
            yield value
            time.sleep(0.03)

    producer.send_many(values())
    assert all(handed_over >= given - 1 for given, handed_over in enumerate(seen))


def test_a_record_too_large_is_refused_after_those_before_it() -> None:
    producer = StillProducer(1)
    with pytest.raises(MessageTooLargeError, match="max_request_bytes=5000"):
        producer.send_many([b"a", b"x" * 6000, b"b"])
    assert [record.value for record in producer.settle()[0]] == [b"a"]


def test_a_record_larger_than_a_batch_gets_one_of_its_size() -> None:
    producer = StillProducer(1)
    producer.send_many([b"a", b"x" * 3000, b"x" * 900, b"b"])
    assert [batch.builder.count for batch in producer.batches(0)] == [1, 1, 2]


def test_a_closed_producer_takes_nothing_more() -> None:
    producer = StillProducer(1)

    def values() -> Iterator[bytes]:
        yield from VALUES
        producer.refusal = ClosedError("over")
        yield b"late"

    with pytest.raises(ClosedError, match="over"):
        producer.send_many(values())


@pytest.mark.parametrize(
    ("keys", "message"),
    [([b"k"], "3 values and 1 keys"), (column([b"k"] * 4), "3 values and 4 keys")],
    ids=["list", "column"],
)
def test_values_and_keys_of_different_number_are_refused_at_once(keys: object, message: str) -> None:
    producer = StillProducer(1)
    with pytest.raises(ValueError, match=message):
        producer.send_many([b"a", b"b", b"c"], keys)
    assert producer.batches(0) == []


def test_keys_that_end_early_end_it() -> None:
    producer = StillProducer(1)
    with pytest.raises(ValueError, match="the keys ended after 2"):
        producer.send_many([b"a", b"b", b"c"], iter([b"k", b"l"]))
    assert [record.value for record in producer.settle()[0]] == [b"a", b"b"]


@pytest.mark.parametrize("values", [b"bytes", "text", bytearray(b"x"), memoryview(b"x")], ids=type)
def test_one_value_is_not_many(values: object) -> None:
    with pytest.raises(TypeError, match="iterable of values or a Column, not one"):
        StillProducer().send_many(values)


def test_bad_arguments_are_named() -> None:
    producer = StillProducer()
    with pytest.raises(ConfigError, match=r"partition=3 .* partitions 0 to 2"):
        producer.send_many([b"a"], partition=3)
    with pytest.raises(ConfigError, match="partition=-1"):
        producer.send_many([b"a"], partition=-1)
    with pytest.raises(ValueError, match="timestamp_ms is -2"):
        producer.send_many([b"a"], timestamp_ms=-2)
    with pytest.raises(TypeError, match="a header is a tuple"):
        producer.send_many([b"a"], headers=[("h", 1, 2)])
    assert all(not producer.batches(partition) for partition in range(3))


# -- columns -----------------------------------------------------------------------------------------------------------


def test_a_column_is_read_as_arrow_writes_it() -> None:
    data = b"xxheaven&hell"
    offsets = array.array("i", [2, 8, 8, 9, 13])
    for made in (
        Column(data, offsets),
        Column(bytearray(data), offsets.tobytes()),
        Column(memoryview(data), memoryview(array.array("q", offsets).tobytes()), offset_bytes=8),
    ):
        assert [made[index] for index in range(len(made))] == [b"heaven", b"", b"&", b"hell"]
        assert made[-1] == b"hell"
    with pytest.raises(IndexError):
        made[4]
    assert len(Column(b"", array.array("i", [0]))) == 0


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        (array.array("i", [0, 5]), "offsets 0 and 1 are 0 and 5.* within the 4 bytes"),
        (array.array("i", [0, 3, 2]), "offsets 1 and 2 are 3 and 2"),
        (array.array("q", [-1, 2]), "are -1 and 2"),
        (array.array("q", [0, 1 << 62]), "within the 4 bytes"),
        (array.array("i"), "n strings need n . 1 integers"),
        (b"\0\0\0", "3 bytes"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(offsets: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Column(b"data", offsets)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["I", "d", "H", "L"])
def test_offsets_are_signed_integers(kind: str) -> None:
    with pytest.raises(TypeError, match="signed integers of 4 or 8 bytes"):
        Column(b"data", array.array(kind, [0, 4]))


def test_buffers_that_change_under_a_column_lead_nowhere_else() -> None:
    offsets = array.array("i", [0, 2, 4])
    made = Column(b"data", offsets)
    offsets[2] = 1 << 30
    producer = StillProducer(1)
    with pytest.raises(ValueError, match="offsets 1 and 2"):
        producer.send_many(made)
    assert [record.value for record in producer.settle()[0]] == [b"da"]
