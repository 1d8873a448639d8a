"""A coordinator in a few lines, members over a network that delays and loses, and applications that come and go."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastlog.client.backoff import Backoff
from fastlog.client.group.effects import (
    Adopt,
    Effect,
    Fail,
    FindCoordinator,
    LoseCoordinator,
    Release,
    Send,
    Watch,
)
from fastlog.client.group.membership import GroupSettings, Membership
from fastlog.protocol.messages.heartbeat import HeartbeatResponse
from fastlog.protocol.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from fastlog.protocol.messages.leave_group import LeaveGroupResponse
from fastlog.protocol.messages.sync_group import SyncGroupResponse
from fastlog.state.assignors import ASSIGNORS, Partition

SESSION_MS, HEARTBEAT_MS, POLL_MS, BACKOFF_MS = 1_000, 200, 2_000, 50
DELAY_MS = 40
Answer = Callable[[Any], None]


@dataclass
class Known:
    """A member as the coordinator has it."""

    protocols: list[Any]
    heard_ms: float
    join: Answer | None = None
    sync: Answer | None = None


class Coordinator:
    """Kafka's rules for one group: who is in, which generation, who waits."""

    def __init__(self) -> None:
        self.members: dict[str, Known] = {}
        self.generation = 0
        self.state = "Empty"
        self.assignments: dict[str, bytes] = {}
        self.deadline_ms = 0.0
        self._ids = itertools.count()

    def handle(self, request: Any, now_ms: float, answer: Answer) -> None:
        """Takes a request; `answer` is called now or later."""
        name = type(request).__name__
        if name == "JoinGroupRequest":
            self.join(request, now_ms, answer)
        elif name == "SyncGroupRequest":
            self.sync(request, now_ms, answer)
        elif name == "HeartbeatRequest":
            answer(HeartbeatResponse(error_code=self.heartbeat(request, now_ms)))
        else:
            self.remove(request.member_id, now_ms)
            answer(LeaveGroupResponse())

    def join(self, request: Any, now_ms: float, answer: Answer) -> None:
        if not request.member_id:
            answer(JoinGroupResponse(error_code=79, member_id=f"m{next(self._ids)}"))
            return
        known = self.members.setdefault(request.member_id, Known([], now_ms))
        known.protocols, known.heard_ms, known.join = request.protocols, now_ms, answer
        self.rebalance(now_ms)
        self.complete_join(now_ms)

    def rebalance(self, now_ms: float) -> None:
        """Begins a generation, unless one is begun."""
        if self.state != "Preparing":
            self.state, self.deadline_ms = "Preparing", now_ms + POLL_MS
            for known in self.members.values():
                if known.sync is not None:
                    known.sync(SyncGroupResponse(error_code=27))
                    known.sync = None

    def complete_join(self, now_ms: float) -> None:
        """All are there, or those that are not have had their time."""
        if self.state != "Preparing":
            return
        absent = [name for name, known in self.members.items() if known.join is None]
        if absent and now_ms < self.deadline_ms:
            return
        for name in absent:
            del self.members[name]
        self.generation += 1
        self.assignments = {}
        self.state = "Completing" if self.members else "Empty"
        if not self.members:
            return
        leader = next(iter(self.members))
        listed = [
            JoinGroupResponseMember(member_id=name, metadata=known.protocols[0].metadata)
            for name, known in self.members.items()
        ]
        for name, known in self.members.items():
            answer, known.join, known.heard_ms = known.join, None, now_ms
            assert answer is not None
            answer(
                JoinGroupResponse(
                    generation_id=self.generation,
                    protocol_type="consumer",
                    protocol_name=known.protocols[0].name,
                    leader=leader,
                    member_id=name,
                    members=listed if name == leader else [],
                )
            )

    def sync(self, request: Any, now_ms: float, answer: Answer) -> None:
        known = self.members.get(request.member_id)
        if known is None:
            answer(SyncGroupResponse(error_code=25))
        elif request.generation_id != self.generation:
            answer(SyncGroupResponse(error_code=22))
        elif self.state == "Preparing":
            answer(SyncGroupResponse(error_code=27))
        else:
            known.heard_ms, known.sync = now_ms, answer
            if request.assignments:
                self.assignments = {one.member_id: one.assignment for one in request.assignments}
                self.state = "Stable"
            if self.state == "Stable":
                for name, one in self.members.items():
                    if one.sync is not None:
                        one.sync(SyncGroupResponse(assignment=self.assignments.get(name, b"")))
                        one.sync = None

    def heartbeat(self, request: Any, now_ms: float) -> int:
        known = self.members.get(request.member_id)
        if known is None:
            return 25
        if request.generation_id != self.generation:
            return 22
        known.heard_ms = now_ms
        return 27 if self.state == "Preparing" else 0

    def remove(self, name: str, now_ms: float) -> None:
        """A member leaves, or is dead."""
        if self.members.pop(name, None) is not None:
            self.rebalance(now_ms)
            self.complete_join(now_ms)

    def tick(self, now_ms: float) -> None:
        """Time passes."""
        for name, known in list(self.members.items()):
            waits = known.join is not None or known.sync is not None
            if not waits and now_ms - known.heard_ms >= SESSION_MS:
                self.remove(name, now_ms)
        self.complete_join(now_ms)


