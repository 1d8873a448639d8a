"""The quick path of `send`: which open batch a record goes to."""

from __future__ import annotations

from typing import Any

import pytest

from fastlog.client.producer.batch import Batch
from fastlog.native._builder import BatchBuilder, partition_for_key
from fastlog.native._sending import Lane, Sending, TopicLanes


class Producer(Sending):
    """Says which records took the slow path."""

    def __init__(self) -> None:
        self.slow: list[tuple[Any, ...]] = []
        self._hash_keys_natively()

    def _send_slowly(self, *arguments: Any) -> None:
        self.slow.append(arguments)


def open_lane(producer: Producer, partition: int) -> Lane:
    lane = Lane()
    lane.open(Batch("t", partition, BatchBuilder(10_000), producer.lock, created_ms=0))
    return lane


def test_a_topic_with_one_partition_goes_on_with_two() -> None:
    producer = Producer()
    topic = producer.topic_lanes["t"] = TopicLanes([open_lane(producer, 0)], 0)
    for key in (None, b"a", b"b", b"c"):
        assert producer.send("t", b"x", key=key).batch.partition == 0
    with pytest.raises(TypeError, match="key"):
        producer.send("t", b"x", key="text")  # type: ignore[arg-type]
    assert producer.send("t", b"x", partition=1) is None  # type: ignore[comparison-overlap]
    topic.add(open_lane(producer, 1))
    for number in range(20):
        key = b"%d" % number
        assert producer.send("t", b"x", key=key).batch.partition == partition_for_key(key, 2)
    assert producer.send("t", b"x").batch.partition == 0
    topic.sticky = 1
    assert producer.send("t", b"x").batch.partition == 1
    assert producer.send("t", b"x", partition=1).batch.partition == 1
    assert len(producer.slow) == 1


def test_a_topic_without_partitions_gets_its_first() -> None:
    producer = Producer()
    topic = producer.topic_lanes["t"] = TopicLanes([], 0)
    topic.add(open_lane(producer, 0))
    assert producer.send("t", b"x", key=b"k").batch.partition == 0
    assert not producer.slow
