"""An engine, peers and fetchers that take notes, around the real `Replicas`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastlog.broker.peers.messages import Answer, Delta, Settings, Snapshot
from fastlog.broker.replicas.replicas import Replicas
from fastlog.broker.replicas.settings import ReplicaSettings
from fastlog.config import load
from fastlog.ports import ConfigResource, PartitionKey, PartitionState, Registration, Topic
from tests.support.control_plane import StillClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fastlog.config import BrokerSettings, TopicSettings
    from fastlog.errors import KafkaError

ME = 1
EPOCHS = {1: 11, 2: 12, 3: 13}
TOPIC_ID = UUID(int=7)
KEY = PartitionKey(TOPIC_ID, 0)


def state(
    leader: int = ME,
    *,
    epoch: int = 1,
    version: int | None = None,
    isr: tuple[int, ...] = (1, 2),
    epochs: Mapping[int, int] = EPOCHS,
    replicas: tuple[int, ...] = (1, 2, 3),
    **fields: Any,
) -> PartitionState:
    """A partition's state; its version is its leader epoch where none is named."""
    return PartitionState(
        replicas=replicas,
        leader=leader,
        leader_epoch=epoch,
        isr=isr,
        isr_epochs=tuple(epochs[it] for it in isr),
        version=epoch if version is None else version,
        **fields,
    )


def topic(*states: PartitionState, name: str = "t", topic_id: UUID = TOPIC_ID) -> Topic:
    """A topic with partitions in these states."""
    return Topic(name=name, topic_id=topic_id, partitions=states)


def brokers(epochs: Mapping[int, int] = EPOCHS) -> tuple[Registration, ...]:
    """Live brokers, registered under these epochs."""
    return tuple(
        Registration(
            broker_id=it,
            broker_epoch=epoch,
            incarnation=UUID(int=it),
            endpoints={"BROKER": ("127.0.0.1", it)},
        )
        for it, epoch in epochs.items()
    )


def settings_of(name: str, version: int = 1, **values: str) -> Settings:
    """The settings of a topic, with underscores for dots."""
    resource = ConfigResource("topic", name)
    return Settings(
        resource=resource, values={key.replace("_", "."): it for key, it in values.items()}, version=version
    )