@dataclass
class Node:
    """One application with its membership and its way to the coordinator."""

    world: World
    strategy: str
    held: frozenset[Partition] = frozenset()
    duty: Release | Adopt | None = None
    next_poll_ms: float = 0.0
    alive: bool = True
    #: raised with each lost connection: what was under way comes to nothing
    connection: int = 0
    #: what it was told, in order
    told: list[tuple[str, frozenset[Partition]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = GroupSettings(
            group_id="g",
            group_instance_id=None,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_MS,
            assignors=[ASSIGNORS[self.strategy]],
        )
        self.membership = Membership(settings, Backoff(BACKOFF_MS, BACKOFF_MS, lambda: 0.5))
        self.do(self.membership.subscribe(frozenset(self.world.topics), self.world.now_ms))

    def do(self, effects: list[Effect]) -> None:
        """Does what the membership wants, over the network."""
        world, membership = self.world, self.membership
        for effect in effects:
            match effect:
                case FindCoordinator():
                    self.later(lambda: self.do(membership.coordinator_found(world.now_ms)))
                case LoseCoordinator():
                    self.connection += 1
                case Send():
                    self.send(effect)
                case Release() | Adopt():
                    self.duty = effect
                case Watch():
                    self.tell_topics()
                case Fail(error):
                    raise error

    def send(self, send: Send) -> None:
        """There and back on one connection, each taking its time."""
        connection = self.connection

        def arrive() -> None:
            def answer(response: Any) -> None:
                if connection == self.connection:
                    self.later(lambda: self.do(self.membership.answered(send, response, self.world.now_ms)))

            self.world.coordinator.handle(send.request, self.world.now_ms, answer)

        self.later(arrive)

    def later(self, act: Callable[[], None]) -> None:
        """Does something after a delay, if the connection lasts."""
        connection = self.connection

        def unless_lost() -> None:
            if connection == self.connection and self.alive:
                act()

        self.world.later(self.world.chances.random() * DELAY_MS, unless_lost)

    def tell_topics(self) -> None:
        """Metadata come from any broker in the end: a lost coordinator takes nothing with it."""

        def told() -> None:
            if self.alive:
                self.do(self.membership.topics_known(self.world.topics, {}, self.world.now_ms))

        self.world.later(self.world.chances.random() * DELAY_MS, told)

    def lose_connection(self) -> None:
        """All that is under way is lost."""
        self.connection += 1
        self.do(self.membership.coordinator_lost(self.world.now_ms))

    def poll(self) -> None:
        """The application comes by and does its duty."""
        now_ms = self.world.now_ms
        self.membership.polled(now_ms)
        duty, self.duty = self.duty, None
        match duty:
            case Release(number, lost, keep):
                gone = frozenset(p for p in self.held if p[0] not in keep)
                self.held -= gone
                self.told.append(("lost" if lost else "revoked", gone))
                self.do(self.membership.released(number, self.held, now_ms))
            case Adopt(number, partitions):
                self.told.append(("assigned", partitions - self.held))
                self.held = partitions
                self.do(self.membership.adopted(number, self.held, now_ms))
        self.do(self.membership.advance(now_ms))


class World:
    """A coordinator, nodes and a clock, all from one seed."""

    def __init__(self, seed: int, strategy: str) -> None:
        self.chances = random.Random(seed)
        self.strategy = strategy
        self.now_ms = 0.0
        self.topics = {"t": 5, "u": 3}
        self.coordinator = Coordinator()
        self.nodes: list[Node] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def later(self, delay_ms: float, act: Callable[[], None]) -> None:
        """Has `act` called in a while."""
        self._due.append((self.now_ms + delay_ms, next(self._order), act))

    def step(self, ms: float) -> None:
        """Time passes: messages arrive, applications poll, members do what is due."""
        self.now_ms += ms
        self._due.sort(key=lambda one: one[:2])
        while self._due and self._due[0][0] <= self.now_ms:
            self._due.pop(0)[2]()
        self.coordinator.tick(self.now_ms)
        for node in [one for one in self.nodes if one.alive]:
            if self.now_ms >= node.next_poll_ms:
                node.next_poll_ms = self.now_ms + self.chances.random() * 200
                node.poll()
            node.do(node.membership.advance(self.now_ms))

    def upset(self) -> None:
        """Something happens, or nothing: now and then something at once with the last, mostly some seconds later."""
        if self.chances.random() > 0.02:
            return
        alive = [one for one in self.nodes if one.alive]
        kind = self.chances.random()
        if kind < 0.3 and len(alive) < 5:
            self.nodes.append(Node(self, self.strategy))
        elif not alive:
            return
        elif kind < 0.36:
            self.chances.choice(alive).alive = False  # kill -9
        elif kind < 0.5:
            leaver = self.chances.choice(alive)
            leaver.held = frozenset()
            leaver.do(leaver.membership.leave("bye"))
            self.nodes.remove(leaver)
        elif kind < 0.7:
            self.chances.choice(alive).lose_connection()
        elif kind < 0.85:
            self.chances.choice(alive).next_poll_ms = self.now_ms + self.chances.random() * 2 * POLL_MS
        else:
            self.topics = {topic: count + self.chances.randint(0, 1) for topic, count in self.topics.items()}
            for node in alive:
                node.tell_topics()
