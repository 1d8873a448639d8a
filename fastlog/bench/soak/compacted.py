"""The compacted topic of a soak: what is written to it, and what must be left of that however often it is cleaned."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from fastlog.bench.soak.record import CRC, HEAD, SIZE_MIN, SUM_MASK, BrokenRecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.native._records import Record

KEYS = 1_000
#: one record in so many of the soak's goes to it as well
ONE_IN = 10
SEGMENT_BYTES = 1 << 20
#: with fewer segments than this nothing need have been cleaned yet
SEGMENTS_MIN = 6
CONFIGS = {
    "cleanup.policy": "compact",
    "segment.bytes": str(SEGMENT_BYTES),
    "min.cleanable.dirty.ratio": "0.1",
    "file.delete.delay.ms": "1000",
}
KEY = struct.Struct("<I")


def key_of(number: int) -> bytes:
    """The key of record `number`."""
    return KEY.pack(number % KEYS)


def digest(latest: Mapping[bytes, int]) -> int:
    """One number for the latest record of each key."""
    return sum(zlib.crc32(key + HEAD.pack(number, 0)) for key, number in latest.items()) & SUM_MASK


class CompactedChecker:
    """Sees the records of one pass over the topic in order, of which any but the latest of a key may be missing."""

    def __init__(self) -> None:
        self.latest: dict[bytes, int] = {}
        self.records = 0
        #: where the next record lies at least
        self.next = 0

    def note(self, record: Record) -> None:
        """Checks a record. Raises BrokenRecordError."""
        value, key = record.value or b"", record.key or b""
        place = f"compacted topic, offset {record.offset}"
        if len(value) < SIZE_MIN or len(key) != KEY.size:
            raise BrokenRecordError(f"{place}: that is none of our records")
        number, _ = HEAD.unpack_from(value)
        (crc,) = CRC.unpack_from(value, len(value) - CRC.size)
        if zlib.crc32(memoryview(value)[: -CRC.size]) != crc or key != key_of(number):
            raise BrokenRecordError(f"{place}: the bytes have changed")
        # one partition, one producer: record number n was written at offset n
        if number != record.offset or record.offset < self.next:
            raise BrokenRecordError(f"{place}: record {number} comes where {self.next} or a later one may")
        self.latest[key] = number
        self.next = record.offset + 1
        self.records += 1
