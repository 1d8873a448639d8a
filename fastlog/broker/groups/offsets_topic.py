"""`__consumer_offsets`: the topic that groups and their offsets are kept in."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from fastlog.broker.names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from fastlog.broker.ports import Topics
    from fastlog.config import BrokerSettings
    from fastlog.ports import Topic

INT_MIN = -(2**31)
REMEMBERED_LENGTH_MAX = 256


def find_or_create(topics: Topics, settings: BrokerSettings) -> Topic:
    """The topic, made with the broker's settings if it is not there; on the thread that changes topics."""
    if OFFSETS_TOPIC not in topics:
        create(topics, settings)
    return topics.named(OFFSETS_TOPIC)


def create(topics: Topics, settings: BrokerSettings) -> None:
    """Makes the topic as Kafka does: compacted, so that it keeps the last record of each key."""
    topics.create(
        OFFSETS_TOPIC,
        partition_count=settings.offsets_topic_num_partitions,
        replication_factor=settings.offsets_topic_replication_factor,
        configs={
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": str(settings.offsets_topic_segment_bytes),
        },
    )


def partition_of(group_id: str, partition_count: int) -> int:
    """The partition that a group belongs to: Java's hash of the id, made positive, modulo."""
    # ids that nobody has in earnest, of up to 32 KiB, are not to be kept by the thousand
    find = _remembered if len(group_id) <= REMEMBERED_LENGTH_MAX else _partition_of
    return find(group_id, partition_count)


def _partition_of(group_id: str, partition_count: int) -> int:
    number = java_hash(group_id)
    return 0 if number == INT_MIN else abs(number) % partition_count


_remembered = lru_cache(maxsize=16_384)(_partition_of)


def java_hash(text: str) -> int:
    """`String.hashCode` of Java: over UTF-16 units, in 32 signed bits."""
    number = 0
    for unit in memoryview(text.encode("utf-16-le")).cast("H"):
        number = (31 * number + unit) & 0xFFFF_FFFF
    return number - 2**32 if number >= 2**31 else number