class NotingEngine:
    """What it was told, in order, and answers that tests set."""

    def __init__(self, notes: list[tuple[Any, ...]]) -> None:
        self._notes = notes
        self.refuses: dict[str, int] = {}
        """Kafka's error code by topic, for roles."""
        self.positions: list[Any] = []
        self.notices: list[tuple[str, str, int, int]] = []
        self.places: dict[tuple[str, int], tuple[int, int, int, int, int] | None] = {}
        self.offline: list[tuple[str, bytes, int]] = []
        self.deletion_error: Exception | None = None

    def apply_partitions(
        self, changes: Sequence[Any], settings: Mapping[str, TopicSettings]
    ) -> list[tuple[int, str]]:
        """Notes (topic, partition, leader, leader epoch) of each."""
        assert {it[0] for it in changes} == set(settings)
        self._notes.append(("roles", *((it[0], it[2], it[3], it[4]) for it in changes)))
        return [(code, "no" if code else "") for code in (self.refuses.get(it[0], 0) for it in changes)]

    def set_isr(
        self,
        topic: str,
        index: int,
        leader_epoch: int,
        committed: Sequence[int],
        maximal: Sequence[int],
        partition_epoch: int,
        held: bool = False,
    ) -> None:
        """Notes it."""
        self._notes.append(("isr", topic, index, tuple(committed), tuple(maximal), partition_epoch, held))

    def resign(self) -> int:
        """Notes it."""
        self._notes.append(("resign",))
        return 1

    def delete_partitions(
        self, topic: str, topic_id: bytes, partitions: Sequence[tuple[int, int]], is_deleted: bool
    ) -> int:
        """Notes it, or raises what the test says."""
        if self.deletion_error is not None:
            raise self.deletion_error
        self._notes.append(("delete", topic, UUID(bytes=topic_id), tuple(partitions)))
        return len(partitions)

    def delete_topics(self, topics: Sequence[tuple[str, bytes]]) -> list[int | KafkaError]:
        """Notes it."""
        for topic, topic_id in topics:
            self._notes.append(("delete", topic, UUID(bytes=topic_id), "all"))
        return [1] * len(topics)

    def configure(self, settings: BrokerSettings) -> None:
        """Notes how long producers are remembered."""
        self._notes.append(("configure", settings.producer_id_expiration_ms))

    def set_topic_settings(self, topic: str, settings: TopicSettings) -> None:
        """Notes the retention."""
        self._notes.append(("settings", topic, settings.retention_ms))

    def set_broker_epochs(self, epochs: Mapping[int, int]) -> None:
        """Notes it."""
        self._notes.append(("epochs", dict(epochs)))

    def publish_topics(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        """Notes the names."""
        self._notes.append(("shown", tuple(it.name for it in put), tuple(removed)))

    def replica_positions(self) -> list[Any]:
        """What the test says."""
        return self.positions

    def drain_notices(self) -> list[tuple[str, str, int, int]]:
        """What the test says, once."""
        notices, self.notices = self.notices, []
        return notices

    def fetch_positions(self, partitions: Sequence[tuple[str, int]]) -> list[Any]:
        """What the test says."""
        return [self.places.get(it) for it in partitions]

    def set_replication_rates(self, leader: int, follower: int) -> None:
        """Of no use here."""

    def offline_replicas(self) -> list[tuple[str, bytes, int]]:
        """What the test says."""
        return list(self.offline)

    def held_back(self) -> list[tuple[bytes, int]]:
        """Nobody."""
        return []


class NotingFetchers:
    """Who is followed."""

    def __init__(self, notes: list[tuple[Any, ...]]) -> None:
        self._notes = notes

    def follow(self, partitions: Sequence[tuple[PartitionKey, str, int, int]]) -> None:
        """Notes (partition, leader, leader epoch) of each."""
        self._notes.append(
            ("follow", *((key.partition, leader, epoch) for key, _, leader, epoch in partitions))
        )

    def leave(self, keys: Iterable[PartitionKey], *, is_deleted: bool = False) -> None:
        """Notes it, where there is something."""
        left = tuple(key.partition for key in keys)
        if left:
            self._notes.append(("deleted" if is_deleted else "leave", *left))

    def synced(self, keys: Iterable[PartitionKey]) -> None:
        """Notes it."""
        self._notes.append(("synced", *keys))

    def registered(self, broker_epoch: int | None) -> None:
        """Notes it."""
        self._notes.append(("fetches as", broker_epoch))

    def know(self, brokers: Mapping[int, Registration]) -> None:
        """Nothing."""


class NotingPeers:
    """Commands that were sent, with the way back."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Any, Callable[[Answer], None]]] = []

    def know(self, brokers: Sequence[Registration]) -> None:
        """Nothing."""

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
        self.asked.append((broker_id, command, answered))


class Told:
    """Broker 1's replicas, told by controller 9 in its first epoch."""

    def __init__(self, *, broker_epoch: int | None = EPOCHS[ME]) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.engine = NotingEngine(self.notes)
        self.peers = NotingPeers()
        self.clock = StillClock()
        self.commands: dict[type, Callable[[Any, Callable[[Answer], None]], None]] = {}
        self.replicas = Replicas(
            node_id=ME,
            config=load(),
            engine=self.engine,  # type: ignore[arg-type]
            peers=self.peers,
            commands=self,
            put=lambda work, *arguments: work(*arguments),
            clock=self.clock,
            fetching=None,  # type: ignore[arg-type]
            settings=ReplicaSettings(),
            cluster_changed=lambda controller, live: self.notes.append(("cluster", controller, len(live))),
            accepted=lambda *epochs: self.notes.append(("accepted", *epochs)),
        )
        self.replicas.fetchers = NotingFetchers(self.notes)  # type: ignore[assignment]
        self._sequence = 0
        if broker_epoch is not None:
            self.replicas.registered(broker_epoch)
        self.notes.clear()

    def on(self, kind: type, handle: Callable[[Any, Callable[[Answer], None]], None]) -> None:
        """See Commands."""
        self.commands[kind] = handle

    def command(self, command: object) -> list[Answer]:
        """The controller asks; the answers so far."""
        answers: list[Answer] = []
        self.commands[type(command)](command, answers.append)
        return answers

    def snapshot(
        self, *topics: Topic, live: Mapping[int, int] = EPOCHS, settings: Sequence[Settings] = ()
    ) -> None:
        """A snapshot is applied."""
        self._sequence += 1
        notice = Snapshot(
            controller_id=9,
            controller_epoch=1,
            sequence=self._sequence,
            brokers=brokers(live),
            topics=topics,
            settings=tuple(settings),
        )
        self.replicas.apply(notice)

    def delta(self, *changed: PartitionState, **fields: Any) -> None:
        """A delta is applied: new states of the first partitions of the topic, and what is named."""
        self._sequence += 1
        rows = tuple((PartitionKey(TOPIC_ID, index), it) for index, it in enumerate(changed))
        notice = Delta(
            controller_id=9, controller_epoch=1, sequence=self._sequence, partitions=rows, **fields
        )
        self.replicas.apply(notice)

    def took(self, *kinds: str) -> list[tuple[Any, ...]]:
        """What was noted since the last time, of these kinds or all."""
        notes = [it for it in self.notes if not kinds or it[0] in kinds]
        self.notes.clear()
        return notes
