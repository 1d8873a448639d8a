"""Members that leave, and members that are not heard of any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state import records as kinds
from fastlog.state.consumer_group.step import remove_records
from fastlog.state.consumer_group.subscription import metadata_hash, topics_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.records import Record
    from fastlog.state.topics import Topics


def leave_records(group: ConsumerGroup, member_ids: Collection[str], topics: Topics) -> list[Record]:
    """The records of a group without these members: the next heartbeat of another makes the new target."""
    records: list[Record] = []
    for member_id in member_ids:
        records += remove_records(group.group_id, member_id)
    left = [it.said for key, it in group.members.items() if key not in member_ids]
    wanted = {said.regex for said in left}
    regexes = {regex: value for regex, value in group.regexes.items() if regex in wanted}
    records += [kinds.Regex(group.group_id, it, None) for it in group.regexes if it not in regexes]
    names = {name for said in left for name in topics_of(said, regexes)}
    value = kinds.GroupEpochValue(group.epoch + 1, metadata_hash(names, topics))
    return [*records, kinds.GroupEpoch(group.group_id, value)]
