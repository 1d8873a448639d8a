"""The records of `__consumer_offsets`: what groups and offsets are rebuilt from."""

from fastlog.state.records.codec import decode, encode
from fastlog.state.records.group_metadata import GroupMetadata, GroupValue, MemberValue
from fastlog.state.records.offset_commit import CommittedOffset, OffsetCommit

__all__ = [
    "CommittedOffset",
    "GroupMetadata",
    "GroupValue",
    "MemberValue",
    "OffsetCommit",
    "Record",
    "decode",
    "encode",
]

Record = OffsetCommit | GroupMetadata
