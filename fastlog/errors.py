"""All exceptions: one class per Kafka error code, and the local ones, which have no code."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fastlog import _kafka_errors
from fastlog._error_base import FastlogError, KafkaError
from fastlog._kafka_errors import *  # noqa: F403 - a hundred generated names, listed in its __all__

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [  # noqa: PLE0604 - the generated names are strings too
    "BackupError",
    "BufferFullError",
    "BulkDeliveryError",
    "ClosedError",
    "ConfigError",
    "DeliveryTimeoutError",
    "FastlogError",
    "KafkaError",
    "MalformedMessageError",
    "NoPositionError",
    "NotReachableError",
    "PoisonedLogError",
    "UnreadableBackupError",
    "error_for",
    *_kafka_errors.__all__,
]


class ConfigError(FastlogError):
    """A setting is unknown, or its value is not allowed."""


class BackupError(FastlogError):
    """A backup is damaged, incomplete, or does not fit what is there."""


class UnreadableBackupError(BackupError):
    """Something of a backup is missing, damaged, or of a newer version; other backups in the place may be whole."""


class ClosedError(FastlogError):
    """The object was used after it was closed."""


class BufferFullError(FastlogError):
    """A bounded buffer stayed full for as long as the caller was willing to wait."""


class PoisonedLogError(FastlogError):
    """A log directory takes no more appends, since a write or a sync to it failed."""


class NotReachableError(FastlogError):
    """No broker answered at the addresses that were tried."""


class DeliveryTimeoutError(FastlogError):
    """A record was not acknowledged within its time; it may or may not have been written."""


class BulkDeliveryError(FastlogError):
    """Some records of one `send_many` were not acknowledged."""

    errors: Mapping[int, BaseException] = MappingProxyType({})
    """Why, by the records' numbers in the order in which they were given, from 0."""
    delivered: Any = None
    """The BulkMetadata of the other records."""


class NoPositionError(FastlogError):
    """A partition has no position to read from, and the consumer was told not to choose one."""


class MalformedMessageError(FastlogError):
    """Bytes are not the Kafka message that they should be."""


def error_for(code: int, message: str = "") -> KafkaError:
    """The exception for an error code, ready to be raised; `code` is not 0.

    A code that the table does not know gives a plain `KafkaError` that carries it.
    """
    kind = _kafka_errors.BY_CODE.get(code)
    if kind is not None:
        return kind(message)
    error = KafkaError(message)
    error.code, error.name = code, "UNKNOWN"
    return error
