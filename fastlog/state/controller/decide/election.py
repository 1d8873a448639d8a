"""Who leads a partition and who is in sync, after something about its brokers changed.

Kafka's PartitionChangeBuilder, with what ZooKeeper mode lacked: broker epochs in the ISR (KIP-903) and eligible leader
replicas (KIP-966). Every state that is ever written went through `settle` or `elect_by_log`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastlog.ports import PartitionState
    from fastlog.state.controller.settings import TopicFacts

NO_LEADER = -1
Member = tuple[int, int]


class View(Protocol):
    """What a decision asks of the brokers."""

    def is_registered(self, broker: int, epoch: int) -> bool:
        """Whether the broker is registered, and with this broker epoch."""
        ...

    def is_leaving(self, broker: int) -> bool:
        """Whether it is shutting down, or its peers take it for dead: it is to lead nothing that another can."""
        ...

    def may_lead(self, broker: int) -> bool:
        """Whether a replica there that was not in sync could be elected: registered, accepted and not leaving."""
        ...

    def has_lost(self, broker: int, epoch: int | None) -> bool:
        """Whether it has started uncleanly since it was in sync with that broker epoch.

        Without an epoch, of a replica that is only eligible: whether that has not been taken away everywhere yet.
        """
        ...

    def epoch_of(self, broker: int) -> int:
        """The broker epoch of a registered broker."""
        ...


class Candidates(View, Protocol):
    """What a request about a partition asks of the brokers besides."""

    def may_join(self, broker: int, epoch: int) -> bool:
        """Whether a leader may take a replica with this broker epoch into the ISR (KIP-841, KIP-903)."""
        ...

    def ids(self) -> list[int]:
        """The registered brokers."""
        ...


def members_of(state: PartitionState) -> tuple[Member, ...]:
    """The in-sync replicas with their broker epochs; -1 where the state does not say which."""
    isr, epochs = state.isr, state.isr_epochs
    if len(epochs) != len(isr):
        epochs = (-1,) * len(isr)
    return tuple(zip(isr, epochs, strict=True))


def in_sync(members: Iterable[Member], view: View) -> tuple[Member, ...]:
    """The members that still are the process that was admitted, without those that leave if anybody else remains.

    A broker that went and came back between two looks is another process: gone first, and then new (KAFKA-7235).
    """
    here = [it for it in members if view.is_registered(*it)]
    staying = [it for it in here if not view.is_leaving(it[0])]
    return tuple(staying or here)


def eligible(
    before: PartitionState, isr: Sequence[int], replicas: Sequence[int], view: View
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Who has all that was committed though not in sync, and who would if it had started cleanly.

    A member that leaves while the others are fewer than min.insync.replicas: the high watermark stands still then, so
    its log holds everything below it.
    """
    pool = {*before.elr, *before.isr}.difference(isr)
    epochs = dict(members_of(before))
    lost = {it for it in pool if view.has_lost(it, epochs.get(it))}
    sure = pool - lost
    doubtful = lost.union(before.last_known_elr).difference(isr, sure)
    return _in_order(sure, replicas), _in_order(doubtful, replicas)


def choose(
    members: Sequence[Member], elr: Sequence[int], before: PartitionState, replicas: Sequence[int], view: View
) -> int:
    """The leader: the present one while it can, else the first in the order of assignment, of the ISR or the ELR."""
    ids = {it[0] for it in members}
    if (before.leader, _epoch_in(before, before.leader)) in members:
        return before.leader
    if ids:
        return next(it for it in replicas if it in ids)
    return next((it for it in replicas if it in elr and view.may_lead(it)), NO_LEADER)


def choose_unclean(target: PartitionState, view: View) -> int:
    """Whoever lives, where the topic prefers any log to none; one that is only being added if there is no other."""
    order = sorted(target.replicas, key=lambda it: it in target.adding)
    return next((it for it in order if view.may_lead(it)), NO_LEADER)


