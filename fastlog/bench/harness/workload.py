"""What is sent: values, and batches of them. The same for a subject and its limit."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from fastlog.errors import ConfigError
from fastlog.native._engine import seal_batch
from fastlog.native._records import BatchBuilder

#: different values in a round; more would measure the processor's caches
VALUES = 10_000
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
#: a record's own fields and its share of a batch's header, at least
HEADER_BYTES = 61


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch as it travels and lies on disk."""

    data: bytes
    records: int


def values_of(size: int, count: int = VALUES) -> list[bytes]:
    """JSON-like values of exactly `size` bytes, each another: they compress as events do, by about a fourth to a
    tenth."""
    found = []
    for number in range(count):
        event = {
            "carrier": "UA",
            "flight": number % 7919,
            "origin": "EWR",
            "delay": number % 61,
            "tail": f"N{number:06d}",
        }
        text = json.dumps(event).encode()
        found.append((text * (size // len(text) + 1))[:size])
    return found


def batch_of(
    size: int, batch_bytes: int, compression: str = "none", *, records: int | None = None
) -> SealedBatch:
    """A batch of values of `size` bytes: as many as fit into `batch_bytes` before compression, or `records`.

    Raises ConfigError where not even one fits.
    """
    values = values_of(size)
    builder = BatchBuilder(batch_bytes if records is None else 1 << 30)
    now_ms = int(time.time() * 1000)
    at = 0
    while records is None or at < records:
        if not builder.append(values[at % VALUES], timestamp_ms=now_ms) or builder.size_bytes > batch_bytes:
            break
        at += 1
    if at == 0:
        raise ConfigError(
            f"a batch of {batch_bytes} bytes does not hold a record of {size} bytes; take a larger --batch-bytes"
        )
    if builder.count > at:
        return batch_of(size, batch_bytes, compression, records=at)
    return SealedBatch(bytes(seal_batch(builder, compression=CODECS[compression])), builder.count)
