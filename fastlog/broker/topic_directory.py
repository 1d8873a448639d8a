"""The topics that a broker knows, by name and by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import (
    InvalidRequestError,
    InvalidTopicError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from fastlog.ports import ConfigResource
from fastlog.state.topic_names import METADATA_TOPIC, collision_key, why_invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from fastlog.broker.configs import Configs
    from fastlog.broker.ports import Publisher
    from fastlog.ports import Topic

#: "as the broker's settings say", for a number of partitions or replicas
DEFAULT = -1
#: how long a change may take that names no time of its own
TIMEOUT_MS = 30_000
#: and the creation of a topic that is only needed for what was asked: others wait behind it, and it is tried again
NEEDED_TIMEOUT_MS = 5_000
# Kafka's own bound (ReplicationControlManager, MAX_PARTITIONS_PER_BATCH); a count from the wire costs files each
PARTITIONS_PER_REQUEST_MAX = 10_000


class NewTopic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic that is asked for."""

    name: str
    partition_count: int = DEFAULT
    replication_factor: int = DEFAULT
    assignments: Mapping[int, Sequence[int]] = msgspec.field(default_factory=dict)
    """The replicas of each partition, the preferred leader first; where there are none they are placed."""
    configs: Mapping[str, str] = msgspec.field(default_factory=dict)


class TopicDirectory:
    """Read from any thread, changed by `publish` on one."""

    def __init__(self) -> None:
        self._by_name: dict[str, Topic] = {}
        self._by_id: dict[UUID, Topic] = {}
        self._by_collision: dict[str, str] = {}
        self._listeners: list[Publisher] = []
        self.changes = 0
        """How often something was published."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a topic `name`."""
        return name in self._by_name

    def all(self) -> list[Topic]:
        """Every topic."""
        return list(self._by_name.values())

    def named(self, name: str) -> Topic:
        """The topic `name`, or UnknownTopicOrPartitionError."""
        topic = self._by_name.get(name)
        if topic is None:
            raise UnknownTopicOrPartitionError(f"topic {name!r} does not exist")
        return topic

    def identified(self, topic_id: UUID) -> Topic:
        """The topic with the id, or UnknownTopicIdError."""
        topic = self._by_id.get(topic_id)
        if topic is None:
            raise UnknownTopicIdError(f"no topic has the id {topic_id}")
        return topic

    def check_new_name(self, name: str) -> None:
        """Raises the error that creating a topic `name` meets, if any."""
        if reason := why_invalid(name):
            raise InvalidTopicError(reason)
        if name == METADATA_TOPIC:
            raise InvalidRequestError(f"no topic is called {name}: Kafka's tools take it for KRaft's log")
        if name in self._by_name:
            raise TopicAlreadyExistsError(f"topic {name!r} already exists")
        if other := self._by_collision.get(collision_key(name)):
            raise colliding(name, other)

    def subscribe(self, changed: Publisher) -> Callable[[], None]:
        """Has `changed` told of topics too, of all that there are now first; on the thread that changes topics.

        Returns what ends that: without it the two sides keep each other alive.
        """
        changed(self.all(), ())
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed)

    def publish(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        """Takes in new or changed topics, drops those named in `removed`, and tells who subscribed."""
        for name in removed:
            topic = self._by_name.pop(name, None)
            if topic is not None:
                del self._by_id[topic.topic_id]
                self._by_collision.pop(collision_key(name), None)
        for topic in put:
            # in place: no reader may miss a topic that only changes
            before = self._by_name.get(topic.name)
            self._by_id[topic.topic_id] = topic
            self._by_name[topic.name] = topic
            key = collision_key(topic.name)
            # a name with neither '.' nor '_' collides with none but itself
            if "_" in key:
                self._by_collision[key] = topic.name
            if before is not None and before.topic_id != topic.topic_id:
                del self._by_id[before.topic_id]
        self.changes += 1
        for tell in list(self._listeners):
            tell(put, removed)


def colliding(name: str, other: str) -> InvalidTopicError:
    """The error for a new topic's name that is too much like that of another."""
    return InvalidTopicError(
        f"topic name {name!r} collides with {other!r}: '.' and '_' are the same in metrics"
    )


def check_new(topics: TopicDirectory, configs: Configs, name: str, overrides: Mapping[str, str]) -> None:
    """Raises the error that creating a topic `name` with `overrides`, settings of its own, meets, if any."""
    topics.check_new_name(name)
    resource = ConfigResource("topic", name)
    configs.check(resource, overrides)
    configs.check_whole(resource, overrides, {})


def counts_of(configs: Configs, partition_count: int, replication_factor: int) -> tuple[int, int]:
    """Both numbers, the broker's own in place of DEFAULT."""
    settings = configs.config.broker()
    return (
        settings.num_partitions if partition_count == DEFAULT else partition_count,
        settings.default_replication_factor if replication_factor == DEFAULT else replication_factor,
    )


def check_together(counts: Iterable[int], default: int) -> None:
    """Raises PolicyViolationError where these new partitions are too many for one request."""
    total = sum(default if count == DEFAULT else max(count, 0) for count in counts)
    if total > PARTITIONS_PER_REQUEST_MAX:
        raise PolicyViolationError(
            f"{total} partitions are more than the {PARTITIONS_PER_REQUEST_MAX} of one request; ask in several"
        )
