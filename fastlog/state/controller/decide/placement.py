"""Which brokers hold a new partition: racks first, then an even load of leaders and of replicas.

The same brokers and the same start give the same answer. Kafka's StripedReplicaPlacer has the same goals in the same
order and begins at random; here the caller says where to begin, so that topics of one partition do not all go to one
broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import (
    InvalidPartitionsError,
    InvalidReplicaAssignmentError,
    InvalidReplicationFactorError,
    InvalidRequestError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT = -1


def place(
    partition_count: int,
    replication_factor: int,
    brokers: Sequence[int],
    *,
    racks: Mapping[int, str | None] | None = None,
    start: int = 0,
) -> list[tuple[int, ...]]:
    """The replicas of each new partition, the leader first; raises where the numbers cannot be.

    `start` turns the whole: the number of partitions there are already will do.
    """
    _check_numbers(partition_count, replication_factor, len(brokers))
    order = by_rack(brokers, racks or {})
    rack_of = {it: (racks or {}).get(it) for it in order}
    return [
        _row(order, rack_of, start + partition, replication_factor) for partition in range(partition_count)
    ]


def _check_numbers(partition_count: int, replication_factor: int, brokers: int) -> None:
    if partition_count <= 0:
        raise InvalidPartitionsError(f"{partition_count} is no number of partitions; it takes 1 or more")
    if replication_factor <= 0:
        raise InvalidReplicationFactorError(
            f"{replication_factor} is no replication factor; it takes 1 or more"
        )
    if replication_factor > brokers:
        raise InvalidReplicationFactorError(
            f"replication factor {replication_factor} needs as many brokers, and there are {brokers}"
        )


def by_rack(brokers: Sequence[int], racks: Mapping[int, str | None]) -> list[int]:
    """The brokers so that neighbours are in different racks: the first of each rack, then the second of each, …"""
    shelves: dict[str, list[int]] = {}
    for broker in sorted(brokers):
        shelves.setdefault(racks.get(broker) or "", []).append(broker)
    deepest = max(map(len, shelves.values()), default=0)
    rows = [shelves[it] for it in sorted(shelves)]
    return [shelf[depth] for depth in range(deepest) for shelf in rows if depth < len(shelf)]


def _row(order: list[int], rack_of: Mapping[int, str | None], number: int, count: int) -> tuple[int, ...]:
    """Leader by turns; the followers begin one further on with every round, so that a lost broker's load is spread."""
    brokers = len(order)
    leader = order[number % brokers]
    others = brokers - 1
    shift = number // brokers
    queue = [order[(number + 1 + (shift + it) % others) % brokers] for it in range(others)]
    row = [leader]
    while len(row) < count:
        used = {rack_of[it] for it in row}
        row.append(next((it for it in queue if rack_of[it] is None or rack_of[it] not in used), queue[0]))
        queue.remove(row[-1])
    return tuple(row)


def check_assignments(
    assignments: Mapping[int, Sequence[int]],
    partition_count: int,
    replication_factor: int,
    brokers: Sequence[int],
    *,
    expected: int | None = None,
) -> list[tuple[int, ...]]:
    """The replicas that a client chose by partition; raises where they do not make a topic.

    `expected` is how many partitions there must be, None for any number.
    """
    if partition_count != DEFAULT or replication_factor != DEFAULT:
        raise InvalidRequestError("with replicas assigned, partitions and replication factor must both be -1")
    if sorted(assignments) != list(range(len(assignments))):
        raise InvalidReplicaAssignmentError("the assigned partitions must be numbered from 0 without a gap")
    if expected is not None and len(assignments) != expected:
        raise InvalidReplicaAssignmentError(
            f"{len(assignments)} assignments are given for {expected} new partitions"
        )
    rows = [tuple(assignments[partition]) for partition in range(len(assignments))]
    for partition, row in enumerate(rows):
        if not row or len(row) != len(rows[0]):
            raise InvalidReplicaAssignmentError(
                "each partition must have the same number of replicas, one or more"
            )
        if len(set(row)) != len(row):
            raise InvalidReplicaAssignmentError(f"partition {partition} names a broker twice: {list(row)}")
        if unknown := sorted(set(row) - set(brokers)):
            raise InvalidReplicaAssignmentError(f"partition {partition} names unknown brokers: {unknown}")
    return rows
