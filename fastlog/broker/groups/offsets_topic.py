"""`__consumer_offsets`: the topic that groups and their offsets are kept in."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from fastlog.broker.topic_directory import NEEDED_TIMEOUT_MS
from fastlog.errors import TopicAlreadyExistsError
from fastlog.state.topic_names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from fastlog.broker.control_api import Services
    from fastlog.broker.patience import TimeLeft
    from fastlog.ports import Topic

NOT_SET = -1
# Kafka's default: a group outlives the loss of a broker, also while another is restarted
REPLICAS_IN_CLUSTER = 3
INT_MIN = -(2**31)
REMEMBERED_LENGTH_MAX = 256


def find_or_create(services: Services, left: TimeLeft) -> Topic:
    """The topic, made with the broker's settings if it is not there; on a thread that changes topics."""
    if OFFSETS_TOPIC not in services.topics:
        # somebody else may ask for it at the same moment
        with suppress(TopicAlreadyExistsError):
            create(services, timeout_ms=left.ms())
    return services.topics.named(OFFSETS_TOPIC)


def create(services: Services, *, timeout_ms: int = NEEDED_TIMEOUT_MS) -> None:
    """Makes the topic as Kafka does: compacted, so that it keeps the last record of each key.

    Fails, as Kafka does, while fewer brokers live than it is to have replicas: made with fewer it would keep them.
    """
    settings = services.configs.config.broker()
    factor = settings.offsets_topic_replication_factor
    if factor == NOT_SET:
        factor = REPLICAS_IN_CLUSTER if services.is_in_cluster else 1
    services.topics.create(
        OFFSETS_TOPIC,
        partition_count=settings.offsets_topic_num_partitions,
        replication_factor=factor,
        configs={
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": str(settings.offsets_topic_segment_bytes),
        },
        timeout_ms=timeout_ms,
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
