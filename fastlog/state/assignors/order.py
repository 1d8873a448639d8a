"""The orders in which Kafka's assignors go over members and partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastlog.state.assignors.consumer_protocol import Subscription

#: topic and number
Partition = tuple[str, int]
Key = TypeVar("Key")
TABLE_SIZE_MIN = 16
LOAD = 0.75
INT_MASK = 0xFFFFFFFF


def java_hash(text: str) -> int:
    """String.hashCode as an unsigned number: over UTF-16 units."""
    units = text.encode("utf-16-be", "surrogatepass")
    value = 0
    for index in range(0, len(units), 2):
        value = (31 * value + (units[index] << 8 | units[index + 1])) & INT_MASK
    return value


def partition_hash(partition: Partition) -> int:
    """TopicPartition.hashCode."""
    topic, number = partition
    return (31 * (31 + number) + java_hash(topic)) & INT_MASK


def hash_order(keys: Iterable[Key], hash_of: Callable[[Key], int]) -> list[Key]:
    """Distinct `keys` in the order in which a HashMap gives them that got them in this order.

    Where two choices are as good, Kafka's answer depends on it; ours is then the same.
    """
    listed = list(keys)
    size = TABLE_SIZE_MIN
    while len(listed) > size * LOAD:
        size *= 2

    def bucket(key: Key) -> int:
        value = hash_of(key)
        return (value ^ value >> 16) & (size - 1)

    return sorted(listed, key=bucket)


def members_in_order(subscriptions: Iterable[str]) -> list[str]:
    """Member ids in Kafka's order of going over them."""
    return hash_order(subscriptions, java_hash)


def static_first(item: tuple[str, Subscription]) -> tuple[bool, str]:
    """The key that sorts members: static ones by their instance ids, then the others by their member ids."""
    member, subscription = item
    instance = subscription.group_instance_id
    return (True, member) if instance is None else (False, instance)


def partitions_of(topic: str, count: int) -> list[Partition]:
    """All partitions of a topic."""
    return [(topic, number) for number in range(count)]
