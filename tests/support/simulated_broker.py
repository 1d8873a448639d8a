"""A broker as its controller sees it: replicas with real logs, a leader's idea of its ISR, and what it last heard.

Replication is as simple as can be (a fetch makes the follower a prefix of its leader), so what is lost was lost by a
decision of the controller.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from fastlog.ports import PartitionKey, PartitionState, Registration
from fastlog.state.controller.events import Proposed
from fastlog.state.controller.settings import TopicFacts

if TYPE_CHECKING:
    from fastlog.state.controller.effects import Item

Record = tuple[int, int]
INELIGIBLE_REPLICA = 107


class Leading(msgspec.Struct):
    """What a leader knows of its followers in one leader epoch."""

    start: int
    """Its log end offset when it became leader."""
    fetched: dict[int, int] = {}
    broker_epochs: dict[int, int] = {}
    acknowledged: int = 0
    """How far it has told its producers."""
    proposed: tuple[int, ...] = ()
    """On its way to the controller; counted with the ISR until the answer."""
    asked: object = None
    """The newest controller that it was sent to."""


class SimulatedBroker:
    """Disk and process; a process that lost its session goes on until it hears better."""

    def __init__(self, broker_id: int) -> None:
        self.broker_id = broker_id
        self.is_running = False
        self.broker_epoch = 0
        # nothing acknowledged can be missing, or a controller knows better than to count on it
        self.is_sure = True
        self.logs: dict[PartitionKey, list[Record]] = {}
        self.views: dict[PartitionKey, PartitionState] = {}
        self.leading: dict[PartitionKey, Leading] = {}
        self.facts: dict[object, TopicFacts] = {}
        self.inbox: deque[tuple[list[tuple[PartitionKey, PartitionState]], tuple[Registration, ...]]] = (
            deque()
        )

    def start(self, broker_epoch: int) -> None:
        """A process, or a new session of one: a follower of everything until it hears what it leads."""
        self.is_running = True
        self.broker_epoch = broker_epoch
        self.views.clear()
        self.leading.clear()
        self.inbox.clear()

    def log(self, key: PartitionKey) -> list[Record]:
        return self.logs.setdefault(key, [])

    def hear_delta(self) -> None:
        """The next of what was published."""
        rows, registrations = self.inbox.popleft()
        self.is_sure |= any(it.broker_epoch == self.broker_epoch for it in registrations)
        for key, state in rows:
            self.hear(key, state)

    def hear(self, key: PartitionKey, state: PartitionState) -> None:
        """A state that was published, or the answer to a proposal; older ones are passed over."""
        known = self.views.get(key)
        if known is not None and (state.leader_epoch, state.version) <= (known.leader_epoch, known.version):
            return
        self.views[key] = state
        leads = state.leader == self.broker_id and self.broker_epoch in state.isr_epochs
        if not leads:
            self.leading.pop(key, None)
        elif known is None or state.leader_epoch > known.leader_epoch:
            self.leading[key] = Leading(len(self.log(key)))
        else:
            # a later partition epoch settles what was on its way
            self.leading[key].proposed = ()

    def fetch(self, key: PartitionKey, leader: SimulatedBroker, length: int) -> None:
        """Takes what the leader has up to `length`, where both speak of the same leader epoch."""
        leading, view, of_leader = leader.leading.get(key), self.views.get(key), leader.views.get(key)
        if leading is None or view is None or of_leader is None or self is leader:
            return
        if view.leader != leader.broker_id or view.leader_epoch != of_leader.leader_epoch:
            return
        mine, theirs = self.log(key), leader.log(key)
        common = 0
        while common < min(len(mine), len(theirs)) and mine[common] == theirs[common]:
            common += 1
        self.logs[key] = theirs[: max(common, length)]
        leading.fetched[self.broker_id] = len(self.logs[key])
        leading.broker_epochs[self.broker_id] = self.broker_epoch

    def is_alone(self, key: PartitionKey) -> bool:
        """Whether a leader has nobody whose fetches tell it that it still is one."""
        return {*self.views[key].isr, *self.leading[key].proposed} <= {self.broker_id}

    def high_watermark(self, key: PartitionKey) -> int:
        """How far all of the maximal ISR is; 0 where it stands still."""
        leading, view = self.leading[key], self.views[key]
        facts = self.facts.get(key.topic_id, TopicFacts())
        # eligible replicas are only eligible while the high watermark stands still, whatever settings were heard of
        if len(view.isr) < min(facts.min_isr, len(view.replicas)) or view.elr:
            return 0
        epochs = dict(zip(view.isr, view.isr_epochs, strict=True))
        positions = [len(self.log(key))]
        for member in {*view.isr, *leading.proposed} - {self.broker_id}:
            same = leading.broker_epochs.get(member) == epochs.get(member, leading.broker_epochs.get(member))
            positions.append(leading.fetched.get(member, 0) if same else 0)
        return min(positions)

    def proposal(self, key: PartitionKey, isr: tuple[int, ...], controller: object) -> Proposed:
        """Asks for `isr`, with the broker epochs of those that fetched, else those of the ISR."""
        view, leading = self.views[key], self.leading[key]
        leading.proposed, leading.asked = isr, controller
        epochs = dict(zip(view.isr, view.isr_epochs, strict=True)) | leading.broker_epochs
        epochs[self.broker_id] = self.broker_epoch
        return Proposed(key, view.leader_epoch, view.version, isr, tuple(epochs.get(it, -1) for it in isr))

    def answered(self, item: Item, controller: object) -> None:
        """A controller's word on a proposal."""
        leading = self.leading.get(item.key)
        if item.state is not None:
            self.hear(item.key, item.state)
        # one that has a successor, which was asked since, does not know what became of it
        elif leading is not None and item.code == INELIGIBLE_REPLICA and controller is leading.asked:
            leading.proposed = ()

    def end(self, key: PartitionKey) -> tuple[int, int]:
        """Last epoch and log end offset."""
        log = self.log(key)
        return (log[-1][0] if log else -1, len(log))
