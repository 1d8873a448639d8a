"""The control plane's services over a store in a directory and a data plane that only takes notes."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from fastlog.broker.addresses import Addresses
from fastlog.broker.api import APIS
from fastlog.broker.configs import LocalConfigs, group_times
from fastlog.broker.context import AllowAll
from fastlog.broker.control_api import Lane, Services
from fastlog.broker.groups.coordinator import GroupCoordinator
from fastlog.broker.later import Later
from fastlog.broker.placement import LocalBrokers, LocalPlacement
from fastlog.broker.producer_ids import ProducerIds
from fastlog.broker.topics import LocalTopics
from fastlog.cluster.local import LocalStore, encode_cluster_id
from fastlog.config import Config, Endpoint
from fastlog.errors import (
    KafkaError,
    OffsetOutOfRangeError,
    ReplicaNotAvailableError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from fastlog.protocol.api import ApiKey
from fastlog.state.consumer_group.settings import ConsumerGroupSettings
from fastlog.state.group.settings import GroupSettings
from fastlog.state.offsets.settings import OffsetSettings
from fastlog.state.topic_names import OFFSETS_TOPIC
from tests.support.group_log import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from fastlog.broker.context import RequestContext
    from fastlog.broker.data_plane import Directory, TopicLogs
    from fastlog.config import BrokerSettings, TopicSettings
    from fastlog.ports import Topic


CLUSTER_ID = encode_cluster_id(UUID(int=7))

# the last version in which topics have names, of APIs that go by ids afterwards
BY_NAME = {ApiKey.OFFSET_COMMIT: 9, ApiKey.OFFSET_FETCH: 9}


class CountingRandom:
    """Ids that count up."""

    def __init__(self, start: int = 1) -> None:
        self._next = start

    def uuid(self) -> UUID:
        """The next id."""
        self._next += 1
        return UUID(int=self._next << 64)


class StillClock:
    """Time that stands still unless it is moved."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        """Wall time."""
        return self.ms

    def monotonic_ms(self) -> int:
        """The same."""
        return self.ms


class Crash(Exception):  # noqa: N818  # not an error of the program: the test's kill -9
    """The process dies here."""


class FakeDataPlane:
    """Directories as a dictionary; dies before the call named by `dies_before`."""

    def __init__(self) -> None:
        self.directories: dict[tuple[str, int], bytes] = {}
        self.open: dict[tuple[str, int], TopicSettings] = {}
        self.high_watermark = 10
        #: whether the other replicas have done what the leader did
        self.replicas_moved = threading.Event()
        self.replicas_moved.set()
        #: what was asked for of `move_replicas`
        self.moved: list[tuple[str, int, str]] = []
        self.dies_before = ""
        self.fails_with: Exception | None = None

    def _step(self, name: str) -> None:
        if self.dies_before == name:
            raise Crash
        if self.fails_with:
            raise self.fails_with

    def open_topics(self, topics: Sequence[TopicLogs]) -> list[KafkaError | None]:
        try:
            self._step("open_topics")
        except KafkaError as error:
            return [error] * len(topics)
        for topic, topic_id, partitions, settings in topics:
            for partition, _epoch in partitions:
                self.directories.setdefault((topic, partition), topic_id)
                self.open[topic, partition] = settings
        return [None] * len(topics)

    def delete_topics(self, topics: Sequence[tuple[str, bytes]]) -> list[int | KafkaError]:
        self._step("delete_topics")
        return [self._delete(topic, topic_id) for topic, topic_id in topics]

    def _delete(self, topic: str, topic_id: bytes) -> int:
        gone = [key for key, found in self.directories.items() if key[0] == topic and found == topic_id]
        for key in gone:
            del self.directories[key]
            self.open.pop(key, None)
        return len(gone)

    def configure(self, settings: BrokerSettings) -> None:
        self.settings = settings

    def set_topic_settings(self, topic: str, settings: TopicSettings) -> None:
        self._step("set_topic_settings")
        for key in self.open:
            if key[0] == topic:
                self.open[key] = settings

    def delete_records(self, topic: str, partition: int, before_offset: int) -> int:
        if (topic, partition) not in self.open:
            raise UnknownTopicOrPartitionError
        if before_offset > self.high_watermark:
            raise OffsetOutOfRangeError
        return self.high_watermark if before_offset == -1 else before_offset

    def wait_deleted(
        self, partitions: Sequence[tuple[str, int, int]], timeout_ms: int
    ) -> list[tuple[int, int]]:
        if self.replicas_moved.wait(timeout_ms / 1000):
            return [(offset, 0) for _, _, offset in partitions]
        return [(-1, RequestTimedOutError.code) for _ in partitions]

    def producers(self, topic: str, partition: int) -> list[tuple[int, int, int, int, int, int]]:
        if (topic, partition) not in self.open:
            raise UnknownTopicOrPartitionError
        return [(7, 1, 41, self.high_watermark, -1, -1)]

    def log_sizes(self) -> list[tuple[str, int, int]]:
        return [(topic, partition, 100) for topic, partition in sorted(self.open)]

    def describe_directories(self) -> list[Directory]:
        failed: Directory = ("/failed", "it failed", 0, 0, [], [])
        moving = [("orders", 1, 60, 4)]
        return [("/data", "", 2000, 1000, self.log_sizes(), []), ("/other", "", 200, 100, [], moving), failed]

    def move_replicas(self, replicas: Sequence[tuple[str, bytes, int, Path]]) -> list[KafkaError | None]:
        return [self._move(topic, topic_id, *where) for topic, topic_id, *where in replicas]

    def _move(self, topic: str, topic_id: bytes, partition: int, directory: Path) -> KafkaError | None:
        if (topic, partition) not in self.open:
            return ReplicaNotAvailableError()
        assert self.directories[topic, partition] == topic_id
        self.moved.append((topic, partition, str(directory)))
        return None


class ControlPlane:
    """One broker's control plane; `restart` is a new process on the same directory."""

    def __init__(self, directory: Path, static: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.static = dict(static or {})
        self.data_plane = FakeDataPlane()
        self.random = CountingRandom()
        self.clock = StillClock()
        self.group_log = MemoryLog()
        self.published: dict[str, Topic] = {}
        self.boot()

    def boot(self) -> None:
        """Builds the services and loads what the store has."""
        self.published = {}
        self.store = LocalStore(self.directory, CLUSTER_ID)
        self.configs = LocalConfigs(Config(static=self.static), self.store, 1)
        self.topics = LocalTopics(
            node_id=1,
            store=self.store,
            configs=self.configs,
            data_plane=self.data_plane,
            random=self.random,
            publish=self._publish,
        )
        self.configs.subscribe(self.topics.apply_settings)
        self.groups = GroupCoordinator(
            self.group_log,
            self.clock,
            self.random,
            node_id=1,
            topic_exists=self.topics.__contains__,
            groups=GroupSettings(initial_rebalance_delay_ms=0, max_size=3),
            consumer_groups=ConsumerGroupSettings(max_size=3, own_times=partial(group_times, self.configs)),
            offsets=OffsetSettings(),
            retention_check_interval_ms=1000,
        )
        self.topics.subscribe(self.groups.topics_changed)
        self.topics.load()
        self.authorizer: Any = AllowAll()
        self.services = Services(
            node_id=1,
            cluster_id=self.store.cluster_id(),
            topics=self.topics,
            placement=LocalPlacement(self.topics, 1),
            brokers=LocalBrokers(self.topics, 1),
            configs=self.configs,
            producer_ids=ProducerIds(self.store),
            data_plane=self.data_plane,
            addresses=Addresses([Endpoint("PLAINTEXT", "127.0.0.1", 9092)], [], node_id=1),
            authorizer=self.authorizer,
            groups=self.groups,
        )

    def restart(self) -> None:
        """What a kill -9 and a new start do: memory is gone, store and directories stay."""
        self.store.close()
        self.groups.stop()
        self.data_plane.open.clear()
        self.data_plane.dies_before = ""
        self.boot()

    def _publish(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        self.published.update({topic.name: topic for topic in put})
        for name in removed:
            del self.published[name]

    def lead_groups(self, leader: int, leader_epoch: int) -> None:
        """Has a broker lead all partitions of groups, as the controller of a cluster says it, and lets that settle."""
        topic = self.topics.named(OFFSETS_TOPIC)
        states = [
            msgspec.structs.replace(it, leader=leader, leader_epoch=leader_epoch) for it in topic.partitions
        ]
        self.topics.publish((msgspec.structs.replace(topic, partitions=tuple(states)),), ())
        self.settle()

    def ask(self, request: Any, version: int = -1) -> Any:
        """What the handler answers, in the end; the newest version that names topics by name where none is given."""
        answer = self.begin(request, version)
        self.settle()
        assert answer, f"{request!r} is not answered yet"
        return answer[0]

    def ask_together(self, *requests: Any) -> list[Any]:
        """What is answered to requests of one API that came together."""
        api = next(api for api in APIS if api.key == requests[0].API_KEY)
        assert api.together is not None
        asked = context(min(api.versions[1], BY_NAME.get(api.key, 99)))
        return list(api.together(self.services, [(asked, request) for request in requests]))

    def begin(self, request: Any, version: int = -1) -> list[Any]:
        """A list that has what the handler answers, once it does."""
        api = next(api for api in APIS if api.key == request.API_KEY)
        answers: list[Any] = []
        asked = context(version if version >= 0 else min(api.versions[1], BY_NAME.get(api.key, 99)))
        answer = api.handle(self.services, asked, request)
        if answer is Lane.CHANGES:
            assert api.change is not None
            answer = api.change(self.services, asked, request)
        if isinstance(answer, Later):
            answer.then(answers.append)
        else:
            answers.append(answer)
        return answers

    def settle(self, ms: int = 0) -> None:
        """Lets time pass, and the group coordinator do what it has to do."""
        self.clock.ms += ms
        # a partition of groups is read in each turn
        for _ in range(60):
            self.groups.turn()

    def close(self) -> None:
        """Gives up what it has open."""
        self.groups.stop()
        self.group_log.close()
        self.store.close()


class Context(msgspec.Struct, frozen=True):
    """Who asks: a client on the loopback address."""

    api_version: int = 0
    correlation_id: int = 1
    client_id: str | None = "test"
    principal: str = "User:ANONYMOUS"
    listener: str = "PLAINTEXT"
    client_address: str | None = "127.0.0.1:5"
    local_address: tuple[str, int] | None = ("127.0.0.1", 9092)


def context(version: int = 0) -> RequestContext:
    """A client on the loopback address."""
    return Context(version)
