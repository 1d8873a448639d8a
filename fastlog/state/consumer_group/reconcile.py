"""The next step of a member on its way to its target. Kafka's CurrentAssignmentBuilder.

First it lets go of what it is not to have any more, in its old epoch; then it is given, in the epoch of the target,
what nobody else has; the rest follows as others let go of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.consumer_group.member import ConsumerMember, MemberState
from fastlog.state.records import CurrentValue

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.records import Partition


def reconcile(
    group: ConsumerGroup,
    member: ConsumerMember,
    target_epoch: int,
    target: frozenset[Partition],
    owned: Collection[Partition] | None,
) -> CurrentValue:
    """What the member has next, which may be what it has now. `owned` is what it says to have; None is nothing said."""
    if member.is_reconciled_to(target_epoch):
        return member.current
    epoch = member.epoch
    if member.current.state == MemberState.UNREVOKED_PARTITIONS:
        if _still_has(member.current.revoking, owned):
            return member.current
        epoch += 1
    return _next(group, member, epoch, target_epoch, target, owned)


def _next(
    group: ConsumerGroup,
    member: ConsumerMember,
    epoch: int,
    target_epoch: int,
    target: frozenset[Partition],
    owned: Collection[Partition] | None,
) -> CurrentValue:
    before = member.current
    kept = {partition: since for partition, since in before.assigned.items() if partition in target}
    revoking = {partition: since for partition, since in before.assigned.items() if partition not in target}
    if revoking and _still_has(revoking, owned):
        return CurrentValue(epoch, member.epoch, MemberState.UNREVOKED_PARTITIONS, kept, revoking)
    wanted = target - kept.keys()
    # what it lets go of with this very step is still noted as its own
    free = {it for it in wanted if group.owners.get(it, member.member_id) == member.member_id}
    state = MemberState.STABLE if free == wanted else MemberState.UNRELEASED_PARTITIONS
    current = CurrentValue(
        target_epoch, member.epoch, state, kept | dict.fromkeys(sorted(free), target_epoch), {}
    )
    if (current.epoch, current.state) == (before.epoch, before.state) and current.assigned == before.assigned:
        return before  # it still waits: the epoch before it is not forgotten
    return current


def _still_has(revoking: Collection[Partition], owned: Collection[Partition] | None) -> bool:
    return owned is None or not set(owned).isdisjoint(revoking)


def waits_for_others(group: ConsumerGroup, member: ConsumerMember) -> bool:
    """Whether someone has what the member is to have."""
    wanted = group.target_of(member.member_id) - member.current.assigned.keys()
    return any(group.owners.get(partition, member.member_id) != member.member_id for partition in wanted)
