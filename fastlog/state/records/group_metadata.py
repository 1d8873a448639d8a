"""A generation of a classic group: GroupMetadataKey (version 2), GroupMetadataValue (written in version 3).

Source: group-coordinator/src/main/resources/common/message/GroupMetadata{Key,Value}.json of Apache Kafka.
"""

from __future__ import annotations

import struct

import msgspec

from fastlog.errors import MalformedMessageError
from fastlog.state.records.primitives import Reader, int16, sized, string

KEY_VERSION = 2
VALUE_VERSION, VALUE_VERSION_MAX, VALUE_FLEXIBLE_FROM = 3, 4, 4
NONE = -1

_GENERATION, _SINCE, _TIMEOUTS, _COUNT = (struct.Struct(it) for it in (">i", ">q", ">ii", ">i"))


class MemberValue(msgspec.Struct, frozen=True):
    """A member of the generation."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    """Its metadata of the generation's protocol."""
    assignment: bytes


class GroupValue(msgspec.Struct, frozen=True):
    """The generation."""

    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    since_ms: int
    """Wall time since when the group is in its state, -1 where it is not known."""
    members: tuple[MemberValue, ...]


class GroupMetadata(msgspec.Struct, frozen=True):
    """The record of a group; without a value it takes the group away."""

    group_id: str
    value: GroupValue | None


def encode_key(record: GroupMetadata) -> bytes:
    """The record's key."""
    return int16(KEY_VERSION) + string(record.group_id)


def encode_value(value: GroupValue) -> bytes:
    """The record's value."""
    parts = [
        int16(VALUE_VERSION),
        string(value.protocol_type),
        _GENERATION.pack(value.generation),
        string(value.protocol),
        string(value.leader),
        _SINCE.pack(value.since_ms),
        _COUNT.pack(len(value.members)),
    ]
    for member in value.members:
        parts += (
            string(member.member_id),
            string(member.instance_id),
            string(member.client_id),
            string(member.client_host),
            _TIMEOUTS.pack(member.rebalance_timeout_ms, member.session_timeout_ms),
            sized(member.subscription),
            sized(member.assignment),
        )
    return b"".join(parts)


def decode_value(raw: bytes) -> GroupValue:
    """The value, of any version that Kafka has."""
    reader = Reader(raw)
    version = reader.int16()
    if not 0 <= version <= VALUE_VERSION_MAX:
        raise MalformedMessageError(
            f"a group has the version {version}, at most {VALUE_VERSION_MAX} is known"
        )
    reader.is_flexible = version >= VALUE_FLEXIBLE_FROM
    return GroupValue(
        protocol_type=reader.text(),
        generation=reader.int32(),
        protocol=reader.string(),
        leader=reader.string(),
        since_ms=reader.int64() if version >= 2 else NONE,
        members=tuple(_member(reader, version) for _ in range(reader.count())),
    )


def _member(reader: Reader, version: int) -> MemberValue:
    member_id = reader.text()
    instance_id = reader.string() if version >= 3 else None
    client_id, client_host = reader.text(), reader.text()
    rebalance_timeout_ms = reader.int32() if version >= 1 else NONE
    session_timeout_ms = reader.int32()
    member = MemberValue(
        member_id=member_id,
        instance_id=instance_id,
        client_id=client_id,
        client_host=client_host,
        rebalance_timeout_ms=session_timeout_ms if rebalance_timeout_ms == NONE else rebalance_timeout_ms,
        session_timeout_ms=session_timeout_ms,
        subscription=reader.bytes(),
        assignment=reader.bytes(),
    )
    reader.skip_tags()
    return member
