"""The files of a partition, read without a broker: segments batch by batch, indexes and snapshots entry by entry.

Formats are Kafka's: record batch v2 (org.apache.kafka.common.record.DefaultRecordBatch), OffsetIndex, TimeIndex,
TransactionIndex and ProducerStateManager.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = struct.Struct(">qiibIhiqqqhii")
LOG_OVERHEAD = 12
# where the checksummed part of a batch begins
ATTRIBUTES_AT = 21
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
OFFSET_ENTRY = struct.Struct(">ii")
TIME_ENTRY = struct.Struct(">qi")
TRANSACTION_ENTRY = struct.Struct(">hqqqq")
SNAPSHOT_HEAD = struct.Struct(">hIi")
SNAPSHOT_ENTRY = struct.Struct(">qhiqiqiq")
SNAPSHOT_NAMES = (
    "producer_id",
    "producer_epoch",
    "last_sequence",
    "last_offset",
    "offset_delta",
    "timestamp_ms",
    "coordinator_epoch",
    "current_transaction_first_offset",
)


@dataclass(frozen=True, slots=True)
class BatchView:
    """One batch in a segment: its place, its header, its bytes."""

    position: int
    base_offset: int
    last_offset: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int
    data: memoryview

    @property
    def compression(self) -> str:
        """The codec's name."""
        number = self.attributes & 7
        return COMPRESSIONS[number] if number < len(COMPRESSIONS) else f"unknown({number})"

    @property
    def is_control(self) -> bool:
        """Whether it holds a transaction's end instead of records."""
        return bool(self.attributes & 0x20)

    @property
    def is_transactional(self) -> bool:
        """Whether it is part of a transaction."""
        return bool(self.attributes & 0x10)


class BrokenSegmentError(ValueError):
    """The bytes from a position on are no batch."""


def read_batches(data: memoryview) -> Iterator[BatchView]:
    """The batches of a segment; raises BrokenSegmentError where one is cut or is none. Checksums are not looked at."""
    position = 0
    while position < len(data):
        left = len(data) - position
        if left < HEADER.size:
            raise BrokenSegmentError(f"position {position}: {left} bytes, too few for a batch header")
        fields = HEADER.unpack_from(data, position)
        base_offset, length, epoch, magic, crc, attributes, last_delta, *rest = fields
        size = length + LOG_OVERHEAD
        if magic != 2 or size < HEADER.size:
            raise BrokenSegmentError(f"position {position}: no batch (magic {magic}, length {length})")
        if size > left:
            raise BrokenSegmentError(f"position {position}: a batch of {size} bytes is cut after {left}")
        head = (position, base_offset, base_offset + last_delta, epoch, magic, crc, attributes)
        values: tuple[Any, ...] = (*head, *rest, data[position : position + size])
        yield BatchView(*values)
        position += size


def base_offset_of(path: Path) -> int:
    """The first offset of the segment that a file belongs to; raises FastlogError where its name tells none."""
    stem = path.name.split(".", 1)[0]
    if not stem.isdecimal():
        raise FastlogError(
            f"reading {path}: it is not named by its first offset, as {0:020}{path.suffix} is; give it that name"
        )
    return int(stem)


def read_offset_index(data: bytes, base_offset: int) -> list[tuple[int, int]]:
    """(offset, position) of each entry; what was only preallocated is left out."""
    found: list[tuple[int, int]] = []
    for delta, position in OFFSET_ENTRY.iter_unpack(data[: len(data) - len(data) % OFFSET_ENTRY.size]):
        if delta == 0 and position == 0:
            break
        found.append((base_offset + delta, position))
    return found


def read_time_index(data: bytes, base_offset: int) -> list[tuple[int, int]]:
    """(timestamp_ms, offset) of each entry; what was only preallocated is left out."""
    found: list[tuple[int, int]] = []
    for timestamp_ms, delta in TIME_ENTRY.iter_unpack(data[: len(data) - len(data) % TIME_ENTRY.size]):
        if timestamp_ms == 0 and delta == 0:
            break
        found.append((timestamp_ms, base_offset + delta))
    return found


def read_transaction_index(data: bytes) -> list[dict[str, int]]:
    """The aborted transactions of a segment."""
    names = ("version", "producer_id", "first_offset", "last_offset", "last_stable_offset")
    whole = data[: len(data) - len(data) % TRANSACTION_ENTRY.size]
    return [dict(zip(names, entry, strict=True)) for entry in TRANSACTION_ENTRY.iter_unpack(whole)]


def read_snapshot(data: bytes) -> tuple[int, list[dict[str, int]]]:
    """The checksum that a producer snapshot claims, and its producers; raises ValueError where it is cut."""
    if len(data) < SNAPSHOT_HEAD.size:
        raise ValueError(f"{len(data)} bytes, too few for a snapshot's header")
    _version, crc, count = SNAPSHOT_HEAD.unpack_from(data)
    body = data[SNAPSHOT_HEAD.size :]
    if len(body) != count * SNAPSHOT_ENTRY.size:
        raise ValueError(
            f"{count} producers need {count * SNAPSHOT_ENTRY.size} bytes, and there are {len(body)}"
        )
    return crc, [dict(zip(SNAPSHOT_NAMES, entry, strict=True)) for entry in SNAPSHOT_ENTRY.iter_unpack(body)]
