"""Kafka's primitive types as its records write them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fastlog.errors import MalformedMessageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_INT16, _INT32, _INT64 = struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">q")

STRING_BYTES_MAX = 2**15 - 1
Raw = bytes
NO_TAGS = b"\0"
"""The end of a struct of a flexible version that has no tagged fields."""


def int16(value: int) -> bytes:
    """Two bytes, big-endian."""
    return _INT16.pack(value)


def string(text: str | None) -> bytes:
    """A length of two bytes and UTF-8; the length of null is -1. ValueError where it does not fit."""
    if text is None:
        return b"\xff\xff"
    raw = text.encode()
    if len(raw) > STRING_BYTES_MAX:
        raise ValueError(f"a string of {len(raw)} bytes does not fit into a record, {STRING_BYTES_MAX} do")
    return _INT16.pack(len(raw)) + raw


def sized(raw: bytes) -> bytes:
    """A length of four bytes and the bytes."""
    return _INT32.pack(len(raw)) + raw


def int32(value: int) -> bytes:
    """Four bytes, big-endian."""
    return _INT32.pack(value)


def int64(value: int) -> bytes:
    """Eight bytes, big-endian."""
    return _INT64.pack(value)


def uvarint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def compact_bytes(raw: bytes | None) -> bytes:
    """A varint of the length and one, and the bytes; null is 0."""
    return b"\0" if raw is None else uvarint(len(raw) + 1) + raw


def compact_string(text: str | None) -> bytes:
    """As `compact_bytes`, of UTF-8. ValueError where it does not fit."""
    raw = None if text is None else text.encode()
    if raw is not None and len(raw) > STRING_BYTES_MAX:
        raise ValueError(f"a string of {len(raw)} bytes does not fit into a record, {STRING_BYTES_MAX} do")
    return compact_bytes(raw)


def compact_array(elements: Sequence[bytes]) -> bytes:
    """A varint of the length and one, and the elements."""
    return uvarint(len(elements) + 1) + b"".join(elements)


def one_tag(tag: int, value: bytes) -> bytes:
    """The tagged fields at the end of a struct, of which there is this one."""
    return uvarint(1) + uvarint(tag) + uvarint(len(value)) + value


class Reader:
    """Reads a record's key or value from its start; MalformedMessageError where it ends too early.

    Compact lengths are read instead of the plain ones once `is_flexible` is set.
    """

    __slots__ = ("_buffer", "_position", "is_flexible")

    def __init__(self, buffer: bytes) -> None:
        self._buffer = buffer
        self._position = 0
        self.is_flexible = False

    def _take(self, count: int) -> bytes:
        end = self._position + count
        if count < 0 or end > len(self._buffer):
            raise MalformedMessageError(
                f"a group record of {len(self._buffer)} bytes ends before the {count} at {self._position}"
            )
        taken = self._buffer[self._position : end]
        self._position = end
        return taken

    def int8(self) -> int:
        """One byte."""
        value = self._take(1)[0]
        return value - 256 if value > 127 else value

    def int16(self) -> int:
        """Two bytes."""
        return _INT16.unpack(self._take(2))[0]  # type: ignore[no-any-return]

    def int32(self) -> int:
        """Four bytes."""
        return _INT32.unpack(self._take(4))[0]  # type: ignore[no-any-return]

    def int64(self) -> int:
        """Eight bytes."""
        return _INT64.unpack(self._take(8))[0]  # type: ignore[no-any-return]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 28:
                raise MalformedMessageError("a length in a group record has more than five bytes")

    def string(self) -> str | None:
        """A string or null."""
        length = self._varint() - 1 if self.is_flexible else self.int16()
        if length == -1:
            return None
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise MalformedMessageError(f"a string in a group record is no UTF-8: {error}") from None

    def text(self) -> str:
        """A string that may not be null; null is read as empty."""
        return self.string() or ""

    def bytes(self) -> bytes:
        """Bytes; null is read as empty."""
        length = self._varint() - 1 if self.is_flexible else self.int32()
        return b"" if length == -1 else self._take(length)

    def count(self) -> int:
        """The length of an array; more than there are bytes left is refused before anything is made of it."""
        length = self._varint() - 1 if self.is_flexible else self.int32()
        if length > len(self._buffer) - self._position:
            raise MalformedMessageError(f"an array in a group record claims {length} elements")
        return max(length, 0)

    def skip_tags(self) -> None:
        """Passes over tagged fields, of which none is known; does nothing where there cannot be any."""
        if self.is_flexible:
            self.tags()

    def tags(self) -> dict[int, Raw]:
        """The tagged fields at the end of a struct."""
        found = {}
        for _ in range(self._varint()):
            tag = self._varint()
            found[tag] = self._take(self._varint())
        return found

    def raw(self, count: int) -> Raw:
        """So many bytes."""
        return self._take(count)
