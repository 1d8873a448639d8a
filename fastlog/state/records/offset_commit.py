"""A committed offset: OffsetCommitKey (version 1), OffsetCommitValue (written in version 3, in 1 with an expiry).

Source: group-coordinator/src/main/resources/common/message/OffsetCommit{Key,Value}.json of Apache Kafka.
"""

from __future__ import annotations

import struct

import msgspec

from fastlog.errors import MalformedMessageError
from fastlog.state.records.primitives import Reader, int16, string

KEY_VERSION = 1
VALUE_VERSION, VALUE_VERSION_WITH_EXPIRY, VALUE_VERSION_MAX, VALUE_FLEXIBLE_FROM = 3, 1, 4, 4
NONE = -1

_PARTITION, _HEAD, _HEAD_3, _TIMES = (
    struct.Struct(">i"),
    struct.Struct(">hq"),
    struct.Struct(">hqi"),
    struct.Struct(">q"),
)
_VERSION_AND_LENGTH, _LENGTH, _HEAD_3_AND_LENGTH = (struct.Struct(it) for it in (">hh", ">h", ">hqih"))


class CommittedOffset(msgspec.Struct, frozen=True, gc=False):
    """A position and what was written beside it."""

    offset: int
    """The next record to read."""
    leader_epoch: int
    """Of the record before it; -1 where the client told none."""
    metadata: str
    commit_ms: int
    """Wall time of the commit."""
    expire_ms: int = NONE
    """When it expires, whatever becomes of its group, if a client asked for that (OffsetCommit 2-4); else -1."""


class OffsetCommit(msgspec.Struct, frozen=True, gc=False):
    """The record of one partition's offset in one group; without a value it takes the offset away."""

    group_id: str
    topic: str
    partition: int
    value: CommittedOffset | None


def encode_key(record: OffsetCommit) -> bytes:
    """The record's key."""
    return (
        int16(KEY_VERSION)
        + string(record.group_id)
        + string(record.topic)
        + _PARTITION.pack(record.partition)
    )


def encode_value(value: CommittedOffset) -> bytes:
    """The record's value."""
    text = string(value.metadata)
    if value.expire_ms == NONE:
        head = _HEAD_3.pack(VALUE_VERSION, value.offset, value.leader_epoch)
        return head + text + _TIMES.pack(value.commit_ms)
    head = _HEAD.pack(VALUE_VERSION_WITH_EXPIRY, value.offset)
    return head + text + _TIMES.pack(value.commit_ms) + _TIMES.pack(value.expire_ms)


def decode_key(reader: Reader) -> tuple[str, str, int]:
    """Group, topic and partition of a key whose version was read."""
    return reader.text(), reader.text(), reader.int32()


def decode_value(raw: bytes) -> CommittedOffset:
    """The value, of any version that Kafka has."""
    reader = Reader(raw)
    version = reader.int16()
    if not 0 <= version <= VALUE_VERSION_MAX:
        raise MalformedMessageError(
            f"a committed offset has the version {version}, at most {VALUE_VERSION_MAX} is known"
        )
    reader.is_flexible = version >= VALUE_FLEXIBLE_FROM
    offset = reader.int64()
    leader_epoch = reader.int32() if version >= 3 else NONE
    metadata = reader.text()
    commit_ms = reader.int64()
    expire_ms = reader.int64() if version == VALUE_VERSION_WITH_EXPIRY else NONE
    return CommittedOffset(offset, leader_epoch, metadata, commit_ms, expire_ms)


def decode_plain(key: bytes, value: bytes) -> OffsetCommit | None:
    """The record, if it is one as `encode_key` and `encode_value` write it; None for all others, whole or broken.

    A start reads hundreds of thousands of these: a third of the time that a Reader takes.
    """
    try:
        key_version, group_length = _VERSION_AND_LENGTH.unpack_from(key)
        group_end = 4 + group_length
        (topic_length,) = _LENGTH.unpack_from(key, group_end)
        topic_end = group_end + 2 + topic_length
        version, offset, leader_epoch, text_length = _HEAD_3_AND_LENGTH.unpack_from(value)
        text_end = _HEAD_3_AND_LENGTH.size + text_length
        if (
            (key_version, version) != (KEY_VERSION, VALUE_VERSION)
            or min(group_length, topic_length, text_length) < 0
            or (topic_end + 4, text_end + 8) != (len(key), len(value))
        ):
            return None
        text = value[_HEAD_3_AND_LENGTH.size : text_end].decode() if text_length else ""
        (commit_ms,) = _TIMES.unpack_from(value, text_end)
        (partition,) = _PARTITION.unpack_from(key, topic_end)
        return OffsetCommit(
            key[4:group_end].decode(),
            key[group_end + 2 : topic_end].decode(),
            partition,
            CommittedOffset(offset, leader_epoch, text, commit_ms),
        )
    except (struct.error, UnicodeDecodeError):
        return None
