"""What this broker is to each partition of which it has a replica, and how the engine becomes that.

A broker leads only where the in-sync replicas name it with its present broker epoch: a state has no addressee, and may
mean a process of the same id before this one, or one after it. Until its own epoch is known, or the state is another,
it follows nobody there, in the epoch before: the engine changes a role only with the leader epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from uuid import UUID

import msgspec

from fastlog.errors import FencedLeaderEpochError
from fastlog.events import EventLog
from fastlog.ports import PartitionKey, PartitionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fastlog.broker.replicas.engine import ReplicaEngine
    from fastlog.config import TopicSettings

NOBODY = -1
#: topics whose end may be told before their beginning; notices are not late by more than this
STOPPED_MAX = 1_000
Duty = Literal["leads", "follows", "waits"]


class Role(msgspec.Struct, frozen=True):
    """What the engine was told."""

    duty: Duty
    leader: int
    """Whom it follows or is, -1 for nobody."""
    leader_epoch: int


class Replica(msgspec.Struct):
    """A partition of which this broker has a replica."""

    topic: str
    state: PartitionState
    """The newest that was told."""
    role: Role | None = None
    """None while the engine has taken on none."""
    said: bool = False
    """A failure was logged."""


class Steps(msgspec.Struct):
    """What came of new states, for those who lead and follow."""

    left: list[PartitionKey] = []
    """Not led or followed any more as they were."""
    led: list[PartitionKey] = []
    """Led from now on, in a new epoch."""
    told: list[PartitionKey] = []
    """Led as before, with a newer state."""
    followed: list[PartitionKey] = []
    """Followed from now on, in a new epoch."""
    away: dict[UUID, list[tuple[int, int]]] = {}
    """(partition, leader epoch) by topic id: not held here any more, and to be put away."""
    is_superseded: bool = False
    """A later registration of this broker leads something: nothing is led any more by the one that is known here."""


class Roles:
    """The replicas here, by partition. Of one thread; the engine's calls block on the disk."""

    def __init__(self, node_id: int, engine: ReplicaEngine) -> None:
        self._node_id = node_id
        self._engine = engine
        self._log = EventLog("replicas")
        self._held: dict[PartitionKey, Replica] = {}
        self._pending: set[PartitionKey] = set()
        #: topics that were put away, the last ones: what comes of them until their end was published is old
        self._stopped: dict[UUID, None] = {}
        self._broker_epoch: int | None = None
        self.failures = 0
        """How often the engine could not take on a role."""

    def get(self, key: PartitionKey) -> Replica | None:
        """The replica, None where there is none here."""
        return self._held.get(key)

    def topic(self, key: PartitionKey) -> str:
        """The topic's name of a replica that is here."""
        return self._held[key].topic

    def __len__(self) -> int:
        """Number of replicas here."""
        return len(self._held)

    @property
    def broker_epoch(self) -> int | None:
        """The one under which this broker is registered, as far as it knows."""
        return self._broker_epoch

    # --- what is told ---

    def take(self, states: Iterable[tuple[str, PartitionKey, PartitionState]]) -> Steps:
        """Notes what was published of partitions, by topic; `apply` carries it out."""
        steps = Steps()
        for topic, key, state in states:
            held = self._held.get(key)
            is_old = held is not None and state.version <= held.state.version
            if is_old or key.topic_id in self._stopped:
                continue
            if self._node_id not in state.replicas:
                if held is not None and state.leader_epoch > held.state.leader_epoch:
                    del self._held[key]
                    self._pending.discard(key)
                    steps.left.append(key)
                    steps.away.setdefault(key.topic_id, []).append((key.partition, state.leader_epoch))
                continue
            steps.is_superseded |= self._is_superseded(held, state)
            if held is None:
                self._held[key] = Replica(topic, state)
                self._pending.add(key)
                continue
            before, held.state = held.state, state
            self._changed(key, held, before, steps)
        return steps

    def took(self, key: PartitionKey, state: PartitionState) -> bool:
        """The controller answered with the state of a partition that is led; whether it is newer than what was told."""
        held = self._held.get(key)
        if (
            held is None
            or state.leader_epoch != held.state.leader_epoch
            or state.version <= held.state.version
        ):
            return False
        held.state = state
        return True

    def registered(self, broker_epoch: int) -> None:
        """This broker is registered under that epoch: states may name it already."""
        self._broker_epoch = broker_epoch
        self._pending.update(key for key, held in self._held.items() if held.state.leader == self._node_id)

    def resigned(self) -> list[PartitionKey]:
        """The registration is over, and the engine leads nothing any more; what was led."""
        self._broker_epoch = None
        led = []
        for key, held in self._held.items():
            if held.role is not None and held.role.duty == "leads":
                held.role = Role("waits", NOBODY, held.role.leader_epoch)
                led.append(key)
        return led

    def stop(self, topic_id: UUID) -> list[PartitionKey]:
        """A topic's replicas are to be put away: nothing is made of its states any more; what was here."""
        # also where nothing was here: the notice of its beginning may be on its way, by another connection
        self._stopped[topic_id] = None
        if len(self._stopped) > STOPPED_MAX:
            del self._stopped[next(iter(self._stopped))]
        return self._drop(topic_id)

    def gone(self, topic_id: UUID) -> list[PartitionKey]:
        """A topic is not there any more; its logs stay until they are to be put away. What was here."""
        self._stopped.pop(topic_id, None)
        return self._drop(topic_id)

    def _drop(self, topic_id: UUID) -> list[PartitionKey]:
        dropped = [key for key in self._held if key.topic_id == topic_id]
        for key in dropped:
            del self._held[key]
        self._pending.difference_update(dropped)
        return dropped

    # --- what the engine is told ---

    @property
    def is_pending(self) -> bool:
        """Whether `apply` has something to do."""
        return bool(self._pending)

    def apply(self, settings_of: Callable[[str], TopicSettings], steps: Steps) -> None:
        """Makes the engine what the states say, those to be led first; what fails is left for the next time."""
        wanted: list[tuple[PartitionKey, Replica, Role]] = []
        for key in sorted(self._pending):
            held = self._held[key]
            role = self._target(held.state)
            if role is None or not _is_news(held.role, role):
                self._pending.discard(key)
            else:
                wanted.append((key, held, role))
        wanted.sort(key=lambda it: it[2].duty != "leads")
        if not wanted:
            return
        settings = {topic: settings_of(topic) for topic in {held.topic for _, held, _ in wanted}}
        changes = [_change(key, held, role) for key, held, role in wanted]
        results = self._engine.apply_partitions(changes, settings)
        for (key, held, role), (code, reason) in zip(wanted, results, strict=True):
            self._applied(key, held, role, code, reason, steps)

    def tell_replicas(self, key: PartitionKey, settings_of: Callable[[str], TopicSettings]) -> None:
        """Tells the engine of other replicas of a partition that is led in the epoch that it knows."""
        held = self._held[key]
        if held.role is not None:
            change = _change(key, held, held.role)
            self._engine.apply_partitions([change], {held.topic: settings_of(held.topic)})

    def _changed(self, key: PartitionKey, held: Replica, before: PartitionState, steps: Steps) -> None:
        state = held.state
        if state.leader_epoch == before.leader_epoch and held.role is not None and held.role.duty == "leads":
            steps.told.append(key)
        elif state.leader_epoch != before.leader_epoch or state.leader == self._node_id:
            steps.left.append(key)
            self._pending.add(key)

    def _applied(
        self, key: PartitionKey, held: Replica, role: Role, code: int, reason: str, steps: Steps
    ) -> None:
        if code == FencedLeaderEpochError.code and role.duty == "waits":
            # nobody is followed here in a later epoch already
            code = 0
        if code:
            self.failures += 1
            if not held.said:
                held.said = True
                self._log.error(
                    "a replica did not become what it should be, it is tried again",
                    topic=held.topic,
                    partition=key.partition,
                    code=code,
                    reason=reason,
                )
            return
        self._pending.discard(key)
        held.role, held.said = role, False
        if role.duty == "leads":
            steps.led.append(key)
        elif role.duty == "follows":
            steps.followed.append(key)

    # --- decisions ---

    def _target(self, state: PartitionState) -> Role | None:
        """What a state makes of this broker; None for nothing that the engine could be told."""
        if state.leader not in (NOBODY, self._node_id):
            return Role("follows", state.leader, state.leader_epoch)
        if state.leader == NOBODY:
            return Role("waits", NOBODY, state.leader_epoch)
        if self._broker_epoch is not None and self._epoch_named(state) == self._broker_epoch:
            return Role("leads", self._node_id, state.leader_epoch)
        return Role("waits", NOBODY, state.leader_epoch - 1) if state.leader_epoch > 0 else None

    def _is_superseded(self, held: Replica | None, state: PartitionState) -> bool:
        if self._broker_epoch is None or state.leader != self._node_id:
            return False
        named = self._epoch_named(state)
        leads = held is not None and held.role is not None and held.role.duty == "leads"
        # what is led and named with another epoch is not this registration's either
        return named > self._broker_epoch or (leads and named != self._broker_epoch)

    def _epoch_named(self, state: PartitionState) -> int:
        """The broker epoch with which this broker is in sync, -1 where it is not."""
        members = dict(zip(state.isr, state.isr_epochs, strict=False))
        return members.get(self._node_id, -1)


def _is_news(known: Role | None, role: Role) -> bool:
    if known is None:
        return True
    if role.duty == "waits" and known.duty != "leads" and known.leader_epoch >= role.leader_epoch:
        # it follows nobody there already, or somebody of an epoch that is over, which nobody fetches any more
        return False
    return role != known


def _change(
    key: PartitionKey, held: Replica, role: Role
) -> tuple[str, bytes, int, int, int, int, Sequence[int], Sequence[int], bool]:
    state = held.state
    return (
        held.topic,
        key.topic_id.bytes,
        key.partition,
        role.leader,
        role.leader_epoch,
        state.version,
        state.replicas,
        state.isr,
        # while somebody is eligible the high watermark stands still, from the first moment of the leadership
        bool(state.elr),
    )
