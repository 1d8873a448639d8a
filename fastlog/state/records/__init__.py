"""The records of `__consumer_offsets`: what groups and offsets are rebuilt from."""

from fastlog.state.records.codec import Record, decode, encode
from fastlog.state.records.consumer_group import (
    ClassicMember,
    ConsumerGroupRecord,
    ConsumerMember,
    ConsumerMemberValue,
    Current,
    CurrentValue,
    GroupEpoch,
    GroupEpochValue,
    Regex,
    RegexValue,
    Target,
    TargetEpoch,
    TargetEpochValue,
)
from fastlog.state.records.group_metadata import GroupMetadata, GroupValue, MemberValue
from fastlog.state.records.offset_commit import CommittedOffset, OffsetCommit
from fastlog.state.records.partitions import Epochs, Partition

__all__ = [
    "ClassicMember",
    "CommittedOffset",
    "ConsumerGroupRecord",
    "ConsumerMember",
    "ConsumerMemberValue",
    "Current",
    "CurrentValue",
    "Epochs",
    "GroupEpoch",
    "GroupEpochValue",
    "GroupMetadata",
    "GroupValue",
    "MemberValue",
    "OffsetCommit",
    "Partition",
    "Record",
    "Regex",
    "RegexValue",
    "Target",
    "TargetEpoch",
    "TargetEpochValue",
    "decode",
    "encode",
]
