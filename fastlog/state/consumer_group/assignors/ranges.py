"""Each topic by itself in ranges, so that topics with as many partitions go together. Kafka's RangeAssignor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastlog.state.consumer_group.assignors.spec import Counts, Members, MemberSpec, Targets


def assign_ranges(members: Members, counts: Counts) -> Targets:
    """Static members first, by instance id, then the others by member id; the first ones get one more."""
    order = sorted(members.items(), key=_place)
    found: dict[str, set[tuple[bytes, int]]] = {member_id: set() for member_id in members}
    for topic_id, count in counts.items():
        takers = [member_id for member_id, spec in order if topic_id in spec.topic_ids]
        if not takers:
            continue
        low, extra = divmod(count, len(takers))
        start = 0
        for index, member_id in enumerate(takers):
            end = start + low + (index < extra)
            found[member_id].update((topic_id, number) for number in range(start, end))
            start = end
    return {member_id: frozenset(partitions) for member_id, partitions in found.items()}


def _place(item: tuple[str, MemberSpec]) -> tuple[bool, str]:
    member_id, spec = item
    return spec.instance_id is None, spec.instance_id or member_id
