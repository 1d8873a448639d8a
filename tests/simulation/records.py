"""What producers send and consumers get: batches of numbers, which are told apart by their checksums."""

from __future__ import annotations

from collections.abc import Sequence

from fastlog.native import _engine
from fastlog.native._records import BatchBuilder

#: leader epoch, number
Record = tuple[int, int]

NOW_MS = 1_700_000_000_000
HEADER_BYTES = 61
VALUE_BYTES = 8
#: length, attributes, timestamp and offset, no key, the value's length, the value, no headers
RECORD_BYTES = 7 + VALUE_BYTES
VALUE_AT = 6

_numbers: dict[int, int] = {}


def batch_of(numbers: Sequence[int], producer_id: int) -> bytes:
    """The batch of consecutive numbers, which are the producer's sequence numbers too; -1 is no producer."""
    builder = BatchBuilder(1 << 16)
    for number in numbers:
        value = number.to_bytes(VALUE_BYTES, "big")
        _numbers[_engine.crc32c(value)] = number
        builder.append(value, key=None, headers=(), timestamp_ms=NOW_MS)
    if producer_id < 0:
        return bytes(_engine.seal_batch(builder))
    return bytes(
        _engine.seal_batch(builder, producer_id=producer_id, producer_epoch=0, base_sequence=numbers[0])
    )


def number_of(checksum: int) -> int:
    """The number whose record has that checksum (of an empty key and the value); -1 for none that was ever sent."""
    return _numbers.get(checksum, -1)


def records_in(batches: bytes, offset: int) -> list[Record]:
    """The records of whole batches from `offset` on; a consumer gets its first batch whole."""
    found: list[Record] = []
    at = 0
    while at + HEADER_BYTES <= len(batches):
        base = int.from_bytes(batches[at : at + 8], "big")
        end = at + 12 + int.from_bytes(batches[at + 8 : at + 12], "big")
        if end > len(batches):
            break
        epoch = int.from_bytes(batches[at + 12 : at + 16], "big")
        for index in range(int.from_bytes(batches[at + 57 : at + 61], "big")):
            start = at + HEADER_BYTES + index * RECORD_BYTES + VALUE_AT
            if base + index >= offset:
                found.append((epoch, int.from_bytes(batches[start : start + VALUE_BYTES], "big")))
        at = end
    return found
