"""The files beside a segment, read without a broker: indexes and snapshots, entry by entry.

Formats are Kafka's: OffsetIndex, TimeIndex, TransactionIndex and ProducerStateManager.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from pathlib import Path

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
