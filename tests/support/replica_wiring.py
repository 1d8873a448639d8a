"""Brokers' replicas in one process: real engines, listeners and controller; a store that is a dictionary, no ZooKeeper.

The controller has a broker's id, but lives on when that broker dies.
Commands and notices are encoded and decoded on their way. What the controller publishes can be kept from a node.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID, uuid4

import msgspec

from fastlog.broker.peers import messages
from fastlog.broker.peers.messages import Answer, Delta, SetConfigs, Settings, Snapshot
from fastlog.errors import NetworkError, NotControllerError
from fastlog.ports import ConfigResource, Conflict, PartitionKey, Registration, Topic, Written
from fastlog.state.controller import effects as ef
from fastlog.state.controller import events as ev
from fastlog.state.controller.controller import Controller
from fastlog.state.controller.settings import TopicFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.ports import PartitionState, WriteResult
    from tests.support.replica_node import ReplicaNode

TICK_SECONDS = 0.1


class Position(TypedDict):
    """Fields of every notice."""

    controller_id: int
    controller_epoch: int
    sequence: int


class Wiring:
    """The brokers, the controller of the moment, and a thread on which everything between them happens."""

    def __init__(self) -> None:
        self.nodes: dict[int, ReplicaNode] = {}
        self.registrations: dict[int, Registration] = {}
        self.deaf: set[int] = set()
        """Nodes that hear no notices."""
        self.facts: dict[UUID, TopicFacts] = {}
        self._topics: dict[UUID, Topic] = {}
        self._deletions: dict[UUID, ef.DeleteTopic] = {}
        self._settings: dict[str, Settings] = {}
        self._controller = Controller()
        self.controller_id = -1
        self._controller_epoch = 0
        self._sequence = 0
        self._broker_epoch = 0
        self._effects: deque[ef.Effect] = deque()
        self._work: SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="wiring", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._work.put(None)
        self._thread.join()

    # --- of the tests ---

    def do(self, work: Callable[..., None], *arguments: Any) -> None:
        """Has it done on the thread, and waits for it."""
        done = threading.Event()
        self._work.put((work, arguments))
        self._work.put((done.set, ()))
        assert done.wait(30)

    def elect(self, controller_id: int) -> None:
        """Another controller."""
        self.do(self._elect, controller_id)

    def register(self, node: ReplicaNode, *, clean: bool = True) -> Registration:
        """A node registers anew, in a new session."""
        self._broker_epoch += 10
        registration = Registration(
            broker_id=node.node_id,
            broker_epoch=self._broker_epoch,
            incarnation=uuid4(),
            endpoints={"BROKER": ("127.0.0.1", node.port)},
            clean_start=clean,
        )
        self.nodes[node.node_id] = node
        self.registrations[node.node_id] = registration
        self.do(self._brokers_changed)
        return registration

    def unregister(self, node_id: int) -> None:
        """A node's session is over."""
        del self.registrations[node_id]
        self.do(self._brokers_changed)

    def ask(self, command: ev.Event) -> ef.Reply:
        """A command of a client to the controller."""
        replies: SimpleQueue[ef.Reply] = SimpleQueue()
        self._work.put((self._step, (msgspec.structs.replace(command, token=replies.put),)))
        return replies.get(timeout=30)

    def create(self, name: str, partitions: int, replicas: Sequence[int], **facts: Any) -> Topic:
        """A topic whose partitions all have these replicas."""
        configs = {"min.insync.replicas": str(facts.get("min_isr", 1))} | facts.pop("configs", {})
        reply = self.ask(
            ev.CreateAsked(
                token=None,
                name=name,
                topic_id=uuid4(),
                assignments=dict.fromkeys(range(partitions), tuple(replicas)),
                configs=configs,
                facts=TopicFacts(**facts),
            )
        )
        assert reply.code == 0, reply.message
        assert reply.topic is not None
        return reply.topic

    def state(self, key: PartitionKey) -> PartitionState:
        """What is stored."""
        return self._topics[key.topic_id].partitions[key.partition]

    def peers_of(self, node_id: int) -> WiredPeers:
        """The way of a node to others."""
        return WiredPeers(self, node_id)

    # --- the thread ---

    def _run(self) -> None:
        tick = time.monotonic()
        while True:
            try:
                item = self._work.get(timeout=TICK_SECONDS)
            except Exception:
                item = (lambda: None, ())
            if item is None:
                return
            item[0](*item[1])
            if time.monotonic() - tick >= TICK_SECONDS:
                tick = time.monotonic()
                self._step(ev.Tick())
                self._tell(messages.Beacon(**self._position()))

    def _position(self) -> Position:
        return Position(
            controller_id=self.controller_id,
            controller_epoch=self._controller_epoch,
            sequence=self._sequence,
        )

    def _elect(self, controller_id: int) -> None:
        self._step(ev.Fenced())
        self._controller_epoch += 1
        self._sequence = 0
        self.controller_id = controller_id
        self._step(
            ev.Elected(
                controller_epoch=self._controller_epoch,
                topics=tuple(self._topics.values()),
                registrations=tuple(self.registrations.values()),
                facts=self.facts,
            )
        )

    def _brokers_changed(self) -> None:
        self._step(ev.BrokersChanged(registrations=tuple(self.registrations.values())))

    def _step(self, event: ev.Event) -> None:
        is_first = not self._effects
        self._effects.extend(self._controller.step(event, time.monotonic_ns() // 1_000_000))
        # what a step within a step wants comes after what the outer one does
        while is_first and self._effects:
            self._carry_out(self._effects[0])
            self._effects.popleft()

    def _carry_out(self, effect: ef.Effect) -> None:
        if isinstance(effect, ef.Write):
            results = tuple(self._write(item.key, item.state) for item in effect.items)
            self._step(ev.WriteEnded(write_id=effect.write_id, results=results))
        elif isinstance(effect, ef.TopicWrite):
            self._topic_write(effect)
        elif isinstance(effect, ef.Publish):
            self._sequence += 1
            topics = {it.name for it in effect.topics}
            settings = tuple(it for name, it in self._settings.items() if name in topics)
            self._tell(
                Delta(
                    **self._position(),
                    topics=effect.topics,
                    partitions=effect.partitions,
                    deleted=effect.deleted,
                    brokers=effect.brokers,
                    settings=settings,
                )
            )
        elif isinstance(effect, ef.Reply):
            if effect.token is not None:
                effect.token(effect)
        elif isinstance(effect, ef.StopReplicas | ef.AskLogEnds):
            self.send(effect.broker_id, effect, self._told_back)

    def _told_back(self, answer: Answer) -> None:
        if answer.code == 0:
            self._step(answer.body)

    def _write(self, key: PartitionKey, state: PartitionState) -> WriteResult:
        topic = self._topics.get(key.topic_id)
        if topic is None:
            return Conflict(None)
        known = topic.partitions[key.partition]
        if known.version != state.version:
            return Conflict(known)
        partitions = list(topic.partitions)
        partitions[key.partition] = msgspec.structs.replace(state, version=state.version + 1)
        self._topics[key.topic_id] = msgspec.structs.replace(topic, partitions=tuple(partitions))
        return Written(state.version + 1)

    def _topic_write(self, effect: ef.TopicWrite) -> None:
        if isinstance(effect, ef.CreateTopic):
            self._topics[effect.topic.topic_id] = effect.topic
            self._settings[effect.topic.name] = Settings(
                resource=ConfigResource("topic", effect.topic.name), values=effect.configs, version=1
            )
        elif isinstance(effect, ef.DeleteTopic):
            gone = self._topics.pop(effect.topic_id)
            self._settings.pop(gone.name, None)
        self._step(ev.TopicWriteEnded(write_id=effect.write_id, outcome="done"))

    def _tell(self, notice: object) -> None:
        for node_id, node in self.nodes.items():
            if node_id in self.registrations and node_id not in self.deaf:
                node.manager.told(messages.decode(messages.encode(notice)))

    def _snapshot(self) -> Snapshot:
        image = self._controller.image()
        return Snapshot(
            **self._position(),
            brokers=image.brokers,
            topics=image.topics,
            settings=tuple(self._settings.values()),
        )

    # --- commands ---

    def send(self, broker_id: int, command: Any, answered: Callable[[Answer], None]) -> None:
        """A command to a broker."""

        def back(answer: Answer) -> None:
            if answer.body is not None:
                body = answer.body
                if isinstance(body, ef.Reply):
                    body = msgspec.structs.replace(body, token=None)
                answer = msgspec.structs.replace(answer, body=messages.decode(messages.encode(body)))
            self._work.put((answered, (answer,)))

        self._work.put((self._deliver, (broker_id, messages.decode(messages.encode(command)), back)))

    def _deliver(self, broker_id: int, command: Any, back: Callable[[Answer], None]) -> None:
        if isinstance(command, ef.StopReplicas | ef.AskLogEnds):
            if broker_id in self.registrations:
                self.nodes[broker_id].commands.handlers[type(command)](command, back)
            else:
                back(Answer(code=NetworkError.code))
        elif broker_id != self.controller_id:
            back(Answer(code=NotControllerError.code))
        elif isinstance(command, messages.AskSnapshot):
            back(Answer(body=self._snapshot()))
        elif isinstance(command, SetConfigs):
            raise AssertionError(command)
        else:

            def reply(it: ef.Reply) -> None:
                back(Answer(code=it.code, message=it.message, body=it))

            self._step(msgspec.structs.replace(command, token=reply))


class WiredPeers:
    """Peers of one broker."""

    def __init__(self, wiring: Wiring, node_id: int) -> None:
        self._wiring = wiring
        self._node_id = node_id
        self.asked: list[tuple[int, object]] = []

    def know(self, brokers: Sequence[Registration]) -> None:
        """Nothing to do."""

    def ask(
        self,
        broker_id: int,
        command: object,
        answered: Callable[[Answer], None],
        *,
        timeout_ms: int,
        lane: str,
    ) -> None:
        """See Peers."""
        self.asked.append((broker_id, command))
        self._wiring.send(broker_id, command, answered)


class WiredCommands:
    """Commands of one broker."""

    def __init__(self) -> None:
        self.handlers: dict[type, Callable[[Any, Callable[[Answer], None]], None]] = {}

    def on(self, kind: type, handle: Callable[[Any, Callable[[Answer], None]], None]) -> None:
        """See Commands."""
        self.handlers[kind] = handle


def wait_until(reached: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Polls until it is so."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        select.select([], [], [], 0.01)
