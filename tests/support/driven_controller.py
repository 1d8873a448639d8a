"""A ControllerDriver on a clock of the test's, over a store in memory; the test says what happens in which order."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from fastlog.broker.controller.driver import ControllerDriver
from fastlog.broker.controller.ports import Work
from fastlog.broker.controller.settings_book import facts_from
from fastlog.broker.peers.messages import Answer, Beacon, Delta, Settings, Snapshot
from fastlog.ports import (
    AlreadyExistsError,
    Broken,
    ConfigResource,
    FencedError,
    NotFoundError,
    PartitionKey,
    PartitionState,
    PartitionWrite,
    Registration,
    StoredConfigs,
    StoreUnavailableError,
    Topic,
    Unknown,
    VersionConflictError,
    WriteResult,
)
from fastlog.ports import Snapshot as Stored
from fastlog.state.controller import events as ev
from fastlog.state.controller.effects import Write
from fastlog.state.controller.settings import ControllerSettings
from tests.support.controller_world import Store

SETTINGS = ControllerSettings(auto_leader_rebalance=False)


class ManualSchedule:
    """A Schedule whose time stands still until it is told to go on."""

    def __init__(self) -> None:
        self.time_ms = 1_000
        self.waiting: deque[Work] = deque()
        self._due: list[tuple[int, int, Work]] = []
        self._numbers = itertools.count()

    def now_ms(self) -> int:
        return self.time_ms

    def put(self, work: Work) -> None:
        self.waiting.append(work)

    def after(self, delay_ms: int, work: Work) -> None:
        heapq.heappush(self._due, (self.time_ms + delay_ms, next(self._numbers), work))

    def run_one(self) -> None:
        self.waiting.popleft()()

    def run(self) -> None:
        while self.waiting:
            self.run_one()

    def advance(self, by_ms: int) -> None:
        """What is due until then is done in its order; what is put, at once."""
        end_ms = self.time_ms + by_ms
        self.run()
        while self._due and self._due[0][0] <= end_ms:
            self.time_ms = max(self.time_ms, self._due[0][0])
            self.put(heapq.heappop(self._due)[2])
            self.run()
        self.time_ms = end_ms


class ManualExecutor:
    """An Executor that does one thing when it is told to."""

    def __init__(self) -> None:
        self.waiting: deque[Work] = deque()

    def put(self, work: Work) -> None:
        self.waiting.append(work)

    def run_one(self) -> None:
        self.waiting.popleft()()


class World(Store):
    """What is stored, and what the next calls meet."""

    def __init__(self) -> None:
        super().__init__()
        self.configs: dict[ConfigResource, StoredConfigs] = {}
        #: of the next calls: "" for done, "lost" or "applied" where no answer comes
        self.outcomes: deque[str] = deque()
        self.calls: list[tuple[str, Any]] = []

    def stored(self, broken: Sequence[Broken] = ()) -> Stored:
        topics = (self.topic(it) for it in sorted(self.topics, key=lambda it: self.topics[it]))
        return Stored(
            topics=tuple(it for it in topics if it is not None),
            configs=dict(self.configs),
            deletions=tuple(self.deletions.values()),
            broken=tuple(broken),
        )


class FencedStore:
    """The part of MetadataStore that a controller uses, under the fence of an epoch."""

    def __init__(self, world: World, epoch: int) -> None:
        self._world = world
        self._epoch = epoch

    def _call(self, name: str, what: Any, do: Callable[[], Any]) -> Any:
        world = self._world
        outcome = world.outcomes.popleft() if world.outcomes else ""
        world.calls.append((name, what))
        if outcome == "lost":
            raise StoreUnavailableError("no answer, nothing done")
        if self._epoch != world.epoch and name not in {"snapshot", "read_partitions"}:
            raise FencedError(f"controller epoch {self._epoch} is over")
        result = do()
        if outcome == "applied":
            raise StoreUnavailableError("no answer, and yet done")
        return result

    def snapshot(self) -> Stored:
        result: Stored = self._call("snapshot", None, self._world.stored)
        return result

    def update_partitions(self, writes: Sequence[PartitionWrite]) -> list[WriteResult]:
        def do() -> list[WriteResult]:
            return list(self._world.write(Write(write_id=0, items=tuple(writes))))

        try:
            results: list[WriteResult] = self._call("update_partitions", tuple(writes), do)
        except StoreUnavailableError as error:
            return [Unknown(str(error))] * len(writes)
        return results

    def read_partitions(self, keys: Sequence[PartitionKey]) -> list[PartitionState | Unknown | None]:
        result: list[PartitionState | Unknown | None] = self._call(
            "read_partitions", tuple(keys), lambda: [self._world.states.get(it) for it in keys]
        )
        return result

    def create_topic(self, topic: Topic, configs: Mapping[str, str]) -> None:
        def do() -> None:
            world = self._world
            if topic.topic_id in world.topics:
                return
            if topic.name in world.topics.values():
                raise AlreadyExistsError(topic.name)
            world.add(topic)
            world.configs[ConfigResource("topic", topic.name)] = StoredConfigs(dict(configs), 1)

        self._call("create_topic", topic.name, do)

    def add_partitions(
        self, topic_id: UUID, expected_count: int, partitions: Sequence[PartitionState]
    ) -> Topic | None:
        def do() -> Topic | None:
            if topic_id not in self._world.topics:
                raise NotFoundError(str(topic_id))
            if self._world.counts[topic_id] != expected_count:
                raise VersionConflictError(str(topic_id))
            self._world.grow(topic_id, tuple(partitions))
            return self._world.topic(topic_id)

        result: Topic | None = self._call("add_partitions", topic_id, do)
        return result

    def delete_topic(self, topic_id: UUID) -> None:
        def do() -> None:
            world = self._world
            if topic_id in world.topics:
                topic = world.topic(topic_id)
                assert topic is not None
                held = {broker for state in topic.partitions for broker in state.replicas}
                world.configs.pop(ConfigResource("topic", topic.name))
                world.delete(topic_id, tuple(sorted(held)))

        self._call("delete_topic", topic_id, do)

    def forget_deletion(self, topic_id: UUID) -> None:
        self._call("forget_deletion", topic_id, lambda: self._world.deletions.pop(topic_id, None))

    def put_configs(self, resource: ConfigResource, values: Mapping[str, str], expected_version: int) -> int:
        def do() -> int:
            world = self._world
            if resource.kind == "topic" and resource.name not in world.topics.values():
                raise NotFoundError(resource.name)
            found = world.configs.get(resource, StoredConfigs({}, 0))
            if found.version != expected_version:
                raise VersionConflictError(resource.name)
            world.configs[resource] = StoredConfigs(dict(values), expected_version + 1)
            return expected_version + 1

        result: int = self._call("put_configs", resource, do)
        return result


class FakePeers:
    """Peers that answer when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Any, Callable[[Answer], None]]] = []
        self.known: Sequence[Registration] = ()

    def know(self, brokers: Sequence[Registration]) -> None:
        self.known = brokers

    def ask(
        self,
        broker_id: int,
        command: object,
        answered: Callable[[Answer], None],
        *,
        timeout_ms: int,
        lane: str,
    ) -> None:
        self.asked.append((broker_id, command, answered))

    def take(self, kind: type) -> list[tuple[int, Any, Callable[[Answer], None]]]:
        """What was asked of that kind since the last time."""
        found = [it for it in self.asked if isinstance(it[1], kind)]
        self.asked = [it for it in self.asked if not isinstance(it[1], kind)]
        return found


