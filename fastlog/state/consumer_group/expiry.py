"""Which offsets of a group of the consumer protocol are too old: as KIP-211, counted from the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.consumer_group.step import end_records
from fastlog.state.records import OffsetCommit

if TYPE_CHECKING:
    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.offsets.table import OffsetTable
    from fastlog.state.records import Record


def expire_consumer_group(
    table: OffsetTable, group: ConsumerGroup, retention_ms: int, wall_ms: int
) -> list[Record]:
    """The tombstones of what is too old, and of the group itself where nothing is left of it."""
    records: list[Record] = []
    kept = 0
    for topic, partitions in table.of_group(group.group_id).items():
        is_read = group.subscribes_to(topic)
        for partition, value in partitions.items():
            over_ms = value.expire_ms if value.expire_ms >= 0 else value.commit_ms + retention_ms
            if not is_read and wall_ms >= over_ms:
                records.append(OffsetCommit(group.group_id, topic, partition, None))
            else:
                kept += 1
    if not kept and not group.members:
        records += end_records(group)
    return records
