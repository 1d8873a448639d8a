"""Which brokers hold a new partition."""

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


def place(partition_count: int, replication_factor: int, brokers: Sequence[int]) -> list[tuple[int, ...]]:
    """The replicas of each new partition, spread evenly; raises where the numbers cannot be."""
    if partition_count <= 0:
        raise InvalidPartitionsError(f"{partition_count} is no number of partitions; it takes 1 or more")
    if replication_factor <= 0:
        raise InvalidReplicationFactorError(
            f"{replication_factor} is no replication factor; it takes 1 or more"
        )
    if replication_factor > len(brokers):
        raise InvalidReplicationFactorError(
            f"replication factor {replication_factor} needs as many brokers, and there are {len(brokers)}"
        )
    count = len(brokers)
    return [
        tuple(brokers[(partition + replica) % count] for replica in range(replication_factor))
        for partition in range(partition_count)
    ]


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
