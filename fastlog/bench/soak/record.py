"""The records of a soak: each says which one it is, when it was due, and what its bytes sum up to."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from fastlog.native._records import Record

#: number within the partition, nanoseconds of the monotonic clock
HEAD = struct.Struct("<Qq")
CRC = struct.Struct("<I")
SIZE_MIN = HEAD.size + CRC.size
SUM_MASK = (1 << 64) - 1


class BrokenRecordError(FastlogError):
    """A record that is not the one that had to come next."""


def make_value(number: int, due_ns: int, filling: bytes) -> tuple[bytes, int]:
    """The value of a record and its checksum."""
    body = HEAD.pack(number, due_ns) + filling
    crc = zlib.crc32(body)
    return body + CRC.pack(crc), crc


class Checker:
    """Sees each record of some partitions once, in order: from number 0 on or, after `jump`, from any.

    A fresh topic with one producer has record number n at offset n, so both must be the next.
    """

    def __init__(self, partitions: int) -> None:
        #: the number that comes next, by partition
        self.next: list[int] = [0] * partitions
        self.checksums = [0] * partitions
        self.records = 0
        self._jumps: set[int] = set()

    def jump(self) -> None:
        """Takes whatever comes next in each partition for a beginning."""
        self._jumps.update(range(len(self.next)))

    def note(self, record: Record) -> int:
        """Checks a record; the time when it was due. Raises BrokenRecordError."""
        value, partition = record.value or b"", record.partition
        if len(value) < SIZE_MIN:
            raise BrokenRecordError(
                f"partition {partition}, offset {record.offset}: {len(value)} bytes are none of our records"
            )
        number, due_ns = HEAD.unpack_from(value)
        (crc,) = CRC.unpack_from(value, len(value) - CRC.size)
        if zlib.crc32(memoryview(value)[: -CRC.size]) != crc:
            raise BrokenRecordError(f"partition {partition}, offset {record.offset}: the bytes have changed")
        if partition in self._jumps:
            self._jumps.discard(partition)
            self.next[partition] = record.offset
        expected = self.next[partition]
        if not number == record.offset == expected:
            kind = "a gap" if number > expected else "a duplicate"
            raise BrokenRecordError(
                f"partition {partition}: record {number} at offset {record.offset} instead of {expected}: {kind}"
            )
        self.next[partition] = expected + 1
        self.checksums[partition] = (self.checksums[partition] + crc) & SUM_MASK
        self.records += 1
        return int(due_ns)
