"""What a producer is told at its construction, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from fastlog.client.producer.partitioner import Partitioner

#: codes of the record batch format
COMPRESSIONS = {None: 0, "none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
ACKS = {"all": -1, "-1": -1, "0": 0, "1": 1, -1: -1, 0: 0, 1: 1}
#: the broker remembers the last five batches of a producer in a partition: no more may be unanswered
IN_FLIGHT_MAX_IDEMPOTENT = 5
#: below the 1,048,588 bytes that a broker takes by default (message.max.bytes)
REQUEST_BYTES_MAX = 1_048_576
#: what one ZeroMQ message or TCP frame costs is spread over this much, and one batch still fits a broker's default
#: limit
BATCH_BYTES = 256 * 1024
#: the same for `send_many`, which fills them at once: a batch costs the client about 0.2 ms however large it is, the
#: broker somewhat less, and this is the largest that a broker takes by default
BULK_BATCH_BYTES = REQUEST_BYTES_MAX
BATCH_BYTES_MIN = 1024


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """The settings of `fastlog.Producer`, in the units of the wire."""

    acks: int
    linger_ms: float
    batch_bytes: int
    bulk_batch_bytes: int
    compression: int
    idempotent: bool
    buffer_bytes: int
    max_block_ms: float
    delivery_timeout_ms: float
    request_timeout_ms: float
    connect_timeout_ms: float
    retry_backoff_ms: float
    retry_backoff_max_ms: float
    max_in_flight: int
    max_request_bytes: int
    client_id: str
    partitioner: Partitioner


def parse_acks(acks: str | int) -> int:
    """-1, 0 or 1; raises ConfigError."""
    if acks not in ACKS:
        raise ConfigError(f"acks={acks!r} is unknown; use 'all', 1 or 0")
    return ACKS[acks]


def parse_compression(compression: str | None) -> int:
    """The codec's number in the batch format; raises ConfigError."""
    if compression not in COMPRESSIONS:
        raise ConfigError(
            f"compression={compression!r} is unknown; use None, 'gzip', 'snappy', 'lz4' or 'zstd'"
        )
    return COMPRESSIONS[compression]


def check(settings: ProducerSettings, idempotence: bool | None) -> None:
    """Raises ConfigError where settings are out of range or contradict each other."""
    if idempotence and settings.acks != -1:
        raise ConfigError(
            "idempotence=True needs acks='all'; leave idempotence out to have it off with acks=0 or 1"
        )
    if settings.idempotent and settings.max_in_flight > IN_FLIGHT_MAX_IDEMPOTENT:
        raise ConfigError(
            f"max_in_flight={settings.max_in_flight} needs idempotence=False: a broker remembers no more than "
            f"{IN_FLIGHT_MAX_IDEMPOTENT} batches of a producer"
        )
    check_ranges(settings)
    if settings.delivery_timeout_ms < settings.linger_ms + settings.request_timeout_ms:
        raise ConfigError(
            f"delivery_timeout_ms={settings.delivery_timeout_ms} must be at least linger_ms + request_timeout_ms "
            f"= {settings.linger_ms + settings.request_timeout_ms}"
        )


def check_ranges(settings: ProducerSettings) -> None:
    """Raises ConfigError where a number is out of its range."""
    lowest = {
        "linger_ms": 0,
        "batch_bytes": BATCH_BYTES_MIN,
        "max_block_ms": 0,
        "request_timeout_ms": 1,
        "connect_timeout_ms": 1,
        "retry_backoff_ms": 0,
        "retry_backoff_max_ms": 0,
        "max_in_flight": 1,
        "max_request_bytes": BATCH_BYTES_MIN,
    }
    for name, minimum in lowest.items():
        if getattr(settings, name) < minimum:
            raise ConfigError(f"{name}={getattr(settings, name)} is too small; the least is {minimum}")
    if settings.batch_bytes > settings.max_request_bytes:
        raise ConfigError(
            f"batch_bytes={settings.batch_bytes} is more than max_request_bytes={settings.max_request_bytes}"
        )
    if settings.buffer_bytes < settings.max_request_bytes:
        raise ConfigError(
            f"buffer_bytes={settings.buffer_bytes} must hold at least one batch of "
            f"max_request_bytes={settings.max_request_bytes}"
        )
