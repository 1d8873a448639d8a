"""What members of a group of consumers tell each other: Kafka's ConsumerProtocolSubscription and -Assignment, 0-3.

The broker passes the bytes on without a look. A version that is not known yet is read as the newest known one, since
new ones only add fields at the end. Bytes that are neither raise MalformedMessageError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlog.errors import MalformedMessageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastlog.state.assignors.order import Partition

#: JoinGroup's protocol type of consumers
PROTOCOL_TYPE = "consumer"
VERSION_MAX = 3
OWNED_FROM, GENERATION_FROM, RACK_FROM = 1, 2, 3
NO_GENERATION = -1
INT16, INT32 = struct.Struct(">h"), struct.Struct(">i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What one member wants, and what it has.

    `generation_id` is the generation in which it was given `owned_partitions`, -1 where it does not tell.
    `group_instance_id` is not part of the bytes: the coordinator knows it.
    """

    topics: tuple[str, ...]
    user_data: bytes | None = None
    owned_partitions: tuple[Partition, ...] = ()
    generation_id: int = NO_GENERATION
    rack_id: str | None = None
    group_instance_id: str | None = None


def encode_subscription(subscription: Subscription, version: int = VERSION_MAX) -> bytes:
    """The subscription's bytes; topics and partitions are sorted, as Kafka's client does."""
    topics = sorted(subscription.topics)
    parts = [INT16.pack(version), INT32.pack(len(topics)), *(_string(topic) for topic in topics)]
    parts.append(_bytes(subscription.user_data))
    if version >= OWNED_FROM:
        parts.append(_partitions(sorted(subscription.owned_partitions)))
    if version >= GENERATION_FROM:
        parts.append(INT32.pack(subscription.generation_id))
    if version >= RACK_FROM:
        parts.append(_string(subscription.rack_id))
    return b"".join(parts)


def decode_subscription(data: bytes, group_instance_id: str | None = None) -> Subscription:
    """The subscription in `data`."""
    reader = Reader(data, "subscription of a group's member")
    version = min(reader.int16(), VERSION_MAX)
    reader.require(version >= 0, f"its version is {version}")
    topics = tuple(reader.string() or "" for _ in range(reader.count(INT16.size)))
    user_data = reader.blob()
    owned = tuple(reader.partitions()) if version >= OWNED_FROM else ()
    generation = reader.int32() if version >= GENERATION_FROM else NO_GENERATION
    rack = reader.string() if version >= RACK_FROM else None
    return Subscription(
        topics=topics,
        user_data=user_data,
        owned_partitions=owned,
        generation_id=generation,
        rack_id=rack,
        group_instance_id=group_instance_id,
    )


def encode_assignment(
    partitions: Iterable[Partition], user_data: bytes | None = None, version: int = VERSION_MAX
) -> bytes:
    """The bytes that give a member these partitions."""
    return INT16.pack(version) + _partitions(partitions) + _bytes(user_data)


def decode_assignment(data: bytes) -> list[Partition]:
    """The partitions in an assignment, in its order. No bytes at all are no partitions: some leaders send that."""
    if not data:
        return []
    reader = Reader(data, "assignment of a group's member")
    version = reader.int16()
    reader.require(version >= 0, f"its version is {version}")
    partitions = reader.partitions()
    reader.blob()
    return partitions


def encode_owned(partitions: Iterable[Partition], generation: int) -> bytes:
    """The user data of the sticky assignor: the last assignment and its generation (version 1)."""
    return _partitions(partitions) + INT32.pack(generation)


def decode_owned(data: bytes | None) -> tuple[list[Partition], int | None]:
    """What the sticky assignor's user data tells; nothing where it cannot be read. Old members tell no generation."""
    if not data:
        return [], None
    reader = Reader(data, "user data of a sticky member")
    try:
        partitions = reader.partitions()
        return partitions, reader.int32() if reader.left else None
    except MalformedMessageError:
        return [], NO_GENERATION


def encode_generation(generation: int) -> bytes:
    """The user data of the cooperative-sticky assignor."""
    return INT32.pack(generation)


def decode_generation(data: bytes | None) -> int | None:
    """The generation in the cooperative-sticky assignor's user data; None without any."""
    if data is None:
        return None
    return INT32.unpack_from(data)[0] if len(data) >= INT32.size else NO_GENERATION


class Reader:
    """A bounded look at bytes of another client: no count is believed that the bytes left cannot hold."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    @property
    def left(self) -> int:
        """The bytes not read yet."""
        return len(self._data) - self._at

    def require(self, condition: bool, why: str) -> None:
        """Raises MalformedMessageError unless `condition` holds."""
        if not condition:
            raise MalformedMessageError(f"the {self._what} cannot be read at byte {self._at}: {why}")

    def int16(self) -> int:
        """A signed number of two bytes."""
        return int(INT16.unpack(self._take(INT16.size))[0])

    def int32(self) -> int:
        """A signed number of four bytes."""
        return int(INT32.unpack(self._take(INT32.size))[0])

    def count(self, element_size: int) -> int:
        """The length of an array whose elements have at least so many bytes."""
        count = self.int32()
        self.require(0 <= count <= self.left // element_size, f"{count} elements in {self.left} bytes")
        return count

    def string(self) -> str | None:
        """A string; None for null."""
        length = self.int16()
        if length == -1:
            return None
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise MalformedMessageError(f"the {self._what} has a string that is not UTF-8") from error

    def blob(self) -> bytes | None:
        """Bytes; None for null."""
        length = self.int32()
        return None if length == -1 else self._take(length)

    def partitions(self) -> list[Partition]:
        """Partitions, grouped by topic."""
        found: list[Partition] = []
        for _ in range(self.count(INT16.size + INT32.size)):
            topic = self.string() or ""
            found += [(topic, self.int32()) for _ in range(self.count(INT32.size))]
        return found

    def _take(self, size: int) -> bytes:
        self.require(0 <= size <= self.left, f"{size} bytes of {self.left}")
        self._at += size
        return self._data[self._at - size : self._at]


def _string(text: str | None) -> bytes:
    if text is None:
        return INT16.pack(-1)
    data = text.encode()
    return INT16.pack(len(data)) + data


def _bytes(data: bytes | None) -> bytes:
    return INT32.pack(-1) if data is None else INT32.pack(len(data)) + data


def _partitions(partitions: Iterable[Partition]) -> bytes:
    topics: dict[str, list[int]] = {}
    for topic, number in partitions:
        topics.setdefault(topic, []).append(number)
    return INT32.pack(len(topics)) + b"".join(_topic(*entry) for entry in topics.items())


def _topic(topic: str, numbers: Sequence[int]) -> bytes:
    return _string(topic) + struct.pack(f">{len(numbers) + 1}i", len(numbers), *numbers)
