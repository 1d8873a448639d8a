"""A group of the consumer protocol (KIP-848), kept in records of six kinds.

| key | what it holds | of |
|---|---|---|
| 3 | the group epoch | group |
| 5 | what a member says of itself | member |
| 6 | the epoch of the target assignment | group |
| 7 | the target assignment | member |
| 8 | the epoch and the partitions that a member has | member |
| 16 | the topics that a regular expression matched | group and expression |

Key 4, the partition counts of topics, was written by Kafka before 4.1 and is passed over.

Source: group-coordinator/src/main/resources/common/message/ConsumerGroup*.json of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from fastlog.state.records.partitions import (
    Epochs,
    Partition,
    read_epochs,
    read_partitions,
    write_epochs,
    write_partitions,
)
from fastlog.state.records.primitives import (
    NO_TAGS,
    Reader,
    compact_array,
    compact_bytes,
    compact_string,
    int16,
    int32,
    int64,
    one_tag,
    string,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")
GROUP_EPOCH_KEY, MEMBER_KEY, TARGET_EPOCH_KEY, TARGET_KEY, CURRENT_KEY, REGEX_KEY = 3, 5, 6, 7, 8, 16
VERSION = int16(0)
METADATA_HASH_TAG = ASSIGNED_AT_TAG = CLASSIC_TAG = 0


class GroupEpochValue(msgspec.Struct, frozen=True):
    """The group epoch, and what of the topics it was found for."""

    epoch: int
    metadata_hash: int = 0


class ClassicMember(msgspec.Struct, frozen=True):
    """What a member says that speaks the classic protocol in a group of the consumer protocol."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]


class ConsumerMemberValue(msgspec.Struct, frozen=True):
    """What a member says of itself."""

    instance_id: str | None
    rack_id: str | None
    client_id: str
    client_host: str
    topics: tuple[str, ...]
    regex: str | None
    rebalance_timeout_ms: int
    assignor: str | None
    classic: ClassicMember | None = None


class TargetEpochValue(msgspec.Struct, frozen=True):
    """The epoch of the target assignment, and when it was made."""

    epoch: int
    assigned_ms: int = 0


class CurrentValue(msgspec.Struct, frozen=True):
    """Where a member is on its way to its target."""

    epoch: int
    previous_epoch: int
    state: int
    assigned: Epochs
    """With the epoch in which each was given to it, -1 where that is not known."""
    revoking: Epochs


class RegexValue(msgspec.Struct, frozen=True):
    """The topics that an expression matched."""

    topics: tuple[str, ...]
    version: int
    """Of the topics among which it was looked for."""
    wall_ms: int


class GroupEpoch(msgspec.Struct, frozen=True):
    """The record of a group; without a value there is none."""

    group_id: str
    value: GroupEpochValue | None


class ConsumerMember(msgspec.Struct, frozen=True):
    """The record of a member; without a value it is none."""

    group_id: str
    member_id: str
    value: ConsumerMemberValue | None


class TargetEpoch(msgspec.Struct, frozen=True):
    """The record of a target assignment's epoch."""

    group_id: str
    value: TargetEpochValue | None


class Target(msgspec.Struct, frozen=True):
    """The record of a member's target."""

    group_id: str
    member_id: str
    value: frozenset[Partition] | None


class Current(msgspec.Struct, frozen=True):
    """The record of what a member has."""

    group_id: str
    member_id: str
    value: CurrentValue | None


class Regex(msgspec.Struct, frozen=True):
    """The record of an expression."""

    group_id: str
    regex: str
    value: RegexValue | None


ConsumerGroupRecord = GroupEpoch | ConsumerMember | TargetEpoch | Target | Current | Regex


def encode(record: ConsumerGroupRecord) -> tuple[bytes, bytes | None]:
    """Key and value; a value of None is a tombstone."""
    match record:
        case GroupEpoch(group_id, value):
            return _key(GROUP_EPOCH_KEY, group_id), _written(_group_epoch, value)
        case ConsumerMember(group_id, member_id, value):
            return _key(MEMBER_KEY, group_id, member_id), _written(_member, value)
        case TargetEpoch(group_id, value):
            return _key(TARGET_EPOCH_KEY, group_id), _written(_target_epoch, value)
        case Target(group_id, member_id, value):
            return _key(TARGET_KEY, group_id, member_id), _written(_target, value)
        case Current(group_id, member_id, value):
            return _key(CURRENT_KEY, group_id, member_id), _written(_current, value)
        case Regex(group_id, regex, value):
            return _key(REGEX_KEY, group_id, regex), _written(_regex, value)


def decode(kind: int, key: Reader, value: bytes | None) -> ConsumerGroupRecord | None:
    """The record whose key begins with `kind`, which was read; None for a kind that is none of these."""
    if kind not in _KINDS:
        return None
    group_id = key.text()
    if kind == GROUP_EPOCH_KEY:
        return GroupEpoch(group_id, _read(_read_group_epoch, value))
    if kind == TARGET_EPOCH_KEY:
        return TargetEpoch(group_id, _read(_read_target_epoch, value))
    name = key.text()
    if kind == MEMBER_KEY:
        return ConsumerMember(group_id, name, _read(_read_member, value))
    if kind == TARGET_KEY:
        return Target(group_id, name, _read(_read_target, value))
    if kind == CURRENT_KEY:
        return Current(group_id, name, _read(_read_current, value))
    return Regex(group_id, name, _read(_read_regex, value))


