"""Record batches for tests: made by our builder, and bent by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TypeAlias

from fastlog.native import _engine
from fastlog.native._records import BatchBuilder

NOW_MS = 1_700_000_000_000
HEADER_BYTES = 61
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]
Row: TypeAlias = tuple[int, bytes | None, bytes | None, Headers]
"""Timestamp, key, value, headers."""


def build(rows: Iterable[Row], limit_bytes: int = 1 << 30) -> BatchBuilder:
    """A builder that took all `rows`."""
    builder = BatchBuilder(limit_bytes)
    for timestamp_ms, key, value, headers in rows:
        assert builder.append(value, key=key, headers=headers, timestamp_ms=timestamp_ms)
    return builder


def seal(rows: Iterable[Row], compression: int = 0) -> bytes:
    """The batch of `rows` as bytes."""
    return bytes(_engine.seal_batch(build(rows), compression=compression))


def with_fields(batch: bytes, **fields: int) -> bytes:
    """The batch with some of its header's fields changed and a CRC that fits."""
    places = {
        "base_offset": (0, ">q"),
        "partition_leader_epoch": (12, ">i"),
        "attributes": (21, ">h"),
        "last_offset_delta": (23, ">i"),
        "base_timestamp": (27, ">q"),
        "max_timestamp": (35, ">q"),
        "producer_id": (43, ">q"),
        "producer_epoch": (51, ">h"),
        "base_sequence": (53, ">i"),
        "record_count": (57, ">i"),
    }
    out = bytearray(batch)
    for name, value in fields.items():
        at, form = places[name]
        struct.pack_into(form, out, at, value)
    return refit(out)


def with_section(section: bytes, count: int, compression: int = 0) -> bytes:
    """A batch of `count` records by its header, with these bytes where its records should be."""
    head = seal([(NOW_MS, None, b"x", ())])[:HEADER_BYTES]
    batch = with_fields(
        head + section, attributes=compression, record_count=count, last_offset_delta=count - 1
    )
    return refit(bytearray(batch))


def refit(batch: bytearray) -> bytes:
    """The batch with a length and a CRC that fit."""
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    struct.pack_into(">I", batch, 17, _engine.crc32c(bytes(batch[21:])))
    return bytes(batch)
