"""Records as JSON lines: {topic, partition, offset, timestamp_ms, key, value, headers}.

Bytes that are UTF-8 are strings, other bytes are {"base64": …}, null is null. Headers are a list of [name, value],
since their order and repetition count.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

FIELDS = frozenset({"topic", "partition", "offset", "timestamp_ms", "key", "value", "headers"})


@dataclass(frozen=True, slots=True)
class Row:
    """What a line says about a record to be sent; None where it says nothing."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    partition: int | None
    timestamp_ms: int | None


def show_bytes(data: bytes | memoryview | None) -> str | dict[str, str] | None:
    """A JSON value for bytes."""
    if data is None:
        return None
    raw = bytes(data)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def dump(record: Any) -> str:
    """The line for a consumed record, without a line end."""
    row = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": show_bytes(record.key),
        "value": show_bytes(record.value),
        "headers": [[name, show_bytes(value)] for name, value in record.headers],
    }
    return json.dumps(row, ensure_ascii=False)


def load(line: bytes) -> Row:
    """What a line says; raises ValueError with the reason."""
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError('not an object such as {"key": "k", "value": "v"}')
    unknown = sorted(row.keys() - FIELDS)
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; the fields are {', '.join(sorted(FIELDS))}")
    return Row(
        key=parse_bytes("key", row.get("key")),
        value=parse_bytes("value", row.get("value")),
        headers=parse_headers(row.get("headers") or []),
        partition=parse_number("partition", row.get("partition"), 2**31 - 1),
        timestamp_ms=parse_timestamp(row.get("timestamp_ms")),
    )


def parse_bytes(name: str, value: object) -> bytes | None:
    """The bytes that a JSON value stands for; raises ValueError."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} holds half a surrogate pair, which UTF-8 cannot express") from error
    if isinstance(value, dict) and value.keys() == {"base64"}:
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (binascii.Error, TypeError) as error:
            raise ValueError(f"{name} is not base64: {error}") from error
    raise ValueError(f'{name} must be a string, null or {{"base64": …}}')


def parse_headers(value: object) -> list[tuple[str, bytes | None]]:
    """The headers that a JSON value stands for, [[name, value], …] or {name: value}; raises ValueError."""
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list):
        raise ValueError("headers must be a list of [name, value]")
    found = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("headers must be a list of [name, value]")
        found.append((pair[0], parse_bytes(f"header {pair[0]!r}", pair[1])))
    return found


def parse_number(name: str, value: object, maximum: int) -> int | None:
    """A whole number from 0 to `maximum`, or None; raises ValueError."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= maximum:
        return value
    raise ValueError(f"{name} must be a whole number from 0 to {maximum}")


def parse_timestamp(value: object) -> int | None:
    """Milliseconds since 1970; -1, which a record without a timestamp is shown with, and None are none."""
    return None if value == -1 else parse_number("timestamp_ms", value, 2**63 - 1)
