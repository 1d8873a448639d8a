"""How records become batches: size, linger, sticky partitions, room."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fastlog.client.producer.accumulator import Accumulator, TopicQueues, check_partition
from fastlog.client.producer.partition_queue import PartitionQueue
from fastlog.client.producer.partitioner import murmur2
from fastlog.errors import BufferFullError, ClosedError, ConfigError, MessageTooLargeError
from fastlog.native._builder import BatchBuilder
from fastlog.native._sending import Lock


class Harness:
    """An accumulator with a clock that only tests move."""

    def __init__(self, **settings: Any) -> None:
        self.now_ms = 0.0
        self.signals = 0
        values: dict[str, Any] = {
            "batch_bytes": 1000,
            "bulk_batch_bytes": 4000,
            "buffer_bytes": 10_000,
            "max_request_bytes": 5000,
            "linger_ms": 5,
            "max_block_ms": 0,
            "partitioner": murmur2,
        }
        self.accumulator = Accumulator(
            Lock(),
            **{**values, **settings},
            new_builder=BatchBuilder,
            clock_ms=lambda: self.now_ms,
            signal=self.signal,
        )
        queues = [
            PartitionQueue(
                "t", n, idempotent=False, in_flight_max=5, retriable=bool, retry_delay_ms=lambda attempt: 0
            )
            for n in range(3)
        ]
        self.topic = TopicQueues("t", queues, lambda current, count: (current + 1) % count)
        self.accumulator.topics["t"] = self.topic

    def signal(self) -> None:
        self.signals += 1

    def due_ms(self, queue: PartitionQueue) -> float:
        """When the first waiting batch of `queue` may be sent."""
        accumulator = self.accumulator
        others, news = accumulator.active, accumulator._news
        accumulator.active = {queue: None}
        due, next_ms = accumulator.look(-math.inf)
        accumulator.active, accumulator._news = others, news
        assert not due
        return next_ms

    def send(self, value: bytes = b"x", *, partition: int | None = None, key: bytes | None = None) -> Any:
        return self.accumulator.append(self.topic, partition, value, key, None, 0)


def test_a_batch_is_due_after_linger_or_when_it_is_full() -> None:
    harness = Harness()
    harness.send(partition=0)
    queue = harness.topic.queues[0]
    assert harness.due_ms(queue) == 5
    harness.now_ms = 3
    harness.send(b"x" * 990, partition=0)
    assert harness.due_ms(queue) == 0
    assert [batch.builder.count for batch in queue.waiting] == [1, 1]
    assert [batch.count for batch in queue.waiting] == [1, 0]


def test_deliveries_count_within_their_batch() -> None:
    harness = Harness()
    deliveries = [harness.send(b"x" * 300, partition=0) for _ in range(4)]
    assert [delivery.index for delivery in deliveries] == [0, 1, 2, 0]


def test_records_without_a_key_stay_in_a_partition_for_a_batch() -> None:
    harness = Harness()
    partitions = [harness.send(b"x" * 400).batch.partition for _ in range(8)]
    assert partitions == [0, 0, 1, 1, 2, 2, 0, 0]


def test_records_with_a_key_go_where_java_puts_them() -> None:
    harness = Harness()
    assert harness.send(key=b"foobar").batch.partition == murmur2(b"foobar", 3)


def test_room_is_bounded_and_given_back() -> None:
    harness = Harness(buffer_bytes=2000)
    deliveries = [harness.send(b"x" * 800, partition=0) for _ in range(2)]
    with pytest.raises(BufferFullError, match="buffer_bytes=2000"):
        harness.send(b"x" * 800, partition=0)
    with harness.accumulator.lock:
        harness.accumulator.release([deliveries[0].batch])
    harness.send(b"x" * 800, partition=0)


def take(harness: Harness, queue: PartitionQueue) -> Any:
    """The waiting batch, as the sender takes it."""
    with harness.accumulator.lock:
        batch = queue.take(None)
        harness.accumulator.trim(queue, batch, batch.size_bytes)
        harness.accumulator.changed(queue)
    return batch


def answer(harness: Harness, queue: PartitionQueue, batch: Any) -> None:
    with harness.accumulator.lock:
        queue.answered(batch, 0, 0.0)
        harness.accumulator.changed(queue)
        harness.accumulator.release([batch])


def use_in_turn(harness: Harness, count: int) -> list[PartitionQueue]:
    """So many partitions, each of which was sent a small batch."""
    make = PartitionQueue
    queues = [
        make("t", n, idempotent=False, in_flight_max=5, retriable=bool, retry_delay_ms=lambda attempt: 0)
        for n in range(count)
    ]
    harness.topic = TopicQueues("t", queues, lambda current, count: 0)
    for queue in queues:
        harness.send(partition=queue.partition)
        answer(harness, queue, take(harness, queue))
    return queues


def test_partitions_that_take_turns_share_half_of_the_buffer() -> None:
    harness = Harness(buffer_bytes=8_000_000, batch_bytes=256_000)
    queues = use_in_turn(harness, 500)
    for _ in range(2):
        batches = [
            harness.send(b"x" * 700, partition=queue.partition).batch for _ in range(11) for queue in queues
        ]
        # 11 records and no more fit into a share; none finds the buffer full: max_block_ms is 0
        assert len({id(batch) for batch in batches}) == 500
        assert {batch.reserved_bytes for batch in batches} == {8_000}
        for queue in queues:
            harness.send(b"x" * 700, partition=queue.partition)
            assert len(queue.waiting) == 2
            while queue.waiting:
                answer(harness, queue, take(harness, queue))
    assert harness.accumulator.buffered_bytes == 0
    # one that is written to alone has the whole size again
    harness.send(partition=0)
    answer(harness, queues[0], take(harness, queues[0]))
    harness.send(partition=0)
    assert take(harness, queues[0]).builder.limit_bytes == 256_000


def test_many_begin_with_what_their_last_batch_needed_and_grow() -> None:
    harness = Harness(buffer_bytes=8_000_000, batch_bytes=256_000)
    queues = use_in_turn(harness, 100)
    # the record alone, or the last batch and a quarter
    for size, reserved in ((100, 512), (2_000, 2_101), (100, 2_587), (100, 512)):
        for queue in queues:
            harness.send(b"x" * size, partition=queue.partition)
        assert {queue.waiting[0].reserved_bytes for queue in queues} == {reserved}
        for queue in queues:
            answer(harness, queue, take(harness, queue))
    for queue in queues:
        harness.send(partition=queue.partition)
    batch = queues[50].waiting[0]
    held = harness.accumulator.buffered_bytes
    assert held == 100 * 512
    for count in range(2, 6):
        harness.send(b"x" * 400, partition=50)
        assert batch.builder.count == count
    assert batch.reserved_bytes == batch.builder.limit_bytes == 4 * 512
    assert harness.accumulator.buffered_bytes == held + 3 * 512
    # what a batch does not need when it leaves is free again
    harness.accumulator.flush()
    assert take(harness, queues[50]).reserved_bytes == batch.size_bytes < 4 * 512


def test_a_batch_does_not_grow_where_nothing_is_free() -> None:
    harness = Harness(buffer_bytes=100 * 512 + 3 * 512, batch_bytes=9_000)
    queues = use_in_turn(harness, 100)
    for queue in queues:
        harness.send(partition=queue.partition)
    grown = harness.send(b"x" * 1_500, partition=0).batch
    assert grown is queues[0].waiting[0]
    assert harness.accumulator.buffered_bytes == 99 * 512 + grown.reserved_bytes
    assert 1_500 < grown.reserved_bytes < 4 * 512
    with pytest.raises(BufferFullError):
        harness.send(b"x" * 1_500, partition=50)
    # it is closed, so that the sender makes room
    assert queues[50].waiting[0].count == 1
    assert harness.due_ms(queues[50]) == 0


def test_open_batches_are_held_while_nobody_waits_for_room() -> None:
    harness = Harness()
    harness.send(partition=0)
    harness.send(b"x" * 990, partition=1)
    harness.send(b"x" * 990, partition=1)
    harness.accumulator.hold_until_ms = 40.0
    held, full = harness.topic.queues[:2]
    assert harness.due_ms(held) == 40
    assert harness.due_ms(full) == 0
    harness.accumulator.blocked += 1
    assert harness.due_ms(held) == 0
    # the answers that come will make room; but not for ever
    harness.accumulator.awaits_answers = True
    assert harness.due_ms(held) == 1_000
    assert harness.due_ms(full) == 0
    harness.accumulator.blocked -= 1
    with harness.accumulator.lock:
        harness.accumulator.look(harness.now_ms)
        assert harness.accumulator.fall_asleep(40.0)
    # one that is opened now is not due before either
    harness.send(partition=2)
    assert harness.signals == 0
    harness.accumulator.flush()
    assert harness.signals == 1
    assert harness.due_ms(held) == 0


def test_room_that_a_batch_did_not_need_is_given_back_when_it_leaves() -> None:
    harness = Harness(buffer_bytes=300_000, batch_bytes=9_000)
    harness.send(partition=0)
    assert harness.accumulator.buffered_bytes == 9_000
    batch = take(harness, harness.topic.queues[0])
    assert harness.accumulator.buffered_bytes == 512
    answer(harness, harness.topic.queues[0], batch)
    assert harness.accumulator.buffered_bytes == 0


def test_a_record_larger_than_a_batch_goes_alone_and_one_larger_than_a_request_is_refused() -> None:
    harness = Harness()
    assert harness.send(b"x" * 3000, partition=0).batch.builder.count == 1
    with pytest.raises(MessageTooLargeError, match="max_request_bytes=5000"):
        harness.send(b"x" * 6000, partition=0)


def test_nothing_is_taken_after_the_end() -> None:
    harness = Harness()
    harness.send(partition=0)
    harness.accumulator.refuse(ClosedError("over"))
    with pytest.raises(ClosedError, match="over"):
        harness.send(partition=0)
    assert harness.due_ms(harness.topic.queues[0]) == 0


def test_the_sender_is_woken_only_for_what_is_earlier_than_it_knows() -> None:
    harness = Harness()
    with harness.accumulator.lock:
        harness.accumulator.look(harness.now_ms)
        assert harness.accumulator.fall_asleep(100.0)
    harness.send(partition=0)
    assert harness.signals == 1
    harness.send(partition=0)
    assert harness.signals == 1
    with harness.accumulator.lock:
        assert harness.accumulator.wake_up()


def test_the_sender_does_not_sleep_over_news() -> None:
    harness = Harness()
    with harness.accumulator.lock:
        harness.accumulator.look(harness.now_ms)
    harness.send(partition=0)
    with harness.accumulator.lock:
        assert not harness.accumulator.fall_asleep(100.0)


def test_a_partition_that_does_not_exist_is_named() -> None:
    harness = Harness()
    with pytest.raises(ConfigError, match="partitions 0 to 2"):
        check_partition(harness.topic, 3)


@pytest.mark.parametrize(
    ("value", "headers", "says"),
    [
        ("text", None, "not str: encode it"),
        (5, None, "not int"),
        (b"v", {"name": b"content"}, r"a header is a tuple \(str, bytes or None\), not 'name'"),
        (b"v", [5], "a header is a tuple"),
        (b"v", [("name", "content")], "header value is bytes, bytearray or memoryview, not str"),
    ],
)
def test_the_first_record_of_a_batch_says_what_it_must_be(value: Any, headers: Any, says: str) -> None:
    harness = Harness()
    with pytest.raises(TypeError, match=says):
        harness.accumulator.append(harness.topic, 0, value, None, headers, 0)
    assert harness.accumulator.buffered_bytes == 0


def test_batches_that_are_filled_at_once_are_larger_within_a_quarter_of_the_buffer() -> None:
    def limit(*, more_follow: bool, buffer_bytes: int, learned: int | None = None) -> int:
        harness = Harness(buffer_bytes=buffer_bytes)
        queue = harness.topic.queues[0]
        if learned is not None:
            queue.batch_bytes_max = learned
        harness.accumulator.append(harness.topic, 0, b"x", None, None, 0, more_follow=more_follow)
        return int(queue.waiting[0].builder.limit_bytes)

    assert limit(more_follow=False, buffer_bytes=100_000) == 1000
    assert limit(more_follow=True, buffer_bytes=100_000) == 4000
    # three partitions
    assert limit(more_follow=True, buffer_bytes=24_000) == 2000
    assert limit(more_follow=True, buffer_bytes=6_000) == 1000
    # a broker found larger ones too large
    assert limit(more_follow=True, buffer_bytes=100_000, learned=700) == 700