def settle(
    before: PartitionState, view: View, facts: TopicFacts, target: PartitionState | None = None
) -> PartitionState:
    """The state that `before` must become, by way of `target` where somebody asked for a change; equal for none.

    `target` is `before` with other members, replicas or another leader. `version` stays that of `before`.
    """
    if target is None:
        if stands(before, view):
            return before
        target = before
    members = in_sync([it for it in members_of(target) if it[0] in target.replicas], view)
    target, members = complete(target, members)
    replicas = target.replicas
    elr, doubtful = eligible(before, [it[0] for it in members], replicas, view)
    recovering = target.recovering
    leader = target.leader
    if leader == before.leader or leader not in {it[0] for it in members}:
        leader = choose(members, elr, before, replicas, view)
    if not members and leader == NO_LEADER and facts.unclean:
        leader = choose_unclean(target, view)
        if leader != NO_LEADER:
            elr, doubtful, recovering = (), (), True
    if leader != NO_LEADER and not members:
        # from outside the ISR: it is the ISR now, in the same write (invariant I4)
        target, members = complete(target, ((leader, view.epoch_of(leader)),))
        replicas = target.replicas
        elr = tuple(it for it in elr if it != leader)
    if leader != NO_LEADER and len(members) >= min(facts.min_isr, len(replicas)):
        elr, doubtful = (), ()
    settled = msgspec.structs.replace(
        target,
        leader=leader,
        isr=tuple(it[0] for it in members),
        isr_epochs=tuple(it[1] for it in members),
        elr=elr,
        last_known_elr=doubtful,
        recovering=recovering,
        version=before.version,
    )
    return with_leader_epoch(before, settled)


def stands(state: PartitionState, view: View) -> bool:
    """Whether it is plain that nothing has to change; that is most partitions, and `settle` takes ten times as long."""
    if state.adding or state.removing or state.elr or state.last_known_elr or state.leader not in state.isr:
        return False
    return all(view.is_registered(*it) and not view.is_leaving(it[0]) for it in members_of(state))


def elect_by_log(before: PartitionState, leader: int, view: View) -> PartitionState:
    """`leader` has the best log of all that are left; what it lacks is lost."""
    target, _ = complete(before, ((leader, view.epoch_of(leader)),))
    elected = msgspec.structs.replace(
        target,
        leader=leader,
        isr=(leader,),
        isr_epochs=(view.epoch_of(leader),),
        elr=(),
        last_known_elr=(),
        recovering=True,
    )
    return with_leader_epoch(before, elected)


def with_leader_epoch(before: PartitionState, after: PartitionState) -> PartitionState:
    """`after` with the leader epoch it must have.

    It grows with every change of the leader, also to none or to a new process of the same broker, and where a replica
    was taken away: its removal is told with the epoch, so an old message cannot hit a replica made later (KIP-570).
    """
    moved = after.leader != before.leader
    restarted = _epoch_in(before, before.leader) != _epoch_in(after, after.leader)
    removed = not set(before.replicas) <= set(after.replicas)
    grows = int(moved or restarted or removed)
    return msgspec.structs.replace(after, leader_epoch=before.leader_epoch + grows)


def changes_leader(before: PartitionState, after: PartitionState) -> bool:
    """Whether a write moves leadership; such writes go out first."""
    return after.leader_epoch != before.leader_epoch


def complete(
    target: PartitionState, members: tuple[Member, ...]
) -> tuple[PartitionState, tuple[Member, ...]]:
    """Ends a reassignment once all that are to stay are in sync: the others go (Kafka's maybeCompleteReassignment)."""
    if not (target.adding or target.removing):
        return target, members
    kept = tuple(it for it in target.replicas if it not in target.removing)
    if not kept or not set(kept) <= {it[0] for it in members}:
        return target, members
    done = msgspec.structs.replace(target, replicas=kept, adding=(), removing=())
    return done, tuple(it for it in members if it[0] in kept)


def _epoch_in(state: PartitionState, broker: int) -> int:
    return next((epoch for member, epoch in members_of(state) if member == broker), -1)


def _in_order(brokers: set[int], replicas: Sequence[int]) -> tuple[int, ...]:
    if not brokers:
        return ()
    return tuple(it for it in replicas if it in brokers)