class Subscriber:
    """What the deltas add up to, for one who missed none; it is what Notices goes to."""

    def __init__(self) -> None:
        self.position = (0, 0)
        self.brokers: tuple[Registration, ...] = ()
        self.topics: dict[UUID, list[PartitionState]] = {}
        self.names: dict[UUID, str] = {}
        self.settings: dict[ConfigResource, Settings] = {}
        self.deltas: list[Delta] = []
        self.beacons: list[Beacon] = []

    def publish(self, notice: object) -> None:
        if isinstance(notice, Beacon):
            assert (notice.controller_epoch, notice.sequence) == self.position
            self.beacons.append(notice)
            return
        assert isinstance(notice, Delta)
        self.deltas.append(notice)
        fresh = notice.controller_epoch > self.position[0]
        expected = (notice.controller_epoch, 1 if fresh else self.position[1] + 1)
        assert (notice.controller_epoch, notice.sequence) == expected
        self.position = expected
        self._apply(notice)

    def _apply(self, delta: Delta) -> None:
        for topic_id in delta.deleted:
            del self.topics[topic_id]
            self.settings.pop(ConfigResource("topic", self.names.pop(topic_id)))
        for topic in delta.topics:
            assert topic.topic_id not in self.topics
            self.topics[topic.topic_id], self.names[topic.topic_id] = list(topic.partitions), topic.name
        for key, state in delta.partitions:
            states = self.topics[key.topic_id]
            if key.partition == len(states):
                states.append(state)
            else:
                # what was read back may be what was known
                known = states[key.partition]
                assert state == known or state.version > known.version
                states[key.partition] = state
        if delta.brokers is not None:
            self.brokers = delta.brokers
        for each in delta.settings:
            self.settings[each.resource] = each

    def start_from(self, snapshot: Snapshot) -> None:
        """Takes everything from a snapshot, as whoever hears of a new epoch."""
        self.position = (snapshot.controller_epoch, snapshot.sequence)
        self.brokers = snapshot.brokers
        self.topics = {it.topic_id: list(it.partitions) for it in snapshot.topics}
        self.names = {it.topic_id: it.name for it in snapshot.topics}
        self.settings = {it.resource: it for it in snapshot.settings}

    def snapshot(self, controller_id: int) -> Snapshot:
        """What is known, as the controller would tell it."""
        topics = (
            Topic(name=self.names[it], topic_id=it, partitions=tuple(self.topics[it]))
            for it in sorted(self.topics)
        )
        return Snapshot(
            controller_id=controller_id,
            controller_epoch=self.position[0],
            sequence=self.position[1],
            brokers=self.brokers,
            topics=tuple(sorted(topics, key=lambda it: it.topic_id)),
            settings=tuple(
                sorted(self.settings.values(), key=lambda it: (it.resource.kind, it.resource.name))
            ),
        )


