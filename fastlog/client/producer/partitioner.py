"""Which partition a record goes to.

- `murmur2` (the default) hashes keys as Kafka's Java client does.
- `consistent` hashes keys with CRC32 as librdkafka does by default (its `consistent_random`; kcat, confluent-kafka).

Producers that share a keyed topic must use the same one, or a key lands in two partitions. Both leave records without a
key to the sticky choice: one partition until its batch is full or sent, then another (KIP-794).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from fastlog.errors import ConfigError
from fastlog.native._builder import partition_for_key

#: (key, number of partitions) -> partition, or None for the sticky choice
Partitioner = Callable[[bytes | None, int], int | None]


def murmur2(key: bytes | None, partition_count: int) -> int | None:
    """Java's default for keys; an empty key is hashed, None is left to the sticky choice."""
    return None if key is None else partition_for_key(key, partition_count)


def consistent(key: bytes | None, partition_count: int) -> int | None:
    """librdkafka's default: CRC32 of the key; an empty key counts as none."""
    return zlib.crc32(key) % partition_count if key else None


def checked(partitioner: Partitioner) -> Partitioner:
    """A user's function whose answers are looked at before they are used."""

    def choose(key: bytes | None, partition_count: int) -> int | None:
        chosen = partitioner(key, partition_count)
        if chosen is not None and not 0 <= chosen < partition_count:
            raise ConfigError(
                f"the partitioner {partitioner!r} chose {chosen!r} for key {key!r}; the partitions are 0 to "
                f"{partition_count - 1}, and None leaves it to the sticky choice"
            )
        return chosen

    return choose


def resolve_partitioner(partitioner: str | Partitioner) -> Partitioner:
    """The function for a name (`murmur2`, `consistent`), or the user's own; raises ConfigError."""
    if callable(partitioner):
        return checked(partitioner)
    if partitioner == "murmur2":
        return murmur2
    if partitioner == "consistent":
        return consistent
    raise ConfigError(
        f"partitioner={partitioner!r} is unknown; use 'murmur2' (as Java), 'consistent' (as librdkafka) or a function "
        "(key, partition_count) -> partition"
    )
