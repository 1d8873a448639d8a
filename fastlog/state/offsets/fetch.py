"""OffsetFetch: what a group has committed.

Nothing committed is offset -1 without an error. `require_stable` changes nothing as long as there are no transactions:
no commit is pending.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.protocol.messages.offset_fetch import (
    OffsetFetchRequestGroup,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)

if TYPE_CHECKING:
    from fastlog.state.offsets.table import OffsetTable
    from fastlog.state.records import CommittedOffset

NOTHING = -1


def fetch(table: OffsetTable, request: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup:
    """The offsets asked for, or all of the group where no topics are named."""
    committed = table.of_group(request.group_id)
    if request.topics is None:
        wanted = [(topic, list(partitions)) for topic, partitions in committed.items()]
    else:
        wanted = [(topic.name, topic.partition_indexes) for topic in request.topics]
    return OffsetFetchResponseGroup(
        group_id=request.group_id,
        topics=[
            OffsetFetchResponseTopics(
                name=name,
                partitions=[_partition(index, committed.get(name, {}).get(index)) for index in indexes],
            )
            for name, indexes in wanted
        ],
    )


def _partition(index: int, value: CommittedOffset | None) -> OffsetFetchResponsePartitions:
    if value is None:
        return OffsetFetchResponsePartitions(index, NOTHING, -1, "")
    return OffsetFetchResponsePartitions(index, value.offset, value.leader_epoch, value.metadata)