_KINDS = {GROUP_EPOCH_KEY, MEMBER_KEY, TARGET_EPOCH_KEY, TARGET_KEY, CURRENT_KEY, REGEX_KEY}


def _key(kind: int, *names: str) -> bytes:
    return int16(kind) + b"".join(string(name) for name in names)


def _written(write: Callable[[Value], bytes], value: Value | None) -> bytes | None:
    return None if value is None else VERSION + write(value)


def _read(read: Callable[[Reader], Value], raw: bytes | None) -> Value | None:
    if raw is None:
        return None
    reader = Reader(raw)
    # new fields come as tags, so there are no other versions; one that is newer is read as far as it is known
    reader.int16()
    reader.is_flexible = True
    return read(reader)


def _group_epoch(value: GroupEpochValue) -> bytes:
    tags = one_tag(METADATA_HASH_TAG, int64(value.metadata_hash)) if value.metadata_hash else NO_TAGS
    return int32(value.epoch) + tags


def _read_group_epoch(reader: Reader) -> GroupEpochValue:
    epoch = reader.int32()
    tag = reader.tags().get(METADATA_HASH_TAG)
    return GroupEpochValue(epoch, 0 if tag is None else Reader(tag).int64())


def _target_epoch(value: TargetEpochValue) -> bytes:
    tags = one_tag(ASSIGNED_AT_TAG, int64(value.assigned_ms)) if value.assigned_ms else NO_TAGS
    return int32(value.epoch) + tags


def _read_target_epoch(reader: Reader) -> TargetEpochValue:
    epoch = reader.int32()
    tag = reader.tags().get(ASSIGNED_AT_TAG)
    return TargetEpochValue(epoch, 0 if tag is None else Reader(tag).int64())


def _member(value: ConsumerMemberValue) -> bytes:
    tags = NO_TAGS
    if value.classic is not None:
        protocols = [
            compact_string(name) + compact_bytes(metadata) + NO_TAGS
            for name, metadata in value.classic.protocols
        ]
        # a struct that may be null is preceded by a byte: 1 where it is there
        body = b"\1" + int32(value.classic.session_timeout_ms) + compact_array(protocols) + NO_TAGS
        tags = one_tag(CLASSIC_TAG, body)
    return b"".join(
        (
            compact_string(value.instance_id),
            compact_string(value.rack_id),
            compact_string(value.client_id),
            compact_string(value.client_host),
            compact_array([compact_string(topic) for topic in value.topics]),
            compact_string(value.regex),
            int32(value.rebalance_timeout_ms),
            compact_string(value.assignor),
            tags,
        )
    )


def _read_member(reader: Reader) -> ConsumerMemberValue:
    instance_id, rack_id = reader.string(), reader.string()
    client_id, client_host = reader.text(), reader.text()
    topics = tuple(reader.text() for _ in range(reader.count()))
    regex, timeout_ms, assignor = reader.string(), reader.int32(), reader.string()
    tag = reader.tags().get(CLASSIC_TAG)
    return ConsumerMemberValue(
        instance_id=instance_id,
        rack_id=rack_id,
        client_id=client_id,
        client_host=client_host,
        topics=topics,
        regex=regex,
        rebalance_timeout_ms=timeout_ms,
        assignor=assignor,
        classic=None if tag is None else _read_classic(tag),
    )


def _read_classic(tag: bytes) -> ClassicMember | None:
    reader = Reader(tag)
    reader.is_flexible = True
    if reader.int8() < 0:
        return None
    timeout_ms = reader.int32()
    protocols = []
    for _ in range(reader.count()):
        protocols.append((reader.text(), reader.bytes()))
        reader.skip_tags()
    return ClassicMember(timeout_ms, tuple(protocols))


def _target(value: frozenset[Partition]) -> bytes:
    return write_partitions(value) + NO_TAGS


def _read_target(reader: Reader) -> frozenset[Partition]:
    return frozenset(read_partitions(reader))


def _current(value: CurrentValue) -> bytes:
    return b"".join(
        (
            int32(value.epoch),
            int32(value.previous_epoch),
            bytes((value.state,)),
            write_epochs(value.assigned),
            write_epochs(value.revoking),
            NO_TAGS,
        )
    )


def _read_current(reader: Reader) -> CurrentValue:
    epoch, previous_epoch, state = reader.int32(), reader.int32(), reader.int8()
    return CurrentValue(epoch, previous_epoch, state, read_epochs(reader), read_epochs(reader))


def _regex(value: RegexValue) -> bytes:
    topics = compact_array([compact_string(topic) for topic in value.topics])
    return topics + int64(value.version) + int64(value.wall_ms) + NO_TAGS


def _read_regex(reader: Reader) -> RegexValue:
    topics = tuple(reader.text() for _ in range(reader.count()))
    return RegexValue(topics, reader.int64(), reader.int64())
