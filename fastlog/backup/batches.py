"""Batches of a backup: checked when they come, marked when they go back, and put where there are none."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fastlog.errors import BackupError
from fastlog.native._engine import crc32c
from fastlog.protocol.batch import ATTRIBUTES_AT, HEADER, LOG_OVERHEAD, BrokenSegmentError, read_batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastlog.protocol.batch import BatchView

#: the leader epoch that a batch names which is to keep its offsets (RESTORED_EPOCH in rust/log)
KEEPS_OFFSETS = -2
EPOCH_AT, CRC_AT, PRODUCER_ID_AT = 12, 17, 43
EPOCH, CRC, PRODUCER_ID = struct.Struct(">i"), struct.Struct(">I"), struct.Struct(">q")
#: ids from here on are producers' of restored records; a cluster counts from 0
RESTORED_IDS = 1 << 62
#: offsets that one batch may span
SPAN_MAX = 1 << 31
NO_TIMESTAMP = -1
NOBODY = -1


def checked(data: memoryview, what: str) -> Iterator[BatchView]:
    """The batches of `data`; raises BackupError, naming `what`, where one is damaged or reaches back."""
    position = -1
    try:
        for batch in read_batches(data):
            if crc32c(batch.data[ATTRIBUTES_AT:]) != crc_of(batch):
                raise BackupError(
                    f"{what}: the batch of offset {batch.base_offset} is damaged (its checksum differs)"
                )
            if batch.base_offset < position or batch.last_offset < batch.base_offset:
                raise BackupError(f"{what}: offset {batch.base_offset} comes after offset {position - 1}")
            position = batch.last_offset + 1
            yield batch
    except BrokenSegmentError as error:
        raise BackupError(f"{what}: {error}") from error


def crc_of(batch: BatchView) -> int:
    """The checksum that a batch has in its header, without a sign."""
    return batch.crc & 0xFFFFFFFF


def whole(data: memoryview) -> memoryview:
    """The whole batches at the start of what a fetch brought, which may end anywhere."""
    position = 0
    while len(data) - position >= HEADER.size:
        size = LOG_OVERHEAD + EPOCH.unpack_from(data, position + 8)[0]
        if size < HEADER.size or size > len(data) - position:
            break
        position += size
    return data[:position]


def marked(batch: BatchView) -> bytes:
    """The batch as it is sent to keep its offsets.

    Its producer gets an id that no cluster gives out. With its own one, the first records of whoever has that id in the
    new cluster would be taken for duplicates, and acknowledged.
    """
    data = bytearray(batch.data)
    EPOCH.pack_into(data, EPOCH_AT, KEEPS_OFFSETS)
    if 0 <= batch.producer_id < RESTORED_IDS:
        PRODUCER_ID.pack_into(data, PRODUCER_ID_AT, batch.producer_id + RESTORED_IDS)
        CRC.pack_into(data, CRC_AT, crc32c(memoryview(data)[ATTRIBUTES_AT:]))
    return bytes(data)


def fillers(start: int, end: int) -> Iterator[bytes]:
    """Batches without records, as the cleaner leaves them, for the offsets from `start` to before `end`."""
    while start < end:
        count = min(end - start, SPAN_MAX)
        fields = (0, count - 1, NO_TIMESTAMP, NO_TIMESTAMP, NOBODY, -1, -1, 0)
        checksummed = HEADER.pack(0, 0, 0, 0, 0, *fields)[ATTRIBUTES_AT:]
        length = HEADER.size - LOG_OVERHEAD
        head = struct.pack(">qiibI", start, length, KEEPS_OFFSETS, 2, crc32c(checksummed))
        yield head + checksummed
        start += count
