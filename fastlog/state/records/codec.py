"""Any record of `__consumer_offsets` to key and value, and back."""

from __future__ import annotations

from fastlog.state.records import consumer_group, group_metadata, offset_commit
from fastlog.state.records.consumer_group import ConsumerGroupRecord
from fastlog.state.records.group_metadata import GroupMetadata
from fastlog.state.records.offset_commit import OffsetCommit
from fastlog.state.records.primitives import Reader

Record = OffsetCommit | GroupMetadata | ConsumerGroupRecord


def encode(record: Record) -> tuple[bytes, bytes | None]:
    """Key and value; a value of None is a tombstone."""
    if isinstance(record, OffsetCommit):
        value = None if record.value is None else offset_commit.encode_value(record.value)
        return offset_commit.encode_key(record), value
    if isinstance(record, GroupMetadata):
        value = None if record.value is None else group_metadata.encode_value(record.value)
        return group_metadata.encode_key(record), value
    return consumer_group.encode(record)


def decode(key: bytes, value: bytes | None) -> Record | None:
    """The record; None for a kind that belongs to what is not known here, as a newer Kafka may write.

    Raises MalformedMessageError where it is one of ours and does not parse.
    """
    plain = None if value is None else offset_commit.decode_plain(key, value)
    return plain if plain is not None else decode_any(key, value)


def decode_any(key: bytes, value: bytes | None) -> Record | None:
    """As `decode`, of all kinds and versions alike."""
    reader = Reader(key)
    version = reader.int16()
    if version in (0, offset_commit.KEY_VERSION):
        group_id, topic, partition = offset_commit.decode_key(reader)
        committed = None if value is None else offset_commit.decode_value(value)
        return OffsetCommit(group_id, topic, partition, committed)
    if version == group_metadata.KEY_VERSION:
        group_id = reader.text()
        return GroupMetadata(group_id, None if value is None else group_metadata.decode_value(value))
    return consumer_group.decode(version, reader, value)