class FakeReplicas:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[object] = []
        self.happened: list[str] = []

    def resign(self) -> None:
        self.happened.append("resigned")

    def registered(self, registration: Registration) -> None:
        self.happened.append(f"registered {registration.broker_epoch}")

    def told(self, notice: object) -> None:
        self.notices.append(notice)

    def elected(self, controller_id: int, controller_epoch: int) -> None:
        self.happened.append(f"elected {controller_id}")

    def set_lease(self, until_ns: int) -> None:
        self.happened.append("lease" if until_ns else "no lease")


class Driven:
    """The controller of one broker, and all that it has to do with."""

    def __init__(self, broker_id: int = 1, world: World | None = None) -> None:
        self.id = broker_id
        self.world = world or World()
        self.schedule = ManualSchedule()
        self.stores = ManualExecutor()
        self.peers = FakePeers()
        self.subscriber = Subscriber()
        self.replicas = FakeReplicas()
        self.resigned = 0
        self.driver = ControllerDriver(
            broker_id,
            settings=SETTINGS,
            facts=facts_from({}),
            schedule=self.schedule,
            stores=self.stores,
            peers=self.peers,
            notices=self.subscriber,
            replicas=self.replicas,
            resigned=self._resigned,
        )

    def _resigned(self) -> None:
        self.resigned += 1

    def elect(self, broken: Sequence[Broken] = ()) -> None:
        """Wins, and loads what is stored."""
        self.world.epoch += 1
        stored = self.world.stored(broken)
        before = self.subscriber.position
        self.driver.begin(
            FencedStore(self.world, self.world.epoch),  # type: ignore[arg-type]
            self.world.epoch,
            stored,
            self.world.registered(),
        )
        assert self.subscriber.position > before
        self.subscriber.start_from(self.snapshot())

    def settle(self) -> None:
        """Does all that waits, on both threads."""
        while self.schedule.waiting or self.stores.waiting:
            self.schedule.run()
            if self.stores.waiting:
                self.stores.run_one()

    def pass_time(self, ms: int = 500) -> None:
        """A tick, and what follows."""
        self.settle()
        self.schedule.advance(ms)
        self.driver.tick()
        self.driver.beacon()
        self.settle()

    def ask(self, command: ev.Event) -> list[Answer]:
        """Asks; the answer is in the list once it is there."""
        answers: list[Answer] = []
        self.driver.ask(command, answers.append)
        return answers

    def snapshot(self) -> Snapshot:
        answers: list[Answer] = []
        self.driver.ask_snapshot(answers.append)
        snapshot = answers[0].body
        assert isinstance(snapshot, Snapshot), answers
        by_id = tuple(sorted(snapshot.topics, key=lambda it: it.topic_id))
        return msgspec.structs.replace(snapshot, topics=by_id)

    def create(self, name: str, topic_id: UUID, partitions: int = 1, **fields: Any) -> list[Answer]:
        return self.ask(
            ev.CreateAsked(
                token=None,
                name=name,
                topic_id=topic_id,
                partition_count=partitions,
                replication_factor=fields.pop("replication_factor", 1),
                **fields,
            )
        )
