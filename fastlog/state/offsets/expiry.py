"""Which offsets are too old. KIP-211.

A group with members keeps the offsets of what they read. Counted is the time since the group became empty; for the
topics that a stable consumer group does not read any more, and for offsets without a group, the time since the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.group.group import CONSUMER, Group, GroupState
from fastlog.state.records import CommittedOffset, GroupMetadata, OffsetCommit, Record

if TYPE_CHECKING:
    from fastlog.state.offsets.table import OffsetTable


def expire(table: OffsetTable, group: Group, retention_ms: int, wall_ms: int) -> list[Record]:
    """The tombstones of what is too old, and of the group itself where nothing is left of it."""
    committed = table.of_group(group.group_id)
    records: list[Record] = []
    kept = 0
    if committed and not _may_expire(group):
        return []
    for topic, partitions in committed.items():
        for partition, value in partitions.items():
            if not group.subscribes_to(topic) and _is_over(group, value, retention_ms, wall_ms):
                records.append(OffsetCommit(group.group_id, topic, partition, None))
            else:
                kept += 1
    if not kept and group.state is GroupState.EMPTY and not group.pending_joins:
        records.append(GroupMetadata(group.group_id, None))
    return records


def _may_expire(group: Group) -> bool:
    if group.protocol_type is None or group.state is GroupState.EMPTY:
        return True
    return group.protocol_type == CONSUMER and group.topics is not None and group.state is GroupState.STABLE


def _is_over(group: Group, value: CommittedOffset, retention_ms: int, wall_ms: int) -> bool:
    if value.expire_ms >= 0:
        return wall_ms >= value.expire_ms
    since_ms = value.commit_ms
    if group.protocol_type is not None and group.state is GroupState.EMPTY and group.since_ms >= 0:
        since_ms = group.since_ms
    return wall_ms - since_ms >= retention_ms
