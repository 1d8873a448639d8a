"""Record batches as they travel and lie on disk, read by their headers.

Kafka's org.apache.kafka.common.record.DefaultRecordBatch, version 2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = struct.Struct(">qiibIhiqqqhii")
LOG_OVERHEAD = 12
# where the checksummed part of a batch begins
ATTRIBUTES_AT = 21
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


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
