"""Records to send through every client, and the one shape in which all clients' answers are compared."""

from __future__ import annotations

import time
from dataclasses import dataclass

COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
# a minute ago: old timestamps would be deleted by retention while a test looks at them
BASE_TIMESTAMP_MS = int(time.time() * 1000) - 60_000


@dataclass(frozen=True)
class Sample:
    """One record as any client sees it; timestamp_ms is None where a client cannot set or show it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int | None = None

    def without_timestamp(self) -> Sample:
        """The same record for a client that lets the system set the time."""
        return Sample(self.key, self.value, self.headers)


def samples(count: int = 200) -> list[Sample]:
    """Records with and without key, value and headers, long and empty ones, bytes that are not UTF-8."""
    made = [
        Sample(b"both", b"value", (("h", b"1"), ("h", b"2"), ("empty", b"")), BASE_TIMESTAMP_MS),
        Sample(None, b"no key", (), BASE_TIMESTAMP_MS + 1),
        Sample(b"no value", None, (), BASE_TIMESTAMP_MS + 2),
        Sample(b"", b"", (), BASE_TIMESTAMP_MS + 3),
        Sample(b"\x00\xff\xfe", bytes(range(256)), (("bytes", b"\x80\x81"),), BASE_TIMESTAMP_MS + 4),
        Sample(
            "schlüssel".encode(),
            "wért 漢字".encode(),
            (("ключ", "значение".encode()),),
            BASE_TIMESTAMP_MS + 5,
        ),
        Sample(b"long", b"0123456789" * 20_000, (), BASE_TIMESTAMP_MS + 6),
    ]
    rest = range(len(made), count)
    made += [
        Sample(b"k%d" % (i % 7), b"v%d " % i + b"x" * (i % 100), (), BASE_TIMESTAMP_MS + i) for i in rest
    ]
    return made


def text_samples(count: int = 100) -> list[Sample]:
    """Records that a line-based tool can carry: text, one header for all, the system's time."""
    headers = (("origin", b"tool"),)
    made = [Sample(b"no value", None, headers)]
    return made + [Sample(b"k%d" % (i % 7), b"line %d" % i, headers) for i in range(1, count)]
